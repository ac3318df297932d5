//! Delivery: the outbox is emptied target by target, at least once, in order per ticket, and nothing is decided again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use postroom_core::backoff::backoff;
use postroom_outgoing::OutgoingMail;
use postroom_sink::{SinkError, Webhook};
use postroom_store::{MailKind, OutboxEntry, OutboxKind, OutgoingMailPayload, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::way::{NotSent, Way};
use crate::crash;

/// Deliveries to one target under way at a time: a target that hangs holds up no other, and is not flooded.
const AT_ONCE: usize = 4;
/// Due entries looked up at a time, for each target.
const LOOK: usize = 32;
/// The outbox is looked at this often even when nobody rings.
const IDLE_LOOK: Duration = Duration::from_secs(30);
/// The pause after the store could not be read or written.
const STORE_PAUSE: Duration = Duration::from_secs(2);

/// Where entries of the outbox go.
pub struct Deliveries {
    pub store: Store,
    pub sinks: BTreeMap<String, Webhook>,
    pub outgoing: BTreeMap<String, Way>,
    /// After so many tries an entry is dead: it stays in the outbox for a person.
    pub attempts: u32,
    pub stop: CancellationToken,
}

/// How one try ended.
enum Tried {
    Delivered(String),
    /// Worth another try, after at least so long where the receiver said so.
    Later(String, Option<Duration>),
    /// Not tried, because nothing can be sent there now: it waits, however long that takes.
    Held(String),
    /// Never worth one.
    Dead(String),
}

/// Where entries go: a sink and an outgoing of one name are two.
type Target = (OutboxKind, String);

/// Deliveries under way.
#[derive(Default)]
struct Rounds {
    tasks: JoinSet<(OutboxEntry, Result<(), StoreError>)>,
    busy: HashSet<i64>,
    by_target: HashMap<Target, usize>,
    /// Up to when what was due was looked up. What was due earlier is under way, or is looked up when a delivery there ends.
    looked_ms: HashMap<Target, i64>,
}

impl Deliveries {
    /// Delivers until stopped; deliveries under way end first. Each of `signed_in` changes when the account of the way out with
    /// that name, which had failed, works again.
    pub async fn serve(
        self: Arc<Self>,
        mut filled: watch::Receiver<()>,
        mut signed_in: Vec<(String, watch::Receiver<u64>)>,
    ) {
        let mut rounds = Rounds::default();
        // A delivery that ended makes room at its own target only; else all are looked at.
        let mut ended_at: Option<Target> = None;
        while !self.stop.is_cancelled() {
            let wait = match self.start_due(&mut rounds, ended_at.take().as_ref(), None) {
                Ok(()) => self.until_next(&rounds),
                Err(error) => Err(error),
            };
            let wait = wait.unwrap_or_else(|error| {
                tracing::error!(%error, "the outbox cannot be used now; deliveries wait");
                STORE_PAUSE
            });
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
                _ = filled.changed() => {}
                way = any_news(&mut signed_in) => self.reopen(&way),
                Some(ended) = rounds.tasks.join_next() => match rounds.ended(ended) {
                    (target, Ok(())) => ended_at = Some(target),
                    (_, Err(_)) => tokio::time::sleep(STORE_PAUSE).await,
                }
            }
        }
        while let Some(ended) = rounds.tasks.join_next().await {
            let _ = rounds.ended(ended);
        }
        for way in self.outgoing.values() {
            way.close().await;
        }
    }

    /// Tries each entry that is due, or becomes due by another's delivery, once.
    pub async fn try_once(self: Arc<Self>) -> Result<(), StoreError> {
        let mut rounds = Rounds::default();
        let mut tried = HashSet::new();
        let mut ended_at = None;
        loop {
            self.start_due(&mut rounds, ended_at.as_ref(), Some(&mut tried))?;
            let Some(ended) = rounds.tasks.join_next().await else {
                break;
            };
            let (target, recorded) = rounds.ended(ended);
            recorded?;
            ended_at = Some(target);
        }
        for way in self.outgoing.values() {
            way.close().await;
        }
        Ok(())
    }

    /// Starts what is due and not under way, at every target that has room, or at this one. With `tried`, nothing that is in it,
    /// and what is started is added.
    fn start_due(
        self: &Arc<Self>,
        rounds: &mut Rounds,
        only: Option<&Target>,
        mut tried: Option<&mut HashSet<i64>>,
    ) -> Result<(), StoreError> {
        let now = Timestamp::now().as_millisecond();
        for target in self.targets() {
            if only.is_some_and(|only| *only != target) || self.held_for(&target).is_some() {
                continue;
            }
            let under_way = rounds.by_target.entry(target.clone()).or_default();
            if *under_way < AT_ONCE {
                for entry in self.store.due_outbox(target.0, &target.1, now, LOOK)? {
                    if *under_way >= AT_ONCE || rounds.busy.contains(&entry.id) {
                        continue;
                    }
                    if let Some(tried) = tried.as_deref_mut()
                        && !tried.insert(entry.id)
                    {
                        continue;
                    }
                    *under_way += 1;
                    rounds.busy.insert(entry.id);
                    let deliveries = self.clone();
                    rounds.tasks.spawn(async move {
                        let result = deliveries.deliver(&entry).await;
                        (entry, result)
                    });
                }
            }
            rounds.looked_ms.insert(target, now);
        }
        Ok(())
    }

    fn targets(&self) -> impl Iterator<Item = Target> {
        let sinks = self.sinks.keys().map(|name| (OutboxKind::Sink, name));
        let ways = self.outgoing.keys().map(|name| (OutboxKind::Mail, name));
        sinks.chain(ways).map(|(kind, name)| (kind, name.clone()))
    }

    /// How long nothing will have to be started, unless somebody rings or a delivery ends.
    fn until_next(&self, rounds: &Rounds) -> Result<Duration, StoreError> {
        let mut wait = IDLE_LOOK;
        for target in self.targets() {
            if let Some(left) = self.held_for(&target) {
                wait = wait.min(left);
                continue;
            }
            let looked = rounds.looked_ms.get(&target).copied().unwrap_or(i64::MIN);
            let due = self.store.next_outbox_due(target.0, &target.1, looked)?;
            let now = Timestamp::now().as_millisecond();
            if let Some(due) = due {
                let left = u64::try_from(due - now).unwrap_or(0);
                wait = wait.min(Duration::from_millis(left));
            }
        }
        Ok(wait)
    }

    /// How long nothing is sent to a target, whatever waits for it.
    fn held_for(&self, (kind, name): &Target) -> Option<Duration> {
        match kind {
            OutboxKind::Sink => None,
            OutboxKind::Mail => self.outgoing.get(name)?.held_for(),
        }
    }

    /// What kept a way out shut may have been the sign-in.
    fn reopen(&self, way: &str) {
        if let Some(way) = self.outgoing.get(way) {
            way.reopen();
        }
    }

    async fn deliver(&self, entry: &OutboxEntry) -> Result<(), StoreError> {
        let attempt = AssertUnwindSafe(self.attempt(entry)).catch_unwind().await;
        let tried = attempt.unwrap_or_else(|_| {
            Tried::Later("a defect of Postroom; the log has its panic".into(), None)
        });
        match tried {
            Tried::Delivered(receipt) => {
                crash::point(crash::Point::BeforeDeliveryRecord);
                self.recorded(|| self.store.delivered(entry.id, receipt.clone()))
                    .await
            }
            Tried::Later(problem, wish) if entry.attempts + 1 < self.attempts => {
                let seed = entry.id.unsigned_abs();
                let pause = backoff(entry.attempts + 1, seed).max(wish.unwrap_or_default());
                tracing::warn!(to = %entry.target, entry = entry.id, retry_secs = pause.as_secs(), "not delivered, tried again later: {problem}");
                let at = after(pause);
                self.recorded(|| self.store.undelivered(entry.id, problem.clone(), Some(at)))
                    .await
            }
            Tried::Held(problem) => {
                self.recorded(|| self.store.held_back(entry.id, problem.clone()))
                    .await
            }
            Tried::Later(problem, _) | Tried::Dead(problem) => {
                tracing::error!(to = %entry.target, entry = entry.id, "not delivered, kept in the outbox as dead: {problem}");
                self.recorded(|| self.store.undelivered(entry.id, problem.clone(), None))
                    .await
            }
        }
    }

    /// Records how a try ended, until it is recorded: an entry that was delivered is not sent again because the disk is full.
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

    async fn attempt(&self, entry: &OutboxEntry) -> Tried {
        let gone = || Tried::Later("it is not in the configuration any more".into(), None);
        match entry.kind {
            OutboxKind::Sink => match self.sinks.get(&entry.target) {
                Some(webhook) => post(webhook, entry).await,
                None => gone(),
            },
            OutboxKind::Mail => match self.outgoing.get(&entry.target) {
                Some(way) => self.send(way, entry).await,
                None => gone(),
            },
        }
    }

    async fn send(&self, way: &Way, entry: &OutboxEntry) -> Tried {
        let payload: OutgoingMailPayload = match serde_json::from_str(&entry.payload) {
            Ok(payload) => payload,
            Err(error) => return Tried::Dead(format!("its payload cannot be read: {error}")),
        };
        let attached = match payload.kind {
            MailKind::Reply => None,
            MailKind::Forward => match self.store.raw(payload.journal) {
                Ok(Some(raw)) => Some(raw),
                Ok(None) => return Tried::Dead("the mail to forward was purged".into()),
                Err(error) => return Tried::Later(error.to_string(), None),
            },
        };
        let mail = OutgoingMail {
            to: payload.to,
            subject: payload.subject,
            text: payload.text,
            html: payload.html,
            message_id: payload.message_id,
            in_reply_to: payload.in_reply_to,
            references: payload.references,
            auto_submitted: payload.kind == MailKind::Reply,
            attached,
        };
        match way.send(&mail).await {
            Ok(receipt) if receipt.refused.is_empty() && receipt.deferred.is_empty() => {
                Tried::Delivered(format!("{} {}", receipt.code, receipt.text))
            }
            Ok(receipt) => {
                let refused: Vec<String> = receipt
                    .refused
                    .iter()
                    .chain(&receipt.deferred)
                    .map(|one| format!("{}: {} {}", one.address, one.code, one.text))
                    .collect();
                tracing::warn!(to = %entry.target, entry = entry.id, "sent, but not to all: {}", refused.join("; "));
                Tried::Delivered(format!(
                    "{} {}; refused: {}",
                    receipt.code,
                    receipt.text,
                    refused.join("; ")
                ))
            }
            Err(NotSent::Held(problem)) => Tried::Held(problem),
            Err(NotSent::Failed(error)) if error.is_permanent() => Tried::Dead(error.to_string()),
            // Also when the answer was lost and the mail may have arrived: its Message-ID stays the same.
            Err(NotSent::Failed(error)) => Tried::Later(error.to_string(), None),
        }
    }
}

