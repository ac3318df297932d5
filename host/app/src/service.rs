//! The running service: builds every part from the configuration, runs the parts and drains them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use postroom_auth::{RefreshStep, Tokens};
use postroom_core::{Clock, MailboxState, RawMessage};
use postroom_mailbox::{InFlight, Source};
use postroom_net::DialLimits;
use postroom_store::{Journal, OutboxKind, Store, StoreError};
use rustls::ClientConfig;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::connections;
use crate::parts::Parts;
use crate::protocol_log::ProtocolLog;
use crate::{expiry, store, tls};
use postroom_config::{Config, MailboxConfig, Ready, Unavailable};
use postroom_line::bus::Publisher;
use postroom_line::clock::Timekeeper;
use postroom_line::deliver::{Deliveries, TargetId};
use postroom_line::intake::Intake;
use postroom_line::positions::JournalPositions;
use postroom_line::retention::{self, Retention};
use postroom_line::shadow::ShadowRunner;
use postroom_line::slots::Slots;
use postroom_line::target::GuardedTarget;
use postroom_line::{BatchOutcome, Line, Mailbox, Shared, suspects};
use postroom_rules::crash;
use postroom_rules::directory::Directories;
use postroom_rules::publication::{PublishHook, ReloadWatch};
use postroom_rules::rulebook::{self, LoadPool, RuleBook};
use postroom_rules::watch as rule_watch;

/// How long `--once` starts deliveries; those in progress then finish.
const ONCE_DELIVERY: Duration = Duration::from_secs(10);
/// How long `--once` lets shadows decide the drained mail; the next run does the rest.
const ONCE_SHADOWS: Duration = Duration::from_secs(10);

/// All parts, built but not running yet.
pub struct Service {
    config: Arc<Config>,
    store: Arc<dyn Store>,
    rules: Arc<RuleBook>,
    directories: Arc<Directories>,
    line: Arc<Line>,
    intakes: Vec<Intake>,
    deliveries: Arc<Deliveries>,
    shadows: Arc<ShadowRunner>,
    tokens: Ready<Arc<Tokens>>,
    /// Sinks and outgoings that receive no deliveries, as `sink NAME` and `outgoing NAME`.
    misconfigured: Vec<(String, Unavailable)>,
    /// The first load of the rules, while it is still running.
    loading: JoinSet<Result<(), StoreError>>,
    time: Arc<Timekeeper>,
    clock: Clock,
    events: Publisher,
    stop: CancellationToken,
}

/// The options for building a service.
pub struct Options {
    /// The bus on which it publishes events.
    pub events: Publisher,
    /// A hook that sees each change of the rules before it goes live.
    pub hook: Option<Arc<dyn PublishHook>>,
    /// The number of rule instances that the hook may hold at a time, so that no mail waits for one.
    pub hook_instances: usize,
    /// Whether an empty database may replace one that is gone.
    pub start_anew: bool,
    pub clock: Clock,
}

impl Options {
    pub fn new(events: Publisher, start_anew: bool) -> Self {
        Self {
            events,
            hook: None,
            hook_instances: 0,
            start_anew,
            clock: Clock::system(),
        }
    }
}

/// The result of a drain.
#[derive(Debug, Default)]
pub struct Drained {
    /// Mailboxes that could not be drained, with the reason.
    pub failed: Vec<(String, String)>,
    /// Sinks and outgoings that received no deliveries, with the reason and help.
    pub misconfigured: Vec<(String, Unavailable)>,
    pub decided: usize,
    /// Deliveries that stay pending.
    pub undelivered: u64,
    /// Decided mails that have not been acknowledged on their server.
    pub unacknowledged: u64,
}

