//! The commands as newcomers and scripts use them: their output and exit codes.

use postroom_e2e::{Room, both, mail, mail_from, root};
use postroom_stand::{Stand, wait_for};

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

fn spool(rules: &str) -> String {
    format!(
        "[tenants.acme]\ndomains = [\"acme.example\"]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [{rules}]\n"
    )
}

#[test]
fn the_demo_shows_every_kind_of_decision_and_can_be_repeated() {
    let room = room();
    let out = room.ok(&["demo", "--once"]);
    for word in [
        "firing",
        "resolved",
        "note",
        "ticket",
        "ignored",
        "quarantined",
        "repaired:",
    ] {
        assert!(out.contains(word), "{word:?} is not in\n{out}");
    }
    let mails = root().join("examples/quickstart/mail");
    let count: usize = std::fs::read_dir(mails)
        .unwrap()
        .map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap().count())
        .sum();
    // The README shows its output, and both help texts state the number of mails; each run is like the last.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, shown) = readme
        .split_once("postroom demo --once` prints this")
        .unwrap();
    let shown = shown.split("```\n").nth(1).unwrap();
    assert!(out.starts_with(shown), "{out}\n--- README:\n{shown}");
    assert_eq!(room.ok(&["demo", "--once"]), out);
    let mentioned = format!("{count} mails");
    assert!(
        out.contains(&mentioned) && readme.contains(&mentioned),
        "{out}"
    );
    assert_eq!(room.ok(&["--help"]).matches(&mentioned).count(), 2);
    let again = room.postroom(&["demo", "--once"]);
    let log = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(!log.contains("schema"), "{log}");

    let json = room.rows(&["demo", "--once"]);
    assert_eq!(json.len(), count);
    assert!(
        json.iter().all(|row| row["rule"] != "fallback"),
        "{json:#?}"
    );
    let config = ["--config", "postroom-demo/postroom.toml"];
    assert_eq!(room.rows(&["decisions", config[0], config[1]]).len(), count);

    // A folder that does not belong to the demo is left alone.
    room.write("mine/data/precious", "");
    assert_eq!(
        room.postroom(&["demo", "--once", "mine"]).status.code(),
        Some(1)
    );
    assert!(room.path().join("mine/data/precious").exists());

    // An edited rule is kept, and decides the next time.
    let rule = "export function decide() { return ticket({ queue: \"mine\" }); }\n";
    room.write("postroom-demo/rules/people.js", rule);
    let json = room.rows(&["demo", "--once"]);
    assert!(json.iter().any(|row| row["actions"][0]["queue"] == "mine"));
}

#[test]
fn a_newcomer_gets_from_init_to_a_changed_rule() {
    let room = room();
    room.ok(&["init", "mailroom"]);
    let config = ["--config", "mailroom/postroom.toml"];
    room.ok(&["check", config[0], config[1]]);
    let again = room.postroom(&["init", "mailroom"]);
    assert_eq!(again.status.code(), Some(1), "init must not overwrite");

    let rule = "mailroom/rules/first.js";
    assert!(room.path().join(rule).exists());
    let spool = std::fs::read_dir(room.path().join("mailroom")).unwrap();
    let names: Vec<_> = spool
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.contains(&"postroom.d.ts".to_owned()), "{names:?}");

    room.write("hello.eml", mail("hello", "world"));
    let changed =
        "export function decide(mail) { return ticket({ title: `mine: ${mail.subject}` }); }\n";
    room.write(rule, changed);
    let tried = room.rows(&["rule", "try", rule, "hello.eml"]);
    assert_eq!(tried[0]["actions"][0]["title"], "mine: hello");
    assert!(
        tried[0]["elapsed_us"].as_u64().is_some() && tried[0]["memory_bytes"].as_u64().is_some()
    );
}

