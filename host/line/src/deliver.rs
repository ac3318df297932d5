//! Delivery: empties the outbox target by target, at least once and in order per ticket. Nothing is decided again.

mod under_way;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use postroom_core::backoff::Backoff;
use postroom_store::{Outbox, OutboxEntry, OutboxKind, StoreError};
use postroom_target::{Attempt, Fault, Scope, Severity};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::breaker::{BreakerEvent, Consequence};
use super::bus::Publisher;
use super::clock::Timekeeper;
use super::event::{Delivered, DeliveryFailed, DeliveryId, FailureConsequence, LineEvent};
use super::target::GuardedTarget;
use postroom_config::LineLimits;
use postroom_rules::crash;
use under_way::UnderWay;

/// The interval at which the outbox is checked even if no bell rings.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// The interval of checks for changes by `postroom outbox retry` and `drop`.
const CHANGES_LOOK: Duration = Duration::from_millis(250);
/// The pause after the store could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(2);
/// The pauses between attempts for an entry that its target refuses while accepting others.
const REFUSED_ENTRY: Backoff = Backoff {
    first: Duration::from_secs(2),
    longest: Duration::from_secs(60 * 60),
    spread_percent: 25,
};
/// The fewest refusals before an entry is given up, however old it is: its age may consist of waiting for the target or for this
/// service. The last of these attempts is about an hour and a half after the first.
const FEWEST_TRIES: u32 = 12;
/// The longest that `run --once` lets deliveries run, so that a run started by a timer ends.
const ONCE_LONGEST: Duration = Duration::from_secs(15 * 60);

/// How long a changed configuration waits for the connections of targets that are gone: a delivery may be using them.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// Identifies a target. A sink and an outgoing with the same name are two targets.
pub type TargetId = (OutboxKind, String);

/// Delivers outbox entries to their targets.
pub struct Deliveries {
    outbox: Arc<dyn Outbox>,
    targets: watch::Sender<Arc<Targets>>,
    time: Arc<Timekeeper>,
    events: Publisher,
    stop: CancellationToken,
    under_way: UnderWay,
}

/// The targets of one configuration, and what deliveries take from its limits.
pub struct Targets {
    by_id: BTreeMap<TargetId, Arc<GuardedTarget>>,
    /// For each outgoing with an account, a receiver that changes when the account works again after a failure.
    signed_in: Vec<(String, watch::Receiver<u64>)>,
    /// An entry that has been refused for longer becomes a dead letter: it stays in the outbox for a person.
    age: Duration,
    /// How long a stopped run waits for deliveries in progress.
    drain: Duration,
}

/// Deliveries in progress.
#[derive(Default)]
struct Rounds {
    tasks: JoinSet<(OutboxEntry, Result<Ended, StoreError>)>,
    busy: HashMap<TargetId, HashSet<i64>>,
    /// The due time up to which each target's entries have been looked up. Entries due earlier are in progress, or are looked up
    /// when a delivery to that target ends.
    looked_ms: HashMap<TargetId, i64>,
    /// Entries that are attempted only once, have been attempted and stay in the outbox.
    tried: Option<HashSet<i64>>,
}

/// The result of one attempt for an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    Gone,
    /// The entry stays in the outbox and waits.
    Waits,
}

impl Targets {
    /// Each of `signed_in` changes when the account of the outgoing with that name works again after a failure.
    pub fn new(
        by_id: BTreeMap<TargetId, Arc<GuardedTarget>>,
        signed_in: Vec<(String, watch::Receiver<u64>)>,
        limits: &LineLimits,
    ) -> Self {
        Self {
            by_id,
            signed_in,
            age: limits.outbox_age,
            drain: limits.drain,
        }
    }
}

impl Deliveries {
    pub fn new(
        outbox: Arc<dyn Outbox>,
        targets: Targets,
        time: Arc<Timekeeper>,
        events: Publisher,
        stop: CancellationToken,
    ) -> Self {
        Self {
            outbox,
            targets: watch::Sender::new(Arc::new(targets)),
            time,
            events,
            stop,
            under_way: UnderWay::default(),
        }
    }

    pub fn target(&self, id: &TargetId) -> Option<Arc<GuardedTarget>> {
        self.targets().by_id.get(id).cloned()
    }

