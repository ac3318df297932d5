//! Errors of fetching mail, typed so that retries and advice never depend on text.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use postroom_auth::AuthError;
use postroom_exchange::ExchangeError;
use postroom_net::{ConnectError, FailedStep, Step, Unreachable};

/// A failed step of a source. Server texts are shortened and free of control characters.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection can be made; may be temporary.
    #[error("{}: {reason}", why.step())]
    Unreachable { why: Unreachable, reason: String },

    /// The network or the server failed; temporary.
    #[error("{step}: {reason}")]
    Transient { step: Step, reason: String },

    #[error("{step}: no answer within {secs} s")]
    Timeout { step: Step, secs: u64 },

    /// No access token could be obtained.
    #[error("token: {0}")]
    Auth(#[from] AuthError),

    /// The server refused the sign-in.
    #[error("authenticate: {user} was refused: {text}{}", challenged(challenge))]
    RefusedLogin {
        user: String,
        /// An XOAUTH2 server's statement about the token: JSON by convention.
        challenge: Option<String>,
        /// The response code's name (RFC 5530 section 3), such as `AUTHENTICATIONFAILED`.
        code: Option<String>,
        text: String,
    },

    /// The sign-in succeeded, but everything that needs the mailbox fails: Exchange's "User is authenticated but not
    /// connected".
    #[error("select: signed in, but not connected to the mailbox: {text}")]
    NotConnected { text: String },

    /// The token is valid, but its owner may not open the mailbox.
    #[error("select: no access to the mailbox {user}: {text}")]
    AccessDenied {
        user: String,
        /// The server's error code.
        code: String,
        text: String,
    },

    /// The sign-in succeeded, but the folder cannot be opened.
    #[error("select: folder {folder} cannot be opened: {text}")]
    Folder {
        folder: String,
        /// Whether the server reports that the folder does not exist.
        missing: bool,
        text: String,
    },

    /// Another session has the mailbox, which is temporary: a POP3 server may allow only one session at a time.
    #[error("select: another session has the mailbox open: {text}")]
    InUse { text: String },

    /// The POP3 server has no UIDL, so no mail can be recognised in another session.
    #[error("list: the server gives mails no unique ids (UIDL): {text}")]
    NoUniqueIds { text: String },

    #[error("tls: {reason}")]
    Tls {
        reason: String,
        /// The TLS error, or `None` if TLS never began.
        cause: Option<rustls::Error>,
    },

    /// The server refused a command.
    #[error("{step}: refused: {text}")]
    Refused {
        step: Step,
        /// The server's machine-readable reason, in upper case for IMAP and POP3, or an HTTP API's error code.
        code: Option<String>,
        text: String,
    },

    /// The server's limit on connections, commands or rates is reached; temporary.
    #[error("{step}: the server's limit is reached: {text}")]
    OverLimit {
        step: Step,
        text: String,
        /// How long the server asks not to be contacted.
        retry_after: Option<Duration>,
    },

    /// The mailbox has no room for what the command would add.
    #[error("{step}: the mailbox is over its quota: {text}")]
    OverQuota { step: Step, text: String },

    /// The server violates the protocol.
    #[error("{step}: the server violates the protocol: {reason}")]
    Protocol { step: Step, reason: String },

    /// The stored cursor or position does not belong to this source.
    #[error("cursor: not a position of this mailbox: {text}")]
    UnknownCursor { text: String },

    /// A value from the configuration cannot be sent.
    #[error("{step}: {reason}")]
    Unusable { step: Step, reason: String },

    #[error("file: {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

impl SourceError {
    /// Returns whether the same call may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        match self {
            SourceError::Transient { .. }
            | SourceError::Timeout { .. }
            | SourceError::OverLimit { .. }
            | SourceError::InUse { .. }
            | SourceError::Unreachable { .. } => true,
            SourceError::Auth(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Returns how long the server asks not to be contacted, if it said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            SourceError::OverLimit { retry_after, .. } => *retry_after,
            SourceError::Auth(error) => error.retry_after(),
            _ => None,
        }
    }

    /// Returns the step that failed.
    pub fn step(&self) -> Step {
        match self {
            SourceError::Transient { step, .. }
            | SourceError::Timeout { step, .. }
            | SourceError::Refused { step, .. }
            | SourceError::OverLimit { step, .. }
            | SourceError::OverQuota { step, .. }
            | SourceError::Protocol { step, .. }
            | SourceError::Unusable { step, .. } => *step,
            SourceError::Auth(_) => Step::Token,
            SourceError::RefusedLogin { .. } => Step::Authenticate,
            SourceError::Folder { .. }
            | SourceError::NotConnected { .. }
            | SourceError::InUse { .. } => Step::Select,
            SourceError::AccessDenied { .. } => Step::Select,
            SourceError::NoUniqueIds { .. } => Step::List,
            SourceError::Unreachable { why, .. } => why.step(),
            SourceError::Tls { .. } => Step::Tls,
            SourceError::UnknownCursor { .. } => Step::Cursor,
            SourceError::File { .. } => Step::File,
        }
    }
}

impl FailedStep for SourceError {
    fn failed_step(&self) -> Step {
        self.step()
    }
}

impl From<ExchangeError> for SourceError {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Unreachable { why, reason } => SourceError::Unreachable { why, reason },
            // Reading is repeated, whatever became of the request.
            ExchangeError::Transient { step, reason } | ExchangeError::Lost { step, reason } => {
                SourceError::Transient { step, reason }
            }
            ExchangeError::Timeout { step, secs } => SourceError::Timeout { step, secs },
            ExchangeError::Auth(error) => SourceError::Auth(error),
            ExchangeError::RefusedLogin { user, code, text } => SourceError::RefusedLogin {
                user,
                challenge: None,
                code,
                text,
            },
            ExchangeError::NotConnected { text } => SourceError::NotConnected { text },
            ExchangeError::AccessDenied { user, code, text } => {
                SourceError::AccessDenied { user, code, text }
            }
            ExchangeError::Tls { reason, cause } => SourceError::Tls { reason, cause },
            ExchangeError::Refused { step, code, text } => {
                SourceError::Refused { step, code, text }
            }
            ExchangeError::OverLimit {
                step,
                text,
                retry_after,
            } => SourceError::OverLimit {
                step,
                text,
                retry_after,
            },
            ExchangeError::OverQuota { step, text } => SourceError::OverQuota { step, text },
            ExchangeError::Protocol { step, reason } => SourceError::Protocol { step, reason },
            ExchangeError::Unusable { step, reason } => SourceError::Unusable { step, reason },
        }
    }
}

impl From<ConnectError> for SourceError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { why, reason } => SourceError::Unreachable { why, reason },
            ConnectError::Tls { reason, cause } => SourceError::Tls { reason, cause },
            ConnectError::Broken(error) => SourceError::Transient {
                step: Step::Tls,
                reason: error.to_string(),
            },
            ConnectError::Timeout { step, secs } => SourceError::Timeout { step, secs },
        }
    }
}

fn challenged(challenge: &Option<String>) -> String {
    challenge
        .as_ref()
        .map_or_else(String::new, |text| format!(" {text}"))
}
