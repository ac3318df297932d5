//! Listings: what happened and why, page by page, so that even the longest one keeps neither memory nor a snapshot occupied.

use std::collections::VecDeque;

use postroom_core::{Action, ItemSnapshot, MailboxState, OutgoingMail, ticket_name};
use rusqlite::{Connection, Row, ToSql};

use super::ids::{item_kind_number, outcome_number, outcome_of, rfc3339};
use super::items;
use super::journal::mailbox_row;
use super::outbox::state_name;
use super::{SqliteReader, SqliteStore};
use crate::record::Record;
use crate::{
    DecisionId, DecisionRow, Filter, JournalId, MailboxRow, OutboxDetail, OutboxKind, OutboxRow,
    QuarantineRow, Quarantined, Rows, StoreError,
};

/// The number of rows read at a time.
const PAGE: usize = 256;

/// The rows of a listing, read page by page.
struct Pages<T> {
    reader: SqliteReader,
    after: i64,
    page: VecDeque<T>,
    load: LoadPage<T>,
    finished: bool,
}

/// Loads the page after an id, each row with its own id; `None` in place of a row that cannot be read.
type LoadPage<T> =
    Box<dyn Fn(&Connection, i64) -> Result<Vec<(i64, Option<T>)>, StoreError> + Send>;

impl<T> Iterator for Pages<T> {
    type Item = Result<T, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.page.is_empty() && !self.finished {
            match self.reader.with(|conn| (self.load)(conn, self.after)) {
                Ok(rows) => {
                    self.finished = rows.len() < PAGE;
                    self.after = rows.last().map_or(self.after, |(id, _)| *id);
                    self.page = rows.into_iter().filter_map(|(_, row)| row).collect();
                }
                Err(error) => {
                    self.finished = true;
                    return Some(Err(error));
                }
            }
        }
        self.page.pop_front().map(Ok)
    }
}

