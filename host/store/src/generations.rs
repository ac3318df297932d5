//! The rules that were last good, so that a restart does not depend on a file that is broken by now.

use std::collections::BTreeMap;

use bytes::Bytes;
use postroom_core::ContentHash;
use rusqlite::{Connection, OptionalExtension, Row};

use crate::ids::now_ms;
use crate::{Reader, Store, StoreError};

/// Generations kept; every change of a rule makes one.
const GENERATIONS: i64 = 64;

/// One rule of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRecord {
    pub tenant: String,
    /// As the configuration names it.
    pub name: String,
    /// Of `bytes`, which are stored once for each hash.
    pub hash: ContentHash,
    pub bytes: Bytes,
    /// Opaque here, as are the grants.
    pub settings_json: String,
    pub grants_json: String,
}

/// The set of rules that went live together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    /// Milliseconds since 1970 in UTC.
    pub saved_ms: i64,
    pub rules: Vec<RuleRecord>,
}

impl Store {
    /// Saves the set of rules that goes live, and answers its number: one more than the last, or the last one's own when
    /// it is the same set, as after a restart.
    pub async fn save_generation(&self, rules: Vec<RuleRecord>) -> Result<u64, StoreError> {
        let weight = rules.iter().map(|r| r.bytes.len()).sum();
        self.writer
            .submit(weight, move |conn| match unchanged(conn, &rules)? {
                Some(number) => Ok(number.unsigned_abs()),
                None => write(conn, &rules),
            })
            .await
    }
}

impl Reader {
    /// The newest generation; none before the first.
    pub fn latest_generation(&self) -> Result<Option<Generation>, StoreError> {
        self.with(|conn| {
            let newest: Option<(i64, i64)> = conn
                .prepare_cached(
                    "SELECT number, saved_ms FROM generation ORDER BY number DESC LIMIT 1",
                )?
                .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((number, saved_ms)) = newest else {
                return Ok(None);
            };
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT_RULE} WHERE g.generation = ?1 ORDER BY g.tenant, g.name"
            ))?;
            let mut rows = statement.query([number])?;
            let mut rules = Vec::new();
            while let Some(row) = rows.next()? {
                rules.push(read_rule(row)?);
            }
            Ok(Some(Generation {
                number: number.unsigned_abs(),
                saved_ms,
                rules,
            }))
        })
    }

    /// A rule as the newest generation that has it knows it.
    pub fn last_good(&self, tenant: &str, name: &str) -> Result<Option<RuleRecord>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT_RULE} WHERE g.tenant = ?1 AND g.name = ?2 ORDER BY g.generation DESC LIMIT 1"
            ))?;
            let mut rows = statement.query((tenant, name))?;
            rows.next()?.map(read_rule).transpose()
        })
    }

    /// The generation of a number; none when it never was, or is forgotten.
    pub fn generation(&self, number: u64) -> Result<Option<Generation>, StoreError> {
        let Ok(wanted) = i64::try_from(number) else {
            return Ok(None);
        };
        self.with(|conn| {
            let saved_ms: Option<i64> = conn
                .prepare_cached("SELECT saved_ms FROM generation WHERE number = ?1")?
                .query_row([wanted], |row| row.get(0))
                .optional()?;
            let Some(saved_ms) = saved_ms else {
                return Ok(None);
            };
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT_RULE} WHERE g.generation = ?1 ORDER BY g.tenant, g.name"
            ))?;
            let mut rows = statement.query([wanted])?;
            let mut rules = Vec::new();
            while let Some(row) = rows.next()? {
                rules.push(read_rule(row)?);
            }
            Ok(Some(Generation {
                number,
                saved_ms,
                rules,
            }))
        })
    }
}

const SELECT_RULE: &str = "SELECT g.tenant, g.name, g.hash, b.bytes, g.settings, g.grants
     FROM generation_rule g JOIN rule_bytes b ON b.hash = g.hash";

fn read_rule(row: &Row<'_>) -> Result<RuleRecord, StoreError> {
    Ok(RuleRecord {
        tenant: row.get(0)?,
        name: row.get(1)?,
        hash: ContentHash(row.get(2)?),
        bytes: Bytes::from(row.get::<_, Vec<u8>>(3)?),
        settings_json: row.get(4)?,
        grants_json: row.get(5)?,
    })
}

/// The newest generation's number when it holds just these rules. The bytes are the same when their hash is.
fn unchanged(conn: &Connection, rules: &[RuleRecord]) -> Result<Option<i64>, StoreError> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT max(number) FROM generation")?
        .query_row([], |row| row.get(0))?;
    let Some(newest) = newest else {
        return Ok(None);
    };
    let mut statement = conn.prepare_cached(
        "SELECT tenant, name, hash, settings, grants FROM generation_rule WHERE generation = ?1",
    )?;
    let stored = statement.query_map([newest], |row| {
        let hash = ContentHash(row.get(2)?);
        Ok(((row.get(0)?, row.get(1)?), (hash, row.get(3)?, row.get(4)?)))
    })?;
    let stored: BTreeMap<(String, String), (ContentHash, String, String)> =
        stored.collect::<Result<_, _>>()?;
    let same = stored.len() == rules.len()
        && rules.iter().all(|rule| {
            stored
                .get(&(rule.tenant.clone(), rule.name.clone()))
                .is_some_and(|(hash, settings, grants)| {
                    *hash == rule.hash
                        && *settings == rule.settings_json
                        && *grants == rule.grants_json
                })
        });
    Ok(same.then_some(newest))
}

fn write(conn: &Connection, rules: &[RuleRecord]) -> Result<u64, StoreError> {
    let number: i64 = conn
        .prepare_cached(
            "INSERT INTO generation (number, saved_ms)
             VALUES ((SELECT coalesce(max(number), 0) + 1 FROM generation), ?1) RETURNING number",
        )?
        .query_row([now_ms()], |row| row.get(0))?;
    for rule in rules {
        conn.prepare_cached("INSERT OR IGNORE INTO rule_bytes (hash, bytes) VALUES (?1, ?2)")?
            .execute((&rule.hash.0, &rule.bytes[..]))?;
        conn.prepare_cached(
            "INSERT OR REPLACE INTO generation_rule (generation, tenant, name, hash, settings, grants)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?
        .execute((
            number,
            &rule.tenant,
            &rule.name,
            &rule.hash.0,
            &rule.settings_json,
            &rule.grants_json,
        ))?;
    }
    forget_old(conn, number - GENERATIONS)?;
    Ok(number.unsigned_abs())
}

fn forget_old(conn: &Connection, last: i64) -> Result<(), StoreError> {
    if last < 1 {
        return Ok(());
    }
    conn.prepare_cached("DELETE FROM generation_rule WHERE generation <= ?1")?
        .execute([last])?;
    conn.prepare_cached("DELETE FROM generation WHERE number <= ?1")?
        .execute([last])?;
    conn.prepare_cached(
        "DELETE FROM rule_bytes WHERE NOT EXISTS
             (SELECT 1 FROM generation_rule g WHERE g.hash = rule_bytes.hash)",
    )?
    .execute([])?;
    Ok(())
}
