//! The folder of compiled code: closed to other users, and ignored when damaged.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use postroom_sandbox::{
    Grants, Limits, NoLookup, RuleSource, Sandbox, SandboxConfig, SandboxError,
};

use crate::guests::rule;
use crate::support::{Shelf, context, mail};

fn open(folder: &Path) -> Result<Sandbox, SandboxError> {
    Sandbox::new(SandboxConfig {
        cache_dir: Some(folder.to_owned()),
        ..SandboxConfig::default()
    })
}

fn passes(folder: &Path, bytes: &[u8]) {
    let source = RuleSource::Component {
        name: "pass.wasm",
        bytes,
    };
    let rule = open(folder)
        .unwrap()
        .load(source, "{}", &Grants::default(), &Limits::default())
        .unwrap();
    let run = rule.decide(
        &mail(),
        &context(),
        Arc::new(Shelf::default()),
        Arc::new(NoLookup),
    );
    assert_eq!(run.verdict, Ok(None));
}

#[test]
fn damaged_code_is_compiled_again() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("made/on/first/use");
    let bytes = rule("", "(i32.const 16)");
    passes(&folder, &bytes);
    let stored: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    let [Ok(entry)] = stored.as_slice() else {
        panic!("{stored:?}");
    };
    let whole = fs::read(entry.path()).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for damaged in [&flipped[..], &whole[..whole.len() / 2], b""] {
        fs::write(entry.path(), damaged).unwrap();
        passes(&folder, &bytes);
        assert_eq!(fs::read(entry.path()).unwrap().len(), whole.len());
    }
}

#[test]
fn a_folder_open_to_others_is_refused() {
    let place = tempfile::tempdir().unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o770)).unwrap();
    let refused = open(place.path());
    assert!(matches!(refused, Err(SandboxError::CacheNotOurs { .. })));
    let elsewhere = place.path().join("link");
    std::os::unix::fs::symlink(place.path(), &elsewhere).unwrap();
    assert!(open(&elsewhere).is_err());
}

#[test]
fn old_entries_go() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("cache");
    open(&folder).unwrap();
    for number in 0..100 {
        fs::write(folder.join(format!("{number}.component")), b"").unwrap();
    }
    open(&folder).unwrap();
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 64);
}
