//! The tokens in use: one refresh at a time per account, kept in the vault before they are used, renewed ahead of their end.

use std::fmt;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::exchange::ExchangeLimits;
use crate::runway::Status;
use crate::sign_in::{Code, CodeSignIn, DeviceSignIn};
use crate::vault::Vault;
use crate::{AccessToken, Account, AccountUse, AuthError, Profile, Resource};

/// The profiles, their accounts and their tokens.
pub struct Tokens {
    _vault: Vault,
}

/// The moments of a refresh between which a crash must lose nothing; told to [`Tokens::on_step`]'s observer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshStep {
    /// The vault says that a refresh began; nothing was sent.
    Begun,
    /// The answer is here and not yet stored.
    Received,
    /// The answer is durable and not yet used.
    Stored,
}

impl Tokens {
    /// `http` must follow no redirects: a token request carries a secret.
    pub fn new(
        _http: reqwest::Client,
        _profiles: Vec<Profile>,
        _accounts: Vec<AccountUse>,
        _vault: Vault,
    ) -> Self {
        todo!()
    }

    pub fn with_limits(self, _limits: ExchangeLimits) -> Self {
        todo!()
    }

    /// Tells of each step of each refresh, for tests that kill the process there.
    pub fn on_step(self, _observer: fn(RefreshStep)) -> Self {
        todo!()
    }

    /// A token that is good for a while yet. One request at a time per account: who comes meanwhile shares its outcome, be it a
    /// token or a failure.
    pub async fn access_token(
        &self,
        _account: &Account,
        _resource: Resource,
    ) -> Result<AccessToken, AuthError> {
        todo!()
    }

    /// Forgets a token that a server refused, unless a newer one has taken its place.
    pub async fn reject(&self, _account: &Account, _token: &AccessToken) {
        todo!()
    }

    /// Renews the tokens in use ahead of their end and notices sign-ins by other processes, until stopped.
    pub async fn keep(&self, _stop: CancellationToken) {
        todo!()
    }

    /// Changes whenever an account that had failed works again.
    pub fn recovered(&self) -> watch::Receiver<u64> {
        todo!()
    }

    pub fn profile(&self, _name: &str) -> Option<&Profile> {
        todo!()
    }

    pub fn accounts(&self) -> &[AccountUse] {
        todo!()
    }

    /// The address of the sign-in page, with PKCE and a fresh state. `redirect` is where the answer will arrive.
    pub async fn begin_code(
        &self,
        _account: &Account,
        _redirect: &str,
    ) -> Result<CodeSignIn, AuthError> {
        todo!()
    }

    /// Exchanges the code and stores what it brings.
    pub async fn finish_code(
        &self,
        _sign_in: CodeSignIn,
        _code: Code,
    ) -> Result<Status, AuthError> {
        todo!()
    }

    pub async fn begin_device(&self, _account: &Account) -> Result<DeviceSignIn, AuthError> {
        todo!()
    }

    /// Asks as often as the server allows until the person is done, declined, or came too late.
    pub async fn finish_device(&self, _sign_in: DeviceSignIn) -> Result<Status, AuthError> {
        todo!()
    }

    /// A new token by a grant that needs no person, whatever failed before.
    pub async fn sign_in_directly(&self, _account: &Account) -> Result<Status, AuthError> {
        todo!()
    }

    /// Forgets all that is kept of an account. True when there was something.
    pub async fn sign_out(&self, _account: &Account) -> Result<bool, AuthError> {
        todo!()
    }

    /// Every account's state as the vault has it, without asking anybody.
    pub fn statuses(&self, _now: Timestamp) -> Result<Vec<Status>, AuthError> {
        todo!()
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").finish_non_exhaustive()
    }
}
