//! The types of rules: TypeScript compilers check every example, and rules with mistakes, in the folder that `postroom
//! init` writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use postroom_e2e::{binary, both, root};
use tempfile::TempDir;

/// The compilers, by their names in `tests/types/package.json`.
const COMPILERS: &[&str] = &["typescript", "typescript-native"];
/// The folders of rules that must be correct, in addition to the one that `init` writes.
const RIGHT: &[&str] = &[
    "examples/recipes",
    "examples/quickstart/rules",
    "examples/rules/js",
    "tests/types/right",
];
const WRONG: &str = "tests/types/wrong";
/// The line without which an editor does not know the types of `mail` and `ctx`, and finds no mistake.
const TYPED: &str = "/** @type {Decide} */";

/// A line of a rule in which a compiler must find, or found, a mistake.
type Place = (String, usize);

/// Returns the folder that `postroom init` writes.
fn folder() -> TempDir {
    let folder = TempDir::with_prefix("postroom-types-").unwrap();
    let output = Command::new(binary())
        .args(["init", "."])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", both(&output));
    folder
}

fn rules(folder: &str) -> Vec<PathBuf> {
    let mut rules: Vec<PathBuf> = std::fs::read_dir(root().join(folder))
        .unwrap_or_else(|error| panic!("{folder}: {error}"))
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|ext| ext == "js" || ext == "ts")
        })
        .collect();
    assert!(!rules.is_empty(), "no rule in {folder}");
    rules.sort();
    rules
}

fn copy(rules: &[PathBuf], folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    for rule in rules {
        std::fs::copy(rule, folder.join(rule.file_name().unwrap())).unwrap();
    }
}

/// Returns a compiler's messages about the folder, one per line.
fn complaints(compiler: &str, folder: &Path) -> Vec<String> {
    let tsc = root()
        .join("tests/types/node_modules")
        .join(compiler)
        .join("bin/tsc");
    assert!(tsc.exists(), "{compiler} is missing: run `make setup`");
    let output = Command::new(postroom_stand::node().unwrap())
        .arg(tsc)
        .args(["--project", "jsconfig.json", "--pretty", "false"])
        .current_dir(folder)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    assert_eq!(
        output.status.success(),
        lines.is_empty(),
        "{compiler}: {}",
        both(&output)
    );
    lines
}

/// Parses `rules/name.js(6,5): error TS2561: …` into the position and the code. Lines with further explanation are
/// indented.
fn parsed(complaint: &str) -> Option<(Place, String)> {
    let (file, rest) = complaint.strip_prefix("rules/")?.split_once('(')?;
    let (line, rest) = rest.split_once(',')?;
    let code = rest.split_once("error ")?.1.split_once(':')?.0;
    Some(((file.into(), line.parse().ok()?), code.into()))
}

/// Returns the marks of a wrong rule: `// TS2345 or TS2741` at the end of a line, for compilers that differ.
fn marks(rule: &Path) -> BTreeMap<Place, BTreeSet<String>> {
    let name = rule.file_name().unwrap().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(rule).unwrap();
    let marks: BTreeMap<Place, BTreeSet<String>> = text
        .lines()
        .enumerate()
        .filter_map(|(index, line)| {
            let codes = line.rsplit_once("// TS")?.1;
            let codes = format!("TS{codes}");
            Some((
                (name.clone(), index + 1),
                codes.split(" or ").map(str::to_owned).collect(),
            ))
        })
        .collect();
    assert!(!marks.is_empty(), "{name} does not mark what is wrong");
    marks
}

#[test]
fn every_example_is_right() {
    let folder = folder();
    for (number, from) in RIGHT.iter().enumerate() {
        copy(&rules(from), &folder.path().join(format!("rules/{number}")));
    }
    for compiler in COMPILERS {
        let complaints = complaints(compiler, folder.path());
        assert!(complaints.is_empty(), "{compiler}: {complaints:#?}");
    }
}

#[test]
fn every_example_says_what_its_function_is() {
    let first = root().join("host/app/src/templates/first.js");
    for rule in RIGHT.iter().flat_map(|from| rules(from)).chain([first]) {
        let text = std::fs::read_to_string(&rule).unwrap();
        assert!(text.contains(TYPED), "{} lacks {TYPED}", rule.display());
    }
}

#[test]
fn every_mistake_is_found_where_it_is() {
    let folder = folder();
    let wrong = rules(WRONG);
    copy(&wrong, &folder.path().join("rules"));
    let marks: BTreeMap<Place, BTreeSet<String>> =
        wrong.iter().flat_map(|rule| marks(rule)).collect();
    for compiler in COMPILERS {
        let complaints = complaints(compiler, folder.path());
        let found: BTreeMap<Place, String> = complaints
            .iter()
            .filter_map(|complaint| parsed(complaint))
            .collect();
        for (place, codes) in &marks {
            let code = found.get(place);
            assert!(
                code.is_some_and(|code| codes.contains(code)),
                "{compiler}: {place:?} must be {codes:?}, found {code:?}"
            );
        }
        let beyond: Vec<&Place> = found.keys().filter(|at| !marks.contains_key(at)).collect();
        assert!(beyond.is_empty(), "{compiler} also complains of {beyond:?}");
    }
}
