//! The vault: what was received from authorization servers, encrypted, one file an account, durable before it is used.

mod key;
mod record;

use std::path::{Path, PathBuf};

pub use key::{KeySource, VaultKey};
pub use record::{Access, Failure, Record};

use crate::Account;

/// The open vault: the folder `vault` below `data_dir`, and the key.
#[derive(Debug)]
pub struct Vault {
    _folder: PathBuf,
    _key: VaultKey,
}

/// One account's file and the right to replace it: no other process refreshes this account meanwhile. Dropping it lets go.
#[derive(Debug)]
pub struct Held {
    _account: Account,
}

/// Why the vault cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The file was written under another key.
    #[error("{} was written under another key ({written_under}) than the one in use ({in_use})", path.display())]
    OtherKey {
        path: PathBuf,
        written_under: String,
        in_use: String,
    },
    /// The file is cut, changed, or no file of a vault.
    #[error("{} is damaged: {reason}", path.display())]
    Damaged { path: PathBuf, reason: String },
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// The key cannot be had, or is none.
    #[error("the vault's key: {reason}")]
    Key { reason: String },
}

impl Vault {
    /// Opens the vault, making its folder (0700) when it is not there. Reads no record.
    pub fn open(_data_dir: &Path, _key: VaultKey) -> Result<Self, VaultError> {
        todo!()
    }

    /// What is kept of an account; `None` when nothing is.
    pub fn read(&self, _account: &Account) -> Result<Option<Record>, VaultError> {
        todo!()
    }

    /// Takes the account for a change. Waits for another process or task that has it, at most `wait`.
    pub fn hold(&self, _account: &Account, _wait: std::time::Duration) -> Result<Held, VaultError> {
        todo!()
    }

    /// Whether the account's file changed since the stamp was taken; cheap.
    pub fn stamp(&self, _account: &Account) -> Stamp {
        todo!()
    }

    /// Every readable record, and every file that is not readable.
    pub fn list(&self) -> Result<Vec<Result<Record, VaultError>>, VaultError> {
        todo!()
    }
}

/// A file's identity at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stamp(pub Option<(u64, i64, u64)>);

impl Held {
    /// Replaces the record; durable when this returns. An unreadable file is kept aside, as `NAME.set-aside`.
    pub fn write(&self, _record: &Record) -> Result<(), VaultError> {
        todo!()
    }

    pub fn remove(&self) -> Result<(), VaultError> {
        todo!()
    }
}
