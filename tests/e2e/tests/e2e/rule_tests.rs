//! Tests of rules: run, updated, pinned from a received mail, and required before a rule goes live.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use postroom_e2e::{Room, Running, both, mail, mail_from};
use postroom_stand::Stand;
use serde_json::Value;

const RULE: &str = "rules/acme.js";
const GATE: &str = "\n[tenants.acme]\nrule_tests = true\n";

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

/// Configures a mailbox that is a folder, with `more` lines for the tenant.
fn spool(room: &Room, more: &str) {
    room.write(
        "postroom.toml",
        format!(
            "[tenants.acme]\ndomains = [\"acme.example\"]\n{more}\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"{RULE}\", \"standard\"]\n"
        ),
    );
}

fn queueing(word: &str) -> String {
    format!("export function decide(mail) {{\n  return ticket({{ queue: \"{word}\" }});\n}}\n")
}

/// Runs the tests; returns the exit code and the rows.
fn tested(room: &Room, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let all = [&["rule", "test", "--json"], args].concat();
    let output = room.postroom(&all);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows = text.lines().map(serde_json::from_str::<Value>);
    let rows: Result<Vec<Value>, _> = rows.collect();
    (
        output.status.code(),
        rows.unwrap_or_else(|e| panic!("{e}: {}", both(&output))),
    )
}

#[test]
fn what_init_writes_passes_its_test_from_anywhere() {
    let room = room();
    room.ok(&["init", "."]);
    for args in [
        &[][..],
        &["rules"],
        &["rules/first.js"],
        &["rules/first.cases"],
        &["rules/first.cases/hello.eml"],
        &["rules/first.js", "--mailbox", "drop"],
    ] {
        let (code, rows) = tested(&room, args);
        assert_eq!((code, rows.len()), (Some(0), 1), "{args:?}: {rows:#?}");
        assert_eq!(rows[0]["state"], "ok", "{rows:#?}");
        assert_eq!(rows[0]["tenant"], "acme", "{rows:#?}");
    }
}

#[test]
fn cases_come_as_other_programs_save_them_and_none_is_passed_over() {
    let room = room();
    room.write(RULE, queueing("one"));
    let expected = "{\"outcome\": \"ticket\"}";
    room.write("rules/acme.cases/SAVED.EML", mail("hello", "first"));
    room.write("rules/acme.cases/SAVED.expected.json", expected);
    room.write("rules/acme.cases/with blank.eml", mail("hello", "first"));
    let marked = format!("\u{feff}{expected}\r\n");
    room.write("rules/acme.cases/with blank.expected.json", marked);
    let (code, rows) = tested(&room, &[RULE]);
    assert_eq!((code, rows.len()), (Some(0), 2), "{rows:#?}");
    let (code, rows) = tested(&room, &["rules/acme.cases/SAVED.EML"]);
    assert_eq!((code, rows.len()), (Some(0), 1), "{rows:#?}");

    // Somebody renamed the mail, so the case would never run again.
    room.write("rules/acme.cases/gone.expected.json", expected);
    for args in [&[RULE][..], &[RULE, "--update"]] {
        let (code, rows) = tested(&room, args);
        assert_eq!((code, rows.len()), (Some(1), 3), "{rows:#?}");
        let gone = rows.iter().find(|row| row["case"] == "gone").unwrap();
        let reason = gone["reason"].as_str().unwrap();
        assert!(reason.contains("gone.eml does not exist"), "{reason}");
    }
}

