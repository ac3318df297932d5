//! The outbox: payloads, keys, order and retries.

use std::sync::Arc;

use postroom_core::{
    Action, Event, EventKind, ExternalRef, ItemKind, MailKind, OutgoingMail, Receipt,
};
use postroom_store::{OutboxKind, RoundRobin, Store};

use crate::kit::*;

const LATER: i64 = i64::MAX - 1;

/// Returns the due entries, each with its decision.
async fn due(store: &Arc<dyn Store>, target: &str) -> Vec<(i64, i64)> {
    let entries = store
        .due_outbox(OutboxKind::Sink, target, LATER, 99, RoundRobin::default())
        .await
        .unwrap();
    entries
        .into_iter()
        .filter_map(|entry| Some((entry.id, entry.decision?.0)))
        .collect()
}

async fn sent(store: &Arc<dyn Store>, target: &str) -> Vec<i64> {
    due(store, target)
        .await
        .into_iter()
        .map(|(_, of)| of)
        .collect()
}

#[tokio::test]
async fn an_item_goes_once_to_every_sink_of_its_kind() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let entries = store
        .due_outbox(OutboxKind::Sink, "psa", LATER, 9, RoundRobin::default())
        .await
        .unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(sent(&store, "chat").await, [id.0]);
    assert!(due(&store, "pager").await.is_empty());
    assert_eq!(store.outbox_waiting().await.unwrap(), 2);

    let entry = &entries[0];
    assert_eq!(
        (entry.kind, entry.tenant.as_str()),
        (OutboxKind::Sink, "acme")
    );
    let event: Event = serde_json::from_str(&entry.payload).unwrap();
    assert_eq!(event.kind, EventKind::TicketCreated);
    assert!(event.timestamp.ends_with('Z'));
    let item = &event.item;
    assert_eq!(
        (item.ticket.as_deref(), item.kind),
        (Some("T-1"), ItemKind::Ticket)
    );
    assert_eq!(
        (item.title.as_deref(), item.body.as_deref()),
        (Some("a"), Some("It burns"))
    );
    assert_eq!(
        (event.mailbox.as_str(), event.message_id.as_deref()),
        ("support", Some("a@x"))
    );
    assert_eq!(event.decision, Some(id.0));
}

#[tokio::test]
async fn a_reply_names_the_new_ticket_and_threads() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    let mut verdict = ticket(id, "a");
    verdict.mail.references = vec!["newer@y".into(), "older@y".into()];
    conclusion(&mut verdict)
        .decision
        .actions
        .push(reply("This is {ticket}."));
    let to = vec!["Boss <boss@acme.example>".to_owned()];
    conclusion(&mut verdict)
        .decision
        .actions
        .push(Action::Forward { to });
    store.commit(vec![verdict]).await.unwrap();

    // The second mail of a ticket waits for the first.
    let entries = store
        .due_outbox(OutboxKind::Mail, "out", LATER, 9, RoundRobin::default())
        .await
        .unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].decision.map(|it| it.0), Some(id.0));
    let mail: OutgoingMail = serde_json::from_str(&entries[0].payload).unwrap();
    assert_eq!(mail.kind, MailKind::Reply);
    assert_eq!(mail.to[0].email, "Ann@acme.example");
    assert_eq!(mail.subject, "Re: [T-1] About a");
    assert_eq!(mail.text, "This is T-1.");
    assert_eq!(mail.in_reply_to.as_deref(), Some("a@x"));
    assert_eq!(mail.references, ["older@y", "newer@y", "a@x"]);
    let (local, domain) = mail.message_id.split_once('@').unwrap();
    assert_eq!((local.len(), domain), (32, "acme.example"));

    store
        .delivered(entries[0].id, "250 ok".into())
        .await
        .unwrap();
    let entries = store
        .due_outbox(OutboxKind::Mail, "out", LATER, 9, RoundRobin::default())
        .await
        .unwrap();
    let mail: OutgoingMail = serde_json::from_str(&entries[0].payload).unwrap();
    assert_eq!(
        (mail.kind, mail.to[0].email.as_str()),
        (MailKind::Forward, "boss@acme.example")
    );
    assert_eq!(mail.subject, "Fwd: About a");
}

