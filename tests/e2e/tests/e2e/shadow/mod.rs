//! `postroom shadow`: a candidate decides the next mails alongside the live rule; nothing else changes until it is
//! promoted.

mod promotion;

use std::path::PathBuf;

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{Stand, wait_for};
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

const RULE: &str = r#"export function decide(mail, ctx) {
  if (mail.subject.startsWith("pass")) return;
  return ticket({ queue: "Desk" });
}
"#;
const BURNS: &str = "export function decide() { while (true) {} }\n";

/// Returns a room with a spool for each tenant: `drop` of `acme` with the rule `rules/a.js`, and `quiet` of `quiet`.
fn room() -> Room<'static> {
    room_with(RULE, "", "")
}

fn room_with(rule: &str, acme: &str, more: &str) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    configure(&room, acme, more);
    room.write("rules/a.js", rule);
    room
}

fn configure(room: &Room<'_>, acme: &str, more: &str) {
    let mailbox = |name: &str, tenant: &str, rules: &str| {
        format!(
            "[mailboxes.{name}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"{name}\"\nevery = \"1s\"\nrules = [{rules}]\n"
        )
    };
    let config = format!(
        "data_dir = \"data\"\n{more}\n[tenants.acme]\n{acme}\n[tenants.quiet]\n[sinks.psa]\nkind = \"webhook\"\nurl = {:?}\nsecret = {{ env = \"POSTROOM_TEST_HOOK_SECRET\" }}\n{}{}",
        format!("{}/shadow", room.stand.webhook().url()),
        mailbox("drop", "acme", "\"rules/a.js\", \"standard\""),
        mailbox("quiet", "quiet", "\"standard\""),
    );
    room.write("postroom.toml", config);
}

/// Returns a candidate with another queue for some mails.
fn other_queue(subject: &str) -> String {
    let queue = format!("mail.subject.startsWith({subject:?}) ? \"Other\" : \"Desk\"");
    RULE.replace("\"Desk\"", &queue)
}

/// Returns a rule equivalent to [`RULE`], but written differently.
fn reworded() -> String {
    format!("// The same.\n{RULE}")
}

fn take_in(room: &Room<'_>, subjects: &[&str]) {
    for subject in subjects {
        let file = format!("drop/{}.eml", subject.replace(' ', "-"));
        room.write(&file, mail(subject, "body"));
        room.await_decision(subject);
    }
}

/// Delivers a mail that is the same in every room.
fn take_in_raw(room: &Room<'_>, (subject, text): &(&str, String)) {
    room.write(&format!("drop/{}.eml", subject.replace(' ', "-")), text);
    room.await_decision(subject);
}

/// Returns the newest shadow of a mailbox.
fn shadow_of(room: &Room<'_>, mailbox: &str) -> Value {
    let all = room.rows(&["shadow", "list"]);
    let newest = all.into_iter().find(|row| row["mailbox"] == mailbox);
    newest.unwrap_or_default()
}

/// Waits until the shadow of `drop` meets a condition.
fn await_shadow(room: &Room<'_>, is: impl Fn(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let seen = wait_for(PATIENCE, || {
        last = shadow_of(room, "drop");
        is(&last)
    });
    assert!(seen, "{last:#}\n{}", room.log());
    last
}

fn await_state(room: &Room<'_>, state: &str) -> Value {
    await_shadow(room, |row| row["state"] == state)
}

fn counts(row: &Value) -> [u64; 4] {
    ["same", "changed", "failed", "mended"].map(|key| row[key].as_u64().unwrap())
}

