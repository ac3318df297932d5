//! Running it: the lock, readers, a full disk, purging, mailbox states, closing.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use postroom_core::{AlertState, ContentHash, MailboxState};
use postroom_store::{Filter, OutboxKind, Reader, RoundRobin, Store, StoreError, StoreOptions};

use crate::kit::*;

#[tokio::test]
async fn a_second_service_is_refused_and_readers_are_not() {
    let (dir, store) = store();
    let refused = Store::open(dir.path()).err().unwrap();
    assert!(refused.is_locked());
    assert!(
        refused
            .to_string()
            .contains(&format!("(process {})", std::process::id())),
        "{refused}"
    );
    let reader = Reader::open(dir.path()).unwrap();
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    assert_eq!(reader.items(&Filter::default()).unwrap().count(), 1);
    store.close();
    assert_eq!(reader.items(&Filter::default()).unwrap().count(), 1);
    let again = Store::open(dir.path()).unwrap();
    journal_one(&again, "b").await;
    assert_eq!(reader.pending("support", 9).unwrap().len(), 1);
}

#[tokio::test]
async fn after_closing_nothing_is_written_and_what_was_queued_is() {
    let (dir, store) = store();
    let queued = {
        let store = store.clone();
        tokio::spawn(async move { journal(&store, &["a"]).await })
    };
    tokio::task::yield_now().await;
    store.close();
    store.close();
    assert!(matches!(
        store.journal(batch(vec![mail("b")])).await,
        Err(StoreError::Closed)
    ));
    queued.await.unwrap();
    assert_eq!(
        Reader::open(dir.path())
            .unwrap()
            .pending("support", 9)
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_removed_lock_file_lets_no_second_service_in() {
    let (dir, store) = store();
    std::fs::remove_file(dir.path().join("postroom.lock")).unwrap();
    let options = StoreOptions {
        lock_wait_ms: 0,
        ..StoreOptions::default()
    };
    let refused = Store::open_with(dir.path(), &options).err().unwrap();
    assert!(refused.is_locked(), "{refused}");
    drop(store);
    Store::open_with(dir.path(), &options).unwrap();
}

#[test]
fn a_start_waits_for_a_service_that_is_ending() {
    let (dir, store) = store();
    let path = dir.path().to_owned();
    let start = std::thread::spawn(move || {
        let patient = StoreOptions {
            lock_wait_ms: 60_000,
            ..StoreOptions::default()
        };
        Store::open_with(&path, &patient).map(|_| ())
    });
    std::thread::yield_now();
    store.close();
    start.join().unwrap().unwrap();
}

#[tokio::test]
async fn after_a_clean_stop_the_database_is_one_file() {
    let (dir, store) = store();
    journal(&store, &["a", "b"]).await;
    assert!(store.pending("support", 9).unwrap().len() == 2);
    store.close();
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("postroom.sqlite"))
        .collect();
    assert_eq!(left, ["postroom.sqlite"]);
    // Copied alone, it is everything.
    let copy = tempfile::tempdir().unwrap();
    let name = "postroom.sqlite";
    std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    let copied = Store::open(copy.path()).unwrap();
    assert_eq!(copied.pending("support", 9).unwrap().len(), 2);
}

#[tokio::test]
async fn a_listing_beside_a_stop_holds_nothing_up_and_loses_nothing() {
    let (dir, store) = store();
    journal(&store, &["a", "b"]).await;
    let beside = Reader::open(dir.path()).unwrap();
    assert_eq!(beside.pending("support", 9).unwrap().len(), 2);
    store.close();
    assert_eq!(beside.pending("support", 9).unwrap().len(), 2);
    drop(beside);
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.pending("support", 9).unwrap().len(), 2);
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
            .due_outbox(
                OutboxKind::Sink,
                target,
                i64::MAX,
                1,
                &RoundRobin::default(),
            )
            .unwrap()[0];
        store.refused(entry.id, "503", now + ahead).await.unwrap();
    }
    let acks = store.due_acks("support", 9, i64::MAX).unwrap();
    let ids = acks.iter().map(|ack| ack.id).collect();
    store.ack_failed(ids, "NO", now + year).await.unwrap();

    assert_eq!(store.bring_forward(now).await.unwrap(), 2);
    let due = |target| {
        store
            .due_outbox(OutboxKind::Sink, target, now, 9, &RoundRobin::default())
            .unwrap()
            .len()
    };
    assert_eq!((due("psa"), due("chat")), (1, 0));
    assert_eq!(store.due_acks("support", 9, now).unwrap().len(), 1);
    assert_eq!(store.bring_forward(now).await.unwrap(), 0);
}

