//! Retries and drops outbox entries for a person, with or without a running service.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::SqliteReader;
use super::options::StoreOptions;
use super::outbox::{self, DEAD, DROPPED, Lane, WAITING, state_name};
use super::schema;
use crate::{OutboxChange, OutboxSelection, StoreError};

/// The number of entries changed in one transaction. A running service waits for no more than these.
const CHUNK: usize = 2_000;

/// Makes entries due now, with their age and attempts reset. Returns the result for each, in the given order or in the order of
/// ids. A running service notices and tries the targets at once.
pub(crate) fn retry_outbox(
    data_dir: &Path,
    wanted: &OutboxSelection,
    options: &StoreOptions,
) -> Result<Vec<(i64, OutboxChange)>, StoreError> {
    let mut conn = schema::open_beside(data_dir, options)?;
    let ids = match wanted {
        OutboxSelection::Entries(ids) => ids.clone(),
        OutboxSelection::Target(target) => {
            let mut ids = ids_in(&conn, DEAD, Some(target))?;
            ids.extend(ids_in(&conn, WAITING, Some(target))?);
            ids.sort_unstable();
            ids
        }
        OutboxSelection::Dead { target } => ids_in(&conn, DEAD, target.as_deref())?,
    };
    let now_ms = options.clock.now_ms();
    in_chunks(&mut conn, &ids, |conn, id| retry(conn, id, now_ms))
}

/// Ends entries that are waiting or dead without sending them. Records who did it and why.
pub(crate) fn drop_outbox(
    data_dir: &Path,
    ids: &[i64],
    by: &str,
    reason: Option<&str>,
    options: &StoreOptions,
) -> Result<Vec<(i64, OutboxChange)>, StoreError> {
    let mut conn = schema::open_beside(data_dir, options)?;
    let now_ms = options.clock.now_ms();
    in_chunks(&mut conn, ids, |conn, id| {
        drop_entry(conn, id, by, reason, now_ms)
    })
}

impl SqliteReader {
    /// Returns a number that increases with each change by hand.
    pub(crate) fn outbox_changes(&self) -> Result<i64, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached("SELECT last FROM sequence WHERE name = 'outbox_changed'")?
                .query_row([], |row| row.get(0))?)
        })
    }
}

fn in_chunks(
    conn: &mut Connection,
    ids: &[i64],
    change: impl Fn(&Connection, i64) -> Result<OutboxChange, StoreError>,
) -> Result<Vec<(i64, OutboxChange)>, StoreError> {
    let mut changes = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK) {
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for id in ids {
            changes.push((*id, change(&tx, *id)?));
        }
        tx.execute(
            "UPDATE sequence SET last = last + 1 WHERE name = 'outbox_changed'",
            [],
        )?;
        tx.commit()?;
    }
    Ok(changes)
}

fn ids_in(conn: &Connection, state: i64, target: Option<&str>) -> Result<Vec<i64>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT id FROM outbox WHERE state = ?1 AND (?2 IS NULL OR target = ?2) ORDER BY id",
    )?;
    let ids = statement.query_map((state, target), |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

fn retry(conn: &Connection, id: i64, now_ms: i64) -> Result<OutboxChange, StoreError> {
    let found = conn
        .prepare_cached("SELECT lane, target, kind, state, payload = '' FROM outbox WHERE id = ?1")?
        .query_row([id], |row| {
            Ok((
                Lane::of(row)?,
                row.get::<_, i64>(3)?,
                row.get::<_, bool>(4)?,
            ))
        })
        .optional()?;
    let Some((lane, state, purged)) = found else {
        return Ok(OutboxChange::Unknown);
    };
    match state {
        DEAD if purged => return Ok(OutboxChange::Purged),
        // The entry takes its old place in its lane, ahead of those that continued without it.
        DEAD => outbox::demote(conn, &lane)?,
        WAITING => {}
        other => return Ok(OutboxChange::Ended(state_name(other)?)),
    }
    // A dead entry's head flag may be outdated.
    conn.prepare_cached(
        "UPDATE outbox SET head = iif(state = 0, head, lane IS NULL), state = 0, attempts = 0, since_ms = ?2, due_ms = ?2,
                refused_ms = NULL, finished_ms = NULL
         WHERE id = ?1",
    )?
    .execute((id, now_ms))?;
    outbox::promote(conn, Some(lane))?;
    Ok(OutboxChange::Changed)
}

fn drop_entry(
    conn: &Connection,
    id: i64,
    by: &str,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<OutboxChange, StoreError> {
    let state: Option<i64> = conn
        .prepare_cached("SELECT state FROM outbox WHERE id = ?1")?
        .query_row([id], |row| row.get(0))
        .optional()?;
    match state {
        None => return Ok(OutboxChange::Unknown),
        Some(WAITING | DEAD) => {}
        Some(other) => return Ok(OutboxChange::Ended(state_name(other)?)),
    }
    let lane = conn
        .prepare_cached(
            "UPDATE outbox SET state = ?2, finished_ms = ?3, dropped_by = ?4, dropped_reason = ?5
             WHERE id = ?1 RETURNING lane, target, kind",
        )?
        .query_row((id, DROPPED, now_ms, by, reason), Lane::of)?;
    outbox::promote(conn, Some(lane))?;
    Ok(OutboxChange::Changed)
}
