//! The positions of journalled mail, for sources that ask which positions are known.

use std::collections::HashSet;

use postroom_core::Position;

use super::journal::mailbox_row;
use super::{SqliteReader, SqliteStore};
use crate::StoreError;

impl SqliteStore {
    /// Records that the mail at these positions is journalled. Recording one again changes nothing.
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
}

impl SqliteReader {
    /// Returns those of the positions that were recorded by [`SqliteStore::remember_positions`].
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
