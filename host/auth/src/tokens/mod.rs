//! The tokens in use: one refresh at a time per account, stored in the vault before use, renewed ahead of their expiry.

mod client;
mod keeper;
pub(crate) mod registration;
mod renewal;
mod retry;
mod sign_in;
mod slot;
mod telling;
mod turn;

use std::collections::HashMap;
use std::fmt;
use std::hash::RandomState;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use postroom_core::Clock;
use postroom_net::{HttpClient, Trace};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use retry::RetryPolicy;

use crate::exchange::{Exchange, ExchangeLimits};
use crate::expiry::{self, Status};
use crate::vault::{Failure, Record, Vault, VaultError};
use crate::{AccessToken, Account, AccountUse, AuthError, Profile, Resource};
use registration::Registration;
use slot::Slot;
use turn::{Holding, KnownOutcomes};

/// The profiles, their accounts and their tokens.
pub struct Tokens {
    env: Arc<Env>,
    configured: ArcSwap<Configured>,
    /// The running requests. They are finished and stored even if their callers go away.
    under_way: TaskTracker,
    /// Cancelled at the end: a request whose response holds no refresh token is abandoned, since nothing is lost with it.
    ending: CancellationToken,
}

/// The part that comes from the configuration, and is replaced with it.
#[derive(Default)]
struct Configured {
    registrations: HashMap<String, Arc<Registration>>,
    accounts: Vec<AccountUse>,
    slots: HashMap<Account, Arc<Slot>>,
}

/// The steps of a refresh at which a crash must lose nothing, reported to the observer of [`Tokens::on_step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshStep {
    /// The vault records that a refresh started; nothing was sent.
    Begun,
    /// The response has arrived and is not yet stored.
    Received,
    /// The response is durable and not yet used.
    Stored,
}

/// The environment of every request.
#[derive(Clone)]
struct Env {
    http: HttpClient,
    limits: ExchangeLimits,
    trace: Option<Trace>,
    retry: RetryPolicy,
    observer: Option<fn(RefreshStep)>,
    /// Whether only the caller reports failures.
    quiet: bool,
    vault: Arc<Vault>,
    clock: Clock,
    /// The source of randomness, so that delays differ between accounts and between processes.
    random: RandomState,
}

impl Tokens {
    /// Creates the tokens. `http` must not follow redirects: a token request contains a secret.
    pub fn new(
        http: impl Into<HttpClient>,
        profiles: Vec<Profile>,
        accounts: Vec<AccountUse>,
        vault: Vault,
    ) -> Self {
        Self {
            env: Arc::new(Env {
                http: http.into(),
                limits: ExchangeLimits::default(),
                trace: None,
                retry: RetryPolicy::default(),
                observer: None,
                quiet: false,
                vault: Arc::new(vault),
                clock: Clock::system(),
                random: RandomState::new(),
            }),
            configured: ArcSwap::from_pointee(Configured::default().with(profiles, accounts)),
            under_way: TaskTracker::new(),
            ending: CancellationToken::new(),
        }
    }

    /// Takes over the profiles and accounts of a changed configuration. Unchanged accounts keep their tokens in memory; the tokens of
    /// the others are read from the vault again, and sessions that wait for one of them try again.
    pub fn configure(&self, profiles: Vec<Profile>, accounts: Vec<AccountUse>) {
        let before = self.configured.load();
        let after = Arc::new(before.with(profiles, accounts));
        self.configured.store(after.clone());
        for (account, slot) in &after.slots {
            let was = before.slots.get(account);
            if was.is_some_and(|was| !Arc::ptr_eq(was, slot)) {
                slot.recovered.send_modify(|count| *count += 1);
            }
        }
    }

    pub fn with_limits(mut self, limits: ExchangeLimits) -> Self {
        Arc::make_mut(&mut self.env).limits = limits;
        self
    }

    /// Records the URL and the outcome of each request from now on.
    pub fn with_trace(mut self, trace: Trace) -> Self {
        Arc::make_mut(&mut self.env).trace = Some(trace);
        self
    }

    pub fn with_clock(mut self, clock: Clock) -> Self {
        Arc::make_mut(&mut self.env).clock = clock;
        self
    }

    pub fn with_retries(mut self, retry: RetryPolicy) -> Self {
        Arc::make_mut(&mut self.env).retry = retry;
        self
    }

