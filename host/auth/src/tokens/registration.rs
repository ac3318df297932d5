//! A profile in use, with the addresses of its authorization server, found once for all its accounts.

use std::time::Instant;

use tokio::sync::Mutex;

use super::Env;
use crate::grant::discovery::{self, ResolvedEndpoints};
use crate::{Account, AuthError, Endpoints, Profile};

pub(super) struct Registration {
    pub(super) profile: Profile,
    found: Mutex<Found>,
}

#[derive(Default)]
struct Found {
    endpoints: Option<ResolvedEndpoints>,
    failed: Option<(Instant, AuthError)>,
}

impl Registration {
    pub(super) fn new(profile: Profile) -> Self {
        Self {
            profile,
            found: Mutex::default(),
        }
    }

    /// The profile's addresses. The issuer is asked once; who waited while that failed shares the failure.
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

/// The same failure, said of another account of the profile.
fn of_account(mut error: AuthError, of: &Account) -> AuthError {
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
