//! Rule generations: the numbered sets of rules that went live. A restart does not depend on files broken since, and every change
//! can be rolled back.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use postroom_core::ContentHash;
use rusqlite::{Connection, OptionalExtension, Row};
use sha2::{Digest, Sha256};

use super::history::{self, Keep};
use super::ids::rfc3339;
use super::{SqliteReader, SqliteStore};
use crate::{Generation, GenerationCause, RuleChange, RuleRecord, StoreError};

impl SqliteStore {
    /// Saves the set of rules that goes live: these rules and, for the tenants in `unchanged`, the rules of the newest
    /// generation. Returns its number: the last number plus one, or the last number itself if the set is the same, as after a
    /// restart. `cause` is for people.
    pub(crate) async fn write_generation(
        &self,
        rules: Vec<RuleRecord>,
        unchanged: BTreeSet<String>,
        cause: GenerationCause,
    ) -> Result<u64, StoreError> {
        let weight = rules.iter().map(|r| r.bytes.len()).sum();
        let (keep, now_ms) = (self.keep, self.clock.now_ms());
        self.writer
            .submit(weight, move |conn| {
                let mut set = set_of(conn, newest(conn)?)?;
                set.retain(|(tenant, _), _| unchanged.contains(tenant));
                let others = set.iter().map(|((tenant, name), standing)| Version {
                    tenant,
                    name,
                    hash: standing.hash,
                    bytes: None,
                    settings: &standing.settings,
                    grants: &standing.grants,
                });
                let rules: Vec<Version<'_>> =
                    rules.iter().map(Version::from).chain(others).collect();
                save(conn, &rules, cause, keep, now_ms)
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the newest generation's number; 0 before the first.
    pub(crate) fn newest_generation(&self) -> Result<u64, StoreError> {
        self.with(|conn| Ok(newest(conn)?.unsigned_abs()))
    }

    /// Returns the generations that are kept, newest first, at most `limit`.
    pub(crate) fn generations(&self, limit: Option<usize>) -> Result<Vec<Generation>, StoreError> {
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT number, saved_ms, cause, hash FROM generation ORDER BY number DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([limit], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })?;
            let rows: Vec<(i64, i64, String, Option<[u8; 32]>)> =
                rows.collect::<Result<_, _>>()?;
            rows.into_iter()
                .map(|(number, saved_ms, cause, hash)| {
                    Ok(Generation {
                        number: number.unsigned_abs(),
                        saved: rfc3339(saved_ms),
                        cause: GenerationCause::from_stored(&cause).ok_or_else(|| {
                            StoreError::corrupt(format!("the cause of generation {number}"))
                        })?,
                        hash: hash.map(ContentHash),
                        changes: changes(conn, number)?,
                    })
                })
                .collect()
        })
    }

    /// Returns the rules of one generation, by tenant and name, or `None` if it is not kept.
    pub(crate) fn generation_rules(
        &self,
        number: u64,
    ) -> Result<Option<Vec<RuleRecord>>, StoreError> {
        self.with(|conn| {
            let number = i64::try_from(number).unwrap_or(i64::MAX);
            match exists(conn, number)? {
                true => rules_of(conn, number).map(Some),
                false => Ok(None),
            }
        })
    }

    /// Returns the tenants for which [`SqliteReader::generation_rules`] is incomplete, because their older versions are no longer
    /// kept.
    pub(crate) fn partly_kept(&self, number: u64) -> Result<Vec<String>, StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.with(|conn| history::partly_kept(conn, number))
    }

    /// Returns the version of a rule that was live last and has not been refused since.
    pub(crate) fn last_good(
        &self,
        tenant: &str,
        name: &str,
    ) -> Result<Option<RuleRecord>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "{SELECT_RULE} WHERE v.tenant = ?1 AND v.name = ?2 AND {NOT_REFUSED} ORDER BY v.since DESC LIMIT 1"
            ))?;
            let mut rows = statement.query((tenant, name))?;
            rows.next()?.map(read_rule).transpose()
        })
    }

    /// Returns the generation that introduced the version that [`SqliteReader::last_good`] would return if this one were refused
    /// too.
    pub(crate) fn good_before(
        &self,
        tenant: &str,
        name: &str,
        hash: &ContentHash,
    ) -> Result<Option<u64>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!(
                "SELECT v.since FROM rule_version v
                 WHERE v.tenant = ?1 AND v.name = ?2 AND v.hash <> ?3 AND {NOT_REFUSED} ORDER BY v.since DESC LIMIT 1"
            ))?;
            let since: Option<i64> = statement
                .query_row((tenant, name, &hash.0), |row| row.get(0))
                .optional()?;
            Ok(since.map(i64::unsigned_abs))
        })
    }
}

