//! The outbox: decided deliveries that must still reach a sink or a mailbox, at least once, in order per ticket and alert.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ExternalRef, Receipt};
use serde::{Deserialize, Serialize};

use super::journal::{DecisionId, JournalId};
use crate::StoreError;

/// The entries of all targets. The entries of one ticket or alert for one target form a lane, in which only the oldest waiting
/// entry is due.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Returns entries whose turn it is at a target; a sink and an outgoing with the same name are two targets. An entry is left
    /// out while an older one in its lane is waiting. Round robin over the tenants: each gives its longest-due entry before any
    /// gives a second.
    async fn due_outbox(
        &self,
        kind: OutboxKind,
        target: &str,
        now_ms: i64,
        limit: usize,
        turn: RoundRobin,
    ) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Returns when the next entry for a target becomes due after the given time, or `None` if nothing waits longer than that.
    async fn next_outbox_due(
        &self,
        kind: OutboxKind,
        target: &str,
        after_ms: i64,
    ) -> Result<Option<i64>, StoreError>;

    /// Returns a number that increases with each change by hand.
    async fn outbox_changes(&self) -> Result<i64, StoreError>;

    /// Returns how many entries are waiting.
    async fn outbox_waiting(&self) -> Result<u64, StoreError>;

    /// Returns how many entries wait for each target that has any.
    async fn outbox_waiting_by_target(&self) -> Result<Vec<(OutboxKind, String, u64)>, StoreError>;

    /// Returns the bytes of the mail that an entry forwards, or `None` if they were purged.
    async fn forwarded(&self, mail: JournalId) -> Result<Option<Bytes>, StoreError>;

    /// Records that the target accepted the entry; `receipt` is its reply. An entry that was dropped by hand in the meantime
    /// counts as delivered.
    async fn delivered(&self, id: i64, receipt: Receipt) -> Result<(), StoreError>;

    /// Records that the target accepted the entry for some of its recipients. The entry stays for the others, with the payload
    /// for them, and is due again at the given time. `receipt` is the reply about the accepted recipients, kept together with
    /// later ones.
    async fn partly_delivered(
        &self,
        id: i64,
        payload: String,
        receipt: &str,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError>;

    /// Records that the target refused this very entry. It is due again at the given time, and those behind it in its lane wait
    /// with it. Counts an attempt.
    async fn refused(&self, id: i64, error: &str, retry_at_ms: i64) -> Result<(), StoreError>;

    /// Moves the entry to the dead letters. Those behind it in its lane are then delivered.
    async fn gave_up(&self, id: i64, error: &str) -> Result<(), StoreError>;

    /// Records why an entry stays due: its target as a whole accepts nothing now. Counts no attempt.
    async fn held_back(&self, id: i64, reason: &str) -> Result<(), StoreError>;

    /// Records that Postroom aborted an attempt before its result was known. It counts, and the entry stays due.
    async fn cut_off(&self, id: i64, reason: &str) -> Result<(), StoreError>;
}

/// The kind of target that an entry goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboxKind {
    /// A sink, named by the entry's target; the payload is a [`postroom_core::Event`].
    Sink,
    /// An outgoing, named by the entry's target; the payload is a [`postroom_core::OutgoingMail`].
    Mail,
}

/// An entry whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: i64,
    pub kind: OutboxKind,
    /// The name of the sink or outgoing.
    pub target: String,
    pub tenant: String,
    /// The tenant's position in the round robin; see [`RoundRobin`].
    pub turn: i64,
    /// `None` for an alert of Postroom itself.
    pub decision: Option<DecisionId>,
    /// A [`postroom_core::Event`] or [`postroom_core::OutgoingMail`] as JSON, depending on the kind.
    pub payload: String,
    /// The same on every attempt.
    pub idempotency_key: String,
    /// Failed attempts that count for this entry.
    pub attempts: u32,
    pub created_ms: i64,
    /// When its age began: when it was created or last retried by hand.
    pub since_ms: i64,
    /// Whether the target refused it while accepting others.
    pub refused: bool,
    /// The target's own reference for the ticket or alert that the entry is about, if it gave one earlier.
    pub reference: Option<ExternalRef>,
}

/// The position of a target's round robin over its tenants.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    /// The position of the tenant served last; the tenants after it come first.
    pub after: i64,
    /// Entries that are left out, such as those in progress.
    pub skip: HashSet<i64>,
}
