//! Recorded mail: what was journalled and decided, mail by mail, so that other rules can decide it again.

use std::collections::VecDeque;

use bytes::Bytes;
use rusqlite::{OptionalExtension, Row, Statement};

use super::SqliteReader;
use super::ids::outcome_of;
use crate::ports::records::RecordedMails;
use crate::{DecisionId, Evidence, RecordedMail, Selection, StoreError};

/// The number of rows read at a time. They hold neither bytes nor reasons.
const PAGE: usize = 256;

/// The mails of a [`Selection`], oldest first, up to the newest that was decided at the time of the call.
struct RecordedPages {
    reader: SqliteReader,
    /// A JSON list of names.
    mailboxes: Option<String>,
    /// The same.
    tenants: Option<String>,
    since_ms: Option<i64>,
    after: i64,
    upto: i64,
    page: VecDeque<RecordedMail>,
    finished: bool,
}

impl SqliteReader {
    pub(crate) fn recorded(
        &self,
        selection: &Selection,
    ) -> Result<Box<dyn RecordedMails>, StoreError> {
        let mailboxes = selection.mailboxes.as_ref();
        let tenants = selection.tenants.as_ref();
        let upto = self.with(|conn| {
            let newest = conn
                .prepare_cached("SELECT max(journal) FROM decision")?
                .query_row([], |row| row.get::<_, Option<i64>>(0))?;
            Ok(newest.unwrap_or(0))
        })?;
        let mut mails = RecordedPages {
            reader: self.clone(),
            mailboxes: mailboxes.map(serde_json::to_string).transpose()?,
            tenants: tenants.map(serde_json::to_string).transpose()?,
            since_ms: selection.since_ms,
            after: 0,
            upto: selection.upto.map_or(upto, |id| id.0.min(upto)),
            page: VecDeque::new(),
            finished: selection.limit == Some(0),
        };
        if let Some(limit) = selection.limit {
            let sql = format!(
                "SELECT min(id) FROM (SELECT d.journal AS id {DECIDED} {MEANT} ORDER BY d.journal DESC LIMIT ?5)"
            );
            mails.after = mails
                .number(&sql, limit)?
                .map_or(mails.upto, |first| first - 1);
        }
        Ok(Box::new(mails))
    }

    /// Returns one decided mail, or `None` if it does not exist.
    pub(crate) fn recorded_mail(&self, id: DecisionId) -> Result<Option<RecordedMail>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(&format!("{MAIL} WHERE d.journal = ?1"))?;
            let mut rows = statement.query([id.0])?;
            rows.next()?.map(mail_row).transpose()
        })
    }

    /// Returns the record of a decided mail, or `None` if it does not exist.
    pub(crate) fn evidence(&self, id: DecisionId) -> Result<Option<Evidence>, StoreError> {
        self.with(|conn| {
            let found = conn
                .prepare_cached(
                    "SELECT d.record, r.bytes FROM decision_record d LEFT JOIN raw r ON r.journal = d.journal
                     WHERE d.journal = ?1",
                )?
                .query_row([id.0], |row| {
                    Ok(Evidence {
                        record: row.get(0)?,
                        raw: row.get::<_, Option<Vec<u8>>>(1)?.map(Bytes::from),
                    })
                })
                .optional()?;
            Ok(found)
        })
    }
}

impl RecordedMails for RecordedPages {
    fn upto(&self) -> DecisionId {
        DecisionId(self.upto)
    }

    fn remaining(&self) -> Result<u64, StoreError> {
        let sql = format!(
            "SELECT count(*) FROM (SELECT d.journal {DECIDED} {MEANT} ORDER BY d.journal LIMIT ?5)"
        );
        let more = self.number(&sql, i64::MAX as usize)?.unwrap_or(0);
        Ok(self.page.len() as u64 + more.unsigned_abs())
    }
}

impl RecordedPages {
    fn number(&self, sql: &str, limit: usize) -> Result<Option<i64>, StoreError> {
        self.reader.with(|conn| {
            let mut statement = conn.prepare_cached(sql)?;
            self.bind(&mut statement, limit)?;
            let mut rows = statement.raw_query();
            match rows.next()? {
                Some(row) => Ok(row.get(0)?),
                None => Ok(None),
            }
        })
    }

    fn load(&self) -> Result<VecDeque<RecordedMail>, StoreError> {
        let sql = format!("{MAIL} {MEANT} ORDER BY d.journal LIMIT ?5");
        self.reader.with(|conn| {
            let mut statement = conn.prepare_cached(&sql)?;
            self.bind(&mut statement, PAGE)?;
            let mut rows = statement.raw_query();
            let mut page = VecDeque::new();
            while let Some(row) = rows.next()? {
                page.push_back(mail_row(row)?);
            }
            Ok(page)
        })
    }

    fn bind(&self, statement: &mut Statement<'_>, limit: usize) -> Result<(), StoreError> {
        statement.raw_bind_parameter(1, self.after)?;
        statement.raw_bind_parameter(2, self.upto)?;
        statement.raw_bind_parameter(3, &self.mailboxes)?;
        statement.raw_bind_parameter(4, self.since_ms)?;
        statement.raw_bind_parameter(5, i64::try_from(limit).unwrap_or(i64::MAX))?;
        statement.raw_bind_parameter(6, &self.tenants)?;
        Ok(())
    }
}

impl Iterator for RecordedPages {
    type Item = Result<RecordedMail, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.finished {
            match self.load() {
                Ok(page) => {
                    self.finished = page.len() < PAGE;
                    self.after = page.back().map_or(self.after, |mail| mail.id.0);
                    self.page = page;
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

/// The columns for [`mail_row`], from decided mails.
pub(crate) const MAIL: &str =
    "SELECT d.journal, t.name, m.name, j.message_id, j.received_ms, j.size, j.whole, d.outcome
     FROM decision d JOIN journal j ON j.id = d.journal JOIN tenant t ON t.id = j.tenant
          JOIN mailbox m ON m.id = j.mailbox";
const DECIDED: &str =
    "FROM decision d JOIN journal j ON j.id = d.journal JOIN tenant t ON t.id = j.tenant
          JOIN mailbox m ON m.id = j.mailbox";
/// Selects a page: ?1 is the id before it, ?2 the last id, ?3 a JSON list of mailboxes, ?4 the time, ?5 the number of rows,
/// ?6 a JSON list of tenants.
const MEANT: &str =
    "WHERE d.journal > ?1 AND d.journal <= ?2 AND (?4 IS NULL OR j.received_ms >= ?4)
       AND (?3 IS NULL OR m.name IN (SELECT value FROM json_each(?3)))
       AND (?6 IS NULL OR t.name IN (SELECT value FROM json_each(?6)))";

pub(crate) fn mail_row(row: &Row<'_>) -> Result<RecordedMail, StoreError> {
    Ok(RecordedMail {
        id: DecisionId(row.get(0)?),
        tenant: row.get(1)?,
        mailbox: row.get(2)?,
        message_id: row.get(3)?,
        received_ms: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        whole: row.get(6)?,
        outcome: outcome_of(row.get(7)?)?,
    })
}
