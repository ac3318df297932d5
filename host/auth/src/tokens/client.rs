//! Refusals of the application itself, which concern all its accounts: one of them retries and reports for all.

use std::hash::BuildHasher;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::MutexGuard;

use super::registration::{Registration, is_of, of_account};
use super::{Env, blocking, telling};
use crate::vault::{Cause, Failure, Record};
use crate::{Account, AuthError, Grant, Profile, Provider, Remedy, ServerRefusal, advice};

/// A stored refusal of the application is retried after this time, also by a new process: an admin who corrected something at the
/// provider restarts the service, and a supervisor restarts it endlessly.
const KEPT: Duration = Duration::from_secs(60);

/// The state of an application at its authorization server.
#[derive(Default)]
pub(super) struct Client {
    /// Whether a request of this process was answered without a refusal of the application.
    is_known: bool,
    refused: Option<Refused>,
    /// Refusals in a row.
    attempts: u32,
    told: Option<AuthError>,
    /// How often the application has recovered.
    recoveries: u64,
}

struct Refused {
    error: AuthError,
    at: Instant,
    when: Timestamp,
    until: Option<Instant>,
}

impl Client {
    /// Returns the refusal for a caller that started waiting at `asked`.
    fn refusal(&self, asked: Instant) -> Option<AuthError> {
        let refused = self.refused.as_ref()?;
        let lasts = refused.until.is_none_or(|until| Instant::now() < until);
        (lasts || asked <= refused.at).then(|| refused.error.clone())
    }
}

impl Registration {
    /// Admits a request of one of the accounts. While it is unknown whether the server accepts the application, one account
    /// sends its request and the others wait for the result, for which this one holds the guard.
    pub(super) async fn pass(
        &self,
        env: &Env,
        account: &Account,
    ) -> Result<Option<MutexGuard<'_, ()>>, AuthError> {
        let asked = Instant::now();
        let known = || {
            let client = self.client();
            match client.refusal(asked) {
                Some(error) => Err(of_account(error, account)),
                None => Ok(client.is_known),
            }
        };
        if known()? {
            return Ok(None);
        }
        let gate = self.gate.lock().await;
        if known()? {
            return Ok(None);
        }
        let is_first = self.client().attempts == 0;
        if is_first && let Some((failure, left)) = self.kept_refusal(env).await {
            let error = failure.error(account);
            self.refuse(env, &error, Some(left));
            return Err(error);
        }
        Ok(Some(gate))
    }

    /// Records how a request ended.
    pub(super) fn answered<T>(&self, env: &Env, outcome: &Result<T, AuthError>) {
        match outcome {
            Err(error) if is_of_client(error, &self.profile) => {
                let attempts = self.client().attempts.saturating_add(1);
                let seed = env.random.hash_one(&self.profile.name);
                let pause = env.retry.pause(error, &self.profile.grant, attempts, seed);
                self.refuse(env, error, pause);
            }
            Ok(_) | Err(AuthError::Refused { .. }) => self.works(env),
            Err(_) => self.client().is_known = true,
        }
    }

    /// Another process got a token at that time. It ends no refusal that came later, nor by a token of the future: the clock was set
    /// back since, and nobody knows which was first.
    pub(super) fn worked(&self, env: &Env, when: Timestamp) {
        let is_later = |it: &Refused| it.when < when && when <= env.clock.now();
        if self.client().refused.as_ref().is_none_or(is_later) {
            self.works(env);
        }
    }

    /// The server just took the application.
    fn works(&self, env: &Env) {
        let mut client = self.client();
        client.is_known = true;
        client.attempts = 0;
        if client.refused.take().is_some() {
            client.recoveries += 1;
        }
        if let Some(told) = client.told.take().filter(|_| !env.quiet) {
            drop(client);
            telling::client_recovered(&self.profile, &told);
        }
    }

    /// Returns the length of the pause after this error, if it concerns the application, and the recovery that ends it.
    pub(super) fn pause_of(&self, error: &AuthError) -> Option<(Option<Duration>, u64)> {
        if !is_of_client(error, &self.profile) {
            return None;
        }
        let client = self.client();
        let refused = client.refused.as_ref()?;
        let now = Instant::now();
        let left = refused.until.map(|it| it.saturating_duration_since(now));
        Some((left, client.recoveries))
    }

    pub(super) fn recoveries(&self) -> u64 {
        self.client().recoveries
    }

    /// Logs a refusal of the application, once for all its accounts.
    pub(super) fn tell(&self, account: &Account, error: &AuthError) {
        let is_news = telling::is_news(&mut self.client().told, error);
        if is_news {
            telling::failed(
                account,
                &self.profile,
                error,
                self.accounts().len().saturating_sub(1),
            );
        }
    }

    fn refuse(&self, env: &Env, error: &AuthError, pause: Option<Duration>) {
        let mut client = self.client();
        let at = Instant::now();
        client.is_known = false;
        client.attempts = client.attempts.saturating_add(1);
        client.refused = Some(Refused {
            error: error.clone(),
            at,
            when: env.clock.now(),
            until: pause.and_then(|pause| at.checked_add(pause)),
        });
    }

    /// Returns the refusal that an earlier process received, and how much longer it counts.
    async fn kept_refusal(&self, env: &Env) -> Option<(Failure, Duration)> {
        let (vault, accounts) = (env.vault.clone(), self.accounts());
        let records = blocking(move || -> Vec<Record> {
            let read = accounts.iter().map(|account| vault.read(account));
            read.filter_map(|read| read.ok().flatten()).collect()
        })
        .await;
        let failure = refusal_of_client(records.iter(), &self.profile)?;
        let Cause::Refused(refusal) = &failure.cause else {
            return None;
        };
        let stays_away = advice::remedy(refusal, &self.profile.grant) == Remedy::StayAway;
        let error = failure.error(self.accounts().first()?);
        let seed = env.random.hash_one(&self.profile.name);
        let pause = env.retry.pause(&error, &self.profile.grant, 1, seed)?;
        let pause = if stays_away { pause } else { pause.min(KEPT) };
        // If the clock was set back, there is no age.
        let age = Duration::try_from(env.clock.now().duration_since(failure.at)).ok()?;
        let left = pause.checked_sub(age).filter(|left| !left.is_zero())?;
        let same_credential = records.iter().any(|record| {
            record.failure.as_ref() == Some(failure)
                && record.credential.as_ref() == Some(&self.credential)
        });
        (stays_away || same_credential).then(|| (failure.clone(), left))
    }
}

