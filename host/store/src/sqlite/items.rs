//! Tickets, notes and alerts as rows: created by decisions, shown by listings and sinks.

use std::collections::BTreeMap;

use postroom_core::{
    Alert, AlertState, ItemDetail, ItemKind, ItemSnapshot, Note, Ticket, Value, Visibility,
    bare_address, ticket_name,
};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::ids::{ALERT, NOTE, TICKET, item_kind_of, rfc3339};
use super::lookup;
use crate::{DecisionId, StoreError};

/// The stored JSON: the fields that have no column of their own.
#[derive(Serialize, Deserialize)]
pub(crate) struct StoredDetail {
    pub fields: BTreeMap<String, Value>,
    #[serde(flatten)]
    pub detail: ItemDetail,
}

/// The columns that [`read_row`] expects, from `item i JOIN tenant t`.
pub(crate) const COLUMNS: &str =
    "i.id, i.kind, t.name, i.ticket, i.title, i.body, i.priority, i.queue, i.detail, i.state,
     i.created_ms, i.updated_ms, i.alert_key, i.count, i.old";

/// The tenant, decision and time of an item.
#[derive(Clone, Copy)]
pub(crate) struct Origin {
    pub tenant: i64,
    /// `None` for an alert of Postroom itself.
    pub decision: Option<DecisionId>,
    pub now_ms: i64,
    /// Whether the mail is old.
    pub old: bool,
}