impl Service {
    /// Opens the store, the sandbox and the rules, and prepares a session for each mailbox. Does not connect. Does not wait for
    /// rules that are slow to load: mail of their tenants stays in the journal until they are loaded.
    pub async fn build(
        config: Arc<Config>,
        options: Options,
        stop: CancellationToken,
    ) -> anyhow::Result<Self> {
        let Options {
            events,
            hook,
            hook_instances,
            start_anew,
            clock,
        } = options;
        let store = store::open(&config, start_anew, clock.clone()).await?;
        let listings = store.listings();

        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = Arc::new(Slots::new(cores));
        // Instances for the mails decided at a time, plus those for loading: a rule that is slow to load holds up no other.
        let workers = slots.count() + LoadPool::instances(cores) + hook_instances;
        let sandbox = Arc::new(rulebook::configured_sandbox(&config, workers)?);
        let directories = Directories::open(&config, store.clone(), listings.clone()).await?;
        let reloads = {
            let events = events.clone();
            ReloadWatch {
                publish: Arc::new(move |reload| events.publish(|| reload.into())),
                hook,
            }
        };
        let rules = RuleBook::open(
            &config,
            sandbox.clone(),
            store.clone(),
            listings.clone(),
            directories.clone(),
            reloads,
            stop.clone(),
        );
        let loading = load_rules(&rules, &stop).await?;

        let tls = tls::client_config(&config.extra_roots)?;
        let tokens = connections::tokens_if_ready(&config, &tls)?;
        let tokens =
            tokens.map(|tokens| Arc::new(tokens.on_step(crash_at).with_clock(clock.clone())));
        let mut misconfigured = Vec::new();
        let targets = targets(&config, &clock, &tls, &tokens, &mut misconfigured)?;
        for (part, why) in &misconfigured {
            tracing::error!(
                help = format!("{}; then restart postroom", why.help),
                "{part} is misconfigured, its entries wait in the outbox: {why}"
            );
        }
        report_misconfigured(&config, &*store).await?;
        let known_ms = retention::known_time(&*store).await;
        let time = Arc::new(Timekeeper::new(clock.clone(), known_ms));
        let deliveries = Arc::new(Deliveries::new(
            store.clone(),
            targets,
            &config.limits,
            time.clone(),
            events.clone(),
            stop.clone(),
        ));

        let line = Arc::new(Line::new(
            &config,
            store.clone(),
            rules.clone(),
            directories.clone(),
            Shared {
                slots: slots.clone(),
                clock: clock.clone(),
                events: events.clone(),
                stop: stop.clone(),
            },
        ));
        let shadows = Arc::new(ShadowRunner::new(
            &config,
            store.clone(),
            listings,
            rules.clone(),
            sandbox,
            slots,
            stop.clone(),
        ));
        let in_flight = InFlight::new(config.limits.in_flight_bytes);
        let intake = |mailbox: &MailboxConfig| {
            let login = mailbox.source.login();
            Intake::new(
                line.clone(),
                Arc::new(Mailbox::of(&config, mailbox)),
                source(
                    mailbox,
                    &config.data_dir,
                    store.clone(),
                    &clock,
                    &tokens,
                    &tls,
                    line.dials(),
                ),
                mailbox.every,
                in_flight.clone(),
                login.and_then(|login| recovered(login, &tokens)),
            )
        };
        let intakes = config.mailboxes.iter().map(intake).collect();
        Ok(Self {
            config,
            store,
            rules,
            directories,
            line,
            intakes,
            deliveries,
            shadows,
            tokens,
            misconfigured,
            loading,
            time,
            clock,
            events,
            stop,
        })
    }

