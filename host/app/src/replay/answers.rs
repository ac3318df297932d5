//! Answers from the record: a rule asked again is told what it was told then.

use std::sync::Arc;

use postroom_sandbox::{Kv, KvError};
use postroom_store::{KvRead, Reader, StoreError};

use super::Unrecorded;
use crate::line::walk::{Answer, Answers};

/// What was recorded with one mail.
pub struct FromRecord<'a> {
    pub reader: &'a Reader,
    pub tenant: &'a str,
    pub kv_reads: Arc<Vec<KvRead>>,
}

impl Answers for FromRecord<'_> {
    fn kv(&self, rule: &str) -> Arc<dyn Kv> {
        Arc::new(RecordedKv {
            reads: self.kv_reads.clone(),
            rule: rule.to_owned(),
        })
    }

    /// What was recorded is at hand.
    fn failure(&self) -> Option<StoreError> {
        None
    }

    /// As of now: a ticket is never deleted.
    fn ticket_exists(&self, ticket: &str) -> Result<bool, StoreError> {
        self.reader.ticket_exists(self.tenant, ticket)
    }
}

impl FromRecord<'_> {
    /// What the candidate read and the record does not have.
    pub fn unrecorded(&self, answer: &Answer) -> Vec<Unrecorded> {
        let is_recorded = |read: &KvRead| {
            self.kv_reads
                .iter()
                .any(|known| known.rule == read.rule && known.key == read.key)
        };
        let reads = answer.kv_reads.iter();
        reads
            .filter(|read| !is_recorded(read))
            .map(|read| Unrecorded {
                rule: read.rule.clone(),
                asked: "kv",
                key: read.key.clone(),
            })
            .collect()
    }
}

/// One rule's memory as far as it was read. What the rule held besides is not known, so that its totals refuse nothing.
struct RecordedKv {
    reads: Arc<Vec<KvRead>>,
    rule: String,
}

impl Kv for RecordedKv {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        let mut known = self.reads.iter();
        let read = known.find(|read| read.rule == self.rule && read.key == key);
        Ok(read.and_then(|read| read.value.clone()))
    }
}