const SELECT_RULE: &str = "SELECT v.tenant, v.name, v.hash, b.bytes, v.settings, v.grants
     FROM rule_version v JOIN rule_bytes b ON b.hash = v.hash";
/// Selects the rows of `rule_version v` that are not refused.
const NOT_REFUSED: &str = "NOT EXISTS
    (SELECT 1 FROM rule_refused r WHERE r.tenant = v.tenant AND r.name = v.name AND r.hash = v.hash)";
/// Selects the rows of `rule_version v` that belong to generation ?1.
const OF_GENERATION: &str = "v.since <= ?1 AND (v.until IS NULL OR v.until > ?1)";

/// The generations that changed a rule of tenant ?1.
pub(crate) const CHANGES: &str = "SELECT since AS number FROM rule_version WHERE tenant = ?1
     UNION SELECT until FROM rule_version WHERE tenant = ?1 AND until IS NOT NULL";

/// A rule to save. Without bytes, they are in the store already.
pub(crate) struct Version<'a> {
    pub tenant: &'a str,
    pub name: &'a str,
    pub hash: ContentHash,
    pub bytes: Option<&'a [u8]>,
    pub settings: &'a str,
    pub grants: &'a str,
}

impl<'a> From<&'a RuleRecord> for Version<'a> {
    fn from(record: &'a RuleRecord) -> Self {
        Self {
            tenant: &record.tenant,
            name: &record.name,
            hash: record.hash,
            bytes: Some(&record.bytes),
            settings: &record.settings_json,
            grants: &record.grants_json,
        }
    }
}

/// A rule in a generation, without its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub hash: ContentHash,
    pub settings: String,
    pub grants: String,
}

/// The rules of a generation, by tenant and name.
pub(crate) type Set = BTreeMap<(String, String), Standing>;