impl SqliteStore {
    /// Records a mailbox's state. The time of the last change is kept as long as the state stays the same. The detail may be
    /// empty.
    pub(crate) async fn write_mailbox_state(
        &self,
        mailbox: &str,
        state: MailboxState,
        detail: &str,
    ) -> Result<(), StoreError> {
        let mailbox = mailbox.to_owned();
        let (state, detail) = (state.name(), detail.to_owned());
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(0, move |conn| {
                let id = mailbox_row(conn, &mailbox)?;
                conn.prepare_cached(
                    "UPDATE mailbox SET since_ms = CASE WHEN state IS ?2 THEN since_ms ELSE ?4 END,
                                        state = ?2, detail = nullif(?3, '') WHERE id = ?1",
                )?
                .execute((id, state, detail, now_ms))?;
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns decisions in the order of journalling.
    pub(crate) fn decisions(&self, filter: &Filter) -> Result<Rows<DecisionRow>, StoreError> {
        let sql = format!(
            "{DECIDED} WHERE d.journal > ?1 AND (?3 IS NULL OR t.name = ?3) AND (?4 IS NULL OR m.name = ?4)
               AND (?5 IS NULL OR j.received_ms >= ?5) AND (?6 IS NULL OR d.outcome = ?6) AND ?7 IS ?7
               AND (?8 IS NULL OR j.message_id = ?8) AND (?9 IS NULL OR d.ticket = ?9)"
        );
        self.rows(&sql, "d.journal", filter, decision_row)
    }

    /// Returns one decision, or `None` if it does not exist.
    pub(crate) fn decision(&self, id: DecisionId) -> Result<Option<DecisionRow>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!("{DECIDED} WHERE d.journal = ?1"))?;
            let mut rows = statement.query([id.0])?;
            rows.next()?.map(decision_row).transpose()
        })
    }

    /// Returns tickets, notes and alerts in the order in which they were created.
    pub(crate) fn items(&self, filter: &Filter) -> Result<Rows<ItemSnapshot>, StoreError> {
        let sql = format!(
            "SELECT {} FROM item i JOIN tenant t ON t.id = i.tenant
                  LEFT JOIN journal j ON j.id = i.decision JOIN mailbox m ON m.id = coalesce(i.mailbox, j.mailbox)
             WHERE i.id > ?1 AND (?3 IS NULL OR t.name = ?3) AND (?4 IS NULL OR m.name = ?4)
               AND (?5 IS NULL OR coalesce(j.received_ms, i.updated_ms) >= ?5) AND ?6 IS ?6 AND (?7 IS NULL OR i.kind = ?7)",
            items::COLUMNS
        );
        self.rows(&sql, "i.id", filter, items::read_row)
    }

    /// Returns every delivery that is still recorded, finished or not.
    pub(crate) fn outbox(&self, filter: &Filter) -> Result<Rows<OutboxRow>, StoreError> {
        let sql = format!(
            "{OUTBOX} WHERE o.id > ?1 AND (?3 IS NULL OR t.name = ?3) AND (?4 IS NULL OR m.name = ?4)
               AND (?5 IS NULL OR coalesce(j.received_ms, o.created_ms) >= ?5)"
        );
        self.rows(&sql, "o.id", filter, outbox_row)
    }

    /// Returns the deliveries that a decision made and that are still recorded.
    pub(crate) fn deliveries(&self, decision: DecisionId) -> Result<Vec<OutboxRow>, StoreError> {
        self.with(|conn| {
            let mut statement =
                conn.prepare_cached(&format!("{OUTBOX} WHERE o.decision = ?1 ORDER BY o.id"))?;
            let mut rows = statement.query([decision.0])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(outbox_row(row)?);
            }
            Ok(found)
        })
    }

    /// Returns one entry with its content, or `None` if it does not exist.
    pub(crate) fn outbox_entry(&self, id: i64) -> Result<Option<OutboxDetail>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!("{OUTBOX} WHERE o.id = ?1"))?;
            let mut rows = statement.query([id])?;
            let Some(row) = rows.next()? else {
                return Ok(None);
            };
            let payload: String = row.get(20)?;
            Ok(Some(OutboxDetail {
                row: outbox_row(row)?,
                payload: serde_json::from_str(&payload).unwrap_or(serde_json::Value::Null),
            }))
        })
    }

    /// Returns the mails set aside for a person.
    pub(crate) fn quarantine(&self, filter: &Filter) -> Result<Rows<QuarantineRow>, StoreError> {
        let sql = format!(
            "{QUARANTINED} AND d.journal > ?1 AND (?3 IS NULL OR t.name = ?3) AND (?4 IS NULL OR m.name = ?4)
               AND (?5 IS NULL OR j.received_ms >= ?5)"
        );
        self.rows(&sql, "d.journal", filter, quarantine_row)
    }

    /// Returns one quarantined mail with its bytes, or `None` if it does not exist.
    pub(crate) fn quarantined(&self, id: DecisionId) -> Result<Option<Quarantined>, StoreError> {
        let found = self.with(|conn| {
            let mut statement =
                conn.prepare_cached(&format!("{QUARANTINED} AND d.journal = ?1"))?;
            let mut rows = statement.query([id.0])?;
            match rows.next()? {
                Some(row) => Ok(Some((quarantine_row(row)?, row.get(7)?))),
                None => Ok(None),
            }
        })?;
        let Some((row, whole)) = found else {
            return Ok(None);
        };
        let raw = self
            .raw(JournalId(id.0))?
            .ok_or_else(|| StoreError::corrupt(format!("quarantined mail {id} has no bytes")))?;
        Ok(Some(Quarantined { row, whole, raw }))
    }

    /// Returns every mailbox ever seen, by name.
    pub(crate) fn mailboxes(&self) -> Result<Vec<MailboxRow>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT m.name, m.state, m.detail, m.since_ms,
                        (SELECT count(*) FROM pending p WHERE p.mailbox = m.id),
                        (SELECT count(*) FROM ack a WHERE a.mailbox = m.id AND a.due_ms IS NOT NULL)
                 FROM mailbox m ORDER BY m.name",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(MailboxRow {
                    mailbox: row.get(0)?,
                    state: row
                        .get::<_, Option<String>>(1)?
                        .and_then(|name| MailboxState::from_name(&name)),
                    detail: row.get(2)?,
                    since: row.get::<_, Option<i64>>(3)?.map(rfc3339),
                    pending: row.get::<_, i64>(4)?.unsigned_abs(),
                    unacknowledged: row.get::<_, i64>(5)?.unsigned_abs(),
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns the rows of a listing. `sql` selects the row id first. Its parameters: ?1 is the id before the page, ?2 the page's
    /// length, ?3 to ?9 the filter.
    fn rows<T: Send + 'static>(
        &self,
        sql: &str,
        id: &str,
        filter: &Filter,
        read: fn(&Row<'_>) -> Result<T, StoreError>,
    ) -> Result<Rows<T>, StoreError> {
        let sql_page = format!("{sql} ORDER BY {id} LIMIT ?2");
        let after = match filter.limit {
            None => 0,
            Some(limit) => self.start_of_last(sql, id, filter, limit)?,
        };
        let filter = filter.clone();
        let name = id.to_owned();
        Ok(Box::new(Pages {
            reader: self.clone(),
            after,
            page: VecDeque::new(),
            finished: filter.limit == Some(0),
            load: Box::new(move |conn, after| {
                let mut statement = conn.prepare_cached(&sql_page)?;
                bind(&mut statement, after, PAGE as i64, &filter)?;
                let mut rows = statement.raw_query();
                let mut page = Vec::new();
                while let Some(row) = rows.next()? {
                    let id: i64 = row.get(0)?;
                    let row = read(row).inspect_err(|error| {
                        tracing::error!(%error, "left out of the listing: {name} {id} cannot be read");
                    });
                    page.push((id, row.ok()));
                }
                Ok(page)
            }),
        }))
    }

    /// Returns the id before the newest `limit` rows.
    fn start_of_last(
        &self,
        sql: &str,
        id: &str,
        filter: &Filter,
        limit: usize,
    ) -> Result<i64, StoreError> {
        let from = sql.find("FROM").map_or("", |at| &sql[at..]);
        let sql =
            format!("SELECT min(id) FROM (SELECT {id} AS id {from} ORDER BY {id} DESC LIMIT ?2)");
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&sql)?;
            bind(&mut statement, 0, limit as i64, filter)?;
            let mut rows = statement.raw_query();
            let first: Option<i64> = match rows.next()? {
                Some(row) => row.get(0)?,
                None => None,
            };
            Ok(first.map_or(0, |id| id - 1))
        })
    }
}

