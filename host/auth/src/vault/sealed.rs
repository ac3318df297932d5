//! The bytes of a record's file: XChaCha20-Poly1305 over JSON, bound to the file's name so that files cannot be swapped.

use std::borrow::Cow;
use std::io;
use std::path::Path;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use jiff::Timestamp;
use ring::digest;
use secrecy::zeroize::Zeroizing;
use serde::{Deserialize, Serialize};

use super::{Access, Failure, Record, VaultError, VaultKey};
use crate::{AccessToken, Account, Secret};

/// The largest size of a file.
pub(super) const LARGEST_BYTES: usize = 1024 * 1024;

/// The beginning of every file, and its version.
const MAGIC: &[u8] = b"postroom-vault-1\n";
const NONCE_BYTES: usize = 24;

/// Why bytes are not a record.
#[derive(Debug)]
pub(super) enum Problem {
    OtherKey { written_under: String },
    Damaged(&'static str),
}

/// A record in its stored form. Only here are secrets written out; this form never leaves this file.
#[derive(Serialize, Deserialize)]
struct Kept<'a> {
    account: Account,
    grant: String,
    #[serde(default)]
    registration: Option<String>,
    #[serde(default)]
    credential: Option<String>,
    identity: Option<String>,
    #[serde(borrow)]
    refresh_token: Option<Cow<'a, str>>,
    refresh_expires: Option<Timestamp>,
    #[serde(borrow)]
    access: Vec<KeptAccess<'a>>,
    last_refresh: Option<Timestamp>,
    refreshing_since: Option<Timestamp>,
    failure: Option<Failure>,
}

#[derive(Serialize, Deserialize)]
struct KeptAccess<'a> {
    scopes: Vec<String>,
    #[serde(borrow)]
    token: Cow<'a, str>,
    expires: Timestamp,
}

impl Problem {
    pub(super) fn at(self, path: &Path, key: &VaultKey) -> VaultError {
        let path = path.to_owned();
        match self {
            Problem::OtherKey { written_under } => VaultError::OtherKey {
                path,
                written_under,
                in_use: key.id().to_owned(),
            },
            Problem::Damaged(reason) => VaultError::Damaged {
                path,
                reason: reason.to_owned(),
            },
        }
    }
}

/// Encrypts a record for the file `name`.
pub(super) fn seal(key: &VaultKey, name: &str, record: &Record) -> Result<Vec<u8>, VaultError> {
    let kept = Kept::from(record);
    // If the buffer grew step by step, it would leave copies of its contents behind.
    let mut length = Length(0);
    let mut plain = Zeroizing::new(Vec::new());
    serde_json::to_writer(&mut length, &kept)
        .and_then(|()| {
            plain.reserve_exact(length.0);
            serde_json::to_writer(&mut *plain, &kept)
        })
        .map_err(|error| unsealable(&error.to_string()))?;
    let mut nonce = [0; NONCE_BYTES];
    super::key::fill(&mut nonce)?;
    let associated = associated(key.id(), name);
    let payload = Payload {
        msg: &plain,
        aad: &associated,
    };
    let sealed = cipher(key)
        .encrypt(XNonce::from_slice(&nonce), payload)
        .map_err(|_| unsealable("it cannot be encrypted"))?;
    let mut bytes = associated[..MAGIC.len() + key.id().len()].to_vec();
    bytes.extend_from_slice(&nonce);
    bytes.extend_from_slice(&sealed);
    Ok(bytes)
}

/// Decrypts the file `name`.
pub(super) fn unseal(key: &VaultKey, name: &str, bytes: &[u8]) -> Result<Record, Problem> {
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or(Problem::Damaged("it does not begin as a vault's file does"))?;
    let (id, rest) = rest
        .split_at_checked(key.id().len())
        .filter(|(id, _)| id.iter().all(u8::is_ascii_hexdigit))
        .ok_or(Problem::Damaged("it is cut, or its key's id was changed"))?;
    if id != key.id().as_bytes() {
        return Err(Problem::OtherKey {
            written_under: String::from_utf8_lossy(id).into_owned(),
        });
    }
    let (nonce, sealed) = rest
        .split_at_checked(NONCE_BYTES)
        .ok_or(Problem::Damaged("it is cut"))?;
    let payload = Payload {
        msg: sealed,
        aad: &associated(key.id(), name),
    };
    let plain = cipher(key)
        .decrypt(XNonce::from_slice(nonce), payload)
        .map(Zeroizing::new)
        .map_err(|_| Problem::Damaged("it was changed or cut since it was written"))?;
    let kept: Kept = serde_json::from_slice(&plain)
        .map_err(|_| Problem::Damaged("its content does not match this version's format"))?;
    Ok(kept.into())
}

/// SHA-256 in hexadecimal.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Data that is authenticated but not encrypted.
fn associated(key_id: &str, name: &str) -> Vec<u8> {
    [MAGIC, key_id.as_bytes(), name.as_bytes()].concat()
}

fn cipher(key: &VaultKey) -> XChaCha20Poly1305 {
    XChaCha20Poly1305::new(key.expose().into())
}

fn unsealable(reason: &str) -> VaultError {
    VaultError::Key {
        reason: format!("a record cannot be sealed: {reason}"),
    }
}

impl<'a> From<&'a Record> for Kept<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            account: record.account.clone(),
            grant: record.grant.clone(),
            registration: record.registration.clone(),
            credential: record.credential.clone(),
            identity: record.identity.clone(),
            refresh_token: record
                .refresh_token
                .as_ref()
                .map(|token| token.expose().into()),
            refresh_expires: record.refresh_expires,
            access: record
                .access
                .iter()
                .map(|access| KeptAccess {
                    scopes: access.scopes.clone(),
                    token: access.token.expose().into(),
                    expires: access.expires,
                })
                .collect(),
            last_refresh: record.last_refresh,
            refreshing_since: record.refreshing_since,
            failure: record.failure.clone(),
        }
    }
}

impl From<Kept<'_>> for Record {
    fn from(kept: Kept<'_>) -> Self {
        Self {
            account: kept.account,
            grant: kept.grant,
            registration: kept.registration,
            credential: kept.credential,
            identity: kept.identity,
            refresh_token: kept.refresh_token.map(Secret::new),
            refresh_expires: kept.refresh_expires,
            access: kept
                .access
                .into_iter()
                .map(|access| Access {
                    scopes: access.scopes,
                    token: AccessToken::new(access.token),
                    expires: access.expires,
                })
                .collect(),
            last_refresh: kept.last_refresh,
            refreshing_since: kept.refreshing_since,
            failure: kept.failure,
        }
    }
}

/// Counts the bytes written.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
