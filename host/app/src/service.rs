//! The running service: builds every part from the configuration, runs the parts and drains them.

pub mod live;
mod mailboxes;
mod means;

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use postroom_core::{Clock, MailboxState, RawMessage};
use postroom_mailbox::InFlight;
use postroom_store::{Journal, StoreError, Upkeep};
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::parts::Parts;
use crate::{expiry, store, tls};
use live::Live;
use mailboxes::{Mailboxes, Starting};
use means::{KeptTokens, Means};
use postroom_config::{Config, Misconfigured, Unavailable};
use postroom_line::bus::Publisher;
use postroom_line::clock::Timekeeper;
use postroom_line::deliver::Deliveries;
use postroom_line::event_log::AFTER_CORRECTION;
use postroom_line::retention::{self, Retention};
use postroom_line::shadow::ShadowRunner;
use postroom_line::slots::Slots;
use postroom_line::{BatchOutcome, Line, Shared, suspects};
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
    means: Means,
    rules: Arc<RuleBook>,
    directories: Arc<Directories>,
    mailboxes: Mailboxes,
    starting: Vec<Starting>,
    deliveries: Arc<Deliveries>,
    shadows: Arc<ShadowRunner>,
    /// Sinks and outgoings that receive no deliveries, as `sink NAME` and `outgoing NAME`.
    misconfigured: Vec<(String, Unavailable)>,
    /// The first load of the rules, while it is still running.
    loading: JoinSet<Result<(), StoreError>>,
    time: Arc<Timekeeper>,
    events: Publisher,
    reload: Option<Signal>,
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
    /// The signal that asks to read the configuration again. Its files are watched in any case.
    pub reload: Option<Signal>,
}

