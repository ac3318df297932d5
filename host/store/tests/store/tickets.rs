//! Changes of tickets: updates and closes by rules, their events, and what finds a closed ticket.

use postroom_core::lookup::{Query, QueryResult, TicketSearch};
use postroom_core::{Action, Event, EventKind, Outcome, Receipt, TicketClose, TicketUpdate, Value};
use postroom_store::{Filter, OutboxKind, RoundRobin, Store, StoreError, Verdict};

use crate::kit::{journal_one, store, ticket, verdict};

async fn change(store: &std::sync::Arc<dyn Store>, name: &str, actions: Vec<Action>) -> Verdict {
    let id = journal_one(store, name).await;
    verdict(id, name, Outcome::Ignored, actions)
}

fn update(change: TicketUpdate) -> Action {
    Action::Update(TicketUpdate {
        ticket: Some("T-1".into()),
        ..change
    })
}

fn close(ticket: &str, reason: &str) -> Action {
    Action::Close(TicketClose {
        ticket: Some(ticket.into()),
        reason: Some(reason.into()),
    })
}

/// Delivers everything to `psa`.
async fn events(store: &std::sync::Arc<dyn Store>) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        let due = store.due_outbox(OutboxKind::Sink, "psa", i64::MAX, 9, RoundRobin::default());
        let due = due.await.unwrap();
        if due.is_empty() {
            return events;
        }
        for entry in due {
            events.push(serde_json::from_str(&entry.payload).unwrap());
            store.delivered(entry.id, Receipt::default()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_ticket_is_updated_and_closed_and_its_targets_hear_of_it() {
    let (_dir, store) = store();
    let id = journal_one(&store, "new").await;
    store.commit(vec![ticket(id, "new")]).await.unwrap();
    let found = |query: Query| match store.listings().lookup("acme", &query, 9).unwrap() {
        QueryResult::Tickets(found) => found.len(),
        other => panic!("{other:?}"),
    };
    let by_field = |value: &str| {
        found(Query::Tickets(TicketSearch::Field(
            "serial".into(),
            value.into(),
        )))
    };
    let fields = |serial: &str| [("serial".to_owned(), Value::from(serial))].into();
    let first = update(TicketUpdate {
        priority: Some("high".into()),
        queue: Some("field".into()),
        tags: Some(vec!["toner".into()]),
        fields: fields("A1"),
        status: Some("pending".into()),
        ..TicketUpdate::default()
    });
    let second = update(TicketUpdate {
        fields: fields("B2"),
        ..TicketUpdate::default()
    });
    for (name, action) in [("u1", first), ("u2", second)] {
        let verdict = change(&store, name, vec![action]).await;
        store.commit(vec![verdict]).await.unwrap();
    }
    assert_eq!((by_field("A1"), by_field("B2")), (0, 1));
    assert_eq!(found(Query::Ticket("T-1".into())), 1);

    for (name, reason) in [("c1", "delivered"), ("c2", "again")] {
        let verdict = change(&store, name, vec![close("T-1", reason)]).await;
        store.commit(vec![verdict]).await.unwrap();
    }
    assert_eq!((by_field("B2"), found(Query::Ticket("T-1".into()))), (0, 0));
    let mut items = store.listings().items(&Filter::default()).unwrap();
    let item = items.next().unwrap().unwrap();
    assert_eq!(
        (item.state.as_str(), item.queue.as_deref()),
        ("closed", Some("field"))
    );
    assert_eq!(item.close_reason.as_deref(), Some("delivered"));
    assert!(item.closed.is_some());
    assert_eq!(item.detail.tags, ["toner"]);

    // Closing it twice is one event.
    let told = events(&store).await;
    let kinds: Vec<EventKind> = told.iter().map(|it| it.kind).collect();
    assert_eq!(
        kinds,
        [
            EventKind::TicketCreated,
            EventKind::TicketUpdated,
            EventKind::TicketUpdated,
            EventKind::TicketClosed
        ]
    );
    assert_eq!(told[1].item.state, "pending");
    assert_eq!(told[1].item.priority.as_deref(), Some("high"));

    let reopened = update(TicketUpdate {
        status: Some("open".into()),
        ..TicketUpdate::default()
    });
    let verdict = change(&store, "again", vec![reopened]).await;
    store.commit(vec![verdict]).await.unwrap();
    assert_eq!(found(Query::Ticket("T-1".into())), 1);
    let told = events(&store).await;
    assert_eq!((told.len(), told[0].kind), (1, EventKind::TicketUpdated));
    assert_eq!(told[0].item.closed, None);
}

#[tokio::test]
async fn another_tenants_ticket_is_not_there_to_be_closed() {
    let (_dir, store) = store();
    let verdict = change(&store, "a", vec![close("T-9", "x")]).await;
    let error = store.commit(vec![verdict]).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSuchTicket { .. }), "{error}");
    assert!(error.affects_single_mail());
}
