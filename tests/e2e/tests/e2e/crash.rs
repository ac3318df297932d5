//! Killed at every named point of the line: nothing lost, nothing twice, acknowledged on the server, the ledger balanced.

use std::collections::BTreeSet;

use postroom_e2e::{PATIENCE, Room, mail_from};
use postroom_stand::{Stand, wait_for};

const MAILS: usize = 3;

/// Three mails that each become a ticket, a webhook and an answer by SMTP; the process dies at the point, first under
/// `run --once`, then, with three more, under `run`.
fn killed_at(point: &str) {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let settings =
        "\n[tenants.acme.settings.standard]\nacknowledge = \"We have it as {ticket}.\"\n";
    room.write("postroom.toml", room.config(&["standard"], settings));
    let person = format!("dana.{}", room.user);

    deliver(&room, &person);
    room.once_killed_at(point);
    room.once();
    check(&room, &person, MAILS, point);

    let mut running = room.start_with(&[("POSTROOM_CRASH_AT", point)]);
    deliver(&room, &person);
    assert!(
        wait_for(PATIENCE, || !running.is_running()),
        "{point} was not reached"
    );
    let again = room.start();
    assert!(
        wait_for(PATIENCE, || room.count("Processed") == 2 * MAILS),
        "after {point}: {}",
        again.log()
    );
    assert!(wait_for(PATIENCE, || delivered(&room) == 4 * MAILS));
    assert_eq!(again.stop(), Some(0));
    check(&room, &person, 2 * MAILS, point);
}

fn deliver(room: &Room, person: &str) {
    for number in 1..=MAILS {
        room.deliver(mail_from(person, &format!("mail {number}"), "…", ""));
    }
}

fn delivered(room: &Room) -> usize {
    room.rows(&["outbox", "--state", "delivered"]).len()
}

fn check(room: &Room, person: &str, mails: usize, point: &str) {
    assert_eq!(room.decisions().len(), mails, "after {point}");
    assert_eq!(room.items().len(), mails, "after {point}");
    assert_eq!(room.count("INBOX"), 0, "after {point}");
    assert_eq!(room.count("Processed"), mails, "after {point}");
    assert_eq!(room.posted_once(), mails, "after {point}");
    // An answer sent twice carries one Message-ID, by which it is known as one.
    let sent = room.stand.smtp().received();
    let answers: BTreeSet<String> = sent
        .iter()
        .filter(|mail| mail.to.iter().any(|to| to == person))
        .filter_map(|mail| {
            let text = String::from_utf8_lossy(&mail.data).into_owned();
            let id = text.lines().find(|line| line.starts_with("Message-ID:"));
            id.map(str::to_owned)
        })
        .collect();
    assert_eq!(answers.len(), mails, "after {point}");
    assert_eq!(delivered(room), 2 * mails, "after {point}");
    room.assert_balanced(mails as u64);
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
    room.deliver(mail_from("dana@acme.example", "poison", "…", ""));
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