/// Makes the rules the newest generation unless they already are. Returns its number.
pub(crate) fn save(
    conn: &Connection,
    rules: &[Version<'_>],
    cause: GenerationCause,
    keep: Keep,
    now_ms: i64,
) -> Result<u64, StoreError> {
    let newest = newest(conn)?;
    let before = set_of(conn, newest)?;
    let mut after = Set::new();
    for rule in rules {
        after.insert(
            (rule.tenant.to_owned(), rule.name.to_owned()),
            Standing {
                hash: rule.hash,
                settings: rule.settings.to_owned(),
                grants: rule.grants.to_owned(),
            },
        );
    }
    if newest > 0 && before == after {
        return Ok(newest.unsigned_abs());
    }
    let number = newest + 1;
    conn.prepare_cached(
        "INSERT INTO generation (number, saved_ms, cause, hash) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((number, now_ms, cause.to_string(), hash_of(&after)))?;
    for (key, _) in before
        .iter()
        .filter(|(key, was)| after.get(*key) != Some(was))
    {
        conn.prepare_cached(
            "UPDATE rule_version SET until = ?3 WHERE tenant = ?1 AND name = ?2 AND until IS NULL",
        )?
        .execute((&key.0, &key.1, number))?;
    }
    for rule in rules {
        if let Some(bytes) = rule.bytes {
            conn.prepare_cached("INSERT OR IGNORE INTO rule_bytes (hash, bytes) VALUES (?1, ?2)")?
                .execute((&rule.hash.0, bytes))?;
        }
        let key = (rule.tenant.to_owned(), rule.name.to_owned());
        if before.get(&key) != after.get(&key) {
            conn.prepare_cached(
                "INSERT INTO rule_version (tenant, name, since, hash, settings, grants)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute((
                rule.tenant,
                rule.name,
                number,
                &rule.hash.0,
                rule.settings,
                rule.grants,
            ))?;
        }
    }
    let changed: BTreeSet<&str> = before
        .iter()
        .filter(|(key, was)| after.get(*key) != Some(was))
        .chain(
            after
                .iter()
                .filter(|(key, is)| before.get(*key) != Some(is)),
        )
        .map(|((tenant, _), _)| tenant.as_str())
        .collect();
    for tenant in changed {
        history::forget_old(conn, tenant, keep)?;
    }
    Ok(number.unsigned_abs())
}

/// Returns the rules of a generation.
pub(crate) fn set_of(conn: &Connection, number: i64) -> Result<Set, StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "SELECT v.tenant, v.name, v.hash, v.settings, v.grants FROM rule_version v WHERE {OF_GENERATION}"
    ))?;
    let rows = statement.query_map([number], |row| {
        let standing = Standing {
            hash: ContentHash(row.get(2)?),
            settings: row.get(3)?,
            grants: row.get(4)?,
        };
        Ok(((row.get(0)?, row.get(1)?), standing))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

pub(crate) fn newest(conn: &Connection) -> Result<i64, StoreError> {
    Ok(conn
        .prepare_cached("SELECT coalesce(max(number), 0) FROM generation")?
        .query_row([], |row| row.get(0))?)
}

pub(crate) fn exists(conn: &Connection, number: i64) -> Result<bool, StoreError> {
    Ok(conn
        .prepare_cached("SELECT 1 FROM generation WHERE number = ?1")?
        .query_row([number], |_| Ok(()))
        .optional()?
        .is_some())
}

fn rules_of(conn: &Connection, number: i64) -> Result<Vec<RuleRecord>, StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "{SELECT_RULE} WHERE {OF_GENERATION} ORDER BY v.tenant, v.name"
    ))?;
    let mut rows = statement.query([number])?;
    let mut rules = Vec::new();
    while let Some(row) = rows.next()? {
        rules.push(read_rule(row)?);
    }
    Ok(rules)
}

fn changes(conn: &Connection, number: i64) -> Result<Vec<RuleChange>, StoreError> {
    // Selects what began with the generation as well as what ended with it.
    let mut statement = conn.prepare_cached(
        "SELECT tenant, name, max(CASE WHEN until = ?1 THEN hash END), max(CASE WHEN since = ?1 THEN hash END)
         FROM rule_version WHERE since = ?1 OR until = ?1 GROUP BY tenant, name",
    )?;
    let hash =
        |row: &Row<'_>, at| Ok::<_, rusqlite::Error>(row.get::<_, Option<_>>(at)?.map(ContentHash));
    let rows = statement.query_map([number], |row| {
        Ok(RuleChange {
            tenant: row.get(0)?,
            name: row.get(1)?,
            before: hash(row, 2)?,
            after: hash(row, 3)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

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

/// Hashes everything that distinguishes two sets. Each part is hashed with its length, so no two sets produce the same input.
fn hash_of(set: &Set) -> [u8; 32] {
    let mut hasher = Sha256::new();
    for ((tenant, name), standing) in set {
        let parts = [tenant, name, &standing.settings, &standing.grants];
        for part in parts
            .map(String::as_bytes)
            .into_iter()
            .chain([&standing.hash.0[..]])
        {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().into()
}

/// Returns the second-newest generation that changed a tenant's rules: the one that was live before.
pub(crate) fn change_before(conn: &Connection, tenant: &str) -> Result<Option<i64>, StoreError> {
    Ok(conn
        .prepare_cached(&format!("{CHANGES} ORDER BY number DESC LIMIT 1 OFFSET 1"))?
        .query_row([tenant], |row| row.get(0))
        .optional()?)
}
