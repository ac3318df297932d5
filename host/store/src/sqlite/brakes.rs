//! Counts automatic mail of the last hour, from which [`postroom_core::effects`] decides whether to hold mail back.

use crate::StoreError;
use postroom_core::effects::{Brake, SentLately, SentNeeds};
use rusqlite::Connection;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// Returns the range of times that count. A time far ahead comes from a clock that was set back since.
fn kept(now_ms: i64) -> (i64, i64) {
    (now_ms - HOUR_MS, now_ms + HOUR_MS)
}

/// Counts what was sent within the last hour, and forgets earlier mail.
pub(crate) fn sent_lately(
    conn: &Connection,
    tenant: i64,
    needs: &SentNeeds,
    now_ms: i64,
) -> Result<SentLately, StoreError> {
    conn.prepare_cached("DELETE FROM automatic WHERE sent_ms <= ?1 OR sent_ms > ?2")?
        .execute(kept(now_ms))?;
    let mut sent = SentLately::default();
    let mut to_person =
        conn.prepare_cached("SELECT count(*) FROM automatic WHERE tenant = ?1 AND email = ?2")?;
    for person in &needs.persons {
        let count = to_person.query_row((tenant, person), |row| row.get(0))?;
        sent.persons.insert(person.clone(), count);
    }
    if let Some(ticket) = needs.ticket {
        sent.ticket = conn
            .prepare_cached(
                "SELECT count(*) FROM automatic WHERE tenant = ?1 AND ticket = ?2 AND nth = 0",
            )?
            .query_row((tenant, ticket), |row| row.get(0))?;
    }
    sent.tenant = conn
        .prepare_cached("SELECT count(*) FROM automatic WHERE tenant = ?1 AND nth = 0")?
        .query_row([tenant], |row| row.get(0))?;
    Ok(sent)
}

/// Counts a mail to these people.
pub(crate) fn count(
    conn: &Connection,
    tenant: i64,
    persons: &[String],
    ticket: Option<i64>,
    now_ms: i64,
) -> Result<(), StoreError> {
    let mut insert = conn.prepare_cached(
        "INSERT INTO automatic (tenant, email, nth, ticket, sent_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for (nth, person) in persons.iter().enumerate() {
        insert.execute((tenant, person, nth as i64, ticket, now_ms))?;
    }
    Ok(())
}

/// Logs what is held back: once an hour, however many mails it concerns.
pub(crate) fn report(
    conn: &Connection,
    tenant: i64,
    brake: &Brake,
    now_ms: i64,
) -> Result<(), StoreError> {
    let Brake { what, reason } = brake;
    conn.prepare_cached("DELETE FROM braked WHERE since_ms <= ?1 OR since_ms > ?2")?
        .execute(kept(now_ms))?;
    let news = conn
        .prepare_cached(
            "INSERT OR IGNORE INTO braked (tenant, what, since_ms) VALUES (?1, ?2, ?3)",
        )?
        .execute((tenant, what, now_ms))?;
    if news > 0 {
        let tenant: String = conn
            .prepare_cached("SELECT name FROM tenant WHERE id = ?1")?
            .query_row([tenant], |row| row.get(0))?;
        tracing::warn!(%tenant, to = %what, %reason, "automatic mail is refused: what is over the limit is not sent");
    }
    Ok(())
}