/// Returns the newest refusal of the application among the records of its accounts, unless it has recovered since.
pub(super) fn refusal_of_client<'a>(
    records: impl Iterator<Item = &'a Record> + Clone,
    profile: &Profile,
) -> Option<&'a Failure> {
    let own = records.filter(|record| is_of(record, profile));
    let worked = own.clone().filter_map(|record| record.last_refresh).max();
    own.filter_map(|record| {
        let failure = record.failure.as_ref()?;
        is_of_client(&failure.error(&record.account), profile).then_some(failure)
    })
    .max_by_key(|failure| failure.at)
    .filter(|failure| worked.is_none_or(|worked| worked < failure.at))
}

/// Returns whether the server refused the application itself, not one account.
pub(super) fn is_of_client(error: &AuthError, profile: &Profile) -> bool {
    let AuthError::Refused { refusal, .. } = error else {
        return false;
    };
    let ServerRefusal { error, codes, .. } = &**refusal;
    // A wrong or expired secret, an unknown certificate, a client in a loop.
    const ANYWHERE: [u32; 4] = [7_000_215, 7_000_222, 700_027, 50_196];
    // An application that a directory does not know or does not allow.
    const IN_ONE_DIRECTORY: [u32; 2] = [700_016, 7_000_229];
    if codes.iter().any(|code| ANYWHERE.contains(code)) {
        return true;
    }
    let of_directory = codes.iter().any(|code| IN_ONE_DIRECTORY.contains(code));
    match error.as_str() {
        "unauthorized_client" => is_of_one_directory(profile),
        "invalid_client" => !of_directory || is_of_one_directory(profile),
        _ => of_directory && is_of_one_directory(profile),
    }
}

/// Returns whether one account's directory speaks for all accounts of the application.
fn is_of_one_directory(profile: &Profile) -> bool {
    const OF_SEVERAL: [&str; 3] = ["common", "organizations", "consumers"];
    let directory = profile.directory.as_deref();
    match profile.provider {
        // Each Workspace admits a service account or does not.
        _ if matches!(profile.grant, Grant::ServiceAccount(_)) => false,
        Provider::Microsoft(_) => directory.is_some_and(|it| !OF_SEVERAL.contains(&it)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use postroom_core::Clock;

    use super::*;
    use crate::tokens::Tokens;
    use crate::vault::{Vault, VaultKey};
    use crate::{ClientCredential, Endpoints};

    #[test]
    fn an_application_that_works_again_is_known_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), VaultKey::random().unwrap()).unwrap();
        // The client asks nobody, and yet wants a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (clock, hand) = Clock::settable("2100-01-01T00:00:00Z".parse().unwrap());
        let tokens = Tokens::new(http, Vec::new(), Vec::new(), vault).with_clock(clock.clone());
        let registration = Registration::new(
            Profile {
                name: "acme".into(),
                provider: Provider::Custom,
                directory: None,
                endpoints: Endpoints::Fixed {
                    authorize: None,
                    token: "https://login.example/token".parse().unwrap(),
                    device: None,
                },
                client_id: "app-1".into(),
                client: ClientCredential::None,
                grant: Grant::ClientCredentials,
                scopes: None,
                tenants: None,
            },
            Vec::new(),
        );
        let account = Account {
            profile: "acme".into(),
            login: None,
        };
        let refusal = ServerRefusal {
            error: "invalid_client".into(),
            codes: Vec::new(),
            description: None,
            correlation_id: None,
        };
        let refused: Result<(), _> = Err(AuthError::Refused {
            account,
            refusal: Box::new(refusal),
        });
        registration.answered(&tokens.env, &refused);
        assert!(!registration.client().is_known);
        let ahead = clock.now();
        // The clock is corrected. Another process's token from the same future proves nothing; a response to this one does.
        hand.set("2026-11-30T12:00:00Z".parse().unwrap());
        registration.worked(&tokens.env, ahead + Duration::from_secs(1));
        assert!(!registration.client().is_known);
        registration.answered(&tokens.env, &Ok(()));
        assert!(registration.client().is_known);
        assert_eq!(registration.recoveries(), 1);
    }
}
