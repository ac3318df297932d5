//! Why no token could be had: typed, so that advice and retries never hang on a text.

use std::time::Duration;

/// A failed token request. Cheap to clone, since all who waited for one request share its failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("there is no profile named {profile}")]
    UnknownProfile { profile: String },

    /// The authorization server is out of reach, busy or ill: trying again may help.
    #[error("profile {profile}: the authorization server could not answer: {reason}")]
    Transient {
        profile: String,
        reason: String,
        /// How long the server asks us to stay away, counted from when this error was made.
        retry_after: Option<Duration>,
    },

    /// The authorization server said no (RFC 6749 section 5.2).
    #[error(
        "profile {profile}: the authorization server refused: {error}{}{}",
        listed(codes),
        described(description)
    )]
    Refused {
        profile: String,
        /// The standard's error word, such as `invalid_client`.
        error: String,
        /// Microsoft's AADSTS numbers; empty elsewhere.
        codes: Vec<u32>,
        description: Option<String>,
        correlation_id: Option<String>,
    },

    /// What came back is no answer of an authorization server: HTML, nothing at all, or far too much.
    #[error("profile {profile}: the token address gave no token answer: {reason}")]
    Nonsense { profile: String, reason: String },
}

impl AuthError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, AuthError::Transient { .. })
    }

    /// How long the server asks us to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            AuthError::Transient { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub fn profile(&self) -> &str {
        match self {
            AuthError::UnknownProfile { profile }
            | AuthError::Transient { profile, .. }
            | AuthError::Refused { profile, .. }
            | AuthError::Nonsense { profile, .. } => profile,
        }
    }
}

fn listed(codes: &[u32]) -> String {
    codes.iter().map(|code| format!(" AADSTS{code}")).collect()
}

fn described(description: &Option<String>) -> String {
    description
        .as_ref()
        .map_or_else(String::new, |text| format!(" ({text})"))
}
