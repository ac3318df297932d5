//! Rules' lookups in the store: the open tickets and the alerts of one tenant, each through an index that starts with the tenant.

use std::collections::BTreeMap;

use postroom_core::lookup::{
    KnownAlert, Needle, OpenTicket, Query, QueryResult, TicketSearch, field_key, requester_key,
};
use postroom_core::{Value, ticket_name, ticket_number};
use rusqlite::{Connection, Row};

use super::SqliteReader;
use super::alerts::state_named;
use super::ids::rfc3339;
use super::items::StoredDetail;
use super::questions::tenant_id;
use crate::StoreError;

/// The number of newest open tickets or firing alerts that are searched for a text.
const LOOKED_THROUGH: usize = 1000;
/// A field whose name or value exceeds this length cannot be found by it.
const WORD_BYTES: usize = 200;
/// The name under which a ticket's requester is found.
const REQUESTER: &str = "";

impl SqliteReader {
    /// Returns the first `most` tickets or alerts of this tenant that match a query. Contacts and assets are not stored here.
    pub(crate) fn lookup(
        &self,
        tenant: &str,
        question: &Query,
        most: usize,
    ) -> Result<QueryResult, StoreError> {
        self.with(|conn| {
            let Some(tenant) = tenant_id(conn, tenant)? else {
                return Ok(question.nothing());
            };
            Ok(match question {
                Query::Ticket(number) => QueryResult::Tickets(by_number(conn, tenant, number)?),
                Query::Tickets(search) => QueryResult::Tickets(match search {
                    TicketSearch::Requester(email) => {
                        by_word(conn, tenant, REQUESTER, &requester_key(email), most)?
                    }
                    TicketSearch::Field(name, _) if name.is_empty() => Vec::new(),
                    TicketSearch::Field(name, value) => by_word(conn, tenant, name, value, most)?,
                    TicketSearch::Subject(text) => by_title(conn, tenant, text, most)?,
                }),
                Query::Alert(key) => QueryResult::Alerts(by_key(conn, tenant, key)?),
                Query::Alerts(text) => QueryResult::Alerts(firing(conn, tenant, text, most)?),
                other => other.nothing(),
            })
        })
    }
}

/// Stores the words of every ticket that has none yet.
pub(crate) fn note_all_words(conn: &Connection) -> Result<(), StoreError> {
    let mut tickets = conn.prepare("SELECT tenant, ticket, detail FROM item WHERE kind = 0")?;
    let mut rows = tickets.query([])?;
    while let Some(row) = rows.next()? {
        let (tenant, number, detail): (_, _, String) = row.try_into()?;
        match serde_json::from_str::<StoredDetail>(&detail) {
            Ok(stored) => {
                let requester = stored.detail.requester.as_deref();
                note_words(conn, tenant, number, requester, &stored.fields)?;
            }
            // One unreadable ticket must not keep the service from starting.
            Err(error) => {
                tracing::error!(%error, ticket = number, "what is known of a ticket cannot be read: it is not found by it");
            }
        }
    }
    Ok(())
}

/// Stores the words by which a ticket is found.
pub(crate) fn note_words(
    conn: &Connection,
    tenant: i64,
    number: i64,
    requester: Option<&str>,
    fields: &BTreeMap<String, Value>,
) -> Result<(), StoreError> {
    let requester = requester.map(|whole| (REQUESTER, requester_key(whole)));
    let fields = fields.iter().filter(|(name, _)| !name.is_empty());
    let fields = fields.filter_map(|(name, value)| Some((name.as_str(), field_key(value)?)));
    let mut statement = conn.prepare_cached(
        "INSERT OR IGNORE INTO ticket_word (tenant, name, value, ticket) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (name, value) in requester.into_iter().chain(fields) {
        let short = name.len() <= WORD_BYTES && value.len() <= WORD_BYTES;
        // The longest possible address is 320 bytes long.
        if short || name == REQUESTER {
            statement.execute((tenant, name, value, number))?;
        }
    }
    Ok(())
}

/// Forgets the words of a ticket's fields.
pub(crate) fn forget_words(
    conn: &Connection,
    tenant: i64,
    number: i64,
    fields: &BTreeMap<String, Value>,
) -> Result<(), StoreError> {
    let mut statement = conn.prepare_cached(
        "DELETE FROM ticket_word WHERE tenant = ?1 AND name = ?2 AND value = ?3 AND ticket = ?4",
    )?;
    for (name, value) in fields.iter().filter(|(name, _)| !name.is_empty()) {
        if let Some(value) = field_key(value) {
            statement.execute((tenant, name, value, number))?;
        }
    }
    Ok(())
}

const BY_NUMBER: &str =
    "SELECT i.ticket, i.title, i.priority, i.queue, i.detail, i.created_ms, i.updated_ms FROM item i
     WHERE i.kind = 0 AND i.ticket = ?1 AND i.tenant = ?2 AND i.state <> 'closed'";

const BY_WORD: &str =
    "SELECT i.ticket, i.title, i.priority, i.queue, i.detail, i.created_ms, i.updated_ms
     FROM ticket_word w CROSS JOIN item i ON i.kind = 0 AND i.ticket = w.ticket
     WHERE w.tenant = ?1 AND w.name = ?2 AND w.value = ?3 AND i.tenant = ?1 AND i.state <> 'closed'
     ORDER BY w.ticket DESC LIMIT ?4";

const BY_TITLE: &str =
    "SELECT i.ticket, i.title, i.priority, i.queue, i.detail, i.created_ms, i.updated_ms
     FROM item i INDEXED BY item_open
     WHERE i.kind = 0 AND i.state <> 'closed' AND i.tenant = ?1 ORDER BY i.ticket DESC LIMIT ?2";