/// Returns the error of a command that must fail.
fn refused(room: &Room<'_>, args: &[&str]) -> String {
    let output = room.postroom(args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn rule_file(room: &Room<'_>) -> String {
    std::fs::read_to_string(room.path().join("rules/a.js")).unwrap()
}

fn database(room: &Room<'_>) -> PathBuf {
    room.path().join("data/postroom.sqlite")
}

fn ask(room: &Room<'_>, sql: &str) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = Connection::open_with_flags(database(room), flags).unwrap();
    conn.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Returns everything that the line made, without times, tries and the data of shadows.
fn made(room: &Room<'_>) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = Connection::open_with_flags(database(room), flags).unwrap();
    let mut lines = Vec::new();
    for (table, columns) in [
        (
            "journal",
            // The order in which mailboxes are first written, and so their numbers, is random.
            "id, (SELECT name FROM tenant WHERE tenant.id = journal.tenant), (SELECT name FROM mailbox WHERE mailbox.id = journal.mailbox), size, message_id",
        ),
        ("decision", "journal, outcome, ticket"),
        (
            "decision_record",
            "journal, json_remove(record, '$.elapsed_us', '$.rules')",
        ),
        ("pending", "*"),
        (
            "item",
            "id, kind, ticket, state, count, title, queue, detail, body",
        ),
        // The key differs between installations.
        (
            "outbox",
            "id, kind, target, decision, length(idempotency_key)",
        ),
        ("kv", "rule, key, value"),
        ("generation", "number, cause, hash"),
        ("rule_version", "name, since, until, hash"),
        ("rule_refused", "name, hash"),
    ] {
        let sql = format!("SELECT {columns} FROM {table}");
        let mut statement = conn.prepare(&sql).unwrap();
        let width = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..width).map(|n| format!("{:?}", row.get::<_, Cell>(n).unwrap()));
            lines.push(format!(
                "{table}: {}",
                cells.collect::<Vec<_>>().join(" | ")
            ));
        }
    }
    lines
}

#[test]
fn what_is_otherwise_is_told_and_what_is_decided_is_as_without() {
    // An earlier rule fails on some mails, which counts once; and nobody stores what the candidate would write to `kv`.
    let first =
        "export function decide(mail) {\n  if (mail.subject.startsWith(\"bad\")) null.x;\n}\n";
    let rule = r#"export function decide(mail, ctx) {
  const count = Number(ctx.kv.get("count") ?? 0) + 1;
  ctx.kv.set("count", String(count));
  return ticket({ queue: "Desk", fields: { count } });
}
"#;
    let candidate = r#"export function decide(mail, ctx) {
  const count = Number(ctx.kv.get("count") ?? 0) + 1;
  ctx.kv.set("count", "candidate");
  if (mail.subject === "three") null.y;
  const queue = mail.subject === "two" ? "Other" : "Desk";
  return ticket({ queue: ctx.kv.get("else") ?? queue, fields: { count } });
}
"#;
    let mails = ["zero", "one", "bad 1", "two", "bad 2", "three", "bad 3"];
    let mails = mails.map(|it| (it, mail(it, "body")));
    let rooms = [false, true].map(|shadowed| {
        let limits = "[limits]\nstrikes = 4\nstrikes_of = 20";
        let room = room_with(rule, "grants = [\"kv\"]", limits);
        let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
        let chain = "rules = [\"rules/first.js\", \"rules/a.js\"";
        room.write(
            "postroom.toml",
            config.replace("rules = [\"rules/a.js\"", chain),
        );
        room.write("rules/first.js", first);
        room.write("a.js", candidate);
        let running = room.start();
        take_in_raw(&room, &mails[0]);
        if shadowed {
            let said = room.ok(&["shadow", "start", "drop", "--rule", "a.js", "--mails", "9"]);
            assert!(
                said.contains("a.js runs alongside rules/a.js on the next 9 mails of drop"),
                "{said}"
            );
        }
        for mail in &mails[1..] {
            take_in_raw(&room, mail);
        }
        if shadowed {
            let row = await_shadow(&room, |row| row["decided"] == 6);
            assert_eq!(row["state"], "running");
            assert_eq!(
                (row["mails"].clone(), counts(&row)),
                (json!(9), [4, 1, 1, 0])
            );
            assert_eq!(row["unrecorded"], 5);
        }
        assert_eq!(running.stop(), Some(0));
        room
    });
    let [without, with] = &rooms;
    assert!(made(without).len() > 30, "{:#?}", made(without));
    assert_eq!(made(with), made(without));

    let lines = with.rows(&["shadow", "show", "drop"]);
    let [two, three, summary] = lines.as_slice() else {
        panic!("{lines:#?}");
    };
    assert_eq!(
        (&two["result"], &two["change"]),
        (&json!("changed"), &json!("queue"))
    );
    assert_eq!(two["before"]["actions"][0]["queue"], "Desk");
    assert_eq!(two["after"]["actions"][0]["queue"], "Other");
    let unrecorded = json!([{"rule": "rules/a.js", "asked": "kv", "key": "else"}]);
    assert_eq!(two["unrecorded"], unrecorded);
    assert_eq!(
        (&three["subject"], &three["result"]),
        (&json!("three"), &json!("failed"))
    );
    assert_eq!(
        three["after"]["troubles"][0]["location"], "rules/a.js:4:33",
        "{three:#}"
    );
    assert_eq!(summary["changes"], json!({"queue": 1}));
    assert_eq!(summary["rules"][0]["asked"], 6);
    assert_eq!(summary["rules"][0]["troubles"], json!({"failure": 1}));
    assert_eq!(summary["shadow"]["decided"], 6);
    let text = with.ok(&["shadow", "show", "drop"]);
    for words in [
        "shadow of rules/a.js on drop, begun ",
        ": 6 of 9 mails, running\n",
        "changed: \"two\", mail 4 of drop",
        "+     queue: \"Other\"",
        "new failure: \"three\"",
        "4 same · 1 changed (1 queue) · 1 new failure\n",
        "rules/a.js queried kv for \"else\", which was not queried then",
        "1 failure",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains("a second"), "{text}");
    let text = with.ok(&["shadow", "list"]);
    assert!(
        text.contains("6 of 9") && text.contains("4 same · 1 changed"),
        "{text}"
    );

    let said = with.ok(&["shadow", "stop", "drop"]);
    assert!(
        said.contains("stopped after 6 of 9 mails: 4 same · 1 changed"),
        "{said}"
    );
    with.write("drop/after.eml", mail("after", "body"));
    with.once();
    let row = shadow_of(with, "drop");
    assert_eq!(
        (&row["state"], &row["decided"]),
        (&json!("stopped"), &json!(6))
    );
}

