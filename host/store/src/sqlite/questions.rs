//! The line's queries while a mail is decided: a tenant's tickets, and a rule's `kv`. The mail's own ticket: [`super::threads`].

use postroom_core::ticket_number;
use rusqlite::{Connection, OptionalExtension};

use super::SqliteReader;
use crate::StoreError;

/// The number of newest notes of a ticket, and of mails sent for it, that a mail is compared with.
const EARLIER_TEXTS: i64 = 8;
/// The characters of each that are compared.
const EARLIER_CHARS: i64 = 32 * 1024;

impl SqliteReader {
    /// Returns the newest texts of a tenant's ticket: its own, those of its notes, and those of the mails sent for it.
    pub(crate) fn earlier_texts(
        &self,
        tenant: &str,
        ticket: &str,
    ) -> Result<Vec<String>, StoreError> {
        let Some(number) = ticket_number(ticket) else {
            return Ok(Vec::new());
        };
        self.with(|conn| {
            let Some(tenant) = tenant_id(conn, tenant)? else {
                return Ok(Vec::new());
            };
            let mut texts = Vec::new();
            for sql in [WRITTEN, ANSWERED] {
                let mut statement = conn.prepare_cached(sql)?;
                let bounds = (number, tenant, EARLIER_TEXTS, EARLIER_CHARS);
                let rows = statement.query_map(bounds, |row| row.get::<_, Option<String>>(0))?;
                for text in rows {
                    texts.extend(text?);
                }
            }
            Ok(texts)
        })
    }

    /// Returns whether this tenant has a ticket with that number (`T-12`).
    pub(crate) fn ticket_exists(&self, tenant: &str, ticket: &str) -> Result<bool, StoreError> {
        let Some(number) = ticket_number(ticket) else {
            return Ok(false);
        };
        self.with(|conn| match tenant_id(conn, tenant)? {
            Some(tenant) => Ok(super::items::ticket_row(conn, tenant, number)?.is_some()),
            None => Ok(false),
        })
    }

    /// Returns the `kv` value of a tenant's rule.
    pub(crate) fn kv(
        &self,
        tenant: &str,
        rule: &str,
        key: &str,
    ) -> Result<Option<String>, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT value FROM kv
                     WHERE tenant = (SELECT id FROM tenant WHERE name = ?1) AND rule = ?2 AND key = ?3",
                )?
                .query_row((tenant, rule, key), |row| row.get(0))
                .optional()?)
        })
    }

    /// Returns how many keys a tenant's rule holds, and how many bytes of keys and values.
    pub(crate) fn kv_usage(&self, tenant: &str, rule: &str) -> Result<(u64, u64), StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT count(*), coalesce(sum(octet_length(key) + octet_length(value)), 0) FROM kv
                     WHERE tenant = (SELECT id FROM tenant WHERE name = ?1) AND rule = ?2",
                )?
                .query_row((tenant, rule), |row| {
                    Ok((
                        row.get::<_, i64>(0)?.unsigned_abs(),
                        row.get::<_, i64>(1)?.unsigned_abs(),
                    ))
                })?)
        })
    }
}

pub(crate) fn tenant_id(conn: &Connection, name: &str) -> Result<Option<i64>, StoreError> {
    Ok(conn
        .prepare_cached("SELECT id FROM tenant WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?)
}

/// Selects what the mails of a ticket wrote: ?1 is its number, ?2 the tenant, ?3 the number of texts, ?4 their length.
const WRITTEN: &str =
    "SELECT substr(body, 1, ?4) FROM item WHERE kind = 0 AND ticket = ?1 AND tenant = ?2
     UNION ALL
     SELECT substr(body, 1, ?4) FROM
         (SELECT body FROM item WHERE kind = 1 AND ticket = ?1 AND tenant = ?2 ORDER BY id DESC LIMIT ?3)";

/// Selects the texts of the mails that the decisions on a ticket's mails sent, with the same parameters.
const ANSWERED: &str =
    "SELECT substr(json_extract(payload, '$.text'), 1, ?4) FROM outbox
     WHERE kind = 1 AND decision IN
         (SELECT decision FROM item WHERE kind = 0 AND ticket = ?1 AND tenant = ?2
          UNION ALL
          SELECT decision FROM
              (SELECT decision FROM item WHERE kind = 1 AND ticket = ?1 AND tenant = ?2 ORDER BY id DESC LIMIT ?3))
     ORDER BY id DESC LIMIT ?3";
