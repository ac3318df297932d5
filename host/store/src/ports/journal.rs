//! The journal: every mail is written here raw before anything reads it, together with how far its mailbox has been read.

use std::collections::HashSet;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ContentHash, Cursor, MailboxState, Position};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// The journal of all mailboxes, and the acknowledgements owed to their servers.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Journals a batch and moves the cursor in one transaction. Returns the results in the order of the mails.
    async fn journal(&self, batch: JournalBatch) -> Result<Vec<Journalled>, StoreError>;

    /// Returns how far a mailbox has been read, or `None` before its first batch.
    async fn cursor(&self, mailbox: &str) -> Result<Option<Cursor>, StoreError>;

    /// Returns undecided mails of a mailbox, oldest first. There may be more than it returns, but not if it returns none.
    async fn pending(&self, mailbox: &str, limit: usize) -> Result<Vec<PendingMail>, StoreError>;

    /// Returns one undecided mail, or `None` if it has been decided or was never journalled.
    async fn pending_mail(&self, id: JournalId) -> Result<Option<PendingMail>, StoreError>;

    /// Returns the oldest undecided mails of each mailbox, up to `limit` per mailbox: those that a process may have been deciding
    /// when it died. Those with the fewest attempts come first.
    async fn suspects(&self, limit: usize) -> Result<Vec<Suspect>, StoreError>;

    /// Returns how many consecutive runs before this one did not stop cleanly.
    fn crashes(&self) -> u32;

    /// Records that earlier crashes are dealt with: the next one counts as the first again.
    async fn forget_crashes(&self) -> Result<(), StoreError>;

    /// Returns the acknowledgements that are due at a mailbox's server, oldest first.
    async fn due_acks(
        &self,
        mailbox: &str,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Ack>, StoreError>;

    /// Returns when a mailbox's next acknowledgement is due, or `None` if none is owed.
    async fn next_ack_due(&self, mailbox: &str) -> Result<Option<i64>, StoreError>;

    /// Records that the server accepted these acknowledgements. Ids that were already recorded are ignored.
    async fn acked(&self, ids: Vec<i64>) -> Result<(), StoreError>;

    /// Records that the server refused these acknowledgements; they are due again at `retry_at_ms`.
    async fn ack_failed(
        &self,
        ids: Vec<i64>,
        error: &str,
        retry_at_ms: i64,
    ) -> Result<(), StoreError>;

    /// Records that the mails at these positions are journalled. Recording a position again changes nothing.
    async fn remember_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError>;

    /// Returns the given positions that [`Journal::remember_positions`] recorded.
    async fn known_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<HashSet<Position>, StoreError>;

    /// Returns how many positions of a mailbox are recorded.
    async fn known_position_count(&self, mailbox: &str) -> Result<u64, StoreError>;

    /// Forgets these positions of a mailbox.
    async fn forget_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError>;

    /// Forgets all positions of a mailbox except these.
    async fn forget_positions_but(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError>;

    /// Returns a number that increases each time a person has a mail decided again.
    async fn mail_changes(&self) -> Result<i64, StoreError>;

    /// Makes the undecided mail of a mailbox the mail of this tenant: the mailbox may have been another's when it was journalled.
    /// Returns how many mails were another's.
    async fn adopt(&self, mailbox: &str, tenant: &str) -> Result<u64, StoreError>;

    /// Makes undecided mails of a shared mailbox the mails of these tenants, in one transaction.
    async fn attribute(&self, mails: Vec<(JournalId, String)>) -> Result<(), StoreError>;

    /// Records a mailbox's state. The time of the last change is kept as long as the state stays the same. The detail may be
    /// empty.
    async fn set_mailbox_state(
        &self,
        mailbox: &str,
        state: MailboxState,
        detail: &str,
    ) -> Result<(), StoreError>;
}

/// The id of a journalled mail. Its decision has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JournalId(pub i64);

/// The id of the decision on the mail with the same number: a mail is decided once.
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
    /// For a shared mailbox, the tenant of the mail that fits no client.
    pub tenant: String,
    /// Whether the mailbox is shared by several tenants: its mail is recognised whichever tenant it went to.
    pub shared: bool,
    pub mailbox: String,
    /// The time of journalling, in milliseconds since 1970 in UTC. It determines the ledger day in which these mails are counted.
    pub received_ms: i64,
    pub mails: Vec<NewMail>,
    /// `None` leaves the cursor where it is.
    pub cursor: Option<Cursor>,
}

/// One fetched mail, identified by tenant, mailbox, `message_id` and `content_hash`.
#[derive(Debug, Clone)]
pub struct NewMail {
    pub position: Position,
    /// Without angle brackets. Synthetic if the mail has none.
    pub message_id: String,
    pub content_hash: ContentHash,
    pub bytes: Bytes,
    /// In bytes, as stated by the server.
    pub size: u64,
    /// False if `bytes` is only the beginning.
    pub whole: bool,
    /// An old mail is never replied to, and is sent to no target unless the mailbox asks for it.
    pub old: bool,
}

/// The result of journalling a mail.
#[derive(Debug, Clone)]
pub enum Journalled {
    /// The mail is new and to be decided.
    New(PendingMail),
    /// The mail was journalled before; only its position was added for acknowledging.
    Known {
        id: JournalId,
        message_id: String,
        /// Whether it is seen at this position for the first time and was seen elsewhere before: it arrived again.
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
    /// How often the line failed on it.
    pub attempts: u32,
    /// How often a person had it decided again.
    pub repetition: u32,
    /// Whether a person released it from quarantine: limits and rules do not put it back there.
    pub released: bool,
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

/// One mail on a server that may now be marked, moved or deleted there. Doing this twice must be harmless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ack {
    pub id: i64,
    pub journal: JournalId,
    pub position: Position,
    /// The mail is quarantined: `after.failed` applies instead of `after.done`.
    pub failed: bool,
    /// Failed attempts so far.
    pub attempts: u32,
    /// Whether all of the mail is journalled here. If not, the server's copy is the only complete one.
    pub whole: bool,
}
