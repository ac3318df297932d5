//! How versions of rules did on their last mails, kept between two processes: one that takes a few mails and ends counts too.

use postroom_core::ContentHash;

use crate::{Reader, Store, StoreError};

/// A mail on which the rule held, in the stored row.
const HELD: &str = ".";

/// The last mails of one version of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrikeRecord {
    pub tenant: String,
    pub name: String,
    pub hash: ContentHash,
    /// How the rule did, the newest last.
    pub last: Vec<Mark>,
}

/// The key by which senders are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderKey(pub u64);

/// How a rule did on one mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Held,
    /// It failed on a mail of this sender.
    Failed(SenderKey),
}

impl Store {
    /// Keeps these and forgets all others.
    pub async fn save_strikes(&self, all: Vec<StrikeRecord>) -> Result<(), StoreError> {
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

impl Reader {
    /// Returns the last stored windows, by tenant and rule name.
    pub fn strikes(&self) -> Result<Vec<StrikeRecord>, StoreError> {
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
