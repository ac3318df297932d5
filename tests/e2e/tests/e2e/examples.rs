//! The example rule in JavaScript, Rust and Python: built and run, with the same results in all three.

use std::path::Path;

use postroom_e2e::{Room, root};
use postroom_stand::Stand;
use serde_json::Value;

/// Returns the mails of the example and the expected results.
fn mails() -> Vec<(String, Value)> {
    let folder = root().join("examples/rules/cases");
    let mut mails: Vec<(String, Value)> = std::fs::read_dir(&folder)
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ext| ext == "eml"))
        .map(|mail| {
            let expected = std::fs::read_to_string(mail.with_extension("expected.json")).unwrap();
            let path = mail.canonicalize().unwrap().display().to_string();
            (path, serde_json::from_str(&expected).unwrap())
        })
        .collect();
    mails.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(!mails.is_empty(), "no case in {}", folder.display());
    mails
}

fn decides_every_case(room: &Room, rule: &Path) {
    for (mail, expected) in mails() {
        let rows = room.rows(&["rule", "try", rule.to_str().unwrap(), &mail]);
        let answer = &rows[0];
        match &expected {
            Value::Null => assert_eq!(answer["outcome"], "pass", "{mail}: {answer:#}"),
            wanted => assert_covers(answer, wanted, &mail),
        }
    }
}

/// Checks that the expected values are present; the host may have filled in more (a ticket's body, for example).
fn assert_covers(found: &Value, expected: &Value, mail: &str) {
    match (found, expected) {
        (Value::Object(found), Value::Object(expected)) => {
            for (key, value) in expected {
                let there = found.get(key).unwrap_or(&Value::Null);
                assert_covers(there, value, mail);
            }
        }
        (Value::Array(found), Value::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{mail}: {found:#?}");
            for (found, expected) in found.iter().zip(expected) {
                assert_covers(found, expected, mail);
            }
        }
        (found, expected) => assert_eq!(found, expected, "{mail}"),
    }
}

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

#[test]
fn the_rule_in_javascript() {
    decides_every_case(&room(), &root().join("examples/rules/js/rule.js"));
}

#[test]
fn the_rule_in_rust() {
    let room = room();
    let core = root().join("target/guests/examples/rust.wasm");
    room.ok(&["plugin", "build", core.to_str().unwrap(), "-o", "rule.wasm"]);
    decides_every_case(&room, &room.path().join("rule.wasm"));
}

#[test]
fn the_rule_in_python() {
    decides_every_case(&room(), &root().join("target/guests/examples/python.wasm"));
}

#[test]
fn the_three_decide_mail_of_the_line_side_by_side() {
    let room = room();
    let core = root().join("target/guests/examples/rust.wasm");
    std::fs::create_dir_all(room.path().join("rules")).unwrap();
    room.ok(&[
        "plugin",
        "build",
        core.to_str().unwrap(),
        "-o",
        "rules/rust.wasm",
    ]);
    for (name, file) in [
        ("rules/js.js", "examples/rules/js/rule.js"),
        ("rules/python.wasm", "target/guests/examples/python.wasm"),
    ] {
        room.write(name, std::fs::read(root().join(file)).unwrap());
    }
    let mut config = String::from("[tenants.acme]\ngrants = [\"kv\"]\nduplicates = \"each\"\n");
    for (name, rule) in [
        ("js", "js.js"),
        ("rust", "rust.wasm"),
        ("python", "python.wasm"),
    ] {
        config.push_str(&format!(
            "[mailboxes.{name}]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool/{name}\"\nrules = [\"rules/{rule}\"]\n"
        ));
        for (number, (mail, _)) in mails().iter().enumerate() {
            room.write(
                &format!("spool/{name}/{number}.eml"),
                std::fs::read(mail).unwrap(),
            );
        }
    }
    room.write("postroom.toml", config);
    room.once();
    let of = |mailbox: &str| -> Vec<Value> {
        let mut rows = room.rows(&["decisions", "--mailbox", mailbox]);
        rows.sort_by_key(|row| row["subject"].to_string());
        rows.into_iter().map(|row| row["actions"].clone()).collect()
    };
    assert_eq!(of("js").len(), mails().len());
    assert_eq!(of("js"), of("rust"));
    assert_eq!(of("js"), of("python"));
}
