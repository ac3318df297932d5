//! The errors of the store, typed so that callers decide by variant and never by text.

use std::path::PathBuf;
use std::sync::Arc;

use crate::JournalId;

/// An error of the store. It is `Clone` because every job of a failed group receives the same one.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No space, no quota, or no write access. Nothing of the job was stored; it may be retried when there is space.
    #[error(
        "the disk or the quota under data_dir is full: nothing was recorded; free some space and Postroom continues by itself"
    )]
    Full,
    /// Another process runs on this data_dir.
    #[error("another postroom{} already runs on {}", pid.map(|p| format!(" (process {p})")).unwrap_or_default(), path.display())]
    Locked { path: PathBuf, pid: Option<u32> },
    /// The database of a folder that was in use is missing or empty.
    #[error(
        "the database in {} is missing or empty, and this folder was in use{}. help: put the database back (is its volume mounted?), or start with an empty one by adding --start-anew",
        path.display(),
        last_ticket.as_ref().map(|last| format!(": ticket numbers up to {last} may have been given out")).unwrap_or_default()
    )]
    Emptied {
        path: PathBuf,
        last_ticket: Option<String>,
    },
    /// The database was busy for longer than the store waits.
    #[error("the database is busy")]
    Busy,
    #[error(
        "the database has schema {found}, this program knows up to {known}: it was written by a newer postroom; run that one"
    )]
    NewerSchema { found: u32, known: u32 },
    /// For readers only, which never change the schema.
    #[error(
        "the database has schema {found}, this program reads {known}: `postroom run` upgrades it"
    )]
    OlderSchema { found: u32, known: u32 },
    /// Nothing was ever recorded there.
    #[error("{} holds no database yet", path.display())]
    Missing { path: PathBuf },
    #[error("the database is damaged: {what}")]
    Corrupt { what: String },
    #[error("{}: {source}", path.display())]
    Io {
        path: PathBuf,
        source: Arc<std::io::Error>,
    },
    /// The store was closed before or while the job was queued.
    #[error("the store is closed")]
    Closed,
    /// Nothing was written.
    #[error("mail {} is decided already", journal.0)]
    AlreadyDecided { journal: JournalId },
    #[error("mail {} was never journalled", journal.0)]
    UnknownMail { journal: JournalId },
    /// A note on a ticket that this tenant does not have. Nothing was written.
    #[error("mail {}: this tenant has no ticket {ticket}", journal.0)]
    NoSuchTicket { journal: JournalId, ticket: String },
    /// The generation never existed, or is no longer kept. Nothing was written.
    #[error("generation {number} is not kept")]
    NoSuchGeneration { number: u64 },
    /// The generation is kept, but without this tenant's rules. Nothing was written.
    #[error("the rules that {tenant} had in generation {number} are not kept")]
    RulesNotKept { number: u64, tenant: String },
    /// Each mailbox may have only one shadow at a time. Nothing was written.
    #[error("mailbox {mailbox} has a shadow of {rule} already")]
    ShadowRuns { mailbox: String, rule: String },
    /// Nothing was written.
    #[error("a shadow is of 1 to {most} mails")]
    ShadowMails { most: u64 },
    #[error(transparent)]
    Database(DatabaseError),
}

/// Any other error of the database, which no caller can handle by its kind.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the database refused: {source}")]
pub struct DatabaseError {
    source: Arc<dyn std::error::Error + Send + Sync>,
    /// Whether the error concerns only what one job asked for.
    of_one_job: bool,
}

impl DatabaseError {
    pub(crate) fn new(
        source: impl std::error::Error + Send + Sync + 'static,
        of_one_job: bool,
    ) -> Self {
        Self {
            source: Arc::new(source),
            of_one_job,
        }
    }
}

impl StoreError {
    /// Returns whether another process holds the data_dir.
    pub fn is_locked(&self) -> bool {
        matches!(self, StoreError::Locked { .. })
    }

    /// Returns whether another mail's commit may well succeed, because the error concerns only what one job asked for.
    pub fn affects_single_mail(&self) -> bool {
        match self {
            StoreError::Corrupt { .. } => true,
            error => !error.aborts_transaction(),
        }
    }

    /// Returns whether the error concerns the database rather than one job, so that the whole group is rolled back.
    pub(crate) fn aborts_transaction(&self) -> bool {
        match self {
            StoreError::AlreadyDecided { .. }
            | StoreError::UnknownMail { .. }
            | StoreError::NoSuchTicket { .. }
            | StoreError::NoSuchGeneration { .. }
            | StoreError::RulesNotKept { .. }
            | StoreError::ShadowRuns { .. }
            | StoreError::ShadowMails { .. }
            | StoreError::Corrupt { .. } => false,
            StoreError::Database(error) => !error.of_one_job,
            _ => true,
        }
    }

    pub(crate) fn io(path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        if matches!(source.kind(), StorageFull | QuotaExceeded) {
            return StoreError::Full;
        }
        StoreError::Io {
            path: path.into(),
            source: Arc::new(source),
        }
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        StoreError::Corrupt { what: what.into() }
    }
}

/// Stored JSON that cannot be read back was not written by this program.
impl From<serde_json::Error> for StoreError {
    fn from(error: serde_json::Error) -> Self {
        StoreError::corrupt(format!("a stored record: {error}"))
    }
}
