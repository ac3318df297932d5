//! Alerts of Postroom itself: raised and resolved once, delivered like any alert, and no mail.

use std::collections::BTreeMap;
use std::sync::Arc;

use postroom_core::{Alert, AlertState, Event, EventKind};
use postroom_store::{Filter, FiringAlert, OutboxKind, OutboxRow, RoundRobin, ServiceAlert, Store};

use crate::kit::*;

const KEY: &str = "postroom/mailbox/support/fresh";

fn change(state: AlertState) -> ServiceAlert {
    ServiceAlert {
        tenant: "acme".into(),
        mailbox: "support".into(),
        alert: Alert {
            key: KEY.into(),
            state,
            severity: None,
            host: None,
            service: Some("postroom".into()),
            summary: Some(format!("{state:?}")),
            fields: BTreeMap::new(),
        },
        sinks: vec!["pager".into()],
    }
}

fn rows(store: &Arc<dyn Store>, filter: &Filter) -> Vec<OutboxRow> {
    let rows = store.listings().outbox(filter).unwrap();
    rows.map(Result::unwrap).collect()
}

fn items(store: &Arc<dyn Store>, filter: &Filter) -> Vec<String> {
    let items = store.listings().items(filter).unwrap();
    items.map(|it| it.unwrap().state).collect()
}

#[tokio::test]
async fn an_alert_changes_state_once_and_each_change_is_delivered_in_order() {
    let (_dir, store) = store();
    // What was never raised is resolved.
    assert!(!store.set_alert(change(AlertState::Resolved)).await.unwrap());
    assert!(store.firing_alerts().await.unwrap().is_empty());
    assert!(store.set_alert(change(AlertState::Firing)).await.unwrap());
    assert!(!store.set_alert(change(AlertState::Firing)).await.unwrap());
    let firing = FiringAlert {
        tenant: "acme".into(),
        mailbox: "support".into(),
        key: KEY.into(),
    };
    assert_eq!(store.firing_alerts().await.unwrap(), [firing]);
    assert!(store.set_alert(change(AlertState::Resolved)).await.unwrap());
    assert!(!store.set_alert(change(AlertState::Resolved)).await.unwrap());
    assert!(store.firing_alerts().await.unwrap().is_empty());

    let mut keys = Vec::new();
    for (kind, state) in [
        (EventKind::AlertFiring, "firing"),
        (EventKind::AlertResolved, "resolved"),
    ] {
        let turn = RoundRobin::default();
        let due = store
            .due_outbox(OutboxKind::Sink, "pager", i64::MAX - 1, 9, turn)
            .await
            .unwrap();
        // The second change waits behind the first.
        assert_eq!(due.len(), 1);
        let event: Event = serde_json::from_str(&due[0].payload).unwrap();
        assert_eq!((event.kind, event.item.state.as_str()), (kind, state));
        assert_eq!(
            (event.mailbox.as_str(), event.message_id, event.decision),
            ("support", None, None)
        );
        keys.push(due[0].idempotency_key.clone());
        store.delivered(due[0].id, "200".into()).await.unwrap();
    }
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn an_alert_is_listed_with_its_mailbox_and_is_no_mail() {
    let (_dir, store) = store();
    store.set_alert(change(AlertState::Firing)).await.unwrap();
    let of = |mailbox: &str| Filter {
        mailbox: Some(mailbox.into()),
        ..Filter::default()
    };
    for filter in [Filter::default(), of("support")] {
        assert_eq!(items(&store, &filter), ["firing"]);
        let listed = rows(&store, &filter);
        let about: Vec<_> = listed.iter().map(|it| it.alert_key.as_deref()).collect();
        assert_eq!(about, [Some(KEY)]);
        assert_eq!(listed[0].decision, None);
    }
    assert!(items(&store, &of("alarms")).is_empty());
    assert!(rows(&store, &of("alarms")).is_empty());
    let limited = Filter {
        limit: Some(1),
        ..Filter::default()
    };
    assert_eq!(items(&store, &limited), ["firing"]);
    let listings = store.listings();
    assert!(listings.ledger(&Filter::default()).unwrap().is_empty());
    assert_eq!(store.outbox_waiting_of("acme").await.unwrap(), 1);
}

#[tokio::test]
async fn an_alert_without_sinks_is_listed_and_goes_nowhere() {
    let (dir, store) = store();
    let to_nobody = ServiceAlert {
        sinks: Vec::new(),
        ..change(AlertState::Firing)
    };
    assert!(store.set_alert(to_nobody).await.unwrap());
    assert_eq!(items(&store, &Filter::default()), ["firing"]);
    assert!(rows(&store, &Filter::default()).is_empty());
    // The next run knows it.
    store.close().await;
    drop(store);
    assert_eq!(open(dir.path()).firing_alerts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_delivered_alert_loses_its_payload_with_mail_of_its_age() {
    let (_dir, store) = store();
    store.set_alert(change(AlertState::Firing)).await.unwrap();
    let entry = rows(&store, &Filter::default())[0].id;
    let payload = || {
        let entry = store.listings().outbox_entry(entry).unwrap();
        entry.unwrap().payload
    };
    store.purge(i64::MAX - 1).await.unwrap();
    assert!(payload().is_object());
    store.delivered(entry, "200".into()).await.unwrap();
    store.purge(i64::MAX - 1).await.unwrap();
    assert!(payload().is_null());
}
