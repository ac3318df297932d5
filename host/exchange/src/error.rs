//! Errors of a request to Exchange, typed so that retries and advice never depend on text.

use std::time::Duration;

use postroom_auth::AuthError;
use postroom_net::{ConnectError, FailedStep, Step, Unreachable};

/// A failed request. Server texts are shortened and free of control characters.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// No connection can be made; may be temporary.
    #[error("{}: {reason}", why.step())]
    Unreachable { why: Unreachable, reason: String },

    /// The network or the server failed; temporary.
    #[error("{step}: {reason}")]
    Transient { step: Step, reason: String },

    /// The connection ended, or a gateway gave up, after the request was sent: the server may have carried it out.
    #[error("{step}: {reason}")]
    Lost { step: Step, reason: String },

    /// No answer came in time; the server may have carried out the request.
    #[error("{step}: no answer within {secs} s")]
    Timeout { step: Step, secs: u64 },

    /// No access token could be obtained.
    #[error("token: {0}")]
    Auth(#[from] AuthError),

    /// The server refused the sign-in.
    #[error("authenticate: {user} was refused: {text}")]
    RefusedLogin {
        user: String,
        code: Option<String>,
        text: String,
    },

    /// The sign-in succeeded, but there is no mailbox for it.
    #[error("select: signed in, but not connected to the mailbox: {text}")]
    NotConnected { text: String },

    /// The token is valid, but its owner may not do this in the mailbox.
    #[error("select: no access to the mailbox {user}: {text}")]
    AccessDenied {
        user: String,
        /// The server's error code.
        code: String,
        text: String,
    },

    #[error("tls: {reason}")]
    Tls {
        reason: String,
        /// The TLS error, or `None` if TLS never began.
        cause: Option<rustls::Error>,
    },

    /// The server refused a request.
    #[error("{step}: refused: {text}")]
    Refused {
        step: Step,
        /// The server's error code.
        code: Option<String>,
        text: String,
    },

    /// The server's limit on connections or rates is reached; temporary.
    #[error("{step}: the server's limit is reached: {text}")]
    OverLimit {
        step: Step,
        text: String,
        /// How long the server asks not to be contacted.
        retry_after: Option<Duration>,
    },

    /// The mailbox has no room for what the request would add.
    #[error("{step}: the mailbox is over its quota: {text}")]
    OverQuota { step: Step, text: String },

    /// The server violates the protocol.
    #[error("{step}: the server violates the protocol: {reason}")]
    Protocol { step: Step, reason: String },

    /// A value from the configuration cannot be sent.
    #[error("{step}: {reason}")]
    Unusable { step: Step, reason: String },
}

impl FailedStep for ExchangeError {
    fn failed_step(&self) -> Step {
        match self {
            ExchangeError::Transient { step, .. }
            | ExchangeError::Lost { step, .. }
            | ExchangeError::Timeout { step, .. }
            | ExchangeError::Refused { step, .. }
            | ExchangeError::OverLimit { step, .. }
            | ExchangeError::OverQuota { step, .. }
            | ExchangeError::Protocol { step, .. }
            | ExchangeError::Unusable { step, .. } => *step,
            ExchangeError::Auth(_) => Step::Token,
            ExchangeError::RefusedLogin { .. } => Step::Authenticate,
            ExchangeError::NotConnected { .. } | ExchangeError::AccessDenied { .. } => Step::Select,
            ExchangeError::Unreachable { why, .. } => why.step(),
            ExchangeError::Tls { .. } => Step::Tls,
        }
    }
}

impl From<ConnectError> for ExchangeError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { why, reason } => ExchangeError::Unreachable { why, reason },
            ConnectError::Tls { reason, cause } => ExchangeError::Tls { reason, cause },
            ConnectError::Broken(error) => ExchangeError::Transient {
                step: Step::Tls,
                reason: error.to_string(),
            },
            ConnectError::Timeout { step, secs } => ExchangeError::Timeout { step, secs },
        }
    }
}

#[cfg(test)]
mod tests {
    use postroom_net::ProxyFault;

    use super::*;

    #[test]
    fn an_unreachable_proxy_is_the_step_that_failed() {
        for (why, step) in [
            (Unreachable::Refused, Step::Connect),
            (Unreachable::Proxy(ProxyFault::Unreachable), Step::Proxy),
        ] {
            let reason = "refused".to_owned();
            let error = ExchangeError::from(ConnectError::Unreachable { why, reason });
            assert_eq!(error.failed_step(), step);
            assert_eq!(error.to_string(), format!("{step}: refused"));
        }
    }
}
