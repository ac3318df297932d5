//! The mails that are read: those of the public corpora in `target/corpora`, and the parser's cases.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use bytes::Bytes;

/// The corpora with the file endings of their mails. Without an ending, all files but [`NO_MAILS`] are mails.
const CORPORA: &[(&str, &[&str])] = &[
    ("bounced", &["eml"]),
    ("bounceparser", &["msg"]),
    ("flufl", &["txt"]),
    ("horde", &["txt"]),
    ("mail-parser", &["eml"]),
    ("notmuch", &[]),
    ("python", &["txt"]),
    ("request-tracker", &[]),
    ("rspamd", &["eml"]),
    ("talon", &["eml"]),
];

/// Files of the corpora that are no mails.
const NO_MAILS: &[&str] = &["VERSION", "README", "COPYING", "dir"];

/// A mail, with the name that `accepted.toml` and the output use.
pub struct Mail {
    /// `CORPUS/PATH`; `cases/NAME` for a case of the parser.
    pub name: String,
    pub path: PathBuf,
    pub bytes: Bytes,
}

/// Returns every mail, sorted by name. Fails if a corpus is missing.
pub fn collect(root: &Path) -> Result<Vec<Mail>> {
    let mut mails = Vec::new();
    for (corpus, endings) in CORPORA {
        let folder = root.join("target/corpora").join(corpus);
        if !folder.is_dir() {
            bail!(
                "{} is missing; scripts/corpora downloads it",
                folder.display()
            );
        }
        let before = mails.len();
        walk(&folder, &mut |path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let ending = path.extension().unwrap_or_default().to_string_lossy();
            let is_mail = match endings {
                [] => !NO_MAILS.contains(&name.as_ref()),
                endings => endings.contains(&ending.as_ref()),
            };
            if is_mail {
                let below = path.strip_prefix(&folder).unwrap_or(path).display();
                mails.push(read(format!("{corpus}/{below}"), path)?);
            }
            Ok(())
        })?;
        if mails.len() == before {
            bail!("{} holds no mail", folder.display());
        }
    }
    for entry in std::fs::read_dir(root.join("tests/cases/mail"))? {
        let folder = entry?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        mails.push(read(format!("cases/{name}"), &folder.join("mail.eml"))?);
    }
    mails.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(mails)
}

fn read(name: String, path: &Path) -> Result<Mail> {
    let bytes = std::fs::read(path).with_context(|| path.display().to_string())?;
    Ok(Mail {
        name,
        path: path.canonicalize()?,
        bytes: bytes.into(),
    })
}

fn walk(folder: &Path, found: &mut dyn FnMut(&Path) -> Result<()>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), found)?;
        } else if entry.file_type()?.is_file() {
            found(&entry.path())?;
        }
    }
    Ok(())
}
