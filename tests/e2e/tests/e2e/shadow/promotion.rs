//! Promotion: automatic if all decisions matched, by hand, and never overwriting somebody's save.

use std::process::Stdio;
use std::time::Duration;

use postroom_e2e::root;

use super::*;

#[test]
fn a_candidate_that_does_the_same_is_promoted_and_serves() {
    let room = room();
    room.write("a.js", reworded());
    let running = room.start();
    take_in(&room, &["before"]);
    let said = room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "3",
        "--promote",
    ]);
    assert!(
        said.contains("promoted if all decisions match: it is written over rules/a.js"),
        "{said}"
    );
    take_in(&room, &["one", "pass"]);
    await_shadow(&room, |row| row["decided"] == 2);
    assert_eq!(rule_file(&room), RULE);
    take_in(&room, &["three"]);
    let row = await_state(&room, "promoted");
    assert_eq!(counts(&row), [3, 0, 0, 0]);
    assert_eq!(rule_file(&room), reworded());
    running.await_log("generation=2");
    take_in(&room, &["after"]);
    let after = room.decision("after");
    assert_eq!(
        (&after["rule_hash"], &after["generation"]),
        (&row["hash"], &json!(2))
    );
    assert_eq!(room.rows(&["rules", "list"]).len(), 2);
    // It can be rolled back like any other save.
    room.ok(&["rules", "rollback"]);
    running.await_log("it is refused until the file changes");
    take_in(&room, &["back"]);
    assert_ne!(room.decision("back")["rule_hash"], row["hash"]);
    assert!(running.lines("ERROR", "").len() <= 1, "{}", running.log());
    let error = refused(&room, &["shadow", "promote", "drop"]);
    assert!(
        error.contains("nothing to promote: the newest shadow of drop is already promoted"),
        "{error}"
    );
    let error = refused(
        &room,
        &[
            "shadow",
            "start",
            "drop",
            "--rule",
            "rules/a.js",
            "--promote",
        ],
    );
    assert!(
        error.contains("this very version of rules/a.js was rolled back to generation 1"),
        "{error}"
    );
}

#[test]
fn one_that_does_otherwise_is_not_promoted_by_itself_but_by_hand() {
    let room = room();
    room.write("new/a.js", other_queue("two"));
    let running = room.start();
    take_in(&room, &["before"]);
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "new/a.js",
        "--mails",
        "2",
        "--promote",
    ]);
    take_in(&room, &["one", "two", "three"]);
    let row = await_state(&room, "finished");
    assert_eq!(
        row["reason"],
        "not promoted: 1 of 2 mails came out otherwise"
    );
    assert_eq!(counts(&row), [1, 1, 0, 0]);
    assert_eq!(rule_file(&room), RULE);

    let said = room.ok(&["shadow", "promote", "drop"]);
    assert!(
        said.contains("promoted: rules/a.js is now the candidate"),
        "{said}"
    );
    assert_eq!(rule_file(&room), other_queue("two"));
    running.await_log("generation=2");
    take_in(&room, &["two again"]);
    let after = room.decision("two again");
    assert_eq!(after["rule_hash"], row["hash"]);
    assert_eq!(after["actions"][0]["queue"], "Other");
    assert_eq!(shadow_of(&room, "drop")["state"], "promoted");
}

#[test]
fn one_that_asks_for_what_was_not_asked_is_not_known_to_be_the_same() {
    let room = room_with(RULE, "grants = [\"kv\"]", "");
    let asks = RULE.replace("return ticket", "ctx.kv.get(\"seen\");\n  return ticket");
    room.write("a.js", asks);
    let running = room.start();
    take_in(&room, &["before"]);
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "1",
        "--promote",
    ]);
    take_in(&room, &["one"]);
    let row = await_state(&room, "finished");
    assert_eq!(counts(&row), [1, 0, 0, 0]);
    let reason = row["reason"].as_str().unwrap();
    assert!(
        reason.contains("for 1 of 1 mail it asked for what the rule had not asked"),
        "{reason}"
    );
    assert_eq!(rule_file(&room), RULE);
    drop(running);
}

