//! What is not kept for ever: the raw bytes of old mail, and the payloads of old deliveries.

use postroom_core::Outcome;
use rusqlite::{Connection, OptionalExtension};

use crate::ids::outcome_number;
use crate::{Store, StoreError};

/// Mails looked at in one transaction, so that purging never holds up the line for long.
const STEP: i64 = 256;

impl Store {
    /// Drops the bytes of mail journalled before the time given, in milliseconds since 1970 in UTC, and answers of how many.
    /// Kept are the rows, quarantined mail, and everything behind the oldest mail that is not decided or not delivered yet.
    pub async fn purge(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut dropped = 0;
        loop {
            let (looked_at, gone) = self
                .writer
                .submit(0, move |conn| purge_step(conn, before_ms))
                .await?;
            dropped += gone;
            if looked_at < STEP {
                return Ok(dropped);
            }
        }
    }
}

/// Goes on where the last one stopped: mail is journalled in the order of time.
fn purge_step(conn: &Connection, before_ms: i64) -> Result<(i64, u64), StoreError> {
    let from: i64 = conn
        .prepare_cached("SELECT value FROM watermark WHERE name = 'raw_purged'")?
        .query_row([], |row| row.get(0))?;
    // The first mail that must stay whole, looked for only as far as this step goes.
    let stop: Option<i64> = conn
        .prepare_cached(
            "SELECT j.id FROM (SELECT id, received_ms FROM journal WHERE id > ?1 ORDER BY id LIMIT ?3) j
                  LEFT JOIN decision d ON d.journal = j.id
             WHERE j.received_ms >= ?2 OR d.journal IS NULL
                OR EXISTS (SELECT 1 FROM outbox o WHERE o.decision = j.id AND o.state = 0)
             ORDER BY j.id LIMIT 1",
        )?
        .query_row((from, before_ms, STEP), |row| row.get(0))
        .optional()?;
    let last: Option<i64> = conn
        .prepare_cached(
            "SELECT max(id) FROM (SELECT id FROM journal WHERE id > ?1 AND id < coalesce(?2, id + 1)
                                  ORDER BY id LIMIT ?3)",
        )?
        .query_row((from, stop, STEP), |row| row.get(0))?;
    let Some(last) = last else {
        return Ok((0, 0));
    };
    let gone = conn
        .prepare_cached(
            "DELETE FROM raw WHERE journal > ?1 AND journal <= ?2
                AND journal NOT IN (SELECT journal FROM decision WHERE outcome = ?3 AND journal > ?1 AND journal <= ?2)",
        )?
        .execute((from, last, outcome_number(Outcome::Quarantined)))?;
    conn.prepare_cached("UPDATE outbox SET payload = '' WHERE decision > ?1 AND decision <= ?2")?
        .execute((from, last))?;
    conn.prepare_cached("UPDATE watermark SET value = ?1 WHERE name = 'raw_purged'")?
        .execute([last])?;
    let looked_at = if stop.is_some() { 0 } else { last - from };
    Ok((looked_at, gone as u64))
}
