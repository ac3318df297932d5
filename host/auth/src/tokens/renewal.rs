//! One token request, from the vault to the vault: tokens that another process received are adopted, and received
//! tokens are durable before they are used.

use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::registration::{self, Registration};
use super::slot::{Ends, LIFETIME_MAX, Slot};
use super::{Env, RefreshStep, blocking, telling};
use crate::grant::{Granted, TokenRequest, client_credentials, password, refresh, service_account};
use crate::vault::{Access, Cause, Failure, Held, Record, Stamp, VaultError};
use crate::{AccessToken, Account, AuthError, Grant, Profile, Remedy, Secret, advice};

/// The assumed lifetime if no server states one.
const LIFETIME_UNSTATED: Duration = Duration::from_secs(5 * 60);
/// The shortest lifetime that is believed: with a shorter one tokens would be requested without end.
const LIFETIME_MIN: Duration = Duration::from_secs(5);
/// How often another process's lock on the account is checked.
const HOLD_RETRY: Duration = Duration::from_millis(20);
/// The time that a lock holder needs besides its requests.
const HOLD_MARGIN: Duration = Duration::from_secs(10);

/// Obtains a token and records the outcome. The caller holds the account's turn. With `anew` it requests one regardless of
/// stored tokens and earlier failures. After a failure, an unexpired token is returned.
pub(super) async fn renew(
    env: &Env,
    slot: &Slot,
    scopes: &[String],
    anew: bool,
) -> Result<AccessToken, AuthError> {
    let outcome = match hold(env, &slot.used.account).await {
        Ok(held) => {
            let before = held.stamp();
            let outcome = attempt(env, slot, scopes, anew, &held).await;
            let after = held.stamp();
            let mut memory = slot.memory();
            memory.stamp = after;
            if outcome.is_err() {
                memory.restamp(before, after);
            }
            drop(memory);
            (outcome, after)
        }
        Err(error) => (Err(error), env.vault.stamp(&slot.used.account)),
    };
    match outcome {
        (Ok(token), _) => {
            succeeded(env, slot, scopes);
            Ok(token)
        }
        (Err(error), stamp) => {
            failed(env, slot, scopes, anew, &error, stamp);
            let good = slot.memory().track(scopes).good(env.clock.now());
            good.filter(|_| !anew).ok_or(error)
        }
    }
}

/// Returns the longest time that a request may hold an account: a discovery, the request, and the one with the second
/// secret.
pub(super) fn longest(env: &Env) -> Duration {
    3 * env.limits.timeout + HOLD_MARGIN
}

/// Locks the account, so that no other process requests tokens meanwhile.
pub(super) async fn hold(env: &Env, account: &Account) -> Result<Arc<Held>, AuthError> {
    let deadline = Instant::now() + longest(env);
    loop {
        let (vault, of) = (env.vault.clone(), account.clone());
        match blocking(move || vault.hold(&of, Duration::ZERO)).await {
            Ok(held) => return Ok(Arc::new(held)),
            Err(VaultError::Busy { .. }) if Instant::now() < deadline => {
                tokio::time::sleep(HOLD_RETRY).await;
            }
            Err(error @ VaultError::Busy { .. }) => {
                return Err(AuthError::Transient {
                    account: account.clone(),
                    reason: error.to_string(),
                    retry_after: None,
                });
            }
            Err(error) => return Err(of_vault(account, error)),
        }
    }
}

/// Writes a record, which is durable when this returns.
pub(super) async fn write(
    account: &Account,
    held: &Arc<Held>,
    record: &Record,
) -> Result<(), AuthError> {
    let (held, record) = (held.clone(), record.clone());
    blocking(move || held.write(&record))
        .await
        .map_err(|error| of_vault(account, error))
}

/// Enters what was granted into the record, replacing the earlier values.
pub(super) fn enter(
    record: &mut Record,
    registration: &Registration,
    scopes: &[String],
    granted: Granted,
    now: Timestamp,
) {
    let profile = &registration.profile;
    if let Some(stated) = granted.lifetime.filter(|it| *it < LIFETIME_MIN) {
        registration.warn_of_lifetime(stated, LIFETIME_UNSTATED);
    }
    let lifetime = granted
        .lifetime
        .filter(|stated| *stated >= LIFETIME_MIN)
        .unwrap_or(LIFETIME_UNSTATED)
        .min(LIFETIME_MAX);
    record.failure = None;
    match granted.token {
        Ok(token) => {
            record
                .access
                .retain(|access| access.scopes != scopes && now < access.expires);
            record.access.push(Access {
                scopes: scopes.to_vec(),
                token,
                expires: after(now, lifetime),
            });
        }
        Err(error) => {
            record.failure = Cause::of(&error).map(|cause| Failure {
                cause,
                at: now,
                answer_lost: false,
            });
        }
    }
    record.grant = profile.grant.name().into();
    record.registration = Some(profile.registration());
    record.identity = granted.identity.or(record.identity.take());
    // A grant that needs no person stores no refresh token, which is one secret less.
    if profile.grant.is_interactive() {
        if granted.refresh_token.is_some() {
            record.refresh_token = granted.refresh_token;
            record.refresh_expires = None;
        }
        if let Some(lifetime) = granted.refresh_lifetime {
            record.refresh_expires = Some(after(now, lifetime));
        }
    }
    record.last_refresh = Some(now);
    record.refreshing_since = None;
}