#[tokio::test]
async fn the_last_known_time_is_the_confirmed_one_or_that_of_the_newest_mail() {
    let (dir, store) = store();
    assert_eq!(store.known_time().unwrap(), None);
    journal_one(&store, "a").await;
    assert_eq!(store.known_time().unwrap(), Some(NOON_MS));
    store.confirm_clock(NOON_MS + 5).await.unwrap();
    // Journalled under a clock that was never confirmed.
    let mut later = batch(vec![mail("b")]);
    later.received_ms = i64::MAX / 2;
    store.journal(later).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.known_time().unwrap(), Some(NOON_MS + 5));
}

#[test]
fn a_folder_without_a_database_has_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let missing = Reader::open(dir.path()).err().unwrap();
    assert!(matches!(missing, StoreError::Missing { .. }));
    std::fs::write(
        dir.path().join("postroom.sqlite"),
        "this is no database, just text ".repeat(99),
    )
    .unwrap();
    let corrupt = Reader::open(dir.path()).err().unwrap();
    assert!(matches!(corrupt, StoreError::Corrupt { .. }), "{corrupt}");
    let corrupt = Store::open(dir.path()).err().unwrap();
    assert!(matches!(corrupt, StoreError::Corrupt { .. }), "{corrupt}");
}

#[tokio::test]
async fn many_threads_share_a_few_readers() {
    let (_dir, store) = store();
    journal_one(&store, "a").await;
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(store.pending("support", 9).unwrap().len(), 1);
                }
            });
        }
    });
}

#[tokio::test]
async fn a_full_disk_is_told_to_every_job_and_is_over_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        database_bytes: Some(1024 * 1024),
        ..StoreOptions::default()
    };
    let store = Store::open_with(dir.path(), &options).unwrap();
    let big = |name: &str| {
        let mut big = mail(name);
        big.bytes = Bytes::from(vec![b'x'; 60_000]);
        big.bytes = [name.as_bytes(), &big.bytes[..]].concat().into();
        big.content_hash = ContentHash::of(&big.bytes);
        batch(vec![big])
    };
    let mut fitted = Vec::new();
    let full = loop {
        let name = format!("big{}", fitted.len());
        match store.journal(big(&name)).await {
            Ok(journalled) => fitted.push((journalled[0].id(), name)),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, StoreError::Full), "{full}");
    assert!(fitted.len() > 5);
    // Again and for jobs side by side, without harm to what is there.
    let (one, two) = tokio::join!(store.journal(big("one")), store.journal(big("two")));
    assert!(matches!(
        (one, two),
        (Err(StoreError::Full), Err(StoreError::Full))
    ));
    assert_eq!(store.pending("support", 99).unwrap().len(), fitted.len());

    let verdicts = fitted.iter().map(|(id, name)| ignored(*id, name)).collect();
    store.commit(verdicts).await.unwrap();
    store.purge(i64::MAX).await.unwrap();
    store.journal(big("fits")).await.unwrap();
    assert_eq!(store.pending("support", 99).unwrap().len(), 1);
    assert!(store.imbalance().unwrap().is_empty());
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
    // What waits, perhaps for a sink that is gone, keeps nothing but itself.
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 600);
    assert!(store.raw(old[0].id()).unwrap().is_none());
    assert!(store.raw(old[10].id()).unwrap().is_some());
    assert!(store.raw(waiting).unwrap().is_some());
    assert!(store.raw(behind).unwrap().is_none());

    for target in ["psa", "chat"] {
        let entry = &store
            .due_outbox(
                OutboxKind::Sink,
                target,
                i64::MAX,
                1,
                &postroom_store::RoundRobin::default(),
            )
            .unwrap()[0];
        store.delivered(entry.id, "200").await.unwrap();
    }
    let undecided = journal_one(&store, "undecided").await;
    let late = journal_one(&store, "late").await;
    store.commit(vec![ignored(late, "late")]).await.unwrap();
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 2);
    assert_eq!(store.purge(NOON_MS + 1).await.unwrap(), 0);
    assert!(store.raw(waiting).unwrap().is_none());
    assert!(store.raw(late).unwrap().is_none());
    assert!(store.raw(undecided).unwrap().is_some());
    // The rows are all still there.
    assert_eq!(store.decisions(&Filter::default()).unwrap().count(), 603);
    let shown = store
        .quarantined(postroom_store::DecisionId(old[10].id().0))
        .unwrap();
    assert!(shown.is_some());
}

