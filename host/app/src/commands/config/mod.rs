//! `postroom config`: lists, shows and returns to the configurations that the service applied.

mod diff;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, fchown};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use postroom_config::{Config, Documents};
use postroom_files::Unread;
use postroom_store::{AppliedConfiguration, Listings};
use serde_json::{Value, json};

use super::{open_listings, print, table};

pub use diff::diff;

/// The default limit of a listing for people; `--limit` and `--json` exceed it.
const SCREENFUL: usize = 50;
/// The largest file that is read, as for a configuration.
const FILE_BYTES: u64 = 16 << 20;
/// Appended to the name of a file whose text would otherwise be lost, which then also begins with a dot: no hidden file is included.
const ASIDE: &str = "unapplied";
/// Appended in the same way to the name of a file that an earlier configuration did not have.
const REMOVED: &str = "removed";

pub fn list(file: &Path, limit: Option<usize>, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(file)?;
    let kept = reader.configurations(limit.or((!json).then_some(SCREENFUL)))?;
    if json {
        for applied in &kept {
            print(json!({
                "configuration": applied.number,
                "applied": applied.applied,
                "why": described(applied),
            }))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = kept.iter().map(|applied| {
        vec![
            applied.number.to_string(),
            applied.applied.clone(),
            in_words(&described(applied)),
        ]
    });
    table::print(&["configuration", "applied", "changes"], rows)?;
    Ok(ExitCode::SUCCESS)
}

pub fn show(file: &Path, number: Option<u64>, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(file)?;
    let number = match number {
        Some(number) => number,
        None => newest(&*reader)?,
    };
    let files = files(&*reader, number)?;
    if json {
        print(json!({ "configuration": number, "files": files }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, text) in files {
        print(format!("# {name}\n{}", text.trim_end()))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes the files of an earlier configuration. A running service applies them as it applies every save.
pub fn back(file: &Path, number: Option<u64>) -> anyhow::Result<ExitCode> {
    let reader = open_listings(file)?;
    let newest = newest(&*reader)?;
    let applied = files(&*reader, newest)?;
    let dir = folder(file);
    let dir = dir.strip_prefix(".").unwrap_or(dir);
    let number = match number {
        Some(number) => number,
        // A mistake that was never applied is undone first.
        None if differs(dir, &applied)? => newest,
        None if newest > 1 => newest - 1,
        None => bail!("there is no configuration before the first"),
    };
    let wanted = files(&*reader, number)?;
    let environment = |name: &str| std::env::var_os(name);
    if let Err(problems) = Config::load_documents(file, &documents(file, &wanted), &environment) {
        eprintln!("configuration {number} has problems now:\n\n{problems}\n");
    }
    let mut changed = false;
    for (name, text) in &wanted {
        let path = dir.join(name);
        let now = read(&path)?;
        if now.as_deref() == Some(text.as_str()) {
            continue;
        }
        if let Some(now) = &now
            && applied.get(name) != Some(now)
        {
            let aside = set_aside(&path, ASIDE);
            replace(&aside, now)?;
            print(format!(
                "{name}: what was never applied is in {}",
                aside.display()
            ))?;
        }
        replace(&path, text)?;
        print(format!("{name}: as in configuration {number}"))?;
        changed = true;
    }
    for name in applied.keys().filter(|name| !wanted.contains_key(*name)) {
        let path = dir.join(name);
        let aside = set_aside(&path, REMOVED);
        match fs::rename(&path, &aside) {
            Ok(()) => {
                print(format!("{name}: now {}", aside.display()))?;
                changed = true;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        }
    }
    print(match changed {
        true => "A running service applies them at once.".to_owned(),
        false => format!("nothing to do: the files are as in configuration {number}"),
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Returns the texts of an applied configuration, as if they were read from its files now.
fn documents(file: &Path, files: &BTreeMap<String, String>) -> Documents {
    let mut documents = Documents::default();
    let dir = folder(file);
    let main = file.file_name().map(|it| it.to_string_lossy().into_owned());
    for (name, text) in files {
        // The main file keeps the name by which the user called it.
        let path = match Some(name) == main.as_ref() {
            true => file.to_owned(),
            false => dir.strip_prefix(".").unwrap_or(dir).join(name),
        };
        documents.insert(path, text);
    }
    documents
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn newest(reader: &dyn Listings) -> anyhow::Result<u64> {
    let newest = reader.configurations(Some(1))?;
    let newest = newest.first().map(|it| it.number);
    newest.context("no configuration was applied here yet: `postroom run` records it")
}

fn files(reader: &dyn Listings, number: u64) -> anyhow::Result<BTreeMap<String, String>> {
    reader.configuration_files(number)?.with_context(|| {
        format!("configuration {number} is not kept; `postroom config list` shows the kept ones")
    })
}

fn read(path: &Path) -> anyhow::Result<Option<String>> {
    match postroom_files::read(path, FILE_BYTES) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(Unread::Missing) => Ok(None),
        Err(unread) => bail!("{}: {unread}", path.display()),
    }
}

/// Writes a whole file, so that a service never reads half of it.
fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    // A link stays one: its file is written.
    let real = fs::canonicalize(path);
    let path = real.as_deref().unwrap_or(path);
    let written = || {
        let dir = folder(path);
        fs::create_dir_all(dir)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // A name with a leading dot is never included.
        let fresh = dir.join(format!(".{name}.postroom-new"));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        if let Ok(before) = fs::metadata(path) {
            // The service, which may run as another user, must be able to read it as before.
            fchown(&file, Some(before.uid()), Some(before.gid()))?;
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    written().with_context(|| path.display().to_string())
}

/// Returns a free name beside a file.
fn set_aside(path: &Path, suffix: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbered = (2..).map(|n| format!(".{name}.{suffix}.{n}"));
    let mut names = std::iter::once(format!(".{name}.{suffix}")).chain(numbered);
    let free = names.find(|name| !path.with_file_name(name).exists());
    path.with_file_name(free.unwrap_or_default())
}

/// Returns whether a file of a configuration has another text now.
fn differs(dir: &Path, files: &BTreeMap<String, String>) -> anyhow::Result<bool> {
    for (name, text) in files {
        if read(&dir.join(name))?.as_ref() != Some(text) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn described(applied: &AppliedConfiguration) -> Value {
    serde_json::from_str(&applied.changes_json).unwrap_or(Value::Null)
}

/// Returns a recorded description for people.
fn in_words(described: &Value) -> String {
    let changes = &described["changes"];
    let list = |key: &str, mark: &str| -> Vec<String> {
        let parts = changes[key].as_array().into_iter().flatten();
        parts
            .map(|part| {
                let text = |key: &str| part[key].as_str().unwrap_or_default().to_owned();
                format!("{mark} {} {}", text("kind"), text("name"))
            })
            .collect()
    };
    let mut lines = list("added", "+");
    lines.extend(list("removed", "-"));
    lines.extend(list("changed", "~"));
    match lines.is_empty() {
        true => described["cause"].as_str().unwrap_or_default().to_owned(),
        false => lines.join("\n"),
    }
}
