//! Logs go to stderr, so that stdout stays a listing others can read. Nothing in them steers a terminal, and no client fills them.

mod budget;
mod context;
mod lines;

use std::io::{self, IsTerminal, Write};

use postroom_core::harmless::visible;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use budget::Budget;
use context::Contexts;
use lines::Lines;

pub use context::context_of;

/// The base of every layer: the filter, and the fields of the spans that pass it.
pub type Base = Layered<Contexts, Layered<EnvFilter, Registry>>;

/// Starts logging. `RUST_LOG` chooses; without it, this program's own words from `info` up.
pub fn start() {
    let lines = fmt::layer()
        .with_writer(|| Visible(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        // Else a log that nobody reads any more ends in a panic.
        .log_internal_errors(false)
        .event_format(Lines)
        .with_filter(Budget::default());
    base("warn,postroom=info").with(lines).init();
}

/// Starts logging to a view that shows saves and mails itself. The creation of the store and a missing watched folder are not logged
/// there.
pub fn start_in(layer: impl Layer<Base> + Send + Sync) {
    base("warn,notify=error,postroom=info,postroom_store=warn")
        .with(layer)
        .init();
}

fn base(usual: &str) -> Base {
    tracing_subscriber::registry()
        .with(filter(usual))
        .with(Contexts)
}

/// Returns the filter of `RUST_LOG`, or the default.
fn filter(usual: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual))
}

/// Writes lines with every hidden character escaped. The subscriber escapes ASCII's control characters in fields itself, and writes
/// colours with them, so those stay.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_ascii() {
            self.0.write_all(bytes)?;
            return Ok(bytes.len());
        }
        let text = String::from_utf8_lossy(bytes);
        let mut shown = String::with_capacity(text.len());
        for part in text.split_inclusive(|c: char| c.is_ascii_control()) {
            let end = part.len() - usize::from(part.ends_with(|c: char| c.is_ascii_control()));
            shown.push_str(&visible(&part[..end]));
            shown.push_str(&part[end..]);
        }
        self.0.write_all(shown.as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_hidden_characters_are_escaped() {
        let mut out = Vec::new();
        let line = "\x1b[31mERROR\x1b[0m subject=\u{202e}moc \u{9b}ü\u{2028}\n";
        Visible(&mut out).write_all(line.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\x1b[31mERROR\x1b[0m subject=\\u202emoc \\u009bü\\u2028\n"
        );
    }
}
