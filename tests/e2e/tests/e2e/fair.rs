//! Several tenants: a busy rule slows no other client's mail, and a budget of mails a minute holds back only its own.

use postroom_e2e::{PATIENCE, Room, mail};
use postroom_stand::{Stand, wait_for};
use serde_json::Value;

const BURNS: &str = "export function decide() { while (true) {} }\n";
const HELD: &str = "mail is held back by the tenant's mails_per_minute";
const FREE: &str = "all mail that was held back by mails_per_minute is decided";

/// Returns a room with two tenants, each with its own spool: `acme` in the folder `acme`, and `quiet`.
fn room(limits: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    configure(&room, limits);
    room.write("rules/acme.js", BURNS);
    room
}

fn configure(room: &Room, acme: &str) {
    // Otherwise the rule would soon be switched off.
    let mut config = format!(
        "data_dir = \"data\"\n[limits]\nstrikes = 0\n[tenants.quiet]\n[tenants.acme]\n{acme}\n"
    );
    for (name, rules) in [
        ("acme", "\"rules/acme.js\", \"standard\""),
        ("quiet", "\"standard\""),
    ] {
        config.push_str(&format!(
            "[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"{name}\"\nevery = \"1s\"\nrules = [{rules}]\n"
        ));
    }
    room.write("postroom.toml", config);
}

fn fill(room: &Room, mails: u32) {
    for number in 0..mails {
        room.write(
            &format!("acme/{number:03}.eml"),
            mail(&format!("Acme {number}"), "…"),
        );
    }
}

fn ledger(room: &Room, mailbox: &str) -> Value {
    let rows = room.rows(&["ledger", "--mailbox", mailbox]);
    assert_eq!(rows.len(), 1, "{rows:#?}");
    rows[0].clone()
}

#[test]
fn a_tenant_that_burns_all_its_time_lets_another_one_pass() {
    let room = room("");
    fill(&room, 60);
    let running = room.start();
    room.await_any_decision();
    room.write("quiet/1.eml", mail("Quiet", "Please."));
    room.await_decision("Quiet");
    // It takes fifteen seconds on one slot, which the other tenant does not wait for.
    assert!(ledger(&room, "acme")["pending"].as_u64() > Some(0));
    // Decided mail is committed meanwhile; the stop does not wait for the rest, which is not lost.
    assert_eq!(running.stop(), Some(0));
    let row = ledger(&room, "acme");
    assert!(
        row["tickets"].as_u64() > Some(0) && row["pending"].as_u64() > Some(0),
        "{row}"
    );

    room.write(
        "rules/acme.js",
        "export function decide() { return ticket({}); }\n",
    );
    room.once();
    assert_eq!(ledger(&room, "acme")["tickets"], 60);
    room.assert_balanced(61);
}

#[test]
fn mail_over_the_budget_waits_in_the_journal_and_no_other_tenant_with_it() {
    let room = room("limits = { mails_per_minute = 2 }");
    room.write(
        "rules/acme.js",
        "export function decide() { return ticket({}); }\n",
    );
    fill(&room, 5);
    let running = room.start();
    running.await_log(HELD);
    room.write("quiet/1.eml", mail("Quiet", "Please."));
    room.await_decision("Quiet");
    assert!(wait_for(PATIENCE, || ledger(&room, "acme")["tickets"]
        .as_u64()
        >= Some(2)));
    // All five are safe in the journal; only decided mail may be removed from the folder.
    let row = ledger(&room, "acme");
    assert_eq!(row["seen"], 5);
    assert!(row["pending"].as_u64() >= Some(2), "{row}");
    assert_eq!(running.lines("WARN", HELD).len(), 1);
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(6);

    // Without the budget the rest is decided, in the order of arrival.
    configure(&room, "");
    room.once();
    let acme = room.rows(&["decisions", "--mailbox", "acme"]);
    let subjects: Vec<_> = acme
        .iter()
        .map(|row| row["subject"].as_str().unwrap())
        .collect();
    assert_eq!(subjects, ["Acme 0", "Acme 1", "Acme 2", "Acme 3", "Acme 4"]);
    room.assert_balanced(6);
}

#[test]
fn a_drain_waits_for_the_budget_and_says_when_it_begins_and_ends() {
    let room = room("limits = { mails_per_minute = 60 }");
    room.write(
        "rules/acme.js",
        "export function decide() { return ticket({}); }\n",
    );
    fill(&room, 62);
    let output = room.postroom(&["run", "--once"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{log}");
    assert_eq!(log.matches(HELD).count(), 1, "{log}");
    assert_eq!(log.matches(FREE).count(), 1, "{log}");
    assert_eq!(ledger(&room, "acme")["tickets"], 62);
}

#[test]
fn a_tenant_within_its_budget_waits_for_nothing() {
    let room = room("limits = { mails_per_minute = 60 }");
    room.write(
        "rules/acme.js",
        "export function decide() { return ticket({}); }\n",
    );
    fill(&room, 60);
    let output = room.postroom(&["run", "--once"]);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !log.contains("mails_per_minute"),
        "{log}"
    );
    assert_eq!(ledger(&room, "acme")["tickets"], 60);
}
