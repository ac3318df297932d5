//! The files of a spool: lists the mails among them, reads them, and puts them away.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use postroom_core::{Position, RawMessage};
use postroom_files::Unread;
use postroom_net::Step;
use serde::{Deserialize, Serialize};

use crate::{After, BEGINNING_BYTES, SourceError};

/// A file that is a mail. `path` is relative to the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub path: PathBuf,
    pub identity: Identity,
}

/// The identity of a file: it differs from that of a later file with the same name, changes with each write, and survives a
/// move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    pub size: u64,
    /// Since 1970.
    modified_nanos: i64,
    /// Since 1970, if the file system records it. Inodes are reused, and modification times are copied along with files.
    born_nanos: Option<i64>,
}

/// A position in its stored form.
#[derive(Serialize, Deserialize)]
struct Place {
    /// The path within the spool, see [`escaped`].
    spool: String,
    file: Identity,
}

#[derive(Debug, Default)]
pub(super) struct Listing {
    /// In the order of arrival, see [`Found::arrival`].
    pub found: Vec<Found>,
    /// Whether there are files that may still be growing.
    pub unsettled: bool,
}

impl Found {
    pub fn position(&self) -> Position {
        let place = Place {
            spool: escaped(&self.path),
            file: self.identity,
        };
        Position::OnServer(serde_json::json!(place).to_string())
    }

    /// The order of arrival: the time of the last write, which is when a mail was complete; a copy that keeps times keeps its place.
    /// Files of one moment are ordered by name, whichever folder of a maildir they are in.
    fn arrival(&self) -> (i64, Option<&OsStr>, &Path) {
        let name = self.path.file_name();
        (self.identity.modified_nanos, name, &self.path)
    }

    /// Returns the mail at a position; `None` if it is not a position in a spool.
    pub fn at(position: &Position) -> Option<Self> {
        let place: Place = serde_json::from_str(position.on_server()?).ok()?;
        Some(Self {
            path: unescaped(&place.spool)?,
            identity: place.file,
        })
    }
}

/// Returns what distinguishes the file at a position from every other with the same bytes: another file, or the same one
/// written again. `None` for a position outside a spool. Neither name nor device is part of it: the name changes when a
/// mail reader marks a mail of a maildir, the device when the machine restarts.
pub fn file_identity(position: &Position) -> Option<String> {
    let Identity {
        device: _,
        inode,
        size: _,
        modified_nanos,
        born_nanos,
    } = Found::at(position)?.identity;
    Some(format!(
        "{inode}/{modified_nanos}/{}",
        born_nanos.unwrap_or_default()
    ))
}

impl Identity {
    fn of(metadata: &Metadata) -> Self {
        let born = metadata
            .created()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            modified_nanos: metadata
                .mtime()
                .saturating_mul(1_000_000_000)
                .saturating_add(metadata.mtime_nsec()),
            born_nanos: born.and_then(|age| i64::try_from(age.as_nanos()).ok()),
        }
    }
}

/// The subfolders of a maildir that contain mail; files appear in them by a rename, complete.
const MAILDIR: [&str; 2] = ["new", "cur"];

pub(super) fn create(root: &Path) -> Result<(), SourceError> {
    fs::create_dir_all(root).map_err(|source| at(root, source))
}

/// Creates a file that is not a mail, and removes it.
pub(super) fn try_to_write(root: &Path, name: &str) -> Result<(), SourceError> {
    let path = root.join(name);
    File::create_new(&path)
        .and_then(|_| fs::remove_file(&path))
        .map_err(|source| at(&path, source))
}

/// Returns the folders in which mail may appear.
pub(super) fn folders(root: &Path) -> Vec<PathBuf> {
    let mut folders = vec![root.to_owned()];
    folders.extend(
        MAILDIR
            .iter()
            .map(|name| root.join(name))
            .filter(|path| is_real_folder(path)),
    );
    folders
}

