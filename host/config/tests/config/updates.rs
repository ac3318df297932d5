//! Saves files over a configuration in use, for each folder of `tests/cases/updates`: `files` are saved over those of `base`, those
//! named in `removed` are removed, and the result is compared with `expected`.

use std::fs;
use std::path::Path;

use postroom_config::{Config, PartName, Problems, Snapshot};

use crate::{compare, environment, folders};

#[test]
fn every_save_changes_what_it_should() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cases/updates");
    let (mut cases, mut wrong) = (0, Vec::new());
    for folder in folders(&root) {
        if folder.ends_with("base") {
            continue;
        }
        cases += 1;
        let room = tempfile::tempdir().unwrap();
        copy(&root.join("base"), room.path());
        let file = room.path().join("postroom.toml");
        let running = Config::load_in_part_with(&file, &environment).unwrap();
        if folder.join("files").exists() {
            copy(&folder.join("files"), room.path());
        }
        let removed = fs::read_to_string(folder.join("removed")).unwrap_or_default();
        for name in removed.lines() {
            fs::remove_file(room.path().join(name)).unwrap();
        }
        let found = shown(&running, room.path());
        wrong.extend(compare(&folder.join("expected"), &found));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases >= 10, "only {cases} cases found");
}

fn shown(running: &Config, dir: &Path) -> String {
    let dir = format!("{}/", dir.display());
    let text = match Snapshot::read(running) {
        Ok(saved) if saved.is_of(running) => "same texts\n".to_owned(),
        Ok(saved) => match saved.update(running, &environment) {
            Ok(update) => {
                let mut lines = Vec::new();
                let mut list = |what: &str, parts: &[PartName]| {
                    lines.extend(parts.iter().map(|part| format!("{what} {part}")));
                };
                list("added", &update.changes.added);
                list("removed", &update.changes.removed);
                list("changed", &update.changes.changed);
                let waits = update.changes.at_restart.iter();
                lines.extend(waits.map(|name| format!("at the next start: {name}")));
                lines.extend(
                    update
                        .refused
                        .iter()
                        .map(|it| format!("stays as it was: {it}")),
                );
                let disabled = update.config.misconfigured.iter();
                lines.extend(disabled.map(|it| format!("misconfigured: {:?}", it.mailbox)));
                if lines.is_empty() {
                    lines.push("nothing differs".to_owned());
                }
                lines.join("\n") + "\n"
            }
            Err(problems) => refused(&problems),
        },
        Err(problems) => refused(&problems),
    };
    text.replace(&dir, "")
}

fn refused(problems: &Problems) -> String {
    let lines: Vec<String> = problems.iter().map(|it| format!("refused: {it}")).collect();
    lines.join("\n") + "\n"
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a folder of a case") {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => {
                fs::create_dir_all(&target).expect("a folder");
                copy(&path, &target);
            }
            false => drop(fs::copy(&path, &target).expect("a copy")),
        }
    }
}
