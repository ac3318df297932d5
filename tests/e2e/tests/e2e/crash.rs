//! Kills at every crash point of the line: nothing lost, nothing duplicated, acknowledged on the server, the ledger
//! balanced.

use std::collections::BTreeSet;

use postroom_e2e::{PATIENCE, Room, mail_from};
use postroom_stand::{Stand, wait_for};

const MAILS: usize = 3;

/// Delivers three mails that each become a ticket, a webhook and a reply by SMTP; the process dies at the point, first
/// under `run --once`, then, with three more, under `run`.
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
    // A reply sent twice has one Message-ID, which identifies it.
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
fn before_load() {
    killed_at("before-load");
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
    // The first two deaths may have had any cause; each later one counts before the mail is touched, which is alone then.
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

/// The number of mailboxes, each of another tenant, and of innocent mails in each.
const MAILBOXES: usize = 8;
const INNOCENT: usize = 4;
/// The most deaths of the process that a guilty mail may cause.
const DEATHS: usize = 9;

/// Returns a room with eight tenants, each with its own spool.
fn many_mailboxes() -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mut config = String::from("data_dir = \"data\"\n");
    for number in 0..MAILBOXES {
        config.push_str(&format!(
            "[tenants.t{number}]\n[mailboxes.m{number}]\ntenant = \"t{number}\"\nprotocol = \"spool\"\npath = \"spool/{number}\"\nrules = [\"standard\"]\n"
        ));
        for mail in 0..INNOCENT {
            let from = format!("ann@t{number}.example");
            let subject = format!("innocent {mail}");
            room.write(
                &format!("spool/{number}/{mail}.eml"),
                mail_from(&from, &subject, "…", ""),
            );
        }
    }
    room.write("postroom.toml", config);
    room
}

/// Runs until the process survives, and returns how often it died.
fn deaths(room: &Room, point: &str) -> usize {
    (0..DEATHS)
        .take_while(|_| {
            let mut command = room.command(&["run", "--once"]);
            let output = command.env("POSTROOM_CRASH_AT", point).output().unwrap();
            room.keep_output(&output);
            !output.status.success()
        })
        .count()
}

#[test]
fn a_mail_that_kills_is_set_aside_and_takes_no_innocent_of_another_tenant_with_it() {
    let room = many_mailboxes();
    let guilty = mail_from("eve@t3.example", "guilty", "the end of it", "");
    room.write("spool/3/0-guilty.eml", guilty);
    assert!(deaths(&room, "mail:the end of it") < DEATHS);
    room.once();
    let rows = room.rows(&["quarantine", "list"]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    assert_eq!(rows[0]["mailbox"], "m3");
    // Sender and subject were read from the headers alone.
    assert_eq!(rows[0]["subject"], "guilty", "{rows:#?}");
    assert!(
        rows[0]["from"].to_string().contains("eve@t3.example"),
        "{rows:#?}"
    );
    room.assert_balanced((MAILBOXES * INNOCENT + 1) as u64);
    assert_eq!(room.items().len(), MAILBOXES * INNOCENT);
}

#[test]
fn kills_soon_after_the_start_quarantine_no_innocent_mail() {
    let room = many_mailboxes();
    assert_eq!(deaths(&room, "before-decision"), DEATHS);
    room.once();
    assert!(room.rows(&["quarantine", "list"]).is_empty());
    room.assert_balanced((MAILBOXES * INNOCENT) as u64);
    assert_eq!(room.items().len(), MAILBOXES * INNOCENT);
}

#[test]
fn a_start_right_after_a_kill_waits_for_the_lock() {
    let room = many_mailboxes();
    for _ in 0..3 {
        let running = room.start();
        room.await_any_decision();
        running.kill();
        room.once();
    }
    room.assert_balanced((MAILBOXES * INNOCENT) as u64);
}

#[test]
fn a_removed_lock_file_lets_no_second_service_in() {
    let room = many_mailboxes();
    let running = room.start();
    room.await_any_decision();
    std::fs::remove_file(room.path().join("data/postroom.lock")).unwrap();
    let second = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(
        !second.status.success() && said.contains("already runs on"),
        "{said}"
    );
    assert_eq!(running.stop(), Some(0));
    let left: Vec<String> = std::fs::read_dir(room.path().join("data"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("postroom.sqlite-"))
        .collect();
    // Listings opened it while the service ran; the service alone leaves none behind.
    let sizes = left
        .iter()
        .filter(|name| name.ends_with("-wal"))
        .map(|name| {
            std::fs::metadata(room.path().join("data").join(name))
                .unwrap()
                .len()
        });
    assert_eq!(sizes.sum::<u64>(), 0, "{left:?}");
}
