//! The view: lines that scroll by, whole ones only, whoever says them.

use std::io::{Stdout, Write, stdout};
use std::sync::{Mutex, PoisonError};

use jiff::Zoned;

use crate::commands::screen::{Ink, Line, Screen};

/// What a line begins with: the time or a word, to the right of this column.
const GUTTER: usize = 8;
/// The column at which everything else stands.
pub const HANG: usize = GUTTER + 2;

/// Where everything is shown that happens.
pub struct View {
    out: Mutex<Out>,
}

struct Out {
    stdout: Stdout,
    /// Whether the last line was blank, or none was.
    blank: bool,
}

impl View {
    pub fn new() -> Self {
        Self {
            out: Mutex::new(Out {
                stdout: stdout(),
                blank: true,
            }),
        }
    }

    /// Shows lines together. Who no longer reads them is no reason to stop serving.
    pub fn show(&self, lines: impl FnOnce(&Screen) -> Vec<Line>) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = Screen::of(&out.stdout);
        let mut text = String::new();
        for line in lines(&screen) {
            // One blank line says as much as two.
            if !(line.is_blank() && out.blank) {
                text.push_str(&line.shown(&screen));
            }
            out.blank = line.is_blank();
        }
        let _ = out.stdout.write_all(text.as_bytes());
        let _ = out.stdout.flush();
    }
}

/// A line that begins with the time.
pub fn now() -> Line {
    let time = Zoned::now().strftime("%H:%M:%S").to_string();
    labelled(Ink::Dim, &time)
}

/// A line that begins with a word.
pub fn labelled(ink: Ink, label: &str) -> Line {
    Line::new()
        .with(ink, format!("{label:>GUTTER$}"))
        .with(Ink::Plain, "  ")
}

/// A line below one that begins with a word.
pub fn below() -> Line {
    labelled(Ink::Plain, "")
}
