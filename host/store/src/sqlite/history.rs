//! Limits how far back rule versions are kept: in generations and in bytes per tenant, dropping the oldest first.

use std::collections::{BTreeSet, HashSet};

use rusqlite::{Connection, OptionalExtension, Row};

use super::generations::CHANGES;
use crate::StoreError;

/// How much of a tenant's history is kept. Tenants that no longer have rules share one such allowance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keep {
    /// The number of generations that changed a rule of the tenant.
    pub generations: u64,
    /// The bytes of versions that are no longer live.
    pub bytes: u64,
}

impl Keep {
    pub const ALL: Self = Self {
        generations: u64::MAX,
        bytes: u64::MAX,
    };

    fn generations(self) -> i64 {
        i64::try_from(self.generations.max(1)).unwrap_or(i64::MAX)
    }
}

/// A version that is no longer live.
struct Closed {
    tenant: String,
    /// The generation that ended it.
    until: i64,
    hash: [u8; 32],
    /// The size of its text or component, which is stored once per hash.
    bytes: u64,
    /// The size of its settings and grants.
    terms: u64,
}

/// The columns of [`Closed`], from the rows of `rule_version v`.
const CLOSED: &str =
    "SELECT v.tenant, v.until, v.hash, length(b.bytes), octet_length(v.settings) + octet_length(v.grants)
     FROM rule_version v JOIN rule_bytes b ON b.hash = v.hash";
const HAS_NO_RULES: &str = "NOT EXISTS
    (SELECT 1 FROM rule_version live WHERE live.tenant = v.tenant AND live.until IS NULL)";

/// Drops what exceeds the limits of a tenant after its rules changed: never a live version, and never, because of its bytes, the
/// version that was live just before. A tenant's saves drop nothing of another tenant; when a tenant leaves, tenants that left
/// earlier may lose versions.
pub(crate) fn forget_old(conn: &Connection, tenant: &str, keep: Keep) -> Result<(), StoreError> {
    let serving = serving_hashes(conn, tenant)?;
    if serving.is_empty() {
        return forget_departed(conn, keep);
    }
    let newest: i64 = conn
        .prepare_cached(&format!("SELECT max(number) FROM ({CHANGES})"))?
        .query_row([tenant], |row| row.get(0))?;
    let by_number: Option<i64> = conn
        .prepare_cached(&format!("{CHANGES} ORDER BY number DESC LIMIT 1 OFFSET ?2"))?
        .query_row((tenant, keep.generations() - 1), |row| row.get(0))
        .optional()?;
    let mut statement = conn.prepare_cached(&format!(
        "{CLOSED} WHERE v.tenant = ?1 AND v.until IS NOT NULL ORDER BY v.until DESC"
    ))?;
    let closed = statement.query_map([tenant], read_closed)?;
    let by_bytes = first_beyond(closed, serving, newest, keep.bytes)?;
    match by_number.max(by_bytes) {
        Some(since) => forget_before(conn, tenant, since),
        None => Ok(()),
    }
}

/// Returns the tenants for which a generation no longer has all rules, because it is older than what is kept of them.
pub(crate) fn partly_kept(conn: &Connection, number: i64) -> Result<Vec<String>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT tenant FROM rule_history WHERE since > ?1 ORDER BY tenant")?;
    let tenants = statement.query_map([number], |row| row.get(0))?;
    Ok(tenants.collect::<Result<_, _>>()?)
}

/// Drops what exceeds the limits of tenants that no longer have rules, but nothing of those that left last.
fn forget_departed(conn: &Connection, keep: Keep) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "{CLOSED} WHERE v.until IS NOT NULL AND {HAS_NO_RULES} ORDER BY v.until DESC"
    ))?;
    let all = statement.query_map([], read_closed)?;
    let all: Vec<Closed> = all.collect::<Result<_, _>>()?;
    let Some(last) = all.first().map(|version| version.until) else {
        return Ok(());
    };
    let ended_last = all.iter().filter(|version| version.until == last);
    let left_last: HashSet<String> = ended_last.map(|version| version.tenant.clone()).collect();
    let older: Vec<Closed> = all
        .into_iter()
        .filter(|version| !left_last.contains(&version.tenant))
        .collect();
    let ends: BTreeSet<i64> = older.iter().map(|version| version.until).collect();
    let most = usize::try_from(keep.generations()).unwrap_or(usize::MAX);
    let by_number = ends.iter().rev().nth(most - 1).copied();
    let tenants: BTreeSet<String> = older.iter().map(|version| version.tenant.clone()).collect();
    let by_bytes = first_beyond(older.into_iter().map(Ok), HashSet::new(), last, keep.bytes)?;
    if let Some(since) = by_number.max(by_bytes) {
        for tenant in tenants {
            forget_before(conn, &tenant, since)?;
        }
    }
    Ok(())
}