/// ?1 and the filters are as in every listing. The lane of a note is its ticket, and so is that of a mail.
const OUTBOX: &str = "SELECT o.id, o.kind, o.target, t.name, o.decision, o.state, o.attempts, o.created_ms, o.due_ms,
            o.finished_ms, o.idempotency_key, o.receipt, o.error, coalesce(i.ticket, d.ticket), i.alert_key, i.title,
            o.since_ms, o.refused_ms, o.dropped_by, o.dropped_reason, o.payload
     FROM outbox o JOIN tenant t ON t.id = o.tenant
          LEFT JOIN item i ON i.id = o.lane
          LEFT JOIN journal j ON j.id = o.decision JOIN mailbox m ON m.id = coalesce(j.mailbox, i.mailbox)
          LEFT JOIN decision d ON d.journal = o.decision";

const DECIDED: &str =
    "SELECT d.journal, t.name, m.name, j.message_id, j.received_ms, d.outcome, d.ticket, r.record, j.old
     FROM decision d JOIN journal j ON j.id = d.journal JOIN tenant t ON t.id = j.tenant
          JOIN mailbox m ON m.id = j.mailbox JOIN decision_record r ON r.journal = d.journal";

const QUARANTINED: &str =
    "SELECT d.journal, t.name, m.name, j.message_id, j.received_ms, j.size, r.record, j.whole
     FROM decision d JOIN journal j ON j.id = d.journal JOIN tenant t ON t.id = j.tenant
          JOIN mailbox m ON m.id = j.mailbox JOIN decision_record r ON r.journal = d.journal
     WHERE d.outcome = 4 AND NOT EXISTS (SELECT 1 FROM pending p WHERE p.mailbox = j.mailbox AND p.journal = j.id)";

/// Binds a parameter. A listing that has no use for it does not mention it.
fn bind(
    statement: &mut rusqlite::Statement<'_>,
    after: i64,
    limit: i64,
    filter: &Filter,
) -> Result<(), StoreError> {
    let outcome = filter.outcome.map(outcome_number);
    let kind = filter.kind.map(item_kind_number);
    let values: [&dyn ToSql; 9] = [
        &after,
        &limit,
        &filter.tenant,
        &filter.mailbox,
        &filter.since_ms,
        &outcome,
        &kind,
        &filter.message_id,
        &filter.ticket,
    ];
    let mentioned = statement.parameter_count();
    for (index, value) in values.iter().enumerate().take(mentioned) {
        statement.raw_bind_parameter(index + 1, value)?;
    }
    Ok(())
}

