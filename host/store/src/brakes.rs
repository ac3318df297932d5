//! The brakes of automatic mail (RFC 3834): what an address, a ticket and a tenant are sent within an hour has an end.

use postroom_core::{Address, AutomaticLimits};
use rusqlite::Connection;

use crate::StoreError;
use crate::ids::ticket_name;

const HOUR_MS: i64 = 60 * 60 * 1000;

/// A mail about to be queued.
pub(crate) struct Sending<'a> {
    pub tenant: i64,
    pub to: &'a [Address],
    pub ticket: Option<i64>,
    pub now_ms: i64,
}

impl Sending<'_> {
    /// Counts the mail, and forgets what left over an hour ago. Returns why it may not leave, if a limit holds it back: then it is not
    /// counted.
    pub(crate) fn count(
        &self,
        conn: &Connection,
        limits: &AutomaticLimits,
    ) -> Result<Option<String>, StoreError> {
        // A time far ahead is that of a clock which was put back since.
        let kept = (self.now_ms - HOUR_MS, self.now_ms + HOUR_MS);
        conn.prepare_cached("DELETE FROM automatic WHERE sent_ms <= ?1 OR sent_ms > ?2")?
            .execute(kept)?;
        let persons: Vec<String> = self.to.iter().map(|to| person(&to.email)).collect();
        if let Some((what, limit, most)) = self.over(conn, limits, &persons)? {
            let reason = format!(
                "{most} automatic mails left for {what} within an hour (limits.automatic.{limit})"
            );
            self.tell(conn, kept, &what, &reason)?;
            return Ok(Some(reason));
        }
        let mut insert = conn.prepare_cached(
            "INSERT INTO automatic (tenant, email, nth, ticket, sent_ms) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        for (nth, email) in persons.iter().enumerate() {
            insert.execute((self.tenant, email, nth as i64, self.ticket, self.now_ms))?;
        }
        Ok(None)
    }

    /// Returns the first exceeded limit: whose it is, its name and its value.
    fn over(
        &self,
        conn: &Connection,
        limits: &AutomaticLimits,
        persons: &[String],
    ) -> Result<Option<(String, &'static str, u32)>, StoreError> {
        let mut to_person =
            conn.prepare_cached("SELECT count(*) FROM automatic WHERE tenant = ?1 AND email = ?2")?;
        for email in persons {
            let count: u32 = to_person.query_row((self.tenant, email), |row| row.get(0))?;
            if count >= limits.per_address {
                return Ok(Some((email.clone(), "per_address", limits.per_address)));
            }
        }
        if let Some(ticket) = self.ticket {
            let count: u32 = conn
                .prepare_cached(
                    "SELECT count(*) FROM automatic WHERE tenant = ?1 AND ticket = ?2 AND nth = 0",
                )?
                .query_row((self.tenant, ticket), |row| row.get(0))?;
            if count >= limits.per_ticket {
                return Ok(Some((ticket_name(ticket), "per_ticket", limits.per_ticket)));
            }
        }
        let count: u32 = conn
            .prepare_cached("SELECT count(*) FROM automatic WHERE tenant = ?1 AND nth = 0")?
            .query_row([self.tenant], |row| row.get(0))?;
        let is_over = count >= limits.per_tenant;
        Ok(is_over.then(|| ("the tenant".to_owned(), "per_tenant", limits.per_tenant)))
    }

    /// Names in the log what is held back: once an hour, however many mails it concerns.
    fn tell(
        &self,
        conn: &Connection,
        (since_ms, until_ms): (i64, i64),
        what: &str,
        reason: &str,
    ) -> Result<(), StoreError> {
        conn.prepare_cached("DELETE FROM braked WHERE since_ms <= ?1 OR since_ms > ?2")?
            .execute((since_ms, until_ms))?;
        let news = conn
            .prepare_cached(
                "INSERT OR IGNORE INTO braked (tenant, what, since_ms) VALUES (?1, ?2, ?3)",
            )?
            .execute((self.tenant, what, self.now_ms))?;
        if news > 0 {
            let tenant: String = conn
                .prepare_cached("SELECT name FROM tenant WHERE id = ?1")?
                .query_row([self.tenant], |row| row.get(0))?;
            tracing::warn!(%tenant, to = %what, %reason, "automatic mail is refused: what is over the limit is not sent");
        }
        Ok(())
    }
}

/// The mailbox behind an address: `ann+printer@` and `Ann@` are one person.
fn person(email: &str) -> String {
    let email = email.trim().to_lowercase();
    match email.rsplit_once('@') {
        Some((local, domain)) => {
            let end = local.find('+').filter(|at| *at > 0).unwrap_or(local.len());
            format!("{}@{domain}", &local[..end])
        }
        None => email,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_person_has_many_spellings() {
        for (email, expected) in [
            (" Ann@a.example ", "ann@a.example"),
            ("ann+1@a.example", "ann@a.example"),
            ("+1@a.example", "+1@a.example"),
            ("ann", "ann"),
        ] {
            assert_eq!(person(email), expected);
        }
    }
}
