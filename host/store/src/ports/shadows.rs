//! Shadows: a candidate rule that also decides a mailbox's next mails, and its differences from the live rule, mail by mail.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{ContentHash, TroubleKind};

use super::journal::DecisionId;
use super::records::RecordedMail;
use crate::StoreError;

/// Returns the final state of a shadow that decided all its mails, and the reason.
pub type ShadowOutcome = fn(&Shadow) -> (ShadowState, Option<String>);

/// Shadows, as the service follows them.
#[async_trait]
pub trait Shadows: Send + Sync {
    /// Returns all shadows that are kept, newest first.
    async fn shadows(&self) -> Result<Vec<Shadow>, StoreError>;

    /// Returns the shadows that run or are to be promoted.
    async fn active_shadows(&self) -> Result<Vec<Shadow>, StoreError>;

    /// Returns one shadow, or `None` if it is no longer kept.
    async fn shadow(&self, id: ShadowId) -> Result<Option<Shadow>, StoreError>;

    /// Returns the candidate, or `None` if a newer shadow of its mailbox has started or it was promoted.
    async fn shadow_bytes(&self, id: ShadowId) -> Result<Option<Bytes>, StoreError>;

    /// Returns a shadow's next mails that are decided and not recorded, at most `limit`, from one snapshot. `reached` is the mail
    /// up to which all have been dealt with, if more is known than was recorded.
    async fn shadow_page(
        &self,
        shadow: &Shadow,
        reached: i64,
        limit: usize,
    ) -> Result<ShadowPage, StoreError>;

    /// Records mails, and the mail up to which all have been dealt with. A mail recorded before counts once. When as many as
    /// wanted have been decided, `then` gives the final state and the reason. Writes nothing if the shadow no longer runs.
    async fn record_shadow(
        &self,
        id: ShadowId,
        mails: Vec<ShadowMail>,
        reached: i64,
        then: ShadowOutcome,
    ) -> Result<Option<Shadow>, StoreError>;

    /// Ends a shadow in this state. Returns whether it did: a shadow that has ended can only be promoted.
    async fn end_shadow(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<String>,
    ) -> Result<bool, StoreError>;
}

/// The id of a shadow. Ids are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShadowId(pub(crate) i64);

/// A shadow and its results so far.
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
    /// RFC 3339 in UTC, like `ended`.
    pub began: String,
    pub ended: Option<String>,
    pub state: ShadowState,
    /// The reason for its state, for people.
    pub reason: Option<String>,
    pub same: u64,
    pub changed: u64,
    pub failed: u64,
    pub mended: u64,
    /// Mails for which the candidate made queries that were not made then.
    pub unrecorded: u64,
    /// Mails that it could not decide, by reason. They do not count as decided.
    pub skipped: BTreeMap<String, u64>,
    /// All of the mailbox's mails up to this one have been dealt with.
    pub reached: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ShadowState {
    /// The shadow waits for the mailbox's next mails.
    Running,
    /// The candidate decided everything as the rule did and is to be promoted.
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
    /// Whether the candidate made queries that were not made then.
    pub unrecorded: bool,
    /// The candidate's computing time, or `None` if it did not run.
    pub elapsed_us: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// How the candidate failed, if it did.
    pub trouble: Option<TroubleKind>,
    /// The data needed to display the difference, opaque here. `None` without a difference, or if no more differences are kept.
    pub difference: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShadowResult {
    Same,
    /// The text says what changed.
    Changed(String),
    Failed,
    Fixed,
    /// The text says why.
    Skipped(String),
}

/// The mails that a shadow decides next, oldest first.
#[derive(Debug, Clone)]
pub struct ShadowPage {
    pub mails: Vec<RecordedMail>,
    pub(crate) before: i64,
    /// All of the mailbox's mails up to this one are decided.
    pub(crate) floor: i64,
    /// Whether there are no more for now.
    pub(crate) whole: bool,
}

impl Shadow {
    /// Returns how many mails it decided.
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
    /// Returns the mail up to which all have been dealt with once the first `done` of these are.
    pub fn reached(&self, done: usize) -> i64 {
        if done == self.mails.len() && self.whole {
            return self.floor;
        }
        let last = done.checked_sub(1).and_then(|last| self.mails.get(last));
        last.map_or(self.before, |mail| mail.id.0.min(self.floor))
    }
}
