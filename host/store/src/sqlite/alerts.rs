//! Alerts as rows, one for each key of a tenant, and the storms of each tenant.
//!
//! Functions in core ([`postroom_core::alert_state`]) decide what a report changes. This module reads the record that they need, and
//! stores the one that they return.

use std::collections::BTreeMap;

use postroom_core::alert_state::{
    self, Admission, AlertRecord, AlertReport, AlertStep, Hold, HoldReason, StormLimit,
    StormWindow, storm_key,
};
use postroom_core::{Alert, AlertPolicy, AlertState, EventKind, ItemDetail};
use rusqlite::{Connection, OptionalExtension, Row};

use super::ids::ALERT;
use super::installation::Installation;
use super::items::{Origin, StoredDetail};
use super::service_alerts;
use crate::{ServiceAlert, StoreError};

/// A report about an alert.
pub(crate) struct Report<'a> {
    pub alert: &'a Alert,
    pub seen: Seen,
    /// Whether a mail is counted.
    pub is_mail: bool,
    pub is_delivered: bool,
    pub policy: &'a AlertPolicy,
}

/// The time of a report, and its place among the others.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    /// A mail that was sent at this time.
    Sent(i64),
    /// The current state, whatever time earlier mails state.
    Now(i64),
    /// The state after the last mail, or after this time if there was no mail.
    AfterLast(i64),
}

/// The effect of a report.
pub(crate) struct Reported {
    pub item: i64,
    /// The event that the targets receive.
    pub event: Option<EventKind>,
    pub storm: Option<StormReport>,
}

/// The effect of a report on the storm of its tenant.
pub(crate) struct StormReport {
    admission: Admission,
    limit: StormLimit,
    /// Alerts that were held in the storm that ended.
    held: u64,
}

/// The storm's alert and its targets.
pub(crate) struct StormPlace<'a> {
    pub tenant: &'a str,
    pub mailbox: &'a str,
    pub sinks: &'a [&'a str],
    pub now_ms: i64,
}

struct Stored {
    item: i64,
    record: AlertRecord,
    detail: String,
}

impl<'a> Report<'a> {
    /// A report of Postroom itself about what is true now.
    pub(crate) fn of_postroom(alert: &'a Alert, policy: &'a AlertPolicy, now_ms: i64) -> Self {
        Self {
            alert,
            seen: Seen::Now(now_ms),
            is_mail: true,
            is_delivered: true,
            policy,
        }
    }
}

/// Creates or updates the row of an alert; fields that the report leaves out stay unchanged.
pub(crate) fn report(
    conn: &Connection,
    origin: Origin,
    report: &Report<'_>,
) -> Result<Reported, StoreError> {
    let alert = report.alert;
    let before = read(conn, origin.tenant, &alert.key)?;
    let (item, record, detail) = match before {
        Some(Stored {
            item,
            record,
            detail,
        }) => (Some(item), Some(record), stored_detail(&alert.key, &detail)),
        None => (None, None, empty_detail()),
    };
    let host = alert.host.as_deref().or(detail.detail.host.as_deref());
    let last_ms = record.as_ref().map(|record| record.last_seen_ms);
    let seen_ms = match report.seen {
        Seen::Sent(at_ms) => at_ms,
        Seen::Now(at_ms) => last_ms.map_or(at_ms, |last| last.max(at_ms)),
        Seen::AfterLast(at_ms) => last_ms.unwrap_or(at_ms),
    };
    let facts = AlertReport {
        key: &alert.key,
        host,
        state: alert.state,
        seen_ms,
        happened_ms: match report.seen {
            Seen::AfterLast(_) => origin.now_ms,
            Seen::Sent(_) | Seen::Now(_) => seen_ms,
        },
        now_ms: origin.now_ms,
        old: origin.old,
        is_delivered: report.is_delivered,
        is_mail: report.is_mail,
    };
    let storm_before = match report.policy.storm {
        Some(_) => read_storm(conn, origin.tenant)?,
        None => StormWindow::default(),
    };
    let mut storm = storm_before;
    let step = alert_state::advance(record, &facts, report.policy, &mut storm);
    if storm != storm_before {
        write_storm(conn, origin, &storm)?;
    }
    let item = match item {
        Some(item) if step.is_late => {
            conn.prepare_cached("UPDATE item SET count = ?2, first_seen_ms = ?3 WHERE id = ?1")?
                .execute((item, count_of(&step.record), step.record.first_seen_ms))?;
            item
        }
        item => put(conn, origin, item, &step.record, alert, detail)?,
    };
    let limit = report.policy.storm.unwrap_or_default();
    Ok(Reported {
        item,
        event: step.event,
        storm: step.storm.map(|admission| StormReport {
            admission,
            limit,
            held: storm_before.held,
        }),
    })
}

