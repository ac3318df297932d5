//! Shadows: a candidate rule that also decides a mailbox's next mails, and its differences from the live rule, mail by mail.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ContentHash, TroubleKind};

use super::journal::DecisionId;
use super::records::RecordedMail;
use crate::StoreError;

/// Returns the state in which a shadow that decided all its mails ends, and why.
pub type ShadowOutcome = fn(&Shadow) -> (ShadowState, Option<String>);

/// Shadows as the service follows them.
#[async_trait]
pub trait Shadows: Send + Sync {
    /// Returns all shadows that are kept, the newest first.
    async fn shadows(&self) -> Result<Vec<Shadow>, StoreError>;

    /// Returns those that run or are to be promoted.
    async fn active_shadows(&self) -> Result<Vec<Shadow>, StoreError>;

    /// Returns one shadow; `None` when it is no longer kept.
    async fn shadow(&self, id: ShadowId) -> Result<Option<Shadow>, StoreError>;

    /// Returns the candidate; `None` when a newer shadow of its mailbox began, or it was promoted.
    async fn shadow_bytes(&self, id: ShadowId) -> Result<Option<Bytes>, StoreError>;

    /// Returns the next mails of a shadow that are decided and not recorded, at most `limit`, as of one moment. Up to `reached` all are
    /// done with, where more is known than was recorded.
    async fn shadow_page(
        &self,
        shadow: &Shadow,
        reached: i64,
        limit: usize,
    ) -> Result<ShadowPage, StoreError>;

    /// Records mails, and up to which mail all are done with. Mails that were recorded before count once. Once it has decided as many
    /// as are wanted, `then` gives the state in which it ends, and why. Writes nothing when it does not run any more.
    async fn record_shadow(
        &self,
        id: ShadowId,
        mails: Vec<ShadowMail>,
        reached: i64,
        then: ShadowOutcome,
    ) -> Result<Option<Shadow>, StoreError>;

    /// Ends a shadow in this state. Returns whether it did: what has ended can only be promoted.
    async fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<String>,
    ) -> Result<bool, StoreError>;
}

/// One shadow, by a number that is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShadowId(pub(crate) i64);

/// A shadow and what it came to so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    pub id: ShadowId,
    pub tenant: String,
    pub mailbox: String,
    pub rule: String,
    pub hash: ContentHash,
    pub replaces: ContentHash,
    pub limit_us: u64,
    pub limit_memory_bytes: u64,
    pub wanted: u64,
    pub promote: bool,
    /// RFC 3339 in UTC, as is `ended`.
    pub began: String,
    pub ended: Option<String>,
    pub state: ShadowState,
    /// Why it is in this state, for people.
    pub reason: Option<String>,
    pub same: u64,
    pub changed: u64,
    pub failed: u64,
    pub mended: u64,
    /// Mails for which the candidate asked what was not asked then.
    pub unrecorded: u64,
    /// Mails that it could not decide, which do not count as decided, by reason.
    pub skipped: BTreeMap<String, u64>,
    /// Up to this mail all of the mailbox are done with.
    pub reached: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowState {
    /// Waits for the mailbox's next mails.
    Running,
    /// It decided all as the rule did and is to be promoted.
    Promoting,
    Finished,
    Stopped,
    Promoted,
    Failed,
}

/// One mail of a shadow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShadowMail {
    pub mail: DecisionId,
    pub result: ShadowResult,
    /// Whether the candidate asked what was not asked then.
    pub unrecorded: bool,
    /// The candidate's computing time; `None` if it did not run.
    pub elapsed_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// The kind of trouble that the candidate was in.
    pub trouble: Option<TroubleKind>,
    /// Opaque here: what is needed to show it. None where it is the same, or where more is not kept.
    pub difference: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShadowResult {
    Same,
    /// The text is what changed.
    Changed(String),
    Failed,
    Fixed,
    /// The text is why.
    Skipped(String),
}

/// Mails that are a shadow's turn, the oldest first.
#[derive(Debug, Clone)]
pub struct ShadowPage {
    pub mails: Vec<RecordedMail>,
    pub(crate) before: i64,
    /// Up to this mail all of the mailbox are decided.
    pub(crate) floor: i64,
    /// Whether there are no more for now.
    pub(crate) whole: bool,
}

impl Shadow {
    /// Mails that it decided.
    pub fn decided(&self) -> u64 {
        self.same + self.changed + self.failed + self.mended
    }

    pub fn is_active(&self) -> bool {
        matches!(self.state, ShadowState::Running | ShadowState::Promoting)
    }
}

impl ShadowState {
    pub(crate) const ALL: [Self; 6] = [
        Self::Running,
        Self::Promoting,
        Self::Finished,
        Self::Stopped,
        Self::Promoted,
        Self::Failed,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Promoting => "promoting",
            Self::Finished => "finished",
            Self::Stopped => "stopped",
            Self::Promoted => "promoted",
            Self::Failed => "failed",
        }
    }
}

impl ShadowPage {
    /// Up to which mail all are done with once the first `done` of these are.
    pub fn reached(&self, done: usize) -> i64 {
        if done == self.mails.len() && self.whole {
            return self.floor;
        }
        let last = done.checked_sub(1).and_then(|last| self.mails.get(last));
        last.map_or(self.before, |mail| mail.id.0.min(self.floor))
    }
}