/// Lists the mails of a spool. Symbolic links are not mails, since they could point anywhere.
pub(super) fn list(root: &Path, settle: Duration) -> Result<Listing, SourceError> {
    let mut listing = Listing::default();
    for folder in folders(root) {
        let maildir = folder != root;
        let entries = fs::read_dir(&folder).map_err(|source| at(&folder, source))?;
        for entry in entries {
            let entry = entry.map_err(|source| at(&folder, source))?;
            let name = entry.file_name();
            if !is_mail_name(&name, maildir) {
                continue;
            }
            // `metadata` of an entry does not follow symbolic links.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            if !metadata.is_file() {
                continue;
            }
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            // A time in the future means a wrong clock, not a file that is being written.
            let settled = modified.elapsed().map_or(true, |age| age >= settle);
            if !maildir && !settled {
                listing.unsettled = true;
                continue;
            }
            let path = match folder.file_name().filter(|_| maildir) {
                Some(parent) => Path::new(parent).join(&name),
                None => PathBuf::from(&name),
            };
            listing.found.push(Found {
                path,
                identity: Identity::of(&metadata),
            });
        }
    }
    listing
        .found
        .sort_unstable_by(|a, b| a.arrival().cmp(&b.arrival()));
    Ok(listing)
}

/// Reads a mail; returns `None` if it is gone, was written to, or was replaced by another file since it was listed.
pub(super) fn read(
    root: &Path,
    found: &Found,
    raw_bytes: u64,
) -> Result<Option<RawMessage>, SourceError> {
    let path = root.join(&found.path);
    let read = || -> io::Result<Option<RawMessage>> {
        let file = match postroom_files::open(&path) {
            // Something else has taken its name.
            Err(Unread::NoFile) => return Ok(None),
            opened => opened?,
        };
        let metadata = file.metadata()?;
        if Identity::of(&metadata) != found.identity {
            return Ok(None);
        }
        let (bytes, size) = read_limited(&file, metadata.len(), raw_bytes)?;
        // What is journalled must be what the position names.
        if Identity::of(&file.metadata()?) != found.identity {
            return Ok(None);
        }
        Ok(Some(RawMessage {
            position: found.position(),
            bytes: bytes.into(),
            size,
            old: false,
        }))
    };
    match read() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map_err(|source| at(&path, source)),
    }
}

/// Reads all of a file, or its beginning if it is over the limit; also returns its true size.
pub(crate) fn read_limited(
    file: impl Read,
    stated: u64,
    raw_bytes: u64,
) -> io::Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::new();
    if stated <= raw_bytes {
        bytes.reserve_exact(usize::try_from(stated).unwrap_or(0));
        file.take(raw_bytes.saturating_add(1))
            .read_to_end(&mut bytes)?;
        let size = bytes.len() as u64;
        if size <= raw_bytes {
            return Ok((bytes, size));
        }
        // It grew over the limit while it was read.
        bytes.truncate(BEGINNING_BYTES as usize);
        return Ok((bytes, size));
    }
    file.take(BEGINNING_BYTES).read_to_end(&mut bytes)?;
    Ok((bytes, stated))
}

/// Puts a mail away once it is decided. The file may be gone; a file that has taken its name stays.
///
/// `spare` is a name for mails that no other file in the spool has.
pub(super) fn put_away(
    root: &Path,
    found: &Found,
    after: &After,
    spare: &str,
) -> Result<(), SourceError> {
    let from = root.join(&found.path);
    let target = match after {
        After::Keep | After::Seen => return Ok(()),
        After::Delete => None,
        After::Move(target) => Some(folder(root, target)?),
    };
    if !is(&from, found)? {
        return Ok(());
    }
    // Another file may take the name between this check and the move. A moved file keeps its identity, so it is checked
    // again. Until then a file to be deleted has the name of a mail, so that it is found again whatever happens.
    let beside = from.parent().unwrap_or(root);
    let spared = |name: &Path| free_name(beside, name.as_os_str()).map_err(|e| at(beside, e));
    let to = match &target {
        Some(folder) => free_name(folder, found.path.file_name().unwrap_or_default())
            .map_err(|error| at(folder, error))?,
        None => spared(Path::new(spare))?,
    };
    match fs::rename(&from, &to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| at(&from, error))?,
    }
    match (is(&to, found)?, target) {
        (true, Some(_)) => Ok(()),
        (true, None) => fs::remove_file(&to).map_err(|error| at(&to, error)),
        (false, None) => Ok(()),
        (false, Some(_)) => {
            let back = spared(Path::new(spare))?;
            fs::rename(&to, back).map_err(|error| at(&to, error))
        }
    }
}

