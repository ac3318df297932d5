//! Output of commands: a reader that goes away causes no panic, and nothing from a mail controls a terminal.

use std::process::{Command, Stdio};

use postroom_e2e::{Room, binary, both};
use postroom_stand::Stand;

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

const CONFIG: &str = "[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/all.js\"]\n";

/// Quarantines the mail, and repeats its subject wherever a rule can put text.
const RULE: &str = r#"export function decide(mail) {
  console.log(mail.subject);
  if (mail.subject.startsWith("alert")) return alert({ key: mail.subject, state: "firing", summary: mail.subject });
  if (mail.subject.startsWith("ticket")) return ticket({ title: mail.subject, queue: mail.subject });
  return quarantine(mail.subject);
}
"#;

/// Characters that control a terminal: ESC, BEL, C1's CSI, DEL, an override of direction, an isolate, a line separator, a
/// zero-width space.
const HIDDEN: &str = "\u{1b}[2J\u{7}\u{9b}31m\u{7f}\u{202e}\u{2066}\u{2028}\u{200b}";

fn hostile_mail(word: &str) -> String {
    let encoded: String = HIDDEN.bytes().map(|byte| format!("={byte:02X}")).collect();
    format!(
        "From: =?utf-8?q?{encoded}?= <eve@evil.example>\r\nTo: support@acme.example\r\nSubject: =?utf-8?q?{word}{encoded}?=\r\n\
         Message-ID: <{word}@evil.example>\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\n\r\n{HIDDEN}\r\n"
    )
}

fn hostile_room() -> Room<'static> {
    let room = room();
    room.write("postroom.toml", CONFIG);
    room.write("rules/all.js", RULE);
    for word in ["alert", "ticket", "other"] {
        room.write(&format!("spool/{word}.eml"), hostile_mail(word));
    }
    let out = room.postroom(&["run", "--once"]);
    assert_eq!(out.status.code(), Some(0), "{}", both(&out));
    assert_plain("run --once", &both(&out));
    room
}

fn assert_plain(command: &str, text: &str) {
    let hidden = |c: char| {
        (c.is_control() && c != '\n' && c != '\t')
            || matches!(c, '\u{200b}' | '\u{202e}' | '\u{2028}' | '\u{2066}')
    };
    let found: Vec<char> = text.chars().filter(|c| hidden(*c)).collect();
    assert!(found.is_empty(), "{command} printed {found:?}:\n{text:?}");
}

#[test]
fn no_listing_and_no_log_line_steers_a_terminal() {
    let room = hostile_room();
    let quarantined = room.rows(&["quarantine"]);
    let id = quarantined[0]["id"].to_string().replace('"', "");
    room.write("hostile.eml", hostile_mail("ticket"));
    for command in [
        &["decisions"] as &[&str],
        &["decisions", "--json"],
        &["items"],
        &["items", "--json"],
        &["quarantine"],
        &["quarantine", "--json"],
        &["quarantine", "show", &id],
        &["quarantine", "show", &id, "--json"],
        &["ledger"],
        &["outbox"],
        &["rule", "try", "rules/all.js", "hostile.eml"],
        &["rule", "try", "rules/all.js", "hostile.eml", "--json"],
        &["replay", "--all"],
        &["replay", "--json"],
    ] {
        let out = room.postroom(command);
        assert_plain(&command.join(" "), &both(&out));
    }
    // Escaped text is lossless: a script gets every byte of the subject.
    let subjects: Vec<String> = room
        .rows(&["decisions"])
        .iter()
        .map(|row| row["subject"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert!(
        subjects.iter().any(|it| it.contains('\u{202e}')),
        "{subjects:?}"
    );
    // The raw bytes are available on request.
    let raw = room.postroom(&["quarantine", "show", &id, "--raw"]);
    assert!(raw.stdout.contains(&0x1b));
}

#[test]
fn a_reader_that_goes_away_ends_no_command_with_a_panic() {
    let room = hostile_room();
    room.write("more/1.eml", hostile_mail("more"));
    room.write("core.wasm", b"\0asm\x01\0\0\0");
    for (command, both_streams) in [
        ("demo --once", true),
        ("demo --once --json", false),
        ("check", true),
        ("check --json", false),
        ("init fresh", true),
        ("plugin new --lang js fresh-plugin", true),
        ("plugin inspect core.wasm", true),
        ("mail import --mailbox drop more", true),
        ("decisions", false),
        ("decisions --json", false),
        ("items --json", false),
        ("ledger", false),
        ("outbox --json", false),
        ("quarantine show 3", false),
        ("quarantine show 3 --raw", false),
        ("rule try rules/all.js more/1.eml", false),
        ("rule test", true),
        ("replay", true),
        ("replay --json", false),
        ("rules list", false),
        ("rules show 1", false),
        ("shadow list", false),
        ("run --once", true),
    ] {
        // The reader is gone before the first byte is written.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut process = Command::new(binary());
        process
            .args(command.split(' '))
            .current_dir(room.path())
            .env("RUST_LOG", "postroom=debug")
            .stdin(Stdio::null())
            .stdout(writer.try_clone().unwrap());
        if both_streams {
            process.stderr(writer);
            let status = process.status().unwrap();
            assert_ne!(status.code(), Some(101), "{command}");
            assert!(status.code().is_some(), "{command}: {status}");
        } else {
            drop(writer);
            let out = process.stderr(Stdio::piped()).output().unwrap();
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(
                matches!(out.status.code(), Some(0 | 141)),
                "{command}: {}\n{said}",
                out.status
            );
            assert!(!said.contains("panicked"), "{command}:\n{said}");
        }
    }
}
