//! Applied configurations: a file's text is stored once for as long as it stays the same.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::ids::rfc3339;
use super::{SqliteReader, SqliteStore};
use crate::StoreError;
use crate::ports::configurations::AppliedConfiguration;

const TEXTS: &str = "SELECT name, text FROM configuration_file
    WHERE since <= ?1 AND (until IS NULL OR until > ?1)";

impl SqliteStore {
    pub(crate) async fn write_configuration(
        &self,
        files: BTreeMap<String, String>,
        changes_json: String,
    ) -> Result<u64, StoreError> {
        let bytes = files.values().map(String::len).sum();
        let (now_ms, kept) = (self.clock.now_ms(), self.keep.generations);
        self.writer
            .submit(bytes, move |conn| {
                save(conn, &files, &changes_json, now_ms, kept)
            })
            .await
    }
}

impl SqliteReader {
    /// Returns the configurations that are kept, newest first, at most `limit`.
    pub(crate) fn configurations(
        &self,
        limit: Option<usize>,
    ) -> Result<Vec<AppliedConfiguration>, StoreError> {
        let limit = limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT number, applied_ms, changes FROM configuration ORDER BY number DESC LIMIT ?1",
            )?;
            let rows = statement.query_map([limit], |row| {
                Ok(AppliedConfiguration {
                    number: row.get::<_, i64>(0)?.unsigned_abs(),
                    applied: rfc3339(row.get(1)?),
                    changes_json: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the texts of a configuration's files by name, or `None` if it is not kept.
    pub(crate) fn configuration_files(
        &self,
        number: u64,
    ) -> Result<Option<BTreeMap<String, String>>, StoreError> {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.with(|conn| {
            let is_kept = conn
                .prepare_cached("SELECT 1 FROM configuration WHERE number = ?1")?
                .exists([number])?;
            is_kept.then(|| texts(conn, number)).transpose()
        })
    }
}

fn save(
    conn: &Connection,
    files: &BTreeMap<String, String>,
    changes_json: &str,
    now_ms: i64,
    kept: u64,
) -> Result<u64, StoreError> {
    let newest: Option<i64> = conn
        .prepare_cached("SELECT max(number) FROM configuration")?
        .query_row([], |row| row.get(0))?;
    let before = match newest {
        Some(newest) => texts(conn, newest)?,
        None => BTreeMap::new(),
    };
    if let Some(newest) = newest.filter(|_| before == *files) {
        return Ok(newest.unsigned_abs());
    }
    let number = newest.unwrap_or(0) + 1;
    conn.prepare_cached(
        "INSERT INTO configuration (number, applied_ms, changes) VALUES (?1, ?2, ?3)",
    )?
    .execute((number, now_ms, changes_json))?;
    let mut end = conn.prepare_cached(
        "UPDATE configuration_file SET until = ?2 WHERE name = ?1 AND until IS NULL",
    )?;
    let mut begin = conn
        .prepare_cached("INSERT INTO configuration_file (name, since, text) VALUES (?1, ?2, ?3)")?;
    for name in before
        .keys()
        .filter(|name| files.get(*name) != before.get(*name))
    {
        end.execute((name, number))?;
    }
    for (name, text) in files
        .iter()
        .filter(|(name, text)| before.get(*name) != Some(text))
    {
        begin.execute((name, number, text))?;
    }
    let oldest = number.saturating_sub_unsigned(kept.max(1)) + 1;
    conn.prepare_cached("DELETE FROM configuration WHERE number < ?1")?
        .execute([oldest])?;
    conn.prepare_cached("DELETE FROM configuration_file WHERE until <= ?1")?
        .execute([oldest])?;
    Ok(number.unsigned_abs())
}

fn texts(conn: &Connection, number: i64) -> Result<BTreeMap<String, String>, StoreError> {
    let mut statement = conn.prepare_cached(TEXTS)?;
    let rows = statement.query_map([number], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
