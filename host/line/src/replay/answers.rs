//! Provides capabilities from the record: a rule that runs again receives the recorded results.

use std::sync::Arc;

use postroom_core::lookup::{Query, QueryResult};
use postroom_sandbox::{Kv, KvError, Lookup, LookupError};
use postroom_store::{Facts, KvRead, LookupRead, StoreError};

use super::{Asked, Unrecorded};
use postroom_rules::chain_run::{CapabilityProvider, ChainOutcome};

/// The record of one mail.
pub struct FromRecord<'a> {
    pub facts: &'a dyn Facts,
    pub tenant: &'a str,
    pub kv_reads: Arc<Vec<KvRead>>,
    pub lookups: Arc<Vec<LookupRead>>,
}

impl CapabilityProvider for FromRecord<'_> {
    fn kv(&self, rule: &str) -> Arc<dyn Kv> {
        Arc::new(RecordedKv {
            reads: self.kv_reads.clone(),
            rule: rule.to_owned(),
        })
    }

    fn lookup(&self, rule: &str) -> Arc<dyn Lookup> {
        Arc::new(RecordedLookup {
            lookups: self.lookups.clone(),
            rule: rule.to_owned(),
        })
    }

    /// The record is always available.
    fn failure(&self) -> Option<StoreError> {
        None
    }

    /// Uses the current state, since a ticket is never deleted.
    fn ticket_exists(&self, ticket: &str) -> Result<bool, StoreError> {
        self.facts.ticket_exists(self.tenant, ticket)
    }
}

impl FromRecord<'_> {
    /// Returns the candidate's queries that have no recorded result.
    pub fn unrecorded(&self, answer: &ChainOutcome) -> Vec<Unrecorded> {
        let reads = answer.kv_reads.iter();
        let reads = reads
            .filter(|read| kv_read(&self.kv_reads, &read.rule, &read.key).is_none())
            .map(|read| Unrecorded {
                rule: read.rule.clone(),
                asked: Asked::Kv,
                key: read.key.clone(),
            });
        let lookups = answer.lookups.iter();
        let lookups = lookups
            .filter(|it| lookup(&self.lookups, &it.rule, &it.question).is_none())
            .map(|it| Unrecorded {
                rule: it.rule.clone(),
                asked: Asked::Lookup,
                key: it.question.to_string(),
            });
        reads.chain(lookups).collect()
    }
}

fn kv_read<'r>(reads: &'r [KvRead], rule: &str, key: &str) -> Option<&'r KvRead> {
    let mut reads = reads.iter();
    reads.find(|read| read.rule == rule && read.key == key)
}

fn lookup<'r>(lookups: &'r [LookupRead], rule: &str, question: &Query) -> Option<&'r QueryResult> {
    let mut lookups = lookups.iter();
    let known = lookups.find(|it| it.rule == rule && it.question == *question)?;
    Some(&known.found)
}

/// One rule's memory, as far as it was read. The rest of what the rule stored is unknown, so these totals refuse nothing.
struct RecordedKv {
    reads: Arc<Vec<KvRead>>,
    rule: String,
}

impl Kv for RecordedKv {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        let read = kv_read(&self.reads, &self.rule, key);
        Ok(read.and_then(|read| read.value.clone()))
    }
}

/// The recorded lookups of one rule. Other queries return nothing.
struct RecordedLookup {
    lookups: Arc<Vec<LookupRead>>,
    rule: String,
}

impl Lookup for RecordedLookup {
    fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError> {
        let known = lookup(&self.lookups, &self.rule, question);
        let mut found = known.cloned().unwrap_or_else(|| question.nothing());
        found.truncate(most);
        Ok(found)
    }
}
