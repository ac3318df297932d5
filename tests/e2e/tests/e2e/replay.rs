//! `postroom replay`: reports what a change of the rules would do to received mail, and changes nothing.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::Stdio;

use postroom_e2e::{Room, both, interrupt, mail, mail_from};
use postroom_stand::Stand;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Value, json};

const RULE: &str = r#"export function decide(mail, ctx) {
  if (mail.subject.startsWith("pass")) return;
  if (mail.subject.startsWith("alert")) return alert({ key: mail.subject, state: "firing" });
  return ticket({ queue: "Desk", fields: { share: 0.1 + mail.subject.length / 3 } });
}
"#;

/// Returns a room with a spool and one rule, whose mails are decided.
fn room(tenant: &str, rule: &str, subjects: &[&str]) -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    configure(&room, tenant, "");
    room.write("rules/a.js", rule);
    take_in(&room, subjects);
    room
}

fn configure(room: &Room<'_>, tenant: &str, more: &str) {
    room.write(
        "postroom.toml",
        format!(
            "{more}\n[tenants.acme]\ndomains = [\"acme.example\"]\n{tenant}\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/a.js\"]\n"
        ),
    );
}

fn take_in(room: &Room<'_>, subjects: &[&str]) {
    for (number, subject) in subjects.iter().enumerate() {
        // Decided in this order.
        room.write(&format!("spool/{number:02}.eml"), mail(subject, "body"));
        room.once();
    }
}

/// Runs a replay, which must end with this exit code, and returns the JSON lines: the mails, and the summary.
fn replay(room: &Room<'_>, args: &[&str], code: i32) -> (Vec<Value>, Value) {
    let args = [&["replay", "--json"][..], args].concat();
    let output = room.postroom(&args);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}",
        both(&output)
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("a JSON line"))
        .collect();
    let summary = lines.pop().unwrap_or_default();
    assert_eq!(summary["result"], "summary", "{}", both(&output));
    (lines, summary)
}

/// Returns the error of a replay that does not start.
fn refused(room: &Room<'_>, args: &[&str]) -> String {
    let args = [&["replay"][..], args].concat();
    let output = room.postroom(&args);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", both(&output));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn results(lines: &[Value]) -> Vec<&str> {
    let texts = lines.iter().map(|line| line["result"].as_str());
    texts.map(Option::unwrap_or_default).collect()
}

fn database(room: &Room<'_>) -> std::path::PathBuf {
    room.path().join("data/postroom.sqlite")
}

/// Returns every row of every table.
fn dump(database: &Path) -> Vec<String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let conn = Connection::open_with_flags(database, flags).unwrap();
    let names = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut statement = conn.prepare(names).unwrap();
    let names = statement.query_map([], |row| row.get::<_, String>(0));
    let mut lines = Vec::new();
    for name in names.unwrap().map(Result::unwrap) {
        let mut statement = conn.prepare(&format!("SELECT * FROM {name}")).unwrap();
        let columns = statement.column_count();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let cells = (0..columns).map(|n| format!("{:?}", row.get_ref(n).unwrap()));
            lines.push(format!("{name}: {}", cells.collect::<Vec<_>>().join(" | ")));
        }
    }
    lines
}

#[test]
fn the_same_rules_decide_the_same_and_the_store_is_left_as_it_was() {
    let subjects = ["one", "alert disk", "pass to the next", "two"];
    let room = room("", RULE, &subjects);
    let before = dump(&database(&room));
    assert!(before.len() > subjects.len(), "{before:#?}");

    let (lines, summary) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"; 4]);
    let order: Vec<_> = lines.iter().map(|line| line["subject"].clone()).collect();
    assert_eq!(order, subjects);
    assert_eq!(lines[2]["rule"], "fallback", "{lines:#?}");
    assert_eq!(
        (&summary["replayed"], &summary["same"]),
        (&json!(4), &json!(4))
    );
    let rule = &summary["rules"][0];
    assert_eq!(
        (&rule["rule"], &rule["asked"]),
        (&json!("rules/a.js"), &json!(4))
    );
    for key in [
        "median_us",
        "p99_us",
        "memory_bytes",
        "limit_us",
        "limit_memory_bytes",
    ] {
        assert!(
            rule[key].as_u64().is_some_and(|it| it > 0),
            "{key}: {rule:#}"
        );
    }
    let text = room.ok(&["replay"]);
    assert!(text.starts_with("4 same\n"), "{text}");

    // A candidate that differs in every respect.
    let other = "export function decide(mail, ctx) { if (mail.subject === \"two\") null.x; return alert({ key: \"k\", state: \"firing\" }); }\n";
    room.write("a.js", other);
    replay(&room, &["--rule", "a.js"], 1);
    assert_eq!(dump(&database(&room)), before);
}

