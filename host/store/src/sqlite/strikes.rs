//! The results of rule versions on their last mails, kept across processes: a process that handles only a few mails and ends
//! counts too.

use super::{SqliteReader, SqliteStore};
use crate::{Mark, SenderKey, StoreError, StrikeRecord};
use postroom_core::ContentHash;

/// The mark in the stored row for a mail on which the rule did not fail.
const HELD: &str = ".";

impl SqliteStore {
    /// Stores these failure windows and forgets all others.
    pub(crate) async fn write_strikes(&self, all: Vec<StrikeRecord>) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| {
                conn.execute("DELETE FROM rule_strikes", [])?;
                let mut insert = conn.prepare_cached(
                    "INSERT INTO rule_strikes (tenant, name, hash, last) VALUES (?1, ?2, ?3, ?4)",
                )?;
                for record in &all {
                    let marks = record.last.iter().map(|mark| match mark {
                        Mark::Held => HELD.to_owned(),
                        Mark::Failed(sender) => format!("{:x}", sender.0),
                    });
                    let last = marks.collect::<Vec<_>>().join(" ");
                    insert.execute((&record.tenant, &record.name, &record.hash.0, last))?;
                }
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the stored failure windows, by tenant and rule name.
    pub(crate) fn strikes(&self) -> Result<Vec<StrikeRecord>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT tenant, name, hash, last FROM rule_strikes ORDER BY tenant, name",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(StrikeRecord {
                    tenant: row.get(0)?,
                    name: row.get(1)?,
                    hash: ContentHash(row.get(2)?),
                    last: row
                        .get::<_, String>(3)?
                        .split_ascii_whitespace()
                        .map(|word| match u64::from_str_radix(word, 16) {
                            Ok(sender) => Mark::Failed(SenderKey(sender)),
                            Err(_) => Mark::Held,
                        })
                        .collect(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