/// Returns whether the file at a path is this mail.
fn is(path: &Path, found: &Found) -> Result<bool, SourceError> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Identity::of(&metadata) == found.identity),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(at(path, error)),
    }
}

/// Returns a folder in the spool to put mails into, created if missing.
fn folder(root: &Path, name: &str) -> Result<PathBuf, SourceError> {
    let folder = inside(root, Path::new(name)).ok_or_else(|| SourceError::Unusable {
        step: Step::Acknowledge,
        reason: format!("{name} is not a folder within the spool"),
    })?;
    postroom_files::make_private_folder(&folder).map_err(|error| at(&folder, error))?;
    if !is_real_folder(&folder) {
        return Err(at(&folder, io::ErrorKind::NotADirectory.into()));
    }
    Ok(folder)
}

/// Returns whether a name is that of a mail: only `.eml` in the folder itself, everything in a maildir's; never hidden or
/// half-written files.
pub(crate) fn is_mail_name(name: &OsStr, maildir: bool) -> bool {
    let extension = Path::new(name).extension();
    let is = |wanted: &str| extension.is_some_and(|e| e.eq_ignore_ascii_case(wanted));
    !name.as_bytes().starts_with(b".") && if maildir { !is("tmp") } else { is("eml") }
}

fn is_real_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

fn inside(root: &Path, relative: &Path) -> Option<PathBuf> {
    let plain = relative
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    (plain && !relative.as_os_str().is_empty()).then(|| root.join(relative))
}

/// Returns `name`, or `name` with a number if that is taken. Only this process puts files there.
fn free_name(folder: &Path, name: &OsStr) -> io::Result<PathBuf> {
    let plain = folder.join(name);
    if !plain.try_exists()? {
        return Ok(plain);
    }
    let path = Path::new(name);
    let stem = path.file_stem().unwrap_or_default();
    for number in 1u32.. {
        let mut numbered = stem.to_owned();
        numbered.push(format!("-{number}"));
        if let Some(extension) = path.extension() {
            numbered.push(".");
            numbered.push(extension);
        }
        let candidate = folder.join(numbered);
        if !candidate.try_exists()? {
            return Ok(candidate);
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Returns a path as text that can be converted back: `%XX` represents a percent sign and everything that is not printable
/// UTF-8.
fn escaped(path: &Path) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    let _ = write!(text, "%{byte:02X}");
                }
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            let _ = write!(text, "%{byte:02X}");
        }
    }
    text
}

/// Returns the path that a text represents; `None` if it leads out of the spool.
fn unescaped(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok())
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[2..] } else { after };
    }
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    inside(Path::new(""), &path)
}

fn at(path: &Path, source: io::Error) -> SourceError {
    SourceError::File {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_can_be_a_position() {
        for name in [
            &b"new/1.M2.host:2,S"[..],
            b"50%.eml",
            b"%41.eml",
            b"\xff\xfe.eml",
            b"a\nb.eml",
            "gr\u{fc}n.eml".as_bytes(),
        ] {
            let path = Path::new(OsStr::from_bytes(name));
            assert_eq!(unescaped(&escaped(path)).unwrap(), path);
        }
        for outside in ["../x.eml", "/etc/passwd", "", "a/../../b", "%2e%2e/x"] {
            assert_eq!(unescaped(outside), None, "{outside}");
        }
    }

    #[test]
    fn names() {
        for (name, plain, maildir) in [
            ("a.eml", true, true),
            ("A.EML", true, true),
            ("a.eml.tmp", false, false),
            (".a.eml", false, false),
            ("1.M2.host:2,", false, true),
            ("notes.txt", false, true),
        ] {
            assert_eq!(is_mail_name(name.as_ref(), false), plain, "{name}");
            assert_eq!(is_mail_name(name.as_ref(), true), maildir, "{name}");
        }
    }
}
