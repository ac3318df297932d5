//! Tenants load in parallel: rules that load slowly do not delay the start, stop, saves or mail of another tenant.

use postroom_e2e::{PATIENCE, Room, Running, mail};
use postroom_stand::{Stand, wait_for};

/// A rule whose top level takes many seconds of computing time, and then decides.
const SLOW: &str = "let n = 0;\nfor (let i = 0; i < 300000000; i++) n += i & 3;\nexport function decide(mail) {\n  return ticket({ queue: \"slow\" });\n}\n";
/// A rule that never loads, and takes all of `init_time` to fail.
const ENDLESS: &str = "while (true) {}\nexport function decide() {}\n";
/// The log text that shows that the slow tenant's rule is live.
const SLOW_IS_LIVE: &str = "slow/rules/slow.js";

fn quick(word: &str) -> String {
    format!("export function decide(mail) {{\n  return ticket({{ queue: \"{word}\" }});\n}}\n")
}

/// Returns a room with two tenants, each with its own spool: `slow` with these rules, and `quick` with `rules/quick.js`.
fn room(slow_rules: &[&str], more: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let rules: Vec<String> = slow_rules.iter().map(|it| format!("{it:?}")).collect();
    room.write(
        "postroom.toml",
        format!(
            "data_dir = \"data\"\n[tenants.slow]\n{more}\n[tenants.slow.limits]\ninit_time = \"60s\"\n[mailboxes.slow]\ntenant = \"slow\"\nprotocol = \"spool\"\npath = \"spool/slow\"\nevery = \"1s\"\nrules = [{}]\n[tenants.quick]\n[mailboxes.quick]\ntenant = \"quick\"\nprotocol = \"spool\"\npath = \"spool/quick\"\nevery = \"1s\"\nrules = [\"rules/quick.js\"]\n",
            rules.join(", ")
        ),
    );
    room.write("rules/quick.js", quick("one"));
    room
}

fn deliver(room: &Room, tenant: &str, subject: &str) {
    room.write(&format!("spool/{tenant}/{subject}.eml"), mail(subject, "…"));
}

fn queue_of(room: &Room, subject: &str) -> String {
    let decision = room.await_decision(subject);
    assert!(decision["troubles"][0].is_null(), "{decision:#}");
    let queue = decision["actions"][0]["queue"].as_str();
    queue.unwrap_or_default().to_owned()
}

/// Waits until the slow tenant's mail is in the journal, and checks that it waits there.
fn assert_held(room: &Room, running: &Running) {
    let pending = || {
        let rows = room.rows(&["ledger", "--mailbox", "slow"]);
        rows.first().and_then(|row| row["pending"].as_u64())
    };
    let is_held = wait_for(PATIENCE, || pending() == Some(1));
    assert!(is_held, "{:?}\n{}", pending(), running.log());
}