/// Returns the end of the first version beyond the limit; versions are given newest first. A version that ended no earlier than
/// `newest` counts, and is never beyond the limit. Bytes that are kept anyway cost nothing.
fn first_beyond(
    versions: impl Iterator<Item = rusqlite::Result<Closed>>,
    mut kept: HashSet<[u8; 32]>,
    newest: i64,
    limit: u64,
) -> Result<Option<i64>, StoreError> {
    let mut sum = 0u64;
    for version in versions {
        let version = version?;
        sum = sum.saturating_add(version.terms);
        if kept.insert(version.hash) {
            sum = sum.saturating_add(version.bytes);
        }
        if sum > limit && version.until < newest {
            return Ok(Some(version.until));
        }
    }
    Ok(None)
}

/// Drops a tenant's versions that belong only to generations before `since`, the bytes that nothing else uses, and the
/// generations that changed nothing of which a version is still kept.
fn forget_before(conn: &Connection, tenant: &str, since: i64) -> Result<(), StoreError> {
    let mut older =
        conn.prepare_cached(&format!("SELECT number FROM ({CHANGES}) WHERE number < ?2"))?;
    let older = older.query_map((tenant, since), |row| row.get(0))?;
    let older: Vec<i64> = older.collect::<Result<_, _>>()?;
    for number in older {
        conn.prepare_cached(
            "DELETE FROM generation WHERE number = ?2 AND NOT EXISTS
                 (SELECT 1 FROM rule_version WHERE (since = ?2 OR until = ?2) AND tenant <> ?1)",
        )?
        .execute((tenant, number))?;
    }
    let mut gone = conn.prepare_cached(
        "DELETE FROM rule_version WHERE tenant = ?1 AND until IS NOT NULL AND until <= ?2 RETURNING hash",
    )?;
    let hashes = gone.query_map((tenant, since), |row| row.get(0))?;
    let hashes: Vec<[u8; 32]> = hashes.collect::<Result<_, _>>()?;
    if hashes.is_empty() {
        return Ok(());
    }
    for hash in hashes {
        conn.prepare_cached(
            "DELETE FROM rule_bytes WHERE hash = ?1 AND NOT EXISTS
                 (SELECT 1 FROM rule_version v WHERE v.hash = ?1)",
        )?
        .execute([hash])?;
    }
    conn.prepare_cached("INSERT OR REPLACE INTO rule_history (tenant, since) VALUES (?1, ?2)")?
        .execute((tenant, since))?;
    conn.prepare_cached(
        "DELETE FROM rule_history WHERE since <= (SELECT min(number) FROM generation)",
    )?
    .execute([])?;
    Ok(())
}

fn serving_hashes(conn: &Connection, tenant: &str) -> Result<HashSet<[u8; 32]>, StoreError> {
    let mut statement =
        conn.prepare_cached("SELECT hash FROM rule_version WHERE tenant = ?1 AND until IS NULL")?;
    let hashes = statement.query_map([tenant], |row| row.get(0))?;
    Ok(hashes.collect::<Result<_, _>>()?)
}

fn read_closed(row: &Row<'_>) -> rusqlite::Result<Closed> {
    Ok(Closed {
        tenant: row.get(0)?,
        until: row.get(1)?,
        hash: row.get(2)?,
        bytes: row.get::<_, i64>(3)?.unsigned_abs(),
        terms: row.get::<_, i64>(4)?.unsigned_abs(),
    })
}
