//! The line's queries while a mail is decided: the ticket it belongs to, and a rule's `kv`.

use postroom_core::{Address, Thread, ThreadMethod, ticket_name, ticket_number};
use rusqlite::{Connection, OptionalExtension};

use super::SqliteReader;
use super::ids::message_key;
use crate::StoreError;

/// The number of references considered, newest first.
const REFERENCES: usize = 50;
/// The number of newest notes of a ticket, and of mails sent for it, that a mail is compared with.
const EARLIER_TEXTS: i64 = 8;
/// The characters of each that are compared.
const EARLIER_CHARS: i64 = 32 * 1024;

impl SqliteReader {
    /// Returns the open ticket of this tenant that a mail seems to belong to: by its references (newest first), then by a number
    /// in its subject. A sender is authorised who takes part in the ticket or writes from one of the tenant's own domains.
    pub(crate) fn thread_candidate(
        &self,
        tenant: &str,
        references: &[String],
        subject: &str,
        sender: Option<&Address>,
        tenant_domains: &[String],
    ) -> Result<Option<Thread>, StoreError> {
        let numbers = postroom_core::ticket_numbers(subject);
        if references.is_empty() && numbers.is_empty() {
            return Ok(None);
        }
        self.with(|conn| {
            let Some(tenant) = tenant_id(conn, tenant)? else {
                return Ok(None);
            };
            let Some((ticket, method)) = find_ticket(conn, tenant, references, &numbers)? else {
                return Ok(None);
            };
            Ok(Some(Thread {
                ticket: ticket_name(ticket),
                method,
                authorised: match sender {
                    Some(sender) => may_write(conn, ticket, sender, tenant_domains)?,
                    None => false,
                },
            }))
        })
    }

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

fn find_ticket(
    conn: &Connection,
    tenant: i64,
    references: &[String],
    numbers: &[String],
) -> Result<Option<(i64, ThreadMethod)>, StoreError> {
    for message_id in references.iter().take(REFERENCES) {
        let key = message_key(tenant, message_id);
        for sql in [RECEIVED, SENT] {
            let found = conn
                .prepare_cached(sql)?
                .query_row((key, message_id, tenant), |row| row.get(0))
                .optional()?;
            if let Some(ticket) = found {
                return Ok(Some((ticket, ThreadMethod::MessageId)));
            }
        }
    }
    for number in numbers.iter().filter_map(|n| ticket_number(n)) {
        let open = conn
            .prepare_cached(
                "SELECT 1 FROM item WHERE kind = 0 AND ticket = ?1 AND tenant = ?2 AND state = 'open'",
            )?
            .exists((number, tenant))?;
        if open {
            return Ok(Some((number, ThreadMethod::Subject)));
        }
    }
    Ok(None)
}

fn may_write(
    conn: &Connection,
    ticket: i64,
    sender: &Address,
    tenant_domains: &[String],
) -> Result<bool, StoreError> {
    let domain = sender.domain();
    if !domain.is_empty()
        && tenant_domains
            .iter()
            .any(|d| d.eq_ignore_ascii_case(domain))
    {
        return Ok(true);
    }
    Ok(conn
        .prepare_cached("SELECT 1 FROM participant WHERE ticket = ?1 AND email = ?2")?
        .exists((ticket, sender.email.to_lowercase()))?)
}

/// Selects the oldest open ticket that a mail with this Message-ID opened or added a note to. Only the first 200 of those mails
/// are considered: anybody may later send many with the same Message-ID, and must not displace the first.
const RECEIVED: &str = "SELECT i.ticket
     FROM (SELECT id FROM journal WHERE message_key = ?1 AND message_id = ?2 AND tenant = ?3
           ORDER BY id LIMIT 200) j
          JOIN decision d ON d.journal = j.id
          JOIN item i ON i.kind = 0 AND i.ticket = d.ticket
     WHERE i.tenant = ?3 AND i.state = 'open' ORDER BY i.ticket LIMIT 1";

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

/// Selects the open ticket for which Postroom sent a mail with this Message-ID.
const SENT: &str = "SELECT i.ticket FROM sent s JOIN item i ON i.kind = 0 AND i.ticket = s.ticket
     WHERE s.message_key = ?1 AND s.message_id = ?2 AND i.tenant = ?3 AND i.state = 'open'";
