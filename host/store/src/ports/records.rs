//! Recorded mail: what was journalled and decided, mail by mail, so that other rules can decide it again.

use std::borrow::Cow;

use bytes::Bytes;
use postroom_core::{Address, Decision, Outcome};

use super::commits::{Facts, KvRead, LookupRead};
use super::journal::DecisionId;
use crate::StoreError;
use crate::record::Record;

/// Recorded mail, for the threads that decide it again. Facts that are not recorded are answered from the current state.
/// Blocking: a task of the runtime never calls it.
pub trait Records: Facts {
    /// Returns the mails of a selection, oldest first, up to the newest that is decided at the time of the call.
    fn recorded(&self, selection: &Selection) -> Result<Box<dyn RecordedMails>, StoreError>;

    /// Returns one decided mail, or `None` if it does not exist.
    fn recorded_mail(&self, id: DecisionId) -> Result<Option<RecordedMail>, StoreError>;

    /// Returns the record of a decided mail, or `None` if it does not exist.
    fn evidence(&self, id: DecisionId) -> Result<Option<Evidence>, StoreError>;
}

/// The mails of a [`Selection`]. They are read page by page and hold no snapshot.
pub trait RecordedMails: Iterator<Item = Result<RecordedMail, StoreError>> + Send {
    /// Returns the last mail that may be among them: the newest one decided at the time of the selection.
    fn upto(&self) -> DecisionId;

    /// Returns how many are still to come.
    fn remaining(&self) -> Result<u64, StoreError>;
}

/// Selects recorded mails; by default, all of them.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only mails of these mailboxes, by name.
    pub mailboxes: Option<Vec<String>>,
    /// Only mails of these tenants, by name.
    pub tenants: Option<Vec<String>>,
    /// Only mails journalled at this time or later, in milliseconds since 1970 in UTC.
    pub since_ms: Option<i64>,
    /// Only the newest mails, this many, still oldest first.
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
    /// When it was journalled, in milliseconds since 1970 in UTC.
    pub received_ms: i64,
    /// In bytes, as stated by the server.
    pub size: u64,
    /// False if only its beginning was journalled.
    pub whole: bool,
    pub outcome: Outcome,
}

/// The record of one decided mail.
#[derive(Debug, Clone)]
pub struct Evidence {
    pub(crate) record: String,
    /// The mail as fetched, or `None` if it was purged.
    pub raw: Option<Bytes>,
}

/// A decision, with everything outside the mail that led to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub from: Option<Address>,
    pub subject: String,
    pub decision: Decision,
    pub kv_reads: Vec<KvRead>,
    pub lookups: Vec<LookupRead>,
    /// The mail's new text as its rules read it, if the earlier texts of its ticket made it shorter.
    pub reply: Option<String>,
}

impl Evidence {
    /// Returns the total size in bytes.
    pub fn size(&self) -> usize {
        self.record.len() + self.raw.as_ref().map_or(0, Bytes::len)
    }

    /// Reads the decision. Its outcome is stored with the mail and passed in.
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
            reply: record.reply.map(Cow::into_owned),
        })
    }
}
