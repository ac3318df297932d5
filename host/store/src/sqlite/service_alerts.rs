//! Alerts of Postroom itself: an item and its outbox entries, without a decision.

use postroom_core::{AlertPolicy, Event, EventKind, ServiceAlertIdentity};
use rusqlite::{Connection, OptionalExtension};

use super::alerts::{self, Report, alert_state_name};
use super::ids::rfc3339;
use super::installation::Installation;
use super::items::{self, Origin};
use super::journal::{mailbox_row, tenant_row};
use super::outbox::{self, NewEntry};
use super::{SqliteReader, SqliteStore};
use crate::{FiringAlert, OutboxKind, ServiceAlert, StoreError};

impl SqliteStore {
    /// Raises or resolves an alert, unless it already is in that state.
    pub(crate) async fn write_service_alert(
        &self,
        change: ServiceAlert,
    ) -> Result<bool, StoreError> {
        let (installation, now_ms) = (self.installation.clone(), self.clock.now_ms());
        self.writer
            .submit(0, move |conn| write(conn, &installation, &change, now_ms))
            .await
    }
}

impl SqliteReader {
    pub(crate) fn firing_service_alerts(&self) -> Result<Vec<FiringAlert>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT t.name, m.name, i.alert_key
                 FROM item i JOIN tenant t ON t.id = i.tenant JOIN mailbox m ON m.id = i.mailbox
                 WHERE i.mailbox IS NOT NULL AND i.kind = 2 AND i.state = 'firing' ORDER BY i.id",
            )?;
            let rows = statement.query_map([], |row| {
                Ok(FiringAlert {
                    tenant: row.get(0)?,
                    mailbox: row.get(1)?,
                    key: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }
}

/// Raises or resolves an alert, and returns whether it was not in that state.
pub(super) fn write(
    conn: &Connection,
    installation: &Installation,
    change: &ServiceAlert,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let (alert, tenant) = (&change.alert, tenant_row(conn, &change.tenant)?);
    let before: Option<String> = conn
        .prepare_cached("SELECT state FROM item WHERE kind = 2 AND tenant = ?1 AND alert_key = ?2")?
        .query_row((tenant, &alert.key), |row| row.get(0))
        .optional()?;
    let resolved = alert_state_name(postroom_core::AlertState::Resolved);
    if before.as_deref().unwrap_or(resolved) == alert_state_name(alert.state) {
        return Ok(false);
    }
    let origin = Origin {
        tenant,
        decision: None,
        now_ms,
        old: false,
    };
    let policy = AlertPolicy::of_postroom();
    let report = Report::of_postroom(alert, &policy, now_ms);
    let item = alerts::report(conn, origin, &report)?.item;
    // A rule may have used the key before: from now on the alert is Postroom's own.
    conn.prepare_cached("UPDATE item SET mailbox = ?2, decision = NULL WHERE id = ?1")?
        .execute((item, mailbox_row(conn, &change.mailbox)?))?;
    let item_now = items::read(conn, item)?;
    let identity = ServiceAlertIdentity {
        tenant: &change.tenant,
        mailbox: &change.mailbox,
        alert: &alert.key,
        state: alert.state,
        changed_ms: now_ms,
        change: item_now.count.unwrap_or_default(),
    };
    let event = Event {
        kind: EventKind::of(alert.state),
        timestamp: rfc3339(now_ms),
        item: item_now,
        decision: None,
        mailbox: change.mailbox.clone(),
        message_id: None,
    };
    let payload = serde_json::to_string(&event)?;
    for sink in &change.sinks {
        let entry = NewEntry {
            kind: OutboxKind::Sink,
            target: sink,
            tenant,
            decision: None,
            lane: Some(item),
            idempotency_key: &identity.idempotency_key(&installation.secret, sink),
            payload: &payload,
        };
        outbox::add(conn, &entry, now_ms)?;
    }
    Ok(true)
}
