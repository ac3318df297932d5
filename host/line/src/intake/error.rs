//! Why a session with a mailbox ended, the resulting state, and how long the mailbox then waits.

use std::time::Duration;

use postroom_config::Unavailable;
use postroom_core::MailboxState;
use postroom_core::backoff::backoff;
use postroom_mailbox::SourceError;
use postroom_store::StoreError;

use crate::REFUSED_PASSWORD;

/// The longest pause before a mailbox in trouble is retried.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// The pause of a mailbox whose account waits for a person. No server is contacted meanwhile; news of the account end the pause
/// early.
const SIGN_IN_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The longest pause before a full disk is checked again.
const FULL_PAUSE: Duration = Duration::from_secs(10);

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

    /// Returns the pause. `seed` differs between mailboxes, so that those that failed together do not come back together.
    pub(super) fn pause(&self, failures: u32, seed: u64, has_account: bool) -> Duration {
        match self {
            IntakeError::Source(SourceError::Auth(error)) if error.is_transient() => {
                let asked = error.retry_after().unwrap_or_default();
                backoff(failures, seed).min(LONGEST_PAUSE).max(asked)
            }
            IntakeError::Source(SourceError::Auth(_)) => SIGN_IN_PAUSE,
            IntakeError::Source(error @ SourceError::OverLimit { .. }) => {
                let asked = error.retry_after().unwrap_or_default();
                backoff(failures, seed).min(LONGEST_PAUSE).max(asked)
            }
            IntakeError::Source(SourceError::RefusedLogin { .. }) if !has_account => {
                REFUSED_PASSWORD.delay(failures, seed)
            }
            // Space may be freed at any moment.
            IntakeError::Store(StoreError::Full) => backoff(failures, 0).min(FULL_PAUSE),
            _ => backoff(failures, seed).min(LONGEST_PAUSE),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_names_a_pause_is_left_alone_for_so_long() {
        for (asked_secs, failures, expected) in
            [(Some(300), 1, 300), (Some(1), 20, 60), (None, 20, 60)]
        {
            let busy = IntakeError::Source(SourceError::OverLimit {
                step: postroom_net::Step::List,
                text: "ErrorServerBusy".into(),
                retry_after: asked_secs.map(Duration::from_secs),
            });
            let pause = busy.pause(failures, 7, false).as_secs();
            assert_eq!(pause, expected, "{asked_secs:?} {failures}");
        }
    }

    #[test]
    fn a_refused_password_is_tried_ever_more_seldom_and_a_refused_token_each_minute() {
        let refused = IntakeError::Source(SourceError::RefusedLogin {
            user: "support@acme.example".into(),
            challenge: None,
            code: None,
            text: "no".into(),
        });
        for (failures, has_account, from_secs, to_secs) in [
            (1, false, 45, 60),
            (3, false, 180, 240),
            (20, false, 675, 900),
            (1, true, 0, 1),
            (20, true, 60, 60),
        ] {
            let pause = refused.pause(failures, 7, has_account).as_secs();
            assert!(
                (from_secs..=to_secs).contains(&pause),
                "{failures} {has_account}: {pause}"
            );
        }
    }
}