fn decision_row(row: &Row<'_>) -> Result<DecisionRow, StoreError> {
    let record: Record<'_> = serde_json::from_str(&row.get::<_, String>(7)?)?;
    let decision = record.decision.into_owned();
    let alert = decision.main_alert();
    let alert = alert.map(|alert| (alert.key.clone(), alert.state));
    let (alert_key, alert_state) = alert.unzip();
    Ok(DecisionRow {
        id: DecisionId(row.get(0)?),
        tenant: row.get(1)?,
        mailbox: row.get(2)?,
        message_id: row.get(3)?,
        received: rfc3339(row.get(4)?),
        from: record.from.map(|a| a.into_owned().email),
        subject: record.subject.into_owned(),
        outcome: outcome_of(row.get(5)?)?,
        rule: decision.rule,
        rule_hash: decision.rule_hash,
        generation: decision.generation,
        ticket: row.get::<_, Option<i64>>(6)?.map(ticket_name),
        alert_key,
        alert_state,
        thread: decision.thread,
        classified: decision.classified,
        rules: decision.rules,
        provenance: decision.provenance,
        actions: decision.actions,
        refused: decision.refused,
        repairs: decision.repairs,
        elapsed_us: decision.elapsed_us,
        troubles: decision.troubles,
        log: decision.log,
        kv_reads: record.kv_reads.into_owned(),
        lookups: record.lookups.into_owned(),
        decided_at: decision.decided_at,
        called_from: decision.called_from,
        old: row.get(8)?,
    })
}

fn outbox_row(row: &Row<'_>) -> Result<OutboxRow, StoreError> {
    let finished: Option<i64> = row.get(9)?;
    let due: i64 = row.get(8)?;
    let kind = OutboxKind::of(row.get(1)?)?;
    let created: i64 = row.get(7)?;
    // Only mails have recipients and a subject of their own.
    let mail: Option<OutgoingMail> = match kind {
        OutboxKind::Mail => {
            serde_json::from_str(row.get_ref(20)?.as_str().unwrap_or_default()).ok()
        }
        OutboxKind::Sink => None,
    };
    let (to, subject) = mail.map(|mail| (mail.to, mail.subject)).unzip();
    Ok(OutboxRow {
        id: row.get(0)?,
        kind,
        target: row.get(2)?,
        tenant: row.get(3)?,
        decision: row.get::<_, Option<i64>>(4)?.map(DecisionId),
        state: state_name(row.get(5)?)?,
        attempts: row.get(6)?,
        created: rfc3339(created),
        due: finished.is_none().then(|| rfc3339(due)),
        finished: finished.map(rfc3339),
        idempotency_key: row.get(10)?,
        receipt: row.get(11)?,
        error: row.get(12)?,
        ticket: row.get::<_, Option<i64>>(13)?.map(ticket_name),
        alert_key: row.get(14)?,
        to: to
            .unwrap_or_default()
            .into_iter()
            .map(|it| it.email)
            .collect(),
        title: subject.or(row.get(15)?),
        since: rfc3339(row.get::<_, Option<i64>>(16)?.unwrap_or(created)),
        refused: row.get::<_, Option<i64>>(17)?.map(rfc3339),
        dropped_by: row.get(18)?,
        dropped_reason: row.get(19)?,
    })
}

fn quarantine_row(row: &Row<'_>) -> Result<QuarantineRow, StoreError> {
    let record: Record<'_> = serde_json::from_str(&row.get::<_, String>(6)?)?;
    let decision = record.decision.into_owned();
    let reason = decision
        .actions
        .into_iter()
        .find_map(|action| match action {
            Action::Quarantine { reason } => Some(reason),
            _ => None,
        });
    Ok(QuarantineRow {
        id: DecisionId(row.get(0)?),
        tenant: row.get(1)?,
        mailbox: row.get(2)?,
        message_id: row.get(3)?,
        received: rfc3339(row.get(4)?),
        from: record.from.map(|a| a.into_owned().email),
        subject: record.subject.into_owned(),
        reason: reason.unwrap_or_default(),
        troubles: decision.troubles,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
    })
}