    /// Writes no failure and no recovery to the log; for commands that report their outcome themselves.
    pub fn quiet(mut self) -> Self {
        Arc::make_mut(&mut self.env).quiet = true;
        self
    }

    /// Calls `observer` at each step of each refresh, for tests that kill the process there.
    pub fn on_step(mut self, observer: fn(RefreshStep)) -> Self {
        Arc::make_mut(&mut self.env).observer = Some(observer);
        self
    }

    /// Returns a token that stays valid for a while. There is one request at a time per account; concurrent callers share
    /// its outcome, a token or a failure.
    pub async fn access_token(
        &self,
        account: &Account,
        resource: Resource,
    ) -> Result<AccessToken, AuthError> {
        let slot = self.slot(account)?;
        let scopes = slot.scopes(resource);
        slot.memory().track(&scopes).is_used = true;
        self.token(&slot, &scopes).await
    }

    /// Discards a token that a server refused, unless a newer one has replaced it. If the newest tokens were refused as
    /// well ([`RetryPolicy::rejections`]), the fault lies elsewhere, and the token stays.
    pub async fn reject(&self, account: &Account, token: &AccessToken) {
        if let Some(slot) = self.configured.load().slots.get(account) {
            let apart = self.env.retry.rejections;
            if !slot.memory().reject(token, apart) {
                tracing::debug!(%account, "a server refuses every new token; the current one is kept");
            }
        }
    }

    /// Returns a receiver that changes whenever this account recovers from a failure. For an account that the configuration
    /// does not use, waiting fails at once.
    pub fn recovered(&self, account: &Account) -> watch::Receiver<u64> {
        match self.configured.load().slots.get(account) {
            Some(slot) => slot.recovered.subscribe(),
            None => watch::Sender::default().subscribe(),
        }
    }

    pub fn profile(&self, name: &str) -> Option<Arc<Profile>> {
        let configured = self.configured.load();
        let registration = configured.registrations.get(name);
        registration.map(|it| it.profile.clone())
    }

    pub fn accounts(&self) -> Vec<AccountUse> {
        self.configured.load().accounts.clone()
    }

    /// Returns every account's state as stored in the vault, without sending a request.
    pub fn statuses(&self, now: Timestamp) -> Result<Vec<Status>, AuthError> {
        let mut statuses = Vec::new();
        let mut records = Vec::new();
        for used in &self.accounts() {
            let slot = self.slot(&used.account)?;
            records.push((slot, self.env.vault.read(&used.account)));
        }
        for (slot, record) in &records {
            let shared = client::refusal_of_client(
                records
                    .iter()
                    .filter(|(it, _)| it.used.account.profile == slot.used.account.profile)
                    .filter_map(|(_, record)| record.as_ref().ok()?.as_ref()),
                &slot.registration.profile,
            );
            statuses.push(slot.status_of(record.as_ref().map(Option::as_ref), shared, now));
        }
        Ok(statuses)
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.configured.load().slots.values().cloned().collect()
    }

    fn slot(&self, account: &Account) -> Result<Arc<Slot>, AuthError> {
        let configured = self.configured.load();
        configured.slots.get(account).cloned().ok_or_else(|| {
            if configured.registrations.contains_key(&account.profile) {
                AuthError::Unusable {
                    account: account.clone(),
                    reason: "no mailbox and no outgoing of the configuration uses this account"
                        .into(),
                }
            } else {
                AuthError::UnknownProfile {
                    profile: account.profile.clone(),
                }
            }
        })
    }

    /// Returns the token in memory, or that of a request. Dropping this future loses nothing: a started request continues.
    async fn token(&self, slot: &Arc<Slot>, scopes: &[String]) -> Result<AccessToken, AuthError> {
        let asked = Instant::now();
        let known = KnownOutcomes {
            fresh: || slot.memory().track(scopes).fresh(self.env.clock.now()),
            good: || slot.memory().track(scopes).good(self.env.clock.now()),
            failed: || {
                // Reads only the file's date, which does not wait for a disk.
                let stamp = self.env.vault.stamp(&slot.used.account);
                let recoveries = slot.registration.recoveries();
                slot.memory().track(scopes).paused(asked, stamp, recoveries)
            },
        };
        let request = |holding| {
            let (env, slot) = (self.env.clone(), slot.clone());
            let (scopes, ending) = (scopes.to_vec(), self.ending.clone());
            self.finished(async move {
                let loses_nothing = !slot.registration.profile.grant.is_interactive();
                let token = tokio::select! {
                    token = renewal::renew(&env, &slot, &scopes, false) => token,
                    () = ending.cancelled(), if loses_nothing => Err(AuthError::Transient {
                        account: slot.used.account.clone(),
                        reason: "the service is stopping".into(),
                        retry_after: None,
                    }),
                };
                drop::<Holding>(holding);
                token
            })
        };
        slot.turn.share(known, request).await
    }