#[test]
fn mail_import_takes_mbox_maildir_and_eml_once() {
    let room = room();
    room.write("postroom.toml", spool("\"standard\""));
    let (one, two, three) = (
        mail("in mbox 1", "a"),
        mail("in mbox 2", ">From b"),
        mail("maildir", "c"),
    );
    room.write(
        "box.mbox",
        format!("From x Mon Nov 16 09:05:00 2026\n{one}\nFrom x Mon Nov 16 09:05:00 2026\n{two}\n"),
    );
    room.write("maildir/cur/1.host:2,S", &three);
    room.write("maildir/new/.keep", "");
    std::fs::create_dir_all(room.path().join("maildir/tmp")).unwrap();
    room.write("single.eml", mail("eml", "d"));
    let import = [
        "mail",
        "import",
        "--mailbox",
        "drop",
        "box.mbox",
        "maildir",
        "single.eml",
    ];
    let first = room.rows(&import);
    assert_eq!(first[0]["read"], 4, "{first:#?}");
    assert_eq!(first[0]["decided"], 4, "{first:#?}");
    let second = room.rows(&import);
    assert_eq!(second[0]["known"], 4, "{second:#?}");
    assert_eq!(room.decisions().len(), 4);
    room.assert_balanced(4);
    room.once();
    room.assert_balanced(4);

    let wrong = room.postroom(&["mail", "import", "--mailbox", "dorp", "single.eml"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(both(&wrong).contains("drop"), "{}", both(&wrong));
}

#[test]
fn listings_filter_work_beside_a_service_and_need_no_secret() {
    let room = Room::new(Stand::shared().expect("the test stand"), &["standard"]);
    let _running = room.start();
    room.deliver(mail("first", "…"));
    room.deliver(mail("second", "…"));
    room.await_decision("second");
    let mut listing = room.command(&["decisions", "--json", "--limit", "1"]);
    let output = listing.env_clear().output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), 1);
    assert_eq!(room.rows(&["decisions", "--outcome", "note"]).len(), 0);
    assert_eq!(room.rows(&["decisions", "--since", "1h"]).len(), 2);
    assert_eq!(
        room.rows(&["items", "--kind", "ticket", "--tenant", "acme"])
            .len(),
        2
    );
    assert_eq!(room.rows(&["items", "--tenant", "other"]).len(), 0);
    for bad in [
        vec!["decisions", "--outcome", "tickets"],
        vec!["decisions", "--since", "yesterday-ish"],
        vec!["outbox", "--state", "gone"],
    ] {
        assert_eq!(room.postroom(&bad).status.code(), Some(1), "{bad:?}");
    }
    assert_eq!(room.postroom(&["decide"]).status.code(), Some(2));
    let people = room.ok(&["decisions"]);
    assert!(
        people.contains("first") && people.contains("OUTCOME"),
        "{people}"
    );
}

#[test]
fn quarantine_shows_why_and_the_raw_mail() {
    let room = room();
    room.write(
        "rules/q.js",
        "export function decide() { return quarantine(\"looks odd\"); }\n",
    );
    room.write("postroom.toml", spool("\"rules/q.js\""));
    let odd = mail("odd", "body");
    room.write("spool/odd.eml", &odd);
    room.once();
    let rows = room.rows(&["quarantine"]);
    assert_eq!(rows[0]["reason"], "looks odd");
    let id = rows[0]["id"].to_string().trim_matches('"').to_owned();
    let raw = room.postroom(&["quarantine", "show", &id, "--raw"]);
    assert_eq!(raw.stdout, odd.as_bytes());
    assert!(room.ok(&["quarantine", "show", &id]).contains("looks odd"));
    assert_eq!(
        room.postroom(&["quarantine", "show", "999"]).status.code(),
        Some(1)
    );
    assert!(room.path().join("spool/failed/odd.eml").exists());
}

#[test]
fn plugin_build_and_inspect_tell_what_a_component_is() {
    let room = room();
    let core = root().join("target/guests/standard.wasm");
    let core = core.to_str().unwrap();
    let inspected = room.rows(&["plugin", "inspect", core]);
    assert_eq!(inspected[0]["kind"], "core module");
    room.ok(&["plugin", "build", core, "-o", "standard.wasm"]);
    let inspected = room.rows(&["plugin", "inspect", "standard.wasm"]);
    assert_eq!(inspected[0]["kind"], "component");
    assert_eq!(inspected[0]["world"], "postroom:plugin/rule@2.0.0");
    assert!(inspected[0]["size"].as_u64().unwrap() > 1000);
    room.write("nonsense.wasm", "not wasm");
    for command in [
        vec!["plugin", "inspect", "nonsense.wasm"],
        vec!["plugin", "build", "nonsense.wasm"],
        vec!["plugin", "build", "not-there.wasm"],
    ] {
        let output = room.postroom(&command);
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        assert!(both(&output).contains(".wasm"), "{}", both(&output));
    }
}

#[test]
fn side_actions_alone_are_handled_and_several_items_of_one_kind_are_one_outcome() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    let rule = "export function decide(mail) {\n  if (mail.subject === \"pass it on\") return forward({ to: [\"partner@other.example\"] });\n  return [ticket({ title: \"a\" }), ticket({ title: \"b\" })];\n}\n";
    room.write("rules/acme.js", rule);
    room.write("postroom.toml", room.config(&["rules/acme.js"], ""));
    room.deliver(mail_from(
        "dana@acme.example",
        "pass it on",
        "the original words",
        "",
    ));
    room.deliver(mail("twice", "…"));
    room.once();
    let forwarded = room.decision("pass it on");
    assert_eq!(forwarded["outcome"], "ignored", "{forwarded:#}");
    let twice = room.decision("twice");
    assert_eq!(twice["outcome"], "ticket");
    assert_eq!(room.items().len(), 2);
    room.assert_balanced(2);
    assert!(wait_for(postroom_e2e::PATIENCE, || {
        room.stand.smtp().received().iter().any(|sent| {
            sent.to.contains(&"partner@other.example".to_owned())
                && String::from_utf8_lossy(&sent.data).contains("original.eml")
        })
    }));
}

