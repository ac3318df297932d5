//! Alerts of Postroom itself: no mail caused them, so they have no decision and do not count in the ledger.

use async_trait::async_trait;
use postroom_core::Alert;

use crate::StoreError;

/// The alerts about the mailboxes themselves.
#[async_trait]
pub trait ServiceAlerts: Send + Sync {
    /// Raises or resolves an alert and queues it for its sinks, in one transaction. Returns false and writes nothing if the alert
    /// already is in that state. An alert that was never raised counts as resolved.
    async fn set_alert(&self, change: ServiceAlert) -> Result<bool, StoreError>;

    /// Returns the firing alerts, in the order in which they were first raised.
    async fn firing_alerts(&self) -> Result<Vec<FiringAlert>, StoreError>;
}

/// A change of an alert's state.
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceAlert {
    pub tenant: String,
    /// The mailbox that the alert is about.
    pub mailbox: String,
    pub alert: Alert,
    /// The sinks that receive the change.
    pub sinks: Vec<String>,
}

/// An alert that was raised and not resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FiringAlert {
    pub tenant: String,
    pub mailbox: String,
    pub key: String,
}
