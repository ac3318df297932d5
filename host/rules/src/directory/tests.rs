//! Directories when files are saved: valid files go live, broken ones change nothing, and nothing outside the folder is
//! read.

use std::fs;
use std::path::Path;

use postroom_core::lookup::{Query, QueryResult};
use postroom_store::Store;
use postroom_store::sqlite::SqliteStore;

use super::*;

/// Returns a configuration of one tenant with one file of each kind.
fn config(dir: &Path) -> Config {
    let text = "[tenants.acme]\ncontacts = \"contacts.csv\"\nassets = \"assets.toml\"\n[tenants.bolt]\n[mailboxes.m]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"s\"\n";
    fs::write(dir.join("postroom.toml"), text).unwrap();
    Config::load(&dir.join("postroom.toml")).unwrap()
}

fn write(dir: &Path, contacts: &str, assets: &str) {
    fs::write(dir.join("contacts.csv"), contacts).unwrap();
    fs::write(dir.join("assets.toml"), assets).unwrap();
}

fn on_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    runtime.unwrap().block_on(work)
}

fn open(config: &Config) -> (Arc<Directories>, DirectoryReloaded) {
    let store = Arc::new(SqliteStore::open(&config.data_dir).unwrap());
    let kept = store.listings();
    let directories = on_runtime(Directories::open(config, store, kept)).unwrap();
    let read = again(&directories);
    (directories, read)
}

fn again(directories: &Arc<Directories>) -> DirectoryReloaded {
    let mut all = DirectoryReloaded::default();
    for tenant in ["acme", "bolt"] {
        let looked = directories.look(tenant);
        let read = on_runtime(directories.keep(looked));
        all.live.extend(read.live);
        all.refused.extend(read.refused);
        all.returned.extend(read.returned);
    }
    all
}

fn names(directory: &Directory, text: &str) -> Result<Vec<String>, String> {
    match directory.answer(&Query::Contacts(text.into()), 10)? {
        Some(QueryResult::Contacts(rows)) => Ok(rows.into_iter().map(|row| row.name).collect()),
        other => panic!("{other:?}"),
    }
}

fn asset(directory: &Directory, name: &str) -> Option<String> {
    match directory.answer(&Query::Asset(name.into()), 10).unwrap() {
        Some(QueryResult::Assets(rows)) => rows.into_iter().next().map(|row| row.name),
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
    let (directories, read) = open(&config(dir));
    assert_eq!((read.live.len(), read.refused.len()), (2, 0), "{read:?}");
    let before = directories.of("acme");
    assert_eq!(names(&before, "ACME").unwrap(), ["Ann"]);
    assert_eq!(asset(&before, "sn-1").as_deref(), Some("db1"));
    assert!(names(&directories.of("bolt"), "").unwrap().is_empty());
    assert!(again(&directories).live.is_empty());

    fs::write(
        dir.join("contacts.csv"),
        "name,email\nAnn,ann@acme.example\nBob,bob@acme.example\n",
    )
    .unwrap();
    assert_eq!(again(&directories).live.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann", "Bob"]);
    assert_eq!(
        asset(&directories.of("acme"), "db1").as_deref(),
        Some("db1")
    );
    // A batch that started earlier finishes with the old content.
    assert_eq!(names(&before, "").unwrap(), ["Ann"]);
}

#[test]
fn a_broken_save_changes_nothing_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let good = "name,email\nAnn,ann@acme.example\n";
    write(dir, good, "");
    let (directories, _) = open(&config(dir));
    let file = dir.join("contacts.csv");
    fs::write(&file, "name,email\nAnn,ann@acme.example\nBob,bob\n").unwrap();
    let refused = again(&directories).refused;
    assert_eq!(refused.len(), 1);
    assert_eq!((refused[0].0.as_str(), refused[0].1.line), ("acme", 3));
    assert!(again(&directories).refused.is_empty());
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
    fs::remove_file(&file).unwrap();
    assert_eq!(again(&directories).refused.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
    fs::write(&file, good).unwrap();
    assert!(again(&directories).refused.is_empty());
}

#[test]
fn what_never_was_good_has_no_answer_until_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name\nAnn\n", "");
    let (directories, read) = open(&config(dir));
    assert_eq!(read.refused.len(), 1);
    let reason = names(&directories.of("acme"), "").unwrap_err();
    assert!(
        reason.contains("contacts.csv:1: has no column email"),
        "{reason}"
    );
    // The other file is not affected.
    assert_eq!(asset(&directories.of("acme"), "db1"), None);
    fs::write(dir.join("contacts.csv"), "email\nann@acme.example\n").unwrap();
    again(&directories);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), [""]);
}

#[test]
fn what_last_was_good_serves_at_a_start_with_a_broken_file() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let assets = "[[assets]]\nname = \"db1\"\n";
    write(dir, "name,email\nAnn,ann@acme.example\n", assets);
    let config = config(dir);
    let (directories, read) = open(&config);
    assert!(read.returned.is_empty(), "{read:?}");
    write(dir, "name,email\nBob,bob@acme.example\n", assets);
    again(&directories);
    write(dir, "name,email\nCid,cid\n", assets);
    again(&directories);
    drop(directories);

    let (directories, read) = open(&config);
    assert_eq!((read.live.len(), read.refused.len()), (1, 1), "{read:?}");
    assert_eq!(read.refused[0].1.line, 2);
    assert_eq!(read.returned.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Bob"]);
    write(dir, "name,email\nCid,cid@acme.example\n", assets);
    assert_eq!(again(&directories).live.len(), 1);
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Cid"]);
    drop(directories);

    // Each file belongs to its tenant, and files that are not configured are not stored.
    let mut other = config.clone();
    let file = other.tenants[0].contacts.as_mut().unwrap();
    file.name = "people.csv".into();
    file.path = dir.join("people.csv");
    fs::write(&file.path, "nonsense").unwrap();
    let (directories, read) = open(&other);
    assert!(read.returned.is_empty(), "{read:?}");
    assert!(names(&directories.of("acme"), "").is_err());
    drop(directories);
    write(dir, "nonsense", assets);
    let (directories, _) = open(&config);
    assert!(names(&directories.of("acme"), "").is_err());
    assert_eq!(
        asset(&directories.of("acme"), "db1").as_deref(),
        Some("db1")
    );
}

