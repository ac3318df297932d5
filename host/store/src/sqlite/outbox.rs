//! The outbox: decided deliveries that must still reach a sink or a mailbox, at least once, in order per ticket and alert.
//!
//! The entries of one ticket or alert for one target form a **lane**. The oldest waiting entry of a lane is its **head**. It is
//! marked as such when entries are added and when they end, so that a search for due entries never visits those behind it.

use std::collections::{HashSet, VecDeque};

use postroom_core::{ExternalRef, Receipt};
use rusqlite::{Connection, OptionalExtension};

use super::ids::message_key;
use super::{SqliteReader, SqliteStore};
use crate::{DecisionId, OutboxEntry, OutboxKind, RoundRobin, StoreError};

pub(crate) const WAITING: i64 = 0;
const DELIVERED: i64 = 1;
pub(crate) const DEAD: i64 = 2;
pub(crate) const DROPPED: i64 = 3;

/// A new entry, before it has a row.
pub(crate) struct NewEntry<'a> {
    pub kind: OutboxKind,
    pub target: &'a str,
    pub tenant: i64,
    /// `None` for an alert of Postroom itself.
    pub decision: Option<DecisionId>,
    pub lane: Option<i64>,
    pub idempotency_key: &'a str,
    pub payload: &'a str,
}

impl OutboxKind {
    pub(crate) fn number(self) -> i64 {
        match self {
            OutboxKind::Sink => 0,
            OutboxKind::Mail => 1,
        }
    }

    pub(crate) fn of(number: i64) -> Result<Self, StoreError> {
        match number {
            0 => Ok(OutboxKind::Sink),
            1 => Ok(OutboxKind::Mail),
            other => Err(StoreError::corrupt(format!("outbox kind {other}"))),
        }
    }
}

impl SqliteStore {
    /// Records that the target accepted the entry; `receipt` is its reply. An entry that was dropped by hand in the meantime
    /// counts as delivered.
    pub(crate) async fn write_delivered(
        &self,
        id: i64,
        receipt: Receipt,
    ) -> Result<(), StoreError> {
        let Receipt {
            status,
            external,
            message_id,
            ..
        } = receipt;
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(0, move |conn| {
                let lane = conn
                    .prepare_cached(
                        "UPDATE outbox SET state = ?2, error = NULL, finished_ms = ?4, attempts = attempts + 1,
                                receipt = iif(receipt IS NULL, ?3, receipt || '; ' || ?3)
                         WHERE id = ?1 AND state IN (0, 3) RETURNING lane, target, kind",
                    )?
                    .query_row((id, DELIVERED, status, now_ms), Lane::of)
                    .optional()?;
                if let (Some(_), Some(external)) = (&lane, &external) {
                    note_external(conn, id, external)?;
                }
                if let (Some(_), Some(message_id)) = (&lane, &message_id) {
                    note_rewritten(conn, id, message_id)?;
                }
                promote(conn, lane)
            })
            .await
    }

    /// Records that the target refused this very entry. It is due again at the given time, and those behind it in its lane wait
    /// with it. Counts an attempt.
    pub(crate) async fn write_refused(
        &self,
        id: i64,
        error: impl Into<String>,
        retry_at_ms: i64,
    ) -> Result<(), StoreError> {
        let error = error.into();
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET attempts = attempts + 1, error = ?2, due_ms = ?3,
                            refused_ms = coalesce(refused_ms, ?4)
                     WHERE id = ?1 AND state = 0",
                )?
                .execute((id, error, retry_at_ms, now_ms))?;
                Ok(())
            })
            .await
    }

    /// Moves the entry to the dead letters. Those behind it in its lane are then delivered.
    pub(crate) async fn write_gave_up(
        &self,
        id: i64,
        error: impl Into<String>,
    ) -> Result<(), StoreError> {
        let error = error.into();
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(0, move |conn| {
                let lane = conn
                    .prepare_cached(
                        "UPDATE outbox SET state = ?2, error = ?3, finished_ms = ?4, attempts = attempts + 1
                         WHERE id = ?1 AND state = 0 RETURNING lane, target, kind",
                    )?
                    .query_row((id, DEAD, error, now_ms), Lane::of)
                    .optional()?;
                promote(conn, lane)
            })
            .await
    }

    /// Records why an entry stays due: its target as a whole accepts nothing now. Counts no attempt.
    pub(crate) async fn write_held_back(
        &self,
        id: i64,
        reason: impl Into<String>,
    ) -> Result<(), StoreError> {
        let reason = reason.into();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET error = ?2 WHERE id = ?1 AND state = 0 AND error IS NOT ?2",
                )?
                .execute((id, reason))?;
                Ok(())
            })
            .await
    }

    /// Records that Postroom aborted an attempt before its result was known. It counts, and the entry stays due.
    pub(crate) async fn write_cut_off(
        &self,
        id: i64,
        reason: impl Into<String>,
    ) -> Result<(), StoreError> {
        let reason = reason.into();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET error = ?2, attempts = attempts + 1 WHERE id = ?1 AND state = 0",
                )?
                .execute((id, reason))?;
                Ok(())
            })
            .await
    }

    /// Records that the target accepted the entry for some of its recipients. The entry stays for the others, with the payload
    /// for them, and is due again at the given time. `receipt` is the reply about the accepted recipients, kept together with
    /// later ones.
    pub(crate) async fn write_partly_delivered(
        &self,
        id: i64,
        payload: String,
        receipt: impl Into<String>,
        error: impl Into<String>,
        retry_at_ms: i64,
    ) -> Result<(), StoreError> {
        let (receipt, error) = (receipt.into(), error.into());
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(payload.len(), move |conn| {
                conn.prepare_cached(
                    "UPDATE outbox SET payload = ?2, error = ?4, due_ms = ?5, attempts = attempts + 1,
                            receipt = iif(receipt IS NULL, ?3, receipt || '; ' || ?3),
                            refused_ms = coalesce(refused_ms, ?6)
                     WHERE id = ?1 AND state = 0",
                )?
                .execute((id, payload, receipt, error, retry_at_ms, now_ms))?;
                Ok(())
            })
            .await
    }
}

