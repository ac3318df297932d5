//! Operation: the lock, readers, a full disk, purging, mailbox states, closing.

use postroom_core::MailboxState;
use postroom_store::{Filter, OutboxKind, RoundRobin, StoreError};

use crate::kit::*;

#[tokio::test]
async fn after_closing_nothing_is_written_and_what_was_queued_is() {
    let (dir, store) = store();
    let queued = {
        let store = store.clone();
        tokio::spawn(async move { journal(&store, &["a"]).await })
    };
    tokio::task::yield_now().await;
    store.close().await;
    store.close().await;
    assert!(matches!(
        store.journal(batch(vec![mail("b")])).await,
        Err(StoreError::Closed)
    ));
    queued.await.unwrap();
    assert_eq!(
        open(dir.path()).pending("support", 9).await.unwrap().len(),
        1
    );
}

#[tokio::test]
async fn what_a_wrong_clock_scheduled_is_due_once_the_clock_is_right() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    let now = NOON_MS + 1;
    let year = 365 * 24 * 60 * 60 * 1000;
    let hour = 60 * 60 * 1000;
    for (target, ahead) in [("psa", year), ("chat", hour)] {
        let entry = &store
            .due_outbox(OutboxKind::Sink, target, i64::MAX, 1, RoundRobin::default())
            .await
            .unwrap()[0];
        store.refused(entry.id, "503", now + ahead).await.unwrap();
    }
    let acks = store.due_acks("support", 9, i64::MAX).await.unwrap();
    let ids = acks.iter().map(|ack| ack.id).collect();
    store.ack_failed(ids, "NO", now + year).await.unwrap();

    assert_eq!(store.bring_forward(now).await.unwrap(), 2);
    let due = async |target| {
        store
            .due_outbox(OutboxKind::Sink, target, now, 9, RoundRobin::default())
            .await
            .unwrap()
            .len()
    };
    assert_eq!((due("psa").await, due("chat").await), (1, 0));
    assert_eq!(store.due_acks("support", 9, now).await.unwrap().len(), 1);
    assert_eq!(store.bring_forward(now).await.unwrap(), 0);
}

#[tokio::test]
async fn the_last_known_time_is_the_confirmed_one_or_that_of_the_newest_mail() {
    let (dir, store) = store();
    assert_eq!(store.known_time().await.unwrap(), None);
    journal_one(&store, "a").await;
    assert_eq!(store.known_time().await.unwrap(), Some(NOON_MS));
    store.confirm_clock(NOON_MS + 5).await.unwrap();
    // Journalled under a clock that was never confirmed.
    let mut later = batch(vec![mail("b")]);
    later.received_ms = i64::MAX / 2;
    store.journal(later).await.unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.known_time().await.unwrap(), Some(NOON_MS + 5));
}

#[tokio::test]
async fn many_threads_share_a_few_readers() {
    let (_dir, store) = store();
    let id = journal_one(&store, "a").await;
    let listings = store.listings();
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(listings.raw(id).unwrap().is_some());
                }
            });
        }
    });
}

#[tokio::test]
async fn purging_keeps_what_is_young_quarantined_undecided_or_undelivered() {
    let (_dir, store) = store();
    let names: Vec<String> = (0..600).map(|n| format!("old{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let old = journal(&store, &names).await;
    let verdicts = old
        .iter()
        .zip(&names)
        .enumerate()
        .map(|(n, (mail, name))| match n {
            10 => quarantined(mail.id(), name),
            _ => ignored(mail.id(), name),
        });
    store.commit(verdicts.collect()).await.unwrap();
    assert_eq!(store.purge(NOON_MS).await.unwrap(), 0);

    let waiting = journal_one(&store, "waiting").await;
    store
        .commit(vec![ticket(waiting, "waiting")])
        .await
        .unwrap();
    let behind = journal_one(&store, "behind").await;
    store.commit(vec![ignored(behind, "behind")]).await.unwrap();
    // A waiting entry, perhaps for a sink that is gone, keeps nothing but its own mail.
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 600);
    assert!(store.listings().raw(old[0].id()).unwrap().is_none());
    assert!(store.listings().raw(old[10].id()).unwrap().is_some());
    assert!(store.listings().raw(waiting).unwrap().is_some());
    assert!(store.listings().raw(behind).unwrap().is_none());

    for target in ["psa", "chat"] {
        let entry = &store
            .due_outbox(OutboxKind::Sink, target, i64::MAX, 1, RoundRobin::default())
            .await
            .unwrap()[0];
        store.delivered(entry.id, "200".into()).await.unwrap();
    }
    let undecided = journal_one(&store, "undecided").await;
    let late = journal_one(&store, "late").await;
    store.commit(vec![ignored(late, "late")]).await.unwrap();
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 2);
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 0);
    assert!(store.listings().raw(waiting).unwrap().is_none());
    assert!(store.listings().raw(late).unwrap().is_none());
    assert!(store.listings().raw(undecided).unwrap().is_some());
    // All rows are still there.
    assert_eq!(
        store
            .listings()
            .decisions(&Filter::default())
            .unwrap()
            .count(),
        603
    );
    let shown = store
        .listings()
        .quarantined(postroom_store::DecisionId(old[10].id().0))
        .unwrap();
    assert!(shown.is_some());
}

#[tokio::test]
async fn a_mailbox_says_how_it_is_and_since_when() {
    let (_dir, store) = store();
    journal_one(&store, "a").await;
    let state = || store.listings().mailboxes().unwrap().remove(0);
    assert_eq!(
        (state().mailbox.as_str(), state().state, state().pending),
        ("support", None, 1)
    );
    store
        .set_mailbox_state("support", MailboxState::DiskFull, "no room")
        .await
        .unwrap();
    let first = state();
    assert_eq!(first.detail.as_deref(), Some("no room"));
    std::thread::sleep(std::time::Duration::from_millis(5));
    store
        .set_mailbox_state("support", MailboxState::DiskFull, "still")
        .await
        .unwrap();
    assert_eq!(state().since, first.since);
    store
        .set_mailbox_state("support", MailboxState::Serving, "")
        .await
        .unwrap();
    assert_ne!(state().since, first.since);
    assert_eq!(
        (state().state, state().detail),
        (Some(MailboxState::Serving), None)
    );
}
