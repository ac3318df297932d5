//! The vault's record of one account.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::ServerRefusal;
use crate::{AccessToken, Account, AuthError, Secret};

/// Everything received for one account, and how the last request ended.
#[derive(Debug, Clone)]
pub struct Record {
    pub account: Account,
    /// The name, as in the configuration, of the grant that it was received with.
    pub grant: String,
    /// The registration that it was received for, as a digest: tokens are never sent for another. `None` before the first
    /// response.
    pub registration: Option<String>,
    /// The name of the user who signed in, as the authorization server states it.
    pub identity: Option<String>,
    pub refresh_token: Option<Secret>,
    pub refresh_expires: Option<Timestamp>,
    /// One per set of scopes.
    pub access: Vec<Access>,
    pub last_refresh: Option<Timestamp>,
    /// Set before a refresh token is sent, and cleared with the response; it stays set if the process died or the response
    /// was lost.
    pub refreshing_since: Option<Timestamp>,
    /// A digest of the application's credential at the time of the failure.
    pub credential: Option<String>,
    /// The failure of the last request if no retry helps, or else the first of a series of failures that may be temporary.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// The requested scopes, in order.
    pub scopes: Vec<String>,
    pub token: AccessToken,
    pub expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    pub cause: Cause,
    pub at: Timestamp,
    /// Whether an earlier refresh got no response: the server may have replaced the refresh token with one that never
    /// arrived.
    #[serde(default)]
    pub answer_lost: bool,
}

/// The cause of a failure that outlasts a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    Refused(ServerRefusal),
    Nonsense(String),
    Unusable(String),
    /// May be temporary; stored because it may not be.
    Transient(String),
}

impl Failure {
    /// Returns the failure as it was received.
    pub fn error(&self, account: &Account) -> AuthError {
        let account = account.clone();
        match self.cause.clone() {
            Cause::Refused(refusal) => AuthError::Refused {
                account,
                refusal: Box::new(refusal),
            },
            Cause::Nonsense(reason) => AuthError::Nonsense { account, reason },
            Cause::Unusable(reason) => AuthError::Unusable { account, reason },
            Cause::Transient(reason) => AuthError::Transient {
                account,
                reason,
                retry_after: None,
            },
        }
    }
}

impl Cause {
    /// Returns the stored form of a failure; `None` when the vault itself failed.
    pub(crate) fn of(error: &AuthError) -> Option<Self> {
        match error {
            AuthError::Refused { refusal, .. } => Some(Self::Refused((**refusal).clone())),
            AuthError::Nonsense { reason, .. } => Some(Self::Nonsense(reason.clone())),
            AuthError::Unusable { reason, .. } => Some(Self::Unusable(reason.clone())),
            AuthError::Transient { reason, .. } => Some(Self::Transient(reason.clone())),
            AuthError::UnknownProfile { .. }
            | AuthError::SignedOut { .. }
            | AuthError::Vault { .. } => None,
        }
    }
}

impl Record {
    /// Returns the record of an account before anything was received for it.
    pub fn new(account: Account, grant: &str) -> Self {
        Self {
            account,
            grant: grant.to_owned(),
            registration: None,
            credential: None,
            identity: None,
            refresh_token: None,
            refresh_expires: None,
            access: Vec::new(),
            last_refresh: None,
            refreshing_since: None,
            failure: None,
        }
    }
}