impl SqliteReader {
    /// Returns entries whose turn it is at a target; a sink and an outgoing with the same name are two targets. Only heads of
    /// lanes are returned: an entry is left out while an older one for the same target and the same ticket or alert is waiting.
    /// Round robin over the tenants: each gives its longest-due entry before any gives a second.
    pub(crate) fn due_outbox(
        &self,
        kind: OutboxKind,
        target: &str,
        now_ms: i64,
        limit: usize,
        turn: &RoundRobin,
    ) -> Result<Vec<OutboxEntry>, StoreError> {
        self.with(|conn| {
            let ids = due_ids(conn, kind, target, now_ms, limit, turn)?;
            ids.into_iter().map(|id| entry(conn, id)).collect()
        })
    }

    /// Returns when the next entry for a target becomes due after the given time, or `None` if nothing waits longer than that.
    pub(crate) fn next_outbox_due(
        &self,
        kind: OutboxKind,
        target: &str,
        after_ms: i64,
    ) -> Result<Option<i64>, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(NEXT_DUE)?
                .query_row((kind.number(), target, after_ms), |row| row.get(0))
                .optional()?)
        })
    }

    /// Returns how many entries are waiting.
    pub(crate) fn outbox_waiting(&self) -> Result<u64, StoreError> {
        self.with(|conn| {
            let waiting: i64 = conn
                .prepare_cached("SELECT coalesce(sum(entries), 0) FROM outbox_waiting")?
                .query_row([], |row| row.get(0))?;
            Ok(waiting.unsigned_abs())
        })
    }

    /// Returns how many entries of a tenant are waiting, for any target.
    pub(crate) fn outbox_waiting_of(&self, tenant: &str) -> Result<u64, StoreError> {
        self.with(|conn| {
            let waiting: i64 = conn
                .prepare_cached(
                    "SELECT coalesce(sum(entries), 0) FROM outbox_waiting
                     WHERE tenant = (SELECT id FROM tenant WHERE name = ?1)",
                )?
                .query_row([tenant], |row| row.get(0))?;
            Ok(waiting.unsigned_abs())
        })
    }

    /// Returns how many entries wait for each target that has any.
    pub(crate) fn outbox_waiting_by_target(
        &self,
    ) -> Result<Vec<(OutboxKind, String, u64)>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT kind, target, sum(entries) FROM outbox_waiting GROUP BY kind, target HAVING sum(entries) > 0",
            )?;
            let mut rows = statement.query([])?;
            let mut waiting = Vec::new();
            while let Some(row) = rows.next()? {
                let entries: i64 = row.get(2)?;
                waiting.push((OutboxKind::of(row.get(0)?)?, row.get(1)?, entries.unsigned_abs()));
            }
            Ok(waiting)
        })
    }
}

/// Returns the state's name in listings.
pub(crate) fn state_name(state: i64) -> Result<&'static str, StoreError> {
    match state {
        WAITING => Ok("waiting"),
        DELIVERED => Ok("delivered"),
        DEAD => Ok("dead"),
        DROPPED => Ok("dropped"),
        other => Err(StoreError::corrupt(format!("outbox state {other}"))),
    }
}

