//! Paths that are not regular files, or lead elsewhere, where a client or an admin can put them: nothing hangs, nothing is
//! revealed, and the others are served.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use postroom_e2e::{Room, both, mail};
use postroom_stand::Stand;
use rustix::fs::{CWD, Mode, mkfifoat};
use tempfile::TempDir;

/// The limit of written memory, not of address space, of which a rule's engine reserves many gigabytes. An endless file
/// uses all of it.
const MEMORY_KIB: u64 = 1 << 20;
/// A text that no log and no listing may contain.
const SECRET: &str = "SECRET-OF-ANOTHER-CLIENT";
/// Each is placed where a case, a key or a secret belongs.
const ODD: [&str; 3] = ["zero", "pipe", "out"];

struct Outside {
    dir: TempDir,
}

impl Outside {
    /// Creates another client's file outside of the room.
    fn new() -> Self {
        let dir = TempDir::with_prefix("postroom-outside-").unwrap();
        std::fs::write(dir.path().join("mail"), mail(SECRET, SECRET)).unwrap();
        let expected = format!("{{\"outcome\": \"ticket\", \"log\": [\"{SECRET}\"]}}");
        std::fs::write(dir.path().join("expected"), expected).unwrap();
        Self { dir }
    }

    /// Creates one of these at a path; `out` links to the file `name` outside.
    fn place(&self, odd: &str, at: &Path, name: &str) {
        std::fs::create_dir_all(at.parent().unwrap()).unwrap();
        match odd {
            "zero" => symlink("/dev/zero", at).unwrap(),
            "pipe" => mkfifoat(CWD, at, Mode::RUSR | Mode::WUSR).unwrap(),
            _ => symlink(self.dir.path().join(name), at).unwrap(),
        }
    }
}

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

/// Runs a command, which must end by itself: neither hang nor run out of memory.
fn bounded(room: &Room, args: &[&str]) -> Output {
    let script = format!("ulimit -d {MEMORY_KIB}; exec timeout -s KILL 60 \"$@\"");
    let command = room.command(args);
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &script, "sh"]).arg(command.get_program());
    shell.args(args).current_dir(room.path());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let output = shell.output().unwrap();
    let code = output.status.code();
    assert!(
        matches!(code, Some(0 | 1)),
        "{args:?} did not end by itself: {}",
        both(&output)
    );
    output
}

/// Configures a client whose rule must pass its tests, and another one without.
fn two_clients(room: &Room) {
    room.write(
        "rules/evil.js",
        "export function decide(mail) { return ticket({ title: mail.subject }); }\n",
    );
    let mut config = String::from("data_dir = \"data\"\n");
    for (tenant, more, rules) in [
        ("acme", "", "\"standard\""),
        (
            "evil",
            "rule_tests = true",
            "\"rules/evil.js\", \"standard\"",
        ),
    ] {
        config += &format!(
            "[tenants.{tenant}]\n{more}\n[mailboxes.{tenant}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool/{tenant}\"\nevery = \"1s\"\nrules = [{rules}]\n"
        );
    }
    room.write("postroom.toml", config);
}

#[test]
fn no_case_of_a_rule_is_read_from_elsewhere_or_without_end() {
    let outside = Outside::new();
    for odd in ODD {
        for what in ["mail", "expected"] {
            let room = room();
            two_clients(&room);
            let cases = room.path().join("rules/evil.cases");
            room.write("rules/evil.cases/odd.eml", mail("usual", "usual"));
            room.write(
                "rules/evil.cases/odd.expected.json",
                "{\"outcome\": \"alert\"}",
            );
            let at = match what {
                "mail" => cases.join("odd.eml"),
                _ => cases.join("odd.expected.json"),
            };
            std::fs::remove_file(&at).unwrap();
            outside.place(odd, &at, what);
            for args in [
                &["check"][..],
                &["rule", "test", "rules/evil.js"],
                &["rule", "test", "rules/evil.js", "--update"],
                &["rule", "test", "rules/evil.js", "--config", "nowhere.toml"],
                &["run", "--once"],
            ] {
                let output = bounded(&room, args);
                let said = both(&output);
                assert!(!said.contains(SECRET), "{odd} {what} {args:?}: {said}");
                let reason = match odd {
                    "pipe" => "is no file",
                    _ => "leads out of the folder",
                };
                if args[0] != "run" && !args.contains(&"nowhere.toml") {
                    assert!(said.contains(reason), "{odd} {what} {args:?}: {said}");
                }
            }
            assert!(!outside.dir.path().join("nothing").exists());
        }
    }
}

