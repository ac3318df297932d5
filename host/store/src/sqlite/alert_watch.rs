//! Events that become due without a mail: expected mails that did not come, holds of alerts and storms that are over.

use postroom_core::{Event, EventKind, ServiceAlertIdentity, alert_state};
use rusqlite::{Connection, OptionalExtension};

use super::alerts::{self, Report, Seen, StormPlace};
use super::expectations::{RAISED, WAS_FIRING};
use super::ids::rfc3339;
use super::installation::Installation;
use super::items::{self, Origin};
use super::outbox::{self, NewEntry};
use super::{SqliteReader, SqliteStore};
use crate::{AlertOutlets, DecisionId, DueAlert, DueKind, OutboxKind, StoreError};

const DUE: &str = "SELECT 0, t.name, m.name, e.key, e.due_ms FROM expectation e
         JOIN tenant t ON t.id = e.tenant JOIN journal j ON j.id = e.journal JOIN mailbox m ON m.id = j.mailbox
     WHERE e.overdue = 0 AND e.due_ms <= ?1
     UNION ALL
     SELECT 1, t.name, m.name, i.alert_key, i.held_until_ms FROM item i
         JOIN tenant t ON t.id = i.tenant JOIN journal j ON j.id = i.decision JOIN mailbox m ON m.id = j.mailbox
     WHERE i.held_until_ms IS NOT NULL AND i.held_until_ms <= ?1
     UNION ALL
     SELECT 2, t.name, m.name, '', s.ends_ms FROM alert_storm s
         JOIN tenant t ON t.id = s.tenant JOIN mailbox m ON m.id = s.mailbox
     WHERE s.is_on = 1 AND s.ends_ms <= ?1
     LIMIT ?2 OFFSET ?3";

const NEXT: &str = "SELECT min(due_ms) FROM (
         SELECT min(due_ms) AS due_ms FROM expectation WHERE overdue = 0
         UNION ALL SELECT min(held_until_ms) FROM item WHERE held_until_ms IS NOT NULL
         UNION ALL SELECT min(ends_ms) FROM alert_storm WHERE is_on = 1)";