    /// Runs work to its end, even if this future is dropped.
    async fn finished<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        match self.under_way.spawn(work).await {
            Ok(done) => done,
            Err(error) => given_up(error).await,
        }
    }
}

impl Configured {
    /// Returns these profiles and accounts, with what is unchanged taken over from here.
    fn with(&self, profiles: Vec<Profile>, accounts: Vec<AccountUse>) -> Self {
        let registration = |profile: Profile| {
            let used = accounts.iter().map(|used| &used.account);
            let own = used.filter(|account| account.profile == profile.name);
            let own: Vec<Account> = own.cloned().collect();
            let name = profile.name.clone();
            let same = self.registrations.get(&name);
            match same.filter(|it| *it.profile == profile) {
                Some(same) => {
                    same.set_accounts(own);
                    (name, same.clone())
                }
                None => (name, Arc::new(Registration::new(profile, own))),
            }
        };
        let registrations: HashMap<_, _> = profiles.into_iter().map(registration).collect();
        let slot = |used: &AccountUse| {
            let registration = registrations.get(&used.account.profile)?;
            let before = self.slots.get(&used.account);
            let same = before.filter(|it| {
                it.used == *used && Arc::ptr_eq(&it.registration, registration)
                    // The only copy of a refresh token must not be dropped.
                    || it.has_unsaved_sign_in()
            });
            let fresh = || {
                let mut slot = Slot::new(registration.clone(), used.clone());
                if let Some(before) = before {
                    slot.recovered = before.recovered.clone();
                }
                Arc::new(slot)
            };
            Some((used.account.clone(), same.cloned().unwrap_or_else(fresh)))
        };
        Self {
            slots: accounts.iter().filter_map(slot).collect(),
            registrations,
            accounts,
        }
    }
}

impl Env {
    fn exchange(&self) -> Exchange<'_> {
        Exchange {
            http: &self.http,
            limits: self.limits,
            trace: self.trace.as_ref(),
            clock: &self.clock,
        }
    }

    fn step(&self, step: RefreshStep) {
        if let Some(observer) = self.observer {
            observer(step);
        }
    }
}

impl Slot {
    fn status(&self, vault: &Vault, now: Timestamp) -> Status {
        let record = vault.read(&self.used.account);
        self.status_of(record.as_ref().map(Option::as_ref), None, now)
    }

    /// Returns the status of an account. `shared` is the refusal of the application that another account received.
    fn status_of(
        &self,
        record: Result<Option<&Record>, &VaultError>,
        shared: Option<&Failure>,
        now: Timestamp,
    ) -> Status {
        let profile = &self.registration.profile;
        let account = &self.used.account;
        let scopes = profile.sign_in_scopes(&self.used.needs);
        let serving = |record: &&Record| renewal::serves(record, profile);
        if let (Ok(kept), Some(shared)) = (record, shared)
            && kept.is_none_or(|it| serving(&it) && it.failure.is_none())
            // Without a sign-in there is nothing that could fail.
            && (kept.is_some() || !profile.grant.is_interactive())
        {
            let mut record = match kept {
                Some(kept) => kept.clone(),
                None => Record::new(account.clone(), profile.grant.name()),
            };
            record.registration = Some(profile.registration());
            record.failure = Some(shared.clone());
            return expiry::status(profile, account, scopes, Ok(Some(&record)), now);
        }
        expiry::status(profile, account, scopes, record, now)
    }
}

/// Runs work that waits for the disk on a thread for blocking work.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => given_up(error).await,
    }
}

/// Resumes a panic in the caller. Without a panic the runtime is shutting down, and nobody polls again.
async fn given_up<T>(error: tokio::task::JoinError) -> T {
    if error.is_panic() {
        std::panic::resume_unwind(error.into_panic());
    }
    std::future::pending().await
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens")
            .field("profiles", &self.configured.load().registrations.keys())
            .finish_non_exhaustive()
    }
}
