//! Why mail could not be fetched: typed, so that retries and advice never hang on a text.

use std::io;
use std::path::PathBuf;

use postroom_auth::AuthError;

/// A failed step of a source. What servers said is shown shortened and free of control characters.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No connection comes about, which may pass.
    #[error("connect: {reason}")]
    Unreachable { why: Unreachable, reason: String },

    /// The network or the server failed, which passes.
    #[error("{step}: {reason}")]
    Transient { step: &'static str, reason: String },

    #[error("{step}: no answer within {secs} s")]
    Timeout { step: &'static str, secs: u64 },

    /// No access token could be had.
    #[error("token: {0}")]
    Auth(#[from] AuthError),

    /// The server refused the sign-in.
    #[error("authenticate: {user} was refused: {text}{}", challenged(challenge))]
    RefusedLogin {
        user: String,
        /// An XOAUTH2 server's statement on the token: JSON by convention.
        challenge: Option<String>,
        /// The response code's name (RFC 5530 section 3), such as `AUTHENTICATIONFAILED`.
        code: Option<String>,
        text: String,
    },

    /// The sign-in was accepted, and nothing that needs the mailbox is: Exchange's "User is authenticated but not connected".
    #[error("select: signed in, but not connected to the mailbox: {text}")]
    NotConnected { text: String },

    /// The sign-in went well and the folder cannot be opened.
    #[error("select: folder {folder} cannot be opened: {text}")]
    Folder {
        folder: String,
        /// The server says that there is no such folder.
        missing: bool,
        text: String,
    },

    #[error("tls: {reason}")]
    Tls {
        reason: String,
        /// The error of TLS itself; `None` if TLS never began.
        cause: Option<rustls::Error>,
    },

    /// The server refused a command.
    #[error("{step}: refused: {text}")]
    Refused { step: &'static str, text: String },

    /// The server's limit on connections, commands or rates is reached, which passes.
    #[error("{step}: the server's limit is reached: {text}")]
    OverLimit { step: &'static str, text: String },

    /// The mailbox has no room for what the command would add.
    #[error("{step}: the mailbox is over its quota: {text}")]
    OverQuota { step: &'static str, text: String },

    /// The server does not keep to the protocol.
    #[error("{step}: the server breaks the protocol: {reason}")]
    Protocol { step: &'static str, reason: String },

    /// The stored cursor or position is not one of this source's.
    #[error("cursor: not a position of this mailbox: {text}")]
    UnknownCursor { text: String },

    /// A value from the configuration cannot be sent.
    #[error("{step}: {reason}")]
    Unusable { step: &'static str, reason: String },

    #[error("file: {}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
}

/// Why there is no connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// No address is known for the host's name.
    UnknownHost,
    /// The machine is there and nobody listens at the port.
    Refused,
    Other,
}

impl SourceError {
    /// Whether the same may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            SourceError::Transient { .. }
            | SourceError::Timeout { .. }
            | SourceError::OverLimit { .. }
            | SourceError::Unreachable { .. } => true,
            SourceError::Auth(error) => error.is_transient(),
            _ => false,
        }
    }

    /// The step that failed: `connect`, `tls`, `greeting`, `token`, `authenticate`, `select`, `list`, `fetch`, `target`,
    /// `acknowledge`, `wait`, `cursor` or `file`.
    pub fn step(&self) -> &'static str {
        match self {
            SourceError::Transient { step, .. }
            | SourceError::Timeout { step, .. }
            | SourceError::Refused { step, .. }
            | SourceError::OverLimit { step, .. }
            | SourceError::OverQuota { step, .. }
            | SourceError::Protocol { step, .. }
            | SourceError::Unusable { step, .. } => step,
            SourceError::Auth(_) => "token",
            SourceError::RefusedLogin { .. } => "authenticate",
            SourceError::Folder { .. } | SourceError::NotConnected { .. } => "select",
            SourceError::Unreachable { .. } => "connect",
            SourceError::Tls { .. } => "tls",
            SourceError::UnknownCursor { .. } => "cursor",
            SourceError::File { .. } => "file",
        }
    }
}

fn challenged(challenge: &Option<String>) -> String {
    challenge
        .as_ref()
        .map_or_else(String::new, |text| format!(" {text}"))
}
