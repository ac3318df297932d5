//! The outbox: what was decided and must still reach a sink or a mailbox, at least once, in order per ticket and alert.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ExternalRef, Receipt};
use serde::{Deserialize, Serialize};

use super::journal::{DecisionId, JournalId};
use crate::StoreError;

/// The entries of all targets. Those of one ticket or alert for one target are a lane, whose oldest waiting entry alone is due.
#[async_trait]
pub trait Outbox: Send + Sync {
    /// Returns entries for a target whose turn it is; a sink and an outgoing of one name are two targets. An entry is left out while an
    /// older one of its lane is waiting. Each tenant in the round gives one entry, its longest due, before any gives a second.
    async fn due_outbox(
        &self,
        kind: OutboxKind,
        target: &str,
        now_ms: i64,
        limit: usize,
        turn: RoundRobin,
    ) -> Result<Vec<OutboxEntry>, StoreError>;

    /// Returns when the next entry for a target is due after a time; `None` when nothing waits longer than that.
    async fn next_outbox_due(
        &self,
        kind: OutboxKind,
        target: &str,
        after_ms: i64,
    ) -> Result<Option<i64>, StoreError>;

    /// Returns a number that goes up with each change by hand.
    async fn outbox_changes(&self) -> Result<i64, StoreError>;

    /// Returns how many entries are waiting.
    async fn outbox_waiting(&self) -> Result<u64, StoreError>;

    /// Returns how many entries wait for each target that has any.
    async fn outbox_waiting_by_target(&self) -> Result<Vec<(OutboxKind, String, u64)>, StoreError>;

    /// Returns the bytes of the mail that an entry forwards; `None` when they were purged.
    async fn forwarded(&self, mail: JournalId) -> Result<Option<Bytes>, StoreError>;

    /// Records that the target took the entry; `receipt` is its answer. An entry that was dropped by hand
    /// meanwhile counts as delivered.
    async fn delivered(&self, id: i64, receipt: Receipt) -> Result<(), StoreError>;

    /// Records that the target took the entry for some of its recipients. It stays for the others, with the payload for them, and is
    /// due again at the time given. `receipt` is the answer about those it took, kept with later ones.
    async fn partly_delivered(
        &self,
        id: i64,
        payload: String,
        receipt: &str,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError>;

    /// Records that the target refused this very entry: it is due again at the time given, and those behind it in its lane wait with
    /// it. Counts a try.
    async fn refused(&self, id: i64, error: &str, retry_at_ms: i64) -> Result<(), StoreError>;

    /// Moves the entry to the dead letters. Those behind it in its lane are delivered.
    async fn gave_up(&self, id: i64, error: &str) -> Result<(), StoreError>;

    /// Records why an entry stays due: its target as a whole takes nothing now. Counts no try.
    async fn held_back(&self, id: i64, reason: &str) -> Result<(), StoreError>;

    /// Records that a try was ended from our side before its outcome was known. It counts, and the entry stays due.
    async fn cut_off(&self, id: i64, reason: &str) -> Result<(), StoreError>;
}

/// Which way an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboxKind {
    /// To the sink named by the entry's target; the payload is a [`postroom_core::Event`].
    Sink,
    /// By the outgoing named by the entry's target; the payload is a [`postroom_core::OutgoingMail`].
    Mail,
}

/// An entry whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: i64,
    pub kind: OutboxKind,
    /// The sink's or the outgoing's name.
    pub target: String,
    pub tenant: String,
    /// The tenant's place in the round; see [`RoundRobin`].
    pub turn: i64,
    pub decision: DecisionId,
    /// A [`postroom_core::Event`] or [`postroom_core::OutgoingMail`] in JSON, by the kind.
    pub payload: String,
    /// The same on every attempt.
    pub idempotency_key: String,
    /// Failed tries that count for this entry.
    pub attempts: u32,
    pub created_ms: i64,
    /// When its age began: when it was created or last retried by hand.
    pub since_ms: i64,
    /// Whether the target refused it while it took others.
    pub refused: bool,
    /// The target's own name of the ticket or alert that the entry is about, if it gave one earlier.
    pub reference: Option<ExternalRef>,
}

/// Where a target's round over its tenants stands.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    /// The place of the tenant served last; the tenants behind it come first.
    pub after: i64,
    /// Entries that are left out, such as those under way.
    pub skip: HashSet<i64>,
}
