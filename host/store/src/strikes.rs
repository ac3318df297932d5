//! How versions of rules did on their last mails, kept between two processes: one that takes a few mails and ends counts too.

use postroom_core::ContentHash;

use crate::{Reader, Store, StoreError};

/// The last mails of one version of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrikeRecord {
    pub tenant: String,
    pub name: String,
    pub hash: ContentHash,
    /// Whether the rule failed, the newest last.
    pub last: Vec<bool>,
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
                    let marks = record.last.iter();
                    let last: String = marks.map(|it| if *it { 'x' } else { '.' }).collect();
                    insert.execute((&record.tenant, &record.name, &record.hash.0, last))?;
                }
                Ok(())
            })
            .await
    }
}

impl Reader {
    /// What was kept last, by tenant and name.
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
                        .bytes()
                        .map(|it| it == b'x')
                        .collect(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}
