//! Tests the first commands of a new user: `init` writes a valid configuration, and `check` names the problems of rules.
//! `UPDATE=1` rewrites the expected output.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postroom_config::Config;

#[test]
fn what_init_writes_is_sound() {
    let dir = tempfile::tempdir().unwrap();
    postroom::commands::init::init(dir.path()).unwrap();
    let config = Config::load(&dir.path().join("postroom.toml")).unwrap();
    assert_eq!(config.mailboxes.len(), 1);

    // The commented-out settings are valid, too.
    let file = dir.path().join("postroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    let is_commented = |line: &&str| {
        let word = line.trim_start_matches("# ");
        word != *line && (word.starts_with('[') || word.contains(" = "))
    };
    let text: Vec<&str> = text
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|_| is_commented(&line)))
        .zip(text.lines())
        .map(|(bare, line)| bare.unwrap_or(line))
        .collect();
    fs::write(&file, text.join("\n")).unwrap();
    let config = Config::load_with(&file, &environment).unwrap();
    assert_eq!(config.mailboxes.len(), 2);
    assert_eq!((config.outgoing.len(), config.sinks.len()), (1, 1));
    assert!(config.unavailable.is_empty(), "{:?}", config.unavailable);

    let again = postroom::commands::init::init(dir.path()).unwrap_err();
    assert!(
        again.to_string().contains("nothing is overwritten"),
        "{again}"
    );
}

/// Compares the output of `postroom check` for configurations with rules, as a person sees it.
#[test]
fn check_tells_what_is_wrong_with_rules() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/check");
    let folders = folders(&root);
    assert!(!folders.is_empty(), "no cases in {}", root.display());
    let mut wrong = Vec::new();
    for folder in &folders {
        let done = Command::new(env!("CARGO_BIN_EXE_postroom"))
            .args(["check", "--config", "postroom.toml"])
            .current_dir(folder)
            .output()
            .unwrap();
        let found = format!(
            "{}{}exit code {}\n",
            String::from_utf8_lossy(&done.stdout),
            String::from_utf8_lossy(&done.stderr),
            done.status.code().unwrap_or(-1)
        );
        wrong.extend(compare(&folder.join("expected.txt"), &found));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn folders(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).unwrap_or_else(|e| panic!("{}: {e}", root.display()));
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir())
        .collect();
    folders.sort();
    folders
}

fn environment(name: &str) -> Option<OsString> {
    let value = match name {
        "ACME_SECRET" => "hunter2",
        "PSA_HOOK_SECRET" => "whsec_aHVudGVyMi1uZXZlci1zaG93bi1odW50ZXIy",
        "HOME" => "/home/postroom",
        _ => return None,
    };
    Some(OsString::from(value))
}

fn compare(expected: &Path, found: &str) -> Option<String> {
    if std::env::var_os("UPDATE").is_some() {
        let written = fs::write(expected, found);
        return written.err().map(|error| error.to_string());
    }
    let wanted = fs::read_to_string(expected).unwrap_or_default();
    (wanted != found).then(|| {
        format!(
            "{}:\n--- expected\n{wanted}--- found\n{found}",
            expected.display()
        )
    })
}
