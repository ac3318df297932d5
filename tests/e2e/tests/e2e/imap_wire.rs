//! Exchanges with IMAP servers that people reported (`tests/cases/imap`), played by a scripted server to the real service.

use std::path::Path;

use postroom_e2e::scripted_imap::{Script, ScriptedImap};
use postroom_e2e::{PATIENCE, Room, both, mail, root};
use postroom_stand::{Stand, wait_for};
use serde::Deserialize;

/// The variable that holds the mailbox's password.
const PASSWORD: &str = "WIRE_PASSWORD";

/// The expectations of a case, one entry for each session of its script.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    sessions: Vec<Session>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Session {
    /// The exit code of `run --once`; without it, the service runs until everything expected has happened.
    once: Option<i32>,
    /// The subjects of all decided mails so far, in any order.
    decided: Vec<String>,
    /// Beginnings of commands, which the client sends in this order, others in between.
    #[serde(default)]
    sends: Vec<String>,
    /// How often the client sends commands with a beginning; `(connect)` counts the connections.
    #[serde(default)]
    counts: std::collections::BTreeMap<String, usize>,
    /// Texts that the log or the output contains.
    #[serde(default)]
    says: Vec<String>,
}

#[test]
fn every_case_ends_as_expected() {
    let folder = root().join("tests/cases/imap");
    let mut cases: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    assert!(!cases.is_empty(), "no case in {}", folder.display());
    let failed: Vec<String> = std::thread::scope(|scope| {
        let cases: Vec<_> = cases
            .iter()
            .map(|case| (case, scope.spawn(|| play(case))))
            .collect();
        cases
            .into_iter()
            .filter_map(|(case, playing)| {
                let name = case.file_name().unwrap().to_string_lossy().into_owned();
                match playing.join() {
                    Ok(()) => None,
                    Err(_) => Some(name),
                }
            })
            .collect()
    });
    assert!(failed.is_empty(), "failed, see above: {failed:?}");
}

/// Silence ends at the limit of the greeting, 30 s.
#[test]
fn a_silent_server_is_tried_again_and_delays_no_other_mailbox() {
    let case = root().join("tests/cases/imap/id-refused");
    let silence = Script::parse("C: (connect)\n", &case);
    let server = ScriptedImap::start();
    server.follow(&silence, 0);
    let mut room = Room::bare(Stand::shared().expect("the test stand"));
    room.set_env(PASSWORD, "a password");
    let silent = format!(
        "\n[mailboxes.silent]\ntenant = \"acme\"\nprotocol = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\naddress = \"silent.{}\"\npassword = {{ env = \"{PASSWORD}\" }}\nimport = \"all\"\n",
        server.port(),
        room.user
    );
    room.write("postroom.toml", room.config(&["standard"], &silent));
    let running = room.start();
    room.deliver(mail("beside it", "…"));
    room.await_decision("beside it");
    assert_eq!(running.lines("ERROR", ""), Vec::<String>::new());
    running.await_log("greeting: no answer within 30 s");
    let ledger = room.ok(&["ledger"]);
    assert!(ledger.contains("silent is paused since"), "{ledger}");
    assert!(ledger.contains("unreachable"), "{ledger}");
    // The server recovers.
    server.follow(&Script::read(&case), 0);
    room.await_decision("Order 78");
    running.await_log("serving again");
    assert_eq!(running.stop(), Some(0));
}

fn play(case: &Path) {
    let name = case.file_name().unwrap().to_string_lossy().into_owned();
    let script = Script::read(case);
    let expected = std::fs::read_to_string(case.join("expected.toml")).unwrap();
    let expected: Expected =
        toml::from_str(&expected).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(script.sessions(), expected.sessions.len(), "{name}");
    let keys = std::fs::read_to_string(case.join("mailbox.toml")).unwrap_or_default();
    let server = ScriptedImap::start();
    let mut room = Room::bare(Stand::shared().expect("the test stand"));
    room.set_env(PASSWORD, "a password");
    room.write(
        "postroom.toml",
        format!(
            "data_dir = \"data\"\n[tenants.acme]\n[mailboxes.support]\ntenant = \"acme\"\nprotocol = \"imap\"\nhost = \"127.0.0.1\"\nport = {}\ntls = \"none\"\naddress = \"{}\"\npassword = {{ env = \"{PASSWORD}\" }}\nimport = \"all\"\n{keys}",
            server.port(),
            room.user
        ),
    );
    for (number, session) in expected.sessions.iter().enumerate() {
        let name = format!("{name}, session {}", number + 1);
        server.follow(&script, number);
        let log = match session.once {
            Some(code) => {
                let output = room.postroom(&["run", "--once"]);
                assert_eq!(
                    output.status.code(),
                    Some(code),
                    "{name}: {}",
                    both(&output)
                );
                both(&output)
            }
            None => {
                let running = room.start();
                let done = || {
                    let output = room.postroom(&["decisions", "--json"]);
                    let decided = String::from_utf8_lossy(&output.stdout).lines().count();
                    decided >= session.decided.len()
                        && missing(&server.commands(), &session.sends).is_none()
                };
                assert!(wait_for(PATIENCE, done), "{name}: {}", running.log());
                let log = running.log();
                assert_eq!(running.stop(), Some(0), "{name}");
                log
            }
        };
        let mut decided: Vec<String> = room
            .decisions()
            .iter()
            .map(|row| row["subject"].as_str().unwrap_or_default().to_owned())
            .collect();
        decided.sort();
        let mut wanted = session.decided.clone();
        wanted.sort();
        assert_eq!(decided, wanted, "{name}: {log}");
        let commands = server.commands();
        if let Some(missing) = missing(&commands, &session.sends) {
            panic!("{name}: {missing} was not sent: {commands:#?}\n{log}");
        }
        for (beginning, count) in &session.counts {
            let sent = commands.iter().filter(|it| it.starts_with(beginning));
            assert_eq!(sent.count(), *count, "{name}: {beginning}: {commands:#?}");
        }
        for text in &session.says {
            assert!(log.contains(text), "{name}: {text:?} is not in {log}");
        }
    }
}

/// Returns the first of these beginnings that was not sent in its turn.
fn missing<'s>(commands: &[String], sends: &'s [String]) -> Option<&'s String> {
    let mut commands = commands.iter();
    sends
        .iter()
        .find(|beginning| !commands.any(|it| it.starts_with(*beginning)))
}
