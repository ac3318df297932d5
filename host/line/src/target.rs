//! One target of deliveries behind its circuit breaker, whatever its kind.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postroom_core::{MailKind, OutgoingMail};
use postroom_store::{JournalId, Outbox, OutboxEntry, OutboxKind, RoundRobin, StoreError};
use postroom_target::{Attempt, Content, Delivery, Fault, MailAttachment, Scope, Target};

use super::breaker::{BreakerEvent, CircuitBreaker, Consequence};

/// Deliveries to one target under way at a time: one that hangs holds up no other, and is not flooded.
const AT_ONCE: usize = 4;

/// A target of the configuration, guarded by a circuit breaker.
pub struct GuardedTarget {
    target: Box<dyn Target>,
    breaker: Mutex<CircuitBreaker>,
    /// Held while a mail is sent, so that the mails behind it learn of an outage before they meet it themselves.
    turn: tokio::sync::Mutex<()>,
    /// Where the round over the tenants stands.
    served: Mutex<i64>,
}

impl GuardedTarget {
    pub fn new(target: Box<dyn Target>) -> Self {
        Self {
            target,
            breaker: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
            served: Mutex::new(0),
        }
    }

    /// How long nothing is tried.
    pub fn held_for(&self) -> Option<Duration> {
        self.breaker().held_for(Instant::now())
    }

    /// How many tries may be under way now.
    pub fn permits(&self) -> usize {
        self.breaker().permits(Instant::now(), AT_ONCE)
    }

    /// Waits for the turn of an entry, where deliveries go one after the other. It is held until the outcome is judged.
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

    /// Tries the next entry, since the cause of the wait may be over.
    pub fn probe_now(&self) {
        self.breaker().probe_now(Instant::now());
    }

    /// Returns up to `limit` entries whose turn it is, without those to `skip`. A probe is another entry each time.
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

    /// Notes that the target took the entry, or spoke a final word on it.
    pub fn taken(&self, entry: i64) -> Option<BreakerEvent> {
        self.breaker().taken(entry)
    }

    pub fn failed(&self, entry: i64, fault: &Fault) -> (Consequence, Option<BreakerEvent>) {
        let seed = RandomState::new().hash_one(());
        self.breaker().failed(entry, fault, Instant::now(), seed)
    }

    /// Tries once.
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
        let delivery = Delivery {
            idempotency_key: &entry.idempotency_key,
            content,
            reference: entry.reference.as_ref(),
        };
        self.target.deliver(delivery).await
    }

    /// Ends a kept connection politely.
    pub async fn close(&self) {
        self.target.close().await;
    }

    /// Never held while waiting for anything.
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

/// Returns what the mail carries: a forward the mail that it forwards.
async fn attachments(
    outbox: &dyn Outbox,
    mail: &OutgoingMail,
    entry: &OutboxEntry,
) -> Result<Vec<MailAttachment>, Attempt> {
    match mail.kind {
        MailKind::Reply | MailKind::Notification => Ok(Vec::new()),
        MailKind::Forward => match outbox.forwarded(JournalId(entry.decision.0)).await {
            Ok(Some(raw)) => Ok(vec![MailAttachment::original(raw)]),
            Ok(None) => Err(Attempt::Final("the mail to forward was purged".into())),
            Err(error) => Err(Attempt::Failed(Fault::new(Scope::Entry, error.to_string()))),
        },
    }
}
