//! The outbox, as changed by a person: retry, drop, partial deliveries, and how much waits.

use std::sync::Arc;

use postroom_core::AlertState;
use postroom_store::{
    Control, Filter, OutboxChange, OutboxKind, OutboxRow, OutboxSelection, RoundRobin, Store,
    StoreLimits,
};

use crate::kit::*;

const LATER: i64 = i64::MAX - 1;

/// Creates `count` entries of one alert for the sink `pager`. Returns their ids.
async fn lane(store: &Arc<dyn Store>, count: usize) -> Vec<i64> {
    for n in 0..count {
        let name = format!("alarm-{n}");
        let id = journal_one(store, &name).await;
        store
            .commit(vec![alert(id, &name, "disk/db1", AlertState::Firing)])
            .await
            .unwrap();
    }
    rows(store).iter().map(|row| row.id).collect()
}

fn rows(store: &Arc<dyn Store>) -> Vec<OutboxRow> {
    let rows = store.listings().outbox(&Filter::default()).unwrap();
    rows.map(Result::unwrap).collect()
}

async fn due(store: &Arc<dyn Store>) -> Vec<i64> {
    let due = store
        .due_outbox(OutboxKind::Sink, "pager", LATER, 99, RoundRobin::default())
        .await
        .unwrap();
    due.into_iter().map(|entry| entry.id).collect()
}

fn retry(dir: &tempfile::TempDir, wanted: OutboxSelection) -> Vec<OutboxChange> {
    let changes = control(dir.path(), StoreLimits::default())
        .retry_outbox(&wanted)
        .unwrap();
    changes.into_iter().map(|(_, change)| change).collect()
}

fn dropped(dir: &tempfile::TempDir, ids: &[i64]) -> Vec<OutboxChange> {
    let changes = control(dir.path(), StoreLimits::default())
        .drop_outbox(ids, "ann", Some("by phone"))
        .unwrap();
    changes.into_iter().map(|(_, change)| change).collect()
}

#[tokio::test]
async fn a_dead_entry_that_is_retried_goes_first_again() {
    let (dir, store) = store();
    let ids = lane(&store, 3).await;
    store.refused(ids[0], "422", 0).await.unwrap();
    store.gave_up(ids[0], "422").await.unwrap();
    assert_eq!(due(&store).await, ids[1..2], "a dead one blocks nobody");
    let changes = store.outbox_changes().await.unwrap();
    let key = rows(&store)[0].idempotency_key.clone();

    let all_dead = OutboxSelection::Dead { target: None };
    assert_eq!(retry(&dir, all_dead.clone()), [OutboxChange::Changed]);
    assert!(
        store.outbox_changes().await.unwrap() > changes,
        "a running service sees it"
    );
    assert_eq!(due(&store).await, ids[..1]);
    let row = &rows(&store)[0];
    assert_eq!(
        (row.state, row.attempts, &row.refused),
        ("waiting", 0, &None)
    );
    assert_eq!(row.idempotency_key, key);
    for id in &ids {
        assert_eq!(due(&store).await, [*id]);
        store.delivered(*id, "204".into()).await.unwrap();
    }
    assert!(due(&store).await.is_empty() && retry(&dir, all_dead).is_empty());
    assert_eq!(store.outbox_waiting().await.unwrap(), 0);
    let delivered = OutboxSelection::Entries(vec![ids[0], 999]);
    assert_eq!(
        retry(&dir, delivered),
        [OutboxChange::Ended("delivered"), OutboxChange::Unknown]
    );
}

#[tokio::test]
async fn a_retry_makes_what_waits_for_a_target_due_now() {
    let (dir, store) = store();
    let ids = lane(&store, 2).await;
    store.refused(ids[0], "422", LATER).await.unwrap();
    let now = jiff::Timestamp::now().as_millisecond();
    let next = async || {
        store
            .next_outbox_due(OutboxKind::Sink, "pager", now)
            .await
            .unwrap()
    };
    assert_eq!(next().await, Some(LATER));
    let changed = retry(&dir, OutboxSelection::Target("pager".into()));
    assert_eq!(changed, [OutboxChange::Changed; 2]);
    assert!(next().await.is_none_or(|due| due < LATER));
    assert_eq!(due(&store).await, ids[..1]);
}

