//! The journal: every mail is written here raw before anyone reads it, together with how far its mailbox was read.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ContentHash, Cursor, MailboxState, Position};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// The journal of all mailboxes, and what is owed to their servers.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Journals a batch and moves the cursor, in one transaction. Returns the results in the order of the mails.
    async fn journal(&self, batch: JournalBatch) -> Result<Vec<Journalled>, StoreError>;

    /// Returns how far a mailbox was read; `None` before its first batch.
    async fn cursor(&self, mailbox: &str) -> Result<Option<Cursor>, StoreError>;

    /// Returns undecided mails of a mailbox, the oldest first. There may be more than are returned, but not when none is.
    async fn pending(&self, mailbox: &str, limit: usize) -> Result<Vec<PendingMail>, StoreError>;

    /// Returns one undecided mail; `None` when it is decided or was never journalled.
    async fn pending_mail(&self, id: JournalId) -> Result<Option<PendingMail>, StoreError>;

    /// Returns the oldest undecided mails of each mailbox, up to `limit` of one: those that a process may have been deciding when it
    /// died. The least tried come first.
    async fn suspects(&self, limit: usize) -> Result<Vec<Suspect>, StoreError>;

    /// Returns how many runs in a row, before this one, did not stop cleanly.
    fn crashes(&self) -> u32;

    /// Records that nothing is left of earlier crashes: the next one is a first one again.
    async fn forget_crashes(&self) -> Result<(), StoreError>;

    /// Returns the acknowledgements that are due at a mailbox's server, the oldest first.
    async fn due_acks(
        &self,
        mailbox: &str,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Ack>, StoreError>;

    /// Returns when the next acknowledgement of a mailbox is due; `None` when none is owed.
    async fn next_ack_due(&self, mailbox: &str) -> Result<Option<i64>, StoreError>;

    /// Records that the server took these. Ids that were recorded before are ignored.
    async fn acked(&self, ids: Vec<i64>) -> Result<(), StoreError>;

    /// Records that the server did not take these; they are due again at `retry_at_ms`.
    async fn ack_failed(
        &self,
        ids: Vec<i64>,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError>;

    /// Records that the mail at these positions is journalled. Recording one again changes nothing.
    async fn remember_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError>;

    /// Returns those of the positions that were recorded by [`Journal::remember_positions`].
    async fn known_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<HashSet<Position>, StoreError>;

    /// Returns how many positions of a mailbox are recorded.
    async fn known_position_count(&self, mailbox: &str) -> Result<u64, StoreError>;

    /// Forgets all positions of a mailbox but these.
    async fn forget_positions_but(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError>;

    /// Records how a mailbox is doing; the time since when is kept while the state stays the same. The detail may be empty.
    async fn set_mailbox_state(
        &self,
        mailbox: &str,
        state: MailboxState,
        detail: &str,
    ) -> Result<(), StoreError>;
}

/// A journalled mail. Its decision has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JournalId(pub i64);

/// The decision of the mail with the same number: a mail is decided once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DecisionId(pub i64);

impl std::fmt::Display for JournalId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::fmt::Display for DecisionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// The result of one fetch: the mails and the cursor after them become durable together.
#[derive(Debug, Clone)]
pub struct JournalBatch {
    pub tenant: String,
    pub mailbox: String,
    /// The journalling time, milliseconds since 1970 in UTC: the day the ledger counts these mails in.
    pub received_ms: i64,
    pub mails: Vec<NewMail>,
    /// None leaves the cursor where it is.
    pub cursor: Option<Cursor>,
}

/// One fetched mail, recognised by tenant, mailbox, `message_id` and `content_hash`.
#[derive(Debug, Clone)]
pub struct NewMail {
    pub position: Position,
    /// Without angle brackets; synthetic where the mail has none.
    pub message_id: String,
    pub content_hash: ContentHash,
    pub bytes: Bytes,
    /// In bytes, as the server states it.
    pub size: u64,
    /// False when `bytes` is only the beginning.
    pub whole: bool,
    /// Never answered, and sent to no target unless the mailbox asks for it.
    pub old: bool,
}

/// Where a mail of a batch ended up.
#[derive(Debug, Clone)]
pub enum Journalled {
    /// It is to be decided.
    New(PendingMail),
    /// It was journalled before, and only its position was added for acknowledging.
    Known {
        id: JournalId,
        message_id: String,
        /// The first time that it is seen at this place, which is not the first one: it came again.
        repeated: bool,
    },
}

/// An undecided mail that may have ended the process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspect {
    pub mailbox: String,
    pub id: JournalId,
    pub attempts: u32,
}

/// A journalled mail that is not decided yet.
#[derive(Debug, Clone)]
pub struct PendingMail {
    pub id: JournalId,
    pub message_id: String,
    pub received_ms: i64,
    /// How often its line failed.
    pub attempts: u32,
    pub whole: bool,
    pub size: u64,
    pub bytes: Bytes,
}

impl Journalled {
    pub fn id(&self) -> JournalId {
        match self {
            Journalled::New(mail) => mail.id,
            Journalled::Known { id, .. } => *id,
        }
    }

    pub fn is_new(&self) -> bool {
        matches!(self, Journalled::New(_))
    }

    pub fn is_repeated(&self) -> bool {
        matches!(self, Journalled::Known { repeated: true, .. })
    }
}

/// One mail on a server that may now be marked, moved or deleted there. Doing it twice must be harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub id: i64,
    pub journal: JournalId,
    pub position: Position,
    /// The mail is quarantined: `after.failed` applies instead of `after.done`.
    pub failed: bool,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Whether all of the mail is journalled here; if not, the server's copy is the only one.
    pub whole: bool,
}