pub(crate) fn add_ticket(
    conn: &Connection,
    origin: Origin,
    number: i64,
    ticket: &Ticket,
) -> Result<i64, StoreError> {
    let detail = StoredDetail {
        fields: ticket.fields.clone(),
        detail: ItemDetail {
            requester: ticket.requester.clone(),
            tags: ticket.tags.clone(),
            related: ticket.related.clone(),
            ..ItemDetail::default()
        },
    };
    let id = conn
        .prepare_cached(
            "INSERT INTO item (kind, tenant, decision, ticket, state, created_ms, updated_ms, title, priority, queue, detail, body, old)
             VALUES (?1, ?2, ?3, ?4, 'open', ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .insert((
            TICKET,
            origin.tenant,
            origin.decision.map(|it| it.0),
            number,
            origin.now_ms,
            &ticket.title,
            &ticket.priority,
            &ticket.queue,
            serde_json::to_string(&detail)?,
            &ticket.body,
            origin.old,
        ))?;
    let requester = ticket.requester.as_deref();
    lookup::note_words(conn, origin.tenant, number, requester, &ticket.fields)?;
    Ok(id)
}

/// Returns the row of a tenant's ticket.
pub(crate) fn ticket_row(
    conn: &Connection,
    tenant: i64,
    number: i64,
) -> Result<Option<i64>, StoreError> {
    Ok(conn
        .prepare_cached("SELECT id FROM item WHERE kind = 0 AND ticket = ?1 AND tenant = ?2")?
        .query_row((number, tenant), |row| row.get(0))
        .optional()?)
}

/// Returns the address that replies to a ticket go to, in lower case.
pub(crate) fn requester(conn: &Connection, number: i64) -> Result<Option<String>, StoreError> {
    let detail: Option<String> = conn
        .prepare_cached("SELECT detail FROM item WHERE kind = 0 AND ticket = ?1")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let Some(detail) = detail else {
        return Ok(None);
    };
    let stored: StoredDetail = serde_json::from_str(&detail)?;
    let requester = stored.detail.requester.as_deref().map(bare_address);
    Ok(requester.map(str::to_lowercase))
}

/// Adds a note and marks its ticket as updated.
pub(crate) fn add_note(
    conn: &Connection,
    origin: Origin,
    number: i64,
    title: &str,
    note: &Note,
) -> Result<i64, StoreError> {
    let detail = StoredDetail {
        fields: BTreeMap::new(),
        detail: ItemDetail::default(),
    };
    let state = match note.visibility {
        Visibility::Public => "public",
        Visibility::Internal => "internal",
    };
    let id = conn
        .prepare_cached(
            "INSERT INTO item (kind, tenant, decision, ticket, state, created_ms, updated_ms, title, detail, body, old)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8, ?9, ?10)",
        )?
        .insert((
            NOTE,
            origin.tenant,
            origin.decision.map(|it| it.0),
            number,
            state,
            origin.now_ms,
            title,
            serde_json::to_string(&detail)?,
            &note.body,
            origin.old,
        ))?;
    conn.prepare_cached("UPDATE item SET updated_ms = ?2 WHERE kind = 0 AND ticket = ?1")?
        .execute((number, origin.now_ms))?;
    Ok(id)
}

/// Opens a ticket again that was closed.
pub(crate) fn reopen(conn: &Connection, number: i64) -> Result<(), StoreError> {
    conn.prepare_cached(
        "UPDATE item SET state = 'open' WHERE kind = 0 AND ticket = ?1 AND state = 'closed'",
    )?
    .execute([number])?;
    Ok(())
}

/// Records the numbers of other systems by which later mails find a ticket.
pub(crate) fn note_foreign_numbers(
    conn: &Connection,
    tenant: i64,
    ticket: i64,
    numbers: &[String],
) -> Result<(), StoreError> {
    let mut insert = conn.prepare_cached(
        "INSERT OR IGNORE INTO foreign_number (tenant, number, ticket) VALUES (?1, ?2, ?3)",
    )?;
    for number in numbers {
        insert.execute((tenant, number, ticket))?;
    }
    Ok(())
}

/// Creates or updates the single row of an alert's key; fields that the mail leaves out stay unchanged. Returns `None` if an old
/// mail meets an alert made by a newer mail, since it says nothing about the current state.
pub(crate) fn put_alert(
    conn: &Connection,
    origin: Origin,
    alert: &Alert,
) -> Result<Option<i64>, StoreError> {
    let before: Option<(String, bool)> = conn
        .prepare_cached(
            "SELECT detail, old FROM item WHERE kind = 2 AND tenant = ?1 AND alert_key = ?2",
        )?
        .query_row((origin.tenant, &alert.key), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    if origin.old && before.as_ref().is_some_and(|(_, old)| !old) {
        return Ok(None);
    }
    // An unreadable row must not block the alert's next state.
    let before = before.and_then(|(json, _)| {
        serde_json::from_str(&json)
            .inspect_err(|error| {
                tracing::error!(%error, key = %alert.key, "the stored state of an alert cannot be read and is reset");
            })
            .ok()
    });
    let mut detail = before.unwrap_or_else(|| StoredDetail {
        fields: BTreeMap::new(),
        detail: ItemDetail::default(),
    });
    if !alert.fields.is_empty() {
        detail.fields = alert.fields.clone();
    }
    if alert.host.is_some() {
        detail.detail.host = alert.host.clone();
    }
    if alert.service.is_some() {
        detail.detail.service = alert.service.clone();
    }
    let id = conn
        .prepare_cached(
            "INSERT INTO item (kind, tenant, decision, alert_key, state, created_ms, updated_ms, title, priority, detail, old)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, coalesce(?7, ?4), ?8, ?9, ?10)
             ON CONFLICT (tenant, alert_key) WHERE kind = 2 DO UPDATE SET
                 since_ms = CASE WHEN state = excluded.state THEN since_ms ELSE excluded.updated_ms END,
                 state = excluded.state, updated_ms = excluded.updated_ms, count = count + 1,
                 title = coalesce(?7, title), priority = coalesce(?8, priority), detail = excluded.detail,
                 old = excluded.old
             RETURNING id",
        )?
        .query_row(
            (
                ALERT,
                origin.tenant,
                origin.decision.map(|it| it.0),
                &alert.key,
                alert_state(alert.state),
                origin.now_ms,
                &alert.summary,
                &alert.severity,
                serde_json::to_string(&detail)?,
                origin.old,
            ),
            |row| row.get(0),
        )?;
    Ok(Some(id))
}

pub(crate) fn alert_state(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

pub(crate) fn read(conn: &Connection, id: i64) -> Result<ItemSnapshot, StoreError> {
    let sql =
        format!("SELECT {COLUMNS} FROM item i JOIN tenant t ON t.id = i.tenant WHERE i.id = ?1");
    let mut statement = conn.prepare_cached(&sql)?;
    let mut rows = statement.query([id])?;
    match rows.next()? {
        Some(row) => read_row(row),
        None => Err(StoreError::corrupt(format!("no item {id}"))),
    }
}

pub(crate) fn read_row(row: &Row<'_>) -> Result<ItemSnapshot, StoreError> {
    let kind = item_kind_of(row.get(1)?)?;
    let stored: StoredDetail = serde_json::from_str(&row.get::<_, String>(8)?)?;
    let count = row.get::<_, i64>(13)?.unsigned_abs();
    Ok(ItemSnapshot {
        id: row.get(0)?,
        kind,
        tenant: row.get(2)?,
        ticket: row.get::<_, Option<i64>>(3)?.map(ticket_name),
        title: row.get(4)?,
        body: row.get(5)?,
        priority: row.get(6)?,
        queue: row.get(7)?,
        fields: stored.fields,
        state: row.get(9)?,
        created: rfc3339(row.get(10)?),
        updated: rfc3339(row.get(11)?),
        alert_key: row.get(12)?,
        count: (kind == ItemKind::Alert).then_some(count),
        old: row.get(14)?,
        detail: stored.detail,
    })
}
