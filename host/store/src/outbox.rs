//! The outbox: what was decided and must still reach a sink or a mailbox, at least once, in order per ticket and alert.

use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};

use crate::ids::{DecisionId, now_ms};
use crate::{Reader, Store, StoreError};

const WAITING: i64 = 0;
const DELIVERED: i64 = 1;
const DEAD: i64 = 2;

/// Which way an entry goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutboxKind {
    /// To the sink named by the entry's target.
    Sink,
    /// By the outgoing named by the entry's target; the payload is a [`crate::OutgoingMailPayload`].
    Mail,
}

/// An entry whose turn it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxEntry {
    pub id: i64,
    pub kind: OutboxKind,
    /// The sink's or the outgoing's name.
    pub target: String,
    pub tenant: String,
    pub decision: DecisionId,
    /// JSON.
    pub payload: String,
    /// The same on every attempt.
    pub idempotency_key: String,
    /// How often it was tried in vain.
    pub attempts: u32,
    pub created_ms: i64,
}

/// A new entry, before it has a row.
pub(crate) struct NewEntry<'a> {
    pub kind: OutboxKind,
    pub target: &'a str,
    pub tenant: i64,
    pub decision: DecisionId,
    pub lane: Option<i64>,
    pub idempotency_key: String,
    pub payload: String,
}

impl OutboxKind {
    pub(crate) fn number(self) -> i64 {
        match self {
            OutboxKind::Sink => 0,
            OutboxKind::Mail => 1,
        }
    }

    pub(crate) fn of(number: i64) -> Result<Self, StoreError> {
        match number {
            0 => Ok(OutboxKind::Sink),
            1 => Ok(OutboxKind::Mail),
            other => Err(StoreError::corrupt(format!("outbox kind {other}"))),
        }
    }
}

impl Store {
    /// The target took the entry; `receipt` is what it said, kept for people.
    pub async fn delivered(&self, id: i64, receipt: impl Into<String>) -> Result<(), StoreError> {
        let receipt = receipt.into();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET state = ?2, receipt = ?3, error = NULL, finished_ms = ?4, attempts = attempts + 1
                     WHERE id = ?1 AND state = 0",
                )?
                .execute((id, DELIVERED, receipt, now_ms()))?;
                Ok(())
            })
            .await
    }

    /// The target did not take the entry: it is due again at the time given, and those behind it on the same ticket or alert
    /// wait with it; without a time it is dead, and they go on.
    pub async fn undelivered(
        &self,
        id: i64,
        error: impl Into<String>,
        retry_at_ms: Option<i64>,
    ) -> Result<(), StoreError> {
        let error = error.into();
        self.writer
            .submit(0, move |conn| match retry_at_ms {
                Some(due_ms) => postpone(conn, id, &error, due_ms),
                None => give_up(conn, id, &error),
            })
            .await
    }

    /// Notes why an entry that is due is not tried: nothing can be sent to its target now. It stays due, and no try is counted.
    pub async fn held_back(&self, id: i64, reason: impl Into<String>) -> Result<(), StoreError> {
        let reason = reason.into();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET error = ?2 WHERE id = ?1 AND state = 0 AND error IS NOT ?2",
                )?
                .execute((id, reason))?;
                Ok(())
            })
            .await
    }
}

