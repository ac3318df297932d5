//! POP3 through the real service: a mail becomes a ticket once, and leaves the server after its commit or stays there.

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{Stand, wait_for};

const DELETE: &str = "after = { done = \"delete\", failed = \"delete\" }";
const KEEP: &str = "after = { done = \"keep\" }";
/// The variable that holds the mailbox's password.
const PASSWORD: &str = "POP3_PASSWORD";

/// A room whose mailbox is read by POP3 under TLS with the application's token, with `more` appended to its configuration.
pub fn room(after: &str, more: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let config = room.config(&["standard"], more);
    let ports = room.stand.ports();
    let mut config = config.replace("protocol = \"imap\"", "protocol = \"pop3\"");
    for (from, to) in [
        (
            format!("port = {}", ports.imaps),
            format!("port = {}", ports.pop3s),
        ),
        ("every = \"5s\"".into(), "every = \"1s\"".into()),
        (
            "after = { done = \"move:Processed\", failed = \"move:Failed\" }".into(),
            after.into(),
        ),
    ] {
        assert!(config.contains(&from), "{from}");
        config = config.replace(&from, &to);
    }
    room.write("postroom.toml", config);
    room
}

/// The same with a password under STLS.
fn room_by_password(after: &str) -> Room<'static> {
    let mut room = room(after, "");
    let ports = room.stand.ports();
    let file = room.path().join("postroom.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let (head, tail) = config.split_once("[mailboxes.support]").unwrap();
    let tail = tail
        .replacen(
            &format!("port = {}\ntls = \"implicit\"", ports.pop3s),
            &format!("port = {}\ntls = \"starttls\"", ports.pop3),
            1,
        )
        .replacen(
            "profile = \"acme\"",
            &format!("password = {{ env = \"{PASSWORD}\" }}"),
            1,
        );
    room.write("postroom.toml", format!("{head}[mailboxes.support]{tail}"));
    room.set_env(PASSWORD, room.stand.password());
    room
}

fn deliver(room: &Room, from: usize, to: usize) {
    for number in from..=to {
        room.deliver(mail(&format!("mail {number}"), "…"));
    }
}

/// How many mails Dovecot gave to this room by POP3, and how many sessions have ended.
fn given(room: &Room) -> (usize, usize) {
    let log = std::fs::read_to_string(room.stand.dir().join("dovecot.log")).unwrap();
    let mine = format!("pop3({})", room.user);
    let ends = log
        .lines()
        .filter(|line| line.contains(&mine) && line.contains(" retr="));
    ends.fold((0, 0), |(mails, sessions), line| {
        let count = line.split_once(" retr=").unwrap().1;
        let count: usize = count.split('/').next().unwrap().parse().unwrap();
        (mails + count, sessions + 1)
    })
}

#[test]
fn a_mail_becomes_a_ticket_and_is_deleted_after_the_commit() {
    let room = room(DELETE, "");
    deliver(&room, 1, 3);
    room.once();
    assert_eq!((room.decisions().len(), room.items().len()), (3, 3));
    assert_eq!(room.count("INBOX"), 0);
    room.once();
    deliver(&room, 4, 4);
    room.once();
    assert_eq!((room.decisions().len(), room.count("INBOX")), (4, 0));
    assert_eq!(room.posted_once(), 4);
    room.assert_balanced(4);
    assert!(
        wait_for(PATIENCE, || given(&room).0 == 4),
        "{:?}",
        given(&room)
    );
}

#[test]
fn what_is_kept_is_fetched_once_over_restarts() {
    let room = room_by_password(KEEP);
    deliver(&room, 1, 3);
    room.once();
    room.once();
    let running = room.start();
    deliver(&room, 4, 4);
    room.await_decision("mail 4");
    // Some more checks, each a session of its own.
    let (_, sessions) = given(&room);
    assert!(wait_for(PATIENCE, || given(&room).1 > sessions + 2));
    assert_eq!(running.stop(), Some(0));
    room.once();
    assert_eq!((room.decisions().len(), room.count("INBOX")), (4, 4));
    assert!(
        wait_for(PATIENCE, || given(&room).0 == 4),
        "{:?}",
        given(&room)
    );
    room.assert_balanced(4);
}

#[test]
fn a_crash_repeats_nothing_and_leaves_nothing_undeleted() {
    for point in [
        "before-journal",
        "before-commit",
        "after-commit",
        "before-acknowledge",
        "after-acknowledge",
    ] {
        let room = room(DELETE, "");
        deliver(&room, 1, 3);
        room.once_killed_at(point);
        // Nothing is deleted before its commit.
        if matches!(point, "before-journal" | "before-commit") {
            assert_eq!(room.count("INBOX"), 3, "{point}");
        }
        room.once();
        assert_eq!(
            (room.decisions().len(), room.items().len()),
            (3, 3),
            "{point}"
        );
        assert_eq!(room.count("INBOX"), 0, "{point}");
        assert_eq!(room.posted_once(), 3, "{point}");
        room.assert_balanced(3);
    }
}

#[test]
fn a_mail_over_the_raw_limit_keeps_its_beginning_here_and_itself_on_the_server() {
    let room = room(
        DELETE,
        "\n[limits]\nraw_bytes = \"1MiB\"\nmessage_bytes = \"1MiB\"\n",
    );
    let big = mail("too big", &"x".repeat(2 << 20));
    room.stand
        .append(&room.user, "INBOX", "", [&big])
        .expect("a mail");
    deliver(&room, 1, 2);
    room.once();
    let held = room.rows(&["quarantine", "list"]);
    assert_eq!(held.len(), 1);
    assert!(held[0]["size"].as_u64().unwrap() > 2 << 20);
    assert_eq!(held[0]["subject"], "too big");
    assert_eq!((room.decisions().len(), room.count("INBOX")), (3, 1));
    room.once();
    assert_eq!((room.decisions().len(), room.count("INBOX")), (3, 1));
}

#[test]
fn every_step_is_tested_and_the_trace_holds_no_secret() {
    let room = room(KEEP, "");
    room.deliver(mail("for the sample", "private words"));
    let said = room.ok(&["mailbox", "test", "support", "--trace"]);
    for expected in [
        "ok   connect ",
        "ok   tls ",
        "ok   greeting ",
        "ok   token ",
        "ok   authenticate ",
        "ok   list ",
        "ok   fetch ",
        "XOAUTH2 as ",
        "C: AUTH XOAUTH2\n",
        "C: [redacted, ",
        "C: TOP 1 0",
        "S: [mail, ",
        "\"for the sample\"",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("private words"), "{said}");
    for secret in room.stand.authority().secrets().unwrap() {
        assert!(!said.contains(&secret), "{secret} is in\n{said}");
    }
    assert_eq!(given(&room).0, 0);

    let mut wrong = room_by_password(KEEP);
    wrong.set_env(PASSWORD, "not-the-password");
    let output = wrong.postroom(&["mailbox", "test", "support"]);
    let said = both(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("ok   tls") && said.contains("STLS, TLS 1.3"),
        "{said}"
    );
    assert!(said.contains("password is wrong"), "{said}");
    assert!(!said.contains("not-the-password"), "{said}");
}