#[test]
fn a_difference_is_shown_and_update_takes_it() {
    let room = room();
    spool(&room, "");
    room.write(RULE, queueing("one"));
    room.write("rules/acme.cases/a.eml", mail("hello", "first\nsecond"));
    let missing = room.postroom(&["rule", "test"]);
    assert_eq!(missing.status.code(), Some(1), "{}", both(&missing));
    assert!(
        both(&missing).contains("--update writes it"),
        "{}",
        both(&missing)
    );

    room.ok(&["rule", "test", "--update"]);
    let expected = room.path().join("rules/acme.cases/a.expected.json");
    let pinned: Value = serde_json::from_slice(&std::fs::read(&expected).unwrap()).unwrap();
    assert_eq!(pinned["outcome"], "ticket");
    assert_eq!(pinned["actions"][0]["queue"], "one");
    assert_eq!(pinned["actions"][0]["title"], "hello");
    assert_eq!(tested(&room, &[]).0, Some(0));

    room.write(RULE, queueing("two"));
    let failed = room.postroom(&["rule", "test", RULE]);
    assert_eq!(failed.status.code(), Some(1));
    let shown = both(&failed);
    for line in [
        "failed",
        "-     queue: \"one\"",
        "+     queue: \"two\"",
        "1 failed",
    ] {
        assert!(shown.contains(line), "{line:?} is not in\n{shown}");
    }
    assert!(
        !shown.contains('\u{1b}'),
        "colour outside of a terminal:\n{shown}"
    );
    let (_, rows) = tested(&room, &["--update"]);
    assert_eq!(rows[0]["state"], "updated", "{rows:#?}");
    assert_eq!(tested(&room, &[]).0, Some(0));

    // Values filled in from the mail may be left out, values set by the rule may not, and there may be no others.
    for (text, code) in [
        (
            r#"{"outcome":"ticket","actions":[{"kind":"ticket","queue":"two"}]}"#,
            0,
        ),
        (r#"{"outcome":"ticket"}"#, 0),
        (r#"{"actions":[{"kind":"ticket"}]}"#, 1),
        (
            r#"{"actions":[{"kind":"ticket","queue":"two","title":"other"}]}"#,
            1,
        ),
        (
            r#"{"actions":[{"kind":"ticket","queue":"two","tags":["x"]}]}"#,
            1,
        ),
        (r#"{"outcome":"pass"}"#, 1),
        ("null", 1),
        ("{}", 1),
    ] {
        std::fs::write(&expected, text).unwrap();
        assert_eq!(tested(&room, &[]).0, Some(code), "{text}");
    }
    std::fs::write(&expected, "{\n  \"outcom\": \"ticket\"\n}\n").unwrap();
    let (_, rows) = tested(&room, &[]);
    let reason = rows[0]["reason"].as_str().unwrap();
    assert!(
        reason.contains("a.expected.json:2:10: unknown field"),
        "{reason}"
    );
}

#[test]
fn a_case_states_its_own_circumstances() {
    let room = room();
    spool(&room, "grants = [\"kv\"]");
    room.write(
        RULE,
        r#"export function decide(mail, ctx) {
  const seen = Number(ctx.kv.get("seen") ?? "0") + 1;
  ctx.kv.set("seen", String(seen));
  return note({ body: `${ctx.settings.word} ${seen} ${ctx.now} ${ctx.client === null}` });
}
"#,
    );
    room.write("rules/acme.cases/a.eml", mail("hello", "…"));
    let expected = r#"{
  "actions": [{ "kind": "note", "ticket": "T-7", "body": "mine 4 2026-01-02T03:04:05.000Z true" }],
  "kv_writes": { "seen": "4" },
  "settings": { "word": "mine" },
  "context": { "client": null, "now": "2026-01-02T03:04:05Z", "thread": { "ticket": "T-7", "method": "subject", "authorised": true } },
  "kv": { "seen": "3" }
}"#;
    room.write("rules/acme.cases/a.expected.json", expected);
    let (code, rows) = tested(&room, &[]);
    assert_eq!(code, Some(0), "{rows:#?}");

    // An update keeps the case's inputs.
    let wrong = expected.replace("mine 4", "mine 9");
    room.write("rules/acme.cases/a.expected.json", &wrong);
    assert_eq!(tested(&room, &["--update"]).0, Some(0));
    let file = room.path().join("rules/acme.cases/a.expected.json");
    let after: Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    let before: Value = serde_json::from_str(expected).unwrap();
    for key in ["settings", "kv", "kv_writes"] {
        assert_eq!(after[key], before[key], "{after:#}");
    }
    assert_eq!(after["context"]["client"], Value::Null);
    assert!(after["context"].as_object().unwrap().contains_key("client"));
}

#[test]
fn what_the_tests_of_a_rule_may_take_is_a_limit_of_its_tenant() {
    let room = room();
    room.write(RULE, "export function decide() { while (true) {} }\n");
    for case in 0..12 {
        room.write(&format!("rules/acme.cases/{case}.eml"), mail("hello", "…"));
        let expected = format!("rules/acme.cases/{case}.expected.json");
        room.write(&expected, "{\"outcome\": \"ticket\"}");
    }
    // Each case takes the 250 ms that a mail may take.
    for (limits, refusal) in [
        (
            "test_cases = 11",
            "its 12 tests exceed the limit test_cases of 11",
        ),
        ("test_cases = 12", "12 of its 12 tests fail"),
        (
            "test_time = \"1s\"",
            "its tests exceed the limit test_time of 1 s",
        ),
    ] {
        spool(
            &room,
            &format!("rule_tests = true\n[tenants.acme.limits]\n{limits}"),
        );
        let checked = room.postroom(&["check"]);
        assert_eq!(checked.status.code(), Some(1), "{}", both(&checked));
        assert!(both(&checked).contains(refusal), "{}", both(&checked));
    }
}

#[test]
fn no_case_at_all_is_a_failure_and_a_rule_in_trouble_too() {
    let room = room();
    spool(&room, "");
    room.write(RULE, queueing("one"));
    let none = room.postroom(&["rule", "test"]);
    assert_eq!(none.status.code(), Some(1), "{}", both(&none));
    assert!(both(&none).contains("rules/acme.cases"), "{}", both(&none));

    // A rule without tests is only mentioned if another rule has some.
    room.write("rules/other.js", queueing("one"));
    room.write("rules/other.cases/a.eml", mail("hello", "…"));
    room.ok(&["rule", "test", "rules", "--update"]);
    let (code, rows) = tested(&room, &["rules"]);
    assert_eq!(code, Some(0), "{rows:#?}");
    assert!(
        rows.iter().any(|row| row["state"] == "no-cases"),
        "{rows:#?}"
    );

    room.write(
        RULE,
        "export function decide() {\n  return nowhere.at.all;\n}\n",
    );
    room.write("rules/acme.cases/a.eml", mail("hello", "…"));
    let (code, rows) = tested(&room, &["--update"]);
    assert_eq!(code, Some(1), "{rows:#?}");
    let reason = rows[0]["reason"].as_str().unwrap();
    assert!(reason.contains("rules/acme.js:2:"), "{reason}");
    assert!(
        !room
            .path()
            .join("rules/acme.cases/a.expected.json")
            .exists()
    );
}

#[test]
fn watch_runs_again_at_each_save() {
    let room = room();
    spool(&room, "");
    room.write(RULE, queueing("one"));
    room.write("rules/acme.cases/a.eml", mail("hello", "…"));
    room.ok(&["rule", "test", "--update"]);
    let mut child = room
        .command(&["rule", "test", "--watch", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let mut rows = BufReader::new(stdout).lines();
    let mut next = || -> Value { serde_json::from_str(&rows.next().unwrap().unwrap()).unwrap() };
    assert_eq!(next()["state"], "ok");
    // The first run's row comes before the watch begins: saves are repeated until one is seen.
    let saving = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while saving.load(std::sync::atomic::Ordering::Relaxed) {
                room.write(RULE, queueing("two"));
                std::thread::sleep(std::time::Duration::from_millis(300));
            }
        });
        let row = next();
        saving.store(false, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(row["state"], "failed", "{row:#}");
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_mail_that_came_becomes_a_case_without_what_is_the_clients_own() {
    let room = room();
    spool(&room, "");
    room.write(
        RULE,
        r#"export function decide(mail, ctx) {
  if (mail.match("from", "vendor[.]test")) return alert({ key: "v", state: "firing" });
  if (!mail.match("subject", "(?i)printer")) return pass();
  return ticket({ queue: ctx.client ? "clients" : "strangers", fields: { phone: mail.field("Phone") } });
}
"#,
    );
    let body = "The printer of 10.1.2.3 burns.\r\nPhone: +49 30 1234567\r\nPassword: hunter2\r\n\r\nDana Miller";
    let dana = "Dana Miller <dana@acme.example>";
    let first = mail_from(dana, "Printer of Dana", body, "");
    room.write("spool/1.eml", first);
    room.write(
        "spool/2.eml",
        mail_from("box@vendor.test", "Vendor", "…", ""),
    );
    room.once();
    let id = |subject: &str| room.decision(subject)["id"].to_string();

    let out = room.ok(&["rule", "pin", &id("Printer of Dana")]);
    let case = room.path().join("rules/acme.cases/printer-of-name1");
    assert!(
        out.contains("rules/acme.cases/printer-of-name1.eml"),
        "{out}"
    );
    let mail = std::fs::read_to_string(case.with_extension("eml")).unwrap();
    let expected = std::fs::read_to_string(case.with_extension("expected.json")).unwrap();
    for own in [
        "Dana",
        "dana",
        "acme.example",
        "10.1.2.3",
        "1234567",
        "hunter2",
        "Miller",
    ] {
        assert!(!mail.contains(own), "{own} is left in\n{mail}");
        assert!(!expected.contains(own), "{own} is left in\n{expected}");
    }
    let pinned: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(pinned["actions"][0]["queue"], "clients", "{pinned:#}");
    let phone = pinned["actions"][0]["fields"]["phone"].as_str().unwrap();
    assert!(mail.contains(phone), "{phone} is not in\n{mail}");
    assert_eq!(tested(&room, &[]).0, Some(0));

    // The vendor's domain decides: with a stand-in for it the rule decides differently.
    let vendor = id("Vendor");
    let refused = room.postroom(&["rule", "pin", &vendor, "--name", "vendor"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("--keep DOMAIN"),
        "{}",
        both(&refused)
    );
    assert!(!room.path().join("rules/acme.cases/vendor.eml").exists());
    room.ok(&[
        "rule",
        "pin",
        &vendor,
        "--name",
        "vendor",
        "--keep",
        "vendor.test",
    ]);
    assert_eq!(tested(&room, &[]).0, Some(0));

    // The rule changed: its current result is not the recorded one.
    room.write(
        RULE,
        "export function decide() { return ignore(\"gone\"); }\n",
    );
    let changed = room.postroom(&["rule", "pin", &vendor, "--name", "again"]);
    assert_eq!(changed.status.code(), Some(1), "{}", both(&changed));
    assert!(
        both(&changed).contains("changed since"),
        "{}",
        both(&changed)
    );
    room.ok(&["rule", "pin", &vendor, "--name", "again", "--force"]);
    let unknown = room.postroom(&["rule", "pin", "4711"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn a_rule_whose_tests_fail_does_not_go_live_for_a_tenant_that_asks_so() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let config = room.config(&[RULE, "standard"], "");
    let gated = config.replace("\n[tenants.acme]\n", GATE);
    assert_ne!(gated, config);
    room.write("postroom.toml", gated);
    room.write(RULE, queueing("one"));
    room.write("rules/acme.cases/a.eml", mail("case", "…"));
    room.ok(&["rule", "test", "--update"]);
    let running = room.start();
    let decided = |running: &Running, subject: &str, queue: &str| {
        room.deliver(mail(subject, "…"));
        let decision = room.await_decision(subject);
        assert_eq!(decision["actions"][0]["queue"], queue, "{}", running.log());
    };
    decided(&running, "first", "one");

    room.write(RULE, queueing("two"));
    running.await_log("1 of its 1 test failed: a: actions[0].queue is \"two\", expected \"one\"");
    decided(&running, "second", "one");
    let check = room.postroom(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", both(&check));
    assert!(
        both(&check).contains("1 of its 1 test failed"),
        "{}",
        both(&check)
    );

    // The test is fixed, not the rule: saving it is enough.
    room.ok(&["rule", "test", "--update"]);
    running.await_log("generation=2");
    decided(&running, "third", "two");
}