#[test]
fn a_candidate_is_granted_what_its_tenant_is() {
    let room = room();
    room.write(
        "a.js",
        RULE.replace("return ticket", "ctx.kv.get(\"seen\");\n  return ticket"),
    );
    room.once();
    room.ok(&["shadow", "start", "drop", "--rule", "a.js", "--mails", "1"]);
    room.write("drop/one.eml", mail("one", "…"));
    room.once();
    assert_eq!(counts(&shadow_of(&room, "drop")), [0, 0, 1, 0]);
    let shown = room.rows(&["shadow", "show", "drop"]);
    assert_eq!(shown[0]["after"]["troubles"][0]["kind"], "not-granted");
}

#[test]
fn killed_in_the_middle_it_goes_on_where_it_was_and_counts_no_mail_twice() {
    let room = room();
    // Slow, so that there is a middle; the same decisions except for one mail.
    let slow = other_queue("m 07").replace(
        "return ticket",
        "for (let i = 0; i < 2e5; i++);\n  return ticket",
    );
    room.write("a.js", slow);
    room.once();
    room.ok(&["shadow", "start", "drop", "--rule", "a.js", "--mails", "20"]);
    let fill = |from: u32, to: u32| {
        for number in from..to {
            room.write(
                &format!("drop/{number:02}.eml"),
                mail(&format!("m {number:02}"), "…"),
            );
        }
    };
    fill(0, 6);
    room.once_killed_at("before-shadow-record");
    assert_eq!(shadow_of(&room, "drop")["decided"], 0);
    room.once();
    assert_eq!(shadow_of(&room, "drop")["decided"], 6);
    fill(6, 12);
    room.once_killed_at("before-shadow-record");
    assert_eq!(shadow_of(&room, "drop")["decided"], 6);
    let mut running = room.start();
    await_shadow(&room, |row| row["decided"] == 12);
    fill(12, 25);
    for _ in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(150));
        running.kill();
        running = room.start();
    }
    await_shadow(&room, |row| row["decided"] == 20);
    room.await_decision("m 24");
    assert_eq!(running.stop(), Some(0));
    let row = shadow_of(&room, "drop");
    assert_eq!(
        (&row["state"], counts(&row)),
        (&json!("finished"), [19, 1, 0, 0])
    );
    assert_eq!(ask(&room, "SELECT count(*) FROM shadow_mail"), 20);
    // Each of them is one of the first: none was left out.
    assert_eq!(ask(&room, "SELECT max(journal) FROM shadow_mail"), 20);
    let lines = room.rows(&["shadow", "show", "drop"]);
    assert_eq!(lines[0]["subject"], "m 07");
    room.assert_balanced(25);
}

