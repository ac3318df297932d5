//! A mail before it is parsed: its bytes, the cursor of its mailbox, and its content hash.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::Position;

/// How far a mailbox was read. Opaque to all code but the protocol that wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor(pub String);

/// One fetched mail.
#[derive(Debug, Clone)]
pub struct RawMessage {
    pub position: Position,
    /// The mail as the server returned it, or its beginning if it exceeds the raw limit.
    pub bytes: Bytes,
    /// The size that the server states, in bytes. Larger than `bytes` if only the beginning was fetched.
    pub size: u64,
    /// Whether it is older than the mailbox's first contact. Old mail is decided and listed; it is never answered, and its
    /// items go to no target unless the configuration or the import asks for that.
    pub old: bool,
}

impl RawMessage {
    /// Returns whether the mail is complete.
    pub fn is_whole(&self) -> bool {
        self.bytes.len() as u64 >= self.size
    }
}

/// The SHA-256 of a mail's bytes, a rule's source or a component.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Lower-case hexadecimal, 64 characters.
    pub fn hex(&self) -> String {
        self.0.iter().fold(String::with_capacity(64), |mut s, b| {
            use std::fmt::Write;
            let _ = write!(s, "{b:02x}");
            s
        })
    }
}

impl std::fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}

impl std::fmt::Display for ContentHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.hex())
    }
}
