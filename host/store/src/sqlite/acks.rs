//! Acknowledgements still owed to mail servers: due once their mail is decided, kept until the server has accepted them.

use postroom_core::{Outcome, Position};
use rusqlite::Connection;

use super::ids::outcome_number;
use super::{SqliteReader, SqliteStore};
use crate::{Ack, JournalId, StoreError};

impl SqliteStore {
    /// Records that the server accepted these acknowledgements. Ids already recorded are ignored.
    pub(crate) async fn write_acked(&self, ids: Vec<i64>) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| {
                let mut delete = conn.prepare_cached("DELETE FROM ack WHERE id = ?1")?;
                for id in ids {
                    delete.execute([id])?;
                }
                Ok(())
            })
            .await
    }

    /// Records that the server refused these acknowledgements; they are due again at `retry_at_ms`.
    pub(crate) async fn write_ack_failed(
        &self,
        ids: Vec<i64>,
        error: impl Into<String>,
        retry_at_ms: i64,
    ) -> Result<(), StoreError> {
        let error = error.into();
        self.writer
            .submit(0, move |conn| {
                let mut update = conn.prepare_cached(
                    "UPDATE ack SET attempts = attempts + 1, error = ?2, due_ms = ?3 WHERE id = ?1",
                )?;
                for id in ids {
                    update.execute((id, &error, retry_at_ms))?;
                }
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the acknowledgements that are due at a mailbox's server, oldest first.
    pub(crate) fn due_acks(
        &self,
        mailbox: &str,
        limit: usize,
        now_ms: i64,
    ) -> Result<Vec<Ack>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT a.id, a.journal, a.position, d.outcome = ?4, a.attempts, j.whole
                 FROM mailbox m JOIN ack a ON a.mailbox = m.id JOIN decision d ON d.journal = a.journal
                      JOIN journal j ON j.id = a.journal
                 WHERE m.name = ?1 AND a.due_ms <= ?2 ORDER BY a.due_ms, a.id LIMIT ?3",
            )?;
            let quarantined = outcome_number(Outcome::Quarantined);
            let rows = statement.query_map((mailbox, now_ms, limit as i64, quarantined), |row| {
                Ok(Ack {
                    id: row.get(0)?,
                    journal: row.get(1)?,
                    position: Position::from_stored(row.get(2)?),
                    failed: row.get(3)?,
                    attempts: row.get(4)?,
                    whole: row.get(5)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns when a mailbox's next acknowledgement is due, or `None` if none is owed.
    pub(crate) fn next_ack_due(&self, mailbox: &str) -> Result<Option<i64>, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT min(due_ms) FROM ack
                     WHERE mailbox = (SELECT id FROM mailbox WHERE name = ?1) AND due_ms IS NOT NULL",
                )?
                .query_row([mailbox], |row| row.get(0))?)
        })
    }
}

/// Releases a decided mail's acknowledgements: it may be acknowledged at every position where it was seen.
pub(crate) fn release(conn: &Connection, mail: JournalId, now_ms: i64) -> Result<(), StoreError> {
    conn.prepare_cached("UPDATE ack SET due_ms = ?2 WHERE journal = ?1 AND due_ms IS NULL")?
        .execute((mail, now_ms))?;
    Ok(())
}
