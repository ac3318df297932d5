//! The log of a rule for one decision: capped, whatever the rule writes.

use std::sync::{Arc, Mutex, PoisonError};

/// The size up to which an unfinished line of an output stream is buffered; then it counts as a line.
const LONGEST_LINE: usize = 4 << 10;

/// A log, shared with the output streams of a component.
#[derive(Debug, Clone)]
pub(crate) struct Log(Arc<Mutex<Book>>);

#[derive(Debug)]
struct Book {
    lines: Vec<String>,
    left: usize,
    full: bool,
    /// The output of a stream since its last line end.
    partial: Vec<u8>,
}

impl Log {
    pub(crate) fn new(bytes: usize) -> Self {
        Self(Arc::new(Mutex::new(Book {
            lines: Vec::new(),
            left: bytes,
            full: false,
            partial: Vec::new(),
        })))
    }

    pub(crate) fn add(&self, level: &str, message: &str) {
        self.book(|book| book.add(level, message));
    }

    /// Writes bytes of an output stream; each complete line becomes an entry.
    pub(crate) fn write(&self, bytes: &[u8]) {
        self.book(|book| {
            for piece in bytes.split_inclusive(|b| *b == b'\n') {
                if book.full {
                    return;
                }
                let room = LONGEST_LINE.saturating_sub(book.partial.len());
                book.partial
                    .extend_from_slice(&piece[..piece.len().min(room)]);
                if piece.ends_with(b"\n") || piece.len() > room {
                    book.end_line();
                }
            }
        });
    }

    /// Returns the entries so far, oldest first, and empties the log.
    pub(crate) fn take(&self) -> Vec<String> {
        self.book(|book| {
            book.end_line();
            std::mem::take(&mut book.lines)
        })
    }

    fn book<R>(&self, f: impl FnOnce(&mut Book) -> R) -> R {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Book {
    fn add(&mut self, level: &str, message: &str) {
        if self.full {
            return;
        }
        // Each entry also costs its level and a separator, so that empty messages are limited as well.
        let cost = level.len() + 2;
        let room = self.left.saturating_sub(cost);
        let kept = &message[..message.floor_char_boundary(room)];
        if self.left >= cost {
            self.lines.push(format!("{level}: {kept}"));
        }
        self.left = self.left.saturating_sub(cost + kept.len());
        if kept.len() < message.len() || self.left == 0 {
            self.full = true;
            self.lines.push("the log is full; the rest was cut".into());
        }
    }

    fn end_line(&mut self) {
        let line = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            self.add("output", text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_fits_and_says_what_was_cut() {
        let log = Log::new(20);
        log.add("info", "twelve bytes");
        log.add("info", "lost");
        log.add("info", "lost");
        assert_eq!(
            log.take(),
            ["info: twelve bytes", "the log is full; the rest was cut"]
        );
    }

    #[test]
    fn cuts_at_a_character() {
        let log = Log::new(9);
        log.add("info", "aéé");
        assert_eq!(log.take()[0], "info: aé");
    }

    #[test]
    fn empty_messages_run_out() {
        let log = Log::new(60);
        (0..100_000).for_each(|_| log.add("info", ""));
        assert_eq!(log.take().len(), 11);
    }

    #[test]
    fn output_becomes_lines() {
        let log = Log::new(1000);
        log.write(b"one\ntw");
        log.write(b"o\n\nthree");
        assert_eq!(log.take(), ["output: one", "output: two", "output: three"]);
    }
}
