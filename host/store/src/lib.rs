//! Everything Postroom must not forget, in one SQLite file: journal, cursors, decisions, items, outbox, acknowledgements,
//! rule memory, generations, shadows and the ledger.
//!
//! One thread writes ([`Store`], async, durable when it answers); readers ask beside it ([`Reader`], blocking).
//!
//! ```text
//! journal ─→ pending ─→ commit ─→ decision + items + outbox + kv, acknowledgement due
//!                                             │                        │
//!                                  due_outbox / delivered       due_acks / acked
//! ```

mod acks;
mod commit;
mod compose;
mod directory;
mod error;
mod generations;
mod ids;
mod items;
mod journal;
mod ledger;
mod listing;
mod lookup;
mod options;
mod outbox;
mod outbox_control;
mod questions;
mod reader;
mod record;
mod recorded;
mod refusals;
mod retention;
mod schema;
mod shadow;
mod strikes;
mod writer;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;

pub use acks::Ack;
pub use commit::{
    Committed, KvRead, KvWrite, LookupRead, MailFacts, OutgoingRoute, Routes, Verdict,
};
pub use compose::{MailKind, OutgoingMailPayload};
pub use directory::FileId;
pub use error::StoreError;
pub use generations::{Generation, RuleChange, RuleRecord};
pub use ids::{DecisionId, ItemKind, JournalId};
pub use journal::{JournalBatch, Journalled, NewMail, PendingMail};
pub use ledger::LedgerRow;
pub use listing::{
    DecisionRow, Filter, ItemRow, MailboxRow, OutboxDetail, OutboxRow, QuarantineRow, Quarantined,
    Rows,
};
pub use options::StoreOptions;
pub use outbox::{OutboxEntry, OutboxKind, Turn};
pub use outbox_control::{OutboxChange, OutboxSelection, drop_outbox, retry_outbox};
pub use reader::Reader;
pub use recorded::{Evidence, Recorded, RecordedMail, RecordedMails, Selection};
pub use refusals::{RefusedRule, Rollback, RolledBack, SentBack, roll_back};
pub use shadow::{
    NewShadow, Shadow, ShadowId, ShadowMail, ShadowPage, ShadowResult, ShadowState, end_shadow,
    start_shadow,
};
pub use strikes::{Mark, SenderKey, StrikeRecord};

use schema::Lock;
use writer::Writer;

/// The writing side, held by the one service on a data_dir. Cheap to clone; every handle is the same store.
#[derive(Clone)]
pub struct Store {
    writer: Arc<Writer>,
    reader: Reader,
    /// How many are kept.
    generations: u64,
    /// Of one shadow, how many and how large.
    shadow_differences: u64,
    shadow_difference_bytes: u64,
}

impl Store {
    /// Takes the lock, creates or upgrades the database and starts the writer thread.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &StoreOptions::default())
    }

    /// As [`Store::open`], with limits of one's own.
    pub fn open_with(data_dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let lock = Lock::take(data_dir)?;
        let conn = schema::open_writer(data_dir, options)?;
        let reader = Reader::open_with(data_dir, options)?;
        let writer = Arc::new(Writer::start(conn, lock, options)?);
        Ok(Self {
            writer,
            reader,
            generations: options.generations,
            shadow_differences: options.shadow_differences,
            shadow_difference_bytes: options.shadow_difference_bytes,
        })
    }

    /// Writes what is queued, then ends the writer thread and releases the lock; blocks for as long as that takes.
    /// Later writes answer [`StoreError::Closed`].
    pub fn close(&self) {
        self.writer.close();
    }
}

/// The blocking questions of a [`Reader`]. What a write answered is seen by every question asked after it.
impl Deref for Store {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}
