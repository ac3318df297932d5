//! The runway: what of an account will stop working, and when.

use jiff::Timestamp;
use serde::Serialize;

use crate::vault::{Record, VaultError};
use crate::{Account, Profile};

/// One row of `auth status`; the JSON keys are a contract.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    pub profile: String,
    pub login: Option<String>,
    pub grant: &'static str,
    pub identity: Option<String>,
    pub scopes: Vec<String>,
    pub access_expires: Option<Timestamp>,
    pub refresh_expires: Option<Timestamp>,
    /// The client secret's or certificate's end, whichever the profile has.
    pub secret_expires: Option<Timestamp>,
    pub last_refresh: Option<Timestamp>,
    pub state: State,
    /// What breaks next and when, or what is broken and how to mend it; empty when nothing is in sight.
    pub advice: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Ok,
    /// Something ends within 60 days.
    Expiring,
    Failed,
    SignedOut,
}

/// Judges one account. `scopes` are those it is used with.
pub fn status(
    _profile: &Profile,
    _account: &Account,
    _scopes: Vec<String>,
    _record: Result<Option<&Record>, &VaultError>,
    _now: Timestamp,
) -> Status {
    todo!()
}
