//! Identities of deliveries come from the mail: over restores, lost databases and repeated alarms.

use std::collections::BTreeSet;
use std::path::Path;

use postroom_e2e::{Room, mail};
use postroom_stand::Stand;
use serde_json::json;

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Returns the ids that the sink received, and the Message-IDs of the replies to a person.
fn left(room: &Room) -> BTreeSet<String> {
    let posted = room.posted();
    let ids = posted.iter().filter_map(|it| it.header("webhook-id"));
    ids.map(str::to_owned).collect()
}

#[test]
fn after_a_restore_a_new_mail_has_a_new_key_and_a_new_number() {
    let room = Room::new(stand(), &["standard"]);
    let (data, backup) = (room.path().join("data"), room.path().join("backup"));
    room.deliver(mail("before the backup", "…"));
    room.once();
    copy(&data, &backup);
    room.deliver(mail("after the backup", "…"));
    room.once();
    assert_eq!(room.decision("after the backup")["ticket"], "T-2");
    let before = left(&room);
    assert_eq!(before.len(), 2);

    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&backup, &data).unwrap();
    room.deliver(mail("after the restore", "…"));
    let output = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("ticket numbers continue above the mark")
            && said.contains("T-1")
            && said.contains("T-2"),
        "{said}"
    );
    assert_eq!(room.decision("after the restore")["ticket"], "T-3");
    assert_eq!(left(&room).len(), 3, "a receiver drops what it knows");
}

#[test]
fn a_lost_database_is_refused_until_somebody_starts_anew() {
    let room = Room::new(stand(), &["standard"]);
    room.deliver(mail("first", "…"));
    room.once();
    std::fs::remove_dir_all(room.path().join("data")).unwrap();
    room.deliver(mail("second", "…"));
    let refused = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success());
    assert!(
        said.contains("--start-anew") && said.contains("T-1"),
        "{said}"
    );
    room.ok(&["run", "--once", "--start-anew"]);
    assert_eq!(room.decision("second")["ticket"], "T-2");
    assert_eq!(left(&room).len(), 2);
    room.once();
}

#[test]
fn the_same_alarm_in_another_file_is_another_mail() {
    let room = Room::bare(stand());
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/alarm.js\"]\n",
    );
    room.write(
        "rules/alarm.js",
        "export function decide(mail) { return alert({ key: \"disk\", state: mail.subject === \"PROBLEM\" ? \"firing\" : \"resolved\" }); }\n",
    );
    let alarm =
        |subject: &str| format!("From: nas@acme.example\r\nSubject: {subject}\r\n\r\ndisk\r\n");
    for (number, subject) in ["PROBLEM", "RECOVERY", "PROBLEM"].iter().enumerate() {
        room.write(&format!("spool/{number}.eml"), alarm(subject));
        room.once();
    }
    assert_eq!(room.decisions().len(), 3);
    assert_eq!(room.items()[0]["state"], "firing");
    // Kept files are read again at each start, and are still the same mails.
    room.once();
    assert_eq!(room.decisions().len(), 3);
    room.assert_balanced(3);
    assert!(room.rows(&["ledger", "--repeated"]).is_empty());
}

#[test]
fn what_comes_again_under_one_message_id_is_counted_and_listed() {
    let room = Room::bare(stand());
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\n",
    );
    let copied = mail("copied", "…");
    room.write("spool/1.eml", &copied);
    room.once();
    room.write("spool/2.eml", &copied);
    let output = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        said.contains("a mail arrived again, byte for byte"),
        "{said}"
    );
    assert_eq!(room.decisions().len(), 1);
    // Several at once are one line, as from a POP3 server that renames what it keeps.
    for number in 3..6 {
        room.write(&format!("spool/{number}.eml"), &copied);
    }
    let output = room.postroom(&["run", "--once"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines: Vec<&str> = said
        .lines()
        .filter(|it| it.contains("again, byte"))
        .collect();
    assert_eq!(lines.len(), 1, "{said}");
    assert!(lines[0].contains("mails=3"), "{said}");
    let ledger = room.rows(&["ledger"]);
    assert_eq!(
        (&ledger[0]["seen"], &ledger[0]["repeated"]),
        (&json!(1), &json!(4))
    );
    let repeats = room.rows(&["ledger", "--repeated"]);
    assert_eq!(repeats.len(), 4);
    assert_eq!(repeats[0]["mailbox"], "drop");
    assert_eq!(
        repeats[0]["message_id"],
        room.decision("copied")["message_id"]
    );
    room.assert_balanced(1);
}

#[test]
fn a_clock_that_leapt_drops_no_raw_mail() {
    let room = Room::bare(stand());
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\n",
    );
    room.write("spool/1.eml", mail("old", "…"));
    room.once();
    let database = room.path().join("data/postroom.sqlite");
    let change = |sql: &str| {
        let conn = rusqlite::Connection::open(&database).unwrap();
        conn.execute_batch(sql).unwrap();
    };
    let raw = || {
        let conn = rusqlite::Connection::open(&database).unwrap();
        let count = conn.query_row("SELECT count(*) FROM raw", [], |row| row.get(0));
        count.unwrap_or(0_i64)
    };
    // As if the clock were 400 days ahead of every known time.
    change(
        "UPDATE journal SET received_ms = received_ms - 34560000000; DELETE FROM state WHERE name = 'clock'",
    );
    let running = room.start();
    running.await_log("no raw mail is dropped until it has run for a day");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(raw(), 1);
    // The same age, with a clock that was confirmed just now.
    change("INSERT OR REPLACE INTO state (name, value) VALUES ('clock', unixepoch() * 1000)");
    let running = room.start();
    running.await_log("purged raw mail older than keep_raw");
    assert_eq!(running.stop(), Some(0));
    assert_eq!(raw(), 0);
}