#[test]
fn a_candidate_that_never_ends_holds_up_nobody() {
    let room = room();
    room.write("a.js", BURNS);
    let running = room.start();
    take_in(&room, &["before"]);
    room.ok(&[
        "shadow", "start", "drop", "--rule", "a.js", "--mails", "1000",
    ]);
    for number in 0..120 {
        room.write(
            &format!("drop/{number:03}.eml"),
            mail(&format!("m {number:03}"), "…"),
        );
    }
    await_shadow(&room, |row| row["failed"].as_u64() > Some(0));
    // Half a minute of work that nothing waits for: another tenant, its own, and the stop.
    room.write("quiet/1.eml", mail("Quiet", "Please."));
    room.await_decision("Quiet");
    take_in(&room, &["its own"]);
    let row = shadow_of(&room, "drop");
    assert_eq!(row["state"], "running");
    assert!(row["decided"].as_u64() < Some(121), "{row:#}");
    assert_eq!(room.decision("its own")["rule"], "rules/a.js");
    assert_eq!(running.stop(), Some(0));
    // The mail in progress is finished, and the rest remains for the next start.
    let row = shadow_of(&room, "drop");
    assert_eq!((&row["state"], counts(&row)[0]), (&json!("running"), 0));
    let shown = room.rows(&["shadow", "show", "drop"]);
    assert_eq!(shown[0]["after"]["troubles"][0]["kind"], "deadline");
    let running = room.start();
    await_shadow(&room, |now| now["failed"].as_u64() > row["failed"].as_u64());

    // Stopped while the service runs, it counts nothing more.
    room.ok(&["shadow", "stop", "drop"]);
    let row = shadow_of(&room, "drop");
    take_in(&room, &["after"]);
    assert_eq!(running.stop(), Some(0));
    assert_eq!(shadow_of(&room, "drop"), row);
    room.assert_balanced(124);
}

#[test]
fn what_cannot_be_begun_ended_or_promoted_says_why() {
    let room = room();
    room.write("a.js", reworded());
    room.write(
        "broken.js",
        "export function decide() {\n  return ticket({;\n}\n",
    );
    room.write("a.ts", RULE);
    room.write("b.js", RULE);
    let start = |args: &[&str]| refused(&room, &[&["shadow", "start"], args].concat());
    let error = start(&["drop", "--rule", "a.js"]);
    assert!(error.contains("holds no database yet"), "{error}");
    room.once();
    for (args, words) in [
        (
            &["dorp", "--rule", "a.js"][..],
            "no mailbox is named dorp (known: drop, quiet); did you mean `drop`?",
        ),
        (
            &["drop", "--rule", "none.js"],
            "--rule none.js: it does not exist, or is not a file",
        ),
        (
            &["drop", "--rule", "broken.js", "--as", "rules/a.js"],
            "broken.js:2:",
        ),
        (
            &["drop", "--rule", "b.js"],
            "no chain has a rule of this name. The chains have: rules/a.js, standard; help: name the rule that it replaces with --as NAME",
        ),
        (
            &["drop", "--rule", "b.js", "--as", "rules/b.js"],
            "--as: no rule of a chain is named rules/b.js (known: rules/a.js, standard)\n",
        ),
        (
            &["drop", "--rule", "b.js", "--as", "standard"],
            "standard is built in: there is no file",
        ),
        (
            &["drop", "--rule", "a.ts", "--as", "rules/a.js"],
            "--rule a.ts: rules/a.js has another ending",
        ),
        (
            &["drop", "--rule", "b.js", "--as", "rules/a.js"],
            "--rule b.js: it is already the live version of rules/a.js",
        ),
        (
            &["drop", "--rule", "a.js", "--mails", "0"],
            "--mails 0: a shadow is of 1 to 10000 mails",
        ),
        (
            &["drop", "--rule", "a.js", "--mails", "10001"],
            "--mails 10001: a shadow is of 1 to 10000 mails",
        ),
    ] {
        let error = start(args);
        assert!(error.contains(words), "{args:?}: {error}");
    }
    assert!(room.rows(&["shadow", "list"]).is_empty());
    for verb in ["stop", "promote", "show"] {
        let error = refused(&room, &["shadow", verb, "drop"]);
        assert!(
            error.contains("drop: this mailbox never had a shadow"),
            "{error}"
        );
    }
    room.ok(&["shadow", "start", "drop", "--rule", "a.js"]);
    assert_eq!(shadow_of(&room, "drop")["mails"], 100);
    let error = start(&["drop", "--rule", "a.js"]);
    assert!(
        error.contains("mailbox drop has a shadow of rules/a.js already; help:"),
        "{error}"
    );
    let error = refused(&room, &["shadow", "stop", "dorp"]);
    assert!(error.contains("did you mean `drop`?"), "{error}");
    room.ok(&["shadow", "stop", "drop"]);
    let error = refused(&room, &["shadow", "stop", "drop"]);
    assert!(
        error.contains("the shadow of drop does not run: it is stopped"),
        "{error}"
    );
}

