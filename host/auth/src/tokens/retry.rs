//! Retry policy of failed token requests.

use std::time::Duration;

use postroom_core::backoff::Backoff;

use crate::advice;
use crate::{AuthError, Grant, Remedy};

/// The pauses after failures. During a pause no request is sent: all callers get the failure that began it. A sign-in ends
/// every pause.
#[derive(Debug, Clone, Copy)]
pub struct RetryPolicy {
    /// After a temporary failure. A `Retry-After` is added to it.
    pub transient: Backoff,
    /// After an invalid answer.
    pub nonsense: Backoff,
    /// After a refusal that an admin has to end.
    pub admin: Backoff,
    /// After the server considered us a client in a loop.
    pub stay_away: Backoff,
    /// The time within which at most two tokens of an account are replaced because a server refused them: if a mailbox
    /// lacks a permission, every new token is refused as well.
    pub rejections: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        const MINUTE: Duration = Duration::from_secs(60);
        Self {
            // Full jitter: accounts that failed together are spread over the whole window.
            transient: Backoff {
                first: Duration::from_secs(1),
                longest: 5 * MINUTE,
                spread_percent: 100,
            },
            nonsense: Backoff {
                first: MINUTE,
                longest: 15 * MINUTE,
                spread_percent: 25,
            },
            admin: Backoff {
                first: 15 * MINUTE,
                longest: 15 * MINUTE,
                spread_percent: 25,
            },
            stay_away: Backoff {
                first: 75 * MINUTE,
                longest: 75 * MINUTE,
                spread_percent: 20,
            },
            rejections: MINUTE,
        }
    }
}

impl RetryPolicy {
    /// Returns the pause after the `attempts`-th failure in a row; `None` if only a sign-in ends it.
    pub(super) fn pause(
        &self,
        error: &AuthError,
        grant: &Grant,
        attempts: u32,
        seed: u64,
    ) -> Option<Duration> {
        let backoff = match error {
            // The vault is local: checking again costs nothing.
            AuthError::Transient { .. } | AuthError::Vault { .. } => self.transient,
            AuthError::Nonsense { .. } => self.nonsense,
            AuthError::Refused { refusal, .. } => match advice::remedy(refusal, grant) {
                Remedy::SignIn if grant.is_interactive() => return None,
                Remedy::SignIn | Remedy::Admin => self.admin,
                Remedy::StayAway => self.stay_away,
            },
            AuthError::SignedOut { .. } => return None,
            AuthError::Unusable { .. } | AuthError::UnknownProfile { .. } => self.admin,
        };
        let asked = error.retry_after().unwrap_or_default();
        Some(asked.saturating_add(backoff.delay(attempts, seed)))
    }
}
