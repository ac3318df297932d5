//! `postroom check --diff`: what saving these files changes, compared with the configuration that the service applied last.

use std::path::Path;

use postroom_config::{Config, PartName, Snapshot};
use serde_json::json;

use super::{documents, files};
use crate::commands::{open_listings, print};

/// Prints the difference, without applying anything.
pub fn diff(file: &Path, json: bool) -> anyhow::Result<()> {
    let reader = open_listings(file)?;
    let Some(applied) = reader.configurations(Some(1))?.into_iter().next() else {
        eprintln!("no configuration was applied yet: everything is new");
        return Ok(());
    };
    let environment = |name: &str| std::env::var_os(name);
    let number = applied.number;
    let documents = documents(file, &files(&*reader, number)?);
    let compared = Config::load_documents(file, &documents, &environment)
        .and_then(|before| Snapshot::read(&before)?.update(&before, &environment));
    let update = match compared {
        Ok(update) => update,
        Err(problems) => {
            eprintln!("nothing of these files would be applied:\n\n{problems}");
            return Ok(());
        }
    };
    let changes = &update.changes;
    for (change, mark, parts) in [
        ("added", "+", &changes.added),
        ("removed", "-", &changes.removed),
        ("changed", "~", &changes.changed),
    ] {
        for part in parts {
            print(match json {
                true => line(change, part),
                false => format!("{mark} {part}"),
            })?;
        }
    }
    for setting in &changes.at_restart {
        print(match json {
            true => json!({ "level": "change", "change": "at-restart", "kind": "setting", "name": setting })
                .to_string(),
            false => format!("~ {setting}, when postroom starts again"),
        })?;
    }
    for problem in &update.refused {
        eprintln!(
            "{} would stay as it is, because of:\n{}\n",
            problem.file,
            problem.as_error()
        );
    }
    if !json {
        let what = match changes.is_empty() {
            true => "no change",
            false => "compared",
        };
        eprintln!(
            "{what} to configuration {number}, applied {}",
            applied.applied
        );
    }
    Ok(())
}

fn line(change: &str, part: &PartName) -> String {
    json!({ "level": "change", "change": change, "kind": part.kind, "name": part.name }).to_string()
}
