//! Generations: every set of rules that went live has a number, and can be rolled back, by hand or automatically when a
//! rule fails too often.

use postroom_e2e::{PATIENCE, Room, Running, both, mail, mail_from};
use postroom_stand::{Stand, wait_for};
use serde_json::Value;

const RULE: &str = "rules/acme.js";
const ALERT_KEY: &str = "postroom/rule/rules/acme.js";

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Returns a rule that marks its tickets with a word, and throws on mails that request it.
fn marking(word: &str) -> String {
    format!("export function decide(mail) {{\n  return ticket({{ queue: \"{word}\" }});\n}}\n")
}

/// Returns the same rule with a fault in its second line.
fn faulty(word: &str) -> String {
    format!(
        "export function decide(mail) {{\n  if (mail.subject.startsWith(\"bad\")) mail.nothing.there;\n  return ticket({{ queue: \"{word}\" }});\n}}\n"
    )
}

fn started(rule: &str, more: &str) -> (Room<'static>, Running) {
    let room = Room::bare(stand());
    room.write(RULE, rule);
    room.write("postroom.toml", room.config(&[RULE, "standard"], more));
    let running = room.start();
    room.deliver(mail("first", "…"));
    room.await_decision("first");
    (room, running)
}

/// Returns a mail from a new sender.
fn from_somebody(subject: &str) -> String {
    let domain = subject.replace(' ', "-");
    mail_from(&format!("Ann <ann@{domain}.example>"), subject, "…", "")
}

fn decided(room: &Room, subject: &str) -> Value {
    room.deliver(from_somebody(subject));
    room.await_decision(subject)
}

fn queue_of(room: &Room, subject: &str) -> String {
    let decision = decided(room, subject);
    let queue = decision["actions"][0]["queue"].as_str();
    queue.unwrap_or_default().to_owned()
}

fn await_generation(room: &Room, number: u64) {
    let newest = || room.rows(&["rules", "list", "--limit", "1"]);
    assert!(
        wait_for(PATIENCE, || newest()[0]["generation"] == number),
        "{:?}",
        newest()
    );
}

fn alerts(room: &Room) -> Vec<(String, u64)> {
    let items = room.items();
    let ours = items.iter().filter(|item| item["alert_key"] == ALERT_KEY);
    ours.map(|item| {
        let state = item["state"].as_str().unwrap_or_default();
        (state.to_owned(), item["count"].as_u64().unwrap_or_default())
    })
    .collect()
}

