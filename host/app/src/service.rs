//! The running service: builds every part from the configuration, runs them, drains them.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::bail;
use jiff::Timestamp;
use postroom_auth::expiry::Notice;
use postroom_auth::{RefreshStep, Tokens};
use postroom_core::{ItemKind, MailboxState, OutgoingRoute, Outlets, RawMessage, Routes};
use postroom_mailbox::{FetchLimits, InFlight, Source};
use postroom_sandbox::Grants;
use postroom_store::{OutboxKind, Store, StoreError, StoreOptions};
use rustls::ClientConfig;
use tokio::sync::{Mutex, watch};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::connections;
use crate::parts::Parts;
use crate::{expiry, tls};
use postroom_config::{Config, Ready, Unavailable};
use postroom_line::clock::ClockCheck;
use postroom_line::deliver::Deliveries;
use postroom_line::intake::Intake;
use postroom_line::positions::JournalPositions;
use postroom_line::rate_limiter::RateLimiter;
use postroom_line::room::OutboxRoom;
use postroom_line::session_health::SessionHealth;
use postroom_line::shadow::Shadows;
use postroom_line::slots::Slots;
use postroom_line::target::GuardedTarget;
use postroom_line::{BatchOutcome, Line, Mailbox, Observer, suspects};
use postroom_rules::crash;
use postroom_rules::directory::Directories;
use postroom_rules::reload_observer::{Log, ReloadObserver};
use postroom_rules::rulebook::{self, LoadPool, RuleBook};
use postroom_rules::watch as rule_watch;

/// How long `--once` begins deliveries; those under way then end.
const ONCE_DELIVERY: Duration = Duration::from_secs(10);
/// How long `--once` lets shadows decide what was drained; the rest is done by the next run.
const ONCE_SHADOWS: Duration = Duration::from_secs(10);
/// What ends soon is looked for this often.
const NOTICE_EVERY: Duration = Duration::from_secs(60 * 60);
/// Raw mail past its keeping time is looked for this often.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// All parts, built and not yet running.
pub struct Service {
    config: Arc<Config>,
    line: Arc<Line>,
    intakes: Vec<Intake>,
    deliveries: Arc<Deliveries>,
    shadows: Arc<Shadows>,
    filled: watch::Receiver<()>,
    tokens: Ready<Arc<Tokens>>,
    /// Sinks and outgoings to which nothing is delivered, as `sink NAME` and `outgoing NAME`.
    misconfigured: Vec<(String, Unavailable)>,
    /// The first load of the rules, for as long as it takes.
    loading: JoinSet<Result<(), StoreError>>,
    stop: CancellationToken,
}

/// Who watches a service.
pub struct Watchers {
    pub observer: Option<Observer>,
    pub reload_observer: Arc<dyn ReloadObserver>,
    /// Instances of rules that the audience may hold at a time, so that no mail waits for one.
    pub instances: usize,
    /// Whether an empty database may take the place of one that is gone.
    pub start_anew: bool,
}

/// How a drain ended.
#[derive(Debug, Default)]
pub struct Drained {
    /// Mailboxes that could not be drained, with the reason.
    pub failed: Vec<(String, String)>,
    /// Sinks and outgoings that nothing was delivered to, with the reason and the help.
    pub misconfigured: Vec<(String, Unavailable)>,
    pub decided: usize,
    /// Deliveries that stay pending.
    pub undelivered: u64,
    /// Decided mails that their server was not yet told of.
    pub unacknowledged: u64,
}

impl Service {
    /// Opens the store, the sandbox and the rules, and prepares a session for each mailbox. Connects to nothing. Rules that are slow
    /// to load are not waited for: mail of their tenants stays in the journal until they are loaded.
    pub async fn build(
        config: Arc<Config>,
        observer: Option<Observer>,
        start_anew: bool,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let watchers = Watchers {
            observer,
            reload_observer: Arc::new(Log),
            instances: 0,
            start_anew,
        };
        Self::watched(config, watchers, stop).await
    }

