//! The vault's key: 32 bytes from outside the data folder.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use postroom_files::{Unread, open, read_whole, sync_folder};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;

use super::{Vault, VaultError, keyring, sealed};
use crate::Secret;

/// The key. Its `Debug` output contains only its id.
#[derive(Clone)]
pub struct VaultKey {
    id: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

/// The source of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file, created with mode 0600 if it does not exist.
    File(PathBuf),
    /// Base64 of 32 bytes.
    Given(Secret),
    /// An entry of the operating system's keyring, created if it does not exist.
    Keyring { entry: String },
}

const KEY_BYTES: usize = 32;
/// Digits of a key's id.
const ID_DIGITS: usize = 8;
/// The longest text of a key, spaces and line end included.
const TEXT_BYTES: u64 = 1024;
const NOT_A_KEY: &str = "is not the base64 of 32 bytes";
const HOW_TO_MAKE_ONE: &str = "one is made by: head -c 32 /dev/urandom | base64";

impl VaultKey {
    /// Reads the key, or creates it if its source allows that.
    pub fn load(source: &KeySource) -> Result<Self, VaultError> {
        Self::load_or_make(source, true)
    }

    /// Checks whether the key of the vault below `data_dir` can be read, or created when the vault is first used. Creates
    /// nothing.
    pub fn check(source: &KeySource, data_dir: &Path) -> Result<(), VaultError> {
        if let KeySource::File(path) = source
            && matches!(open(path), Err(Unread::Missing))
            && !Vault::is_used(data_dir)?
        {
            return Ok(());
        }
        match source {
            // A request to a keyring may unlock it, or prompt a person.
            KeySource::Keyring { .. } => Ok(()),
            source => Self::load_or_make(source, false).map(|_| ()),
        }
    }

    /// Reads the key of the vault below `data_dir`. Creates one only if nothing is stored yet: a missing key of a vault in
    /// use usually means that a volume is not mounted, and a new key would not open the existing records.
    pub fn load_for(source: &KeySource, data_dir: &Path) -> Result<Self, VaultError> {
        let is_used = Vault::is_used(data_dir)?;
        Self::load_or_make(source, !is_used)
    }

    fn load_or_make(source: &KeySource, may_make: bool) -> Result<Self, VaultError> {
        match source {
            KeySource::File(path) => load_file(path, may_make),
            KeySource::Given(text) => {
                decode(text.expose()).ok_or_else(|| refused("what is given", NOT_A_KEY))
            }
            KeySource::Keyring { entry } => load_entry(entry, may_make),
        }
    }

    /// Returns a new random key.
    pub fn random() -> Result<Self, VaultError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        fill(key.as_mut())?;
        Ok(Self::new(key))
    }

    /// Returns the first digits of a digest of the key, which distinguish keys.
    pub fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.key
    }

    fn new(key: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        let mut named = Zeroizing::new(b"postroom vault key\0".to_vec());
        named.reserve_exact(KEY_BYTES);
        named.extend_from_slice(key.as_ref());
        let mut id = sealed::hex_digest(&named);
        id.truncate(ID_DIGITS);
        Self { id, key }
    }

    /// Returns the key as it is written into a file or a keyring.
    pub(super) fn encode(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64_STANDARD.encode(self.key.as_ref()))
    }
}

impl fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultKey({})", self.id)
    }
}

/// Fills a buffer with random bytes of the operating system.
pub(super) fn fill(bytes: &mut [u8]) -> Result<(), VaultError> {
    SystemRandom::new()
        .fill(bytes)
        .map_err(|_| VaultError::Key {
            reason: "the operating system gives no random bytes".into(),
        })
}

fn load_file(path: &Path, may_make: bool) -> Result<VaultKey, VaultError> {
    let shown = path.display().to_string();
    let failed = |error: io::Error| VaultError::Key {
        reason: format!("{shown}: {error}"),
    };
    let unread = |unread: Unread| VaultError::Key {
        reason: format!("{shown} {unread}"),
    };
    let file = match open(path) {
        Err(Unread::Missing) if !may_make => return Err(missing(&shown)),
        Err(Unread::Missing) => {
            make_file(path).map_err(failed)?;
            open(path)
        }
        opened => opened,
    }
    .map_err(unread)?;
    let found = file.metadata().map_err(failed)?;
    if found.mode() & 0o077 != 0 {
        return Err(VaultError::Key {
            reason: format!("others may read {shown}: chmod 600 {shown}"),
        });
    }
    let bytes = Zeroizing::new(read_whole(&file, TEXT_BYTES).map_err(unread)?);
    let text = std::str::from_utf8(&bytes).ok();
    text.and_then(decode)
        .ok_or_else(|| refused(&shown, NOT_A_KEY))
}

/// Creates a key file that is complete as soon as it has its name. If another process was faster, its file stays.
fn make_file(path: &Path) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let key = VaultKey::random().map_err(io::Error::other)?;
    let mut unnamed = path.as_os_str().to_owned();
    unnamed.push(format!(".{}.half-written", key.id));
    let unnamed = PathBuf::from(unnamed);
    let made = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&unnamed)
        .and_then(|mut file| {
            file.write_all(key.encode().as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&unnamed, path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        });
    fs::remove_file(&unnamed)?;
    made?;
    sync_folder(folder)
}

fn load_entry(entry: &str, may_make: bool) -> Result<VaultKey, VaultError> {
    let new = may_make.then(VaultKey::random).transpose()?;
    let named = format!("the keyring's entry {entry}");
    let text = keyring::load(entry, new.as_ref())?.ok_or_else(|| missing(&named))?;
    decode(&text).ok_or_else(|| refused(&named, NOT_A_KEY))
}

fn decode(text: &str) -> Option<VaultKey> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(text.trim()).ok()?);
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if bytes.len() != KEY_BYTES {
        return None;
    }
    key.copy_from_slice(&bytes);
    Some(VaultKey::new(key))
}

fn missing(what: &str) -> VaultError {
    VaultError::Key {
        reason: format!(
            "{what} does not exist, but the vault contains records encrypted with it. Restore the key (is its volume mounted?), or move the folder vault below data_dir away, and sign in again"
        ),
    }
}

fn refused(what: &str, why: &str) -> VaultError {
    VaultError::Key {
        reason: format!("{what} {why}; {HOW_TO_MAKE_ONE}"),
    }
}
