//! Recognises the copies of a mail by the marks that they have in common.

use postroom_core::{COPY_WINDOW_MS, ContentHash};
use rusqlite::{Connection, OptionalExtension};

use super::SqliteReader;
use super::questions::tenant_id;
use crate::{DecisionId, JournalId, StoreError};

impl SqliteReader {
    pub(crate) fn first_copy(
        &self,
        tenant: &str,
        marks: &[ContentHash],
        confirmed: bool,
        received_ms: i64,
    ) -> Result<Option<DecisionId>, StoreError> {
        self.with(|conn| match tenant_id(conn, tenant)? {
            Some(tenant) => first(conn, tenant, marks, confirmed, received_ms),
            None => Ok(None),
        })
    }
}

/// Returns the first mail of a tenant that has a mark in common. A mail whose sender is confirmed is no copy of one whose sender is
/// not: anybody may have sent that.
pub(super) fn first(
    conn: &Connection,
    tenant: i64,
    marks: &[ContentHash],
    confirmed: bool,
    received_ms: i64,
) -> Result<Option<DecisionId>, StoreError> {
    let mut find = conn.prepare_cached(
        "SELECT journal FROM mail_copy
         WHERE tenant = ?1 AND mark = ?2 AND confirmed >= ?3 AND abs(received_ms - ?4) <= ?5 ORDER BY journal LIMIT 1",
    )?;
    for mark in marks {
        let found = find
            .query_row(
                (tenant, &mark.0, confirmed, received_ms, COPY_WINDOW_MS),
                |row| row.get(0),
            )
            .optional()?;
        if let Some(journal) = found {
            return Ok(Some(DecisionId(journal)));
        }
    }
    Ok(None)
}

/// Forgets the marks of a mail that is decided again.
pub(super) fn forget(
    conn: &Connection,
    tenant: i64,
    journal: JournalId,
    marks: &[ContentHash],
) -> Result<(), StoreError> {
    let mut delete = conn
        .prepare_cached("DELETE FROM mail_copy WHERE tenant = ?1 AND mark = ?2 AND journal = ?3")?;
    for mark in marks {
        delete.execute((tenant, &mark.0, journal))?;
    }
    Ok(())
}

/// Remembers the marks of a mail, and forgets those of earlier ones.
pub(super) fn remember(
    conn: &Connection,
    tenant: i64,
    journal: JournalId,
    marks: &[ContentHash],
    confirmed: bool,
    received_ms: i64,
) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM mail_copy WHERE received_ms < ?1")?
        .execute([received_ms - COPY_WINDOW_MS])?;
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO mail_copy (tenant, mark, journal, confirmed, received_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for mark in marks {
        insert.execute((tenant, &mark.0, journal, confirmed, received_ms))?;
    }
    Ok(())
}
