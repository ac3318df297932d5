//! Identity and ticket numbers across restores, emptied databases and crashes.

use std::path::Path;
use std::sync::Arc;

use postroom_core::OutgoingMail;
use postroom_store::sqlite::StoreOptions;
use postroom_store::{OutboxKind, RoundRobin, Store, StoreError};
use tempfile::TempDir;

use super::{database, open_with};
use crate::kit::*;

/// A data folder, and next to it the folder of the installations' files.
struct House(TempDir);

impl House {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn marks(&self) -> std::path::PathBuf {
        self.0.path().join("installations")
    }

    fn start(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.open(&self.data(), false)
    }

    fn start_anew(&self) -> Result<Arc<dyn Store>, StoreError> {
        self.open(&self.data(), true)
    }

    fn open(&self, data: &Path, start_anew: bool) -> Result<Arc<dyn Store>, StoreError> {
        let options = StoreOptions {
            installations: Some(self.marks()),
            start_anew,
            ..StoreOptions::default()
        };
        open_with(data, &options)
    }

    /// Copies the data folder as it is on disk, as a crash or a backup leaves it.
    fn copy(&self, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(self.data()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }

    fn restore(&self, from: &Path) {
        std::fs::remove_dir_all(self.data()).unwrap();
        std::fs::rename(from, self.data()).unwrap();
    }

    fn mark(&self) -> i64 {
        let mut files = std::fs::read_dir(self.marks()).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none());
        let text = std::fs::read_to_string(file).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        value["tickets"].as_i64().unwrap()
    }
}

/// Decides a mail. Returns the keys of its deliveries and the Message-ID of its reply.
async fn answer(store: &Arc<dyn Store>, name: &str) -> (String, Vec<String>) {
    let id = journal_one(store, name).await;
    let mut verdict = ticket(id, name);
    conclusion(&mut verdict)
        .decision
        .actions
        .push(reply("Noted as {ticket}"));
    let committed = store.commit(vec![verdict]).await.unwrap().remove(0);
    let mut left = Vec::new();
    for (kind, target) in [
        (OutboxKind::Sink, "psa"),
        (OutboxKind::Sink, "chat"),
        (OutboxKind::Mail, "out"),
    ] {
        let due = store
            .due_outbox(kind, target, i64::MAX, 999, RoundRobin::default())
            .await
            .unwrap();
        let entry = due
            .into_iter()
            .find(|entry| entry.decision.map(|it| it.0) == Some(id.0));
        let entry = entry.unwrap();
        if kind == OutboxKind::Mail {
            let mail: OutgoingMail = serde_json::from_str(&entry.payload).unwrap();
            left.push(mail.message_id);
        }
        left.push(entry.idempotency_key);
    }
    (committed.tickets[0].clone(), left)
}

#[tokio::test]
async fn after_a_restore_no_key_and_no_number_is_given_twice_to_different_mails() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    store.close().await;
    let backup = house.0.path().join("backup");
    house.copy(&backup);

    let store = house.start().unwrap();
    let before = answer(&store, "two").await;
    assert_eq!(before.0, "T-2", "a normal restart leaves no gap");
    answer(&store, "three").await;
    store.close().await;
    assert_eq!(house.mark(), 3);

    house.restore(&backup);
    let store = house.start().unwrap();
    let other = answer(&store, "four").await;
    assert_eq!(other.0, "T-4");
    assert!(before.1.iter().all(|left| !other.1.contains(left)));
    // The mail that is decided again repeats what was sent for it, and receivers absorb the repetition.
    let again = answer(&store, "two").await;
    assert_eq!(again, ("T-5".to_owned(), before.1));
}

#[tokio::test]
async fn a_backup_of_a_running_service_is_recognised_by_its_ticket_numbers() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    let backup = house.0.path().join("backup");
    house.copy(&backup);
    for name in ["two", "three"] {
        answer(&store, name).await;
    }
    store.close().await;
    house.restore(&backup);
    let store = house.start().unwrap();
    assert_eq!(answer(&store, "four").await.0, "T-4");
}

#[tokio::test]
async fn after_a_crash_numbers_continue_above_the_mark() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    assert_eq!(house.mark(), 100);
    let crashed = house.0.path().join("crashed");
    house.copy(&crashed);
    drop(store);
    // As it was on disk while the service ran; the mark was too.
    house.restore(&crashed);
    let file = std::fs::read_dir(house.marks()).unwrap().next().unwrap();
    let path = file.unwrap().path();
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"tickets\": 1,", "\"tickets\": 100,")).unwrap();
    let store = house.start().unwrap();
    assert_eq!(store.crashes(), 1);
    assert_eq!(answer(&store, "two").await.0, "T-101");
    store.close().await;
    // After a clean stop, numbers continue without a gap.
    let store = house.start().unwrap();
    assert_eq!(store.crashes(), 0);
    assert_eq!(answer(&store, "three").await.0, "T-102");
}

#[tokio::test]
async fn a_missing_or_empty_database_is_refused_until_somebody_asks_for_it() {
    for remove in [
        |data: &Path| std::fs::remove_dir_all(data).unwrap(),
        |data: &Path| std::fs::remove_file(data.join("postroom.sqlite")).unwrap(),
        |data: &Path| std::fs::write(data.join("postroom.sqlite"), "").unwrap(),
    ] {
        let house = House::new();
        let store = house.start().unwrap();
        let (_, before) = answer(&store, "one").await;
        store.close().await;
        remove(&house.data());
        for _ in 0..2 {
            let refused = house.start().err().unwrap();
            assert!(
                matches!(&refused, StoreError::Emptied { last_ticket: Some(last), .. } if last == "T-1"),
                "{refused}"
            );
            assert!(refused.to_string().contains("--start-anew"), "{refused}");
        }
        let store = house.start_anew().unwrap();
        assert_eq!(answer(&store, "two").await.0, "T-2");
        let again = answer(&store, "one").await;
        assert_eq!(again, ("T-3".to_owned(), before));
        store.close().await;
        // Once it is in use, no flag is needed.
        house.start().unwrap();
    }
}