/// The first steps of the README, including its edit of the rule.
#[test]
fn the_first_edit_of_the_readme_ends_live() {
    let room = room();
    room.ok(&["init", "."]);
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let edit = readme.split("```js\n").nth(1).unwrap();
    let edit = edit.split("```").next().unwrap();
    assert!(edit.contains("Hardware"), "{edit}");
    let path = room.path().join("rules/first.js");
    let rule = std::fs::read_to_string(&path).unwrap();
    let line = rule.lines().find(|line| line.contains("urgent")).unwrap();
    room.write(
        "rules/first.js",
        rule.replacen(line, &format!("{edit}{line}"), 1),
    );

    let refused = room.postroom(&["rule", "test"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(both(&refused).contains("help: if a rule is right, `postroom rule test --update`"));
    assert!(readme.contains("\npostroom rule test --update\n"));
    room.ok(&["rule", "test", "--update"]);
    room.ok(&["rule", "test"]);
    room.write(
        "spool/hello.eml",
        std::fs::read(room.path().join("rules/first.cases/hello.eml")).unwrap(),
    );
    room.ok(&["run", "--once"]);
    assert_eq!(room.rows(&["items"])[0]["queue"], "Hardware");
}

#[test]
fn the_built_in_rule_is_tried_by_its_name() {
    let room = room();
    room.write(
        "postroom.toml",
        format!(
            "{}[tenants.acme.settings.standard]\nqueue = \"Front desk\"\n",
            spool("\"standard\"")
        ),
    );
    room.write("a.eml", mail("hello", "world"));
    let tried = room.ok(&["rule", "try", "standard", "a.eml"]);
    assert!(tried.starts_with("ticket by standard"), "{tried}");
    let tried = room.rows(&["rule", "try", "standard", "a.eml", "--mailbox", "drop"]);
    assert_eq!(tried[0]["actions"][0]["queue"], "Front desk", "{tried:?}");
    let refused = room.postroom(&["rule", "try", "fallback", "a.eml"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(both(&refused).contains("fallback cannot be tried"));
}

#[test]
fn several_mails_are_tried_at_once_and_one_from_standard_input() {
    let room = room();
    room.write("a.eml", mail("first", "one"));
    room.write("b.eml", mail("second", "two"));
    let tried = room.rows(&["rule", "try", "standard", "a.eml", "b.eml"]);
    let titles: Vec<_> = tried.iter().map(|it| &it["actions"][0]["title"]).collect();
    assert_eq!(titles, ["first", "second"]);
    assert_eq!(tried[1]["mail"], "b.eml");
    let said = room.ok(&["rule", "try", "standard", "a.eml", "b.eml"]);
    assert!(said.contains("\n\nb.eml:\nticket by standard"), "{said}");

    let mut command = room.command(&["rule", "try", "standard", "-", "--json"]);
    command.stdin(std::fs::File::open(room.path().join("b.eml")).unwrap());
    let piped = command.output().unwrap();
    let piped: serde_json::Value = serde_json::from_slice(&piped.stdout).unwrap();
    assert_eq!(
        (&piped["mail"], &piped["actions"][0]["title"]),
        (&"-".into(), &"second".into())
    );
    let missing = room.postroom(&["rule", "try", "standard", "a.eml", "c.eml"]);
    assert!(!missing.status.success() && both(&missing).contains("c.eml"));
}

#[test]
fn a_mailboxs_whole_chain_is_tried_and_explained() {
    let room = room();
    room.write(
        "rules/first.js",
        "export function decide(mail) { console.log('looked'); return mail.feild('x') }\n",
    );
    room.write(
        "rules/acme.js",
        "export function decide() { return ticket({ queue: 'Acme' }) }\n",
    );
    room.write(
        "postroom.toml",
        "data_dir = \"data\"\n[tenants.triage]\n[tenants.acme]\ndomains = [\"acme.example\"]\nrules = [\"rules/acme.js\"]\n[mailboxes.all]\ntenant = { by = \"sender\", otherwise = \"triage\" }\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/first.js\", \"tenant\", \"standard\"]\n",
    );
    room.write("a.eml", mail("hello", "world"));
    room.write("b.eml", mail_from("eve@other.example", "hi", "there", ""));
    let args = [
        "rule",
        "try",
        "--chain",
        "--mailbox",
        "all",
        "a.eml",
        "b.eml",
    ];
    let output = room.postroom(&args);
    assert_eq!(output.status.code(), Some(1), "a rule failed");
    let said = both(&output);
    for part in [
        "a.eml:\nticket by rules/acme.js",
        "client acme by domain, sure",
        "rules/first.js failed at rules/first.js:1:",
        "mail.feild does not exist; did you mean mail.field?",
        "rules/acme.js decided (",
        "\n\nb.eml:\nticket by standard",
        "  no client",
    ] {
        assert!(said.contains(part), "{part:?} is not in\n{said}");
    }
}

#[test]
fn a_time_on_the_command_line_is_written_as_in_the_configuration() {
    let room = room();
    for text in ["10 m", "1m30s", "PT10M", "10 minutes"] {
        let refused = room.postroom(&["dev", "--replay-time", text]);
        assert_eq!(refused.status.code(), Some(2), "{text}: {}", both(&refused));
    }
}