#[test]
fn killed_between_promoting_and_saying_so_it_is_promoted_once() {
    let room = room();
    room.write("a.js", reworded());
    room.once();
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "1",
        "--promote",
    ]);
    room.write("drop/one.eml", mail("one", "…"));
    room.once_killed_at("before-promotion-record");
    assert_eq!(rule_file(&room), reworded());
    assert_eq!(shadow_of(&room, "drop")["state"], "promoting");
    room.once();
    assert_eq!(shadow_of(&room, "drop")["state"], "promoted");
    let generations = room.rows(&["rules", "list"]);
    assert_eq!(generations.len(), 2);
}

#[test]
fn a_promotion_loses_no_newer_save_and_is_of_what_was_compared() {
    let rule = format!(
        "import {{ queue }} from \"./lib/q.js\";\n{}",
        RULE.replace("\"Desk\"", "queue")
    );
    let room = room_with(&rule, "rule_tests = true", "");
    let module = |queue: &str| format!("export const queue = \"{queue}\";\n");
    room.write("rules/lib/q.js", module("Desk"));
    room.write("rules/a.cases/one.eml", mail("one", "…"));
    room.ok(&[
        "rule",
        "test",
        "rules/a.js",
        "--update",
        "--mailbox",
        "drop",
    ]);
    room.once();
    let start = ["shadow", "start", "drop", "--rule", "new/a.js"];
    let promote = ["shadow", "promote", "drop"];

    // The module in its own folder is not the one it would import in its rule's place.
    let candidate = format!("// New.\n{rule}");
    room.write("new/a.js", &candidate);
    room.write("new/lib/q.js", module("Other"));
    let error = refused(&room, &start);
    assert!(
        error.contains("new/lib/q.js is not what rules/lib/q.js is"),
        "{error}"
    );
    std::fs::remove_dir_all(room.path().join("new/lib")).unwrap();
    room.ok(&start);

    room.write("rules/lib/q.js", module("Changed"));
    let error = refused(&room, &promote);
    assert!(
        error.contains("rules/lib/q.js changed since the shadow began"),
        "{error}"
    );
    std::fs::remove_file(room.path().join("rules/lib/q.js")).unwrap();
    let error = refused(&room, &promote);
    assert!(error.contains("rules/lib/q.js does not exist"), "{error}");
    room.write("rules/lib/q.js", module("Desk"));

    // Somebody's save. Since `root` may write anywhere, the folder is made unwritable in another way.
    room.write("rules/a.js", format!("{rule}// Newer.\n"));
    let error = refused(&room, &promote);
    assert!(
        error.contains("rules/a.js changed since the shadow began, and that change would be lost"),
        "{error}"
    );
    let unfit = room.path().join("rules/.a.js.postroom-new");
    std::fs::create_dir(&unfit).unwrap();
    let anyway = ["shadow", "promote", "drop", "--anyway"];
    let error = refused(&room, &anyway);
    assert!(error.contains("rules/a.js could not be written"), "{error}");
    assert_eq!(shadow_of(&room, "drop")["state"], "running");
    std::fs::remove_dir(&unfit).unwrap();
    room.ok(&anyway);
    assert_eq!(rule_file(&room), candidate);
    room.once();
    let newest = &room.rows(&["rules", "list"])[0];
    assert_eq!(
        newest["changes"][0]["after"],
        shadow_of(&room, "drop")["hash"]
    );

    // A candidate whose tests fail is not written either.
    room.write("new/a.js", other_queue("one"));
    room.ok(&start);
    let error = refused(&room, &promote);
    assert!(error.contains("1 of its 1 test failed"), "{error}");
    assert_eq!(rule_file(&room), candidate);
}