/// Ends the pause, and logs the recovery if the failure was logged.
pub(super) fn succeeded(env: &Env, slot: &Slot, scopes: &[String]) {
    let (had_failed, told) = {
        let mut memory = slot.memory();
        let track = memory.track(scopes);
        (track.end_pause(), track.told.take())
    };
    if let Some(told) = told.filter(|_| !env.quiet) {
        telling::recovered(&slot.used.account, &told);
    }
    if had_failed {
        slot.recovered.send_modify(|count| *count += 1);
    }
}

fn failed(env: &Env, slot: &Slot, scopes: &[String], anew: bool, error: &AuthError, stamp: Stamp) {
    let account = &slot.used.account;
    let profile = &slot.registration.profile;
    let is_told = !anew && !env.quiet;
    let of_client = slot.registration.pause_of(error);
    let is_news = {
        let mut memory = slot.memory();
        let track = memory.track(scopes);
        track.attempts = track.attempts.saturating_add(1);
        let seed = env.random.hash_one(account);
        let (pause, ends) = match of_client {
            Some((pause, recoveries)) => (pause, Some(recoveries)),
            None => {
                let pause = env.retry.pause(error, &profile.grant, track.attempts, seed);
                (pause, None)
            }
        };
        tracing::debug!(%account, %error, ?pause, "no access token");
        track.pause(
            error.clone(),
            pause,
            Ends {
                stamp,
                recoveries: ends,
            },
        );
        // A caller with `anew` learns it from the request's result.
        is_told && of_client.is_none() && telling::is_news(&mut track.told, error)
    };
    if is_told && of_client.is_some() {
        slot.registration.tell(account, error);
    }
    if is_news {
        telling::failed(account, profile, error, 0);
    }
}

async fn attempt(
    env: &Env,
    slot: &Slot,
    scopes: &[String],
    anew: bool,
    held: &Arc<Held>,
) -> Result<AccessToken, AuthError> {
    let account = &slot.used.account;
    let profile = &slot.registration.profile;
    let mut record = current(env, slot, held).await?;
    slot.memory().adopt(&record, env.clock.now());
    if !anew {
        if let Some(token) = slot.memory().track(scopes).fresh(env.clock.now()) {
            if let Some(last) = record.last_refresh {
                slot.registration.worked(env, last);
            }
            return Ok(token);
        }
        if let Some(failure) = &record.failure
            && is_over(&failure.cause, &profile.grant)
        {
            return Err(failure.error(account));
        }
    }
    let refresh_token = match (&record.refresh_token, profile.grant.is_interactive()) {
        (Some(token), true) => Some(token.clone()),
        (None, true) => {
            return Err(AuthError::SignedOut {
                account: account.clone(),
            });
        }
        (_, false) => None,
    };
    // A caller with `anew` ignores known failures.
    let passed = match anew {
        true => None,
        false => slot.registration.pass(env, account).await?,
    };
    let lost = record.refreshing_since;
    let outcome = request(env, slot, scopes, held, &mut record, refresh_token).await;
    slot.registration.answered(env, &outcome);
    let outcome = match outcome {
        Ok(granted) => {
            env.step(RefreshStep::Received);
            let token = granted.token.clone();
            enter(
                &mut record,
                &slot.registration,
                scopes,
                granted,
                env.clock.now(),
            );
            match write(account, held, &record).await {
                Ok(()) => env.step(RefreshStep::Stored),
                Err(error) => {
                    slot.memory().unsaved = Some(record.clone());
                    // An unsaved refresh token would be lost with this process, and the next one would send the old
                    // token.
                    if record.refresh_token.is_some() {
                        return Err(error);
                    }
                    tracing::warn!(%account, %error, "a token could not be stored; other processes request their own");
                }
            }
            slot.memory().adopt(&record, env.clock.now());
            token
        }
        Err(error) => {
            // Of failures that may be temporary, the first is kept, and an earlier lasting failure is kept as well.
            let is_noted = error.is_transient() && record.failure.is_some();
            if let Some(cause) = Cause::of(&error).filter(|_| !is_noted) {
                let answer_lost = lost.is_some() && is_over(&cause, &profile.grant);
                if matches!(cause, Cause::Refused(_)) {
                    record.refreshing_since = None;
                }
                record.failure = Some(Failure {
                    cause,
                    at: env.clock.now(),
                    answer_lost,
                });
                record.registration = Some(profile.registration());
                record.credential = Some(slot.registration.credential.clone());
                if let Err(error) = write(account, held, &record).await {
                    tracing::warn!(%account, %error, "a failure could not be recorded in the vault");
                }
            }
            Err(error)
        }
    };
    drop(passed);
    outcome
}

