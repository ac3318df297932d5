//! Missing or invalid files of one client at a start: their last valid version is used, and no other client is affected.

use std::path::Path;

use postroom_e2e::{Room, both, mail};
use postroom_stand::Stand;

const CONFIG: &str = r#"[tenants.acme]
grants = ["lookup"]
contacts = "known/contacts.csv"
assets = "known/assets.csv"
[mailboxes.acme]
tenant = "acme"
protocol = "spool"
path = "spool/acme"
rules = ["rules/acme.js", "standard"]
[tenants.other]
[mailboxes.other]
tenant = "other"
protocol = "spool"
path = "spool/other"
rules = ["standard"]
"#;
const RULE: &str = r#"export function decide(mail, ctx) {
  const name = ctx.lookup.contact("ann@acme.example")?.name;
  const serial = ctx.lookup.asset("printer")?.serial;
  return ticket({ queue: `${name} ${serial}` });
}
"#;
const FILES: [&str; 3] = ["rules/acme.js", "known/contacts.csv", "known/assets.csv"];

/// Damages a file; the other path is outside of the room.
type Spoil = fn(&Path, &Path);

/// The ways to damage a file.
const WAYS: [(&str, Spoil); 5] = [
    ("deleted", |file, _| std::fs::remove_file(file).unwrap()),
    ("a folder", |file, _| {
        std::fs::remove_file(file).unwrap();
        std::fs::create_dir(file).unwrap();
    }),
    ("a link out", |file, elsewhere| {
        std::fs::rename(file, elsewhere).unwrap();
        std::os::unix::fs::symlink(elsewhere, file).unwrap();
    }),
    ("a link to nothing", |file, elsewhere| {
        std::fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink(elsewhere, file).unwrap();
    }),
    ("a pipe", |file, _| {
        std::fs::remove_file(file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(file).status();
        assert!(made.unwrap().success());
    }),
];

fn room() -> Room<'static> {
    let room = Room::bare(Stand::shared().expect("the test stand"));
    room.write("postroom.toml", CONFIG);
    room.write("rules/acme.js", RULE);
    room.write("known/contacts.csv", "email,name\nann@acme.example,Ann\n");
    room.write("known/assets.csv", "name,serial\nprinter,SN-1\n");
    room
}

fn deliver(room: &Room) {
    for tenant in ["acme", "other"] {
        room.write(
            &format!("spool/{tenant}/1.eml"),
            mail(&format!("to {tenant}"), "…"),
        );
    }
}

#[test]
fn what_a_file_last_held_serves_when_it_is_spoiled_at_a_start() {
    for (way, spoil) in WAYS {
        for file in FILES {
            let room = room();
            room.once();
            let elsewhere = tempfile::tempdir().unwrap();
            spoil(&room.path().join(file), &elsewhere.path().join("file"));
            deliver(&room);
            let out = room.postroom(&["run", "--once"]);
            assert_eq!(out.status.code(), Some(0), "{file} {way}: {}", both(&out));
            assert!(both(&out).contains(file), "{file} {way}: {}", both(&out));
            assert_eq!(room.decision("to other")["rule"], "standard");
            let decision = room.decision("to acme");
            assert_eq!(
                decision["actions"][0]["queue"], "Ann SN-1",
                "{file} {way}: {decision:#}"
            );
            let checked = room.postroom(&["check"]);
            assert_eq!(checked.status.code(), Some(1), "{file} {way}");
            assert!(
                both(&checked).contains("postroom.toml:"),
                "{}",
                both(&checked)
            );
        }
    }
}

#[test]
fn a_rule_that_never_was_there_is_passed_over() {
    for (way, spoil) in WAYS {
        let room = room();
        let elsewhere = tempfile::tempdir().unwrap();
        spoil(
            &room.path().join("rules/acme.js"),
            &elsewhere.path().join("file"),
        );
        deliver(&room);
        let out = room.postroom(&["run", "--once"]);
        assert_eq!(out.status.code(), Some(0), "{way}: {}", both(&out));
        assert_eq!(room.decision("to other")["rule"], "standard");
        let decision = room.decision("to acme");
        assert_eq!(decision["rule"], "standard", "{way}");
        assert_eq!(decision["troubles"][0]["kind"], "not-loaded", "{way}");
    }
}