#[test]
fn a_generation_that_is_kept_in_part_names_whose_rules_are_gone() {
    let room = Room::bare(stand());
    let mailbox = |name: &str| {
        format!(
            "[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [\"rules/{name}.js\"]\n"
        )
    };
    let config = format!(
        "{}{}[limits]\ngenerations = 2\n",
        mailbox("acme"),
        mailbox("bolt")
    );
    room.write("postroom.toml", config);
    room.write("rules/bolt.js", marking("bolt"));
    for word in ["one", "two", "three", "four"] {
        room.write(RULE, marking(word));
        room.once();
    }
    let diff = room.ok(&["rules", "diff", "1", "4"]);
    assert_eq!(
        diff,
        "acme: its rules of generation 1 are no longer kept\ngenerations 1 and 4 have otherwise the same rules\n"
    );
    let rows = room.rows(&["rules", "diff", "1", "4"]);
    assert_eq!(rows.len(), 1);
    assert_eq!(
        (&rows[0]["tenant"], &rows[0]["kept"]),
        (&"acme".into(), &false.into())
    );
    let shown = room.ok(&["rules", "show", "1"]);
    assert!(
        shown.contains("acme: its rules of generation 1 are no longer kept")
            && shown.contains("rules/bolt.js"),
        "{shown}"
    );
    let refused = room.postroom(&["rules", "rollback", "1", "--tenant", "acme"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        both(&refused).contains("the rules that acme had in generation 1 are not kept"),
        "{}",
        both(&refused)
    );
}

#[test]
fn a_rollback_takes_effect_beside_the_service_and_holds_until_the_file_changes() {
    let (room, running) = started(&marking("one"), "");
    room.write(RULE, marking("two"));
    running.await_log("generation=2");
    assert_eq!(queue_of(&room, "second"), "two");

    let said = room.ok(&["rules", "rollback"]);
    assert!(
        said.contains("generation 3: as in generation 1 are acme/rules/acme.js"),
        "{said}"
    );
    running.await_log(
        "this version was rolled back to generation 1; it is refused until the file changes",
    );
    let back = decided(&room, "third");
    assert_eq!(back["actions"][0]["queue"], "one");
    assert_eq!(back["generation"], 3);

    // The rollback is visible in the listings.
    let list = room.rows(&["rules", "list"]);
    let story: Vec<_> = list
        .iter()
        .map(|row| (row["generation"].as_u64(), row["why"].as_str()))
        .collect();
    assert_eq!(
        story,
        [
            (Some(3), Some("rolled back to 1")),
            (Some(2), Some("saved")),
            (Some(1), Some("saved"))
        ]
    );
    assert_eq!(
        list[0]["changes"][0]["after"],
        list[2]["changes"][0]["after"]
    );
    assert_eq!(list[0]["hash"], list[2]["hash"]);
    let people = room.ok(&["rules", "list"]);
    assert!(people.contains("refused: acme/rules/acme.js"), "{people}");
    let text = room.ok(&["rules", "show", "2", "--rule", RULE]);
    assert!(text.contains("queue: \"two\""), "{text}");
    let diff = room.ok(&["rules", "diff", "1", "2"]);
    assert!(
        diff.contains(
            "-  return ticket({ queue: \"one\" });\n+  return ticket({ queue: \"two\" });"
        ),
        "{diff}"
    );

    // After a restart as well.
    assert_eq!(running.stop(), Some(0));
    let running = room.start();
    let back = decided(&room, "after the restart");
    assert_eq!(back["actions"][0]["queue"], "one");
    assert_eq!(back["generation"], 3);

    room.write(RULE, marking("three"));
    await_generation(&room, 4);
    assert_eq!(queue_of(&room, "changed"), "three");
    // The file counts again, and the refused version may return.
    room.write(RULE, marking("two"));
    await_generation(&room, 5);
    assert_eq!(queue_of(&room, "and back"), "two");
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(6);
}

#[test]
fn a_rollback_without_a_service_is_there_at_its_start() {
    let (room, running) = started(&marking("one"), "");
    room.write(RULE, marking("two"));
    running.await_log("generation=2");
    assert_eq!(running.stop(), Some(0));
    let done = room.rows(&["rules", "rollback", "1", "--tenant", "acme", "--rule", RULE]);
    assert_eq!(done[0]["generation"], 3);
    let again = room.rows(&["rules", "rollback", "1"]);
    assert_eq!(again[0]["generation"], Value::Null);
    let running = room.start();
    assert_eq!(queue_of(&room, "second"), "one");
    assert_eq!(running.stop(), Some(0));

    for (args, words) in [
        (
            &["rules", "rollback", "77"][..],
            "generation 77 is not kept; `postroom rules list`",
        ),
        (
            &["rules", "rollback", "--tenant", "acmee"],
            "has no acmee/*; it has acme/rules/acme.js",
        ),
        (
            &["rules", "show", "--rule", "rules/b.js"],
            "has no */rules/b.js",
        ),
        (&["rules", "diff", "5", "9"], "generation 5 is not kept"),
    ] {
        let output = room.postroom(args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        assert!(both(&output).contains(words), "{args:?}: {}", both(&output));
    }
}

#[test]
fn a_first_generation_has_no_way_back() {
    let (room, running) = started(&marking("one"), "");
    let output = room.postroom(&["rules", "rollback"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        both(&output).contains("no generation before the first"),
        "{}",
        both(&output)
    );
    assert_eq!(queue_of(&room, "second"), "one");
    drop(running);
}

#[test]
fn a_rule_that_fails_too_often_goes_back_with_one_alert_until_it_is_mended() {
    let (room, running) = started(&marking("one"), "");
    room.write(RULE, faulty("two"));
    running.await_log("generation=2");
    for number in 1..=4 {
        let decision = decided(&room, &format!("bad {number}"));
        assert_eq!(decision["rule"], "standard");
        assert_eq!(decision["troubles"][0]["location"], "rules/acme.js:2:39");
    }
    assert_eq!(queue_of(&room, "good"), "two");
    assert!(alerts(&room).is_empty());
    decided(&room, "bad 5");
    await_generation(&room, 3);
    let back = decided(&room, "bad 6");
    assert_eq!(back["rule"], RULE);
    assert_eq!(back["actions"][0]["queue"], "one");

    let story = room.rows(&["rules", "list", "--limit", "1"]);
    assert_eq!(story[0]["why"], "sent back");
    assert_eq!(alerts(&room), [("firing".to_owned(), 1)]);
    let alert = room
        .items()
        .into_iter()
        .find(|item| item["alert_key"] == ALERT_KEY)
        .unwrap();
    let title = alert["title"].as_str().unwrap();
    assert!(
        title.contains(
            "failed for 5 senders among its last 6 mails: its version of generation 1 is live again"
        ),
        "{title}"
    );
    assert!(wait_for(PATIENCE, || room.posted().iter().any(|post| {
        String::from_utf8_lossy(&post.body).contains(ALERT_KEY)
    })));

    // After a restart as well; the same text is not tried again.
    assert_eq!(running.stop(), Some(0));
    let running = room.start();
    assert_eq!(queue_of(&room, "bad 7"), "one");

    room.write(RULE, marking("mended"));
    await_generation(&room, 4);
    assert_eq!(queue_of(&room, "bad 8"), "mended");
    assert_eq!(alerts(&room), [("resolved".to_owned(), 2)]);
    assert_eq!(running.stop(), Some(0));
    room.assert_balanced(10);
}

/// Somebody who finds a mail on which a rule fails must not be able to switch the rule off.
#[test]
fn a_rule_without_a_version_before_stays_and_one_alert_reports_it() {
    let (room, running) = started(&faulty("one"), "\n[limits]\nstrikes = 2\nstrikes_of = 3\n");
    for number in 1..=4 {
        let failed = decided(&room, &format!("bad {number}"));
        assert_eq!(failed["rule"], "standard");
        assert_eq!(failed["troubles"][0]["location"], "rules/acme.js:2:39");
    }
    assert_eq!(queue_of(&room, "good 1"), "one");
    assert_eq!(alerts(&room), [("firing".to_owned(), 1)]);
    // A restart neither switches it off nor reports it again.
    assert_eq!(running.stop(), Some(0));
    let running = room.start();
    decided(&room, "bad 5");
    assert_eq!(queue_of(&room, "good 2"), "one");
    assert_eq!(alerts(&room), [("firing".to_owned(), 1)]);
    room.write(RULE, marking("mended"));
    running.await_log("generation=2");
    assert!(wait_for(PATIENCE, || alerts(&room) == [("resolved".to_owned(), 2)]));
    assert_eq!(queue_of(&room, "bad 6"), "mended");
}

#[test]
fn many_mails_of_one_sender_send_no_rule_back() {
    let (room, running) = started(&marking("one"), "\n[limits]\nstrikes = 2\n");
    room.write(RULE, faulty("two"));
    running.await_log("generation=2");
    for number in 1..=6 {
        let subject = format!("bad {number}");
        // A different address each time, and one mail without any.
        let from = match number {
            6 => "nobody".to_owned(),
            number => format!("Eve <eve{number}@evil.example>"),
        };
        room.deliver(mail_from(&from, &subject, "…", ""));
        assert_eq!(room.await_decision(&subject)["rule"], "standard");
        if number < 6 {
            assert_eq!(queue_of(&room, &format!("good {number}")), "two");
        }
    }
    await_generation(&room, 3);
    assert_eq!(queue_of(&room, "good again"), "one");
}

#[test]
fn a_rule_that_protects_fails_closed() {
    let quarantine = "\n[tenants.acme.on_failure]\n\"rules/acme.js\" = \"quarantine\"\n";
    let (room, running) = started(&faulty("one"), quarantine);
    let failed = decided(&room, "bad 1");
    assert_eq!(failed["outcome"], "quarantined");
    assert_eq!(failed["rule"], RULE);
    let reason = failed["actions"][0]["reason"].as_str().unwrap();
    assert!(
        reason.starts_with("rules/acme.js failed (failure): "),
        "{reason}"
    );
    assert_eq!(queue_of(&room, "good"), "one");
    assert_eq!(running.stop(), Some(0));

    let fallback = quarantine.replace("quarantine", "fallback");
    room.write("postroom.toml", room.config(&[RULE, "standard"], &fallback));
    let _running = room.start();
    let failed = decided(&room, "bad 2");
    assert_eq!(failed["rule"], "fallback");
    assert_eq!(failed["troubles"][0]["rule"], RULE);
}

#[test]
fn rules_are_kept_for_ever_where_nothing_sends_them_back() {
    let (room, _running) = started(&faulty("one"), "\n[limits]\nstrikes = 0\n");
    for number in 1..=7 {
        let decision = decided(&room, &format!("bad {number}"));
        assert_eq!(decision["troubles"][0]["location"], "rules/acme.js:2:39");
    }
    assert_eq!(queue_of(&room, "good"), "one");
    assert!(alerts(&room).is_empty());
}

#[test]
fn so_many_generations_are_kept_as_the_configuration_says() {
    let room = Room::bare(stand());
    room.write(
        "postroom.toml",
        room.config(&[RULE, "standard"], "[limits]\ngenerations = 2\n"),
    );
    for word in ["one", "two", "three"] {
        room.write(RULE, marking(word));
        room.once();
    }
    let numbers = || -> Vec<u64> {
        let list = room.rows(&["rules", "list"]);
        let numbers = list.iter().map(|row| row["generation"].as_u64().unwrap());
        numbers.collect()
    };
    assert_eq!(numbers(), [3, 2]);
    let gone = room.postroom(&["rules", "show", "1"]);
    assert!(!gone.status.success(), "{}", both(&gone));
    // A rollback does not depend on how many generations are kept, and removes none.
    room.ok(&["rules", "rollback"]);
    assert_eq!(numbers(), [4, 3, 2]);
}

#[test]
fn check_warns_of_a_file_whose_version_is_refused() {
    let room = Room::bare(stand());
    room.write(RULE, marking("one"));
    room.write("postroom.toml", room.config(&[RULE, "standard"], ""));
    let check = || {
        let output = room.postroom(&["check"]);
        assert_eq!(output.status.code(), Some(0), "{}", both(&output));
        both(&output)
    };
    let refused = "warning: was rolled back to generation 1 for acme, and is refused until the file changes\n--> rules/acme.js";
    assert!(!check().contains("was "), "{}", check());
    assert!(!room.path().join("data").exists());
    room.once();
    room.write(RULE, marking("two"));
    room.once();
    assert!(!check().contains("was "), "{}", check());
    room.ok(&["rules", "rollback"]);
    assert!(check().contains(refused), "{}", check());
    // Works while a service holds the store as well.
    let running = room.start();
    assert!(check().contains(refused), "{}", check());
    assert_eq!(running.stop(), Some(0));
    room.write(RULE, marking("three"));
    assert!(!check().contains("was "), "{}", check());
    room.write(RULE, marking("two"));
    room.ok(&["rules", "rollback", "2"]);
    assert!(!check().contains("was "), "{}", check());
}

#[test]
fn failures_are_counted_over_many_short_runs() {
    let room = Room::bare(stand());
    room.write(RULE, marking("one"));
    room.write("postroom.toml", room.config(&[RULE, "standard"], ""));
    room.once();
    room.write(RULE, faulty("two"));
    for number in 1..=5 {
        let subject = format!("bad {number}");
        room.deliver(from_somebody(&subject));
        room.once();
        let failed = format!("{}", room.decision(&subject)["troubles"]);
        assert!(failed.contains("rules/acme.js:2:39"), "{failed}");
    }
    let story = room.rows(&["rules", "list", "--limit", "1"]);
    assert_eq!(story[0]["why"], "sent back");
    assert_eq!(alerts(&room), [("firing".to_owned(), 1)]);
    room.deliver(mail("good", "…"));
    room.once();
    assert_eq!(room.decision("good")["actions"][0]["queue"], "one");
}
