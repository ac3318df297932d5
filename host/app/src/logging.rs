//! Logging to stderr, so that stdout contains only listings. Log lines cannot control a terminal, and no client can flood the log.

mod budget;
mod context;
mod lines;

use std::io::{self, IsTerminal, Write};
use std::{env, panic};

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

/// Starts logging. `RUST_LOG` selects the messages; by default, warnings from every crate and this program's own from `info` up.
pub fn start() {
    let lines = fmt::layer()
        .with_writer(|| Visible(io::stderr()))
        .with_ansi(io::stderr().is_terminal())
        // Otherwise a failed write of the log would panic.
        .log_internal_errors(false)
        .event_format(Lines)
        .with_filter(Budget::default());
    base("warn,postroom=info").with(lines).init();
    log_panics();
}

/// Logs each panic with its place, within the span of the part that panicked, so that the line names its mailbox. The code that
/// catches the panic logs the consequence.
fn log_panics() {
    let default = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string);
        let message = info.payload_as_str().unwrap_or("without a message");
        tracing::error!(
            place,
            "panicked: {message}; this is a bug in Postroom, please report it with the log"
        );
        if env::var_os("RUST_BACKTRACE").is_some() {
            default(info);
        }
    }));
}

/// Starts logging to a view that shows saves and mails itself. It does not log the creation of the
/// store or a missing watched folder.
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

/// Writes lines with every hidden character escaped. The subscriber itself escapes ASCII control characters in fields and
/// uses them for colours, so they are not escaped here.
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
