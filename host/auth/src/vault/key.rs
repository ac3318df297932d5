//! The vault's key: 32 bytes from outside the data folder.

use std::path::PathBuf;

use super::VaultError;
use crate::Secret;

/// The key. Prints only its id.
#[derive(Clone)]
pub struct VaultKey {
    _id: String,
}

/// Where the key comes from.
#[derive(Debug, Clone)]
pub enum KeySource {
    /// Made there, 0600, when it is not there yet.
    File(PathBuf),
    /// Base64 of 32 bytes.
    Given(Secret),
    /// An entry of the operating system's keyring, made when it is not there yet.
    Keyring { entry: String },
}

impl VaultKey {
    pub fn load(_source: &KeySource) -> Result<Self, VaultError> {
        todo!()
    }

    /// A new random key.
    pub fn random() -> Result<Self, VaultError> {
        todo!()
    }
}

impl std::fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "VaultKey({})", self._id)
    }
}
