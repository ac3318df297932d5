//! Saving a rule is a release: live without a restart, completely or not at all, and never losing a mail.

use std::io::Write;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use postroom_e2e::{PATIENCE, Room, Running, both, mail, root};
use postroom_stand::{Stand, wait_for};

const RULE: &str = "rules/acme.js";

fn stand() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Returns a rule that marks its tickets with a word.
fn marking(word: &str) -> String {
    format!("export function decide(mail) {{\n  return ticket({{ queue: \"{word}\" }});\n}}\n")
}

fn started(rule: &str) -> (Room<'static>, Running) {
    let room = Room::bare(stand());
    room.write(RULE, rule);
    room.write("postroom.toml", room.config(&[RULE, "standard"], ""));
    let running = room.start();
    room.deliver(mail("first", "…"));
    room.await_decision("first");
    (room, running)
}

fn queue_of(room: &Room, subject: &str) -> String {
    room.deliver(mail(subject, "…"));
    let decision = room.await_decision(subject);
    decision["actions"][0]["queue"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

#[test]
fn a_saved_rule_is_live_by_rename_by_truncation_and_in_two_steps() {
    let (room, running) = started(&marking("one"));
    let path = room.path().join(RULE);

    room.write("rules/.acme.js.swp", marking("by-rename"));
    std::fs::rename(room.path().join("rules/.acme.js.swp"), &path).unwrap();
    running.await_log("generation=2");
    assert_eq!(queue_of(&room, "renamed"), "by-rename");

    std::fs::write(&path, marking("by-truncation")).unwrap();
    running.await_log("generation=3");
    assert_eq!(queue_of(&room, "truncated"), "by-truncation");

    let text = marking("in-two-steps");
    let (head, tail) = text.split_at(30);
    let mut file = std::fs::File::create(&path).unwrap();
    file.write_all(head.as_bytes()).unwrap();
    file.sync_all().unwrap();
    // Longer than any debounce: the half-written file is seen and refused, and the last good version stays live.
    running.await_log("rule not loaded");
    assert_eq!(queue_of(&room, "half"), "by-truncation");
    file.write_all(tail.as_bytes()).unwrap();
    drop(file);
    running.await_log("generation=4");
    assert_eq!(queue_of(&room, "whole"), "in-two-steps");
    room.assert_balanced(5);
}

#[test]
fn broken_saves_change_nothing_and_say_where() {
    let (room, running) = started(&marking("good"));
    let broken = [
        (
            "export function decide(mail) {\n  return ticket({ queue: );\n}\n",
            "rules/acme.js:2:",
        ),
        (
            "const x = undefined_thing.y;\nexport function decide() {}\n",
            "rules/acme.js:1:",
        ),
        (
            "while (true) {}\nexport function decide() {}\n",
            "rules/acme.js",
        ),
        ("export const nothing = 1;\n", "decide"),
        ("", "decide"),
        (
            "import { x } from \"./lib.js\";\nexport function decide() {}\n",
            "rules/acme.js:1:",
        ),
    ];
    for (number, (text, words)) in broken.iter().enumerate() {
        let before = running.log().matches("rule not loaded").count();
        room.write(RULE, text);
        assert!(
            wait_for(PATIENCE, || running
                .log()
                .matches("rule not loaded")
                .count()
                > before),
            "{text:?} was not refused:\n{}",
            running.log()
        );
        let log = running.log();
        let said = log
            .lines()
            .rfind(|line| line.contains("rule not loaded"))
            .unwrap();
        assert!(said.contains(words), "{text:?}: {said}");
        assert_eq!(queue_of(&room, &format!("after broken {number}")), "good");
    }

    // The same broken text after a good one is reported again.
    room.write(RULE, marking("good"));
    let before = running.log().matches("rule not loaded").count();
    std::thread::sleep(Duration::from_millis(300));
    room.write(RULE, broken[0].0);
    assert!(wait_for(PATIENCE, || running
        .log()
        .matches("rule not loaded")
        .count()
        > before));

    // The file is still broken: after a restart the last good rule is live, stored by its content.
    assert_eq!(running.stop(), Some(0));
    let _again = room.start();
    assert_eq!(queue_of(&room, "after the restart"), "good");
}

#[test]
fn an_imported_file_is_part_of_the_rule() {
    const COMMON: &str = "rules/lib/common.ts";
    let rule = |name: &str| {
        format!(
            "import {{ {name} }} from \"./lib/common.ts\";\nexport function decide() {{\n  return ticket({{ queue: {name}() }});\n}}\n"
        )
    };
    let common = |name: &str, word: &str| {
        format!("export const {name} = (): string => \"{word}\" satisfies string;\n")
    };
    let room = Room::bare(stand());
    room.write(COMMON, common("queue", "one"));
    room.write(RULE, rule("queue"));
    room.write("postroom.toml", room.config(&[RULE, "standard"], ""));
    let running = room.start();
    assert_eq!(queue_of(&room, "first"), "one");

    room.write(COMMON, common("queue", "two"));
    running.await_log("generation=2");
    assert_eq!(queue_of(&room, "imported file saved"), "two");

    // Broken: its own position is reported, and the last good version stays live.
    room.write(COMMON, "\nexport const queue = ;\n");
    running.await_log("rules/lib/common.ts:2:22: SyntaxError");
    assert_eq!(queue_of(&room, "imported file broken"), "two");
    assert_eq!(running.stop(), Some(0));
    let running = room.start();
    running.await_log("rules/lib/common.ts:2:22: SyntaxError");
    assert_eq!(queue_of(&room, "after the restart"), "two");

    // A name changes in two saves: the state in between is refused at the import.
    room.write(COMMON, common("team", "three"));
    running.await_log("rules/acme.js:1:10: SyntaxError: rules/lib/common.ts exports no");
    assert_eq!(queue_of(&room, "half renamed"), "two");
    room.write(RULE, rule("team"));
    running.await_log("generation=3");
    assert_eq!(queue_of(&room, "renamed"), "three");

    // Imported before it exists, in a folder that does not exist either.
    let far = "import { far } from \"./new/far.js\";\nexport function decide() {\n  return ticket({ queue: far });\n}\n";
    room.write(RULE, far);
    running.await_log("rules/acme.js:1:21: import of");
    assert_eq!(queue_of(&room, "imported too early"), "three");
    room.write("rules/new/far.js", "export const far = \"four\";\n");
    running.await_log("generation=4");
    assert_eq!(queue_of(&room, "appeared"), "four");

    // A link that leads out, and more text than a rule may have.
    let outside = room.path().join("outside.js");
    std::fs::write(&outside, "export const far = \"outside\";\n").unwrap();
    let link = room.path().join("rules/new/link.js");
    symlink(&outside, &link).unwrap();
    std::fs::rename(&link, room.path().join("rules/new/far.js")).unwrap();
    running.await_log("leads out of the folder rules by a symbolic link");
    assert_eq!(queue_of(&room, "linked out"), "four");
    let large = format!("/*{}*/\n{}", "x".repeat(5 << 20), marking("large"));
    room.write(RULE, large);
    running.await_log("exceeds 5242880 bytes");
    assert_eq!(queue_of(&room, "after all"), "four");
    room.assert_balanced(10);
}

#[test]
fn a_link_swapped_in_serves_when_it_stays_in_the_folder_and_is_refused_when_it_leads_out() {
    const REFUSED: &str =
        "rules/acme.js: it leads out of the configuration's folder by a symbolic link";
    let elsewhere = Room::bare(stand());
    elsewhere.write("rules/acme.js", marking("outside"));
    let (room, running) = started(&marking("one"));
    let at = |name: &str| room.path().join(name);
    let refusals = |count: usize| {
        let said = || running.log().matches(REFUSED).count();
        assert!(wait_for(PATIENCE, || said() == count), "{}", running.log());
    };

    symlink(elsewhere.path().join(RULE), at("rules/link")).unwrap();
    std::fs::rename(at("rules/link"), at(RULE)).unwrap();
    refusals(1);
    assert_eq!(queue_of(&room, "a link out"), "one");

    room.write("common/real.js", marking("two"));
    symlink("../common/real.js", at("rules/link")).unwrap();
    std::fs::rename(at("rules/link"), at(RULE)).unwrap();
    running.await_log("generation=2");
    assert_eq!(queue_of(&room, "a link within"), "two");

    // The whole folder.
    std::fs::rename(at("rules"), at("rules.old")).unwrap();
    symlink(elsewhere.path().join("rules"), at("rules")).unwrap();
    refusals(2);
    assert_eq!(queue_of(&room, "a folder that leads out"), "two");

    room.assert_balanced(4);

    // After a restart the last good version is live as well.
    assert_eq!(running.stop(), Some(0));
    room.deliver(mail("after a restart", "…"));
    let again = room.postroom(&["run", "--once"]);
    assert!(again.status.success(), "{}", both(&again));
    let decision = room.decision("after a restart");
    assert_eq!(decision["actions"][0]["queue"], "two");
    let told = "rules/acme.js: it leads out of the configuration's folder by a symbolic link";
    assert!(both(&again).contains(told), "{}", both(&again));
}

#[test]
fn a_component_is_replaced_and_a_wrong_one_refused() {
    let built = root().join("target/guests");
    let room = Room::bare(stand());
    let rule = room.path().join("rules/acme.wasm");
    std::fs::create_dir_all(rule.parent().unwrap()).unwrap();
    let component = |core: &str, to: &std::path::Path| {
        let core = built.join(core);
        room.ok(&[
            "plugin",
            "build",
            core.to_str().unwrap(),
            "-o",
            to.to_str().unwrap(),
        ]);
    };
    component("examples/rust.wasm", &rule);
    room.write(
        "postroom.toml",
        room.config(&["rules/acme.wasm", "standard"], ""),
    );
    let running = room.start();
    let failed = std::fs::read(root().join("examples/rules/cases/failed.eml")).unwrap();
    room.deliver(failed);
    let first = room.await_decision("Backup Files daily on srv-01.acme.example: FAILED");
    assert_eq!(first["rule"], "rules/acme.wasm");

    // A core module, a truncated component, another world: each is refused, and the first stays live.
    let good = std::fs::read(&rule).unwrap();
    let wrong_world = room.path().join("wrong-world.wasm");
    component("hostile/wrong-world.wasm", &wrong_world);
    let missing_import = room.path().join("missing-import.wasm");
    component("hostile/unknown-import.wasm", &missing_import);
    for (bytes, words) in [
        (
            std::fs::read(built.join("standard.wasm")).unwrap(),
            "plugin build",
        ),
        (good[..good.len() / 2].to_vec(), "not a complete"),
        (std::fs::read(wrong_world).unwrap(), "this is not a rule"),
        (
            std::fs::read(missing_import).unwrap(),
            "example:other/network",
        ),
    ] {
        std::fs::write(&rule, bytes).unwrap();
        running.await_log(words);
    }
    room.deliver(mail("still serving", "…"));
    room.await_decision("still serving");

    component("standard.wasm", &rule);
    running.await_log("generation=2");
    room.deliver(mail("replaced", "…"));
    let replaced = room.await_decision("replaced");
    assert_eq!(replaced["rule"], "rules/acme.wasm");
    assert_ne!(replaced["rule_hash"], first["rule_hash"]);
}

#[test]
fn while_mail_flows_no_mail_is_lost_decided_twice_or_by_half_a_generation() {
    const MAILS: usize = 300;
    // Both rules of a generation have its word: a mail with two words saw half a generation.
    let pair = |word: &str| {
        (
            format!("export function decide(mail) {{ console.log(\"{word}\"); return pass(); }}\n"),
            marking(word),
        )
    };
    let room = Room::bare(stand());
    let (first, second) = pair("w0");
    room.write("rules/first.js", first);
    room.write("rules/second.js", second);
    let chain = ["rules/first.js", "rules/second.js"];
    room.write("postroom.toml", room.config(&chain, ""));
    let running = room.start();

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut word = 0;
            while !done.load(Ordering::Relaxed) {
                word += 1;
                let (first, second) = pair(&format!("w{word}"));
                for (name, text) in [("first.js", first), ("second.js", second)] {
                    let partial = room.path().join("rules").join(format!("{name}.tmp"));
                    std::fs::write(&partial, text).unwrap();
                    std::fs::rename(&partial, room.path().join("rules").join(name)).unwrap();
                }
                std::thread::sleep(Duration::from_millis(150));
            }
        });
        for number in 0..MAILS {
            room.deliver(mail(&format!("flow {number}"), "…"));
        }
        assert!(
            wait_for(PATIENCE, || room.decisions().len() >= MAILS),
            "{} decisions\n{}",
            room.decisions().len(),
            running.log()
        );
        done.store(true, Ordering::Relaxed);
    });

    let decisions = room.decisions();
    assert_eq!(decisions.len(), MAILS);
    // Two files saved separately may go live separately; but all mails of one generation saw the same pair of contents.
    let mut pairs = std::collections::BTreeMap::<u64, (String, String)>::new();
    for decision in &decisions {
        assert_eq!(decision["rule"], "rules/second.js", "{decision:#}");
        let generation = decision["generation"].as_u64().unwrap();
        let pair = (
            decision["log"][0].as_str().unwrap().to_owned(),
            decision["actions"][0]["queue"].as_str().unwrap().to_owned(),
        );
        let before = pairs.insert(generation, pair.clone());
        assert!(
            before.is_none_or(|b| b == pair),
            "generation {generation} said two things"
        );
    }
    assert!(pairs.len() > 1, "no reload happened while mail flowed");
    assert!(wait_for(PATIENCE, || room.count("Processed") == MAILS));
    room.assert_balanced(MAILS as u64);
}

/// Tests that take ten seconds delay neither a stop during the start nor one after a save.
#[test]
fn a_stop_waits_for_no_rule_that_is_loaded() {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write(
        "postroom.toml",
        "[limits]\ntime = \"60s\"\n[tenants.acme]\nrule_tests = true\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/acme.js\", \"standard\"]\n",
    );
    room.write("rules/acme.js", "export function decide() { for (;;); }\n");
    room.write("rules/acme.cases/a.eml", mail("a", "…"));
    room.write(
        "rules/acme.cases/a.expected.json",
        "{\"outcome\": \"ticket\"}\n",
    );
    let running = room.start();
    let database = room.path().join("data/postroom.sqlite");
    assert!(wait_for(PATIENCE, || database.exists()));
    let log = running.log();
    assert_eq!(running.stop(), Some(0), "{log}");
    let log = std::fs::read_to_string(room.path().join("run.log")).unwrap();
    assert!(!log.contains("rule not loaded"), "{log}");
}
