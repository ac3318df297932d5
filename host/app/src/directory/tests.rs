//! Directories as they are saved: what is good goes live, what is broken changes nothing, and nothing outside the folder is read.

use std::fs;
use std::path::Path;

use postroom_core::lookup::{Found, Question};

use super::*;

/// A configuration of one tenant with a file of each kind.
fn config(dir: &Path) -> Config {
    let text = "[tenants.acme]\ncontacts = \"contacts.csv\"\nassets = \"assets.toml\"\n[tenants.bolt]\n[mailboxes.m]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"s\"\n";
    fs::write(dir.join("postroom.toml"), text).unwrap();
    Config::load(&dir.join("postroom.toml")).unwrap()
}

fn write(dir: &Path, contacts: &str, assets: &str) {
    fs::write(dir.join("contacts.csv"), contacts).unwrap();
    fs::write(dir.join("assets.toml"), assets).unwrap();
}

fn names(directory: &Directory, text: &str) -> Result<Vec<String>, String> {
    match directory.answer(&Question::Contacts(text.into()), 10)? {
        Some(Found::Contacts(rows)) => Ok(rows.into_iter().map(|row| row.name).collect()),
        other => panic!("{other:?}"),
    }
}

fn asset(directory: &Directory, name: &str) -> Option<String> {
    match directory.answer(&Question::Asset(name.into()), 10).unwrap() {
        Some(Found::Assets(rows)) => rows.into_iter().next().map(|row| row.name),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_save_is_live_for_those_who_ask_anew() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "name,email\nAnn,ann@acme.example\n",
        "[[assets]]\nname = \"db1\"\nserial = \"SN-1\"\n",
    );
    let (directories, read) = Directories::open(&config(dir));
    assert_eq!((read.live.len(), read.refused.len()), (2, 0), "{read:?}");
    let before = directories.of("acme");
    assert_eq!(names(&before, "ACME").unwrap(), ["Ann"]);
    assert_eq!(asset(&before, "sn-1").as_deref(), Some("db1"));
    assert!(names(&directories.of("bolt"), "").unwrap().is_empty());
    assert!(directories.reread().live.is_empty());

    fs::write(
        dir.join("contacts.csv"),
        "name,email\nAnn,ann@acme.example\nBob,bob@acme.example\n",
    )
    .unwrap();
    assert_eq!(directories.reread().live.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann", "Bob"]);
    assert_eq!(
        asset(&directories.of("acme"), "db1").as_deref(),
        Some("db1")
    );
    // A batch that began earlier ends with what it began with.
    assert_eq!(names(&before, "").unwrap(), ["Ann"]);
}

#[test]
fn a_broken_save_changes_nothing_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let good = "name,email\nAnn,ann@acme.example\n";
    write(dir, good, "");
    let (directories, _) = Directories::open(&config(dir));
    let file = dir.join("contacts.csv");
    fs::write(&file, "name,email\nAnn,ann@acme.example\nBob,bob\n").unwrap();
    let refused = directories.reread().refused;
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0.as_str(), refused[0].1.line), ("acme", 3));
    assert!(directories.reread().refused.is_empty());
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(directories.reread().refused.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
    fs::write(&file, good).unwrap();
    assert!(directories.reread().refused.is_empty());
}

#[test]
fn what_never_was_good_has_no_answer_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name\nAnn\n", "");
    let (directories, read) = Directories::open(&config(dir));
    assert_eq!(read.refused.len(), 1);
    let reason = names(&directories.of("acme"), "").unwrap_err();
    assert!(
        reason.contains("contacts.csv:1: has no column email"),
        "{reason}"
    );
    // The other file is as good as it is.
    assert_eq!(asset(&directories.of("acme"), "db1"), None);
    fs::write(dir.join("contacts.csv"), "email\nann@acme.example\n").unwrap();
    directories.reread();
    assert_eq!(names(&directories.of("acme"), "").unwrap(), [""]);
}

#[test]
fn a_file_that_became_a_link_out_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name,email\nAnn,ann@acme.example\n", "");
    let (directories, _) = Directories::open(&config(dir));
    let secret = elsewhere.path().join("contacts.csv");
    fs::write(&secret, "name,email\nEve,eve@elsewhere.example\n").unwrap();
    fs::remove_file(dir.join("contacts.csv")).unwrap();
    std::os::unix::fs::symlink(&secret, dir.join("contacts.csv")).unwrap();
    let refused = directories.reread().refused;
    assert!(
        refused[0].1.message.contains("symbolic link"),
        "{refused:?}"
    );
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
}

#[test]
fn a_file_over_its_limits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "email\na@b.example\n", "");
    let (directories, _) = Directories::open(&config(dir));
    let columns = |count: usize| {
        let more: String = (0..count - 1).map(|n| format!(",c{n}")).collect();
        format!("email{more}\n")
    };
    let rows = |count: usize| {
        let all: String = (0..count).map(|n| format!("a{n}@b.example\n")).collect();
        format!("email\n{all}")
    };
    let cell = |bytes: usize| format!("email,note\na@b.example,{}\n", "x".repeat(bytes));
    for (obeyed, violated, words) in [
        (columns(64), columns(65), "more than 64 columns"),
        (rows(100_000), rows(100_001), "more than 100000 rows"),
        (cell(4096), cell(4097), "note is over 4096 bytes"),
        (
            rows(1),
            "x".repeat((16 << 20) + 1),
            "is over 16777216 bytes",
        ),
    ] {
        fs::write(dir.join("contacts.csv"), obeyed).unwrap();
        let read = directories.reread();
        assert_eq!(read.live.len(), 1, "{words}: {:?}", read.refused.first());
        fs::write(dir.join("contacts.csv"), violated).unwrap();
        let refused = directories.reread().refused;
        assert_eq!(refused.len(), 1, "{words}");
        assert!(refused[0].1.message.contains(words), "{:?}", refused[0]);
    }
}
