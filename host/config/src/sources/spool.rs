//! Spool mailboxes: a folder of mail files on this machine.

use std::path::{Path, PathBuf};

use postroom_core::After;

use super::{CheckedTarget, Identity, Place, Protocol, SourceConfig, imap};
use crate::reader::Section;

pub static PROTOCOL: Protocol = Protocol {
    name: "spool",
    keys: &["path"],
    read,
    after: || (After::Move("done".into()), After::Move("failed".into())),
    marks: false,
    moves: true,
    check_target,
    need: None,
    server: None,
};

fn read(section: &Section, _place: &Place) -> Option<SourceConfig> {
    section.misplaced(
        imap::PROTOCOL.keys,
        "has no meaning for a spool mailbox",
        "remove it, or set protocol = \"imap\"",
    );
    section.misplaced(
        &["base_url"],
        "has no meaning for a spool mailbox",
        "remove it, or set protocol = \"graph\"",
    );
    let path = section
        .required("path", "add path = \"spool\", the folder of the mails")?
        .path()?;
    Some(SourceConfig::Spool { path })
}

fn check_target(_source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    match target.starts_with('.') || target.contains(['/', '\\']) {
        true => Err((
            format!("\"{target}\" is not a folder within the spool"),
            "name a folder directly below the spool's path, such as \"move:done\"",
        )),
        false => Ok(()),
    }
}

/// Returns the identity that no two mailboxes may share: the folder.
pub fn identity(path: &Path) -> Identity {
    let normal: PathBuf = path.components().collect();
    Identity {
        key: vec![normal.to_string_lossy().into_owned()],
        what: format!("the folder {} is read", path.display()),
        help: "give each spool mailbox its own folder",
    }
}
