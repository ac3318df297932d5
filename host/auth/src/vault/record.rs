//! What the vault keeps of one account.

use jiff::Timestamp;

use crate::error::Refusal;
use crate::{AccessToken, Account, Secret};

/// Everything received for one account, and how the last request ended.
#[derive(Debug, Clone)]
pub struct Record {
    pub account: Account,
    /// The configuration's name of the grant it was received by.
    pub grant: String,
    /// Who signed in, as the authorization server names them.
    pub identity: Option<String>,
    pub refresh_token: Option<Secret>,
    pub refresh_expires: Option<Timestamp>,
    /// One for each set of scopes.
    pub access: Vec<Access>,
    pub last_refresh: Option<Timestamp>,
    /// Set before a refresh token is sent, cleared with its answer: a process that died, or an answer that was lost, leaves it.
    pub refreshing_since: Option<Timestamp>,
    /// The last request's failure that no retry cures.
    pub failure: Option<Failure>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// As asked for, in order.
    pub scopes: Vec<String>,
    pub token: AccessToken,
    pub expires: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Failure {
    pub refusal: Refusal,
    pub at: Timestamp,
    /// An earlier refresh got no answer: the server may have replaced the refresh token with one that never arrived.
    #[serde(default)]
    pub answer_lost: bool,
}

impl Record {
    /// The record of an account of which nothing was received yet.
    pub fn new(account: Account, grant: &str) -> Self {
        Self {
            account,
            grant: grant.to_owned(),
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
