//! Reads `[vault]`: the source of the key of the stored tokens, which is never in the folder of the tokens.

use std::path::{Component, Path, PathBuf};

use postroom_auth::vault::KeySource;

use super::problem::Ready;
use super::reader::{Item, Part, Section, TomlReader};

const CURE: &str =
    "write { file = \"path\" }, { env = \"NAME\" } or { keyring = \"NAME\" }, or remove [vault]";
/// The path below the user's or the system's configuration folder.
const DEFAULT_FILE: &str = "postroom/vault.key";
const SYSTEM_FOLDER: &str = "/etc";

/// Reads the key's source. `data_dir` is `None` if it could not be read.
pub fn read(root: &Section, data_dir: Option<&Path>) -> Option<Ready<KeySource>> {
    let Some(item) = root.item("vault") else {
        let file = default_file(root.reader);
        if let Some(data_dir) = data_dir
            && lies_in(&file, data_dir)
        {
            let at = root.item("data_dir").map_or(0, |item| item.at);
            root.reader.problem(
                Part::Whole,
                at,
                "data_dir",
                format!("holds the vault's key, {}: a copy of the folder would open the vault", file.display()),
                "name another folder, or add [vault] key = { file = \"path\" } with a path outside of it",
            );
            return None;
        }
        return Some(Ok(KeySource::File(file)));
    };
    let section = item.section("the vault")?;
    let key = section
        .required("key", "add key = { file = \"path\" }, or remove [vault]")
        .and_then(|item| read_key(&item, data_dir));
    section.finish();
    key
}

/// Returns the folder of the installations' files: next to the key's file, or to its default.
pub fn installations(key: Option<&Ready<KeySource>>, reader: &TomlReader) -> PathBuf {
    let file = match key {
        Some(Ok(KeySource::File(file))) => file.clone(),
        _ => default_file(reader),
    };
    file.with_file_name("installations")
}

fn read_key(item: &Item, data_dir: Option<&Path>) -> Option<Ready<KeySource>> {
    if !item.value().is_table() {
        item.wrong_type("{ file = … }, { env = … } or { keyring = … }", CURE);
        return None;
    }
    let section = item.section("the vault's key")?;
    let given: Vec<(&str, Item)> = ["file", "env", "keyring"]
        .into_iter()
        .filter_map(|key| Some((key, section.item(key)?)))
        .collect();
    let source = match given.as_slice() {
        [("file", file)] => read_file(file, data_dir).map(Ok),
        [("env", name)] => {
            let key = name.secret_of_environment();
            key.map(|key| key.map(KeySource::Given))
        }
        [(_, entry)] => entry.text().map(|entry| {
            Ok(KeySource::Keyring {
                entry: entry.into(),
            })
        }),
        [] => {
            item.problem("names no place", CURE);
            None
        }
        [(first, _), (_, second), ..] => {
            second.problem(
                format!("cannot be combined with {first}"),
                "keep one of file, env and keyring",
            );
            None
        }
    };
    section.finish();
    source
}

fn read_file(item: &Item, data_dir: Option<&Path>) -> Option<KeySource> {
    let file = item.path()?;
    if let Some(data_dir) = data_dir
        && lies_in(&file, data_dir)
    {
        item.problem(
            "is in data_dir: a copy of the folder would open the vault",
            "name a file outside of data_dir",
        );
        return None;
    }
    Some(KeySource::File(file))
}

/// Returns the default file, by the XDG Base Directory Specification, which ignores relative paths.
fn default_file(reader: &TomlReader) -> PathBuf {
    let folder = |name: &str| {
        let path = PathBuf::from((reader.environment)(name)?);
        path.is_absolute().then_some(path)
    };
    folder("XDG_CONFIG_HOME")
        .or_else(|| Some(folder("HOME")?.join(".config")))
        .unwrap_or_else(|| SYSTEM_FOLDER.into())
        .join(DEFAULT_FILE)
}

fn lies_in(file: &Path, folder: &Path) -> bool {
    resolved(file).starts_with(resolved(folder))
}

/// Resolves a path, following symbolic links as far as the path exists.
fn resolved(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut real = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                real.pop();
            }
            part => {
                real.push(part);
                if let Ok(found) = real.canonicalize() {
                    real = found;
                }
            }
        }
    }
    real
}
