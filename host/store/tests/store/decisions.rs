//! Commits: tickets, notes, alerts, threads, memory, listings and the ledger.

use std::sync::Arc;

use postroom_core::{Action, AlertState, ItemKind, Outcome, OutgoingMail, ThreadQuery};
use postroom_store::{
    DecisionId, Filter, JournalBatch, JournalId, KvRead, KvWrite, OutboxKind, RoundRobin, Store,
    StoreError,
};
use serde_json::{Value, json};

use crate::kit::*;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn keys(row: &impl serde::Serialize) -> Vec<String> {
    // Taken directly from the text, because a map would sort them.
    let text = serde_json::to_string(row).unwrap();
    let value: Value = serde_json::from_str(&text).unwrap();
    let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
    keys.sort_by_key(|key| text.find(&format!("\"{key}\":")));
    keys
}

#[tokio::test]
async fn tickets_are_numbered_in_one_sequence_and_a_mail_is_decided_once() {
    let (_dir, store) = store();
    let [a, b] = [
        journal_one(&store, "a").await,
        journal_one(&store, "b").await,
    ];
    let mut two = ticket(b, "b");
    let actions = &mut conclusion(&mut two).decision.actions;
    actions.push(actions[0].clone());
    let committed = store.commit(vec![ticket(a, "a"), two]).await.unwrap();
    assert_eq!(committed[0].decision_id, DecisionId(a.0));
    assert_eq!(committed[0].tickets, ["T-1"]);
    assert_eq!(committed[1].tickets, ["T-2", "T-3"]);

    let c = journal_one(&store, "c").await;
    let error = store.commit(vec![ticket(c, "c"), ticket(a, "a")]).await;
    assert!(matches!(error, Err(StoreError::AlreadyDecided { journal }) if journal == a));
    assert_eq!(
        store.listings().items(&Filter::default()).unwrap().count(),
        3
    );
    assert_eq!(store.pending("support", 9).await.unwrap().len(), 1);
    let error = store.commit(vec![ignored(JournalId(77), "?")]).await;
    assert!(matches!(error, Err(StoreError::UnknownMail { .. })));
    // None of the refused ones took a number.
    let committed = store.commit(vec![ticket(c, "c")]).await.unwrap();
    assert_eq!(committed[0].tickets, ["T-4"]);
}