#[tokio::test]
async fn entries_of_a_ticket_keep_their_order_within_a_target() {
    let (_dir, store) = store();
    let ids: Vec<_> = journal(&store, &["a", "b", "c"])
        .await
        .iter()
        .map(|j| j.id())
        .collect();
    let verdicts = vec![
        ticket(ids[0], "a"),
        note(ids[1], "b", "T-1", true),
        ticket(ids[2], "c"),
    ];
    store.commit(verdicts).await.unwrap();
    let of = |n: usize| ids[n].0;

    let first = due(&store, "psa").await;
    assert_eq!(sent(&store, "psa").await, [of(0), of(2)]);
    // A retry delays those behind it, but no other ticket and no other target.
    store.refused(first[0].0, "503", LATER + 1).await.unwrap();
    assert_eq!(sent(&store, "psa").await, [of(2)]);
    store.delivered(first[1].0, "200".into()).await.unwrap();
    let next = async |after| {
        store
            .next_outbox_due(OutboxKind::Sink, "psa", after)
            .await
            .unwrap()
    };
    assert_eq!(
        (next(0).await, next(LATER).await),
        (Some(LATER + 1), Some(LATER + 1))
    );
    assert_eq!(next(LATER + 1).await, None);
    assert_eq!(sent(&store, "chat").await.len(), 2);

    // Once it is dead, they continue.
    store.gave_up(first[0].0, "410").await.unwrap();
    let behind = store
        .due_outbox(OutboxKind::Sink, "psa", LATER + 1, 9, RoundRobin::default())
        .await
        .unwrap();
    assert_eq!(behind[0].decision.map(|it| it.0), Some(of(1)));
    store.delivered(behind[0].id, "200".into()).await.unwrap();
    assert_eq!(next(0).await, None);

    let rows: Vec<_> = store
        .listings()
        .outbox(&Default::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let psa: Vec<_> = rows.iter().filter(|row| row.target == "psa").collect();
    let states: Vec<_> = psa.iter().map(|row| (row.state, row.attempts)).collect();
    assert_eq!(states, [("dead", 2), ("delivered", 1), ("delivered", 1)]);
    assert_eq!(psa[0].error.as_deref(), Some("410"));
    assert_eq!(psa[1].receipt.as_deref(), Some("200"));
}

#[tokio::test]
async fn what_is_held_back_stays_due_loses_no_try_and_tells_why() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let before = due(&store, "psa").await;
    for reason in ["nobody is signed in", "refused", "refused"] {
        store.held_back(before[0].0, reason).await.unwrap();
    }
    assert_eq!(due(&store, "psa").await, before);
    let rows: Vec<_> = store
        .listings()
        .outbox(&Default::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let row = rows.iter().find(|row| row.target == "psa").unwrap();
    assert_eq!((row.state, row.attempts), ("waiting", 0));
    assert_eq!(row.error.as_deref(), Some("refused"));
}

#[tokio::test]
async fn what_a_target_calls_a_ticket_comes_with_what_it_is_told_next() {
    let (_dir, store) = store();
    let opened = journal_one(&store, "a").await;
    let noted = journal_one(&store, "b").await;
    store.commit(vec![ticket(opened, "a")]).await.unwrap();
    let note = note(noted, "b", "T-1", true);
    store.commit(vec![note]).await.unwrap();
    let entry = async |target| {
        let entries = store
            .due_outbox(OutboxKind::Sink, target, LATER, 9, RoundRobin::default())
            .await;
        entries.unwrap().remove(0)
    };
    let external = ExternalRef {
        id: "4711".into(),
        number: Some("INC-9".into()),
        url: None,
    };
    let first = entry("psa").await;
    assert_eq!(first.reference, None);
    let receipt = Receipt {
        status: "201".into(),
        external: Some(external.clone()),
        ..Receipt::default()
    };
    store.delivered(first.id, receipt).await.unwrap();
    let second = entry("psa").await;
    assert_eq!(
        (second.decision.map(|it| it.0), second.reference),
        (Some(noted.0), Some(external))
    );
    // Another target has a different reference for it, or none.
    store
        .delivered(entry("chat").await.id, "200".into())
        .await
        .unwrap();
    assert_eq!(entry("chat").await.reference, None);
}

#[tokio::test]
async fn a_late_answer_changes_nothing() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let entry = due(&store, "psa").await[0].0;
    store.delivered(entry, "200".into()).await.unwrap();
    store.refused(entry, "timeout", 0).await.unwrap();
    store.gave_up(entry, "timeout").await.unwrap();
    assert!(due(&store, "psa").await.is_empty());
    let rows: Vec<_> = store
        .listings()
        .outbox(&Default::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!((rows[0].state, rows[0].attempts), ("delivered", 1));
}

#[tokio::test]
async fn a_sink_and_an_outgoing_of_one_name_share_nothing() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    let mut verdict = ticket(id, "a");
    outlets(&mut verdict).routes.ticket = vec!["out".into()];
    conclusion(&mut verdict)
        .decision
        .actions
        .push(reply("Noted"));
    store.commit(vec![verdict]).await.unwrap();

    let of = async |kind| {
        store
            .due_outbox(kind, "out", LATER, 1, RoundRobin::default())
            .await
            .unwrap()
    };
    let (sink, sent) = (of(OutboxKind::Sink).await, of(OutboxKind::Mail).await);
    assert_eq!((sink.len(), sent.len()), (1, 1));
    assert_eq!(
        (sink[0].kind, sent[0].kind),
        (OutboxKind::Sink, OutboxKind::Mail)
    );
    // The mail does not wait for the sink, although both concern one ticket.
    store.refused(sink[0].id, "503", LATER + 1).await.unwrap();
    assert_eq!(of(OutboxKind::Mail).await, sent);
    let next = async |kind| store.next_outbox_due(kind, "out", 0).await.unwrap();
    assert_eq!(next(OutboxKind::Sink).await, Some(LATER + 1));
    assert_eq!(next(OutboxKind::Mail).await, Some(sent[0].created_ms));
}