    /// Takes over the targets of a changed configuration. Deliveries in progress finish at the target at which they began; a target
    /// that is gone is then closed.
    pub async fn configure(&self, targets: Targets) {
        let after = Arc::new(targets);
        let before = self.targets.send_replace(after.clone());
        let is_kept = |id, target| {
            after
                .by_id
                .get(id)
                .is_some_and(|it| Arc::ptr_eq(it, target))
        };
        let gone = before.by_id.iter().filter(|(id, it)| !is_kept(id, it));
        let closing = gone.map(|(_, target)| tokio::time::timeout(CLOSE_WITHIN, target.close()));
        join_all(closing).await;
    }

    fn targets(&self) -> Arc<Targets> {
        self.targets.borrow().clone()
    }

    /// Returns the names of the targets with deliveries in progress.
    pub fn busy_targets(&self) -> Vec<String> {
        self.under_way.targets()
    }

    /// Delivers until stopped, then lets deliveries in progress finish.
    pub async fn serve(self: Arc<Self>, mut filled: watch::Receiver<()>) {
        let mut configured = self.targets.subscribe();
        let mut signed_in = self.targets().signed_in.clone();
        self.report_orphans().await;
        let mut rounds = Rounds::default();
        let mut changes_seen = None;
        let mut ticks = tokio::time::interval(CHANGES_LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // A delivery that ended makes room only at its own target; in all other cases every target is checked.
        let mut ended_at: Option<TargetId> = None;
        let (mut look, mut wait) = (true, IDLE_LOOK);
        let mut looked = Instant::now();
        while !self.stop.is_cancelled() {
            if std::mem::replace(&mut look, true) {
                let started = self.start_due(&mut rounds, ended_at.take().as_ref()).await;
                looked = Instant::now();
                let next = match started {
                    Ok(()) => self.until_next(&rounds).await,
                    Err(error) => Err(error),
                };
                wait = next.unwrap_or_else(|error| {
                    tracing::error!(%error, "the outbox cannot be used now; deliveries wait");
                    STORE_PAUSE
                });
            }
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep_until((looked + wait).into()) => {}
                _ = filled.changed() => {}
                _ = configured.changed() => {
                    signed_in = self.targets().signed_in.clone();
                    // A target with the same name is another one now.
                    rounds.looked_ms.clear();
                    self.report_orphans().await;
                }
                name = any_news(&mut signed_in) => self.probe_now(&(OutboxKind::Mail, name)),
                _ = ticks.tick() => look = self.follow_changes(&mut changes_seen).await,
                Some(ended) = rounds.tasks.join_next() => match rounds.ended(ended) {
                    (target, Ok(())) => ended_at = Some(target),
                    (_, Err(_)) => tokio::time::sleep(STORE_PAUSE).await,
                }
            }
        }
        while let Some(ended) = rounds.tasks.join_next().await {
            let _ = rounds.ended(ended);
        }
        self.close().await;
    }