/// Ends the hold of an alert that is over. Returns its item, and what the targets receive.
pub(crate) fn release(
    conn: &Connection,
    tenant: i64,
    key: &str,
    now_ms: i64,
) -> Result<Option<(i64, Option<EventKind>)>, StoreError> {
    let Some(stored) = read(conn, tenant, key)? else {
        return Ok(None);
    };
    let Some(AlertStep { record, event, .. }) = alert_state::release(stored.record, now_ms) else {
        return Ok(None);
    };
    conn.prepare_cached(
        "UPDATE item SET announced = ?2, held = NULL, held_until_ms = NULL WHERE id = ?1",
    )?
    .execute((stored.item, record.announced.map(alert_state_name)))?;
    Ok(Some((stored.item, event)))
}

/// Returns the state of an alert, or `None` if it was never reported.
pub(crate) fn state(
    conn: &Connection,
    tenant: i64,
    key: &str,
) -> Result<Option<AlertState>, StoreError> {
    Ok(read(conn, tenant, key)?.map(|stored| stored.record.state))
}

/// Raises the alert of a storm that begins, and resolves that of one that ended.
pub(crate) fn report_storm(
    conn: &Connection,
    installation: &Installation,
    report: &StormReport,
    place: &StormPlace<'_>,
) -> Result<(), StoreError> {
    if report.admission.ended {
        end_storm(conn, installation, report.held, place)?;
    }
    if report.admission.begins {
        let StormLimit { alerts, within_ms } = report.limit;
        let summary = format!(
            "More than {alerts} alerts began to fire within {} s: further ones are recorded and not delivered",
            within_ms / 1000
        );
        set_storm_alert(conn, installation, AlertState::Firing, summary, place)?;
        tracing::warn!(tenant = %place.tenant, alerts, "storm of alerts: further ones are recorded and not delivered");
    }
    Ok(())
}

/// Ends a tenant's storm if it is over.
pub(crate) fn end_storm_if_over(
    conn: &Connection,
    installation: &Installation,
    tenant: i64,
    place: &StormPlace<'_>,
) -> Result<bool, StoreError> {
    let mut storm = read_storm(conn, tenant)?;
    let held = storm.held;
    if !storm.end(place.now_ms) {
        return Ok(false);
    }
    conn.prepare_cached("DELETE FROM alert_storm WHERE tenant = ?1")?
        .execute([tenant])?;
    end_storm(conn, installation, held, place)?;
    Ok(true)
}

fn end_storm(
    conn: &Connection,
    installation: &Installation,
    held: u64,
    place: &StormPlace<'_>,
) -> Result<(), StoreError> {
    let summary =
        format!("The storm of alerts is over; {held} alerts were recorded and not delivered");
    set_storm_alert(conn, installation, AlertState::Resolved, summary, place)?;
    tracing::info!(tenant = %place.tenant, held, "the storm of alerts is over");
    Ok(())
}

fn set_storm_alert(
    conn: &Connection,
    installation: &Installation,
    state: AlertState,
    summary: String,
    place: &StormPlace<'_>,
) -> Result<(), StoreError> {
    let change = ServiceAlert {
        tenant: place.tenant.to_owned(),
        mailbox: place.mailbox.to_owned(),
        alert: Alert {
            key: storm_key(place.tenant),
            state,
            severity: (state == AlertState::Firing).then(|| "critical".into()),
            host: None,
            service: Some("postroom".into()),
            summary: Some(summary),
            fields: BTreeMap::new(),
        },
        sinks: place.sinks.iter().map(|it| (*it).to_owned()).collect(),
    };
    service_alerts::write(conn, installation, &change, place.now_ms)?;
    Ok(())
}

fn read(conn: &Connection, tenant: i64, key: &str) -> Result<Option<Stored>, StoreError> {
    let mut statement = conn.prepare_cached(
        "SELECT id, state, count, coalesce(first_seen_ms, created_ms), coalesce(last_seen_ms, updated_ms), old,
                announced, changes, held, held_until_ms, detail
         FROM item WHERE kind = 2 AND tenant = ?1 AND alert_key = ?2",
    )?;
    let mut rows = statement.query((tenant, key))?;
    rows.next()?.map(stored).transpose()
}

fn stored(row: &Row<'_>) -> Result<Stored, StoreError> {
    let announced: Option<String> = row.get(6)?;
    let changes: Option<String> = row.get(7)?;
    let held: Option<String> = row.get(8)?;
    let held = held.as_deref().and_then(HoldReason::from_name);
    Ok(Stored {
        item: row.get(0)?,
        record: AlertRecord {
            state: state_named(&row.get::<_, String>(1)?)?,
            count: row.get::<_, i64>(2)?.unsigned_abs(),
            first_seen_ms: row.get(3)?,
            last_seen_ms: row.get(4)?,
            old: row.get(5)?,
            announced: announced.as_deref().map(state_named).transpose()?,
            changes_ms: match changes {
                Some(json) => serde_json::from_str(&json)?,
                None => Vec::new(),
            },
            hold: held
                .map(|reason| {
                    let until_ms = row.get(9)?;
                    Ok::<_, rusqlite::Error>(Hold { reason, until_ms })
                })
                .transpose()?,
        },
        detail: row.get(10)?,
    })
}