    /// The same, with somebody else than the log to tell of saves.
    pub async fn watched(
        config: Arc<Config>,
        watchers: Watchers,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let Watchers {
            observer,
            reload_observer,
            instances,
            start_anew,
        } = watchers;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let options = StoreOptions {
            generations: config.limits.generations,
            generation_bytes: config.limits.generation_bytes,
            installations: Some(config.installations.clone()),
            start_anew,
            ..StoreOptions::default()
        };
        let store = Store::open_with(&config.data_dir, &options)?;
        let slots = Arc::new(Slots::new(cores));
        // Those of the mails that are decided at a time, and those of loads: a rule that is slow to load holds up none.
        let workers = slots.count() + LoadPool::instances(cores) + instances;
        let sandbox = rulebook::configured_sandbox(&config, workers)?;
        let sandbox = Arc::new(sandbox);
        let directories = Directories::open(&config, store.clone()).await?;
        let rules = RuleBook::open(
            &config,
            sandbox.clone(),
            store.clone(),
            directories.clone(),
            reload_observer,
            stop.clone(),
        );
        let mut loading = JoinSet::new();
        loading.spawn(rules.clone().load_first());
        tokio::select! {
            biased;
            Some(ended) = loading.join_next() => first_load(ended)?,
            () = rules.started() => {}
            () = stop.cancelled() => {}
        }
        if let Some(tenants) = rules.not_loaded().filter(|_| !stop.is_cancelled()) {
            tracing::warn!(
                tenants,
                "rules are still loading; mail of these tenants waits in the journal until then"
            );
        }
        let tls = tls::client_config(&config.extra_roots)?;
        let tokens = connections::tokens_if_ready(&config, &tls)?;
        let tokens = tokens.map(|tokens| Arc::new(tokens.on_step(crash_at)));
        let mut misconfigured = Vec::new();
        let deliveries = deliveries(&config, &store, &tls, &tokens, &stop, &mut misconfigured)?;
        let deliveries = Arc::new(deliveries);
        for (part, why) in &misconfigured {
            tracing::error!(
                help = format!("{}; then restart postroom", why.help),
                "{part} is misconfigured, its entries wait in the outbox: {why}"
            );
        }
        let (outbox_filled, filled) = watch::channel(());
        let line = Arc::new(Line {
            store,
            rules,
            directories,
            limits: config.limits.clone(),
            parse_limits: config.limits.parsing(),
            own_addresses: config.own_addresses().into_iter().collect(),
            slots,
            outbox_filled,
            tenant_locks: tenant_locks(&config),
            budgets: budgets(&config),
            room: OutboxRoom::new(config.limits.outbox_entries),
            stop: stop.clone(),
            observer,
        });
        let shadows = Arc::new(Shadows::new(&config, &line, sandbox));
        let in_flight = InFlight::new(config.limits.in_flight_bytes);
        let intakes = config
            .mailboxes
            .iter()
            .map(|mailbox| Intake {
                line: line.clone(),
                mailbox: Arc::new(line_mailbox(&config, mailbox)),
                source: source(mailbox, &line.store, &tokens, &tls),
                every: mailbox.every,
                fetch: FetchLimits {
                    batch_mails: config.limits.batch_mails,
                    batch_bytes: config.limits.batch_bytes,
                    raw_bytes: config.limits.raw_bytes,
                    in_flight: in_flight.clone(),
                    wait_for_room: true,
                },
                stop: stop.clone(),
                signed_in: mailbox
                    .source
                    .login()
                    .and_then(|login| recovered(login, &tokens)),
                held: false,
                crowded: false,
                crowded_recorded: false,
                said: Some(MailboxState::Starting),
                streak: SessionHealth::default(),
            })
            .collect();
        Ok(Self {
            config,
            line,
            intakes,
            deliveries,
            shadows,
            filled,
            tokens,
            misconfigured,
            loading,
            stop,
        })
    }

