//! The end of a run: whether the last runs stopped cleanly, what a clean stop leaves behind, and the clock that was last trusted.

use rusqlite::{Connection, OptionalExtension};

use super::installation::Installation;
use super::{SqliteReader, SqliteStore};
use crate::StoreError;

/// How long a clean stop waits for concurrent listings before it leaves the log to the next start.
const CHECKPOINT_WAIT_MS: u32 = 500;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl SqliteStore {
    /// Records that earlier crashes are dealt with: the next one counts as the first again.
    pub(crate) async fn write_no_crashes(&self) -> Result<(), StoreError> {
        self.writer.submit(0, |conn| set(conn, "crashes", 0)).await
    }

    /// Records a time at which the clock was confirmed, in milliseconds since 1970 in UTC.
    pub(crate) async fn write_clock(&self, now_ms: i64) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| set(conn, "clock", now_ms))
            .await
    }

    /// Moves due times, and the start of the ages counted from them, with a clock that jumped by `by_ms` when it should have
    /// shown `expected_ms`. Times further ahead or in the future were computed with another clock and stay; so does the end of a
    /// maintenance, which people set by the time of day.
    pub(crate) async fn write_shift(&self, expected_ms: i64, by_ms: i64) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| {
                let limit = expected_ms.saturating_add(DAY_MS);
                conn.prepare_cached(
                    "UPDATE outbox SET due_ms = due_ms + ?1 WHERE state = 0 AND due_ms <= ?2",
                )?
                .execute((by_ms, limit))?;
                conn.prepare_cached(
                    "UPDATE outbox SET since_ms = coalesce(since_ms, created_ms) + ?1
                     WHERE state = 0 AND coalesce(since_ms, created_ms) <= ?2",
                )?
                .execute((by_ms, expected_ms))?;
                conn.prepare_cached("UPDATE ack SET due_ms = due_ms + ?1 WHERE due_ms <= ?2")?
                    .execute((by_ms, limit))?;
                // A mail is expected within days or weeks, so that any of these times is of the clock before the jump.
                for shift in [
                    "UPDATE expectation SET due_ms = due_ms + ?1 WHERE overdue = 0",
                    "UPDATE item SET held_until_ms = held_until_ms + ?1 WHERE held_until_ms IS NOT NULL AND held <> 'maintenance'",
                    "UPDATE alert_storm SET began_ms = began_ms + ?1, ends_ms = ends_ms + ?1",
                ] {
                    conn.prepare_cached(shift)?.execute([by_ms])?;
                }
                Ok(())
            })
            .await
    }

    /// Makes entries due that are scheduled more than a day ahead. No pause is that long, so such a time was computed with a
    /// wrong clock. Returns the number of deliveries and acknowledgements affected.
    pub(crate) async fn write_forward(&self, now_ms: i64) -> Result<u64, StoreError> {
        self.writer
            .submit(0, move |conn| {
                let limit = now_ms.saturating_add(DAY_MS);
                let deliveries = conn
                    .prepare_cached(
                        "UPDATE outbox SET due_ms = ?1 WHERE state = 0 AND due_ms > ?2",
                    )?
                    .execute((now_ms, limit))?;
                let acknowledgements = conn
                    .prepare_cached("UPDATE ack SET due_ms = ?1 WHERE due_ms > ?2")?
                    .execute((now_ms, limit))?;
                Ok((deliveries + acknowledgements) as u64)
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the last time at which the clock was confirmed, otherwise the time at which the newest mail was journalled, or
    /// `None` in a new database.
    pub(crate) fn known_time(&self) -> Result<Option<i64>, StoreError> {
        self.with(|conn| {
            if let Some(confirmed) = value(conn, "clock")? {
                return Ok(Some(confirmed));
            }
            Ok(conn
                .prepare_cached("SELECT received_ms FROM journal ORDER BY id DESC LIMIT 1")?
                .query_row([], |row| row.get(0))
                .optional()?)
        })
    }
}

/// Records that a run begins, and returns how many consecutive runs before it did not stop cleanly.
pub(crate) fn begin(conn: &Connection) -> Result<u32, StoreError> {
    let crashes = match value(conn, "running")? {
        Some(1) => value(conn, "crashes")?.unwrap_or(0).saturating_add(1),
        _ => 0,
    };
    set(conn, "crashes", crashes)?;
    set(conn, "running", 1)?;
    Ok(u32::try_from(crashes).unwrap_or(u32::MAX))
}

/// Records a clean stop, and moves everything from the log into the database.
pub(crate) fn end(conn: &Connection, installation: &Installation) {
    let noted = set(conn, "running", 0)
        .and_then(|()| set(conn, "crashes", 0))
        .and_then(|()| installation.settle(conn));
    if let Err(error) = noted {
        tracing::warn!(%error, "a clean stop could not be recorded: the next start takes it for a crash");
    }
    let moved = conn
        .execute_batch(&format!("PRAGMA busy_timeout = {CHECKPOINT_WAIT_MS}"))
        .and_then(|()| {
            conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                row.get::<_, bool>(0)
            })
        });
    match moved {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            "another program reads the database: what was written last stays in postroom.sqlite-wal until the next stop"
        ),
        Err(error) => {
            tracing::warn!(%error, "the log of the database could not be moved into it: postroom.sqlite-wal belongs to it")
        }
    }
}

fn value(conn: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    Ok(conn
        .prepare_cached("SELECT value FROM state WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

fn set(conn: &Connection, name: &str, value: i64) -> Result<(), StoreError> {
    conn.prepare_cached("INSERT OR REPLACE INTO state (name, value) VALUES (?1, ?2)")?
        .execute((name, value))?;
    Ok(())
}
