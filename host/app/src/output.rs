//! Prints the program's output: without characters that control a terminal, and without failing when the reader closes the pipe.
//!
//! The macros below replace `println!` and `eprintln!` in this crate, so that every line passes through here. Rust's own macros
//! panic on a closed pipe, and print control characters from a mail unchanged.

use std::borrow::Cow;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use postroom_core::harmless::visible;
use serde::Serialize;

/// Prints a line to standard output, as [`crate::output::line`] does.
macro_rules! println {
    () => { $crate::output::line(format_args!("")) };
    ($($arg:tt)*) => { $crate::output::line(format_args!($($arg)*)) };
}

/// Prints a line to standard error, as [`crate::output::error_line`] does.
macro_rules! eprintln {
    () => { $crate::output::error_line(format_args!("")) };
    ($($arg:tt)*) => { $crate::output::error_line(format_args!($($arg)*)) };
}

/// Whether writing a line failed for any reason other than a closed pipe.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Prints a line, made [visible]. A failed write is remembered for [`has_failed`]; a closed pipe is not a failure.
pub fn line(text: std::fmt::Arguments<'_>) {
    let written = write_line(&mut io::stdout().lock(), &visible(&text.to_string()));
    if written.is_err() {
        FAILED.store(true, Ordering::Relaxed);
    }
}

/// Prints a line to standard error, made [visible]. A failure is ignored, since nothing could report it.
pub fn error_line(text: std::fmt::Arguments<'_>) {
    let _ = write_line(&mut io::stderr().lock(), &visible(&text.to_string()));
}

/// Prints a line that may contain our own colours. The caller has made every text from outside [visible].
pub fn coloured_line(text: &str) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), text)
}

/// Returns whether a write to standard output failed, for example on a full disk.
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Writes a line; a closed pipe is not an error.
pub fn write_line(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Returns a JSON value on one line without characters that control a terminal: hidden characters are escaped, including C1 and
/// DEL, which JSON allows unescaped.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    Ok(match visible(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    })
}

#[cfg(test)]
mod tests {
    use postroom_core::harmless::is_hidden;

    use super::*;

    #[test]
    fn json_means_the_same_and_hides_nothing() {
        let value =
            serde_json::json!({"subject": "\u{9b}31m \x7f \u{202e}x\u{2028} \"\\ \n ü \u{e0041}"});
        let text = json(&value).unwrap();
        assert!(!text.chars().any(is_hidden), "{text:?}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
    }

    #[test]
    fn a_closed_pipe_is_no_error_and_a_full_disk_is_one() {
        struct Fails(ErrorKind);
        impl Write for Fails {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(write_line(&mut Fails(ErrorKind::BrokenPipe), "a").is_ok());
        assert!(write_line(&mut Fails(ErrorKind::StorageFull), "a").is_err());
    }
}