impl SqliteReader {
    pub(crate) fn due_alerts(
        &self,
        limit: usize,
        skip: usize,
        now_ms: i64,
    ) -> Result<Vec<DueAlert>, StoreError> {
        let of = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.with(|conn| {
            let mut statement = conn.prepare_cached(DUE)?;
            let rows = statement.query_map((now_ms, of(limit), of(skip)), |row| {
                Ok(DueAlert {
                    kind: match row.get(0)? {
                        0 => DueKind::Expectation,
                        1 => DueKind::Hold,
                        _ => DueKind::Storm,
                    },
                    tenant: row.get(1)?,
                    mailbox: row.get(2)?,
                    key: row.get(3)?,
                    due_ms: row.get(4)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    pub(crate) fn next_due_alert(&self) -> Result<Option<i64>, StoreError> {
        self.with(|conn| Ok(conn.prepare_cached(NEXT)?.query_row([], |row| row.get(0))?))
    }
}

impl SqliteStore {
    pub(crate) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub(crate) async fn write_due_alert(
        &self,
        due: DueAlert,
        outlets: AlertOutlets,
    ) -> Result<Option<EventKind>, StoreError> {
        let (installation, now_ms) = (self.installation.clone(), self.now_ms());
        self.writer
            .submit(0, move |conn| {
                let watch = Watch {
                    conn,
                    installation: &installation,
                    due: &due,
                    outlets: &outlets,
                    now_ms,
                };
                watch.apply()
            })
            .await
    }
}

struct Watch<'a> {
    conn: &'a Connection,
    installation: &'a Installation,
    due: &'a DueAlert,
    outlets: &'a AlertOutlets,
    now_ms: i64,
}

impl Watch<'_> {
    /// Applies what is still due.
    fn apply(&self) -> Result<Option<EventKind>, StoreError> {
        let Some(tenant) = super::questions::tenant_id(self.conn, &self.due.tenant)? else {
            return Ok(None);
        };
        match self.due.kind {
            DueKind::Expectation => self.raise(tenant),
            DueKind::Hold => {
                let released = alerts::release(self.conn, tenant, &self.due.key, self.now_ms)?;
                match released {
                    Some((item, Some(kind))) => self.deliver(tenant, item, kind).map(Some),
                    _ => Ok(None),
                }
            }
            DueKind::Storm => {
                let sinks: Vec<&str> = self.sinks().collect();
                let place = self.storm_place(&sinks);
                let is_over =
                    alerts::end_storm_if_over(self.conn, self.installation, tenant, &place)?;
                Ok(is_over.then_some(EventKind::AlertResolved))
            }
        }
    }

    /// Raises the alert of a mail that did not come.
    fn raise(&self, tenant: i64) -> Result<Option<EventKind>, StoreError> {
        let key = &self.due.key;
        let found: Option<(i64, i64, i64)> = self
            .conn
            .prepare_cached(
                "SELECT journal, within_ms, due_ms FROM expectation
                 WHERE tenant = ?1 AND key = ?2 AND overdue = 0 AND due_ms <= ?3",
            )?
            .query_row((tenant, key, self.now_ms), |row| row.try_into())
            .optional()?;
        let Some((journal, within_ms, due_ms)) = found else {
            return Ok(None);
        };
        let is_firing = alerts::state(self.conn, tenant, key)?
            .is_some_and(|state| state == postroom_core::AlertState::Firing);
        let overdue = if is_firing { WAS_FIRING } else { RAISED };
        self.conn
            .prepare_cached("UPDATE expectation SET overdue = ?3 WHERE tenant = ?1 AND key = ?2")?
            .execute((tenant, key, overdue))?;
        if is_firing {
            return Ok(None);
        }
        let origin = Origin {
            tenant,
            decision: Some(DecisionId(journal)),
            now_ms: self.now_ms,
            old: false,
        };
        let report = Report {
            alert: &alert_state::overdue(key, within_ms),
            // The mail that comes late is newer than this.
            seen: Seen::AfterLast(due_ms - within_ms),
            is_mail: false,
            is_delivered: true,
            policy: &self.outlets.policy,
        };
        let reported = alerts::report(self.conn, origin, &report)?;
        if let Some(storm) = &reported.storm {
            let sinks: Vec<&str> = self.sinks().collect();
            let place = self.storm_place(&sinks);
            alerts::report_storm(self.conn, self.installation, storm, &place)?;
        }
        match reported.event {
            Some(kind) => self.deliver(tenant, reported.item, kind).map(Some),
            None => Ok(None),
        }
    }

    fn deliver(&self, tenant: i64, item: i64, kind: EventKind) -> Result<EventKind, StoreError> {
        let snapshot = items::read(self.conn, item)?;
        let identity = ServiceAlertIdentity {
            tenant: &self.due.tenant,
            mailbox: &self.due.mailbox,
            alert: &self.due.key,
            state: match kind {
                EventKind::AlertResolved => postroom_core::AlertState::Resolved,
                _ => postroom_core::AlertState::Firing,
            },
            changed_ms: self.now_ms,
            change: snapshot.count.unwrap_or_default(),
        };
        let event = Event {
            kind,
            timestamp: rfc3339(self.now_ms),
            item: snapshot.announced_as(kind),
            decision: None,
            mailbox: self.due.mailbox.clone(),
            message_id: None,
        };
        let payload = serde_json::to_string(&event)?;
        // The mail that expected the other one, or reported the alert first: the listing shows the entry with its mailbox.
        let decision: Option<i64> = self
            .conn
            .prepare_cached("SELECT decision FROM item WHERE id = ?1")?
            .query_row([item], |row| row.get(0))?;
        for sink in self.sinks() {
            let entry = NewEntry {
                kind: OutboxKind::Sink,
                target: sink,
                tenant,
                decision: decision.map(DecisionId),
                lane: Some(item),
                idempotency_key: &identity.idempotency_key(&self.installation.secret, sink),
                payload: &payload,
            };
            outbox::add(self.conn, &entry, self.now_ms)?;
        }
        Ok(kind)
    }

    fn sinks(&self) -> impl Iterator<Item = &str> {
        self.outlets.sinks.iter().map(String::as_str)
    }

    fn storm_place<'p>(&'p self, sinks: &'p [&'p str]) -> StormPlace<'p> {
        StormPlace {
            tenant: &self.due.tenant,
            mailbox: &self.due.mailbox,
            sinks,
            now_ms: self.now_ms,
        }
    }
}