    /// Serves until stopped, then drains: batches and deliveries under way end, nothing new begins. A part that dies ends the
    /// service, so that whoever watches over it starts it anew.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut parts = Parts::default();
        let ways = self.config.outgoing.iter();
        let signed_in = ways
            .filter_map(|way| {
                let news = recovered(way.target.login()?, &self.tokens)?;
                Some((way.name.clone(), news))
            })
            .collect();
        parts.spawn("deliveries", self.deliveries.serve(self.filled, signed_in));
        if let Ok(tokens) = self.tokens.clone() {
            let stop = self.stop.clone();
            parts.spawn("tokens", async move { tokens.keep(stop).await });
        }
        parts.spawn(
            "retention",
            purge(
                self.line.store.clone(),
                self.config.keep_raw,
                self.stop.clone(),
            ),
        );
        parts.spawn(
            "expiry notices",
            tell_notices(self.config.clone(), self.stop.clone()),
        );
        let mut loading = self.loading;
        parts.spawn("first load of rules", async move {
            while let Some(ended) = loading.join_next().await {
                if let Err(error) = first_load(ended) {
                    tracing::error!(%error, "rules could not be stored; they are loaded again soon");
                }
            }
        });
        // Nothing that might end the process begins beside a suspect.
        if let Err(error) = suspects::decide(&mut self.intakes).await {
            tracing::warn!(%error, "the mails that the last crashes may have come from are not decided alone yet");
        }
        for intake in self.intakes {
            parts.spawn(format!("mailbox {}", intake.mailbox.name), intake.serve());
        }
        parts.spawn(
            "rule watcher",
            rule_watch::watch(
                self.line.rules.clone(),
                self.line.directories.clone(),
                self.stop.clone(),
            ),
        );
        let committed = self.line.outbox_filled.subscribe();
        parts.spawn("shadows", self.shadows.serve(committed));
        let (rules, stop) = (self.line.rules.clone(), self.stop.clone());
        parts.spawn("compiler", async move {
            stop.cancelled().await;
            rules.stop_compiling();
        });
        let mut died = None;
        while let Some(ended) = parts.next().await {
            if let Err(part) = ended {
                tracing::error!(error = %part.error, "{part}; shutting down");
                self.stop.cancel();
                died = Some(part);
            }
        }
        if let Ok(tokens) = &self.tokens {
            tokens.finish().await;
        }
        self.line.close().await;
        match died {
            Some(part) => Err(part.into()),
            None => Ok(()),
        }
    }

    /// Drains every mailbox, lets shadows decide what came, tries each due delivery once, and returns.
    pub async fn once(self) -> anyhow::Result<Drained> {
        self.drain(usize::MAX).await
    }

    /// As [`Service::once`], one mailbox after the other: the same mail gets the same ticket numbers at each run.
    pub async fn once_in_turn(self) -> anyhow::Result<Drained> {
        self.drain(1).await
    }

    async fn drain(mut self, most_at_once: usize) -> anyhow::Result<Drained> {
        let mut drained = Drained {
            decided: suspects::decide(&mut self.intakes).await?,
            ..Drained::default()
        };
        let mut tasks = JoinSet::new();
        let mut waiting = std::mem::take(&mut self.intakes).into_iter();
        loop {
            for intake in waiting.by_ref().take(most_at_once - tasks.len()) {
                let name = intake.mailbox.name.clone();
                tasks.spawn(async move { (name, intake.drain().await) });
            }
            let Some(ended) = tasks.join_next().await else {
                break;
            };
            match ended {
                Ok((_, Ok(decided))) => drained.decided += decided,
                Ok((name, Err(error))) => drained.failed.push((name, error.to_string())),
                Err(error) => bail!("a mailbox's task died: {error}"),
            }
        }
        self.loading.try_join_next().map_or(Ok(()), first_load)?;
        drained.failed.sort();
        if let Err(error) = self.shadows.catch_up(ONCE_SHADOWS).await {
            // What is drained and delivered does not depend on it.
            tracing::warn!(%error, "shadows cannot be read; the next run continues them");
        }
        let mailboxes = self.line.store.mailboxes()?;
        drained.misconfigured = self.misconfigured.clone();
        drained.unacknowledged = mailboxes
            .iter()
            // What a mailbox that was taken out of the configuration still owes is nobody's to mend.
            .filter(|row| self.config.mailbox(&row.mailbox).is_some())
            .map(|row| row.unacknowledged)
            .sum();
        drained.undelivered = self.deliver_once().await?;
        Ok(drained)
    }

    /// Settles what an earlier process left undecided in one mailbox, once its rules are loaded.
    pub async fn recover(&mut self, mailbox: &str) -> anyhow::Result<()> {
        if let Some(configured) = self.config.mailbox(mailbox) {
            let tenant = &configured.tenant;
            tokio::select! {
                () = self.line.rules.first_load_of(tenant) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
            if !self.line.rules.is_loaded(tenant) {
                self.loading.try_join_next().map_or(Ok(()), first_load)?;
                bail!("the rules of {tenant} are not loaded: the log has the reason");
            }
        }
        suspects::decide(&mut self.intakes).await?;
        let intake = self.intakes.iter_mut().find(|i| i.mailbox.name == mailbox);
        if let Some(intake) = intake {
            intake.recover().await?;
        }
        Ok(())
    }

    /// Takes mails that lie on no server through the line, for one mailbox.
    pub async fn take_in(
        &self,
        mailbox: &str,
        mails: Vec<RawMessage>,
    ) -> Result<BatchOutcome, StoreError> {
        let intake = self.intakes.iter().find(|i| i.mailbox.name == mailbox);
        let Some(intake) = intake else {
            return Ok(BatchOutcome::default());
        };
        let pending = self.line.journal(&intake.mailbox, mails, None).await?;
        self.line.process_batch(&intake.mailbox, pending).await
    }

    /// Tries each due delivery once, closes the store, and answers how many stay pending.
    pub async fn deliver_once(self) -> anyhow::Result<u64> {
        self.deliveries.clone().try_once(ONCE_DELIVERY).await?;
        if let Ok(tokens) = &self.tokens {
            tokens.finish().await;
        }
        let waiting = self.line.store.outbox_waiting()?;
        self.line.close().await;
        Ok(waiting)
    }

    pub fn rules(&self) -> Arc<RuleBook> {
        self.line.rules.clone()
    }
}