#[test]
fn a_save_meanwhile_and_a_second_mailbox_are_each_compared_with_what_serves() {
    let room = room();
    let second = "[mailboxes.second]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"second\"\nevery = \"1s\"\nrules = [\"rules/a.js\"]\n";
    configure(&room, "", "");
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    room.write("postroom.toml", format!("{config}{second}"));
    room.write("a.js", other_queue("x"));
    let running = room.start();
    take_in(&room, &["before"]);
    let said = room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "2",
        "--promote",
    ]);
    assert!(
        said.contains("which is also a rule of second (acme)"),
        "{said}"
    );
    room.ok(&[
        "shadow", "start", "second", "--rule", "a.js", "--mails", "1",
    ]);
    take_in(&room, &["x one"]);
    await_shadow(&room, |row| row["changed"] == 1);
    // The saved rule does what the candidate would have done.
    room.write(
        "rules/a.js",
        other_queue("x").replace("export", "// By hand.\nexport"),
    );
    running.await_log("generation=2");
    take_in(&room, &["x two"]);
    assert_eq!(counts(&await_state(&room, "finished")), [1, 1, 0, 0]);
    assert_eq!(shadow_of(&room, "second")["decided"], 0);
    room.write("second/1.eml", mail("to the second", "…"));
    assert!(wait_for(PATIENCE, || shadow_of(&room, "second")["state"]
        == "finished"));
    assert_eq!(counts(&shadow_of(&room, "second")), [1, 0, 0, 0]);
    assert_eq!(room.rows(&["rules", "list"]).len(), 2);
    // The candidate itself, saved by hand: it need not be promoted any more.
    room.write("rules/a.js", other_queue("x"));
    await_state(&room, "promoted");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn mails_that_no_rule_saw_or_that_are_gone_do_not_count() {
    let room = room_with(RULE, "", "[limits]\nmessage_bytes = \"64KiB\"");
    room.write("a.js", reworded());
    room.once();
    room.ok(&["shadow", "start", "drop", "--rule", "a.js", "--mails", "2"]);
    // Decided while nothing follows the shadow; then its bytes are older than `keep_raw`.
    room.write("gone.eml", mail("gone", "…"));
    room.ok(&["mail", "import", "--mailbox", "drop", "gone.eml"]);
    assert_eq!(shadow_of(&room, "drop")["decided"], 0);
    let conn = Connection::open(database(&room)).unwrap();
    conn.execute("DELETE FROM raw", []).unwrap();
    room.write("drop/large.eml", mail("large", &"x".repeat(70_000)));
    room.write("drop/one.eml", mail("one", "…"));
    room.once();
    let row = shadow_of(&room, "drop");
    assert_eq!(row["skipped"], json!({"purged": 1, "set-aside": 1}));
    assert_eq!(
        (&row["state"], counts(&row)),
        (&json!("running"), [1, 0, 0, 0])
    );
    let text = room.ok(&["shadow", "show", "drop"]);
    assert!(
        text.contains("not compared: 1 without bytes, older than keep_raw"),
        "{text}"
    );

    // Its mailbox is removed from the configuration.
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    room.write(
        "postroom.toml",
        config.replace("[mailboxes.drop]", "[mailboxes.renamed]"),
    );
    room.once();
    let row = shadow_of(&room, "drop");
    assert_eq!(row["state"], "failed");
    assert_eq!(row["reason"], "its mailbox is no longer configured");
}