#[test]
fn a_pipe_among_a_clients_cases_keeps_no_other_client_from_its_mail() {
    let room = room();
    two_clients(&room);
    Outside::new().place("pipe", &room.path().join("rules/evil.cases/pipe.eml"), "");
    room.write("spool/acme/one.eml", mail("at the start", "first"));
    let running = room.start();
    room.await_decision("at the start");
    // A save triggers a check.
    room.write(
        "rules/evil.js",
        "export function decide() { return null; }\n",
    );
    running.await_log("pipe.eml is no file");
    room.write("spool/acme/two.eml", mail("after a save", "second"));
    room.await_decision("after a save");
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_link_to_nowhere_is_not_written_through() {
    let room = room();
    two_clients(&room);
    let outside = Outside::new();
    room.write("rules/evil.cases/odd.eml", mail("usual", "usual"));
    let at = room.path().join("rules/evil.cases/odd.expected.json");
    outside.place("out", &at, "nothing");
    let output = bounded(&room, &["rule", "test", "rules/evil.js", "--update"]);
    assert_eq!(output.status.code(), Some(1), "{}", both(&output));
    assert!(!outside.dir.path().join("nothing").exists());
}

#[test]
fn no_key_secret_or_certificate_is_read_without_end() {
    let outside = Outside::new();
    for odd in ["zero", "pipe"] {
        for (file, line) in [
            ("key", "[vault]\nkey = { file = \"key\" }\n"),
            ("ca", "[tls]\nca = \"ca\"\n"),
            ("secret", ""),
        ] {
            let room = room();
            room.write("secret", "a secret\n");
            if file == "secret" {
                std::fs::remove_file(room.path().join("secret")).unwrap();
            }
            outside.place(odd, &room.path().join(file), "");
            room.write(
                "postroom.toml",
                format!(
                    "data_dir = \"data\"\n{line}[profiles.p]\nprovider = \"microsoft\"\ntenant = \"acme.example\"\nclient_id = \"app\"\nclient_secret = {{ file = \"secret\" }}\ngrant = \"client-credentials\"\n[tenants.acme]\n[mailboxes.acme]\ntenant = \"acme\"\nprotocol = \"imap\"\naddress = \"support@acme.example\"\nprofile = \"p\"\nhost = \"localhost\"\n"
                ),
            );
            for args in [&["check"][..], &["run", "--once"], &["auth", "status"]] {
                let output = bounded(&room, args);
                let said = both(&output);
                assert_eq!(
                    output.status.code(),
                    Some(1),
                    "{odd} {file} {args:?}: {said}"
                );
                assert!(said.contains("is no file"), "{odd} {file} {args:?}: {said}");
            }
        }
    }
}

#[test]
fn what_is_pinned_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let room = room();
    two_clients(&room);
    room.write("spool/evil/one.eml", mail("hello", "first"));
    room.once();
    let id = room.decision("hello")["id"].to_string();
    let mut command = std::process::Command::new("sh");
    let pin = room.command(&["rule", "pin", &id, "--name", "pinned"]);
    command
        .args(["-c", "umask 000; exec \"$@\"", "sh"])
        .arg(pin.get_program());
    command.args(pin.get_args()).current_dir(room.path());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", both(&output));
    let mode = |name: &str| {
        let path = room.path().join("rules/evil.cases").join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    let modes = ["", "pinned.eml", "pinned.expected.json"].map(mode);
    assert_eq!(modes, [0o700, 0o600, 0o600]);
}