#[test]
fn what_is_saved_while_a_promotion_is_tested_is_not_lost() {
    let room = room_with(RULE, "rule_tests = true", "[limits]\ntime = \"60s\"");
    room.write("rules/a.cases/one.eml", mail("one", "…"));
    let update = [
        "rule",
        "test",
        "rules/a.js",
        "--update",
        "--mailbox",
        "drop",
    ];
    room.ok(&update);
    room.once();
    // The tests take seconds.
    let spin = "let n = 0; for (let i = 0; i < 100_000_000; i++) n += i;\n";
    let candidate = RULE.replace("  if", &format!("  {spin}  if"));
    room.write("new/a.js", &candidate);
    room.ok(&["shadow", "start", "drop", "--rule", "new/a.js"]);
    let mut promote = room.command(&["shadow", "promote", "drop"]);
    let promote = promote.stdout(Stdio::piped()).stderr(Stdio::piped());
    let promoting = promote.spawn().unwrap();
    std::thread::sleep(Duration::from_secs(1));
    let newer = format!("{RULE}// Newer.\n");
    room.write("rules/a.js", &newer);
    let output = promoting.wait_with_output().unwrap();
    room.keep_output(&output);
    assert_eq!(rule_file(&room), newer);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        both(&output).contains("that change would be lost"),
        "{}",
        both(&output)
    );
}

#[test]
fn a_promotion_that_cannot_be_written_waits_for_a_person() {
    let room = room();
    room.write("a.js", reworded());
    room.once();
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "1",
        "--promote",
    ]);
    let unfit = room.path().join("rules/.a.js.postroom-new");
    std::fs::create_dir(&unfit).unwrap();
    room.write("drop/one.eml", mail("one", "…"));
    room.once();
    let row = shadow_of(&room, "drop");
    assert_eq!(row["state"], "finished");
    let reason = row["reason"].as_str().unwrap();
    assert!(
        reason.contains("not promoted: rules/a.js could not be written"),
        "{reason}"
    );
    std::fs::remove_dir(&unfit).unwrap();
    room.ok(&["shadow", "promote", "drop"]);
    assert_eq!(rule_file(&room), reworded());
}

#[test]
fn a_component_is_shadowed_and_promoted_as_well() {
    let room = room_with(RULE, "grants = [\"kv\"]", "");
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    room.write(
        "postroom.toml",
        config.replace("rules/a.js", "rules/c.wasm"),
    );
    for folder in ["rules", "new"] {
        std::fs::create_dir_all(room.path().join(folder)).unwrap();
    }
    for (guest, component) in [
        ("standard.wasm", "rules/c.wasm"),
        ("examples/rust.wasm", "new/c.wasm"),
    ] {
        let core = root().join("target/guests").join(guest);
        room.ok(&["plugin", "build", core.to_str().unwrap(), "-o", component]);
    }
    room.once();
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "new/c.wasm",
        "--mails",
        "1",
    ]);
    room.write("drop/one.eml", mail("one", "…"));
    room.once();
    let row = shadow_of(&room, "drop");
    assert_eq!(
        (&row["state"], &row["decided"]),
        (&json!("finished"), &json!(1))
    );
    room.ok(&["shadow", "promote", "drop"]);
    let file = |name: &str| std::fs::read(room.path().join(name)).unwrap();
    assert!(file("rules/c.wasm") == file("new/c.wasm"));
    room.once();
    let newest = &room.rows(&["rules", "list"])[0];
    assert_eq!(
        (&newest["generation"], &newest["changes"][0]["after"]),
        (&json!(2), &row["hash"])
    );
}

#[test]
fn mails_that_could_not_be_read_prove_nothing() {
    let room = room();
    room.write("a.js", reworded());
    room.once();
    room.ok(&[
        "shadow",
        "start",
        "drop",
        "--rule",
        "a.js",
        "--mails",
        "1",
        "--promote",
    ]);
    room.write("damaged.eml", mail("damaged", "…"));
    room.ok(&["mail", "import", "--mailbox", "drop", "damaged.eml"]);
    let conn = Connection::open(database(&room)).unwrap();
    conn.execute("UPDATE decision_record SET record = '{'", [])
        .unwrap();
    room.write("drop/one.eml", mail("one", "…"));
    room.once();
    let row = shadow_of(&room, "drop");
    assert_eq!(
        (&row["state"], counts(&row)),
        (&json!("finished"), [1, 0, 0, 0])
    );
    assert_eq!(
        row["reason"],
        "not promoted: there were mails whose record cannot be read"
    );
    assert_eq!(rule_file(&room), RULE);
}
