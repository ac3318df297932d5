//! Recorded mail: what was journalled and what was decided about it, mail by mail, so that other rules can decide the same again.

use std::borrow::Cow;

use bytes::Bytes;
use postroom_core::{Address, Decision, Outcome};

use super::commits::{Facts, KvRead, LookupRead};
use super::journal::DecisionId;
use crate::StoreError;
use crate::record::Record;

/// Recorded mail, for the threads that decide it again. What no record holds is a fact as of now. Blocking: a task of the runtime
/// never calls it.
pub trait Records: Facts {
    /// Returns the mails of a selection, the oldest first, up to the newest that is decided now.
    fn recorded(&self, selection: &Selection) -> Result<Box<dyn RecordedMails>, StoreError>;

    /// Returns one decided mail; `None` if it does not exist.
    fn recorded_mail(&self, id: DecisionId) -> Result<Option<RecordedMail>, StoreError>;

    /// Returns the record of a decided mail; `None` if it does not exist.
    fn evidence(&self, id: DecisionId) -> Result<Option<Evidence>, StoreError>;
}

/// The mails of a [`Selection`]. They are read page by page and hold no snapshot.
pub trait RecordedMails: Iterator<Item = Result<RecordedMail, StoreError>> + Send {
    /// Returns the last mail that may be among them: none was decided after it.
    fn upto(&self) -> DecisionId;

    /// Returns how many are still to come.
    fn remaining(&self) -> Result<u64, StoreError>;
}

/// Which recorded mails are meant; by default all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these mailboxes, by name.
    pub mailboxes: Option<Vec<String>>,
    /// Milliseconds since 1970 in UTC: mails journalled then or later.
    pub since_ms: Option<i64>,
    /// The newest so many, still from the oldest to the newest.
    pub limit: Option<usize>,
    /// Excludes later decisions.
    pub upto: Option<DecisionId>,
}

/// A mail that was decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedMail {
    pub id: DecisionId,
    pub tenant: String,
    pub mailbox: String,
    pub message_id: String,
    /// When it was journalled, milliseconds since 1970 in UTC.
    pub received_ms: i64,
    /// In bytes, as the server stated it.
    pub size: u64,
    /// False when only its beginning was journalled.
    pub whole: bool,
    pub outcome: Outcome,
}

/// The record of one decided mail.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub(crate) record: String,
    /// The mail as fetched; none when it was purged.
    pub raw: Option<Bytes>,
}

/// A decision with all that led to it and is not in the mail.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub from: Option<Address>,
    pub subject: String,
    pub decision: Decision,
    pub kv_reads: Vec<KvRead>,
    pub lookups: Vec<LookupRead>,
}

impl Evidence {
    /// In bytes, all of it.
    pub fn size(&self) -> usize {
        self.record.len() + self.raw.as_ref().map_or(0, Bytes::len)
    }

    /// The decision, whose outcome stands with the mail.
    pub fn read(&self, outcome: Outcome) -> Result<Recorded, StoreError> {
        let record: Record<'_> = serde_json::from_str(&self.record)?;
        Ok(Recorded {
            from: record.from.map(Cow::into_owned),
            subject: record.subject.into_owned(),
            decision: Decision {
                outcome,
                ..record.decision.into_owned()
            },
            kv_reads: record.kv_reads.into_owned(),
            lookups: record.lookups.into_owned(),
        })
    }
}
