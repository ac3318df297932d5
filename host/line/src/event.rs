//! The events of the bus. They are cheap to clone and hold no mail, so a lagging reader keeps little memory in use.

use std::sync::Arc;
use std::time::Duration;

use postroom_config::{Changes, Config, Problem};
use postroom_core::{MailboxState, Receipt};
use postroom_mailbox::Renumbering;
use postroom_rules::directory::DirectoryReloaded;
use postroom_rules::publication::ReloadEvent;
use postroom_rules::rulebook::Reloaded;
use postroom_store::{Committed, Conclusion, DecisionId, JournalId, OutboxEntry};

use crate::Mailbox;
use crate::deliver::TargetId;
use crate::intake::IntakeError;

/// Something that happened. What concerns the store is already durable.
#[derive(Clone)]
pub enum LineEvent {
    /// The mails decided in one commit.
    Decided(Arc<[MailDecided]>),
    Delivered(Arc<Delivered>),
    DeliveryFailed(Arc<DeliveryFailed>),
    /// One reload: the rules that went live, were refused, or were rolled back together.
    RulesReloaded(Arc<Reloaded>),
    /// A directory reload: contacts and assets that went live or were refused.
    DirectoryReloaded(Arc<DirectoryReloaded>),
    MailboxChanged(Arc<MailboxChanged>),
    ConfigurationChanged(Arc<ConfigurationChanged>),
}

/// The result of a look at the configuration's files that found something new.
pub struct ConfigurationChanged {
    /// The applied changes; `None` if nothing was applied.
    pub applied: Option<AppliedChanges>,
    /// Why files, or all of them, are used as they were before.
    pub refused: Vec<Problem>,
}

/// An applied configuration.
pub struct AppliedChanges {
    /// Its number; `None` if it is not recorded.
    pub number: Option<u64>,
    pub config: Arc<Config>,
    pub changes: Changes,
    /// How long it took.
    pub took: Duration,
}

/// A mail whose decision has been committed.
pub struct MailDecided {
    pub mailbox: Arc<Mailbox>,
    pub mail: JournalId,
    pub message_id: String,
    /// `None` if the mail could not be parsed.
    pub subject: Option<String>,
    pub conclusion: Arc<Conclusion>,
    pub committed: Committed,
}

/// An outbox entry that its target accepted.
pub struct Delivered {
    pub delivery: DeliveryId,
    pub receipt: Receipt,
}

/// An outbox entry that its target refused while it accepted others. An outage of the target is not an event of its entries.
pub struct DeliveryFailed {
    pub delivery: DeliveryId,
    pub problem: String,
    pub consequence: FailureConsequence,
}

/// Identifies an outbox entry and its target.
pub struct DeliveryId {
    pub target: TargetId,
    pub entry: i64,
    pub tenant: String,
    /// `None` for an alert of Postroom itself.
    pub decision: Option<DecisionId>,
}

/// The consequence of a failed attempt for its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureConsequence {
    /// The entry is retried until it reaches this age.
    Retry {
        pause: Duration,
        give_up_after: Duration,
        /// Whether the target had refused it before.
        again: bool,
    },
    /// Some recipients have it; delivery to the others is retried.
    RetryRest {
        pause: Duration,
    },
    DeadLetter,
}

/// A mailbox whose state changed.
pub struct MailboxChanged {
    pub mailbox: Arc<Mailbox>,
    pub change: StateChange,
}

/// How a mailbox's state changed.
pub enum StateChange {
    /// The mailbox serves; `before` is the previous state.
    Serving { before: MailboxState },
    /// A session failed, and the next one waits.
    Paused {
        state: MailboxState,
        error: Arc<IntakeError>,
        pause: Duration,
    },
    /// The server renumbered its mail, so the folder is read again.
    Renumbered(Renumbering),
    /// Some of its folders cannot be opened, for these reasons; the others are read.
    PartlyRead(String),
    /// The tenant's share of the outbox is full.
    OutboxFull,
}

impl From<ReloadEvent> for LineEvent {
    fn from(event: ReloadEvent) -> Self {
        match event {
            ReloadEvent::Rules(reloaded) => LineEvent::RulesReloaded(Arc::new(reloaded)),
            ReloadEvent::Directory(reloaded) => LineEvent::DirectoryReloaded(Arc::new(reloaded)),
        }
    }
}

impl DeliveryId {
    pub fn of(entry: &OutboxEntry) -> Self {
        Self {
            target: (entry.kind, entry.target.clone()),
            entry: entry.id,
            tenant: entry.tenant.clone(),
            decision: entry.decision,
        }
    }
}

impl StateChange {
    /// Returns the new state.
    pub fn state(&self) -> MailboxState {
        match self {
            StateChange::Serving { .. } => MailboxState::Serving,
            StateChange::Paused { state, .. } => *state,
            StateChange::Renumbered(_) => MailboxState::Renumbered,
            StateChange::PartlyRead(_) => MailboxState::PartlyRead,
            StateChange::OutboxFull => MailboxState::OutboxFull,
        }
    }

    /// Describes the change for people.
    pub fn detail(&self) -> String {
        match self {
            StateChange::Serving { .. } => String::new(),
            StateChange::Paused { error, .. } => error.to_string(),
            StateChange::Renumbered(renumbering) => renumbering.to_string(),
            StateChange::PartlyRead(reasons) => reasons.clone(),
            StateChange::OutboxFull => "the tenant's share of the outbox is full".to_owned(),
        }
    }
}
