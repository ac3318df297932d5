//! The ledger: accounts for every mail seen, per mailbox and UTC day of journalling.

use rusqlite::Row;

use super::SqliteReader;
use super::ids::{day, rfc3339};
use crate::{Filter, LedgerRow, RepeatRow, StoreError};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

impl SqliteReader {
    /// Returns the ledger by mailbox, then day. Only tenant, mailbox, since (whole days) and limit (the newest days) of the
    /// filter apply.
    pub(crate) fn ledger(&self, filter: &Filter) -> Result<Vec<LedgerRow>, StoreError> {
        // The three sides come from different tables: journal, decision and the work list.
        let sql = "SELECT mailbox, day, sum(seen), sum(tickets), sum(notes), sum(alerts), sum(ignored),
                          sum(quarantined), sum(pending), sum(repeated)
            FROM (
                SELECT m.name AS mailbox, j.received_ms / 86400000 AS day, count(*) AS seen,
                       sum(p.journal IS NULL AND d.outcome IS 0) AS tickets, sum(p.journal IS NULL AND d.outcome IS 1) AS notes, sum(p.journal IS NULL AND d.outcome IS 2) AS alerts,
                       sum(p.journal IS NULL AND d.outcome IS 3) AS ignored, sum(p.journal IS NULL AND d.outcome IS 4) AS quarantined,
                       sum(p.journal IS NOT NULL) AS pending, 0 AS repeated
                FROM journal j JOIN mailbox m ON m.id = j.mailbox
                     LEFT JOIN decision d ON d.journal = j.id
                     LEFT JOIN pending p ON p.mailbox = j.mailbox AND p.journal = j.id
                WHERE (?1 IS NULL OR j.tenant = (SELECT id FROM tenant WHERE name = ?1))
                  AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR j.received_ms >= ?3)
                GROUP BY m.name, day
                UNION ALL
                SELECT m.name, r.seen_ms / 86400000 AS day, 0, 0, 0, 0, 0, 0, 0, count(*)
                FROM repeat r JOIN journal j ON j.id = r.journal JOIN mailbox m ON m.id = j.mailbox
                WHERE (?1 IS NULL OR j.tenant = (SELECT id FROM tenant WHERE name = ?1))
                  AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR r.seen_ms >= ?3)
                GROUP BY m.name, day
            ) GROUP BY mailbox, day ORDER BY day DESC, mailbox LIMIT ?4";
        let sql = format!("SELECT * FROM ({sql}) ORDER BY mailbox, day");
        let since = filter.since_ms.map(|ms| ms.div_euclid(DAY_MS) * DAY_MS);
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&sql)?;
            let limit = filter.limit.map_or(-1, |n| n as i64);
            let rows = statement
                .query_map((&filter.tenant, &filter.mailbox, since, limit), |row| {
                    ledger_row(row)
                })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns mails that arrived again and were not decided again, newest first. Only tenant, mailbox, since and limit of the
    /// filter apply.
    pub(crate) fn repeats(&self, filter: &Filter) -> Result<Vec<RepeatRow>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT t.name, m.name, r.seen_ms, j.message_id, j.id, j.received_ms
                 FROM repeat r JOIN journal j ON j.id = r.journal JOIN mailbox m ON m.id = j.mailbox
                      JOIN tenant t ON t.id = j.tenant
                 WHERE (?1 IS NULL OR t.name = ?1) AND (?2 IS NULL OR m.name = ?2) AND (?3 IS NULL OR r.seen_ms >= ?3)
                 ORDER BY r.seen_ms DESC, j.id DESC LIMIT ?4",
            )?;
            let limit = filter.limit.map_or(-1, |n| n as i64);
            let wanted = (&filter.tenant, &filter.mailbox, filter.since_ms, limit);
            let rows = statement.query_map(wanted, |row| {
                Ok(RepeatRow {
                    tenant: row.get(0)?,
                    mailbox: row.get(1)?,
                    seen: rfc3339(row.get(2)?),
                    message_id: row.get(3)?,
                    mail: row.get(4)?,
                    first: rfc3339(row.get(5)?),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
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
        repeated: count(9)?,
    })
}
