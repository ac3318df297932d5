//! The reasons of a decision as stored: everything listings show that no query needs to find.

use postroom_core::decision::{Refusal, Trouble};
use postroom_core::{Action, Address, Decision, Thread};
use serde::{Deserialize, Serialize};

use crate::commit::{KvRead, LookupRead};

#[derive(Serialize, Deserialize)]
pub(crate) struct Record {
    pub from: Option<Address>,
    pub subject: String,
    pub rule: String,
    pub rule_hash: String,
    pub generation: u64,
    pub thread: Option<Thread>,
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
    pub troubles: Vec<Trouble>,
    pub repairs: Vec<String>,
    pub log: Vec<String>,
    pub kv_reads: Vec<KvRead>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<LookupRead>,
    pub elapsed_us: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called_from: Vec<String>,
}

impl Record {
    pub(crate) fn new(
        from: Option<Address>,
        subject: String,
        decision: Decision,
        kv_reads: Vec<KvRead>,
        lookups: Vec<LookupRead>,
    ) -> Self {
        Self {
            from,
            subject,
            rule: decision.rule,
            rule_hash: decision.rule_hash,
            generation: decision.generation,
            thread: decision.thread,
            actions: decision.actions,
            refused: decision.refused,
            troubles: decision.troubles,
            repairs: decision.repairs,
            log: decision.log,
            kv_reads,
            lookups,
            elapsed_us: decision.elapsed_us,
            decided_at: decision.decided_at,
            called_from: decision.called_from,
        }
    }
}
