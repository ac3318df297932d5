//! Decisions: the facts besides the mail that they may depend on, and the commit that makes a decision durable with all its
//! effects.

use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::lookup::{Query, QueryResult};
use postroom_core::{
    ContentHash, Decision, MailFacts, Outlets, ReopenPolicy, ThreadMethod, ThreadQuery, Threading,
};
use serde::{Deserialize, Serialize};

use super::journal::{DecisionId, JournalId};
use crate::StoreError;

/// Makes decisions durable and counts attempts at them.
#[async_trait]
pub trait Commits: Send + Sync {
    /// Writes all verdicts in order, in one transaction. On an error, nothing is written.
    async fn commit(&self, verdicts: Vec<Verdict>) -> Result<Vec<Committed>, StoreError>;

    /// Records a failure of the line on a mail, and returns the number of its failures.
    async fn failed_attempt(&self, id: JournalId, error: &str) -> Result<u32, StoreError>;

    /// Returns how many entries of a tenant wait in the outbox, for any target. Commits add to them.
    async fn outbox_waiting_of(&self, tenant: &str) -> Result<u64, StoreError>;
}

/// The facts besides the mail that a decision may depend on, for the deciding threads. Blocking: a task of the runtime never
/// calls it.
pub trait Facts: Send + Sync {
    /// Returns the ticket of this tenant that a mail belongs to, and how it was searched for. A ticket that the sender may write to
    /// takes precedence over one that they may not.
    fn thread(
        &self,
        tenant: &str,
        query: &ThreadQuery,
        reopen: &ReopenPolicy,
        now_ms: i64,
    ) -> Result<Threading, StoreError>;

    /// Returns the tenant of the ticket that a mail of a shared mailbox belongs to, if its sender takes part in that ticket or is
    /// staff. `methods` are tried in order.
    fn ticket_tenant(
        &self,
        query: &ThreadQuery,
        methods: &[ThreadMethod],
    ) -> Result<Option<String>, StoreError>;

    /// Returns the newest texts of a tenant's ticket: what its mails wrote and what was answered, a bounded number of each, cut to
    /// a bounded length. Empty if there is no such ticket.
    fn earlier_texts(&self, tenant: &str, ticket: &str) -> Result<Vec<String>, StoreError>;

    /// Returns whether this tenant has a ticket with that number (`T-12`).
    fn ticket_exists(&self, tenant: &str, ticket: &str) -> Result<bool, StoreError>;

    /// Returns the `kv` value of a tenant's rule.
    fn kv(&self, tenant: &str, rule: &str, key: &str) -> Result<Option<String>, StoreError>;

    /// Returns how many keys a tenant's rule holds, and how many bytes of keys and values.
    fn kv_usage(&self, tenant: &str, rule: &str) -> Result<(u64, u64), StoreError>;

    /// Returns the first mail of this tenant that the mail with these marks is a copy of.
    fn first_copy(
        &self,
        tenant: &str,
        marks: &[ContentHash],
        confirmed: bool,
        received_ms: i64,
    ) -> Result<Option<DecisionId>, StoreError>;

    /// Returns the first `most` tickets or alerts of this tenant that match a query. Contacts and assets are not stored here.
    fn lookup(
        &self,
        tenant: &str,
        question: &Query,
        most: usize,
    ) -> Result<QueryResult, StoreError>;
}

/// A decision with everything that must be written along with it.
#[derive(Debug, Clone)]
pub struct Verdict {
    pub journal: JournalId,
    pub conclusion: Arc<Conclusion>,
    pub mail: MailFacts,
    pub outlets: Arc<Outlets>,
}

/// A decision with what the rules read and wrote to reach it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conclusion {
    pub decision: Decision,
    pub kv_writes: Vec<KvWrite>,
    /// The rules' reads of `kv`, recorded so that the mail can be decided again.
    pub kv_reads: Vec<KvRead>,
    /// The rules' lookups, recorded for the same reason.
    pub lookups: Vec<LookupRead>,
    /// The mail's new text, if the earlier texts of its ticket made it shorter, recorded for the same reason.
    pub reply: Option<String>,
}

impl Conclusion {
    /// Returns the conclusion of a decision without rules.
    pub fn of(decision: Decision) -> Self {
        Self {
            decision,
            kv_writes: Vec::new(),
            kv_reads: Vec::new(),
            lookups: Vec::new(),
            reply: None,
        }
    }
}

/// One read of a rule's `kv`. Without a value, the key was absent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvRead {
    pub rule: String,
    pub key: String,
    pub value: Option<String>,
}

/// One lookup by a rule, with its result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LookupRead {
    pub rule: String,
    pub question: Query,
    pub found: QueryResult,
}

/// A change to a rule's memory. Without a value, the key is deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KvWrite {
    pub rule: String,
    pub key: String,
    pub value: Option<String>,
}

/// The result of a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Committed {
    pub decision_id: DecisionId,
    /// The numbers of new tickets, such as `T-12`, in the order of the actions.
    pub tickets: Vec<String>,
    /// The conclusion that was committed instead, because a copy of the mail was committed since it was decided.
    pub instead: Option<Arc<Conclusion>>,
}