    /// Serves until stopped, then drains: batches and deliveries in progress finish, and nothing new begins. What has not ended
    /// after `limits.drain` is abandoned. A part that panics ends the service, so that its supervisor restarts it.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut parts = Parts::default();
        let outgoing = self.config.outgoing.iter();
        let signed_in = outgoing
            .filter_map(|way| {
                let news = recovered(way.target.login()?, &self.tokens)?;
                Some((way.name.clone(), news))
            })
            .collect();
        let (deliveries, filled) = (self.deliveries.clone(), self.line.outbox_filled());
        parts.spawn("deliveries", deliveries.serve(filled, signed_in));
        let deliveries = self.deliveries.clone();
        parts.describe("deliveries", move || {
            let names = deliveries.busy_targets().into_iter();
            names.map(|name| format!("deliveries {name}")).collect()
        });
        if let Ok(tokens) = self.tokens.clone() {
            let stop = self.stop.clone();
            parts.spawn("tokens", async move { tokens.keep(stop).await });
        }
        let retention = Retention {
            store: self.store.clone(),
            time: self.time.clone(),
            keep_raw: self.config.keep_raw,
            outbox_filled: self.line.outbox_bell(),
            stop: self.stop.clone(),
        };
        parts.spawn("retention", retention.serve());
        let freshness = self.line.freshness();
        parts.spawn("freshness", freshness.serve(self.stop.clone()));
        parts.spawn(
            "expiry notices",
            expiry::report(self.config.clone(), self.clock.clone(), self.stop.clone()),
        );
        let mut loading = self.loading;
        parts.spawn("first load of rules", async move {
            while let Some(ended) = loading.join_next().await {
                if let Err(error) = first_load(ended) {
                    tracing::error!(%error, "rules could not be stored; they are loaded again soon");
                }
            }
        });
        // Nothing that might crash the process runs alongside a suspect.
        if let Err(error) = suspects::decide(&mut self.intakes).await {
            tracing::warn!(%error, "the mails that the last crashes may have come from are not decided alone yet");
        }
        for intake in self.intakes {
            let mailbox = intake.mailbox().clone();
            let name = format!("mailbox {}", mailbox.name);
            parts.spawn_in(mailbox.span(), name, intake.serve());
        }
        parts.spawn(
            "rule watcher",
            rule_watch::watch(self.rules.clone(), self.directories, self.stop.clone()),
        );
        if let Some(events) = self.events.reader() {
            parts.spawn("shadows", self.shadows.serve(events));
        }
        let (rules, stop) = (self.rules, self.stop.clone());
        parts.spawn("compiler", async move {
            stop.cancelled().await;
            rules.stop_compiling();
        });
        let ended = parts.run(&self.stop, self.config.limits.drain).await;
        if let Ok(tokens) = &self.tokens {
            tokens.finish().await;
        }
        self.line.close().await;
        self.store.close().await;
        Ok(ended?)
    }

    /// Drains every mailbox, lets shadows decide the new mail, attempts each due delivery once, and returns.
    pub async fn once(self) -> anyhow::Result<Drained> {
        self.drain(usize::MAX).await
    }

    /// Does the same as [`Service::once`], one mailbox after the other: the same mail gets the same ticket numbers on each run.
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
                let mailbox = intake.mailbox().clone();
                let draining = intake.drain().instrument(mailbox.span());
                tasks.spawn(async move { (mailbox.name.clone(), draining.await) });
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
            // Draining and delivering do not depend on shadows.
            tracing::warn!(%error, "shadows cannot be read; the next run continues them");
        }
        let unacknowledged = self.store.unacknowledged().await?;
        drained.misconfigured = self.misconfigured.clone();
        for it in &self.config.misconfigured {
            let part = it.mailbox.as_ref().map(|name| format!("mailbox {name}"));
            drained
                .misconfigured
                .extend(it.problems.iter().map(|problem| {
                    let part = part.clone().unwrap_or_else(|| problem.file.clone());
                    (part, Unavailable::from(problem))
                }));
        }
        drained.unacknowledged = unacknowledged
            .iter()
            // Nobody can fix what a mailbox that was removed from the configuration still owes.
            .filter(|(mailbox, _)| self.config.mailbox(mailbox).is_some())
            .map(|(_, mails)| mails)
            .sum();
        drained.undelivered = self.deliver_once().await?;
        Ok(drained)
    }

    /// Processes what an earlier process left undecided in one mailbox, once its rules are loaded.
    pub async fn recover(&mut self, mailbox: &str) -> anyhow::Result<()> {
        if let Some(configured) = self.config.mailbox(mailbox) {
            let tenant = &configured.tenant;
            tokio::select! {
                () = self.rules.first_load_of(tenant) => {}
                () = self.stop.cancelled() => return Ok(()),
            }
            if !self.rules.is_loaded(tenant) {
                self.loading.try_join_next().map_or(Ok(()), first_load)?;
                bail!("the rules of {tenant} are not loaded: the log has the reason");
            }
        }
        suspects::decide(&mut self.intakes).await?;
        let intake = self
            .intakes
            .iter_mut()
            .find(|i| i.mailbox().name == mailbox);
        if let Some(intake) = intake {
            let span = intake.mailbox().span();
            intake.recover().instrument(span).await?;
        }
        Ok(())
    }

    /// Takes mails that are on no server through the line, for one mailbox.
    pub async fn take_in(
        &self,
        mailbox: &str,
        mails: Vec<RawMessage>,
    ) -> Result<BatchOutcome, StoreError> {
        let intake = self.intakes.iter().find(|i| i.mailbox().name == mailbox);
        let Some(intake) = intake else {
            return Ok(BatchOutcome::default());
        };
        let mailbox = intake.mailbox();
        let taken_in = async {
            let pending = self.line.journal(mailbox, mails, None).await?;
            self.line.process_batch(mailbox, pending).await
        };
        taken_in.instrument(mailbox.span()).await
    }

    /// Attempts each due delivery once, closes the store, and returns how many stay pending.
    pub async fn deliver_once(self) -> anyhow::Result<u64> {
        self.deliveries.clone().try_once(ONCE_DELIVERY).await?;
        if let Ok(tokens) = &self.tokens {
            tokens.finish().await;
        }
        let waiting = self.store.outbox_waiting().await?;
        self.line.close().await;
        self.store.close().await;
        Ok(waiting)
    }

    pub fn rules(&self) -> Arc<RuleBook> {
        self.rules.clone()
    }
}