impl Options {
    pub fn new(events: Publisher, start_anew: bool) -> Self {
        Self {
            events,
            hook: None,
            hook_instances: 0,
            start_anew,
            clock: Clock::system(),
            reload: None,
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
            reload,
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
        let tokens = KeptTokens::open(&config, &tls, &clock)?;
        let known_ms = retention::known_time(&*store).await;
        let time = Arc::new(Timekeeper::new(clock.clone(), known_ms));
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
        let means = Means {
            data_dir: config.data_dir.clone(),
            store: store.clone(),
            line,
            http: postroom_target::webhook::client(&tls, &config.proxies)?,
            tls,
            tokens,
            in_flight: InFlight::new(config.limits.in_flight_bytes),
            clock,
            stop: stop.clone(),
        };
        let made = means.targets(&config, None)?;
        report_unusable(&made.misconfigured);
        report_misconfigured(&config, &[], &*store).await?;
        report_left(&*store, &config).await;
        let deliveries = Arc::new(Deliveries::new(
            store,
            made.targets,
            time.clone(),
            events.clone(),
            stop.clone(),
        ));
        let (mailboxes, starting) = Mailboxes::of(&config, &means);
        Ok(Self {
            config,
            means,
            rules,
            directories,
            mailboxes,
            starting,
            deliveries,
            shadows,
            misconfigured: made.misconfigured,
            loading,
            time,
            events,
            reload,
            stop,
        })
    }

    /// Serves until stopped, then drains: batches and deliveries in progress finish, and nothing new begins. What has not ended
    /// after `limits.drain` is abandoned. A part that panics ends the service, so that its supervisor restarts it.
    pub async fn run(mut self) -> anyhow::Result<()> {
        let mut parts = Parts::default();
        let (line, store) = (self.means.line.clone(), self.means.store.clone());
        let filled = line.outbox_filled();
        parts.spawn("deliveries", self.deliveries.clone().serve(filled));
        let deliveries = self.deliveries.clone();
        parts.describe("deliveries", move || {
            let names = deliveries.busy_targets().into_iter();
            names.map(|name| format!("deliveries {name}")).collect()
        });
        if let Ok(tokens) = self.means.tokens.current() {
            let stop = self.stop.clone();
            parts.spawn("tokens", async move { tokens.keep(stop).await });
        }
        let config = watch::Sender::new(self.config.clone());
        let keep_raw = watch::Sender::new(self.config.keep_raw);
        let retention = Retention {
            store: store.clone(),
            time: self.time.clone(),
            keep_raw: keep_raw.subscribe(),
            outbox_filled: line.outbox_bell(),
            stop: self.stop.clone(),
        };
        parts.spawn("retention", retention.serve());
        let freshness = line.freshness();
        parts.spawn("freshness", freshness.serve(self.stop.clone()));
        parts.spawn("mail again", line.again().serve(self.stop.clone()));
        let alerts = line.alerts();
        parts.spawn(
            "alert watch",
            alerts.serve(self.time.clone(), self.stop.clone()),
        );
        let clock = self.means.clock.clone();
        parts.spawn(
            "expiry notices",
            expiry::report(config.subscribe(), clock, self.stop.clone()),
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
        if let Err(error) =
            suspects::decide(self.starting.iter_mut().map(|it| &mut it.intake)).await
        {
            tracing::warn!(%error, "the mails that the last crashes may have come from are not decided alone yet");
        }
        for mailbox in self.starting {
            mailbox.start(&mut parts);
        }
        let directories = self.directories.clone();
        parts.spawn(
            "rule watcher",
            rule_watch::watch(self.rules.clone(), directories, self.stop.clone()),
        );
        if let Some(events) = self.events.reader() {
            parts.spawn("shadows", self.shadows.clone().serve(events));
        }
        let (rules, stop) = (self.rules.clone(), self.stop.clone());
        parts.spawn("compiler", async move {
            stop.cancelled().await;
            rules.stop_compiling();
        });
        let tokens = self.means.tokens.clone();
        let drain = config.subscribe();
        let live = Live {
            config,
            keep_raw,
            means: self.means,
            rules: self.rules,
            directories: self.directories,
            deliveries: self.deliveries,
            shadows: self.shadows,
            mailboxes: self.mailboxes,
            unusable: self.misconfigured,
            events: self.events,
            spawner: parts.spawner(),
            reload: self.reload,
            loads: JoinSet::new(),
        };
        parts.spawn("configuration", live.serve());
        let limit = || drain.borrow().limits.drain;
        let ended = parts.run(&self.stop, limit).await;
        if let Ok(tokens) = tokens.current() {
            tokens.finish().await;
        }
        line.close().await;
        store.close().await;
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
            decided: suspects::decide(self.starting.iter_mut().map(|it| &mut it.intake)).await?,
            ..Drained::default()
        };
        let mut tasks = JoinSet::new();
        let mut waiting = std::mem::take(&mut self.starting).into_iter();
        loop {
            for Starting { intake, .. } in waiting.by_ref().take(most_at_once - tasks.len()) {
                let mailbox = intake.mailbox().clone();
                let draining = intake.drain().instrument(mailbox.span());
                tasks.spawn(async move { (mailbox.name.clone(), draining.await) });
            }
            let Some(ended) = tasks.join_next().await else {
                break;
            };
            match ended {
                Ok((_, Ok(decided))) => drained.decided += decided,
                Ok((name, Err(error))) => {
                    drained.decided += error.decided();
                    drained.failed.push((name, error.to_string()));
                }
                Err(error) => bail!("a mailbox's task died: {error}"),
            }
        }
        self.loading.try_join_next().map_or(Ok(()), first_load)?;
        drained.failed.sort();
        if let Err(error) = self.shadows.catch_up(ONCE_SHADOWS).await {
            // Draining and delivering do not depend on shadows.
            tracing::warn!(%error, "shadows cannot be read; the next run continues them");
        }
        let unacknowledged = self.means.store.unacknowledged().await?;
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
        self.means.line.alerts().look(&self.time).await?;
        drained.undelivered = self.deliver_once().await?;
        Ok(drained)
    }

    /// Processes what an earlier process left undecided in one mailbox, once its rules are loaded.
    pub async fn recover(&mut self, mailbox: &str) -> anyhow::Result<()> {
        if let Some(configured) = self.config.mailbox(mailbox) {
            for (tenant, _) in configured.chains() {
                tokio::select! {
                    () = self.rules.first_load_of(tenant) => {}
                    () = self.stop.cancelled() => return Ok(()),
                }
                if !self.rules.is_loaded(tenant) {
                    self.loading.try_join_next().map_or(Ok(()), first_load)?;
                    bail!("the rules of {tenant} are not loaded: the log has the reason");
                }
            }
        }
        suspects::decide(self.starting.iter_mut().map(|it| &mut it.intake)).await?;
        let mut intakes = self.starting.iter_mut().map(|it| &mut it.intake);
        if let Some(intake) = intakes.find(|it| it.mailbox().name == mailbox) {
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
        let mut intakes = self.starting.iter().map(|it| &it.intake);
        let Some(intake) = intakes.find(|it| it.mailbox().name == mailbox) else {
            return Ok(BatchOutcome::default());
        };
        let mailbox = intake.mailbox();
        let taken_in = async {
            let line = &self.means.line;
            let pending = line.journal(mailbox, mails, None).await?;
            line.process_batch(mailbox, pending).await
        };
        taken_in.instrument(mailbox.span()).await
    }

    /// Attempts each due delivery once, closes the store, and returns how many stay pending.
    pub async fn deliver_once(self) -> anyhow::Result<u64> {
        self.deliveries.clone().try_once(ONCE_DELIVERY).await?;
        if let Ok(tokens) = self.means.tokens.current() {
            tokens.finish().await;
        }
        let store = &self.means.store;
        let waiting = store.outbox_waiting().await?;
        self.means.line.close().await;
        store.close().await;
        Ok(waiting)
    }

    pub fn rules(&self) -> Arc<RuleBook> {
        self.rules.clone()
    }
}

/// Logs the sinks and outgoings that cannot be used until their part of the configuration is corrected.
fn report_unusable<'u>(misconfigured: impl IntoIterator<Item = &'u (String, Unavailable)>) {
    for (part, why) in misconfigured {
        tracing::error!(
            help = format!("{}; {AFTER_CORRECTION}", why.help),
            "{part} is misconfigured, its entries wait in the outbox: {why}"
        );
    }
}

/// Logs and records the mailboxes that cannot run until their part of the configuration is corrected, except those that could not run
/// before for the same reason.
async fn report_misconfigured(
    config: &Config,
    before: &[Misconfigured],
    journal: &dyn Journal,
) -> Result<(), StoreError> {
    for it in config
        .misconfigured
        .iter()
        .filter(|it| !before.contains(it))
    {
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

/// Reports undecided mail of mailboxes that the configuration does not have: it waits in the journal, and nobody would notice.
async fn report_left(store: &dyn Upkeep, config: &Config) {
    // An error of the store surfaces where it is used.
    for (mailbox, mails) in store.undecided().await.unwrap_or_default() {
        let is_known = config.mailbox(&mailbox).is_some()
            || config
                .misconfigured
                .iter()
                .any(|it| it.mailbox.as_ref() == Some(&mailbox));
        if !is_known {
            tracing::warn!(%mailbox, mails, "undecided mail waits in the journal for a mailbox that the configuration does not have; a mailbox with this name decides it");
        }
    }
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

#[cfg(test)]
mod tests;
