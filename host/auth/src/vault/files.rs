//! The vault's files: replaced completely or not at all, and readable by this user only.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use postroom_files::Unread;

use super::{Stamp, VaultError};

/// The extension of a record's file.
pub(super) const SEALED: &str = ".sealed";
/// The extension of a record that is being written, or was never finished.
pub(super) const HALF_WRITTEN: &str = ".half-written";
const LOCK: &str = ".lock";
const SET_ASIDE: &str = ".set-aside";

pub(super) fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{SEALED}"))
}

pub(super) fn lock_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{LOCK}"))
}

pub(super) fn half_written_path(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}{HALF_WRITTEN}"))
}

/// Creates a folder and its parents (0700), durably. An existing folder is closed to others. It is refused if it belongs to
/// another user, who could control what a symbolic link points to.
pub(super) fn make_folder(folder: &Path) -> Result<(), VaultError> {
    let refused = |reason: String| VaultError::File {
        path: folder.to_owned(),
        reason,
    };
    let missing = match fs::symlink_metadata(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => true,
        Err(error) => return Err(failed(folder, &error)),
        Ok(found) if found.is_symlink() => {
            return Err(refused(
                "it is a symbolic link, which the vault's folder may not be; data_dir may be one"
                    .into(),
            ));
        }
        Ok(_) => false,
    };
    if missing {
        make_durably(folder).map_err(|error| failed(folder, &error))?;
    }
    let found = fs::symlink_metadata(folder).map_err(|error| failed(folder, &error))?;
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        let owner = found.uid();
        return Err(refused(format!(
            "it belongs to another user ({owner}) than the one that runs this ({us}): run it as that user, or chown the folder"
        )));
    }
    match found.permissions().mode() & 0o077 {
        0 => Ok(()),
        _ => fs::set_permissions(folder, Permissions::from_mode(0o700))
            .map_err(|error| failed(folder, &error)),
    }
}

/// Creates a folder with its missing parents, so that all of their names survive a power failure.
fn make_durably(folder: &Path) -> io::Result<()> {
    let missing = folder
        .ancestors()
        .take_while(|above| !above.exists())
        .count();
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    for above in folder.ancestors().skip(1).take(missing) {
        let above = match above.as_os_str().is_empty() {
            true => Path::new("."),
            false => above,
        };
        postroom_files::sync_folder(above)?;
    }
    Ok(())
}

/// Opens the lock file of an account, creating it if it does not exist. Lock files stay: removing one would let two
/// processes hold two locks of the same name.
pub(super) fn open_lock(path: &Path) -> Result<File, VaultError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| failed(path, &error))
}

/// Returns the whole file; `None` if it does not exist.
pub(super) fn read(path: &Path, largest: usize) -> Result<Option<Vec<u8>>, VaultError> {
    match postroom_files::read(path, largest as u64) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(Unread::Missing) => Ok(None),
        Err(Unread::TooLarge(_)) => Err(VaultError::Damaged {
            path: path.to_owned(),
            reason: format!("it is larger than {largest} bytes"),
        }),
        Err(unread) => Err(failed(path, &unread.into())),
    }
}

/// Replaces the account's file with `bytes`, durably. If the process is killed meanwhile, the old file remains. The account
/// is locked, so no other process uses the half-written file.
pub(super) fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), VaultError> {
    let half_written = half_written_path(folder, name);
    OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&half_written)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&half_written, path(folder, name)))
        .map_err(|error| failed(&path(folder, name), &error))?;
    sync_folder(folder)
}

/// Renames the account's file to an unused name.
pub(super) fn set_aside(folder: &Path, name: &str) -> Result<(), VaultError> {
    let from = path(folder, name);
    let taken = set_aside_paths(folder, name)?;
    let to = (1..)
        .map(|number| match number {
            1 => format!("{name}{SET_ASIDE}"),
            number => format!("{name}{SET_ASIDE}.{number}"),
        })
        .map(|file| folder.join(file))
        .find(|free| !taken.contains(free))
        .unwrap_or_else(|| folder.join(format!("{name}{SET_ASIDE}")));
    fs::rename(&from, &to).map_err(|error| failed(&from, &error))?;
    tracing::warn!(file = %from.display(), kept_as = %to.display(), "an unreadable file of the vault was set aside");
    Ok(())
}

/// Returns the files of an account that were set aside.
pub(super) fn set_aside_paths(folder: &Path, name: &str) -> Result<Vec<PathBuf>, VaultError> {
    let beginning = format!("{name}{SET_ASIDE}");
    Ok(file_names(folder)?
        .into_iter()
        .filter(|file| file.starts_with(&beginning))
        .map(|file| folder.join(file))
        .collect())
}

/// Removes a file. Returns false if there was none.
pub(super) fn remove(path: &Path) -> Result<bool, VaultError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(failed(path, &error)),
    }
}

/// Makes renames and removals durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), VaultError> {
    postroom_files::sync_folder(folder).map_err(|error| failed(folder, &error))
}

pub(super) fn stamp(path: &Path) -> Stamp {
    Stamp(fs::metadata(path).ok().map(|found| {
        let nanos = found
            .mtime()
            .wrapping_mul(1_000_000_000)
            .wrapping_add(found.mtime_nsec());
        (found.ino(), nanos, found.size())
    }))
}

/// Returns the file names with this extension, without the extension, in order.
pub(super) fn names(folder: &Path, ending: &str) -> Result<Vec<String>, VaultError> {
    let mut names: Vec<String> = file_names(folder)?
        .iter()
        .filter_map(|file| file.strip_suffix(ending).map(str::to_owned))
        .collect();
    names.sort();
    Ok(names)
}

fn file_names(folder: &Path) -> Result<Vec<String>, VaultError> {
    fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        })
        .map_err(|error| failed(folder, &error))
}

pub(super) fn failed(path: &Path, error: &io::Error) -> VaultError {
    VaultError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