#[test]
fn a_file_that_became_a_link_out_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name,email\nAnn,ann@acme.example\n", "");
    let (directories, _) = open(&config(dir));
    let secret = elsewhere.path().join("contacts.csv");
    fs::write(&secret, "name,email\nEve,eve@elsewhere.example\n").unwrap();
    fs::remove_file(dir.join("contacts.csv")).unwrap();
    std::os::unix::fs::symlink(&secret, dir.join("contacts.csv")).unwrap();
    let refused = again(&directories).refused;
    assert!(
        refused[0].1.message.contains("symbolic link"),
        "{refused:?}"
    );
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
}

#[test]
fn a_pipe_in_a_files_place_is_refused_and_not_waited_for() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name,email\nAnn,ann@acme.example\n", "");
    let (directories, _) = open(&config(dir));
    let file = dir.join("contacts.csv");
    fs::remove_file(&file).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, mode).unwrap();
    let refused = again(&directories).refused;
    assert!(refused[0].1.message.contains("not a file"), "{refused:?}");
    assert_eq!(names(&directories.of("acme"), "").unwrap(), ["Ann"]);
}

#[test]
fn each_reason_why_a_file_is_not_read_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name,email\nAnn,ann@acme.example\n", "");
    let (directories, _) = open(&config(dir));
    let file = dir.join("contacts.csv");
    fs::remove_file(&file).unwrap();
    let mut told = Vec::new();
    for _ in 0..2 {
        told.extend(again(&directories).refused);
    }
    fs::create_dir(&file).unwrap();
    told.extend(again(&directories).refused);
    let told: Vec<&str> = told.iter().map(|(_, it)| it.message.as_str()).collect();
    assert_eq!(told, ["does not exist", "is not a file"]);
}

#[test]
fn a_file_is_read_again_unless_it_surely_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "name,email\nAnn,a@acme.example\n", "");
    let config = config(dir);
    let (directories, _) = open(&config);
    // The same size, as fast as possible: some of these are within one tick of the file system's clock.
    for round in 0..50 {
        let name = format!("A{:02}", round);
        let text = format!("name,email\n{name},a@acme.example\n");
        fs::write(dir.join("contacts.csv"), text).unwrap();
        assert_eq!(again(&directories).live.len(), 1, "{name}");
        assert_eq!(names(&directories.of("acme"), "").unwrap(), [name]);
    }
    let file = config.tenants[0].contacts.clone().unwrap();
    let about = fs::metadata(&file.path).unwrap();
    let stamp = Stamp::of(&about);
    assert!(read(dir, &file, None).unwrap().is_some());
    assert!(read(dir, &file, Some(stamp)).unwrap().is_none());
    let changed = SystemTime::UNIX_EPOCH
        + Duration::new(
            about.ctime().try_into().unwrap(),
            about.ctime_nsec().try_into().unwrap(),
        );
    assert!(!stamp.is_settled(changed));
    assert!(!stamp.is_settled(changed - Duration::from_secs(100)));
    assert!(!stamp.is_settled(changed + SETTLED));
    assert!(stamp.is_settled(changed + SETTLED + Duration::from_millis(1)));
    fs::rename(&file.path, dir.join("old")).unwrap();
    fs::write(&file.path, "name,email\nBob,b@acme.example\n").unwrap();
    assert!(read(dir, &file, Some(stamp)).unwrap().is_some());
}

#[test]
fn a_text_is_found_within_one_word_only() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(
        dir,
        "name,email\n\"Ann\nLee\",ann@acme.example\n",
        "[[assets]]\nname = \"db1\"\nhost = \"h1\"\n",
    );
    let (directories, _) = open(&config(dir));
    let acme = directories.of("acme");
    assert_eq!(names(&acme, "ann\nlee").unwrap(), ["Ann\nLee"]);
    for text in ["example\nann", "example\0ann", "\0"] {
        assert!(names(&acme, text).unwrap().is_empty(), "{text:?}");
    }
    for text in ["db1\nh1", "db1\0h1"] {
        let question = Query::Assets(text.into());
        let found = acme.answer(&question, 10).unwrap().unwrap();
        assert!(found.is_empty(), "{text:?}");
    }
}

#[test]
fn a_file_over_its_limits_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    write(dir, "email\na@b.example\n", "");
    let (directories, _) = open(&config(dir));
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
        let read = again(&directories);
        assert_eq!(read.live.len(), 1, "{words}: {:?}", read.refused.first());
        fs::write(dir.join("contacts.csv"), violated).unwrap();
        let refused = again(&directories).refused;
        assert_eq!(refused.len(), 1, "{words}");
        assert!(refused[0].1.message.contains(words), "{:?}", refused[0]);
    }
}
