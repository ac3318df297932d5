//! The state of reading one mail: its repairs, which are short, without duplicates and capped, and its guessed charsets.

use super::charset::{Charset, Guesses};
use crate::harmless::harmless_chars;

/// The most repairs noted for one mail; further repairs are not noted.
pub const MAX_REPAIRS: usize = 32;

#[derive(Debug, Default)]
pub(crate) struct Repairs {
    notes: Vec<String>,
    /// The charset in which headers with raw bytes above 127 are read, unless they are UTF-8.
    pub header_charset: Option<Charset>,
    pub guesses: Guesses,
}

impl Repairs {
    pub(crate) fn note(&mut self, what: impl Into<String>) {
        if self.notes.len() >= MAX_REPAIRS {
            return;
        }
        let what = what.into();
        if !self.notes.contains(&what) {
            self.notes.push(what);
        }
    }

    /// Puts notes before all others, so that they are never crowded out.
    pub(crate) fn note_first(&mut self, notes: Vec<String>) {
        self.notes.splice(0..0, notes);
        self.notes.truncate(MAX_REPAIRS);
    }

    pub(crate) fn into_vec(self) -> Vec<String> {
        self.notes
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
