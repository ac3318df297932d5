//! The positions of journalled mail, for sources that need to know which positions are known.

use std::collections::HashSet;

use postroom_core::Position;

use super::journal::mailbox_row;
use super::{SqliteReader, SqliteStore};
use crate::StoreError;

impl SqliteStore {
    /// Records that the mails at these positions are journalled. Recording a position again changes nothing.
    pub(crate) async fn write_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<(), StoreError> {
        let mailbox = mailbox.to_owned();
        self.writer
            .submit(0, move |conn| {
                let mailbox = mailbox_row(conn, &mailbox)?;
                let mut insert = conn.prepare_cached(
                    "INSERT OR IGNORE INTO known_position (mailbox, position) VALUES (?1, ?2)",
                )?;
                for position in &positions {
                    insert.execute((mailbox, position.stored()))?;
                }
                Ok(())
            })
            .await
    }

    /// Forgets these positions of a mailbox.
    pub(crate) async fn erase_positions(
        &self,
        mailbox: &str,
        positions: &[Position],
    ) -> Result<(), StoreError> {
        let mailbox = mailbox.to_owned();
        let stored: Vec<_> = positions.iter().map(Position::stored).collect();
        let erased = serde_json::Value::from(stored).to_string();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "DELETE FROM known_position
                     WHERE mailbox = (SELECT id FROM mailbox WHERE name = ?1)
                       AND position IN (SELECT value FROM json_each(?2))",
                )?
                .execute((mailbox, erased))?;
                Ok(())
            })
            .await
    }

    /// Forgets all positions of a mailbox except these.
    pub(crate) async fn erase_positions_but(
        &self,
        mailbox: &str,
        positions: &[Position],
    ) -> Result<(), StoreError> {
        let mailbox = mailbox.to_owned();
        let stored: Vec<_> = positions.iter().map(Position::stored).collect();
        let kept = serde_json::Value::from(stored).to_string();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "DELETE FROM known_position
                     WHERE mailbox = (SELECT id FROM mailbox WHERE name = ?1)
                       AND position NOT IN (SELECT value FROM json_each(?2))",
                )?
                .execute((mailbox, kept))?;
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns how many positions of a mailbox are recorded.
    pub(crate) fn known_position_count(&self, mailbox: &str) -> Result<u64, StoreError> {
        self.with(|conn| {
            let count: i64 = conn
                .prepare_cached(
                    "SELECT count(*) FROM known_position
                     WHERE mailbox = (SELECT id FROM mailbox WHERE name = ?1)",
                )?
                .query_row([mailbox], |row| row.get(0))?;
            Ok(count.unsigned_abs())
        })
    }

    /// Returns the given positions that [`SqliteStore::write_positions`] recorded.
    pub(crate) fn known_positions(
        &self,
        mailbox: &str,
        positions: Vec<Position>,
    ) -> Result<HashSet<Position>, StoreError> {
        self.with(|conn| {
            let mut find = conn.prepare_cached(
                "SELECT 1 FROM known_position
                 WHERE mailbox = (SELECT id FROM mailbox WHERE name = ?1) AND position = ?2",
            )?;
            let mut known = HashSet::new();
            for position in positions {
                if find.exists((mailbox, position.stored()))? {
                    known.insert(position);
                }
            }
            Ok(known)
        })
    }
}
