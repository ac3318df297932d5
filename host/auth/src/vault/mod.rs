//! The vault: what was received from authorization servers, encrypted, one file per account, durable before use.

mod files;
mod key;
mod keyring;
mod record;
mod sealed;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub use key::{KeySource, VaultKey};
pub use record::{Access, Cause, Failure, Record};

use crate::Account;

/// The open vault: the folder `vault` below `data_dir`, and the key. Any number of processes may have it open.
#[derive(Debug)]
pub struct Vault {
    folder: PathBuf,
    key: VaultKey,
}

/// One account's file and the right to replace it: no other process refreshes this account meanwhile. Dropping it releases
/// the account.
#[derive(Debug)]
pub struct Held {
    folder: PathBuf,
    key: VaultKey,
    account: Account,
    name: String,
    /// The kernel releases the lock with the file, however the process ends.
    _lock: File,
}

/// Why the vault cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The file was encrypted with another key.
    #[error("{} was encrypted with another key ({written_under}) than the current one ({in_use})", path.display())]
    OtherKey {
        path: PathBuf,
        written_under: String,
        in_use: String,
    },
    /// The file is truncated, modified, or not a vault file.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// Another process holds the lock for longer than a token request takes.
    #[error("{}: another process has held its lock for too long", path.display())]
    Busy { path: PathBuf },
    /// The key is unavailable or invalid.
    #[error("the vault's key: {reason}")]
    Key { reason: String },
}

/// Identifies the version of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(pub Option<(u64, i64, u64)>);

/// The vault's folder below `data_dir`.
const FOLDER: &str = "vault";
/// How often a lock that is held elsewhere is tried again.
const LOCK_RETRY: Duration = Duration::from_millis(10);

impl Vault {
    /// Whether records are kept below `data_dir`. Creates nothing.
    pub fn is_used(data_dir: &Path) -> Result<bool, VaultError> {
        let folder = data_dir.join(FOLDER);
        if !folder.exists() {
            return Ok(false);
        }
        files::names(&folder, files::SEALED).map(|names| !names.is_empty())
    }

    /// Opens the vault, creating its folder (0700) if it does not exist. Reads no record.
    pub fn open(data_dir: &Path, key: VaultKey) -> Result<Self, VaultError> {
        let vault = Self {
            folder: data_dir.join(FOLDER),
            key,
        };
        files::make_folder(&vault.folder)?;
        if let Err(error) = vault.clear_leftovers() {
            // It does no harm until its account is written.
            tracing::warn!(%error, "a half-written file of the vault cannot be removed");
        }
        Ok(vault)
    }

    /// Returns the record of an account, if there is one.
    pub fn read(&self, account: &Account) -> Result<Option<Record>, VaultError> {
        read(&self.folder, &self.key, &name(account))
    }

    /// Locks the account for a change. Waits at most `wait` for another process or task that holds it.
    pub fn hold(&self, account: &Account, wait: Duration) -> Result<Held, VaultError> {
        let name = name(account);
        let path = files::lock_path(&self.folder, &name);
        let lock = files::open_lock(&path)?;
        let deadline = Instant::now() + wait;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_RETRY.min(wait));
                }
                Err(TryLockError::WouldBlock) => return Err(VaultError::Busy { path }),
                Err(TryLockError::Error(error)) => return Err(files::failed(&path, &error)),
            }
        }
        Ok(Held {
            folder: self.folder.clone(),
            key: self.key.clone(),
            account: account.clone(),
            name,
            _lock: lock,
        })
    }

    /// Returns the current version of the account's file; cheap.
    pub fn stamp(&self, account: &Account) -> Stamp {
        files::stamp(&files::path(&self.folder, &name(account)))
    }

    /// Removes half-written files of killed processes. Those of a process that is still running stay.
    fn clear_leftovers(&self) -> Result<(), VaultError> {
        for name in files::names(&self.folder, files::HALF_WRITTEN)? {
            let lock = files::open_lock(&files::lock_path(&self.folder, &name))?;
            if lock.try_lock().is_ok() {
                let leftover = files::half_written_path(&self.folder, &name);
                files::remove(&leftover)?;
            }
        }
        Ok(())
    }
}

impl Held {
    /// Returns the current record of the account.
    pub fn read(&self) -> Result<Option<Record>, VaultError> {
        read(&self.folder, &self.key, &self.name)
    }

    /// Replaces the record, which is durable when this returns. An unreadable file is set aside, as `NAME.set-aside`.
    pub fn write(&self, record: &Record) -> Result<(), VaultError> {
        debug_assert_eq!(record.account, self.account);
        let sealed = sealed::seal(&self.key, &self.name, record)?;
        let path = files::path(&self.folder, &self.name);
        if sealed.len() > sealed::LARGEST_BYTES {
            return Err(VaultError::File {
                path,
                reason: format!("its record is larger than {} bytes", sealed::LARGEST_BYTES),
            });
        }
        // A file that could not be read for another reason, such as a lack of file handles, is replaced like a good one.
        if let Err(VaultError::OtherKey { .. } | VaultError::Damaged { .. }) = self.read() {
            files::set_aside(&self.folder, &self.name)?;
        }
        files::replace(&self.folder, &self.name, &sealed)
    }

    /// Deletes the account's file, and the files of it that were set aside. Returns true if there was something.
    pub fn remove(&self) -> Result<bool, VaultError> {
        let mut removed = files::remove(&files::path(&self.folder, &self.name))?;
        for path in files::set_aside_paths(&self.folder, &self.name)? {
            removed |= files::remove(&path)?;
        }
        files::sync_folder(&self.folder)?;
        Ok(removed)
    }

    /// Like [`Vault::stamp`].
    pub fn stamp(&self) -> Stamp {
        files::stamp(&files::path(&self.folder, &self.name))
    }
}

/// Returns a file name that is unique to the account and does not reveal it.
fn name(account: &Account) -> String {
    let mut text = account.profile.clone();
    if let Some(login) = &account.login {
        text.push('\0');
        text.push_str(login);
    }
    let mut name = sealed::hex_digest(text.as_bytes());
    name.truncate(NAME_DIGITS);
    name
}

const NAME_DIGITS: usize = 32;

fn read(folder: &Path, key: &VaultKey, file: &str) -> Result<Option<Record>, VaultError> {
    let path = files::path(folder, file);
    let Some(bytes) = files::read(&path, sealed::LARGEST_BYTES)? else {
        return Ok(None);
    };
    let record = sealed::unseal(key, file, &bytes).map_err(|problem| problem.at(&path, key))?;
    if name(&record.account) != file {
        return Err(VaultError::Damaged {
            path,
            reason: "it holds the record of another account".into(),
        });
    }
    Ok(Some(record))
}
