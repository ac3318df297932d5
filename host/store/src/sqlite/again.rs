//! Changes a mail's decision for a person: has it decided again, or drops it from quarantine. What was decided before is kept.

use std::path::Path;

use postroom_core::{Action, Outcome};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::SqliteReader;
use super::ids::{outcome_number, outcome_of, rfc3339};
use super::options::StoreOptions;
use super::schema;
use crate::record::Record;
use crate::{DecisionId, EarlierDecision, MailChange, MailRequest, StoreError};

/// Changes the decision of one mail. A running service decides the mail within a second.
pub(crate) fn change_mail(
    data_dir: &Path,
    id: DecisionId,
    request: MailRequest,
    by: &str,
    reason: Option<&str>,
    options: &StoreOptions,
) -> Result<MailChange, StoreError> {
    let mut conn = schema::open_beside(data_dir, options)?;
    let now_ms = options.clock.now_ms();
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let change = change(&tx, id, request, by, reason, now_ms)?;
    tx.commit()?;
    Ok(change)
}

impl SqliteReader {
    /// Returns a number that increases with each change by hand.
    pub(crate) fn mail_changes(&self) -> Result<i64, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached("SELECT last FROM sequence WHERE name = 'mail_again'")?
                .query_row([], |row| row.get(0))?)
        })
    }

    /// Returns the decisions about a mail that a person ended, oldest first.
    pub(crate) fn earlier_decisions(
        &self,
        id: DecisionId,
    ) -> Result<Vec<EarlierDecision>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT outcome, decided_ms, record, ended_ms, ended_by, reason FROM earlier_decision
                 WHERE journal = ?1 ORDER BY repetition",
            )?;
            let mut rows = statement.query([id.0])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let record: Record<'_> = serde_json::from_str(&row.get::<_, String>(2)?)?;
                found.push(EarlierDecision {
                    outcome: outcome_of(row.get(0)?)?,
                    decided: rfc3339(row.get(1)?),
                    rule: record.decision.rule.clone(),
                    actions: record.decision.actions.clone(),
                    ended: rfc3339(row.get(3)?),
                    by: row.get(4)?,
                    reason: row.get(5)?,
                });
            }
            Ok(found)
        })
    }
}

/// A decided mail.
struct Decided {
    mailbox: i64,
    outcome: Outcome,
    whole: bool,
    has_bytes: bool,
    is_pending: bool,
}

fn change(
    conn: &Connection,
    id: DecisionId,
    request: MailRequest,
    by: &str,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<MailChange, StoreError> {
    let found = conn
        .prepare_cached(
            "SELECT j.mailbox, d.outcome, j.whole, EXISTS (SELECT 1 FROM raw r WHERE r.journal = j.id),
                    EXISTS (SELECT 1 FROM pending p WHERE p.mailbox = j.mailbox AND p.journal = j.id)
             FROM decision d JOIN journal j ON j.id = d.journal WHERE d.journal = ?1",
        )?
        .query_row([id.0], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?, row.get(2)?, row.get(3)?, row.get(4)?))
        })
        .optional()?;
    let Some((mailbox, outcome, whole, has_bytes, is_pending)) = found else {
        return Ok(MailChange::Unknown);
    };
    let mail = Decided {
        mailbox,
        outcome: outcome_of(outcome)?,
        whole,
        has_bytes,
        is_pending,
    };
    if let Some(refused) = refusal(&mail, request) {
        return Ok(refused);
    }
    conn.prepare_cached(
        "INSERT INTO earlier_decision (journal, repetition, outcome, decided_ms, record, ended_ms, ended_by, reason)
         SELECT d.journal, j.repetition, d.outcome, d.decided_ms, r.record, ?2, ?3, ?4
         FROM decision d JOIN journal j ON j.id = d.journal JOIN decision_record r ON r.journal = d.journal
         WHERE d.journal = ?1",
    )?
    .execute((id.0, now_ms, by, reason))?;
    conn.prepare_cached("UPDATE journal SET repetition = repetition + 1 WHERE id = ?1")?
        .execute([id.0])?;
    match request {
        MailRequest::Drop => ignore(conn, id, by, reason, now_ms)?,
        MailRequest::Release | MailRequest::Again { .. } => {
            let released = request == MailRequest::Release;
            conn.prepare_cached(
                "INSERT INTO pending (mailbox, journal, released) VALUES (?1, ?2, ?3)",
            )?
            .execute((mail.mailbox, id.0, released))?;
        }
    }
    conn.execute(
        "UPDATE sequence SET last = last + 1 WHERE name = 'mail_again'",
        [],
    )?;
    Ok(MailChange::Changed)
}

fn refusal(mail: &Decided, request: MailRequest) -> Option<MailChange> {
    let quarantined = mail.outcome == Outcome::Quarantined;
    let made_items = matches!(
        mail.outcome,
        Outcome::Ticket | Outcome::Note | Outcome::Alert
    );
    match request {
        _ if mail.is_pending => Some(MailChange::Waits),
        MailRequest::Release | MailRequest::Drop if !quarantined => {
            Some(MailChange::NotQuarantined(mail.outcome))
        }
        MailRequest::Drop => None,
        _ if !mail.whole => Some(MailChange::Incomplete),
        _ if !mail.has_bytes => Some(MailChange::Purged),
        MailRequest::Again { force: false } if made_items => {
            Some(MailChange::MadeItems(mail.outcome))
        }
        MailRequest::Again { .. } | MailRequest::Release => None,
    }
}

/// Makes an ignored mail of a quarantined one.
fn ignore(
    conn: &Connection,
    id: DecisionId,
    by: &str,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let text: String = conn
        .prepare_cached("SELECT record FROM decision_record WHERE journal = ?1")?
        .query_row([id.0], |row| row.get(0))?;
    let mut record: Record<'_> = serde_json::from_str(&text)?;
    let reason = match reason {
        Some(reason) => format!("dropped from quarantine by {by}: {reason}"),
        None => format!("dropped from quarantine by {by}"),
    };
    record.decision.to_mut().actions = vec![Action::Ignore { reason }];
    conn.prepare_cached("UPDATE decision_record SET record = ?2 WHERE journal = ?1")?
        .execute((id.0, serde_json::to_string(&record)?))?;
    conn.prepare_cached("UPDATE decision SET outcome = ?2, decided_ms = ?3 WHERE journal = ?1")?
        .execute((id.0, outcome_number(Outcome::Ignored), now_ms))?;
    Ok(())
}
