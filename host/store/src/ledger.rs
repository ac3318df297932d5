//! The ledger: every mail seen is accounted for, per mailbox and UTC day of journalling.

use rusqlite::Row;
use serde::Serialize;

use crate::ids::day;
use crate::listing::Filter;
use crate::{Reader, StoreError};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// One line of `ledger --json`, in mails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    pub mailbox: String,
    /// `YYYY-MM-DD` in UTC.
    pub day: String,
    pub seen: u64,
    pub tickets: u64,
    pub notes: u64,
    pub alerts: u64,
    pub ignored: u64,
    pub quarantined: u64,
    /// Journalled and not decided yet.
    pub pending: u64,
}

impl LedgerRow {
    /// Whether every mail seen is accounted for, and once.
    pub fn balances(&self) -> bool {
        let accounted = self.tickets
            + self.notes
            + self.alerts
            + self.ignored
            + self.quarantined
            + self.pending;
        self.seen == accounted
    }
}

impl Reader {
    /// By mailbox, then day. Of the filter, tenant, mailbox, since (whole days) and limit (the newest days) count.
    pub fn ledger(&self, filter: &Filter) -> Result<Vec<LedgerRow>, StoreError> {
        // The three sides come from different tables: journal, decision and the work list.
        let sql = "SELECT * FROM (
                SELECT m.name AS mailbox, j.received_ms / 86400000 AS day, count(*) AS seen,
                       sum(d.outcome IS 0), sum(d.outcome IS 1), sum(d.outcome IS 2), sum(d.outcome IS 3),
                       sum(d.outcome IS 4), sum(p.journal IS NOT NULL)
                FROM journal j JOIN mailbox m ON m.id = j.mailbox
                     LEFT JOIN decision d ON d.journal = j.id
                     LEFT JOIN pending p ON p.mailbox = j.mailbox AND p.journal = j.id
                WHERE (?1 IS NULL OR j.tenant = (SELECT id FROM tenant WHERE name = ?1))
                  AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR j.received_ms >= ?3)
                GROUP BY m.name, day ORDER BY day DESC, mailbox LIMIT ?4
            ) ORDER BY mailbox, day";
        let since = filter.since_ms.map(|ms| ms.div_euclid(DAY_MS) * DAY_MS);
        self.with(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            let limit = filter.limit.map_or(-1, |n| n as i64);
            let rows = statement
                .query_map((&filter.tenant, &filter.mailbox, since, limit), |row| {
                    ledger_row(row)
                })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Days that do not balance; none unless the program is wrong.
    pub fn imbalance(&self) -> Result<Vec<LedgerRow>, StoreError> {
        let mut rows = self.ledger(&Filter::default())?;
        rows.retain(|row| !row.balances());
        Ok(rows)
    }
}

fn ledger_row(row: &Row<'_>) -> rusqlite::Result<LedgerRow> {
    let count = |index| row.get::<_, i64>(index).map(i64::unsigned_abs);
    Ok(LedgerRow {
        mailbox: row.get(0)?,
        day: day(row.get::<_, i64>(1)? * DAY_MS),
        seen: count(2)?,
        tickets: count(3)?,
        notes: count(4)?,
        alerts: count(5)?,
        ignored: count(6)?,
        quarantined: count(7)?,
        pending: count(8)?,
    })
}
