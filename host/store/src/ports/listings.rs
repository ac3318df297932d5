//! Listings: what happened and why, for people and programs.

use std::collections::BTreeMap;

use bytes::Bytes;
use postroom_core::decision::{Refusal, Trouble};
use postroom_core::{
    Action, AlertState, Classified, ItemKind, ItemSnapshot, MailboxState, Outcome, Provenance,
    RuleStep, Thread,
};
use serde::Serialize;

use super::alert_watch::ExpectationRow;
use super::commits::{KvRead, LookupRead};
use super::configurations::AppliedConfiguration;
use super::journal::{DecisionId, JournalId};
use super::outbox::OutboxKind;
use super::records::Records;
use super::shadows::{Shadow, ShadowId, ShadowMail};
use super::versions::{Generation, LastGood, RuleRecord};
use crate::StoreError;

/// All rows of a listing, oldest first. They are read page by page, so even the longest listing keeps neither the memory nor a
/// snapshot occupied. A row that cannot be read is left out and named in the log.
pub type Rows<T> = Box<dyn Iterator<Item = Result<T, StoreError>> + Send>;

/// Everything that commands list, with or without a running service. Blocking: a task of the runtime never calls it.
pub trait Listings: LastGood + Records {
    /// Returns decisions in the order of journalling.
    fn decisions(&self, filter: &Filter) -> Result<Rows<DecisionRow>, StoreError>;

    /// Returns one decision, or `None` if it does not exist.
    fn decision(&self, id: DecisionId) -> Result<Option<DecisionRow>, StoreError>;

    /// Returns tickets, notes and alerts in the order in which they were created.
    fn items(&self, filter: &Filter) -> Result<Rows<ItemSnapshot>, StoreError>;

    /// Returns the mails that rules expect, those that are due first at the beginning.
    fn expectations(&self) -> Result<Vec<ExpectationRow>, StoreError>;

    /// Returns every delivery that is still recorded, finished or not.
    fn outbox(&self, filter: &Filter) -> Result<Rows<OutboxRow>, StoreError>;

    /// Returns the decisions about a mail that a person ended, oldest first.
    fn earlier_decisions(&self, id: DecisionId) -> Result<Vec<EarlierDecision>, StoreError>;

    /// Returns the deliveries that a decision made and that are still recorded.
    fn deliveries(&self, decision: DecisionId) -> Result<Vec<OutboxRow>, StoreError>;

    /// Returns one entry with its content, or `None` if it does not exist.
    fn outbox_entry(&self, id: i64) -> Result<Option<OutboxDetail>, StoreError>;

    /// Returns the mails set aside for a person.
    fn quarantine(&self, filter: &Filter) -> Result<Rows<QuarantineRow>, StoreError>;

    /// Returns one quarantined mail with its bytes, or `None` if it does not exist.
    fn quarantined(&self, id: DecisionId) -> Result<Option<Quarantined>, StoreError>;

    /// Returns every mailbox ever seen, by name.
    fn mailboxes(&self) -> Result<Vec<MailboxRow>, StoreError>;

    /// Returns the ledger by mailbox, then day. Only tenant, mailbox, since (whole days) and limit (the newest days) of the
    /// filter apply.
    fn ledger(&self, filter: &Filter) -> Result<Vec<LedgerRow>, StoreError>;

    /// Returns mails that arrived again and were not decided again, newest first. Only tenant, mailbox, since and limit of the
    /// filter apply.
    fn repeats(&self, filter: &Filter) -> Result<Vec<RepeatRow>, StoreError>;

    /// Returns the bytes of a mail as fetched, or `None` if there is no such mail or its bytes were purged.
    fn raw(&self, id: JournalId) -> Result<Option<Bytes>, StoreError>;

    /// Returns the newest generation's number; 0 before the first.
    fn newest_generation(&self) -> Result<u64, StoreError>;

    /// Returns the generations that are kept, newest first, at most `limit`.
    fn generations(&self, limit: Option<usize>) -> Result<Vec<Generation>, StoreError>;

    /// Returns the rules of one generation, by tenant and name, or `None` if it is not kept.
    fn generation_rules(&self, number: u64) -> Result<Option<Vec<RuleRecord>>, StoreError>;

    /// Returns the tenants for which [`Listings::generation_rules`] is incomplete, because older versions are no longer kept.
    fn partly_kept(&self, number: u64) -> Result<Vec<String>, StoreError>;

    /// Returns the applied configurations that are kept, newest first, at most `limit`.
    fn configurations(&self, limit: Option<usize>)
    -> Result<Vec<AppliedConfiguration>, StoreError>;

    /// Returns the texts of an applied configuration's files by name, or `None` if it is not kept.
    fn configuration_files(
        &self,
        number: u64,
    ) -> Result<Option<BTreeMap<String, String>>, StoreError>;

    /// Returns all shadows that are kept, newest first.
    fn shadows(&self) -> Result<Vec<Shadow>, StoreError>;

    /// Returns one shadow, or `None` if it is no longer kept.
    fn shadow(&self, id: ShadowId) -> Result<Option<Shadow>, StoreError>;

    /// Returns the newest shadow of a mailbox.
    fn shadow_of(&self, mailbox: &str) -> Result<Option<Shadow>, StoreError>;

    /// Returns a shadow's candidate, or `None` if a newer shadow of its mailbox has started or it was promoted.
    fn shadow_bytes(&self, id: ShadowId) -> Result<Option<Bytes>, StoreError>;

    /// Returns the mails that a shadow recorded, oldest first.
    fn shadow_mails(&self, id: ShadowId) -> Result<Vec<ShadowMail>, StoreError>;
}

