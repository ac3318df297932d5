//! The access tokens in use: fetched once per profile, shared by all its mailboxes, renewed before they run out.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::exchange::{Exchange, ExchangeLimits};
use crate::grant::client_credentials;
use crate::{AccessToken, AuthError, Profile};

/// The profiles and their current access tokens, in memory only.
pub struct Tokens {
    http: reqwest::Client,
    limits: ExchangeLimits,
    slots: HashMap<String, Slot>,
}

impl Tokens {
    /// `http` must follow no redirects: a token request carries a secret.
    pub fn new(http: reqwest::Client, profiles: Vec<Profile>) -> Self {
        Self::with_limits(http, profiles, ExchangeLimits::default())
    }

    pub fn with_limits(
        http: reqwest::Client,
        profiles: Vec<Profile>,
        limits: ExchangeLimits,
    ) -> Self {
        let slots = profiles
            .into_iter()
            .map(|profile| {
                let slot = Slot {
                    state: Mutex::default(),
                    profile,
                };
                (slot.profile.name.clone(), slot)
            })
            .collect();
        Self {
            http,
            limits,
            slots,
        }
    }

    /// A token that is good for a while yet. One request at a time per profile: who comes meanwhile shares its
    /// outcome, be it a token or a failure.
    pub async fn access_token(&self, profile: &str) -> Result<AccessToken, AuthError> {
        let slot = self.slot(profile)?;
        let asked = Instant::now();
        let mut state = slot.state.lock().await;
        if let Some(kept) = &state.kept
            && Instant::now() < kept.renew
        {
            return Ok(kept.token.clone());
        }
        if let Some(failure) = &state.failure
            && let Some(error) = failure.shared_with(asked)
        {
            return state.still_good().ok_or(error);
        }
        tracing::debug!(profile, "requesting an access token");
        let exchange = Exchange {
            http: &self.http,
            limits: self.limits,
        };
        match client_credentials::request(&exchange, &slot.profile).await {
            Ok(granted) => {
                let token = granted.token.clone();
                *state = State {
                    kept: Some(Kept::new(granted.token, granted.lifetime)),
                    failure: None,
                };
                Ok(token)
            }
            Err(error) => {
                tracing::warn!(profile, %error, "no access token");
                state.failure = Some(Failure::new(error.clone()));
                state.still_good().ok_or(error)
            }
        }
    }

    /// Forgets a token that a server refused, unless a newer one has taken its place.
    pub async fn reject(&self, profile: &str, token: &AccessToken) {
        if let Ok(slot) = self.slot(profile) {
            let mut state = slot.state.lock().await;
            if state.kept.as_ref().is_some_and(|kept| kept.token == *token) {
                state.kept = None;
            }
        }
    }

    fn slot(&self, profile: &str) -> Result<&Slot, AuthError> {
        self.slots
            .get(profile)
            .ok_or_else(|| AuthError::UnknownProfile {
                profile: profile.to_owned(),
            })
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("profiles", &self.slots.keys())
            .finish_non_exhaustive()
    }
}

struct Slot {
    profile: Profile,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: Option<Kept>,
    failure: Option<Failure>,
}

impl State {
    fn still_good(&self) -> Option<AccessToken> {
        self.kept
            .as_ref()
            .filter(|kept| Instant::now() < kept.expires)
            .map(|kept| kept.token.clone())
    }
}

struct Kept {
    token: AccessToken,
    renew: Instant,
    expires: Instant,
}

impl Kept {
    /// A lifetime that no server stated.
    const UNSTATED: Duration = Duration::from_secs(5 * 60);
    /// How long before its expiry a token is renewed; a short-lived one after three quarters of its life.
    const AHEAD: Duration = Duration::from_secs(5 * 60);
    /// Longer lifetimes are cut to this.
    const LONGEST: Duration = Duration::from_secs(48 * 60 * 60);

    fn new(token: AccessToken, lifetime: Option<Duration>) -> Self {
        let lifetime = lifetime.unwrap_or(Self::UNSTATED).min(Self::LONGEST);
        let now = Instant::now();
        Self {
            token,
            renew: now + lifetime - Self::AHEAD.min(lifetime / 4),
            expires: now + lifetime,
        }
    }
}

struct Failure {
    error: AuthError,
    at: Instant,
}

impl Failure {
    fn new(error: AuthError) -> Self {
        Self {
            error,
            at: Instant::now(),
        }
    }

    /// This failure for one who asked at `asked`: when the request failed while they waited, or the server wants
    /// to be left alone for longer.
    fn shared_with(&self, asked: Instant) -> Option<AuthError> {
        let mut error = self.error.clone();
        if let AuthError::Transient {
            retry_after: Some(left),
            ..
        } = &mut error
        {
            *left = left.saturating_sub(self.at.elapsed());
            if !left.is_zero() {
                return Some(error);
            }
        }
        (self.at >= asked).then_some(error)
    }
}

#[cfg(test)]
mod tests;