#[test]
fn a_rule_that_loads_slowly_delays_no_start_no_mail_and_no_save_of_another_tenant() {
    let room = room(&["rules/slow.js"], "");
    room.write("rules/slow.js", SLOW);
    deliver(&room, "slow", "slow at the start");
    deliver(&room, "quick", "quick at the start");
    let running = room.start();
    let is_slow_live = || running.log().contains(SLOW_IS_LIVE);
    assert_eq!(queue_of(&room, "quick at the start"), "one");
    assert!(!is_slow_live(), "{}", running.log());

    room.write("rules/quick.js", quick("two"));
    running.await_log("generation=2");
    deliver(&room, "quick", "quick after a save");
    assert_eq!(queue_of(&room, "quick after a save"), "two");
    assert!(!is_slow_live(), "{}", running.log());
    assert_held(&room, &running);

    // Fetched and kept meanwhile, and decided only by its own rule.
    assert_eq!(queue_of(&room, "slow at the start"), "slow");
    assert!(is_slow_live(), "{}", running.log());
    deliver(&room, "slow", "slow afterwards");
    assert_eq!(queue_of(&room, "slow afterwards"), "slow");
    assert_eq!(queue_of(&room, "quick at the start"), "one");
    let generations = room.rows(&["rules", "list"]);
    assert_eq!(generations.len(), 3, "{generations:#?}");
    assert_eq!(running.stop(), Some(0));

    // Both are in the last generation, so a start with the same files makes no other one.
    let running = room.start();
    deliver(&room, "quick", "quick again");
    assert_eq!(queue_of(&room, "quick again"), "two");
    deliver(&room, "slow", "slow again");
    assert_eq!(queue_of(&room, "slow again"), "slow");
    assert_eq!(room.rows(&["rules", "list"]).len(), 3);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_save_that_loads_slowly_delays_no_save_of_another_tenant() {
    let room = room(&["rules/slow.js"], "");
    room.write("rules/slow.js", quick("before"));
    let running = room.start();
    deliver(&room, "slow", "slow before");
    assert_eq!(queue_of(&room, "slow before"), "before");
    room.write("rules/slow.js", SLOW);
    room.write("rules/quick.js", quick("two"));
    running.await_log("generation=2");
    room.write("rules/quick.js", quick("three"));
    running.await_log("generation=3");
    // The live version stays until the new one is loaded.
    deliver(&room, "slow", "slow meanwhile");
    assert_eq!(queue_of(&room, "slow meanwhile"), "before");
    let live = running.lines("INFO", SLOW_IS_LIVE);
    assert_eq!(live.len(), 1, "{live:#?}");
    running.await_log("generation=4");
    deliver(&room, "slow", "slow after");
    assert_eq!(queue_of(&room, "slow after"), "slow");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn cases_that_run_slowly_delay_no_start_of_another_tenant() {
    let room = room(
        &["rules/slow.js", "rules/slow2.js", "rules/slow3.js"],
        "rule_tests = true",
    );
    // Each case takes the whole time limit of a mail, and fails.
    for rule in ["slow", "slow2", "slow3"] {
        let text = "export function decide() { while (true) {} }\n";
        room.write(&format!("rules/{rule}.js"), text);
        for case in 0..200 {
            let name = format!("rules/{rule}.cases/{case}");
            room.write(&format!("{name}.eml"), mail("case", "…"));
            room.write(
                &format!("{name}.expected.json"),
                "{\"outcome\": \"ticket\"}",
            );
        }
    }
    let running = room.start();
    deliver(&room, "quick", "quick");
    assert_eq!(queue_of(&room, "quick"), "one");
    assert!(!running.log().contains("rules/slow3.js: "));
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_script_of_two_tenants_goes_live_for_both_at_once() {
    let room = room(&["rules/quick.js"], "");
    let running = room.start();
    running.await_log("generation=1");
    for (generation, word) in [(2, "two"), (3, "three")] {
        room.write("rules/quick.js", quick(word));
        running.await_log(&format!("generation={generation}"));
        for tenant in ["slow", "quick"] {
            let subject = format!("{tenant} {word}");
            deliver(&room, tenant, &subject);
            assert_eq!(queue_of(&room, &subject), word);
        }
    }
    assert_eq!(room.rows(&["rules", "list"]).len(), 3);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_drain_waits_for_the_rules_of_the_mail_that_it_decides() {
    let room = room(&["rules/slow.js"], "");
    room.write("rules/slow.js", SLOW);
    deliver(&room, "slow", "slow");
    deliver(&room, "quick", "quick");
    room.once();
    assert_eq!(queue_of(&room, "slow"), "slow");
    assert_eq!(queue_of(&room, "quick"), "one");
}

#[test]
fn a_panic_while_a_rule_is_loaded_refuses_that_rule_and_ends_nothing() {
    let room = room(&["rules/quick.js"], "");
    let running = room.start_with(&[("POSTROOM_CRASH_AT", "panic:before-load")]);
    deliver(&room, "quick", "quick");
    let decision = room.await_decision("quick");
    assert_eq!(decision["rule"], "fallback", "{decision:#}");
    let why = decision["troubles"][0]["message"].as_str().unwrap();
    assert!(why.contains("rules/quick.js: loading it panicked"), "{why}");
    assert_eq!(running.stop(), Some(0));
    let running = room.start();
    deliver(&room, "quick", "quick again");
    assert_eq!(queue_of(&room, "quick again"), "one");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_stop_does_not_wait_for_a_rule_that_loads_slowly() {
    let endless = ["rules/a.js", "rules/b.js", "rules/c.js", "rules/d.js"];
    let room = room(&endless, "");
    for rule in endless {
        room.write(rule, ENDLESS);
    }
    deliver(&room, "slow", "slow");
    let running = room.start();
    deliver(&room, "quick", "quick");
    assert_eq!(queue_of(&room, "quick"), "one");
    assert_held(&room, &running);
    assert_eq!(running.stop(), Some(0));
    assert!(!room.log().contains("rules/d.js"), "{}", room.log());
    // The mail is where it was, undecided.
    let rows = room.rows(&["ledger", "--mailbox", "slow"]);
    assert_eq!(rows[0]["pending"].as_u64(), Some(1), "{rows:#?}");
}
