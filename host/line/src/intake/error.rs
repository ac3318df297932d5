//! Why a session with a mailbox ended, the resulting state, and how long the mailbox then waits.

use std::time::Duration;

use postroom_config::Unavailable;
use postroom_core::MailboxState;
use postroom_mailbox::SourceError;
use postroom_store::StoreError;

use super::FailureClass;

/// Why a session with a mailbox ended early.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mailbox's credential is unavailable. Mail in the journal is still decided.
    #[error("{}; help: {}", .0.reason, .0.help)]
    Misconfigured(#[from] Unavailable),
    /// A drain read some of the folders only.
    #[error("some folders are not read: {reasons}")]
    PartlyRead { reasons: String, decided: usize },
    /// Nothing loads the rules again before the drain is over.
    #[error(
        "the tenant's rules are not loaded, the log has the reason; its mail stays in the journal"
    )]
    NotLoaded,
    #[error("a defect of Postroom ended the session; the log has its panic")]
    Defect,
}

impl IntakeError {
    /// Returns the state that the failure puts the mailbox in.
    pub(super) fn state(&self) -> MailboxState {
        match self {
            IntakeError::Store(StoreError::Full) => MailboxState::DiskFull,
            IntakeError::Store(_) => MailboxState::StoreFailed,
            IntakeError::Source(error) if error.is_transient() => MailboxState::Unreachable,
            IntakeError::Source(SourceError::Auth(_)) => MailboxState::SignIn,
            IntakeError::Source(_) => MailboxState::Refused,
            IntakeError::Misconfigured(_) => MailboxState::Misconfigured,
            IntakeError::PartlyRead { .. } => MailboxState::PartlyRead,
            IntakeError::NotLoaded => MailboxState::NotLoaded,
            IntakeError::Defect => MailboxState::Defect,
        }
    }

    /// Returns how many mails were decided nevertheless.
    pub fn decided(&self) -> usize {
        match self {
            IntakeError::PartlyRead { decided, .. } => *decided,
            _ => 0,
        }
    }

    /// Returns whether no token could be obtained: the problem is the account's, not the mailbox's own.
    pub(crate) fn is_of_sign_in(&self) -> bool {
        matches!(self, IntakeError::Source(SourceError::Auth(_)))
    }

    /// Returns whether a new connection may be all that is needed.
    pub(super) fn is_of_connection(&self) -> bool {
        matches!(self, IntakeError::Source(error) if error.is_transient())
    }

    /// Returns the pause after a number of failures. `seed` differs between mailboxes.
    pub(super) fn pause(&self, failures: u32, seed: u64, has_account: bool) -> Duration {
        let asked = match self {
            IntakeError::Source(error) => error.retry_after(),
            _ => None,
        };
        FailureClass::of(self, has_account).pause(failures, seed, asked)
    }
}