/// Stores the target's own reference for the item of a delivered event.
fn note_external(conn: &Connection, id: i64, external: &ExternalRef) -> Result<(), StoreError> {
    conn.prepare_cached(
        "INSERT OR REPLACE INTO external_ref (item, target, id, number, url)
         SELECT payload ->> '$.item.id', target, ?2, ?3, ?4 FROM outbox WHERE id = ?1 AND kind = 0",
    )?
    .execute((id, &external.id, &external.number, &external.url))?;
    Ok(())
}

/// Records a Message-ID that the server gave to a mail, so that a reply to it finds the ticket. An id that is already known keeps
/// its ticket: a server must not move other mail's replies.
fn note_rewritten(conn: &Connection, id: i64, message_id: &str) -> Result<(), StoreError> {
    let own = conn
        .prepare_cached(
            "SELECT tenant, payload ->> '$.message_id' FROM outbox WHERE id = ?1 AND kind = 1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((tenant, Some(own))) = own else {
        return Ok(());
    };
    let own: String = own;
    conn.prepare_cached(
        "INSERT OR IGNORE INTO sent (message_key, message_id, ticket)
         SELECT ?1, ?2, ticket FROM sent WHERE message_key = ?3 AND message_id = ?4",
    )?
    .execute((
        message_key(tenant, message_id),
        message_id,
        message_key(tenant, &own),
        own,
    ))?;
    Ok(())
}

pub(crate) fn add(
    conn: &Connection,
    entry: &NewEntry<'_>,
    created_ms: i64,
) -> Result<(), StoreError> {
    conn.prepare_cached(ADD)?.execute((
        entry.kind.number(),
        entry.target,
        entry.tenant,
        entry.decision.map(|it| it.0),
        entry.lane,
        created_ms,
        entry.idempotency_key,
        entry.payload,
    ))?;
    Ok(())
}

/// The ordering key of entries.
pub(crate) struct Lane {
    /// `None` for an entry that waits for no other.
    item: Option<i64>,
    target: String,
    kind: i64,
}

impl Lane {
    /// Reads the columns `lane, target, kind`.
    pub(crate) fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            item: row.get(0)?,
            target: row.get(1)?,
            kind: row.get(2)?,
        })
    }
}

/// Marks the oldest waiting entry of a lane as its head, after another one ended or came back.
pub(crate) fn promote(conn: &Connection, lane: Option<Lane>) -> Result<(), StoreError> {
    if let Some(Lane {
        item: Some(item),
        target,
        kind,
    }) = lane
    {
        conn.prepare_cached(PROMOTE)?
            .execute((item, target, kind))?;
    }
    Ok(())
}

/// Removes the mark from a lane's head before an older entry comes back.
pub(crate) fn demote(conn: &Connection, lane: &Lane) -> Result<(), StoreError> {
    if let Some(item) = lane.item {
        conn.prepare_cached(DEMOTE)?
            .execute((item, &lane.target, lane.kind))?;
    }
    Ok(())
}

// The constants of the partial indexes are spelled out in the SQL: the planner requires them literally.

const ADD: &str = "INSERT INTO outbox (kind, target, tenant, decision, lane, created_ms, due_ms, idempotency_key, payload, head)
     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8,
             NOT EXISTS (SELECT 1 FROM outbox e WHERE e.state = 0 AND e.lane = ?5 AND e.target = ?2 AND e.kind = ?1))";

const PROMOTE: &str = "UPDATE outbox SET head = 1
     WHERE head = 0
       AND id = (SELECT e.id FROM outbox e WHERE e.state = 0 AND e.lane = ?1 AND e.target = ?2 AND e.kind = ?3
                 ORDER BY e.id LIMIT 1)";

const DEMOTE: &str = "UPDATE outbox SET head = 0
     WHERE head = 1
       AND id = (SELECT e.id FROM outbox e WHERE e.state = 0 AND e.lane = ?1 AND e.target = ?2 AND e.kind = ?3
                 ORDER BY e.id LIMIT 1)";

const ANY_DUE: &str = "SELECT 1 FROM outbox WHERE state = 0 AND head = 1 AND kind = ?1 AND target = ?2 AND due_ms <= ?3 LIMIT 1";

const NEXT_TENANT: &str = "SELECT tenant FROM outbox
     WHERE state = 0 AND head = 1 AND kind = ?1 AND target = ?2 AND tenant > ?3 ORDER BY tenant LIMIT 1";

