//! The files of a configuration: the main file, and the client files that `include` names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

use super::documents::Texts;
use super::reader::{Item, Section};

/// Keys that only the main file may have, because they concern every client.
pub const MAIN_FILE_KEYS: &[&str] = &[
    "include",
    "data_dir",
    "keep_raw",
    "limits",
    "tls",
    "vault",
    "authentication",
    "store",
];
/// The most files that one configuration may include.
const MAX_FILES: usize = 10_000;

/// An included file and its text.
pub struct Included {
    /// The file's name as the user would write it.
    pub name: String,
    pub text: String,
}

/// Reads the files that the main file includes, sorted by name, each once. Reports files that cannot be read.
pub fn read(root: &Section, main_file: &Path, texts: &Texts) -> Vec<Included> {
    let Some(patterns) = root.item("include").and_then(|item| item.list()) else {
        return Vec::new();
    };
    let mut files = BTreeSet::new();
    let mut included = Vec::new();
    for pattern in &patterns {
        for file in matches(pattern, texts).unwrap_or_default() {
            if file == main_file || !files.insert(file.clone()) {
                continue;
            }
            if files.len() > MAX_FILES {
                pattern.problem(
                    format!("includes more than {MAX_FILES} files"),
                    "name fewer files, or put several clients into one",
                );
                return included;
            }
            let name = file.display().to_string();
            match texts.included(&file) {
                Ok(text) => included.push(Included { name, text }),
                Err(reason) => pattern.problem_of_file(
                    format!("{name} {reason}"),
                    "make it a TOML file in UTF-8 that postroom may read",
                ),
            }
        }
    }
    included.sort_by(|a, b| a.name.cmp(&b.name));
    included
}

/// Returns the files that a pattern matches, named as the user would write them. A pattern without wildcards must match a file.
fn matches(item: &Item, texts: &Texts) -> Option<Vec<PathBuf>> {
    let text = item.text()?;
    let dir = item.reader.dir;
    texts.note_folder(&dir.join(fixed_folder(text)));
    let pattern = Path::new(&Pattern::escape(&dir.to_string_lossy())).join(text);
    let options = MatchOptions {
        require_literal_separator: true,
        require_literal_leading_dot: true,
        ..MatchOptions::new()
    };
    let not_a_pattern = |error: glob::PatternError| {
        item.problem(
            format!("\"{text}\" is not a pattern of files: {}", error.msg),
            "write it as \"clients/*.toml\"",
        );
    };
    if let Texts::Documents(documents) = texts {
        let pattern = Pattern::new(&as_written(&pattern).to_string_lossy());
        let pattern = pattern.map_err(not_a_pattern).ok()?;
        let files = documents.iter().map(|(file, _)| file);
        let matching = files.filter(|file| pattern.matches_path_with(file, options));
        return Some(matching.map(Path::to_owned).collect());
    }
    let found = glob::glob_with(&pattern.to_string_lossy(), options);
    let mut files = Vec::new();
    for entry in found.map_err(not_a_pattern).ok()? {
        match entry {
            Ok(path) if path.is_dir() => {}
            Ok(path) => files.push(as_written(&path).to_owned()),
            Err(error) => item.problem_of_file(
                format!(
                    "{} cannot be read: {}",
                    error.path().display(),
                    error.error()
                ),
                "make the folder readable for postroom",
            ),
        }
    }
    if files.is_empty() {
        let is_pattern = text.contains(['*', '?', '[']);
        match is_pattern {
            true => item.warning(
                format!("\"{text}\" matches no file"),
                "make the first file, or correct the pattern: it starts at the configuration's folder",
            ),
            false => item.problem_of_file(
                format!("{text} is not there"),
                "make the file, or correct the path: it starts at the configuration's folder",
            ),
        }
    }
    Some(files)
}

/// Returns the deepest folder of a pattern that has no wildcard.
fn fixed_folder(pattern: &str) -> &Path {
    let fixed = pattern.find(['*', '?', '[']).unwrap_or(pattern.len());
    let end = pattern[..fixed].rfind('/').unwrap_or(0);
    Path::new(&pattern[..end])
}

/// Returns the path as a user would write it.
fn as_written(path: &Path) -> &Path {
    path.strip_prefix(".").unwrap_or(path)
}
