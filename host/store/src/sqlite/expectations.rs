//! The mails that rules expect, each until a mail with its key comes.

use rusqlite::{Connection, OptionalExtension};

use super::SqliteReader;
use super::ids::rfc3339;
use super::items::Origin;
use crate::{ExpectationRow, JournalId, StoreError};

/// A mail is waited for.
pub(super) const WAITING: i64 = 0;
/// It did not come, and the alert about that was raised.
pub(super) const RAISED: i64 = 1;
/// It did not come, and its alert was firing already.
pub(super) const WAS_FIRING: i64 = 2;

/// The time within which a mail is expected again.
pub(super) struct Period {
    pub within_ms: i64,
    pub due_ms: i64,
}

impl SqliteReader {
    pub(crate) fn expectations(&self) -> Result<Vec<ExpectationRow>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT t.name, m.name, e.key, e.within_ms, j.received_ms, e.due_ms, e.overdue
                 FROM expectation e JOIN tenant t ON t.id = e.tenant JOIN journal j ON j.id = e.journal
                      JOIN mailbox m ON m.id = j.mailbox
                 ORDER BY e.due_ms, t.name, e.key",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(ExpectationRow {
                    tenant: row.get(0)?,
                    mailbox: row.get(1)?,
                    key: row.get(2)?,
                    within_secs: row.get::<_, i64>(3)?.unsigned_abs() / 1000,
                    last: rfc3339(row.get(4)?),
                    due: rfc3339(row.get(5)?),
                    state: match row.get(6)? {
                        WAITING => "waiting",
                        _ => "overdue",
                    },
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Expects a mail with this key again, and returns whether the alert about the last one was raised. Old mail never shortens the time.
pub(super) fn expect(
    conn: &Connection,
    origin: Origin,
    journal: JournalId,
    key: &str,
    period: &Period,
) -> Result<bool, StoreError> {
    let before: Option<(i64, i64)> = conn
        .prepare_cached("SELECT due_ms, overdue FROM expectation WHERE tenant = ?1 AND key = ?2")?
        .query_row((origin.tenant, key), |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    if origin.old && before.is_some_and(|(due_ms, _)| due_ms >= period.due_ms) {
        return Ok(false);
    }
    conn.prepare_cached(
        "INSERT OR REPLACE INTO expectation (tenant, key, journal, within_ms, due_ms, overdue) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        origin.tenant,
        key,
        journal,
        period.within_ms,
        period.due_ms,
        WAITING,
    ))?;
    Ok(before.is_some_and(|(_, overdue)| overdue == RAISED))
}

/// Records that a mail with this key came, whether or not it expects another one.
pub(super) fn came(
    conn: &Connection,
    origin: Origin,
    journal: JournalId,
    key: &str,
    received_ms: i64,
) -> Result<(), StoreError> {
    if origin.old {
        return Ok(());
    }
    conn.prepare_cached(
        "UPDATE expectation SET journal = ?3, due_ms = max(due_ms, ?4 + within_ms), overdue = 0
         WHERE tenant = ?1 AND key = ?2",
    )?
    .execute((origin.tenant, key, journal, received_ms))?;
    Ok(())
}