    /// Attempts each entry once that is due, or becomes due through another's delivery. After `begin_for`, and after a stop, no
    /// further attempt begins. Those in progress finish; after a stop they have `limits.drain` to do so.
    pub async fn try_once(self: Arc<Self>, begin_for: Duration) -> Result<(), StoreError> {
        self.report_orphans().await;
        let mut rounds = Rounds {
            tried: Some(HashSet::new()),
            ..Rounds::default()
        };
        let began = Instant::now();
        let (mut end, mut stopping) = (began + ONCE_LONGEST, false);
        let mut ended_at = None;
        loop {
            if began.elapsed() < begin_for && !self.stop.is_cancelled() {
                self.start_due(&mut rounds, ended_at.as_ref()).await?;
            }
            let next = rounds.tasks.join_next();
            let ended = tokio::select! {
                ended = tokio::time::timeout_at(end.into(), next) => ended,
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    end = end.min(Instant::now() + self.targets().drain);
                    continue;
                }
            };
            let Ok(ended) = ended else {
                self.cut_off(&mut rounds, began.elapsed()).await?;
                break;
            };
            let Some(ended) = ended else {
                break;
            };
            let (target, recorded) = rounds.ended(ended);
            recorded?;
            ended_at = Some(target);
        }
        self.close().await;
        Ok(())
    }

    /// Aborts deliveries in progress and records that they were attempted.
    async fn cut_off(&self, rounds: &mut Rounds, after: Duration) -> Result<(), StoreError> {
        rounds.tasks.shutdown().await;
        let busy = std::mem::take(&mut rounds.busy);
        for ((_, to), entries) in busy {
            for entry in entries {
                tracing::warn!(target = %to, entry, "delivery took too long and was cut off; it is tried again by the next run");
                let reason = format!("cut off after {} s", after.as_secs());
                self.outbox.cut_off(entry, &reason).await?;
            }
        }
        Ok(())
    }

    async fn close(&self) {
        for target in self.targets().by_id.values() {
            target.close().await;
        }
    }

    /// Starts entries that are due and not in progress, at every target that has room, or only at the given one.
    async fn start_due(
        self: &Arc<Self>,
        rounds: &mut Rounds,
        only: Option<&TargetId>,
    ) -> Result<(), StoreError> {
        let now = self.time.now_ms();
        for (id, target) in &self.targets().by_id {
            if only.is_some_and(|only| only != id) {
                continue;
            }
            let busy = rounds.busy.entry(id.clone()).or_default();
            let room = target.permits().saturating_sub(busy.len());
            if room > 0 {
                let tried = rounds.tried.iter().flatten();
                let skip = busy.iter().chain(tried).copied().collect();
                let due = target.due(&*self.outbox, (id.0, &id.1), now, room, skip);
                let due = due.await?;
                for entry in due {
                    busy.insert(entry.id);
                    let deliveries = self.clone();
                    // The span is named after the target, not after the task that started the delivery.
                    let span = tracing::error_span!(parent: None, "delivery", target = %entry.target, tenant = %entry.tenant, entry = entry.id);
                    let delivery = async move {
                        let result = deliveries.deliver(&entry).await;
                        (entry, result)
                    };
                    rounds.tasks.spawn(delivery.instrument(span));
                }
            }
            rounds.looked_ms.insert(id.clone(), now);
        }
        Ok(())
    }

    /// Returns how long nothing will need to be started, unless a bell rings or a delivery ends.
    async fn until_next(&self, rounds: &Rounds) -> Result<Duration, StoreError> {
        let mut wait = IDLE_LOOK;
        for (id, target) in &self.targets().by_id {
            if let Some(left) = target.held_for() {
                wait = wait.min(left);
                continue;
            }
            let looked = rounds.looked_ms.get(id).copied().unwrap_or(i64::MIN);
            let due = self.outbox.next_outbox_due(id.0, &id.1, looked).await?;
            let now = self.time.now_ms();
            if let Some(due) = due {
                let left = u64::try_from(due - now).unwrap_or(0);
                wait = wait.min(Duration::from_millis(left));
            }
        }
        Ok(wait)
    }

    /// Returns whether a person changed entries since the last check. Entries that they want retried are attempted regardless of
    /// pauses.
    async fn follow_changes(&self, seen: &mut Option<i64>) -> bool {
        // A store error surfaces where entries are looked up.
        let Ok(now) = self.outbox.outbox_changes().await else {
            return false;
        };
        let is_news = seen.replace(now).is_some_and(|before| before != now);
        if is_news {
            for target in self.targets().by_id.values() {
                target.probe_now();
            }
        }
        is_news
    }

    fn probe_now(&self, id: &TargetId) {
        if let Some(target) = self.target(id) {
            target.probe_now();
        }
    }

    /// Reports entries whose target is not configured or is unusable: they wait, and nobody would notice otherwise.
    async fn report_orphans(&self) {
        let waiting = self.outbox.outbox_waiting_by_target().await;
        let waiting = waiting.unwrap_or_default();
        for (kind, name, waiting) in waiting {
            let id = (kind, name);
            if self.target(&id).is_none() {
                tracing::warn!(target = %id.1, waiting, "entries wait for a target that is not in use; `postroom outbox drop` ends them");
            }
        }
    }

    async fn deliver(&self, entry: &OutboxEntry) -> Result<Ended, StoreError> {
        let id = (entry.kind, entry.target.clone());
        let _under_way = self.under_way.begin(&id);
        let Some(target) = self.target(&id) else {
            return Ok(Ended::Waits);
        };
        let turn = target.turn().await;
        if turn.is_some()
            && let Some(problem) = target.holds()
        {
            return self.hold(entry, &problem).await;
        }
        let attempt = AssertUnwindSafe(target.attempt(&*self.outbox, entry)).catch_unwind();
        let tried = attempt.await.unwrap_or_else(|_| {
            let problem = "a defect of Postroom; the log has its panic";
            Attempt::Failed(Fault::new(Scope::Entry, problem))
        });
        let verdict = match &tried {
            Attempt::Failed(fault) => {
                let (verdict, report) = target.failed(entry.id, fault);
                self.report(&id, report, &fault.problem).await;
                Some(verdict)
            }
            _ => {
                self.report(&id, target.taken(entry.id), "").await;
                None
            }
        };
        // The next mail is sent while this one is recorded.
        drop(turn);
        match tried {
            Attempt::Delivered(receipt) => {
                crash::point(crash::Point::BeforeDeliveryRecord);
                self.recorded(|| self.outbox.delivered(entry.id, receipt.clone()))
                    .await?;
                target.forget(entry.id);
                self.events.publish(|| {
                    let delivery = DeliveryId::of(entry);
                    LineEvent::Delivered(Arc::new(Delivered { delivery, receipt }))
                });
                Ok(Ended::Gone)
            }
            Attempt::Partly {
                rest,
                receipt,
                problem,
            } => {
                if self.is_over(entry) {
                    return self.give_up(entry, &problem).await;
                }
                let payload = match serde_json::to_string(&rest) {
                    Ok(payload) => payload,
                    Err(error) => {
                        let problem = format!("its payload cannot be written: {error}");
                        return self.give_up(entry, &problem).await;
                    }
                };
                let pause = REFUSED_ENTRY.delay(entry.attempts + 1, entry.id.unsigned_abs());
                let at = self.after(pause);
                self.recorded(|| {
                    self.outbox
                        .partly_delivered(entry.id, payload.clone(), &receipt, &problem, at)
                })
                .await?;
                self.failed(entry, &problem, FailureConsequence::RetryRest { pause });
                Ok(Ended::Waits)
            }
            Attempt::Failed(fault) => match verdict {
                Some(Consequence::Hold) => self.hold(entry, &fault.problem).await,
                Some(Consequence::Refused) | None => self.refused(entry, &fault).await,
            },
            Attempt::Final(problem) => {
                let ended = self.give_up(entry, &problem).await?;
                target.forget(entry.id);
                Ok(ended)
            }
        }
    }

    async fn hold(&self, entry: &OutboxEntry, problem: &str) -> Result<Ended, StoreError> {
        self.recorded(|| self.outbox.held_back(entry.id, problem))
            .await?;
        Ok(Ended::Waits)
    }

    async fn refused(&self, entry: &OutboxEntry, fault: &Fault) -> Result<Ended, StoreError> {
        if self.is_over(entry) {
            return self.give_up(entry, &fault.problem).await;
        }
        let own = REFUSED_ENTRY.delay(entry.attempts + 1, entry.id.unsigned_abs());
        let pause = own.max(fault.retry_after.unwrap_or_default());
        let at = self.after(pause);
        self.recorded(|| self.outbox.refused(entry.id, &fault.problem, at))
            .await?;
        let consequence = FailureConsequence::Retry {
            pause,
            give_up_after: self.targets().age,
            again: entry.refused,
        };
        self.failed(entry, &fault.problem, consequence);
        Ok(Ended::Waits)
    }

    async fn give_up(&self, entry: &OutboxEntry, problem: &str) -> Result<Ended, StoreError> {
        self.recorded(|| self.outbox.gave_up(entry.id, problem))
            .await?;
        self.failed(entry, problem, FailureConsequence::DeadLetter);
        Ok(Ended::Gone)
    }

    fn failed(&self, entry: &OutboxEntry, problem: &str, consequence: FailureConsequence) {
        self.events.publish(|| {
            LineEvent::DeliveryFailed(Arc::new(DeliveryFailed {
                delivery: DeliveryId::of(entry),
                problem: problem.to_owned(),
                consequence,
            }))
        });
    }

    /// Returns the time this long from now, in Unix milliseconds.
    fn after(&self, pause: Duration) -> i64 {
        let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
        self.time.now_ms().saturating_add(pause)
    }

    fn is_over(&self, entry: &OutboxEntry) -> bool {
        let now = self.time.now_ms();
        let waited = Duration::from_millis(u64::try_from(now - entry.since_ms).unwrap_or(0));
        // While the clock is in doubt, no entry has an age.
        is_over(entry.attempts + 1, waited, self.targets().age) && self.time.is_confirmed()
    }

    /// Logs what a circuit breaker reports, with the number of waiting entries.
    async fn report(&self, (kind, to): &TargetId, report: Option<BreakerEvent>, problem: &str) {
        let Some(report) = report else {
            return;
        };
        let all = self.outbox.outbox_waiting_by_target().await;
        let all = all.unwrap_or_default();
        let of_it = all.iter().find(|it| it.0 == *kind && it.1 == *to);
        let waiting = of_it.map_or(0, |it| it.2);
        match report {
            BreakerEvent::Down(Severity::Error) => {
                tracing::error!(waiting, "target down; its entries wait: {problem}");
            }
            BreakerEvent::Down(_) => {
                tracing::warn!(waiting, "target down; its entries wait: {problem}");
            }
            BreakerEvent::StillDown(_) => {
                tracing::warn!(waiting, "target still down; its entries wait: {problem}");
            }
            BreakerEvent::Recovered { problem } => {
                tracing::info!(waiting, was = %problem, "target works again");
            }
        }
    }

    /// Retries recording an attempt's result until it succeeds: a full disk must not cause an entry to be delivered twice.
    async fn recorded<F>(&self, mut write: impl FnMut() -> F) -> Result<(), StoreError>
    where
        F: Future<Output = Result<(), StoreError>>,
    {
        loop {
            match write().await {
                Err(StoreError::Full | StoreError::Busy) if !self.stop.is_cancelled() => {
                    tokio::select! {
                        () = tokio::time::sleep(STORE_PAUSE) => {}
                        () = self.stop.cancelled() => {}
                    }
                }
                recorded => return recorded,
            }
        }
    }
}