#[tokio::test]
async fn a_dropped_entry_ends_and_tells_who_and_why() {
    let (dir, store) = store();
    let ids = lane(&store, 2).await;
    assert_eq!(dropped(&dir, &ids[..1]), [OutboxChange::Changed]);
    assert_eq!(due(&store).await, ids[1..]);
    let row = &rows(&store)[0];
    assert_eq!(row.state, "dropped");
    assert_eq!(row.dropped_by.as_deref(), Some("ann"));
    assert_eq!(row.dropped_reason.as_deref(), Some("by phone"));
    assert!(row.finished.is_some() && row.due.is_none());
    assert_eq!(dropped(&dir, &ids[..1]), [OutboxChange::Ended("dropped")]);
    assert_eq!(
        retry(&dir, OutboxSelection::Entries(ids[..1].to_vec())),
        [OutboxChange::Ended("dropped")]
    );
    assert_eq!(store.outbox_waiting().await.unwrap(), 1);
    // It was in progress, and arrived.
    store.delivered(ids[0], "204".into()).await.unwrap();
    assert_eq!(rows(&store)[0].state, "delivered");
    assert_eq!(store.outbox_waiting().await.unwrap(), 1);
}

#[tokio::test]
async fn a_partial_delivery_keeps_the_entry_for_the_rest() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    let mut verdict = ticket(id, "a");
    conclusion(&mut verdict)
        .decision
        .actions
        .push(reply("Noted"));
    store.commit(vec![verdict]).await.unwrap();
    let of = async || {
        store
            .due_outbox(OutboxKind::Mail, "out", LATER, 1, RoundRobin::default())
            .await
            .unwrap()
            .remove(0)
    };
    let before = of().await;
    store
        .partly_delivered(before.id, "{}".into(), "250 two", "deferred: 451", 5)
        .await
        .unwrap();
    let after = of().await;
    assert_eq!(after.payload, "{}");
    assert_eq!(after.idempotency_key, before.idempotency_key);
    store.delivered(after.id, "250 rest".into()).await.unwrap();
    let row = rows(&store)
        .into_iter()
        .find(|row| row.id == after.id)
        .unwrap();
    assert_eq!(row.receipt.as_deref(), Some("250 two; 250 rest"));
}

#[tokio::test]
async fn what_waits_is_counted_by_tenant_and_target() {
    let (_dir, store) = store();
    let ids = lane(&store, 3).await;
    assert_eq!(store.outbox_waiting_of("acme").await.unwrap(), 3);
    assert_eq!(store.outbox_waiting_of("globex").await.unwrap(), 0);
    store.delivered(ids[0], "204".into()).await.unwrap();
    store.gave_up(ids[1], "422").await.unwrap();
    let waiting = store.outbox_waiting_by_target().await.unwrap();
    assert_eq!(waiting, [(OutboxKind::Sink, "pager".to_owned(), 1)]);
}

#[tokio::test]
async fn a_row_tells_what_it_is_about() {
    let (_dir, store) = store();
    lane(&store, 1).await;
    let id = journal_one(&store, "a").await;
    let mut verdict = ticket(id, "a");
    conclusion(&mut verdict)
        .decision
        .actions
        .push(reply("Noted"));
    store.commit(vec![verdict]).await.unwrap();
    let rows = rows(&store);
    assert_eq!(rows[0].alert_key.as_deref(), Some("disk/db1"));
    let psa = rows.iter().find(|row| row.target == "psa").unwrap();
    assert_eq!(psa.ticket.as_deref(), Some("T-1"));
    assert_eq!(psa.title.as_deref(), Some("a"));
    let mail = rows.iter().find(|row| row.target == "out").unwrap();
    assert_eq!(mail.to, ["Ann@acme.example"]);
    assert_eq!(mail.title.as_deref(), Some("Re: [T-1] About a"));
    let detail = store.listings().outbox_entry(mail.id).unwrap().unwrap();
    assert_eq!(detail.payload["text"], "Noted");
    assert!(store.listings().outbox_entry(99).unwrap().is_none());
}
