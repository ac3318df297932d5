//! A profile in use, with the endpoints of its authorization server, discovered once for all its accounts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use tokio::sync::Mutex;

use super::Env;
use super::client::Client;
use crate::grant::discovery::{self, ResolvedEndpoints};
use crate::vault::Record;
use crate::{Account, AuthError, ClientCredential, Endpoints, Grant, Profile, Secret};

pub(super) struct Registration {
    pub(super) profile: Arc<Profile>,
    /// The accounts that use it. A changed configuration may add some.
    accounts: std::sync::Mutex<Vec<Account>>,
    /// A digest of the application's credential.
    pub(super) credential: String,
    /// The lock whose holder makes the discovery request for all.
    pub(super) gate: Mutex<()>,
    client: std::sync::Mutex<Client>,
    found: Mutex<Found>,
    /// Whether an invalid lifetime was already logged.
    has_warned: AtomicBool,
}

#[derive(Default)]
struct Found {
    endpoints: Option<ResolvedEndpoints>,
    failed: Option<(Instant, AuthError)>,
}

impl Registration {
    pub(super) fn new(profile: Profile, accounts: Vec<Account>) -> Self {
        Self {
            credential: credential(&profile),
            profile: Arc::new(profile),
            accounts: std::sync::Mutex::new(accounts),
            gate: Mutex::default(),
            client: std::sync::Mutex::default(),
            found: Mutex::default(),
            has_warned: AtomicBool::default(),
        }
    }

    pub(super) fn accounts(&self) -> Vec<Account> {
        let accounts = self.accounts.lock();
        accounts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn set_accounts(&self, accounts: Vec<Account>) {
        let mut held = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        *held = accounts;
    }

    /// Returns the application's state. The lock is never held while waiting for anything.
    pub(super) fn client(&self) -> std::sync::MutexGuard<'_, Client> {
        self.client.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Logs once that the stated lifetime of tokens is too short to be believed.
    pub(super) fn warn_of_lifetime(&self, stated: Duration, taken: Duration) {
        if !self.has_warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                profile = self.profile.name,
                expires_in = stated.as_secs(),
                taken_for_secs = taken.as_secs(),
                "the authorization server reports tokens that expire at once; the lifetime is ignored"
            );
        }
    }

    /// Returns the profile's endpoints. The issuer is requested once; callers that waited while that failed share the
    /// failure.
    pub(super) async fn endpoints(
        &self,
        env: &Env,
        account: &Account,
    ) -> Result<ResolvedEndpoints, AuthError> {
        let exchange = env.exchange();
        if let Endpoints::Fixed { .. } = self.profile.endpoints {
            return discovery::resolve(&exchange, &self.profile, account).await;
        }
        let asked = Instant::now();
        let mut found = self.found.lock().await;
        if let Some(endpoints) = &found.endpoints {
            return Ok(endpoints.clone());
        }
        if let Some((at, error)) = &found.failed
            && *at >= asked
        {
            return Err(of_account(error.clone(), account));
        }
        match discovery::resolve(&exchange, &self.profile, account).await {
            Ok(endpoints) => {
                found.endpoints = Some(endpoints.clone());
                Ok(endpoints)
            }
            Err(error) => {
                found.failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

impl Profile {
    /// Returns a digest that identifies the registration: the endpoints and the application. Tokens received for one
    /// registration are never sent for another.
    pub fn registration(&self) -> String {
        let (kind, url) = match &self.endpoints {
            Endpoints::Fixed { token, .. } => ("token", token),
            Endpoints::Discovered { issuer } => ("issuer", issuer),
        };
        let directory = self.directory.as_deref().unwrap_or_default();
        let parts = [kind, url.as_str(), &self.client_id, directory];
        BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, parts.join("\0").as_bytes()))
    }
}

/// Returns the digest stored in the vault, encrypted, which shows whether a secret was changed since it was refused.
fn credential(profile: &Profile) -> String {
    let proof: Vec<&str> = match &profile.client {
        ClientCredential::None => Vec::new(),
        ClientCredential::Secret {
            secret, previous, ..
        } => [Some(secret), previous.as_ref()]
            .into_iter()
            .flatten()
            .map(Secret::expose)
            .collect(),
        ClientCredential::Certificate(certificate) => vec![certificate.thumbprint()],
    };
    let user: Vec<&str> = match &profile.grant {
        Grant::Password { username, password } => vec![username, password.expose()],
        Grant::ServiceAccount(key) => vec![&key.client_email],
        Grant::AuthorizationCode { .. } | Grant::DeviceCode | Grant::ClientCredentials => {
            Vec::new()
        }
    };
    // The registration is its salt.
    let salt = profile.registration();
    let parts = [vec![salt.as_str()], proof, user].concat();
    BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, parts.join("\0").as_bytes()))
}

/// Returns whether the contents of the record were received for this registration.
pub(crate) fn is_of(record: &Record, profile: &Profile) -> bool {
    record.registration.as_ref() == Some(&profile.registration())
}

/// Returns the same failure for another account of the profile.
pub(super) fn of_account(mut error: AuthError, of: &Account) -> AuthError {
    match &mut error {
        AuthError::UnknownProfile { .. } => {}
        AuthError::Transient { account, .. }
        | AuthError::Refused { account, .. }
        | AuthError::Nonsense { account, .. }
        | AuthError::SignedOut { account }
        | AuthError::Unusable { account, .. }
        | AuthError::Vault { account, .. } => account.clone_from(of),
    }
    error
}
