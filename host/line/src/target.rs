//! One delivery target of any kind, guarded by its circuit breaker.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use postroom_core::{MailKind, OutgoingMail};
use postroom_store::{JournalId, Outbox, OutboxEntry, OutboxKind, RoundRobin, StoreError};
use postroom_target::{Attempt, Content, Delivery, Fault, MailAttachment, Scope, Target};

use super::breaker::{BreakerEvent, CircuitBreaker, Consequence};

/// The number of concurrent deliveries to one target: one that hangs does not hold up the others, and the target is not flooded.
const AT_ONCE: usize = 4;

/// A target of the configuration, guarded by a circuit breaker.
pub struct GuardedTarget {
    target: Box<dyn Target>,
    breaker: Mutex<CircuitBreaker>,
    /// Held while a mail is sent, so that the mails behind it learn of an outage before they run into it.
    turn: tokio::sync::Mutex<()>,
    /// The position of the round robin over the tenants.
    served: Mutex<i64>,
    /// When this process began to use the target, in Unix milliseconds: it does not know what became of older entries.
    since_ms: i64,
    /// The entries that were attempted and have no recorded end: such an attempt may have succeeded.
    tried: Mutex<HashSet<i64>>,
}

impl GuardedTarget {
    pub fn new(target: Box<dyn Target>, since_ms: i64) -> Self {
        Self {
            target,
            breaker: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            served: Mutex::new(0),
            since_ms,
            tried: Mutex::default(),
        }
    }

    /// Returns how long attempts remain suspended.
    pub fn held_for(&self) -> Option<Duration> {
        self.breaker().held_for(Instant::now())
    }

    /// Returns how many attempts may run at once now.
    pub fn permits(&self) -> usize {
        self.breaker().permits(Instant::now(), AT_ONCE)
    }

    /// Waits for the entry's turn if deliveries are sequential. The guard is held until the result is judged.
    pub async fn turn(&self) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        match self.target.is_serial() {
            true => Some(self.turn.lock().await),
            false => None,
        }
    }

    /// Returns what currently keeps all entries waiting.
    pub fn holds(&self) -> Option<String> {
        let now = Instant::now();
        self.breaker().holds(now).map(str::to_owned)
    }

    /// Ends the pause, because its cause may be over: the next entry is attempted.
    pub fn probe_now(&self) {
        self.breaker().probe_now(Instant::now());
    }

    /// Returns up to `limit` entries whose turn it is, except those in `skip`. Each probe uses a different entry.
    pub async fn due(
        &self,
        outbox: &dyn Outbox,
        (kind, name): (OutboxKind, &str),
        now_ms: i64,
        limit: usize,
        skip: HashSet<i64>,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        let turn = RoundRobin {
            after: *self.served(),
            skip,
        };
        let probed = self.breaker().probed().cloned();
        let mut due = Vec::new();
        if let Some(probed) = probed {
            let others = RoundRobin {
                after: turn.after,
                skip: turn.skip.union(&probed).copied().collect(),
            };
            due = outbox.due_outbox(kind, name, now_ms, limit, others).await?;
            if due.is_empty() {
                self.breaker().next_round();
            }
        }
        if due.is_empty() {
            due = outbox.due_outbox(kind, name, now_ms, limit, turn).await?;
        }
        if let Some(last) = due.last() {
            *self.served() = last.turn;
        }
        Ok(due)
    }

    /// Records that the target accepted the entry or gave a final reply about it.
    pub fn taken(&self, entry: i64) -> Option<BreakerEvent> {
        self.breaker().taken(entry)
    }

    pub fn failed(&self, entry: i64, fault: &Fault) -> (Consequence, Option<BreakerEvent>) {
        let seed = RandomState::new().hash_one(());
        self.breaker().failed(entry, fault, Instant::now(), seed)
    }

    /// Makes one attempt.
    pub async fn attempt(&self, outbox: &dyn Outbox, entry: &OutboxEntry) -> Attempt {
        match entry.kind {
            OutboxKind::Sink => match serde_json::from_str(&entry.payload) {
                Ok(event) => self.deliver(entry, Content::Event(&event)).await,
                Err(error) => unreadable(&error),
            },
            OutboxKind::Mail => {
                let mail: OutgoingMail = match serde_json::from_str(&entry.payload) {
                    Ok(mail) => mail,
                    Err(error) => return unreadable(&error),
                };
                let attachments = match attachments(outbox, &mail, entry).await {
                    Ok(attachments) => attachments,
                    Err(attempt) => return attempt,
                };
                let mail = &mail;
                self.deliver(entry, Content::Mail { mail, attachments })
                    .await
            }
        }
    }

    async fn deliver(&self, entry: &OutboxEntry, content: Content<'_>) -> Attempt {
        let is_first = self.tried().insert(entry.id);
        let is_older = entry.attempts > 0 || entry.created_ms < self.since_ms;
        let delivery = Delivery {
            idempotency_key: &entry.idempotency_key,
            content,
            is_repeat: !is_first || is_older,
            reference: entry.reference.as_ref(),
        };
        self.target.deliver(delivery).await
    }

    /// Records that the end of an entry is durable.
    pub fn forget(&self, entry: i64) {
        self.tried().remove(&entry);
    }

    fn tried(&self) -> MutexGuard<'_, HashSet<i64>> {
        self.tried.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes a kept connection properly.
    pub async fn close(&self) {
        self.target.close().await;
    }

    /// Locks the breaker. The lock is never held across a wait.
    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> MutexGuard<'_, i64> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unreadable(error: &serde_json::Error) -> Attempt {
    Attempt::Final(format!("its payload cannot be read: {error}"))
}

/// Returns the mail's attachments: for a forward, the mail that it forwards.
async fn attachments(
    outbox: &dyn Outbox,
    mail: &OutgoingMail,
    entry: &OutboxEntry,
) -> Result<Vec<MailAttachment>, Attempt> {
    match mail.kind {
        MailKind::Reply | MailKind::Notification => Ok(Vec::new()),
        MailKind::Forward => match forwarded(outbox, entry).await {
            Ok(Some(raw)) => Ok(vec![MailAttachment::original(raw)]),
            Ok(None) => Err(Attempt::Final("the mail to forward was purged".into())),
            Err(error) => Err(Attempt::Failed(Fault::new(Scope::Entry, error.to_string()))),
        },
    }
}

/// Returns the bytes of the mail that the entry was decided on, or `None` if they were purged.
async fn forwarded(outbox: &dyn Outbox, entry: &OutboxEntry) -> Result<Option<Bytes>, StoreError> {
    match entry.decision {
        Some(decision) => outbox.forwarded(JournalId(decision.0)).await,
        None => Ok(None),
    }
}
