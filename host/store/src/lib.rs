//! Everything Postroom must not forget, in one SQLite file: journal, cursors, decisions, items, outbox, acknowledgements,
//! rule memory, generations, shadows and the ledger.
//!
//! One thread writes ([`Store`], async, durable when it returns); readers run concurrently ([`Reader`], blocking).
//!
//! ```text
//! journal ─→ pending ─→ commit ─→ decision + items + outbox + kv, acknowledgement due
//!                                             │                        │
//!                                  due_outbox / delivered       due_acks / acked
//! ```

mod acks;
mod brakes;
mod commit;
mod directory;
mod error;
mod generations;
mod history;
mod ids;
mod installation;
mod items;
mod journal;
mod ledger;
mod listing;
mod lookup;
mod options;
mod outbox;
mod outbox_control;
mod positions;
mod questions;
mod reader;
mod record;
mod recorded;
mod refusals;
mod retention;
mod run;
mod schema;
mod shadow;
mod strikes;
mod writer;

use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use acks::Ack;
pub use commit::{Committed, Conclusion, KvRead, KvWrite, LookupRead, Verdict};
pub use directory::FileId;
pub use error::StoreError;
pub use generations::{Generation, RuleChange, RuleRecord};
pub use ids::{DecisionId, JournalId};
pub use journal::{JournalBatch, Journalled, NewMail, PendingMail, Suspect};
pub use ledger::{LedgerRow, RepeatRow};
pub use listing::{
    DecisionRow, Filter, MailboxRow, OutboxDetail, OutboxRow, QuarantineRow, Quarantined, Rows,
};
pub use options::StoreOptions;
pub use outbox::{OutboxEntry, OutboxKind, RoundRobin};
pub use outbox_control::{OutboxChange, OutboxSelection, drop_outbox, retry_outbox};
pub use reader::Reader;
pub use recorded::{Evidence, Recorded, RecordedMail, RecordedMails, Selection};
pub use refusals::{RefusedRule, Rollback, RolledBack, SentBack, roll_back};
pub use shadow::{
    NewShadow, Shadow, ShadowId, ShadowMail, ShadowPage, ShadowResult, ShadowState, end_shadow,
    start_shadow,
};
pub use strikes::{Mark, SenderKey, StrikeRecord};

use postroom_core::Clock;

use history::Keep;
use installation::Installation;
use schema::Lock;
use writer::Writer;

/// The writing side, held by the one service on a data_dir. Cheap to clone; every handle is the same store.
#[derive(Clone)]
pub struct Store {
    // Before the writer: the connection that closes last tidies up.
    reader: Reader,
    writer: Arc<Writer>,
    installation: Arc<Installation>,
    /// Runs in a row, before this one, that did not stop cleanly.
    crashes: u32,
    keep: Keep,
    /// The number and size of one shadow's differences.
    shadow_differences: u64,
    shadow_difference_bytes: u64,
    clock: Clock,
}

impl Store {
    /// Takes the lock, creates or upgrades the database and starts the writer thread.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &StoreOptions::default())
    }

    /// As [`Store::open`], with limits of one's own.
    pub fn open_with(data_dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let lock = Lock::take(data_dir, Duration::from_millis(options.lock_wait_ms))?;
        let folder = options.installations.as_deref();
        let of_folder = folder.and_then(|folder| installation::of_folder(folder, data_dir));
        let is_gone = schema::is_missing_from_used_folder(data_dir)
            || (schema::is_new(data_dir) && of_folder.is_some());
        if is_gone && !options.start_anew {
            return Err(StoreError::Emptied {
                path: data_dir.to_owned(),
                last_ticket: of_folder.and_then(|file| file.last_ticket()),
            });
        }
        if is_gone {
            schema::set_log_aside(data_dir)?;
        }
        let conn = schema::open_writer(data_dir, options)?;
        let installation =
            Installation::establish(&conn, data_dir, folder, of_folder, options.start_anew)?;
        let installation = Arc::new(installation);
        let crashes = run::begin(&conn)?;
        lock.name_holder(data_dir);
        let reader = Reader::open_with(data_dir, options)?;
        let writer = Arc::new(Writer::start(conn, lock, installation.clone(), options)?);
        Ok(Self {
            reader,
            writer,
            installation,
            crashes,
            keep: Keep {
                generations: options.generations,
                bytes: options.generation_bytes,
            },
            shadow_differences: options.shadow_differences,
            shadow_difference_bytes: options.shadow_difference_bytes,
            clock: options.clock.clone(),
        })
    }

    /// Writes what is queued, then ends the writer thread and releases the lock; blocks for as long as that takes.
    /// Later writes answer [`StoreError::Closed`]. The database is one file then, unless something else has it open.
    pub fn close(&self) {
        self.reader.release();
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
