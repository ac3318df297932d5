//! The repairs of a mail: short, without duplicates, and capped.

use crate::harmless::harmless_chars;

/// The most repairs noted for one mail; further repairs are not noted.
pub const MAX_REPAIRS: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Repairs(Vec<String>);

impl Repairs {
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        if self.0.len() >= MAX_REPAIRS {
            return;
        }
        let what = what.into();
        if !self.0.contains(&what) {
            self.0.push(what);
        }
    }

    /// Puts notes before all others, so that they are never crowded out.
    pub(crate) fn note_first(&mut self, notes: Vec<String>) {
        self.0.splice(0..0, notes);
        self.0.truncate(MAX_REPAIRS);
    }

    pub(crate) fn into_vec(self) -> Vec<String> {
        self.0
    }
}

/// Returns a word from the mail, made printable and short for the text of a repair.
pub(crate) fn shown(text: &str) -> String {
    let mut out: String = harmless_chars(text).take(40).collect();
    if out.len() < text.len() {
        out.push('…');
    }
    out
}