const DUE_OF_TENANT: &str = "SELECT id FROM outbox
     WHERE state = 0 AND head = 1 AND kind = ?1 AND target = ?2 AND tenant = ?3 AND due_ms <= ?4
     ORDER BY due_ms, id LIMIT ?5";

const NEXT_DUE: &str = "SELECT due_ms FROM outbox
     WHERE state = 0 AND head = 1 AND kind = ?1 AND target = ?2 AND due_ms > ?3 ORDER BY due_ms LIMIT 1";

const ENTRY: &str = "SELECT o.id, o.kind, o.target, t.name, o.tenant, o.decision, o.payload, o.idempotency_key, o.attempts,
            o.created_ms, coalesce(o.since_ms, o.created_ms), o.refused_ms IS NOT NULL, x.id, x.number, x.url
     FROM outbox o JOIN tenant t ON t.id = o.tenant
          LEFT JOIN external_ref x ON o.kind = 0 AND x.item = o.lane AND x.target = o.target
     WHERE o.id = ?1";

/// Returns the due entries of a target, in the order of its round robin.
fn due_ids(
    conn: &Connection,
    kind: OutboxKind,
    target: &str,
    now_ms: i64,
    limit: usize,
    turn: &RoundRobin,
) -> Result<Vec<i64>, StoreError> {
    let kind = kind.number();
    // Most checks find nothing, and then no tenant needs to be queried.
    let any = conn
        .prepare_cached(ANY_DUE)?
        .exists((kind, target, now_ms))?;
    if !any || limit == 0 {
        return Ok(Vec::new());
    }
    let mut round: Vec<VecDeque<i64>> = Vec::new();
    let (mut last, mut wrapped) = (turn.after, false);
    while round.len() < limit {
        let next = conn
            .prepare_cached(NEXT_TENANT)?
            .query_row((kind, target, last), |row| row.get::<_, i64>(0))
            .optional()?;
        match next {
            Some(tenant) if !wrapped || tenant <= turn.after => {
                last = tenant;
                let ids = due_of_tenant(conn, kind, target, tenant, now_ms, limit, &turn.skip)?;
                if !ids.is_empty() {
                    round.push(ids);
                }
            }
            None if !wrapped => (last, wrapped) = (i64::MIN, true),
            _ => break,
        }
    }
    let mut due = Vec::new();
    while due.len() < limit && !round.is_empty() {
        for ids in &mut round {
            due.extend(ids.pop_front());
        }
        round.retain(|ids| !ids.is_empty());
    }
    due.truncate(limit);
    Ok(due)
}

/// Returns a tenant's due entries, longest due first.
fn due_of_tenant(
    conn: &Connection,
    kind: i64,
    target: &str,
    tenant: i64,
    now_ms: i64,
    limit: usize,
    skip: &HashSet<i64>,
) -> Result<VecDeque<i64>, StoreError> {
    let wanted = (limit + skip.len()) as i64;
    let mut statement = conn.prepare_cached(DUE_OF_TENANT)?;
    let rows = statement.query_map((kind, target, tenant, now_ms, wanted), |row| row.get(0))?;
    let ids = rows.collect::<Result<Vec<i64>, _>>()?;
    let mut ids: VecDeque<i64> = ids.into_iter().filter(|id| !skip.contains(id)).collect();
    ids.truncate(limit);
    Ok(ids)
}

