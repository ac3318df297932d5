//! A reader's view of a mail, in the form in which readers are compared.

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// A reader's result for a mail. `None` is no opinion: the reader failed on the field, or does not report it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Reading {
    /// Set if the reader failed on the whole mail.
    pub error: Option<String>,
    pub subject: Option<String>,
    pub from: Option<Vec<Mailbox>>,
    pub to: Option<Vec<Mailbox>>,
    pub cc: Option<Vec<Mailbox>>,
    pub reply_to: Option<Vec<Mailbox>>,
    /// Seconds since 1970 in UTC; 0 without a readable date.
    pub date: Option<i64>,
    pub message_id: Option<String>,
    pub in_reply_to: Option<Vec<String>>,
    /// From the oldest to the newest.
    pub references: Option<Vec<String>>,
    /// The text parts, without text that is derived from HTML.
    pub text: Option<String>,
    pub html: Option<String>,
    pub attachments: Option<Vec<Part>>,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Mailbox {
    pub name: String,
    pub email: String,
}

#[derive(Debug, Clone, Deserialize)]
pub struct Part {
    pub name: String,
    #[serde(rename = "type")]
    pub content_type: String,
    /// Bytes after decoding.
    pub size: Option<usize>,
    /// See [`hash`].
    pub hash: Option<String>,
}

/// Returns the start of the SHA-256 of an attachment, of text and mails without white space: readers disagree on line ends.
pub fn hash(content_type: &str, content: &[u8]) -> String {
    let mut sha = Sha256::new();
    if is_text(content_type) {
        let dense: Vec<u8> = content.iter().copied().filter(|&b| b > b' ').collect();
        sha.update(dense);
    } else {
        sha.update(content);
    }
    let digest = sha.finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// True for a type whose white space is left out of its hash.
pub fn is_text(content_type: &str) -> bool {
    content_type.starts_with("text/") || content_type.starts_with("message/")
}
