//! Retention: drops the raw bytes of old mail and the payloads of old deliveries.

use postroom_core::Outcome;
use rusqlite::Connection;

use super::SqliteStore;
use super::ids::outcome_number;
use crate::StoreError;

/// The number of mails checked in one transaction, so that purging never holds up the line for long.
const STEP: i64 = 256;

impl SqliteStore {
    /// Drops the bytes of mail journalled before the given time, in milliseconds since 1970 in UTC, and returns of how many
    /// mails. Keeps the rows, quarantined mail, and mail that is not yet decided or delivered, for however long that takes.
    pub(crate) async fn purge_steps(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut dropped = 0;
        let mut after = 0;
        loop {
            let step = self
                .writer
                .submit(0, move |conn| purge_step(conn, after, before_ms))
                .await?;
            let Some((last, gone)) = step else {
                self.writer
                    .submit(0, move |conn| purge_service_alerts(conn, before_ms))
                    .await?;
                return Ok(dropped);
            };
            after = last;
            dropped += gone;
        }
    }
}

/// Checks the next mails that still have bytes: the few kept earlier, then those that have become old since. Returns the last
/// one's id and how many lost their bytes, or `None` at the end.
fn purge_step(
    conn: &Connection,
    after: i64,
    before_ms: i64,
) -> Result<Option<(i64, u64)>, StoreError> {
    // Mail is journalled in order of time, except when the clock was set back: after a step of new mails, no old one is expected.
    // CROSS: raw has far fewer rows than the journal.
    let last: Option<i64> = conn
        .prepare_cached(
            "SELECT max(id) FROM
                 (SELECT j.id, j.received_ms FROM raw r CROSS JOIN journal j ON j.id = r.journal
                  WHERE r.journal > ?1 ORDER BY r.journal LIMIT ?3)
             WHERE received_ms < ?2",
        )?
        .query_row((after, before_ms, STEP), |row| row.get(0))?;
    let Some(last) = last else {
        return Ok(None);
    };
    conn.prepare_cached(
        "UPDATE outbox SET payload = ''
         WHERE decision > ?1 AND decision <= ?2 AND state <> 0 AND payload <> ''
           AND EXISTS (SELECT 1 FROM journal j WHERE j.id = decision AND j.received_ms < ?3)",
    )?
    .execute((after, last, before_ms))?;
    let gone = conn
        .prepare_cached(
            "DELETE FROM raw WHERE journal > ?1 AND journal <= ?2
                AND EXISTS (SELECT 1 FROM journal j JOIN decision d ON d.journal = j.id
                            WHERE j.id = raw.journal AND j.received_ms < ?4 AND d.outcome <> ?3)
                AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.decision = raw.journal AND o.state = 0)
                AND NOT EXISTS (SELECT 1 FROM journal j JOIN pending p ON p.mailbox = j.mailbox AND p.journal = j.id
                                WHERE j.id = raw.journal)",
        )?
        .execute((
            after,
            last,
            outcome_number(Outcome::Quarantined),
            before_ms,
        ))?;
    Ok(Some((last, gone as u64)))
}

/// Drops the payloads of ended deliveries that no mail caused.
fn purge_service_alerts(conn: &Connection, before_ms: i64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE outbox SET payload = ''
         WHERE decision IS NULL AND state <> 0 AND payload <> '' AND created_ms < ?1",
    )?
    .execute([before_ms])?;
    Ok(())
}