fn entry(conn: &Connection, id: i64) -> Result<OutboxEntry, StoreError> {
    let mut statement = conn.prepare_cached(ENTRY)?;
    let mut rows = statement.query([id])?;
    let row = rows
        .next()?
        .ok_or_else(|| StoreError::corrupt(format!("outbox entry {id} has no tenant")))?;
    Ok(OutboxEntry {
        id: row.get(0)?,
        kind: OutboxKind::of(row.get(1)?)?,
        target: row.get(2)?,
        tenant: row.get(3)?,
        turn: row.get(4)?,
        decision: row.get::<_, Option<i64>>(5)?.map(DecisionId),
        payload: row.get(6)?,
        idempotency_key: row.get(7)?,
        attempts: row.get(8)?,
        created_ms: row.get(9)?,
        since_ms: row.get(10)?,
        refused: row.get(11)?,
        reference: match row.get(12)? {
            Some(id) => Some(ExternalRef {
                id,
                number: row.get(13)?,
                url: row.get(14)?,
            }),
            None => None,
        },
    })
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;
    use crate::sqlite::StoreOptions;
    use crate::sqlite::schema;

    const LATER: i64 = i64::MAX;

    /// Creates a database whose outbox needs no decisions.
    fn database() -> (tempfile::TempDir, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let conn = schema::open_writer(dir.path(), &StoreOptions::default()).unwrap();
        conn.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA synchronous = OFF")
            .unwrap();
        for tenant in 1..=50 {
            conn.execute("INSERT INTO tenant VALUES (?1, 't' || ?1)", [tenant])
                .unwrap();
        }
        (dir, conn)
    }

    fn put(conn: &Connection, tenant: i64, lane: i64) {
        let entry = NewEntry {
            kind: OutboxKind::Sink,
            target: "psa",
            tenant,
            decision: Some(DecisionId(1)),
            lane: Some(lane),
            idempotency_key: "key",
            payload: "{}",
        };
        add(conn, &entry, 0).unwrap();
    }

    fn due(conn: &Connection, turn: &RoundRobin, limit: usize) -> Vec<i64> {
        due_ids(conn, OutboxKind::Sink, "psa", LATER, limit, turn).unwrap()
    }

    fn deliver(conn: &Connection, id: i64) {
        let lane = conn
            .query_row(
                "UPDATE outbox SET state = 1 WHERE id = ?1 RETURNING lane, target, kind",
                [id],
                Lane::of,
            )
            .unwrap();
        promote(conn, Some(lane)).unwrap();
    }

    /// Returns the number of SQLite virtual machine steps since the last call.
    fn steps(conn: &Connection) -> i32 {
        [ADD, PROMOTE, ANY_DUE, NEXT_TENANT, DUE_OF_TENANT, NEXT_DUE]
            .iter()
            .map(|sql| {
                let statement = conn.prepare_cached(sql).unwrap();
                statement.reset_status(StatementStatus::VmStep)
            })
            .sum()
    }

    #[test]
    fn a_long_lane_costs_no_more_than_a_short_one() {
        let cost = |waiting: usize| {
            let (_dir, conn) = database();
            conn.execute_batch("BEGIN").unwrap();
            for _ in 0..waiting {
                put(&conn, 1, 7);
            }
            steps(&conn);
            let first = due(&conn, &RoundRobin::default(), 4);
            assert_eq!(first, [1]);
            deliver(&conn, 1);
            assert_eq!(due(&conn, &RoundRobin::default(), 4), [2]);
            put(&conn, 1, 7);
            conn.prepare_cached(NEXT_DUE)
                .unwrap()
                .exists((0, "psa", 0))
                .unwrap();
            steps(&conn)
        };
        assert_eq!(cost(3), cost(5_000));
    }

    #[test]
    fn a_round_gives_each_tenant_one_before_any_a_second() {
        let (_dir, conn) = database();
        conn.execute_batch("BEGIN").unwrap();
        for lane in 0..500 {
            put(&conn, 3, lane);
        }
        put(&conn, 9, 1_000);
        put(&conn, 1, 1_001);
        let tenants = |turn: &RoundRobin, limit| -> Vec<i64> {
            let ids = due(&conn, turn, limit);
            let tenant = |id| {
                let sql = "SELECT tenant FROM outbox WHERE id = ?1";
                conn.query_row(sql, [id], |row| row.get(0)).unwrap()
            };
            ids.into_iter().map(tenant).collect()
        };
        let mut turn = RoundRobin::default();
        assert_eq!(tenants(&turn, 5), [1, 3, 9, 3, 3]);
        turn.after = 3;
        assert_eq!(tenants(&turn, 2), [9, 1]);
        turn.after = 9;
        assert_eq!(tenants(&turn, 1), [1]);
        turn.skip = due(&conn, &turn, 2).into_iter().collect();
        assert_eq!(tenants(&turn, 3), [3, 9, 3]);
    }

    #[test]
    fn what_is_due_is_looked_up_by_its_indexes() {
        let (_dir, conn) = database();
        for (sql, index) in [
            (ANY_DUE, "outbox_due"),
            (NEXT_TENANT, "outbox_turn"),
            (DUE_OF_TENANT, "outbox_turn"),
            (NEXT_DUE, "outbox_due"),
            (PROMOTE, "outbox_lane"),
            (ADD, "outbox_lane"),
        ] {
            let mut plan = conn.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let nulls = vec![rusqlite::types::Null; plan.parameter_count()];
            let plan: Vec<String> = plan
                .query_map(rusqlite::params_from_iter(nulls), |row| row.get(3))
                .unwrap()
                .collect::<Result<_, _>>()
                .unwrap();
            let plan = plan.join("\n");
            assert!(plan.contains(index), "{sql}\n{plan}");
            assert!(
                !plan.contains("SCAN outbox\n") && !plan.contains("TEMP"),
                "{plan}"
            );
        }
    }
}
