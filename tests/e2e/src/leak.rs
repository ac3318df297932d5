//! Searches the results of a run for secrets: each unchanged, in base64 at every alignment, percent-encoded and in hex.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// The shortest secret: a shorter one would also match other text.
const SHORTEST: usize = 8;

/// Every form of every secret, ready for searching.
pub struct Needles {
    automaton: AhoCorasick,
    /// The description of each pattern, for a reader of a failure.
    names: Vec<String>,
}

impl Needles {
    /// Builds the search. Panics without any secret, since nothing would be searched for.
    pub fn new<S: AsRef<[u8]>>(secrets: impl IntoIterator<Item = S>) -> Self {
        let (mut patterns, mut names) = (Vec::new(), Vec::new());
        for secret in secrets {
            let secret = secret.as_ref();
            assert!(secret.len() >= SHORTEST, "too short to be searched");
            let shown = String::from_utf8_lossy(&secret[..SHORTEST]).into_owned();
            for (form, pattern) in forms(secret) {
                names.push(format!("{form} of {shown}…"));
                patterns.push(pattern);
            }
        }
        assert!(!patterns.is_empty(), "no secret to look for");
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostFirst)
            .build(&patterns)
            .expect("a searchable set");
        Self { automaton, names }
    }

    /// Returns the secrets in a text, each once, with the text before it.
    pub fn found_in(&self, text: &[u8]) -> Vec<String> {
        let mut known = BTreeSet::new();
        let mut found = Vec::new();
        for hit in self.automaton.find_iter(text) {
            if known.insert(hit.pattern()) {
                let before = &text[hit.start().saturating_sub(80)..hit.start()];
                let name = &self.names[hit.pattern().as_usize()];
                found.push(format!(
                    "{name} after {:?}",
                    String::from_utf8_lossy(before)
                ));
            }
        }
        found
    }

    /// Returns the secrets in every file below a folder, with the file's name, except in the files to skip.
    pub fn found_below(&self, folder: &Path, but: &[PathBuf]) -> Vec<String> {
        let mut found = Vec::new();
        for file in files(folder) {
            if but.contains(&file) {
                continue;
            }
            let text = std::fs::read(&file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let hits = self.found_in(&text).into_iter();
            found.extend(hits.map(|hit| format!("{}: {hit}", file.display())));
        }
        found
    }
}

/// Returns the forms of a secret in logs and files, each once, by name. Each line of a multi-line text counts, since it may
/// be printed separately.
pub fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut forms = vec![("raw", secret.to_vec())];
    let lines = secret.split(|byte| *byte == b'\n');
    forms.extend(
        lines
            .filter(|line| line.len() >= SHORTEST && !line.starts_with(b"-----"))
            .map(|line| ("line", line.to_vec())),
    );
    for (name, engine) in [("base64", STANDARD_NO_PAD), ("base64url", URL_SAFE_NO_PAD)] {
        for alignment in 0..3 {
            forms.push((name, aligned(&engine, secret, alignment)));
        }
    }
    for (name, encoded) in [
        ("percent", percent(secret, true)),
        ("percent", percent(secret, false)),
        ("hex", hex(secret, true)),
        ("hex", hex(secret, false)),
    ] {
        forms.push((name, encoded.into_bytes()));
    }
    let mut known = BTreeSet::new();
    forms.retain(|(_, form)| known.insert(form.clone()));
    forms
}

/// Returns the characters that depend on the secret alone if this many bytes precede it in its group of three, whatever
/// follows.
fn aligned(engine: &impl Engine, secret: &[u8], alignment: usize) -> Vec<u8> {
    let mut whole = vec![0; alignment];
    whole.extend_from_slice(secret);
    let encoded = engine.encode(&whole).into_bytes();
    let start = (alignment * 8).div_ceil(6);
    let end = whole.len() * 8 / 6;
    encoded[start..end].to_vec()
}

fn percent(secret: &[u8], upper: bool) -> String {
    let mut text = String::new();
    for byte in secret {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(*byte));
            }
            _ if upper => {
                let _ = write!(text, "%{byte:02X}");
            }
            _ => {
                let _ = write!(text, "%{byte:02x}");
            }
        }
    }
    text
}

fn hex(secret: &[u8], upper: bool) -> String {
    let mut text = String::new();
    for byte in secret {
        let _ = match upper {
            true => write!(text, "{byte:02X}"),
            false => write!(text, "{byte:02x}"),
        };
    }
    text
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder);
        for entry in entries.unwrap_or_else(|e| panic!("{}: {e}", folder.display())) {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.is_file() {
                files.push(path);
            }
        }
    }
    files
}
