//! The line's queries while a mail is decided: a tenant's tickets, and a rule's `kv`. The mail's own ticket: [`super::threads`].

use postroom_core::ticket_number;
use rusqlite::{Connection, OptionalExtension};

use super::SqliteReader;
use crate::StoreError;

impl SqliteReader {
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