impl Rounds {
    /// Returns the delivery's target, and whether its result has been recorded.
    fn ended(
        &mut self,
        ended: Result<(OutboxEntry, Result<Ended, StoreError>), JoinError>,
    ) -> (TargetId, Result<(), StoreError>) {
        let (entry, result) =
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let target = (entry.kind, entry.target);
        if let Some(busy) = self.busy.get_mut(&target) {
            busy.remove(&entry.id);
        }
        if let Err(error) = &result {
            tracing::error!(%error, entry = entry.id, "a delivery could not be recorded; it is repeated under the same id");
        }
        if let (Some(tried), Ok(Ended::Waits)) = (&mut self.tried, &result) {
            tried.insert(entry.id);
        }
        (target, result.map(|_| ()))
    }
}

/// Waits until one of them changes, and returns its name.
async fn any_news(signed_in: &mut [(String, watch::Receiver<u64>)]) -> String {
    let changes = signed_in.iter_mut().map(|(name, it)| async {
        it.changed().await.ok()?;
        Some(name.clone())
    });
    let mut changes: FuturesUnordered<_> = changes.collect();
    while let Some(changed) = changes.next().await {
        if let Some(name) = changed {
            return name;
        }
    }
    std::future::pending().await
}

/// Returns whether an entry that was refused this often and waited this long is given up.
fn is_over(tries: u32, waited: Duration, age: Duration) -> bool {
    tries >= FEWEST_TRIES && waited >= age
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn an_entry_dies_of_age_and_never_of_a_count() {
        assert!(!is_over(1_000_000, DAY * 13, DAY * 14));
        assert!(is_over(300, DAY * 14, DAY * 14));
    }

    #[test]
    fn an_entry_that_outlived_an_outage_is_tried_for_more_than_an_hour() {
        assert!(!is_over(1, DAY * 100, DAY * 14));
        let tries = (1..FEWEST_TRIES).map(|tries| REFUSED_ENTRY.delay(tries, 7));
        let time: Duration = tries.sum();
        assert!(time > Duration::from_secs(45 * 60), "{time:?}");
        assert!(is_over(FEWEST_TRIES, DAY * 100, DAY * 14));
    }
}