impl Reader {
    /// Entries for a target whose turn it is; a sink and an outgoing of one name are two targets. One is left out while an
    /// older one for the same target and the same ticket or alert is neither delivered nor dead. Those under way are
    /// answered again: a target has one worker.
    pub fn due_outbox(
        &self,
        kind: OutboxKind,
        target: &str,
        now_ms: i64,
        limit: usize,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(DUE)?;
            let mut rows = statement.query((target, now_ms, limit as i64, kind.number()))?;
            let mut due = Vec::new();
            while let Some(row) = rows.next()? {
                due.push(OutboxEntry {
                    id: row.get(0)?,
                    kind: OutboxKind::of(row.get(1)?)?,
                    target: row.get(2)?,
                    tenant: row.get(3)?,
                    decision: DecisionId(row.get(4)?),
                    payload: row.get(5)?,
                    idempotency_key: row.get(6)?,
                    attempts: row.get(7)?,
                    created_ms: row.get(8)?,
                });
            }
            Ok(due)
        })
    }

    /// When the next entry for a target is due after a time; none when nothing waits longer than that.
    pub fn next_outbox_due(
        &self,
        kind: OutboxKind,
        target: &str,
        after_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(NEXT_DUE)?
                .query_row((target, kind.number(), after_ms), |row| row.get(0))
                .optional()?)
        })
    }

    /// How many entries are neither delivered nor dead.
    pub fn outbox_waiting(&self) -> Result<u64, StoreError> {
        self.with(|conn| {
            let waiting: i64 = conn
                .prepare_cached("SELECT count(*) FROM outbox WHERE state = 0")?
                .query_row([], |row| row.get(0))?;
            Ok(waiting.unsigned_abs())
        })
    }
}

/// The state as listings name it.
pub(crate) fn state_name(state: i64) -> Result<&'static str, StoreError> {
    match state {
        WAITING => Ok("waiting"),
        DELIVERED => Ok("delivered"),
        DEAD => Ok("dead"),
        other => Err(StoreError::corrupt(format!("outbox state {other}"))),
    }
}

pub(crate) fn add(
    conn: &Connection,
    entry: &NewEntry<'_>,
    created_ms: i64,
) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT INTO outbox (kind, target, tenant, decision, lane, created_ms, due_ms, idempotency_key, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)",
    )?
    .execute((
        entry.kind.number(),
        entry.target,
        entry.tenant,
        entry.decision.0,
        entry.lane,
        created_ms,
        &entry.idempotency_key,
        &entry.payload,
    ))?;
    Ok(())
}

// The constants of the partial indexes are spelled out in SQL: the planner wants them literally.

const DUE: &str = "SELECT o.id, o.kind, o.target, t.name, o.decision, o.payload, o.idempotency_key, o.attempts, o.created_ms
     FROM outbox o JOIN tenant t ON t.id = o.tenant
     WHERE o.state = 0 AND o.target = ?1 AND o.kind = ?4 AND o.due_ms <= ?2
       AND NOT EXISTS (SELECT 1 FROM outbox e
                       WHERE e.state = 0 AND e.lane = o.lane AND e.target = o.target AND e.kind = o.kind AND e.id < o.id)
     ORDER BY o.due_ms, o.id LIMIT ?3";

const NEXT_DUE: &str = "SELECT o.due_ms FROM outbox o
     WHERE o.state = 0 AND o.target = ?1 AND o.kind = ?2 AND o.due_ms > ?3
       AND NOT EXISTS (SELECT 1 FROM outbox e
                       WHERE e.state = 0 AND e.lane = o.lane AND e.target = o.target AND e.kind = o.kind AND e.id < o.id)
     ORDER BY o.due_ms LIMIT 1";

fn give_up(conn: &Connection, id: i64, error: &str) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE outbox SET state = ?2, error = ?3, finished_ms = ?4, attempts = attempts + 1
         WHERE id = ?1 AND state = 0",
    )?
    .execute((id, DEAD, error, now_ms()))?;
    Ok(())
}

fn postpone(conn: &Connection, id: i64, error: &str, due_ms: i64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE outbox SET attempts = attempts + 1, error = ?2, due_ms = ?3 WHERE id = ?1 AND state = 0",
    )?
    .execute((id, error, due_ms))?;
    // Else the blocked ones would be looked at in vain on every round.
    conn.prepare_cached(
        "UPDATE outbox SET due_ms = ?2 WHERE state = 0 AND due_ms < ?2 AND id > ?1
           AND (lane, target, kind) = (SELECT lane, target, kind FROM outbox WHERE id = ?1)",
    )?
    .execute((id, due_ms))?;
    Ok(())
}
