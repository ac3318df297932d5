//! Changes that commands make, with or without a running service. A running service follows them as soon as it sees them.

use bytes::Bytes;
use postroom_core::{ContentHash, Outcome};

use super::journal::DecisionId;
use super::shadows::{Shadow, ShadowId, ShadowState};
use crate::StoreError;

/// Changes the store on a person's behalf. Each change is one transaction, or a few short ones. Blocking.
pub trait Control: Send + Sync {
    /// Makes entries due now, with their age and attempts reset. Returns the result for each, in the given order or in the order
    /// of ids. A running service notices and tries the targets at once.
    fn retry_outbox(
        &self,
        wanted: &OutboxSelection,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError>;

    /// Ends entries that are waiting or dead without sending them. Records who did it and why.
    fn drop_outbox(
        &self,
        ids: &[i64],
        by: &str,
        reason: Option<&str>,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError>;

    /// Has one mail decided again, or drops it from quarantine. The decision that this ends is kept. A running service decides the
    /// mail within a second.
    fn change_mail(
        &self,
        id: DecisionId,
        request: MailRequest,
        by: &str,
        reason: Option<&str>,
    ) -> Result<MailChange, StoreError>;

    /// Makes the versions of an earlier generation the newest generation, and refuses those that they replace. Drops no
    /// generation: the service decides how many are kept when it saves one.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`] if it is not kept, [`StoreError::RulesNotKept`] if only the given tenant's rules are not.
    fn roll_back(&self, wanted: &Rollback) -> Result<RolledBack, StoreError>;

    /// Starts a shadow. Of the mailbox's earlier shadows, only the counts are kept.
    ///
    /// # Errors
    /// [`StoreError::ShadowRuns`] if the mailbox already has one, [`StoreError::ShadowMails`] if it asks for no mails or too
    /// many.
    fn start_shadow(&self, new: &NewShadow) -> Result<Shadow, StoreError>;

    /// Ends a shadow; see [`Shadows::end_shadow`](super::Shadows::end_shadow).
    fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError>;
}

/// What a person wants of a decided mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailRequest {
    /// Decide it again by the present rules. With `force` also if it made a ticket, a note or an alert, which stay.
    Again { force: bool },
    /// Decide it again; if its rules quarantine it again, it becomes a plain ticket. For quarantined mail.
    Release,
    /// Make it an ignored mail. For quarantined mail.
    Drop,
}

/// The result of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailChange {
    Changed,
    /// There is no decision with this id.
    Unknown,
    /// It waits to be decided again already.
    Waits,
    /// It is not in quarantine, but has this outcome.
    NotQuarantined(Outcome),
    /// Its decision made items, which would be made twice.
    MadeItems(Outcome),
    /// Only its beginning was fetched.
    Incomplete,
    /// Its bytes are no longer kept.
    Purged,
}

/// Which entries are retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxSelection {
    /// The entries with these ids.
    Entries(Vec<i64>),
    /// All entries that are waiting for, or dead at, the target with this name.
    Target(String),
    /// All dead entries, at one target or at any.
    Dead { target: Option<String> },
}

/// The result for one named entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxChange {
    Changed,
    /// There is no entry with this id.
    Unknown,
    /// The entry has ended in this state, which allows no such change.
    Ended(&'static str),
    /// The entry's payload was purged.
    Purged,
}

/// Which rules are rolled back, and to which generation.
#[derive(Debug, Clone, Default)]
pub struct Rollback {
    /// The generation whose versions return. By default, the one before the newest, or before the newest that changed the
    /// tenant's rules.
    pub to: Option<u64>,
    /// Only rules of this tenant.
    pub tenant: Option<String>,
    /// Only the rule with this name.
    pub name: Option<String>,
}

/// The result of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation whose versions returned.
    pub to: u64,
    /// The new generation, or `None` if everything was already as requested.
    pub generation: Option<u64>,
    /// The tenant and name of each rule that was rolled back.
    pub rules: Vec<(String, String)>,
    /// The tenants whose rules stay as they are, because their rules of that generation are no longer kept.
    pub not_kept: Vec<String>,
}

/// A shadow to be started.
#[derive(Debug, Clone)]
pub struct NewShadow {
    pub tenant: String,
    pub mailbox: String,
    /// The rule that the candidate stands in for, as the chain names it.
    pub rule: String,
    /// The hash of `bytes`.
    pub hash: ContentHash,
    /// The candidate, in the form in which a generation stores rules.
    pub bytes: Bytes,
    /// The hash of the rule's own file when the shadow starts.
    pub replaces: ContentHash,
    /// The time limit that the candidate runs under.
    pub limit_us: u64,
    pub limit_memory_bytes: u64,
    /// The number of mails to decide.
    pub wanted: u64,
    /// Whether the candidate is promoted if it decided all of them as the rule did.
    pub promote: bool,
}
