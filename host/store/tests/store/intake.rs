//! The journal, its dedupe, and the acknowledgements that follow.

use postroom_core::{Cursor, Position};
use postroom_store::{Filter, JournalBatch, JournalId, StoreError};

use crate::kit::*;

const LATER: i64 = i64::MAX;

#[tokio::test]
async fn mails_and_cursor_become_durable_together() {
    let (dir, store) = store();
    assert_eq!(store.cursor("support").await.unwrap(), None);
    let journalled = journal(&store, &["a", "b"]).await;
    assert!(journalled.iter().all(|j| j.is_new()));
    drop(store);

    let store = open(dir.path());
    assert_eq!(
        store.cursor("support").await.unwrap(),
        Some(Cursor("c".into()))
    );
    let pending = store.pending("support", 10).await.unwrap();
    assert_eq!(pending.len(), 2);
    assert_eq!(pending[1].bytes, mail("b").bytes);
    assert_eq!(pending[1].message_id, "b@x");
    assert_eq!((pending[1].received_ms, pending[1].attempts), (NOON_MS, 0));
    assert_eq!(store.pending("support", 1).await.unwrap().len(), 1);
    assert!(store.pending("other", 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn an_empty_batch_moves_the_cursor_and_no_cursor_leaves_it() {
    let (_dir, store) = store();
    store.journal(batch(Vec::new())).await.unwrap();
    let kept = JournalBatch {
        cursor: None,
        ..batch(vec![mail("a")])
    };
    store.journal(kept).await.unwrap();
    assert_eq!(
        store.cursor("support").await.unwrap(),
        Some(Cursor("c".into()))
    );
}

#[tokio::test]
async fn a_mail_is_the_same_only_within_mailbox_tenant_id_and_content() {
    let (_dir, store) = store();
    let first = journal_one(&store, "a").await;
    assert!(!journal(&store, &["a"]).await[0].is_new());

    let mut other_content = mail("other");
    other_content.message_id = "a@x".into();
    let mut other_id = mail("a");
    other_id.message_id = "b@x".into();
    let other_mailbox = JournalBatch {
        mailbox: "sales".into(),
        ..batch(vec![mail("a")])
    };
    let other_tenant = JournalBatch {
        tenant: "bolt".into(),
        ..batch(vec![mail("a")])
    };
    let others = [
        batch(vec![other_content]),
        batch(vec![other_id]),
        other_mailbox,
        other_tenant,
    ];
    for other in others {
        let journalled = store.journal(other).await.unwrap();
        assert!(journalled[0].is_new() && journalled[0].id() != first);
    }
    // The same applies within one batch.
    let twice = journal(&store, &["z", "z"]).await;
    assert_eq!((twice[0].is_new(), twice[1].is_new()), (true, false));
    assert_eq!(twice[0].id(), twice[1].id());
}

#[tokio::test]
async fn every_place_a_mail_was_seen_at_is_acknowledged_once_it_is_decided() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    let again = |position: &str| {
        let mut copy = mail("a");
        copy.position = Position::OnServer(position.into());
        batch(vec![copy])
    };
    store.journal(again("INBOX/a")).await.unwrap();
    store.journal(again("INBOX/copy")).await.unwrap();
    assert!(
        store
            .due_acks("support", 10, LATER)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.next_ack_due("support").await.unwrap(), None);

    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let due = store.due_acks("support", 10, LATER).await.unwrap();
    let places: Vec<_> = due
        .iter()
        .map(|ack| ack.position.on_server().unwrap())
        .collect();
    assert_eq!(places, ["INBOX/a", "INBOX/copy"]);
    assert!(due.iter().all(|ack| ack.journal == id && !ack.failed));

    // Seen after its decision, so due at once.
    store.journal(again("INBOX/late")).await.unwrap();
    assert_eq!(store.due_acks("support", 10, LATER).await.unwrap().len(), 3);

    let ids: Vec<i64> = due.iter().map(|ack| ack.id).collect();
    store.acked(ids.clone()).await.unwrap();
    store.acked(ids).await.unwrap();
    let rest = store.due_acks("support", 10, LATER).await.unwrap();
    assert_eq!(rest.len(), 1);

    store
        .ack_failed(vec![rest[0].id], "NO such folder", 5_000)
        .await
        .unwrap();
    assert!(
        store
            .due_acks("support", 10, 4_999)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.next_ack_due("support").await.unwrap(), Some(5_000));
    assert_eq!(
        store.due_acks("support", 10, 5_000).await.unwrap()[0].attempts,
        1
    );
}

#[tokio::test]
async fn a_place_taken_by_another_mail_awaits_that_one_and_no_late_answer_counts_for_it() {
    let (_dir, store) = store();
    let first = journal_one(&store, "a").await;
    store.commit(vec![quarantined(first, "a")]).await.unwrap();
    let late = store.due_acks("support", 10, LATER).await.unwrap();
    assert!(late[0].failed);

    let mut second = mail("b");
    second.position = mail("a").position;
    let second = store.journal(batch(vec![second])).await.unwrap()[0].id();
    assert!(
        store
            .due_acks("support", 10, LATER)
            .await
            .unwrap()
            .is_empty()
    );
    store.acked(vec![late[0].id]).await.unwrap();
    store.commit(vec![ignored(second, "b")]).await.unwrap();
    let due = store.due_acks("support", 10, LATER).await.unwrap();
    assert_eq!((due.len(), due[0].journal), (1, second));
    assert!(!due[0].failed);
}

#[tokio::test]
async fn failures_of_a_line_are_counted_until_it_is_decided() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    for expected in 1..=3 {
        assert_eq!(store.failed_attempt(id, "boom").await.unwrap(), expected);
    }
    assert_eq!(store.pending("support", 9).await.unwrap()[0].attempts, 3);
    store.commit(vec![ignored(id, "a")]).await.unwrap();
    for gone in [id, JournalId(99)] {
        let error = store.failed_attempt(gone, "boom").await.unwrap_err();
        assert!(matches!(error, StoreError::UnknownMail { journal } if journal == gone));
    }
}

#[tokio::test]
async fn a_mail_that_comes_again_is_counted_and_one_that_is_read_again_is_not() {
    let (dir, store) = store();
    let id = journal_one(&store, "a").await;
    // It is read once more from its position, as after a restart.
    assert!(!journal(&store, &["a"]).await[0].is_repeated());
    let elsewhere = |position: &str| {
        let mut again = mail("a");
        again.position = Position::OnServer(position.into());
        JournalBatch {
            received_ms: NOON_MS + 24 * 60 * 60 * 1000,
            ..batch(vec![again])
        }
    };
    for (position, expected) in [("INBOX/2", true), ("INBOX/2", false), ("INBOX/3", true)] {
        let journalled = &store.journal(elsewhere(position)).await.unwrap()[0];
        assert_eq!(
            (journalled.is_new(), journalled.is_repeated()),
            (false, expected)
        );
    }
    let rows = store.listings().ledger(&Filter::default()).unwrap();
    let counts: Vec<_> = rows
        .iter()
        .map(|row| (row.day.as_str(), row.seen, row.repeated))
        .collect();
    assert_eq!(counts, [("2025-07-20", 1, 0), ("2025-07-21", 0, 2)]);
    assert!(imbalance(&*store.listings()).is_empty());
    let repeats = store.listings().repeats(&Filter::default()).unwrap();
    assert_eq!(repeats.len(), 2);
    assert_eq!(
        (repeats[0].mail, repeats[0].message_id.as_str()),
        (id, "a@x")
    );
    assert_eq!(repeats[0].first, "2025-07-20T12:00:00.000Z");
    let others = Filter {
        mailbox: Some("sales".into()),
        ..Filter::default()
    };
    assert!(store.listings().repeats(&others).unwrap().is_empty());
    drop((store, dir));
}

#[tokio::test]
async fn suspects_are_the_oldest_of_each_mailbox_the_least_tried_first() {
    let (_dir, store) = store();
    let ids = journal(&store, &["a", "b", "c"]).await;
    let sales = JournalBatch {
        mailbox: "sales".into(),
        ..batch(vec![mail("d")])
    };
    let d = store.journal(sales).await.unwrap()[0].id();
    store.failed_attempt(ids[0].id(), "died").await.unwrap();
    let suspects = store.suspects(2).await.unwrap();
    let order: Vec<_> = suspects.iter().map(|it| (it.id, it.attempts)).collect();
    assert_eq!(order, [(ids[1].id(), 0), (d, 0), (ids[0].id(), 1)]);
    let mail = store.pending_mail(d).await.unwrap().unwrap();
    assert_eq!(mail.message_id, "d@x");
    store.commit(vec![ignored(d, "d")]).await.unwrap();
    assert!(store.pending_mail(d).await.unwrap().is_none());
}

#[tokio::test]
async fn undecided_mail_follows_its_mailbox_to_another_tenant_and_is_no_second_mail() {
    let (_dir, store) = store();
    let (decided, waiting) = (
        journal_one(&store, "a").await,
        journal_one(&store, "b").await,
    );
    store.commit(vec![ticket(decided, "a")]).await.unwrap();
    assert_eq!(store.adopt("support", "other").await.unwrap(), 1);
    assert_eq!(store.adopt("support", "other").await.unwrap(), 0);
    // The server lists it again, since it was not acknowledged.
    let again = JournalBatch {
        tenant: "other".into(),
        ..batch(vec![mail("b")])
    };
    let again = store.journal(again).await.unwrap();
    assert!(!again[0].is_new());
    assert_eq!(again[0].id(), waiting);
    let opened = store.commit(vec![ticket(waiting, "b")]).await.unwrap();
    assert_eq!(opened.len(), 1);
    let items = store.listings().items(&Filter::default()).unwrap();
    let tenants: Vec<String> = items.map(|it| it.unwrap().tenant).collect();
    assert_eq!(tenants, ["acme", "other"]);
    assert_eq!(store.undecided().await.unwrap(), []);
}