#[test]
fn a_changed_rule_shows_what_changed_and_exits_1() {
    let room = room("", RULE, &["one", "alert disk", "two", "pass on"]);
    let changed = RULE
        .replace(
            "\"Desk\"",
            "mail.subject === \"two\" ? \"Other\" : \"Desk\"",
        )
        .replace(
            "return alert({ key: mail.subject, state: \"firing\" })",
            "return ticket({ title: \"was an alert\" })",
        );
    room.write("rules/a.js", &changed);
    let (lines, summary) = replay(&room, &[], 1);
    assert_eq!(results(&lines), ["same", "changed", "changed", "same"]);
    assert_eq!(summary["changes"], json!({"alert → ticket": 1, "queue": 1}));
    assert_eq!(lines[2]["before"]["actions"][0]["queue"], "Desk");
    assert_eq!(lines[2]["after"]["actions"][0]["queue"], "Other");
    assert_ne!(
        lines[2]["before"]["rule_hash"],
        lines[2]["after"]["rule_hash"]
    );

    let output = room.postroom(&["replay"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        "2 same · 2 changed (1 alert → ticket, 1 queue)\n",
        "changed: \"two\", mail 3 of drop",
        "-     queue: \"Desk\"",
        "+     queue: \"Other\"",
        "- outcome: \"alert\"",
        "+ outcome: \"ticket\"",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert!(!text.contains("refused"), "{text}");
}

#[test]
fn a_screenful_of_differences_is_shown_unless_all_are_asked_for() {
    let room = room("", RULE, &[]);
    for number in 0..25 {
        let text = mail(&format!("mail {number}"), "body");
        room.write(&format!("spool/{number:02}.eml"), text);
    }
    room.once();
    room.write("rules/a.js", RULE.replace("Desk", "Other"));
    let shown = |args: &[&str]| {
        let output = room.postroom(args);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let text = shown(&["replay"]);
    assert_eq!(text.matches("changed: ").count(), 20, "{text}");
    assert!(text.contains("… 5 more: --all shows them"), "{text}");
    assert!(text.contains("0 same · 25 changed (25 queue)"), "{text}");
    let all = shown(&["replay", "--all"]);
    assert_eq!(all.matches("changed: ").count(), 25, "{all}");
}

#[test]
fn a_candidate_that_throws_is_a_new_failure_and_one_that_no_longer_does_is_mended() {
    // When it throws, the decision is the same: the next rule and fallback make the same ticket.
    let throws = "export function decide(mail) {\n  if (mail.subject === \"bad\") null.x;\n}\n";
    let room = room("", throws, &["good", "bad"]);
    let recorded = room.decision("bad");
    assert_eq!(recorded["troubles"][0]["kind"], "failure", "{recorded:#}");
    replay(&room, &[], 0);

    room.write("rules/a.js", "export function decide() {}\n");
    let (lines, summary) = replay(&room, &[], 1);
    assert_eq!(results(&lines), ["same", "mended"]);
    assert_eq!(summary["mended"], 1);

    room.write(
        "rules/a.js",
        "export function decide(mail) {\n  if (mail.subject === \"good\") null.x;\n}\n",
    );
    let (lines, summary) = replay(&room, &[], 1);
    assert_eq!(results(&lines), ["failed", "mended"]);
    assert_eq!(summary["rules"][0]["troubles"], json!({"failure": 1}));
    let trouble = &lines[0]["after"]["troubles"][0];
    assert_eq!(trouble["location"], "rules/a.js:2:32", "{trouble:#}");
    let output = room.postroom(&["replay"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        "0 same · 1 new failure · 1 mended",
        "new failure: \"good\"",
        "now in trouble: rules/a.js: failure at rules/a.js:2:32: TypeError",
        "no longer in trouble: rules/a.js",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
}

const COUNTING: &str = r#"export function decide(mail, ctx) {
  const count = Number(ctx.kv.get("count") ?? 0) + 1;
  ctx.kv.set("count", String(count));
  ctx.kv.set("last", mail.subject);
  return ticket({ title: `mail ${count}` });
}
"#;

#[test]
fn a_memory_is_answered_as_it_was_then_and_other_questions_are_told() {
    let room = room("grants = [\"kv\"]", COUNTING, &["a", "b", "c"]);
    let before = dump(&database(&room));
    // The store now contains 3; but the replay returns what each mail received then. Writing without reading needs no
    // query.
    let (lines, summary) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"; 3]);
    assert_eq!(summary["unrecorded"], 0);

    room.write(
        "a.js",
        COUNTING.replace(
            "return ticket",
            "if (!ctx.kv.get(\"last\")) return;\n  return ticket",
        ),
    );
    let (lines, summary) = replay(&room, &["--rule", "a.js"], 0);
    assert_eq!(summary["unrecorded"], 0, "it wrote that itself: {lines:#?}");
    assert_eq!(results(&lines), ["same"; 3]);

    room.write(
        "a.js",
        COUNTING.replace("get(\"count\")", "get(\"number\")"),
    );
    let (lines, summary) = replay(&room, &["--rule", "a.js"], 1);
    assert_eq!(results(&lines), ["same", "changed", "changed"]);
    assert_eq!(summary["unrecorded"], 3);
    assert_eq!(
        lines[0]["unrecorded"],
        json!([{"rule": "rules/a.js", "asked": "kv", "key": "number"}])
    );
    let output = room.postroom(&["replay", "--rule", "a.js"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for words in [
        "rules/a.js queried kv for \"number\", which was not queried then",
        "3 mails: a rule made lookups that were not recorded",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    assert_eq!(dump(&database(&room)), before);
}

#[test]
fn what_was_looked_up_is_answered_as_it_was_then_and_other_questions_are_told() {
    let looking = r#"export function decide(mail, ctx) {
  return ticket({ title: `mail ${ctx.lookup.tickets({ subject: "mail" }).length}` });
}
"#;
    let room = room("grants = [\"lookup\"]", looking, &["a", "b", "c"]);
    // There are now three open tickets; but the replay returns what each mail's rule received then.
    let (lines, summary) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"; 3]);
    assert_eq!(summary["unrecorded"], 0);

    room.write("a.js", looking.replace("\"mail\"", "\"letter\""));
    let (lines, summary) = replay(&room, &["--rule", "a.js"], 1);
    assert_eq!(results(&lines), ["same", "changed", "changed"]);
    assert_eq!(summary["unrecorded"], 3);
    assert_eq!(
        lines[0]["unrecorded"],
        json!([{"rule": "rules/a.js", "asked": "lookup", "key": "tickets about letter"}])
    );
}

#[test]
fn a_thread_and_the_time_are_as_they_were() {
    let rule = r#"export function decide(mail, ctx) {
  if (ctx.thread) return note({ body: `${ctx.now} ${ctx.thread.method} ${ctx.thread.authorised}` });
  return ticket({ body: ctx.now, fields: { client: ctx.client?.name ?? "" } });
}
"#;
    let room = room("", rule, &["first"]);
    let answer = mail("Re: first [T-1]", "more");
    room.write("spool/answer.eml", answer);
    room.write(
        "spool/z.eml",
        mail_from("eve@other.example", "new", "x", ""),
    );
    room.once();
    assert_eq!(room.decision("Re: first [T-1]")["outcome"], "note");
    let (lines, _) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"; 3]);
    // A ticket that does not exist does not exist for a candidate either.
    room.write(
        "a.js",
        "export function decide() { return note({ ticket: \"T-77\" }); }\n",
    );
    let (lines, _) = replay(&room, &["--rule", "a.js"], 1);
    assert_eq!(results(&lines), ["failed"; 3]);
    let trouble = &lines[0]["after"]["troubles"][0];
    assert_eq!(trouble["kind"], "nonsense", "{trouble:#}");
}

#[test]
fn mail_that_cannot_be_replayed_is_counted_and_said() {
    let room = room("", RULE, &["purged", "kept", "also kept"]);
    configure(&room, "", "[limits]\nmessage_bytes = \"64KiB\"");
    room.write("spool/large.eml", mail("large", &"x".repeat(70_000)));
    room.once();
    assert_eq!(room.decision("kept")["outcome"], "ticket");
    let conn = Connection::open(database(&room)).unwrap();
    conn.execute("DELETE FROM raw WHERE journal = 1", [])
        .unwrap();
    let recorded = "SELECT record FROM decision_record WHERE journal = 3";
    let record: String = conn.query_row(recorded, [], |row| row.get(0)).unwrap();
    let set = |record: &str| {
        let update = "UPDATE decision_record SET record = ?1 WHERE journal = 3";
        conn.execute(update, [record]).unwrap();
    };
    set("{");
    let (lines, summary) = replay(&room, &[], 1);
    assert_eq!(results(&lines), ["skipped", "same", "skipped", "skipped"]);
    let reasons: Vec<_> = lines.iter().map(|line| line["reason"].clone()).collect();
    let expected = [
        json!("purged"),
        Value::Null,
        json!("unreadable"),
        json!("set-aside"),
    ];
    assert_eq!(reasons, expected);
    assert_eq!(summary["replayed"], 1);

    // A missing record is not a failure, but a damaged one is.
    set(&record);
    let text = room.ok(&["replay"]);
    for words in [
        "2 same",
        "not compared: 1 without bytes, older than keep_raw",
        "not compared: 1 set aside by the line, no rule saw them",
    ] {
        assert!(text.contains(words), "{words:?} is not in\n{text}");
    }
    // If everything is missing, the replay must not report success.
    let error = refused(&room, &["--since", "2030-01-01"]);
    assert!(error.contains("no recorded mail was replayed"), "{error}");
    conn.execute("DELETE FROM raw", []).unwrap();
    let error = refused(&room, &[]);
    assert!(error.contains("no recorded mail was replayed"), "{error}");
}

#[test]
fn mails_are_chosen_by_mailbox_tenant_time_and_number() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let mailbox = |name: &str, tenant: &str, rule: &str| {
        format!(
            "[mailboxes.{name}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"{name}\"\nrules = [\"rules/{rule}.js\"]\n"
        )
    };
    let tenants = "[tenants.acme]\n[tenants.bolt]\n";
    let all = [
        tenants,
        &mailbox("north", "acme", "a"),
        &mailbox("south", "acme", "b"),
        &mailbox("other", "bolt", "a"),
    ];
    room.write("postroom.toml", all.concat());
    room.write("rules/a.js", RULE);
    room.write("rules/b.js", RULE);
    for (number, name) in ["north", "south", "other", "north"].iter().enumerate() {
        room.write(
            &format!("{name}/{number}.eml"),
            mail(&format!("m{number}"), "x"),
        );
        room.once();
    }
    let subjects = |args: &[&str]| -> Vec<String> {
        let (lines, _) = replay(&room, args, 0);
        let subjects = lines.iter().map(|line| line["subject"].as_str());
        subjects
            .map(|it| it.unwrap_or_default().to_owned())
            .collect()
    };
    assert_eq!(subjects(&[]), ["m0", "m1", "m2", "m3"]);
    assert_eq!(subjects(&["--mailbox", "north"]), ["m0", "m3"]);
    assert_eq!(subjects(&["--tenant", "acme"]), ["m0", "m1", "m3"]);
    assert_eq!(subjects(&["--tenant", "bolt"]), ["m2"]);
    assert_eq!(subjects(&["--limit", "2"]), ["m2", "m3"]);
    assert_eq!(subjects(&["--mailbox", "north", "--limit", "1"]), ["m3"]);
    assert_eq!(subjects(&["--since", "1h"]), ["m0", "m1", "m2", "m3"]);
    let received = room.decision("m2")["received"].as_str().unwrap().to_owned();
    assert_eq!(subjects(&["--since", &received]), ["m2", "m3"]);
    // A candidate for one rule affects the mailboxes that have it, of all tenants.
    assert_eq!(subjects(&["--rule", "rules/b.js"]), ["m1"]);
    assert_eq!(subjects(&["--rule", "rules/a.js"]), ["m0", "m2", "m3"]);
    assert_eq!(
        subjects(&["--rule", "rules/a.js", "--tenant", "bolt"]),
        ["m2"]
    );

    // A mailbox that is no longer configured is reported.
    room.write("postroom.toml", all[..3].concat());
    let (lines, summary) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same", "same", "skipped", "same"]);
    assert_eq!(
        summary["skipped"],
        json!([{"reason": "not-configured", "mails": 1}])
    );
}

#[test]
fn a_generation_that_the_store_keeps_is_replayed_with_its_settings() {
    let rule = "export function decide(mail, ctx) { return ticket({ queue: ctx.settings.queue + \" 1\" }); }\n";
    let settings = |queue: &str| format!("settings.\"rules/a.js\" = {{ queue = \"{queue}\" }}");
    let room = room(&settings("Desk"), rule, &["first"]);
    configure(&room, &settings("Other"), "");
    room.write("rules/a.js", rule.replace(" 1", " 2"));
    take_in(&room, &["second"]);
    let generations: Vec<_> = room
        .decisions()
        .iter()
        .map(|row| row["generation"].clone())
        .collect();
    assert_eq!(generations, [1, 2]);
    let queues = |generation: &str| -> Vec<Value> {
        let (lines, _) = replay(&room, &["--generation", generation], 1);
        let changed = lines
            .iter()
            .map(|line| line["after"]["actions"][0]["queue"].clone());
        changed.collect()
    };
    assert_eq!(queues("1"), [Value::Null, json!("Desk 1")]);
    assert_eq!(queues("2"), [json!("Other 2"), Value::Null]);
    // The files may be broken meanwhile.
    room.write("rules/a.js", "broken(");
    assert_eq!(queues("2"), [json!("Other 2"), Value::Null]);
    // The broken file was never saved as a generation.
    let error = refused(&room, &["--generation", "3"]);
    assert!(
        error.contains("--generation 3: the store does not keep it"),
        "{error}"
    );
}

#[test]
fn a_replay_works_beside_a_running_service() {
    let room = room("", RULE, &["before"]);
    let running = room.start();
    running.await_log("rules are live");
    let (lines, _) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"]);
    room.write("spool/next.eml", mail("meanwhile", "x"));
    room.await_decision("meanwhile");
    let (lines, _) = replay(&room, &["--limit", "1"], 0);
    assert_eq!(lines[0]["subject"], "meanwhile");
}

#[test]
fn ctrl_c_ends_it_with_what_was_found_so_far() {
    let room = room("", RULE, &[]);
    for number in 0..60 {
        let text = mail(&format!("mail {number}"), "body");
        room.write(&format!("spool/{number:02}.eml"), text);
    }
    room.once();
    // Each mail takes until the deadline.
    room.write("rules/a.js", "export function decide() { for (;;); }\n");
    let mut command = room.command(&["replay", "--all"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    out.read_line(&mut text).unwrap();
    interrupt(child.id());
    out.read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{text}");
    assert!(text.starts_with("new failure: "), "{text}");
    assert!(
        text.contains("interrupted: these are the mails so far"),
        "{text}"
    );
    let failures = text.matches("now in trouble: rules/a.js: deadline").count();
    assert!((1..60).contains(&failures), "{failures}\n{text}");
    assert!(
        text.contains(&format!("0 same · {failures} new failures")),
        "{text}"
    );
}

#[test]
fn what_cannot_be_replayed_is_refused_with_the_cure() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    configure(&room, "", "");
    room.write("rules/a.js", RULE);
    let error = refused(&room, &[]);
    assert!(error.contains("holds no database yet"), "{error}");
    room.once();
    let error = refused(&room, &[]);
    assert!(error.contains("no recorded mail matches"), "{error}");

    take_in(&room, &["one"]);
    room.write(
        "broken.js",
        "export function decide(mail) {\n  return ticket({;\n}\n",
    );
    room.write("other.js", RULE);
    let cases: &[(&[&str], &[&str])] = &[
        (
            &["--mailbox", "dorp"],
            &["no mailbox is named dorp", "did you mean `drop`?"],
        ),
        (
            &["--tenant", "acne"],
            &["no tenant is named acne", "did you mean `acme`?"],
        ),
        (&["--since", "yesterday"], &["--since yesterday: a time"]),
        (
            &["--generation", "9"],
            &["--generation 9: the store does not keep it"],
        ),
        (
            &["--rule", "missing.js"],
            &["missing.js: it does not exist"],
        ),
        (
            &["--rule", "rules"],
            &["rules: it does not exist, or is not a file"],
        ),
        (
            &["--rule", "other.js"],
            &[
                "no chain has a rule of this name",
                "rules/a.js",
                "--as NAME",
            ],
        ),
        (
            &["--rule", "other.js", "--as", "rules/a.ts"],
            &[
                "no rule of a chain is named rules/a.ts",
                "did you mean `rules/a.js`?",
            ],
        ),
        (
            &["--rule", "broken.js", "--as", "rules/a.js"],
            &["broken.js:2:", "SyntaxError"],
        ),
    ];
    for (args, words) in cases {
        let error = refused(&room, args);
        for word in *words {
            assert!(
                error.contains(word),
                "{args:?}: {word:?} is not in\n{error}"
            );
        }
    }
    let (lines, _) = replay(&room, &["--rule", "other.js", "--as", "./rules/a.js"], 0);
    assert_eq!(results(&lines), ["same"]);
    let both_asked = room.postroom(&["replay", "--rule", "a.js", "--generation", "1"]);
    assert_eq!(both_asked.status.code(), Some(2));
    room.write("rules/a.js", "broken(");
    let error = refused(&room, &[]);
    assert!(error.contains("rules/a.js:1:"), "{error}");
}

#[test]
fn what_stands_in_the_ticket_is_no_new_word_and_a_replay_reads_the_same() {
    const NOTES: &str = r#"export function decide(mail, ctx) {
  if (ctx.thread) return note({ body: mail.reply });
  return ticket({ body: mail.reply });
}
"#;
    const ASKED: &str = "The printer in hall 3 prints white pages only, from every tray,\r\nsince the update of this morning.";
    let room = Room::bare(Stand::shared().expect("the test stand"));
    configure(&room, "", "");
    room.write("rules/a.js", NOTES);
    let first = mail_from(
        "dana@acme.example",
        "Printer",
        ASKED,
        "Message-ID: <first@acme.example>\r\n",
    );
    room.write("spool/00.eml", first);
    room.once();
    // No quote mark, no attribution, other line ends: only the ticket shows that it is quoted.
    let quoted = ASKED.replace("\r\n", " ").replace(", ", ",\r\n");
    let answer = mail_from(
        "dana@acme.example",
        "Re: Printer",
        &format!("Tray 2 works again.\r\n\r\n{quoted}"),
        "In-Reply-To: <first@acme.example>\r\n",
    );
    room.write("spool/01.eml", answer);
    room.once();
    let items = room.items();
    let note = items.iter().find(|item| item["kind"] == "note");
    assert_eq!(note.expect("a note")["body"], "Tray 2 works again.");

    // The record has the text that the rule read: a replay decides on it, whatever the ticket holds by then.
    let conn = Connection::open(database(&room)).unwrap();
    conn.execute("UPDATE item SET body = 'other' WHERE kind = 0", [])
        .unwrap();
    drop(conn);
    let (lines, _) = replay(&room, &[], 0);
    assert_eq!(results(&lines), ["same"; 2], "{lines:#?}");
}