impl Rounds {
    /// Where the delivery went, and whether how it ended is recorded.
    fn ended(
        &mut self,
        ended: Result<(OutboxEntry, Result<(), StoreError>), tokio::task::JoinError>,
    ) -> (Target, Result<(), StoreError>) {
        let (entry, result) =
            ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        self.busy.remove(&entry.id);
        let target = (entry.kind, entry.target);
        if let Some(count) = self.by_target.get_mut(&target) {
            *count -= 1;
        }
        if let Err(error) = &result {
            tracing::error!(%error, entry = entry.id, "a delivery could not be recorded; it is repeated under the same id");
        }
        (target, result)
    }
}

/// Ends when one of them changes, with its name.
async fn any_news(signed_in: &mut [(String, watch::Receiver<u64>)]) -> String {
    let changes = signed_in.iter_mut().map(|(way, it)| async {
        it.changed().await.ok()?;
        Some(way.clone())
    });
    let mut changes: FuturesUnordered<_> = changes.collect();
    while let Some(changed) = changes.next().await {
        if let Some(way) = changed {
            return way;
        }
    }
    std::future::pending().await
}

/// The time so far from now, in Unix milliseconds.
fn after(pause: Duration) -> i64 {
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
    Timestamp::now().as_millisecond() + pause
}

async fn post(webhook: &Webhook, entry: &OutboxEntry) -> Tried {
    match webhook
        .post(&entry.idempotency_key, Timestamp::now(), &entry.payload)
        .await
    {
        Ok(receipt) => Tried::Delivered(receipt.status.to_string()),
        Err(SinkError::Transient {
            retry_after,
            status,
            problem,
        }) => {
            let status = status.map(|s| format!("{s} ")).unwrap_or_default();
            Tried::Later(format!("{status}{problem}"), retry_after)
        }
        Err(error @ SinkError::Permanent { .. }) => Tried::Dead(error.to_string()),
        Err(error @ SinkError::Settings { .. }) => Tried::Later(error.to_string(), None),
    }
}