#[tokio::test]
async fn a_database_that_lost_its_log_is_refused() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    answer(&store, "two").await;
    store.close().await;
    // The tables exist and are empty.
    let conn = database(&house.data());
    conn.pragma_update(None, "foreign_keys", false).unwrap();
    for table in [
        "journal",
        "raw",
        "decision",
        "decision_record",
        "item",
        "outbox",
        "ack",
    ] {
        conn.execute(&format!("DELETE FROM {table}"), []).unwrap();
    }
    conn.execute("UPDATE sequence SET last = 0", []).unwrap();
    drop(conn);
    let refused = house.start().err().unwrap();
    assert!(matches!(refused, StoreError::Emptied { .. }), "{refused}");
    let store = house.start_anew().unwrap();
    assert_eq!(answer(&store, "three").await.0, "T-3");
}

#[tokio::test]
async fn a_used_folder_without_a_mark_is_refused_too_and_a_fresh_one_is_not() {
    let house = House::new();
    house.start().unwrap().close().await;
    house.start().unwrap().close().await;
    std::fs::remove_dir_all(house.marks()).unwrap();
    std::fs::remove_file(house.data().join("postroom.sqlite")).unwrap();
    let refused = house.start().err().unwrap();
    assert!(
        matches!(
            refused,
            StoreError::Emptied {
                last_ticket: None,
                ..
            }
        ),
        "{refused}"
    );
    house.start_anew().unwrap();
}

#[tokio::test]
async fn a_moved_folder_keeps_its_identity_and_two_installations_share_none() {
    let house = House::new();
    let store = house.start().unwrap();
    let (_, before) = answer(&store, "one").await;
    store.close().await;
    // Moved to another machine, where nothing is known about it.
    let there = House::new();
    house.copy(&there.data());
    let store = there.start().unwrap();
    let (number, _) = answer(&store, "two").await;
    assert_eq!(number, "T-2");

    let other = House::new();
    let store = other.start().unwrap();
    let (_, others) = answer(&store, "one").await;
    assert!(before.iter().all(|left| !others.contains(left)));
}

#[tokio::test]
async fn a_mark_that_cannot_be_written_stops_no_mail() {
    let house = House::new();
    std::fs::write(house.marks(), "a file in its place").unwrap();
    let store = house.start().unwrap();
    assert_eq!(answer(&store, "one").await.0, "T-1");
    store.close().await;
    let store = house.start().unwrap();
    assert_eq!(answer(&store, "two").await.0, "T-2");
}

#[tokio::test]
async fn an_installation_file_that_cannot_be_read_is_not_waited_for() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    store.close().await;
    let file = std::fs::read_dir(house.marks()).unwrap().next().unwrap();
    std::fs::write(file.unwrap().path(), "{").unwrap();
    let store = house.start().unwrap();
    assert_eq!(answer(&store, "two").await.0, "T-2");
    store.close().await;
    assert_eq!(house.mark(), 2);
}

#[tokio::test]
async fn runs_that_did_not_stop_are_counted_until_one_does() {
    let (dir, store) = store();
    let crash = |store: Arc<dyn Store>| {
        // A store that is leaked leaves the database as a killed process does.
        let copy = tempfile::tempdir().unwrap();
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        drop(store);
        for entry in std::fs::read_dir(copy.path()).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
        }
        open(dir.path())
    };
    assert_eq!(store.crashes(), 0);
    let store = crash(store);
    assert_eq!(store.crashes(), 1);
    let store = crash(store);
    assert_eq!(store.crashes(), 2);
    store.forget_crashes().await.unwrap();
    let store = crash(store);
    assert_eq!(store.crashes(), 1);
    store.close().await;
    assert_eq!(open(dir.path()).crashes(), 0);
}

#[tokio::test]
async fn a_database_without_tickets_that_lost_its_mails_is_refused_too() {
    let house = House::new();
    house.start().unwrap().close().await;
    let backup = house.0.path().join("backup");
    house.copy(&backup);
    let store = house.start().unwrap();
    let id = journal_one(&store, "spam").await;
    store.commit(vec![ignored(id, "spam")]).await.unwrap();
    store.close().await;
    house.restore(&backup);
    let refused = house.start().err().unwrap();
    assert!(matches!(refused, StoreError::Emptied { .. }), "{refused}");
    house.start_anew().unwrap().close().await;
    house.start().unwrap();
}

#[tokio::test]
async fn a_log_without_its_database_is_set_aside_and_not_taken_for_that_of_a_new_one() {
    let house = House::new();
    let store = house.start().unwrap();
    answer(&store, "one").await;
    let crashed = house.0.path().join("crashed");
    house.copy(&crashed);
    drop(store);
    house.restore(&crashed);
    std::fs::remove_file(house.data().join("postroom.sqlite")).unwrap();
    let log = std::fs::read(house.data().join("postroom.sqlite-wal")).unwrap();
    assert!(!log.is_empty());
    assert!(matches!(house.start(), Err(StoreError::Emptied { .. })));
    let store = house.start_anew().unwrap();
    assert_eq!(answer(&store, "two").await.0, "T-2");
    let kept = std::fs::read(house.data().join("postroom.sqlite-wal.set-aside"));
    assert_eq!(kept.unwrap(), log);
}