/// Logs and records the mailboxes that cannot run until their part of the configuration is corrected.
async fn report_misconfigured(config: &Config, journal: &dyn Journal) -> Result<(), StoreError> {
    for it in &config.misconfigured {
        for problem in &it.problems {
            let (at, help, why) = (problem.place(), &problem.cure, Unavailable::from(problem));
            match &it.mailbox {
                Some(mailbox) => {
                    let tenant = it.tenant.as_deref();
                    tracing::error!(%mailbox, tenant, state = %MailboxState::Misconfigured, at, %help, "the mailbox is misconfigured and does not run: {why}");
                }
                None => {
                    tracing::error!(at, %help, "a part of the configuration is not used: {why}")
                }
            }
        }
        if let Some(mailbox) = &it.mailbox {
            let problems: Vec<String> = it.problems.iter().map(ToString::to_string).collect();
            journal
                .set_mailbox_state(mailbox, MailboxState::Misconfigured, &problems.join("; "))
                .await?;
        }
    }
    Ok(())
}

/// Begins the first load of the rules and waits for those that load quickly. Returns the rest of the load.
async fn load_rules(
    rules: &Arc<RuleBook>,
    stop: &CancellationToken,
) -> Result<JoinSet<Result<(), StoreError>>, StoreError> {
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
    Ok(loading)
}

/// Returns the result of the first load of the rules.
fn first_load(ended: Result<Result<(), StoreError>, JoinError>) -> Result<(), StoreError> {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// Returns every target that is usable as configured.
fn targets(
    config: &Config,
    clock: &Clock,
    tls: &Arc<ClientConfig>,
    tokens: &Ready<Arc<Tokens>>,
    misconfigured: &mut Vec<(String, Unavailable)>,
) -> anyhow::Result<BTreeMap<TargetId, GuardedTarget>> {
    let http = postroom_target::webhook::client((**tls).clone())?;
    let mut targets = BTreeMap::new();
    for sink in &config.sinks {
        match connections::sink(sink, &http, tls, clock)? {
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
    Ok(targets)
}

/// Builds a mailbox's source, which may ask the journal for known positions.
fn source(
    mailbox: &postroom_config::MailboxConfig,
    data_dir: &Path,
    journal: Arc<dyn Journal>,
    clock: &Clock,
    tokens: &Ready<Arc<Tokens>>,
    tls: &Arc<ClientConfig>,
    dials: &Arc<DialLimits>,
) -> Ready<Box<dyn Source>> {
    let mut source = connections::source(mailbox, tokens, tls)?;
    if let Some(server) = mailbox.source.server() {
        source.set_dials(dials.to(&server.host));
    }
    let known = JournalPositions::new(journal, &mailbox.name);
    source.set_known(Arc::new(known));
    source.set_clock(clock.clone());
    if let Some(bytes_max) = mailbox.protocol_log_bytes {
        let log = ProtocolLog::new(data_dir, &mailbox.name, bytes_max, clock.clone());
        source.set_trace(log.trace());
    }
    Ok(source)
}

/// Returns a receiver that changes when the login's account works again after a failure.
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

/// Triggers the crash point of a token refresh step.
fn crash_at(step: RefreshStep) {
    crash::point(match step {
        RefreshStep::Begun => crash::Point::BeforeTokenRequest,
        RefreshStep::Received => crash::Point::BeforeTokenStored,
        RefreshStep::Stored => crash::Point::AfterTokenStored,
    });
}

#[cfg(test)]
mod tests;