#[tokio::test]
async fn a_mailbox_says_how_it_is_and_since_when() {
    let (_dir, store) = store();
    journal_one(&store, "a").await;
    let state = || store.mailboxes().unwrap().remove(0);
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

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// The modes of all files there; the database has its log beside it while it is open.
fn modes(dir: &Path) -> Vec<u32> {
    let entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(entries.len() >= 4, "{entries:?}");
    entries.iter().map(|entry| mode(&entry.path())).collect()
}

#[tokio::test]
async fn nobody_else_reads_the_files_wherever_they_lie() {
    let open_to_all = tempfile::tempdir().unwrap();
    let dir = open_to_all.path();
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
    let store = Store::open(dir).unwrap();
    journal_one(&store, "a").await;
    assert!(
        modes(dir).iter().all(|mode| *mode == 0o600),
        "{:?}",
        modes(dir)
    );
    assert_eq!(mode(dir), 0o755);

    // As an earlier version left them, its log included.
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    store.close();
    drop(store);
    let store = Store::open(dir).unwrap();
    journal_one(&store, "b").await;
    assert!(
        modes(dir).iter().all(|mode| *mode == 0o600),
        "{:?}",
        modes(dir)
    );

    let made = dir.join("made");
    let _store = Store::open(&made).unwrap();
    assert_eq!(mode(&made), 0o700);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_of_its_listing() {
    let (dir, store) = store();
    let mut spoilt = Vec::new();
    for n in 0..300 {
        let id = journal_one(&store, &format!("m{n}")).await;
        store.commit(vec![ticket(id, "m")]).await.unwrap();
        // A whole page of them and more.
        if n < 290 {
            spoilt.push(id.0);
        }
    }
    store.close();
    let conn = rusqlite::Connection::open(dir.path().join("postroom.sqlite")).unwrap();
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for id in spoilt {
        let detail = format!("{{\"fields\":{{\"x\":{deep}}}}}");
        conn.execute(
            "UPDATE item SET detail = ?2 WHERE decision = ?1",
            (id, detail),
        )
        .unwrap();
        conn.execute(
            "UPDATE decision_record SET record = ?2 WHERE journal = ?1",
            (id, &deep),
        )
        .unwrap();
    }
    drop(conn);
    let reader = Reader::open(dir.path()).unwrap();
    let items = reader.items(&Filter::default()).unwrap();
    assert_eq!(items.map(Result::unwrap).count(), 10);
    let decisions = reader.decisions(&Filter::default()).unwrap();
    assert_eq!(decisions.map(Result::unwrap).count(), 10);
}

#[tokio::test]
async fn an_alert_goes_on_when_what_was_known_of_it_cannot_be_read() {
    let (dir, store) = store();
    let [a, b] = [
        journal_one(&store, "a").await,
        journal_one(&store, "b").await,
    ];
    let firing = alert(a, "a", "disk", AlertState::Firing);
    store.commit(vec![firing]).await.unwrap();
    let conn = rusqlite::Connection::open(dir.path().join("postroom.sqlite")).unwrap();
    conn.execute("UPDATE item SET detail = '['", []).unwrap();
    let resolved = alert(b, "b", "disk", AlertState::Resolved);
    store.commit(vec![resolved]).await.unwrap();
    let items: Vec<_> = store
        .items(&Filter::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(items[0].state, "resolved");
    assert_eq!(items[0].detail.host.as_deref(), Some("db1"));
}
