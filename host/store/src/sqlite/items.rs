//! Tickets, notes and alerts as rows: created by decisions, shown by listings and sinks.

use std::collections::BTreeMap;

use postroom_core::alert_state::HoldReason;
use postroom_core::{
    ItemDetail, ItemKind, ItemSnapshot, Note, Ticket, TicketStatus, TicketUpdate, Value,
    Visibility, bare_address, ticket_name,
};
use rusqlite::{Connection, OptionalExtension, Row};
use serde::{Deserialize, Serialize};

use super::ids::{NOTE, TICKET, item_kind_of, rfc3339};
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
     i.created_ms, i.updated_ms, i.alert_key, i.count, i.old, i.first_seen_ms, i.last_seen_ms, i.held,
     i.closed_ms, i.close_reason";

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
        "UPDATE item SET state = 'open', closed_ms = NULL, close_reason = NULL
         WHERE kind = 0 AND ticket = ?1 AND state = 'closed'",
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

/// Changes a ticket. Returns its row and whether it is closed now and was not before; `None` if there is no such ticket.
pub(crate) fn update_ticket(
    conn: &Connection,
    origin: Origin,
    number: i64,
    update: &TicketUpdate,
) -> Result<Option<(i64, TicketChange)>, StoreError> {
    let found: Option<(i64, String, String)> = conn
        .prepare_cached(
            "SELECT id, state, detail FROM item WHERE kind = 0 AND ticket = ?1 AND tenant = ?2",
        )?
        .query_row((number, origin.tenant), |row| row.try_into())
        .optional()?;
    let Some((id, before, detail)) = found else {
        return Ok(None);
    };
    let mut stored: StoredDetail = serde_json::from_str(&detail)?;
    let fields_before = stored.fields.clone();
    stored.fields.extend(update.fields.clone());
    if let Some(tags) = &update.tags {
        stored.detail.tags.clone_from(tags);
    }
    let closed = TicketStatus::Closed.name();
    let status = update.status.as_deref().and_then(TicketStatus::from_name);
    let state = status.map_or(before.as_str(), |status| status.name());
    let closes = state == closed && before != closed;
    conn.prepare_cached(
        "UPDATE item SET state = ?2, priority = coalesce(?3, priority), queue = coalesce(?4, queue), detail = ?5,
             updated_ms = ?6,
             closed_ms = CASE WHEN ?2 <> 'closed' THEN NULL WHEN ?7 THEN ?6 ELSE closed_ms END,
             close_reason = CASE WHEN ?2 <> 'closed' OR ?7 THEN NULL ELSE close_reason END
         WHERE id = ?1",
    )?
    .execute((
        id,
        state,
        &update.priority,
        &update.queue,
        serde_json::to_string(&stored)?,
        origin.now_ms,
        closes,
    ))?;
    if stored.fields != fields_before {
        lookup::forget_words(conn, origin.tenant, number, &fields_before)?;
        let requester = stored.detail.requester.as_deref();
        lookup::note_words(conn, origin.tenant, number, requester, &stored.fields)?;
    }
    let change = match closes {
        true => TicketChange::Closed,
        false => TicketChange::Updated,
    };
    Ok(Some((id, change)))
}

/// Closes a ticket, unless it is closed. Returns its row and what changed; `None` if there is no such ticket.
pub(crate) fn close_ticket(
    conn: &Connection,
    origin: Origin,
    number: i64,
    reason: Option<&str>,
) -> Result<Option<(i64, TicketChange)>, StoreError> {
    let Some(id) = ticket_row(conn, origin.tenant, number)? else {
        return Ok(None);
    };
    let changed = conn
        .prepare_cached(
            "UPDATE item SET state = 'closed', closed_ms = ?2, updated_ms = ?2, close_reason = ?3
             WHERE id = ?1 AND state <> 'closed'",
        )?
        .execute((id, origin.now_ms, reason))?;
    let change = match changed {
        0 => TicketChange::Nothing,
        _ => TicketChange::Closed,
    };
    Ok(Some((id, change)))
}

/// The change of a ticket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TicketChange {
    Nothing,
    Updated,
    Closed,
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
    let held: Option<String> = row.get(17)?;
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
        first_seen: row.get::<_, Option<i64>>(15)?.map(rfc3339),
        last_seen: row.get::<_, Option<i64>>(16)?.map(rfc3339),
        held: held.as_deref().and_then(HoldReason::from_name),
        closed: row.get::<_, Option<i64>>(18)?.map(rfc3339),
        close_reason: row.get(19)?,
        old: row.get(14)?,
        detail: stored.detail,
    })
}