/// How the first load of the rules ended.
fn first_load(ended: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

fn deliveries(
    config: &Config,
    store: &Store,
    tls: &Arc<ClientConfig>,
    tokens: &Ready<Arc<Tokens>>,
    stop: &CancellationToken,
    misconfigured: &mut Vec<(String, Unavailable)>,
) -> anyhow::Result<Deliveries> {
    let http = postroom_target::webhook::client((**tls).clone())?;
    let mut targets = BTreeMap::new();
    for sink in &config.sinks {
        match connections::sink(sink, &http, tls)? {
            Ok(target) => {
                let id = (OutboxKind::Sink, sink.name.clone());
                targets.insert(id, GuardedTarget::new(target));
            }
            Err(why) => misconfigured.push((format!("sink {}", sink.name), why)),
        }
    }
    for way in &config.outgoing {
        match connections::outgoing(way, tokens, tls)? {
            Ok(target) => {
                let id = (OutboxKind::Mail, way.name.clone());
                targets.insert(id, GuardedTarget::new(target));
            }
            Err(why) => misconfigured.push((format!("outgoing {}", way.name), why)),
        }
    }
    Ok(Deliveries {
        store: store.clone(),
        targets,
        age: config.limits.outbox_age,
        stop: stop.clone(),
    })
}

fn line_mailbox(config: &Config, mailbox: &postroom_config::MailboxConfig) -> Mailbox {
    let takers = |kind| {
        let sinks = config.sinks.iter();
        sinks
            .filter(|sink| sink.takes(&mailbox.tenant, kind))
            .map(|sink| sink.name.clone())
            .collect()
    };
    let outgoing = mailbox
        .outgoing
        .as_deref()
        .and_then(|name| config.outgoing(name));
    Mailbox {
        name: mailbox.name.clone(),
        tenant: mailbox.tenant.clone(),
        domains: config
            .tenant(&mailbox.tenant)
            .map(|tenant| tenant.domains.clone())
            .unwrap_or_default(),
        trusted: mailbox.trusted.clone(),
        after_done: mailbox.after_done.clone(),
        after_failed: mailbox.after_failed.clone(),
        outlets: Arc::new(Outlets {
            routes: Routes {
                ticket: takers(ItemKind::Ticket),
                note: takers(ItemKind::Note),
                alert: takers(ItemKind::Alert),
            },
            deliver_old: mailbox.deliver_old,
            outgoing: outgoing.map(|way| OutgoingRoute {
                name: way.name.clone(),
                from_domain: way.from.domain().to_owned(),
                automatic: config.limits.automatic,
            }),
        }),
    }
}

/// A mailbox's source, which may ask the journal what it knows.
fn source(
    mailbox: &postroom_config::MailboxConfig,
    store: &Store,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
) -> Ready<Box<dyn Source>> {
    let mut source = connections::source(mailbox, tokens, tls)?;
    source.set_known(Arc::new(JournalPositions {
        store: store.clone(),
        mailbox: mailbox.name.clone(),
    }));
    Ok(source)
}

/// What changes when the login's account, which had failed, works again.
fn recovered(
    login: &postroom_config::MailLogin,
    tokens: &Ready<Arc<Tokens>>,
) -> Option<watch::Receiver<u64>> {
    match &login.credential {
        postroom_config::Credential::Account { account, .. } => {
            Some(tokens.as_ref().ok()?.recovered(account))
        }
        postroom_config::Credential::Password(_) | postroom_config::Credential::Unavailable(_) => {
            None
        }
    }
}

/// For each tenant whose rules may see what the mail before changed.
fn tenant_locks(config: &Config) -> HashMap<String, Mutex<()>> {
    let sees = |grants: &Grants| grants.kv || grants.lookup;
    let granted = config.tenants.iter().filter(|it| sees(&it.grants));
    granted
        .map(|tenant| (tenant.name.clone(), Mutex::new(())))
        .collect()
}

fn budgets(config: &Config) -> HashMap<String, RateLimiter> {
    let tenants = config.tenants.iter();
    tenants
        .filter_map(|tenant| Some((&tenant.name, tenant.mails_per_minute?)))
        .map(|(name, rate)| (name.clone(), RateLimiter::new(name, rate)))
        .collect()
}

/// Tells once of everything that ends soon, at the start and when the next step of its notice is reached.
async fn tell_notices(config: Arc<Config>, stop: CancellationToken) {
    let mut told: Vec<Notice> = Vec::new();
    loop {
        let notices = expiry::notices(&config, Timestamp::now());
        for notice in notices.iter().filter(|notice| !told.contains(notice)) {
            tracing::warn!(key = notice.key, cure = notice.cure, "{}", notice.message);
        }
        told = notices;
        tokio::select! {
            () = tokio::time::sleep(NOTICE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Drops raw mail past its keeping time, now and then, while the clock can be believed; and makes due what a wrong clock scheduled
/// for a day that is far away.
async fn purge(store: Store, keep: Duration, stop: CancellationToken) {
    let began = Instant::now();
    let now_ms = || Timestamp::now().as_millisecond();
    let known_ms = store.known_time().unwrap_or_else(|error| {
        tracing::warn!(%error, "the last known time could not be read");
        Some(0)
    });
    let mut check = ClockCheck::new(now_ms(), known_ms, began.elapsed());
    let mut reported = false;
    loop {
        let now = now_ms();
        if check.is_confirmed(now, began.elapsed()) {
            reported = false;
            drop_old(&store, keep, now).await;
        } else if !std::mem::replace(&mut reported, true) {
            tracing::info!(
                known = %shown(known_ms), now = %shown(Some(now)),
                "the clock is more than a day from the last known time: no raw mail is dropped until it has run for a day"
            );
        }
        match store.bring_forward(now).await {
            Ok(0) => {}
            Ok(entries) => {
                tracing::info!(
                    entries,
                    "scheduled more than a day ahead by another clock: due now"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "what a wrong clock scheduled could not be looked for")
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PURGE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn drop_old(store: &Store, keep: Duration, now_ms: i64) {
    let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let dropped = match store.confirm_clock(now_ms).await {
        Ok(()) => store.purge(now_ms.saturating_sub(keep_ms)).await,
        Err(error) => Err(error),
    };
    match dropped {
        Ok(0) => {}
        Ok(dropped) => tracing::info!(dropped, "purged raw mail older than keep_raw"),
        Err(error) => tracing::warn!(%error, "raw mail older than keep_raw could not be purged"),
    }
}

fn shown(ms: Option<i64>) -> Timestamp {
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}

/// The crash points of a token refresh.
fn crash_at(step: RefreshStep) {
    crash::point(match step {
        RefreshStep::Begun => crash::Point::BeforeTokenRequest,
        RefreshStep::Received => crash::Point::BeforeTokenStored,
        RefreshStep::Stored => crash::Point::AfterTokenStored,
    });
}

#[cfg(test)]
mod tests;
