//! Changes that commands make beside a running service, which follows as soon as it sees them, or without one.

use bytes::Bytes;
use postroom_core::ContentHash;

use super::shadows::{Shadow, ShadowId, ShadowState};
use crate::StoreError;

/// Each change is one transaction, or a few short ones. Blocking.
pub trait Control: Send + Sync {
    /// Makes entries due now, with a fresh age and no tries counted. Returns the result for each, in the order given or of their ids. A
    /// running service sees it, and tries the targets at once.
    fn retry_outbox(
        &self,
        wanted: &OutboxSelection,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError>;

    /// Ends entries that are waiting or dead: they are not sent. Who did it, and why, is recorded.
    fn drop_outbox(
        &self,
        ids: &[i64],
        by: &str,
        reason: Option<&str>,
    ) -> Result<Vec<(i64, OutboxChange)>, StoreError>;

    /// Makes the versions of an earlier generation the newest one, and refuses those that they replace. It drops no generation: how
    /// many are kept is for the service, which saves them.
    ///
    /// # Errors
    /// [`StoreError::NoSuchGeneration`] when it is not kept, [`StoreError::RulesNotKept`] when only the one tenant's rules are not.
    fn roll_back(&self, wanted: &Rollback) -> Result<RolledBack, StoreError>;

    /// Begins a shadow. Earlier ones of the mailbox keep their counts only.
    ///
    /// # Errors
    /// [`StoreError::ShadowRuns`] when the mailbox has one, [`StoreError::ShadowMails`] when it is of no mails or of too many.
    fn start_shadow(&self, new: &NewShadow) -> Result<Shadow, StoreError>;

    /// As [`Shadows::end_shadow`](super::Shadows::end_shadow).
    fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<&str>,
    ) -> Result<bool, StoreError>;
}

/// Which entries are retried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutboxSelection {
    /// These.
    Entries(Vec<i64>),
    /// All that are waiting for, or dead at, the target of this name.
    Target(String),
    /// All that are dead; at one target, or at any.
    Dead { target: Option<String> },
}

/// The result for one named entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutboxChange {
    Changed,
    /// There is no entry with this id.
    Unknown,
    /// It has ended in this state, which allows no such change.
    Ended(&'static str),
    /// Its payload was purged.
    Purged,
}

/// Which rules go back, and to where.
#[derive(Debug, Clone, Default)]
pub struct Rollback {
    /// The generation whose versions return; unless given, the one before the newest, or before the newest
    /// that changed the tenant's rules.
    pub to: Option<u64>,
    /// Only rules of this tenant.
    pub tenant: Option<String>,
    /// Only the rule of this name.
    pub name: Option<String>,
}

/// The result of a rollback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolledBack {
    /// The generation whose versions returned.
    pub to: u64,
    /// The new generation; none when all was as it is wanted.
    pub generation: Option<u64>,
    /// Tenant and name of each rule that went back.
    pub rules: Vec<(String, String)>,
    /// The tenants whose rules stay as they are, because those of the generation are no longer kept.
    pub not_kept: Vec<String>,
}

/// A shadow that is to begin.
#[derive(Debug, Clone)]
pub struct NewShadow {
    pub tenant: String,
    pub mailbox: String,
    /// The rule in whose place the candidate stands, as the chain names it.
    pub rule: String,
    /// The hash of `bytes`.
    pub hash: ContentHash,
    /// The candidate, as a generation keeps rules.
    pub bytes: Bytes,
    /// The hash of the rule's own file at the start of the shadow.
    pub replaces: ContentHash,
    /// Under which the candidate runs.
    pub limit_us: u64,
    pub limit_memory_bytes: u64,
    /// Mails that it decides.
    pub wanted: u64,
    /// Whether it is promoted when it decided all of them as the rule did.
    pub promote: bool,
}