/// The filter of a listing. By default, everything is listed.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub tenant: Option<String>,
    pub mailbox: Option<String>,
    /// Only mails journalled at this time or later, in milliseconds since 1970 in UTC.
    pub since_ms: Option<i64>,
    /// For decisions only.
    pub outcome: Option<Outcome>,
    /// For decisions only.
    pub message_id: Option<String>,
    /// The number of a ticket, for decisions only.
    pub ticket: Option<i64>,
    /// For items only.
    pub kind: Option<ItemKind>,
    /// Only the newest rows, this many, still listed oldest first.
    pub limit: Option<usize>,
}

/// One line of `decisions --json`. The keys after `elapsed_us` appear only if they are not empty.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DecisionRow {
    pub id: DecisionId,
    pub tenant: String,
    pub mailbox: String,
    pub message_id: String,
    /// When the mail was journalled, RFC 3339 in UTC.
    pub received: String,
    /// The sender's bare address.
    pub from: Option<String>,
    pub subject: String,
    pub outcome: Outcome,
    pub rule: String,
    pub rule_hash: String,
    pub generation: u64,
    pub ticket: Option<String>,
    pub alert_key: Option<String>,
    pub alert_state: Option<AlertState>,
    pub thread: Option<Thread>,
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
    pub repairs: Vec<String>,
    pub elapsed_us: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classified: Option<Classified>,
    /// The rules that ran, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleStep>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub log: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kv_reads: Vec<KvRead>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lookups: Vec<LookupRead>,
    /// The `file:line:column` at which a script made the deciding action.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// The calls that led there, innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub called_from: Vec<String>,
    /// The facts about the sender and the thread: `client`, `staff`, `requester` and `steps`.
    #[serde(flatten)]
    pub provenance: Provenance,
    /// An old mail is never replied to, and is sent to no target unless the mailbox asks for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub old: bool,
}

/// A decision about a mail that a person had decided again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EarlierDecision {
    pub outcome: Outcome,
    pub rule: String,
    pub actions: Vec<Action>,
    pub decided: String,
    /// When a person ended it.
    pub ended: String,
    pub by: String,
    pub reason: Option<String>,
}

/// One line of `outbox --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxRow {
    pub id: i64,
    pub kind: OutboxKind,
    pub target: String,
    pub tenant: String,
    /// `None` for an alert of Postroom itself.
    pub decision: Option<DecisionId>,
    /// `waiting`, `delivered`, `dead` or `dropped`.
    pub state: &'static str,
    /// Failed attempts that count; for a delivered entry, all attempts.
    pub attempts: u32,
    pub created: String,
    /// When it is tried next, or `None` if it has ended.
    pub due: Option<String>,
    pub finished: Option<String>,
    pub idempotency_key: String,
    /// The target's reply to the delivery.
    pub receipt: Option<String>,
    /// The last error.
    pub error: Option<String>,
    pub ticket: Option<String>,
    pub alert_key: Option<String>,
    /// The recipients of a mail.
    pub to: Vec<String>,
    /// The item's title, or the mail's subject.
    pub title: Option<String>,
    /// When its age began: when it was created or last retried by hand.
    pub since: String,
    /// When the target first refused this entry while accepting others.
    pub refused: Option<String>,
    pub dropped_by: Option<String>,
    pub dropped_reason: Option<String>,
}

/// One entry with its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutboxDetail {
    #[serde(flatten)]
    pub row: OutboxRow,
    /// Null once the entry has ended and raw mail of its age is no longer kept.
    pub payload: serde_json::Value,
}

/// One line of `quarantine list --json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QuarantineRow {
    pub id: DecisionId,
    pub tenant: String,
    pub mailbox: String,
    pub message_id: String,
    pub received: String,
    pub from: Option<String>,
    pub subject: String,
    pub reason: String,
    pub troubles: Vec<Trouble>,
    /// In bytes, as stated by the server.
    pub size: u64,
}

/// A quarantined mail with its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quarantined {
    pub row: QuarantineRow,
    /// False if `raw` is only the beginning.
    pub whole: bool,
    pub raw: Bytes,
}

/// A mailbox's state, as its intake last recorded it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MailboxRow {
    pub mailbox: String,
    /// `None` before it first serves, and for a state recorded by a newer version.
    pub state: Option<MailboxState>,
    pub detail: Option<String>,
    /// When the mailbox entered this state, RFC 3339 in UTC.
    pub since: Option<String>,
    pub pending: u64,
    /// Mails that are decided and not yet acknowledged on the server.
    pub unacknowledged: u64,
}

/// One line of `ledger --json`, in mails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    pub mailbox: String,
    /// `YYYY-MM-DD` in UTC.
    pub day: String,
    pub seen: u64,
    pub tickets: u64,
    pub notes: u64,
    pub alerts: u64,
    pub ignored: u64,
    pub quarantined: u64,
    /// Mails that are journalled and not decided yet.
    pub pending: u64,
    /// Mails that arrived again on this day, byte for byte and with the same Message-ID, and were not decided again. Not part of
    /// `seen`.
    pub repeated: u64,
}

/// A mail that arrived again and was not decided again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RepeatRow {
    pub tenant: String,
    pub mailbox: String,
    /// When it arrived again, RFC 3339 in UTC.
    pub seen: String,
    pub message_id: String,
    /// The mail that it repeats.
    pub mail: JournalId,
    /// When that mail was journalled.
    pub first: String,
}

impl LedgerRow {
    /// Returns whether every mail seen is accounted for exactly once.
    pub fn balances(&self) -> bool {
        let accounted = self.tickets
            + self.notes
            + self.alerts
            + self.ignored
            + self.quarantined
            + self.pending;
        self.seen == accounted
    }
}
