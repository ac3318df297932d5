//! Receipts: a target's response when it accepts a delivery.

use serde::{Deserialize, Serialize};

/// A target's response when it accepted a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Its text or status, kept for people.
    pub status: String,
    /// The item's reference in the target; `None` if the target does not return one.
    pub external: Option<ExternalRef>,
    /// Recipients of a mail that were refused for good while others were accepted.
    pub refused: Vec<String>,
    /// The Message-ID under which a server sent the mail, without angle brackets, if it replaced the given one.
    pub message_id: Option<String>,
}

/// A ticket or alert as the target identifies it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRef {
    pub id: String,
    /// The number that people there use, if it differs from the id.
    pub number: Option<String>,
    pub url: Option<String>,
}

impl From<String> for Receipt {
    fn from(status: String) -> Self {
        Self {
            status,
            ..Self::default()
        }
    }
}

impl From<&str> for Receipt {
    fn from(status: &str) -> Self {
        status.to_owned().into()
    }
}