/// Sends the request. Before a refresh token is sent, the vault records it.
async fn request(
    env: &Env,
    slot: &Slot,
    scopes: &[String],
    held: &Arc<Held>,
    record: &mut Record,
    refresh_token: Option<Secret>,
) -> Result<Granted, AuthError> {
    let account = &slot.used.account;
    let token_url = slot.registration.endpoints(env, account).await?.token;
    if refresh_token.is_some() && record.refreshing_since.is_none() {
        record.refreshing_since = Some(env.clock.now());
        write(account, held, record).await?;
    }
    env.step(RefreshStep::Begun);
    tracing::debug!(%account, ?scopes, "requesting an access token");
    let request = TokenRequest {
        exchange: &env.exchange(),
        profile: &slot.registration.profile,
        account,
        token_url: &token_url,
        scopes,
    };
    let refresh_token = refresh_token.as_ref();
    match (&request.profile.grant, refresh_token) {
        (_, Some(token)) => refresh::request(&request, token).await,
        (Grant::ClientCredentials, None) => client_credentials::request(&request).await,
        (Grant::Password { .. }, None) => password::request(&request).await,
        (Grant::ServiceAccount(_), None) => service_account::request(&request).await,
        (Grant::AuthorizationCode { .. } | Grant::DeviceCode, None) => Err(AuthError::SignedOut {
            account: account.clone(),
        }),
    }
}

/// Returns whether only a sign-in ends the failure.
fn is_over(cause: &Cause, grant: &Grant) -> bool {
    match cause {
        Cause::Refused(refusal) => {
            grant.is_interactive() && advice::remedy(refusal, grant) == Remedy::SignIn
        }
        Cause::Nonsense(_) | Cause::Unusable(_) | Cause::Transient(_) => false,
    }
}

/// Returns the account's record: the one that this process could not store yet, or the vault's.
pub(super) async fn current(env: &Env, slot: &Slot, held: &Arc<Held>) -> Result<Record, AuthError> {
    let account = &slot.used.account;
    let profile = &slot.registration.profile;
    let grant = &profile.grant;
    let reading = held.clone();
    let read = blocking(move || reading.read()).await;
    let unsaved = slot.memory().unsaved.take();
    if let Some(unsaved) = unsaved {
        let vaults = read.as_ref().ok().and_then(Option::as_ref);
        // Another process may have received something newer, or somebody signed in. What is of the future was received before the
        // clock was set back.
        let is_newer = |record: &Record| {
            record.last_refresh > unsaved.last_refresh
                && record.last_refresh <= Some(env.clock.now())
        };
        if !vaults.is_some_and(is_newer) {
            let written = write(account, held, &unsaved).await;
            if written.is_err() {
                slot.memory().unsaved = Some(unsaved.clone());
            }
            return match written {
                Err(error) if unsaved.refresh_token.is_some() => Err(error),
                _ => Ok(unsaved),
            };
        }
    }
    match read {
        Ok(Some(record)) if serves(&record, profile) => Ok(record),
        Ok(Some(record)) if is_by_this_grant(&record, grant) && grant.is_interactive() => {
            tracing::warn!(%account, "the profile's URL, client id or tenant changed since somebody signed in; the old tokens are not used");
            Err(AuthError::SignedOut {
                account: account.clone(),
            })
        }
        Ok(_) => Ok(Record::new(account.clone(), grant.name())),
        Err(error) if grant.is_interactive() => Err(of_vault(account, error)),
        // A new token needs nobody's action. Writing sets the file aside and logs that.
        Err(_) => Ok(Record::new(account.clone(), grant.name())),
    }
}

/// Returns whether the contents of the record may be used for the profile.
pub(super) fn serves(record: &Record, profile: &Profile) -> bool {
    is_by_this_grant(record, &profile.grant) && registration::is_of(record, profile)
}

/// Returns whether tokens received with the record's grant also suit this one; any sign-in by a person does.
fn is_by_this_grant(record: &Record, grant: &Grant) -> bool {
    const BY_A_PERSON: [&str; 2] = ["authorization-code", "device-code"];
    record.grant == grant.name()
        || grant.is_interactive() && BY_A_PERSON.contains(&record.grant.as_str())
}

pub(super) fn of_vault(account: &Account, source: VaultError) -> AuthError {
    AuthError::Vault {
        account: account.clone(),
        source,
    }
}

fn after(now: Timestamp, duration: Duration) -> Timestamp {
    now.checked_add(duration).unwrap_or(Timestamp::MAX)
}