#[tokio::test]
async fn one_refused_job_does_not_spoil_those_it_is_grouped_with() {
    let (_dir, store) = store();
    let names: Vec<String> = (0..40).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mails = journal(&store, &names).await;
    let jobs = mails
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(n, (mail, name))| {
            let verdict = match n % 4 {
                3 => note(mail.id(), name, "T-999", true),
                _ => ticket(mail.id(), name),
            };
            store.commit(vec![verdict])
        });
    let outcomes = futures_join(jobs).await;
    for (n, outcome) in outcomes.iter().enumerate() {
        match outcome {
            Ok(_) => assert_ne!(n % 4, 3),
            Err(StoreError::NoSuchTicket { ticket, .. }) => {
                assert_eq!((n % 4, ticket.as_str()), (3, "T-999"));
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert_eq!(
        store.listings().items(&Filter::default()).unwrap().count(),
        30
    );
    assert_eq!(store.pending("support", 99).await.unwrap().len(), 10);
    assert!(imbalance(&*store.listings()).is_empty());
}

async fn futures_join<F, T>(jobs: impl Iterator<Item = F>) -> Vec<T>
where
    F: Future<Output = T>,
{
    let mut jobs: Vec<_> = jobs.map(Box::pin).collect();
    let mut outcomes: Vec<Option<T>> = jobs.iter().map(|_| None).collect();
    std::future::poll_fn(|cx| {
        for (job, outcome) in jobs.iter_mut().zip(&mut outcomes) {
            if outcome.is_none()
                && let std::task::Poll::Ready(value) = job.as_mut().poll(cx)
            {
                *outcome = Some(value);
            }
        }
        match outcomes.iter().all(Option::is_some) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    outcomes.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_thread_is_found_by_references_then_by_subject_within_the_tenant() {
    let (_dir, store) = store();
    assert_eq!(open_ticket(&store, "a").await, "T-1");
    assert_eq!(open_ticket(&store, "b").await, "T-2");
    let find = |tenant: &str, references: &[&str], subject: &str| {
        let query = query(references, subject, Some("ann@acme.example"));
        thread_of(&store, tenant, &query)
            .map(|thread| (thread.ticket, thread.method.name(), thread.authorised))
    };
    let by = |ticket: &str, method: &'static str| Some((ticket.to_owned(), method, true));
    assert_eq!(
        find("acme", &["?@x", "a@x"], "[T-2]"),
        by("T-1", "message-id")
    );
    assert_eq!(find("acme", &[], "Re: [T-2] b"), by("T-2", "subject"));
    assert_eq!(find("acme", &[], "T-9 or #2"), by("T-2", "subject"));
    assert_eq!(find("acme", &["?@x"], "nothing"), None);
    assert_eq!(find("bolt", &["a@x"], "[T-1]"), None);

    // A mail noted on the ticket, and a mail that we sent, lead to it as well.
    let id = journal_one(&store, "c").await;
    let mut noted = note(id, "c", "T-2", true);
    conclusion(&mut noted)
        .decision
        .actions
        .push(reply("Noted on {ticket}"));
    store.commit(vec![noted]).await.unwrap();
    assert_eq!(find("acme", &["c@x"], ""), by("T-2", "message-id"));
    let sent = store
        .due_outbox(OutboxKind::Mail, "out", i64::MAX, 1, RoundRobin::default())
        .await;
    let sent: OutgoingMail = serde_json::from_str(&sent.unwrap().remove(0).payload).unwrap();
    let ours = sent.message_id;
    assert_eq!(find("acme", &[&ours], ""), by("T-2", "own-message-id"));
    assert_eq!(find("bolt", &[&ours], ""), None);

    // The same Message-ID in another tenant stays with that tenant.
    let other = JournalBatch {
        tenant: "bolt".into(),
        mailbox: "bolt".into(),
        ..batch(vec![mail("d")])
    };
    let other = store.journal(other).await.unwrap()[0].id();
    store.commit(vec![ticket(other, "d")]).await.unwrap();
    assert_eq!(find("acme", &["d@x"], "[T-3]"), None);
    assert_eq!(find("bolt", &["d@x"], ""), by("T-3", "message-id"));
    assert!(store.listings().ticket_exists("bolt", "T-3").unwrap());
    for absent in ["T-1", "T-", "3", "T-99"] {
        assert!(
            !store.listings().ticket_exists("bolt", absent).unwrap(),
            "{absent}"
        );
    }
}

#[tokio::test]
async fn only_those_on_the_ticket_or_of_the_same_client_are_authorised() {
    let (_dir, store) = store();
    open_ticket(&store, "a").await;
    let may = |sender: Option<&str>, is_client: bool, is_staff: bool| {
        let query = ThreadQuery {
            is_client,
            is_staff,
            ..query(&["a@x"], "", sender)
        };
        thread_of(&store, "acme", &query).unwrap().authorised
    };
    assert!(may(Some("ANN@acme.example"), false, false));
    assert!(may(Some("bob@partner.example"), false, false));
    assert!(may(Some("new@acme.example"), true, false));
    assert!(may(Some("tom@msp.example"), false, true));
    assert!(!may(Some("new@acme.example"), false, false));
    assert!(!may(Some("nodomain"), false, false));
    assert!(!may(None, false, false));
}

#[tokio::test]
async fn an_alert_is_one_item_by_tenant_and_key() {
    let (_dir, store) = store();
    for (name, state) in [
        ("a", AlertState::Firing),
        ("b", AlertState::Firing),
        ("c", AlertState::Resolved),
    ] {
        let id = journal_one(&store, name).await;
        store
            .commit(vec![alert(id, name, "disk", state)])
            .await
            .unwrap();
    }
    let other = JournalBatch {
        tenant: "bolt".into(),
        mailbox: "bolt".into(),
        ..batch(vec![mail("d")])
    };
    let other = store.journal(other).await.unwrap()[0].id();
    store
        .commit(vec![alert(other, "d", "disk", AlertState::Firing)])
        .await
        .unwrap();

    let items: Vec<_> = store
        .listings()
        .items(&Filter::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(items.len(), 2);
    assert_eq!(
        (items[0].state.as_str(), items[0].count),
        ("resolved", Some(3))
    );
    // Fields that the recovery left out stay unchanged.
    assert_eq!(items[0].priority.as_deref(), Some("critical"));
    assert_eq!(items[0].detail.host.as_deref(), Some("db1"));
    assert_eq!(items[0].title.as_deref(), Some("disk is Resolved"));
    assert_eq!(
        (items[1].state.as_str(), items[1].tenant.as_str()),
        ("firing", "bolt")
    );

    let events: Vec<Value> = store
        .due_outbox(
            OutboxKind::Sink,
            "pager",
            i64::MAX,
            1,
            RoundRobin::default(),
        )
        .await
        .unwrap()
        .iter()
        .map(|entry| serde_json::from_str(&entry.payload).unwrap())
        .collect();
    assert_eq!(events[0]["kind"], "alert.firing");
    assert_eq!(events[0]["item"]["alert_key"], "disk");
}

#[tokio::test]
async fn a_rule_remembers_per_tenant_and_only_with_its_decision() {
    let (_dir, store) = store();
    let write = |key: &str, value: Option<&str>| KvWrite {
        rule: "r".into(),
        key: key.into(),
        value: value.map(str::to_owned),
    };
    let [a, b, c] = [
        journal_one(&store, "a").await,
        journal_one(&store, "b").await,
        journal_one(&store, "c").await,
    ];
    let mut first = ignored(a, "a");
    conclusion(&mut first).kv_writes = vec![
        write("k", Some("1")),
        write("l", Some("2")),
        write("k", Some("3")),
    ];
    conclusion(&mut first).kv_reads = vec![KvRead {
        rule: "r".into(),
        key: "k".into(),
        value: None,
    }];
    store.commit(vec![first]).await.unwrap();
    assert_eq!(
        store.listings().kv("acme", "r", "k").unwrap().as_deref(),
        Some("3")
    );
    assert_eq!(store.listings().kv("bolt", "r", "k").unwrap(), None);
    assert_eq!(store.listings().kv("acme", "s", "k").unwrap(), None);
    assert_eq!(store.listings().kv_usage("acme", "r").unwrap(), (2, 4));

    let mut refused = note(b, "b", "T-404", true);
    conclusion(&mut refused).kv_writes = vec![write("k", Some("lost"))];
    store.commit(vec![refused]).await.unwrap_err();
    let mut second = ignored(c, "c");
    conclusion(&mut second).kv_writes = vec![write("l", None)];
    store.commit(vec![second]).await.unwrap();
    assert_eq!(
        store.listings().kv("acme", "r", "k").unwrap().as_deref(),
        Some("3")
    );
    assert_eq!(store.listings().kv("acme", "r", "l").unwrap(), None);

    let rows: Vec<_> = store
        .listings()
        .decisions(&Filter::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(rows[0].kv_reads[0].key, "k");
}

/// Creates one mail of each outcome and one pending; the pending and the ignored one are a day later.
async fn a_mixed_day(store: &Arc<dyn Store>) -> Vec<JournalId> {
    let mut ids: Vec<JournalId> = journal(store, &["a", "b", "c", "d"])
        .await
        .iter()
        .map(|j| j.id())
        .collect();
    let next_day = JournalBatch {
        received_ms: NOON_MS + DAY_MS,
        ..batch(vec![mail("e"), mail("f")])
    };
    ids.extend(
        store
            .journal(next_day)
            .await
            .unwrap()
            .iter()
            .map(|j| j.id()),
    );
    let verdicts = vec![
        ticket(ids[0], "a"),
        note(ids[1], "b", "T-1", true),
        alert(ids[2], "c", "disk", AlertState::Firing),
        quarantined(ids[3], "d"),
        ignored(ids[4], "e"),
    ];
    store.commit(verdicts).await.unwrap();
    ids
}

#[tokio::test]
async fn the_ledger_counts_every_mail_once_by_mailbox_and_utc_day() {
    let (_dir, store) = store();
    a_mixed_day(&store).await;
    let rows = store.listings().ledger(&Filter::default()).unwrap();
    assert_eq!(
        serde_json::to_value(&rows).unwrap(),
        json!([
            {"mailbox": "support", "day": "2025-07-20", "seen": 4, "tickets": 1, "notes": 1, "alerts": 1,
             "ignored": 0, "quarantined": 1, "pending": 0, "repeated": 0},
            {"mailbox": "support", "day": "2025-07-21", "seen": 2, "tickets": 0, "notes": 0, "alerts": 0,
             "ignored": 1, "quarantined": 0, "pending": 1, "repeated": 0},
        ])
    );
    assert!(imbalance(&*store.listings()).is_empty());
    let since = Filter {
        since_ms: Some(NOON_MS + DAY_MS + 1),
        ..Filter::default()
    };
    assert_eq!(
        store.listings().ledger(&since).unwrap().len(),
        1,
        "whole days count"
    );
    let none = Filter {
        tenant: Some("bolt".into()),
        ..Filter::default()
    };
    assert!(store.listings().ledger(&none).unwrap().is_empty());
}

#[tokio::test]
async fn listings_have_the_promised_keys_in_order() {
    let (_dir, store) = store();
    a_mixed_day(&store).await;
    let all = Filter::default();
    let decisions: Vec<_> = store
        .listings()
        .decisions(&all)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        keys(&decisions[0]),
        [
            "id",
            "tenant",
            "mailbox",
            "message_id",
            "received",
            "from",
            "subject",
            "outcome",
            "rule",
            "rule_hash",
            "generation",
            "ticket",
            "alert_key",
            "alert_state",
            "thread",
            "actions",
            "refused",
            "repairs",
            "elapsed_us"
        ]
    );
    let line = serde_json::to_value(&decisions[2]).unwrap();
    assert_eq!(line["received"], "2025-07-20T12:00:00.000Z");
    assert_eq!(line["from"], "Ann@acme.example");
    assert_eq!(
        (&line["alert_key"], &line["alert_state"]),
        (&json!("disk"), &json!("firing"))
    );
    assert_eq!(
        serde_json::to_value(&decisions[1]).unwrap()["ticket"],
        "T-1"
    );

    let items: Vec<_> = store
        .listings()
        .items(&all)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        keys(&items[0])[..12],
        [
            "id", "kind", "tenant", "ticket", "title", "body", "priority", "queue", "fields",
            "state", "created", "updated"
        ]
    );
    assert_eq!(items.len(), 3);
    assert!(
        items[0].updated >= items[1].created,
        "a note updates its ticket"
    );

    let quarantine: Vec<_> = store
        .listings()
        .quarantine(&all)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(
        (quarantine.len(), quarantine[0].reason.as_str()),
        (1, "odd")
    );
    let shown = store
        .listings()
        .quarantined(quarantine[0].id)
        .unwrap()
        .unwrap();
    assert_eq!((shown.raw, shown.whole), (mail("d").bytes, true));
    assert!(
        store
            .listings()
            .quarantined(decisions[0].id)
            .unwrap()
            .is_none()
    );
}

#[tokio::test]
async fn listings_are_narrowed_and_limited_to_the_newest() {
    let (_dir, store) = store();
    a_mixed_day(&store).await;
    let names: Vec<String> = (0..700).map(|n| format!("m{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mails = journal(&store, &names).await;
    let verdicts = mails
        .iter()
        .zip(&names)
        .map(|(m, name)| ignored(m.id(), name));
    store.commit(verdicts.collect()).await.unwrap();

    let count = |filter: Filter| {
        store
            .listings()
            .decisions(&filter)
            .unwrap()
            .map(Result::unwrap)
            .count()
    };
    assert_eq!(count(Filter::default()), 705);
    let some = Filter::default;
    assert_eq!(
        count(Filter {
            outcome: Some(Outcome::Ignored),
            ..some()
        }),
        701
    );
    assert_eq!(
        count(Filter {
            mailbox: Some("sales".into()),
            ..some()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            since_ms: Some(NOON_MS + 1),
            ..some()
        }),
        1
    );
    assert_eq!(
        count(Filter {
            limit: Some(0),
            ..some()
        }),
        0
    );
    assert_eq!(
        count(Filter {
            limit: Some(9_999),
            ..some()
        }),
        705
    );
    let last = Filter {
        limit: Some(3),
        outcome: Some(Outcome::Ignored),
        ..some()
    };
    let subjects: Vec<_> = store
        .listings()
        .decisions(&last)
        .unwrap()
        .map(|row| row.unwrap().subject)
        .collect();
    assert_eq!(subjects, ["About m697", "About m698", "About m699"]);
    let notes = Filter {
        kind: Some(ItemKind::Note),
        ..some()
    };
    assert_eq!(store.listings().items(&notes).unwrap().count(), 1);
    let mine = Filter {
        tenant: Some("acme".into()),
        limit: Some(2),
        ..some()
    };
    assert_eq!(store.listings().items(&mine).unwrap().count(), 2);
    assert_eq!(store.listings().outbox(&mine).unwrap().count(), 2);
}

#[tokio::test]
async fn what_cannot_be_answered_is_refused_and_recorded() {
    let (_dir, store) = store();
    let [a, b] = [
        journal_one(&store, "a").await,
        journal_one(&store, "b").await,
    ];
    let mut senderless = ticket(a, "a");
    senderless.mail.from = None;
    conclusion(&mut senderless)
        .decision
        .actions
        .push(reply("Thanks"));
    let mut mute = ticket(b, "b");
    outlets(&mut mute).outgoing = None;
    conclusion(&mut mute)
        .decision
        .actions
        .push(Action::Forward {
            to: vec!["x@y.example".into()],
        });
    store.commit(vec![senderless, mute]).await.unwrap();
    for row in store.listings().decisions(&Filter::default()).unwrap() {
        let row = row.unwrap();
        assert_eq!((row.actions.len(), row.refused.len()), (1, 1), "{row:?}");
    }
    assert!(
        store
            .due_outbox(OutboxKind::Mail, "out", i64::MAX, 9, RoundRobin::default())
            .await
            .unwrap()
            .is_empty()
    );
}

/// More mails with one Message-ID than are considered.
const FLOOD: usize = 300;

#[tokio::test]
async fn a_flood_of_one_message_id_does_not_choose_the_ticket() {
    let (_dir, store) = store();
    let first = open_ticket(&store, "a").await;
    let flood = (0..FLOOD)
        .map(|n| {
            let mut copy = mail(&format!("copy {n}"));
            copy.message_id = "a@x".into();
            // Content hashes that sort before all others.
            copy.content_hash.0[..8].copy_from_slice(&(n as u64).to_be_bytes());
            copy
        })
        .collect();
    let journalled = store.journal(batch(flood)).await.unwrap();
    let verdicts = journalled.iter().map(|it| ticket(it.id(), "a")).collect();
    store.commit(verdicts).await.unwrap();
    let found = thread_of(&store, "acme", &query(&["a@x"], "Re: hello", None));
    assert_eq!(found.unwrap().ticket, first);
}
