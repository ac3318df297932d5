//! The reasons for not obtaining a token: typed, so that advice and retries never depend on a text.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Account;
use crate::vault::VaultError;

/// A failed sign-in or token request. Cheap to clone, since all callers that waited for one request share its failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    #[error("there is no profile named {profile}")]
    UnknownProfile { profile: String },

    /// The authorization server is unreachable, busy or faulty: a retry may help.
    #[error("profile {account}: the authorization server could not answer: {reason}")]
    Transient {
        account: Account,
        reason: String,
        /// How long the server asks us to wait, counted from the time of this error.
        retry_after: Option<Duration>,
    },

    /// The authorization server refused (RFC 6749 section 5.2).
    #[error("profile {account}: the authorization server refused: {refusal}")]
    Refused {
        account: Account,
        refusal: Box<ServerRefusal>,
    },

    /// The response is not that of an authorization server: HTML, empty, or oversized.
    #[error("profile {account}: the token endpoint returned no token response: {reason}")]
    Nonsense { account: Account, reason: String },

    /// Nobody has signed in yet, or the sign-in was abandoned.
    #[error("profile {account}: nobody is signed in")]
    SignedOut { account: Account },

    /// The profile does not support the request, such as a sign-in page without an authorize URL.
    #[error("profile {account}: {reason}")]
    Unusable { account: Account, reason: String },

    /// The tokens cannot be stored or read.
    #[error("profile {account}: {source}")]
    Vault {
        account: Account,
        source: VaultError,
    },
}

/// A refusal of an authorization server, as stored in the vault and shown to admins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRefusal {
    /// The standard's error word, such as `invalid_client`.
    pub error: String,
    /// Microsoft's AADSTS numbers; empty elsewhere.
    #[serde(default)]
    pub codes: Vec<u32>,
    pub description: Option<String>,
    pub correlation_id: Option<String>,
}

/// The way to end a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// A person signs in again; a retry with the same token is pointless.
    SignIn,
    /// Somebody changes something at the provider or in the configuration; retried now and then.
    Admin,
    /// The server considers us a client in a loop (AADSTS50196); retried only much later.
    StayAway,
}

impl AuthError {
    /// Returns whether the same request may succeed later without any change.
    pub fn is_transient(&self) -> bool {
        matches!(self, AuthError::Transient { .. })
    }

    /// Returns how long the server asks us to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            AuthError::Transient { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub fn refusal(&self) -> Option<&ServerRefusal> {
        match self {
            AuthError::Refused { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    pub fn profile(&self) -> &str {
        match self {
            AuthError::UnknownProfile { profile } => profile,
            AuthError::Transient { account, .. }
            | AuthError::Refused { account, .. }
            | AuthError::Nonsense { account, .. }
            | AuthError::SignedOut { account }
            | AuthError::Unusable { account, .. }
            | AuthError::Vault { account, .. } => &account.profile,
        }
    }

    /// Returns the account concerned; `None` if there is not even a profile.
    pub fn account(&self) -> Option<&Account> {
        match self {
            AuthError::UnknownProfile { .. } => None,
            AuthError::Transient { account, .. }
            | AuthError::Refused { account, .. }
            | AuthError::Nonsense { account, .. }
            | AuthError::SignedOut { account }
            | AuthError::Unusable { account, .. }
            | AuthError::Vault { account, .. } => Some(account),
        }
    }
}

impl std::fmt::Display for ServerRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.error)?;
        for code in &self.codes {
            write!(f, " AADSTS{code}")?;
        }
        if let Some(text) = &self.description {
            write!(f, " ({text})")?;
        }
        Ok(())
    }
}
