//! Receipts: what a target answers when it takes a delivery.

use serde::{Deserialize, Serialize};

/// What a target answered when it took a delivery.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Its words or status, kept for people.
    pub status: String,
    /// Where the item is over there; none where the target does not say.
    pub external: Option<ExternalRef>,
    /// Recipients of a mail that were refused for good while others were accepted.
    pub refused: Vec<String>,
}

/// A ticket or alert as a target knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExternalRef {
    pub id: String,
    /// As people there call it, where that is not the id.
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
