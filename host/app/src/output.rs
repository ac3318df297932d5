//! What the program prints: nothing in it steers a terminal, and a reader that went away ends no command.
//!
//! `println!` and `eprintln!` of this crate are the macros below, so that no line can leave the program by another way. Rust's own
//! panic when the reader of a pipe is gone, and pass on whatever a mail holds.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

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

/// Whether a line could not be written for another reason than that nobody reads it.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Prints a line, made [visible]. A failed write is remembered for [`has_failed`]; a closed pipe is no failure.
pub fn line(text: std::fmt::Arguments<'_>) {
    let written = write_line(&mut io::stdout().lock(), &visible(&text.to_string()));
    if written.is_err() {
        FAILED.store(true, Ordering::Relaxed);
    }
}

/// Prints a line to standard error, made [visible]. Nothing can be done where that fails.
pub fn error_line(text: std::fmt::Arguments<'_>) {
    let _ = write_line(&mut io::stderr().lock(), &visible(&text.to_string()));
}

/// Prints a line that may hold colours of our own: whatever came from outside in it was made [visible] before.
pub fn coloured_line(text: &str) -> io::Result<()> {
    write_line(&mut io::stdout().lock(), text)
}

/// Whether something printed to standard output was lost, as on a full disk.
pub fn has_failed() -> bool {
    FAILED.load(Ordering::Relaxed)
}

/// Writes a line; a reader that went away is no error.
pub fn write_line(out: &mut impl Write, text: &str) -> io::Result<()> {
    let mut line = String::with_capacity(text.len() + 1);
    line.push_str(text);
    line.push('\n');
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// One JSON value on one line, in which nothing steers a terminal: what is hidden is escaped, also C1 and DEL, which JSON would
/// leave as they are.
pub fn json(value: &impl Serialize) -> serde_json::Result<String> {
    let text = serde_json::to_string(value)?;
    Ok(match visible(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(escaped) => escaped,
    })
}

/// The text with every [hidden](is_hidden) character as `\uXXXX`, which is also how JSON writes it. Line feeds and tabs stay, and a
/// carriage return before a line feed is left out.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(is_plain) || !text.chars().any(|c| is_hidden(c) && !is_layout(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            c if is_hidden(c) && !is_layout(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// The text on one line: as [`visible`], with line ends and tabs as blanks.
pub fn on_one_line(text: &str) -> String {
    let flat: String = text
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| if is_layout(c) { ' ' } else { c })
        .collect();
    visible(&flat).into_owned()
}

fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// Whether a character moves the cursor, changes colours, rings, breaks a line, turns the direction of reading (Unicode UAX #9), or is
/// not seen and changes what is read. The joiners U+200C and U+200D are letters' own in several scripts and stay.
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_is_left() {
        for (text, expected) in [
            ("plain ü 名 👩\u{200d}🚒", "plain ü 名 👩\u{200d}🚒"),
            ("a\nb\tc", "a\nb\tc"),
            ("a\r\nb\rc", "a\nb\\u000dc"),
            ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
            ("\u{9b}31m\x7f", "\\u009b31m\\u007f"),
            ("\u{202e}moc.live\u{2066}", "\\u202emoc.live\\u2066"),
            ("a\u{2028}b\u{200b}c\u{feff}", "a\\u2028b\\u200bc\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), expected, "{text:?}");
        }
        assert_eq!(on_one_line("a\r\nb\tc\x1b"), "a b c\\u001b");
    }

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
