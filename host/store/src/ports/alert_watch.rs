//! The watch over alerts: events that become due without a mail.

use async_trait::async_trait;
use postroom_core::{AlertPolicy, EventKind};
use serde::Serialize;

use crate::StoreError;

/// The store's part of the watch over alerts.
#[async_trait]
pub trait AlertWatch: Send + Sync {
    /// Returns what is due, at most `limit`, without the first `skip`.
    async fn due_alerts(&self, limit: usize, skip: usize) -> Result<Vec<DueAlert>, StoreError>;

    /// Returns when something is due next, in milliseconds since 1970 in UTC; `None` if nothing is.
    async fn next_due_alert(&self) -> Result<Option<i64>, StoreError>;

    /// Applies what is due, in one transaction, unless a mail was faster. Returns what the targets receive.
    async fn apply_due_alert(
        &self,
        due: DueAlert,
        outlets: AlertOutlets,
    ) -> Result<Option<EventKind>, StoreError>;
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueAlert {
    pub kind: DueKind,
    pub tenant: String,
    /// The mailbox whose mail is expected, or whose mail reported the alert last.
    pub mailbox: String,
    /// The alert's key; empty for a storm.
    pub key: String,
    pub due_ms: i64,
}

/// Why it is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DueKind {
    /// An expected mail did not come.
    Expectation,
    /// The hold of an alert is over.
    Hold,
    /// The storm of a tenant is over.
    Storm,
}

/// Where the alerts of a tenant go, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertOutlets {
    pub policy: AlertPolicy,
    pub sinks: Vec<String>,
}

/// One line of `expectations --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExpectationRow {
    pub tenant: String,
    /// The mailbox of the last mail with the key.
    pub mailbox: String,
    pub key: String,
    pub within_secs: u64,
    /// When the last mail with the key was journalled, RFC 3339 in UTC.
    pub last: String,
    pub due: String,
    /// `waiting` or `overdue`.
    pub state: &'static str,
}