fn put(
    conn: &Connection,
    origin: Origin,
    item: Option<i64>,
    record: &AlertRecord,
    alert: &Alert,
    mut detail: StoredDetail,
) -> Result<i64, StoreError> {
    if !alert.fields.is_empty() {
        detail.fields = alert.fields.clone();
    }
    if alert.host.is_some() {
        detail.detail.host = alert.host.clone();
    }
    if alert.service.is_some() {
        detail.detail.service = alert.service.clone();
    }
    let detail = serde_json::to_string(&detail)?;
    let (state, count) = (alert_state_name(record.state), count_of(record));
    let item = match item {
        Some(item) => {
            conn.prepare_cached(
                "UPDATE item SET
                     since_ms = CASE WHEN state = ?2 THEN since_ms ELSE ?3 END,
                     state = ?2, updated_ms = ?3, count = ?4, title = coalesce(?5, title),
                     priority = coalesce(?6, priority), detail = ?7, old = ?8
                 WHERE id = ?1",
            )?
            .execute((
                item,
                state,
                origin.now_ms,
                count,
                &alert.summary,
                &alert.severity,
                detail,
                record.old,
            ))?;
            item
        }
        None => conn
            .prepare_cached(
                "INSERT INTO item (kind, tenant, decision, alert_key, state, created_ms, updated_ms, count, title,
                                   priority, detail, old)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, coalesce(?8, ?4), ?9, ?10, ?11)",
            )?
            .insert((
                ALERT,
                origin.tenant,
                origin.decision.map(|it| it.0),
                &alert.key,
                state,
                origin.now_ms,
                count,
                &alert.summary,
                &alert.severity,
                detail,
                record.old,
            ))?,
    };
    let changes = match record.changes_ms.as_slice() {
        [] => None,
        changes => Some(serde_json::to_string(changes)?),
    };
    conn.prepare_cached(
        "UPDATE item SET first_seen_ms = ?2, last_seen_ms = ?3, announced = ?4, changes = ?5, held = ?6, held_until_ms = ?7
         WHERE id = ?1",
    )?
    .execute((
        item,
        record.first_seen_ms,
        record.last_seen_ms,
        record.announced.map(alert_state_name),
        changes,
        record.hold.map(|hold| hold.reason.name()),
        record.hold.and_then(|hold| hold.until_ms),
    ))?;
    Ok(item)
}

fn read_storm(conn: &Connection, tenant: i64) -> Result<StormWindow, StoreError> {
    let found = conn
        .prepare_cached(
            "SELECT began_ms, alerts, is_on, held, ends_ms FROM alert_storm WHERE tenant = ?1",
        )?
        .query_row([tenant], |row| {
            Ok(StormWindow {
                began_ms: row.get(0)?,
                alerts: row.get::<_, i64>(1)?.unsigned_abs(),
                is_on: row.get(2)?,
                held: row.get::<_, i64>(3)?.unsigned_abs(),
                ends_ms: row.get(4)?,
            })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn write_storm(conn: &Connection, origin: Origin, storm: &StormWindow) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO alert_storm (tenant, mailbox, began_ms, alerts, is_on, held, ends_ms)
         VALUES (?1, (SELECT mailbox FROM journal WHERE id = ?2), ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute((
        origin.tenant,
        origin.decision.map(|it| it.0),
        storm.began_ms,
        i64::try_from(storm.alerts).unwrap_or(i64::MAX),
        storm.is_on,
        i64::try_from(storm.held).unwrap_or(i64::MAX),
        storm.ends_ms,
    ))?;
    Ok(())
}

/// An unreadable row must not block the alert's next state.
fn stored_detail(key: &str, json: &str) -> StoredDetail {
    serde_json::from_str(json).unwrap_or_else(|error| {
        tracing::error!(%error, %key, "the stored state of an alert cannot be read and is reset");
        empty_detail()
    })
}

fn empty_detail() -> StoredDetail {
    StoredDetail {
        fields: BTreeMap::new(),
        detail: ItemDetail::default(),
    }
}

pub(crate) fn alert_state_name(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

pub(crate) fn state_named(name: &str) -> Result<AlertState, StoreError> {
    match name {
        "firing" => Ok(AlertState::Firing),
        "resolved" => Ok(AlertState::Resolved),
        odd => Err(StoreError::corrupt(format!("an alert is {odd}"))),
    }
}

fn count_of(record: &AlertRecord) -> i64 {
    i64::try_from(record.count).unwrap_or(i64::MAX)
}
