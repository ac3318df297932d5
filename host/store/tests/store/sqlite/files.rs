//! The files: the lock, readers, a full disk, what a stop leaves, and damaged rows.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bytes::Bytes;
use postroom_core::{AlertState, ContentHash};
use postroom_store::sqlite::{SqliteReader, StoreOptions};
use postroom_store::{Filter, StoreError};

use super::{database, open_with, waiting};
use crate::kit::*;

#[tokio::test]
async fn a_second_service_is_refused_and_readers_are_not() {
    let (dir, store) = store();
    let refused = open_with(dir.path(), &StoreOptions::default())
        .err()
        .unwrap();
    assert!(refused.is_locked());
    assert!(
        refused
            .to_string()
            .contains(&format!("(process {})", std::process::id())),
        "{refused}"
    );
    let reader = beside(dir.path());
    let id = journal_one(&store, "a").await;
    store.commit(vec![ticket(id, "a")]).await.unwrap();
    assert_eq!(reader.items(&Filter::default()).unwrap().count(), 1);
    store.close().await;
    assert_eq!(reader.items(&Filter::default()).unwrap().count(), 1);
    let again = open(dir.path());
    journal_one(&again, "b").await;
    assert_eq!(waiting(&*reader), 1);
}

#[tokio::test]
async fn a_removed_lock_file_lets_no_second_service_in() {
    let (dir, store) = store();
    std::fs::remove_file(dir.path().join("postroom.lock")).unwrap();
    let options = StoreOptions {
        lock_wait_ms: 0,
        ..StoreOptions::default()
    };
    let refused = open_with(dir.path(), &options).err().unwrap();
    assert!(refused.is_locked(), "{refused}");
    drop(store);
    open_with(dir.path(), &options).unwrap();
}

#[tokio::test]
async fn a_start_waits_for_a_service_that_is_ending() {
    let (dir, store) = store();
    let path = dir.path().to_owned();
    let start = std::thread::spawn(move || {
        let patient = StoreOptions {
            lock_wait_ms: 60_000,
            ..StoreOptions::default()
        };
        open_with(&path, &patient).map(|_| ())
    });
    std::thread::yield_now();
    store.close().await;
    start.join().unwrap().unwrap();
}

#[tokio::test]
async fn after_a_clean_stop_the_database_is_one_file() {
    let (dir, store) = store();
    journal(&store, &["a", "b"]).await;
    assert!(store.pending("support", 9).await.unwrap().len() == 2);
    store.close().await;
    let left: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("postroom.sqlite"))
        .collect();
    assert_eq!(left, ["postroom.sqlite"]);
    // Copied alone, it is complete.
    let copy = tempfile::tempdir().unwrap();
    let name = "postroom.sqlite";
    std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
    let copied = open(copy.path());
    assert_eq!(copied.pending("support", 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_listing_beside_a_stop_holds_nothing_up_and_loses_nothing() {
    let (dir, store) = store();
    journal(&store, &["a", "b"]).await;
    let beside = beside(dir.path());
    assert_eq!(waiting(&*beside), 2);
    store.close().await;
    assert_eq!(waiting(&*beside), 2);
    drop(beside);
    let again = open(dir.path());
    assert_eq!(again.pending("support", 9).await.unwrap().len(), 2);
}

#[test]
fn a_folder_without_a_database_has_nothing_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let missing = SqliteReader::open(dir.path()).err().unwrap();
    assert!(matches!(missing, StoreError::Missing { .. }));
    std::fs::write(
        dir.path().join("postroom.sqlite"),
        "this is no database, just text ".repeat(99),
    )
    .unwrap();
    let corrupt = SqliteReader::open(dir.path()).err().unwrap();
    assert!(matches!(corrupt, StoreError::Corrupt { .. }), "{corrupt}");
    let corrupt = open_with(dir.path(), &StoreOptions::default())
        .err()
        .unwrap();
    assert!(matches!(corrupt, StoreError::Corrupt { .. }), "{corrupt}");
}

#[tokio::test]
async fn a_full_disk_is_told_to_every_job_and_is_over_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions {
        database_bytes: Some(1024 * 1024),
        ..StoreOptions::default()
    };
    let store = open_with(dir.path(), &options).unwrap();
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
    // The same again for concurrent jobs, without harm to what is there.
    let (one, two) = tokio::join!(store.journal(big("one")), store.journal(big("two")));
    assert!(matches!(
        (one, two),
        (Err(StoreError::Full), Err(StoreError::Full))
    ));
    assert_eq!(
        store.pending("support", 99).await.unwrap().len(),
        fitted.len()
    );

    let verdicts = fitted.iter().map(|(id, name)| ignored(*id, name)).collect();
    store.commit(verdicts).await.unwrap();
    store.purge(i64::MAX).await.unwrap();
    store.journal(big("fits")).await.unwrap();
    assert_eq!(store.pending("support", 99).await.unwrap().len(), 1);
    assert!(imbalance(&*store.listings()).is_empty());
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// Returns the modes of all files there; while the database is open, its log is next to it.
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
    let store = open(dir);
    journal_one(&store, "a").await;
    assert!(
        modes(dir).iter().all(|mode| *mode == 0o600),
        "{:?}",
        modes(dir)
    );
    assert_eq!(mode(dir), 0o755);

    // They are as an earlier version left them, including the log.
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(dir);
    journal_one(&store, "b").await;
    assert!(
        modes(dir).iter().all(|mode| *mode == 0o600),
        "{:?}",
        modes(dir)
    );

    let made = dir.join("made");
    let _store = open(&made);
    assert_eq!(mode(&made), 0o700);
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_left_out_of_its_listing() {
    let (dir, store) = store();
    let mut spoilt = Vec::new();
    for n in 0..300 {
        let id = journal_one(&store, &format!("m{n}")).await;
        store.commit(vec![ticket(id, "m")]).await.unwrap();
        // More than a whole page of them.
        if n < 290 {
            spoilt.push(id.0);
        }
    }
    store.close().await;
    let conn = database(dir.path());
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
    let reader = beside(dir.path());
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
    let conn = database(dir.path());
    conn.execute("UPDATE item SET detail = '['", []).unwrap();
    let resolved = alert(b, "b", "disk", AlertState::Resolved);
    store.commit(vec![resolved]).await.unwrap();
    let items: Vec<_> = store
        .listings()
        .items(&Filter::default())
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(items[0].state, "resolved");
    assert_eq!(items[0].detail.host.as_deref(), Some("db1"));
}
