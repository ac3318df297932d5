//! The classes of failures of a session, and how long a mailbox waits after each: a table, decided by typed errors only.

use std::time::Duration;

use postroom_core::backoff::Backoff;
use postroom_mailbox::SourceError;
use postroom_store::StoreError;

use super::IntakeError;
use crate::REFUSED_PASSWORD;

/// The time over which mailboxes come back after a pause that their server asked for.
const SPREAD_AFTER_ASKED: Duration = Duration::from_secs(10);

/// Why a session failed, as far as it matters for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureClass {
    /// No connection, or a connection that broke, timed out or is in use elsewhere.
    Connection,
    /// The server or the authorization server is reached and asks for fewer requests.
    Throttled,
    /// The authorization server cannot be reached, or fails.
    Tokens,
    /// An account waits for a person. No server is contacted meanwhile; news of the account end the pause early.
    AwaitsPerson,
    /// The mail server refuses a password.
    RefusedPassword,
    /// The mail server refuses a token. It is no guess at a secret, and rights granted meanwhile apply at once.
    RefusedToken,
    /// The server, or the folder of a spool, refuses something that the mailbox needs: a person must change something.
    Refused,
    /// The server violates the protocol, and probably will again.
    Protocol,
    /// Our own disk is full. Space may be freed at any moment.
    DiskFull,
    /// Our own store fails otherwise.
    Store,
    /// A credential is missing, or the tenant's rules are not loaded. Neither is noticed by trying again.
    NotReady,
    /// A bug in Postroom.
    Defect,
}

/// A backoff with the default growth and spread, up to this pause.
const fn up_to(longest_secs: u64) -> Backoff {
    from_to(1, longest_secs)
}

const fn from_to(first_secs: u64, longest_secs: u64) -> Backoff {
    Backoff {
        first: Duration::from_secs(first_secs),
        longest: Duration::from_secs(longest_secs),
        spread_percent: 25,
    }
}

impl FailureClass {
    /// Returns the class of a failure. `has_account` is whether the mailbox signs in with tokens.
    pub fn of(error: &IntakeError, has_account: bool) -> Self {
        match error {
            IntakeError::Source(error) => Self::of_source(error, has_account),
            IntakeError::Store(StoreError::Full) => Self::DiskFull,
            IntakeError::Store(_) => Self::Store,
            IntakeError::Misconfigured(_) | IntakeError::NotLoaded => Self::NotReady,
            IntakeError::PartlyRead { .. } => Self::Refused,
            IntakeError::Defect => Self::Defect,
        }
    }

    fn of_source(error: &SourceError, has_account: bool) -> Self {
        match error {
            SourceError::Unreachable { .. }
            | SourceError::Transient { .. }
            | SourceError::Timeout { .. }
            | SourceError::InUse { .. } => Self::Connection,
            SourceError::OverLimit { .. } => Self::Throttled,
            SourceError::Auth(error) if error.retry_after().is_some() => Self::Throttled,
            SourceError::Auth(error) if error.is_transient() => Self::Tokens,
            SourceError::Auth(_) => Self::AwaitsPerson,
            SourceError::RefusedLogin { .. } if has_account => Self::RefusedToken,
            SourceError::RefusedLogin { .. } => Self::RefusedPassword,
            SourceError::Protocol { .. } => Self::Protocol,
            SourceError::File { .. }
            | SourceError::OverQuota { .. }
            | SourceError::NotConnected { .. }
            | SourceError::AccessDenied { .. }
            | SourceError::Folder { .. }
            | SourceError::NoUniqueIds { .. }
            | SourceError::Tls { .. }
            | SourceError::Refused { .. }
            | SourceError::UnknownCursor { .. }
            | SourceError::Unusable { .. } => Self::Refused,
        }
    }

    /// Returns how the pauses after this class grow.
    pub fn backoff(self) -> Backoff {
        match self {
            Self::Connection | Self::Tokens | Self::RefusedToken | Self::Refused => up_to(60),
            Self::Throttled => from_to(5, 5 * 60),
            Self::AwaitsPerson => from_to(5 * 60, 5 * 60),
            Self::RefusedPassword => REFUSED_PASSWORD,
            Self::Protocol => up_to(5 * 60),
            Self::DiskFull => up_to(10),
            Self::Store | Self::NotReady | Self::Defect => up_to(60),
        }
    }

    /// Returns the pause after a number of failures. `seed` differs between mailboxes, so that those that failed together do not
    /// come back together. `asked` is the time for which the server asked not to be contacted: the pause is never shorter.
    pub fn pause(self, failures: u32, seed: u64, asked: Option<Duration>) -> Duration {
        let pause = self.backoff().delay(failures, seed);
        let Some(asked) = asked else {
            return pause;
        };
        // Mailboxes that were throttled together do not come back together either.
        let late = Backoff {
            first: SPREAD_AFTER_ASKED,
            longest: SPREAD_AFTER_ASKED,
            spread_percent: 100,
        };
        pause.max(asked + late.delay(failures, seed))
    }
}

