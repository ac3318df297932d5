//! Killed at every named point of the line: nothing lost, nothing twice, acknowledged on the server, the ledger balanced.

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, wait_for};

fn killed_at(point: &str) {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    for number in 1..=3 {
        room.deliver(mail(&format!("mail {number}"), "…"));
    }
    room.once_killed_at(point);
    room.once();

    assert_eq!(room.decisions().len(), 3, "after {point}");
    assert_eq!(room.items().len(), 3, "after {point}");
    assert_eq!(room.count("INBOX"), 0, "after {point}");
    assert_eq!(room.count("Processed"), 3, "after {point}");
    assert!(
        wait_for(PATIENCE, || room.posted_once() == 3),
        "after {point}: {:?}",
        room.posted_once()
    );
    let outbox = room.rows(&["outbox"]);
    assert!(
        outbox.iter().all(|row| row["state"] == "delivered"),
        "after {point}: {outbox:#?}"
    );
    room.assert_balanced(3);
}

#[test]
fn before_journal() {
    killed_at("before-journal");
}

#[test]
fn before_decision() {
    killed_at("before-decision");
}

#[test]
fn before_commit() {
    killed_at("before-commit");
}

#[test]
fn after_commit() {
    killed_at("after-commit");
}

#[test]
fn before_acknowledge() {
    killed_at("before-acknowledge");
}

#[test]
fn after_acknowledge() {
    killed_at("after-acknowledge");
}

#[test]
fn before_delivery_record() {
    killed_at("before-delivery-record");
}

#[test]
fn a_mail_that_kills_the_process_each_time_is_set_aside() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    room.deliver(mail("poison", "…"));
    // The first death is before any attempt is counted; each later one counts before the mail is touched.
    for _ in 0..6 {
        let output = room
            .command(&["run", "--once"])
            .env("POSTROOM_CRASH_AT", "before-decision")
            .output()
            .unwrap();
        if output.status.success() {
            break;
        }
    }
    room.once();
    let rows = room.rows(&["quarantine", "list"]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(room.count("Failed"), 1);
    room.assert_balanced(1);
}