const BY_KEY: &str =
    "SELECT alert_key, state, title, priority, detail, coalesce(since_ms, created_ms), updated_ms, count FROM item
     WHERE kind = 2 AND tenant = ?1 AND alert_key = ?2";

const FIRING: &str =
    "SELECT alert_key, state, title, priority, detail, coalesce(since_ms, created_ms), updated_ms, count
     FROM item INDEXED BY item_firing
     WHERE kind = 2 AND state = 'firing' AND tenant = ?1 ORDER BY id DESC LIMIT ?2";

fn by_number(conn: &Connection, tenant: i64, number: &str) -> Result<Vec<OpenTicket>, StoreError> {
    let Some(number) = ticket_number(number) else {
        return Ok(Vec::new());
    };
    let mut statement = conn.prepare_cached(BY_NUMBER)?;
    let mut rows = statement.query((number, tenant))?;
    match rows.next()? {
        Some(row) => Ok(vec![read_ticket(row)?]),
        None => Ok(Vec::new()),
    }
}

fn by_word(
    conn: &Connection,
    tenant: i64,
    name: &str,
    value: &str,
    most: usize,
) -> Result<Vec<OpenTicket>, StoreError> {
    let mut statement = conn.prepare_cached(BY_WORD)?;
    let mut rows = statement.query((tenant, name, value, limit(most)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_ticket(row)?);
    }
    Ok(found)
}

fn by_title(
    conn: &Connection,
    tenant: i64,
    text: &str,
    most: usize,
) -> Result<Vec<OpenTicket>, StoreError> {
    let text = Needle::new(text);
    let mut statement = conn.prepare_cached(BY_TITLE)?;
    let mut rows = statement.query((tenant, limit(LOOKED_THROUGH)))?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.next()?
    {
        let title: Option<String> = row.get(1)?;
        if text.is_in(title.as_deref().unwrap_or_default()) {
            found.push(read_ticket(row)?);
        }
    }
    Ok(found)
}

fn by_key(conn: &Connection, tenant: i64, key: &str) -> Result<Vec<KnownAlert>, StoreError> {
    let mut statement = conn.prepare_cached(BY_KEY)?;
    let mut rows = statement.query((tenant, key))?;
    match rows.next()? {
        Some(row) => Ok(vec![read_alert(row)?]),
        None => Ok(Vec::new()),
    }
}

fn firing(
    conn: &Connection,
    tenant: i64,
    text: &str,
    most: usize,
) -> Result<Vec<KnownAlert>, StoreError> {
    let text = Needle::new(text);
    let mut statement = conn.prepare_cached(FIRING)?;
    let mut rows = statement.query((tenant, limit(LOOKED_THROUGH)))?;
    let mut found = Vec::new();
    while found.len() < most
        && let Some(row) = rows.next()?
    {
        let alert = read_alert(row)?;
        if alert.contains(&text) {
            found.push(alert);
        }
    }
    Ok(found)
}

fn read_ticket(row: &Row<'_>) -> Result<OpenTicket, StoreError> {
    let stored: StoredDetail = serde_json::from_str(&row.get::<_, String>(4)?)?;
    Ok(OpenTicket {
        ticket: ticket_name(row.get(0)?),
        title: row.get::<_, Option<String>>(1)?.unwrap_or_default(),
        requester: stored.detail.requester,
        queue: row.get(3)?,
        priority: row.get(2)?,
        tags: stored.detail.tags,
        fields: stored.fields,
        created: rfc3339(row.get(5)?),
        updated: rfc3339(row.get(6)?),
    })
}

fn read_alert(row: &Row<'_>) -> Result<KnownAlert, StoreError> {
    let stored: StoredDetail = serde_json::from_str(&row.get::<_, String>(4)?)?;
    let state: String = row.get(1)?;
    Ok(KnownAlert {
        key: row.get(0)?,
        state: state_named(&state)?,
        severity: row.get(3)?,
        host: stored.detail.host,
        service: stored.detail.service,
        summary: row.get::<_, Option<String>>(2)?.unwrap_or_default(),
        since: rfc3339(row.get(5)?),
        updated: rfc3339(row.get(6)?),
        count: row.get::<_, i64>(7)?.unsigned_abs(),
    })
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that no query reads other tenants' data, however much there is: each uses an index that starts with the tenant.
    #[test]
    fn every_question_goes_by_an_index_of_its_tenant() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::sqlite::SqliteStore::open(dir.path()).unwrap();
        for (sql, expected) in [
            (BY_NUMBER, "USING INDEX item_open (tenant=? AND ticket=?)"),
            (
                BY_WORD,
                "SEARCH w USING PRIMARY KEY (tenant=? AND name=? AND value=?)",
            ),
            (BY_TITLE, "USING INDEX item_open (tenant=?)"),
            (BY_KEY, "USING INDEX item_alert (tenant=? AND alert_key=?)"),
            (FIRING, "USING INDEX item_firing (tenant=?)"),
        ] {
            let plan: Vec<String> = store
                .reader
                .with(|conn| {
                    let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}"))?;
                    let unset = plan.parameter_count();
                    let nulls = vec![rusqlite::types::Null; unset];
                    let rows =
                        plan.query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))?;
                    Ok(rows.collect::<Result<_, _>>()?)
                })
                .unwrap();
            let plan = plan.join("\n");
            assert!(plan.contains(expected), "{sql}\n{plan}");
            assert!(!plan.contains("SCAN") && !plan.contains("TEMP"), "{plan}");
        }
    }
}
