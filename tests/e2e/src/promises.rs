//! The promises of `tests/hostile/promises`: properties that must hold under attack, each with the test that proves it.

use std::path::PathBuf;

use serde::Deserialize;

use crate::root;

const FOLDER: &str = "tests/hostile/promises";

/// The promises of one file.
#[derive(Debug)]
pub struct Area {
    /// The file's name without `.toml`.
    pub name: String,
    /// The heading in docs/reliability.md.
    pub title: String,
    pub promises: Vec<Promise>,
}

/// One promise with its test.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Promise {
    /// The faults that it answers, by their numbers in the reports.
    pub fault: String,
    /// The promise, one sentence.
    pub promise: String,
    /// The cargo package of the test.
    pub package: String,
    /// `lib`, or the name of the test target.
    pub target: String,
    /// The test's whole name within that target.
    pub test: String,
    /// The limit of resident memory, in MiB, of the test with its children.
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    title: String,
    case: Vec<Promise>,
}

fn default_memory() -> u64 {
    2048
}

/// Reads every file of the folder, ordered by name.
///
/// Panics with the file's name if one cannot be read or contains no case, and panics if there is no file.
pub fn areas() -> Vec<Area> {
    let folder = root().join(FOLDER);
    let entries = std::fs::read_dir(&folder).expect(FOLDER);
    let mut files: Vec<PathBuf> = entries.map(|it| it.expect(FOLDER).path()).collect();
    files.retain(|path| path.extension().is_some_and(|it| it == "toml"));
    files.sort();
    assert!(!files.is_empty(), "{FOLDER} holds no promises");
    files.iter().map(|path| area(path)).collect()
}

fn area(path: &std::path::Path) -> Area {
    let shown = path.display();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{shown}: {error}"));
    let file: File = toml::from_str(&text).unwrap_or_else(|error| panic!("{shown}: {error}"));
    assert!(!file.case.is_empty(), "{shown} holds no case");
    Area {
        name: path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into(),
        title: file.title,
        promises: file.case,
    }
}