#[cfg(test)]
mod tests {
    use postroom_auth::{Account, AuthError};
    use postroom_config::Unavailable;
    use postroom_net::{Step, Unreachable};
    use postroom_store::JournalId;

    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn account() -> Account {
        Account {
            profile: "m365".into(),
            login: None,
        }
    }

    /// Each class with a failure of it, whether the mailbox has an account, and the longest pauses after the 1st, 3rd and 20th
    /// failure.
    fn table() -> Vec<(FailureClass, IntakeError, bool, [u64; 3])> {
        use FailureClass as Class;
        let text = || "no".to_owned();
        let source = IntakeError::Source;
        let transient = |retry_after| {
            source(SourceError::Auth(AuthError::Transient {
                account: account(),
                reason: text(),
                retry_after,
            }))
        };
        let login = || {
            source(SourceError::RefusedLogin {
                user: "support@acme.example".into(),
                challenge: None,
                code: None,
                text: text(),
            })
        };
        vec![
            (
                Class::Connection,
                source(SourceError::Unreachable {
                    why: Unreachable::UnknownHost,
                    reason: text(),
                }),
                false,
                [1, 4, 60],
            ),
            (
                Class::Connection,
                source(SourceError::Timeout {
                    step: Step::Fetch,
                    secs: 60,
                }),
                true,
                [1, 4, 60],
            ),
            (
                Class::Throttled,
                source(SourceError::OverLimit {
                    step: Step::List,
                    text: text(),
                    retry_after: None,
                }),
                true,
                [5, 20, 300],
            ),
            (Class::Tokens, transient(None), true, [1, 4, 60]),
            (
                Class::AwaitsPerson,
                source(SourceError::Auth(AuthError::SignedOut {
                    account: account(),
                })),
                true,
                [300, 300, 300],
            ),
            (Class::RefusedPassword, login(), false, [60, 240, 900]),
            (Class::RefusedToken, login(), true, [1, 4, 60]),
            (
                Class::Refused,
                source(SourceError::Folder {
                    folder: "Support".into(),
                    missing: true,
                    text: text(),
                }),
                true,
                [1, 4, 60],
            ),
            (
                Class::Protocol,
                source(SourceError::Protocol {
                    step: Step::Fetch,
                    reason: text(),
                }),
                true,
                [1, 4, 300],
            ),
            (Class::DiskFull, StoreError::Full.into(), true, [1, 4, 10]),
            (
                Class::Store,
                StoreError::AlreadyDecided {
                    journal: JournalId(1),
                }
                .into(),
                true,
                [1, 4, 60],
            ),
            (
                Class::NotReady,
                IntakeError::Misconfigured(Unavailable {
                    reason: text(),
                    help: text(),
                }),
                true,
                [1, 4, 60],
            ),
            (Class::Defect, IntakeError::Defect, true, [1, 4, 60]),
        ]
    }

    #[test]
    fn each_class_of_failure_has_its_own_pauses() {
        for (class, error, has_account, longest) in table() {
            assert_eq!(FailureClass::of(&error, has_account), class, "{error}");
            for (failures, longest) in [1, 3, 20].into_iter().zip(longest.map(secs)) {
                for seed in 0..50 {
                    let pause = error.pause(failures, seed, has_account);
                    assert!(
                        (longest * 3 / 4..=longest).contains(&pause),
                        "{class:?} after {failures}: {pause:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn mailboxes_that_failed_together_come_back_apart() {
        for (class, error, has_account, _) in table() {
            let pauses = (0..20).map(|seed| error.pause(5, seed, has_account));
            let distinct: std::collections::BTreeSet<_> = pauses.collect();
            assert!(distinct.len() > 10, "{class:?}: {distinct:?}");
        }
    }

    #[test]
    fn a_server_that_names_a_pause_is_left_alone_for_so_long() {
        for asked in [secs(1), secs(300), secs(3600)] {
            let busy = || SourceError::OverLimit {
                step: Step::List,
                text: "ErrorServerBusy".into(),
                retry_after: Some(asked),
            };
            let token = || {
                SourceError::Auth(AuthError::Transient {
                    account: account(),
                    reason: "429".into(),
                    retry_after: Some(asked),
                })
            };
            for error in [busy(), token()] {
                let error = IntakeError::Source(error);
                assert_eq!(FailureClass::of(&error, true), FailureClass::Throttled);
                for (failures, seed) in [(1, 7), (20, 7), (3, 8)] {
                    let pause = error.pause(failures, seed, true);
                    let most = (asked + SPREAD_AFTER_ASKED).max(secs(300));
                    assert!(pause >= asked && pause <= most, "{asked:?}: {pause:?}");
                }
            }
        }
    }
}
