//! Missing secrets, keys and certificates: the parts that need them report it and wait, and every other client is served.

use std::os::unix::fs::PermissionsExt;

use postroom_e2e::{Room, both, mail};
use postroom_stand::{Stand, WEBHOOK_SECRET};

const MISSING: &str = "POSTROOM_TEST_MISSING";

fn room() -> Room<'static> {
    Room::bare(Stand::shared().expect("the test stand"))
}

/// A client with a folder and no problem.
const SOUND: &str = "[tenants.sound]\ndomains = [\"acme.example\"]\n[mailboxes.sound]\ntenant = \"sound\"\nprotocol = \"spool\"\npath = \"spool\"\nevery = \"1s\"\nrules = [\"rules/sound.js\", \"standard\"]\n";

fn config(room: &Room, more: &str) {
    room.write(
        "rules/sound.js",
        "export function decide(mail) { return ticket({ title: mail.subject }); }\n",
    );
    room.write(
        "postroom.toml",
        format!("data_dir = \"data\"\n{more}{SOUND}"),
    );
}

/// Returns a client whose mailbox signs in with `credential`, a line.
fn imap(name: &str, credential: &str) -> String {
    format!(
        "[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"imap\"\nhost = \"localhost\"\nport = 9\ntls = \"implicit\"\naddress = \"{name}@acme.example\"\n{credential}\n"
    )
}

fn profile(name: &str, secret: &str) -> String {
    format!(
        "[profiles.{name}]\nprovider = \"custom\"\ntoken_url = \"http://127.0.0.1:9/token\"\nclient_id = \"app\"\nclient_secret = {secret}\nscopes = [\"mail\"]\ngrant = \"client-credentials\"\n"
    )
}

/// Returns the state of a mailbox as the ledger prints it for people.
fn state(room: &Room, mailbox: &str) -> String {
    let ledger = room.ok(&["ledger"]);
    let line = ledger
        .lines()
        .find(|it| it.starts_with(&format!("{mailbox} is paused")));
    line.unwrap_or_default().to_owned()
}

/// A client in a file of its own, with a folder and further keys of its mailbox.
fn client(room: &Room, name: &str, more: &str) {
    room.write(
        &format!("clients/{name}.toml"),
        format!("[tenants.{name}]\n[mailboxes.{name}]\ntenant = \"{name}\"\nprotocol = \"spool\"\npath = \"spool-{name}\"\nevery = \"1s\"\n{more}"),
    );
}

#[test]
fn a_fault_in_one_clients_file_stops_that_client_and_no_other() {
    let room = room();
    config(&room, "include = [\"clients/*.toml\"]\n");
    client(&room, "good", "");
    client(&room, "typo", "ruls = [\"rules/sound.js\"]\n");
    client(&room, "torn", "rules = [\n");
    let check = room.postroom(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", both(&check));
    for place in ["clients/typo.toml:7:1", "clients/torn.toml:7"] {
        assert!(both(&check).contains(place), "{place}: {}", both(&check));
    }

    room.write("spool/one.eml", mail("drained", "first"));
    room.write("spool-good/one.eml", mail("of-good", "first"));
    room.write("spool-typo/one.eml", mail("of-typo", "first"));
    let once = room.postroom(&["run", "--once"]);
    assert_eq!(once.status.code(), Some(1), "{}", both(&once));
    for line in [
        "mailboxes.typo.ruls: is not a key of a mailbox",
        "a part of the configuration is not used: ",
        "; misconfigured: mailbox typo, clients/torn.toml; nothing is pending",
    ] {
        let said = both(&once).matches(line).count();
        assert_eq!(said, 1, "{line}: {}", both(&once));
    }
    let state = state(&room, "typo");
    assert!(state.contains("clients/typo.toml:7:1"), "{state}");
    assert_eq!(room.decision("drained")["outcome"], "ticket");
    assert_eq!(room.decision("of-good")["outcome"], "ticket");
    assert!(
        room.path().join("spool-typo/one.eml").exists(),
        "the mail was taken"
    );

    let running = room.start();
    room.write("spool-good/two.eml", mail("served", "second"));
    room.await_decision("served");
    let errors = running.lines("ERROR", "is misconfigured and does not run");
    assert_eq!(errors.len(), 1, "{errors:#?}");
    assert!(
        errors[0].contains("mailbox=typo") && errors[0].contains("help="),
        "{errors:#?}"
    );
    assert_eq!(
        running
            .lines("ERROR", "a part of the configuration is not used")
            .len(),
        1
    );
    assert_eq!(running.stop(), Some(0));

    // Corrected, they run: nothing was lost.
    client(&room, "typo", "rules = [\"standard\"]\n");
    client(&room, "torn", "");
    room.ok(&["check"]);
    room.ok(&["run", "--once"]);
    assert_eq!(room.decision("of-typo")["outcome"], "ticket");
    assert_eq!(self::state(&room, "typo"), "");

    // What concerns every client stops every client.
    room.write(
        "postroom.toml",
        format!("data_dir = \"data\"\nkeep_raw = 5\ninclude = [\"clients/*.toml\"]\n{SOUND}"),
    );
    let refused = room.postroom(&["run", "--once"]);
    assert_eq!(refused.status.code(), Some(1), "{}", both(&refused));
    assert!(
        both(&refused).contains("invalid configuration"),
        "{}",
        both(&refused)
    );
}

#[test]
fn a_missing_secret_stops_the_mailboxes_that_need_it_and_no_other() {
    let room = room();
    let missing = format!("{{ env = \"{MISSING}\" }}");
    config(
        &room,
        &[
            profile("lost", &missing),
            imap("by-profile", "profile = \"lost\""),
            imap("by-password", &format!("password = {missing}")),
            imap("by-file", "password = { file = \"secrets/nowhere\" }"),
        ]
        .concat(),
    );
    let check = room.postroom(&["check"]);
    assert_eq!(check.status.code(), Some(1), "{}", both(&check));
    let said = both(&check);
    for key in [
        "profiles.lost.client_secret.env",
        "mailboxes.by-password.password.env",
        "mailboxes.by-file.password.file",
    ] {
        assert!(said.contains(key), "{key}: {said}");
    }
    assert!(said.contains("3 problems"), "{said}");

    room.write("spool/one.eml", mail("drained", "first"));
    let once = room.postroom(&["run", "--once"]);
    assert_eq!(once.status.code(), Some(1), "{}", both(&once));
    for name in ["by-profile", "by-password", "by-file"] {
        let reason = format!("mailbox={name} ");
        let said = both(&once).matches(&reason).count();
        assert_eq!(said, 1, "{name}: {}", both(&once));
        let state = state(&room, name);
        assert!(state.contains("misconfigured: "), "{name}: {state}");
        assert!(state.contains("help: "), "{name}: {state}");
    }
    let failed = "; failed: by-file, by-password, by-profile; nothing is pending";
    assert!(both(&once).contains(failed), "{}", both(&once));
    assert_eq!(state(&room, "sound"), "");
    assert_eq!(room.decision("drained")["outcome"], "ticket");

    let running = room.start();
    room.write("spool/two.eml", mail("served", "second"));
    room.await_decision("served");
    for name in ["by-profile", "by-password", "by-file"] {
        running.await_log(&format!("mailbox={name}"));
    }
    let errors = running.lines("ERROR", "is misconfigured");
    assert_eq!(errors.len(), 3, "{errors:#?}");
    assert!(
        errors.iter().all(|line| line.contains("help=")),
        "{errors:#?}"
    );
    assert_eq!(running.stop(), Some(0));

    // Listings need no secret.
    let row = room.decision("served");
    let id = row["id"].to_string();
    for args in [
        &["decisions"][..],
        &["items"],
        &["ledger"],
        &["outbox"],
        &["quarantine", "list"],
        &["rules", "list"],
        &["rule", "test"],
        &[
            "rule",
            "try",
            "rules/sound.js",
            "spool/done/two.eml",
            "--mailbox",
            "sound",
        ],
        &["replay"],
        &["rule", "pin", &id],
    ] {
        let output = room.postroom(args);
        let untested = args == ["rule", "test"];
        assert!(
            output.status.success() || untested,
            "{args:?}: {}",
            both(&output)
        );
        assert!(
            !both(&output).contains("cannot be used"),
            "{args:?}: {}",
            both(&output)
        );
    }
    let status = room.postroom(&["auth", "status"]);
    assert!(
        both(&status).contains("profile lost cannot be used"),
        "{}",
        both(&status)
    );
    let login = room.postroom(&["auth", "login", "lost"]);
    assert!(
        both(&login).contains("help: set POSTROOM_TEST_MISSING"),
        "{}",
        both(&login)
    );
    let test = room.postroom(&["mailbox", "test", "by-profile"]);
    assert_eq!(test.status.code(), Some(1), "{}", both(&test));
    assert!(
        both(&test).contains("FAIL configuration"),
        "{}",
        both(&test)
    );
}

#[test]
fn what_a_sink_or_an_outgoing_waits_for_waits_uncounted() {
    let mut room = room();
    let hook = format!("{}/misconfigured", room.stand.webhook().url());
    let missing = format!("{{ env = \"{MISSING}\" }}");
    let config_with = |out: &str| {
        format!(
            "[sinks.lost]\nkind = \"webhook\"\nurl = {hook:?}\nsecret = {missing}\n{out}[sinks.other]\nkind = \"webhook\"\nurl = {hook:?}\nsecret = {{ file = \"hook\" }}\n"
        )
    };
    room.write("hook", WEBHOOK_SECRET);
    let out = format!(
        "[outgoing.out]\nprotocol = \"smtp\"\nhost = \"localhost\"\nport = 9\ntls = \"none\"\nfrom = \"support@acme.example\"\npassword = {missing}\n"
    );
    config(&room, &config_with(&out));
    let text = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    room.write(
        "postroom.toml",
        text.replace(
            "path = \"spool\"\n",
            "path = \"spool\"\naddress = \"support@acme.example\"\noutgoing = \"out\"\n",
        ),
    );
    room.write(
        "rules/sound.js",
        "export function decide(mail) { return [ticket({ title: mail.subject }), reply({ text: \"thanks\" })]; }\n",
    );
    room.write("spool/one.eml", mail("waits", "first"));
    for _ in 0..2 {
        let once = room.postroom(&["run", "--once"]);
        assert_eq!(once.status.code(), Some(1), "{}", both(&once));
        for part in [
            "sink lost is misconfigured, ",
            "outgoing out is misconfigured, ",
            "; misconfigured: sink lost, outgoing out; ",
        ] {
            let said = both(&once).matches(part).count();
            assert_eq!(said, 1, "{part}: {}", both(&once));
        }
        let rows = room.rows(&["outbox"]);
        let of = |target: &str| rows.iter().find(|row| row["target"] == target).unwrap();
        for target in ["lost", "out"] {
            let row = of(target);
            assert_eq!(
                (&row["state"], &row["attempts"]),
                (&"waiting".into(), &0.into()),
                "{row}"
            );
        }
        assert_eq!(of("other")["state"], "delivered", "{rows:#?}");
    }
    // The secret is set now.
    room.set_env(MISSING, WEBHOOK_SECRET);
    room.postroom(&["run", "--once"]);
    let rows = room.rows(&["outbox"]);
    let lost = rows.iter().find(|row| row["target"] == "lost").unwrap();
    assert_eq!(lost["state"], "delivered", "{rows:#?}");
}

#[test]
fn a_vault_that_stays_shut_stops_who_needs_a_token() {
    let open = |room: &Room| {
        let key = room.path().join("vault.key");
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o644)).unwrap();
    };
    let write = |room: &Room, text: &str| {
        room.write("vault.key", text);
        let key = room.path().join("vault.key");
        std::fs::set_permissions(key, PermissionsExt::from_mode(0o600)).unwrap();
    };
    let good = "aHVudGVyMi1odW50ZXIyLWh1bnRlcjItaHVudGVyMi0=\n";
    for (kind, reason) in [
        ("open", "others may read"),
        ("garbled", "is not the base64 of 32 bytes"),
        ("missing", "does not exist"),
        ("environment", "is not set"),
    ] {
        let room = room();
        let key = match kind {
            "environment" => format!("key = {{ env = \"{MISSING}\" }}"),
            _ => "key = { file = \"vault.key\" }".to_owned(),
        };
        config(
            &room,
            &[
                format!("[vault]\n{key}\n"),
                profile("app", "{ file = \"secret\" }"),
                imap("by-token", "profile = \"app\""),
                imap("by-password", "password = { file = \"secret\" }"),
            ]
            .concat(),
        );
        room.write("secret", "a secret\n");
        match kind {
            "open" => {
                write(&room, good);
                open(&room);
            }
            "garbled" => write(&room, "no key at all\n"),
            // A vault in use whose key is gone.
            "missing" => room.write(&format!("data/vault/{}.sealed", "0".repeat(32)), "x"),
            _ => {}
        }
        room.write("spool/one.eml", mail("goes on", "first"));
        let check = room.postroom(&["check"]);
        assert_eq!(check.status.code(), Some(1), "{kind}: {}", both(&check));
        assert!(both(&check).contains(reason), "{kind}: {}", both(&check));
        let once = room.postroom(&["run", "--once"]);
        assert_eq!(once.status.code(), Some(1), "{kind}: {}", both(&once));
        assert!(both(&once).contains(reason), "{kind}: {}", both(&once));
        assert_eq!(room.decision("goes on")["outcome"], "ticket", "{kind}");
        let by_token = state(&room, "by-token");
        assert!(by_token.contains("misconfigured: "), "{kind}: {by_token}");
        // No server listens there, but the configuration was accepted.
        let by_password = state(&room, "by-password");
        assert!(
            by_password.contains("unreachable: "),
            "{kind}: {by_password}"
        );
    }
}

#[test]
fn a_rule_is_tried_whatever_else_is_wrong_with_the_file() {
    let room = room();
    config(&room, "");
    let file = room.path().join("postroom.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let left_over = "[tenants.sound.settings.\"rules/first.js\"]\nqueue = \"x\"\n";
    room.write("postroom.toml", format!("{text}{left_over}"));
    room.write("one.eml", mail("tried", "first"));
    let tried = room.postroom(&[
        "rule",
        "try",
        "rules/sound.js",
        "one.eml",
        "--mailbox",
        "sound",
    ]);
    assert!(tried.status.success(), "{}", both(&tried));
    assert!(
        both(&tried).contains("\nwarning: tenants.sound.settings."),
        "{}",
        both(&tried)
    );
    // The service and the check still refuse it.
    for args in [&["check"][..], &["run", "--once"]] {
        assert_eq!(room.postroom(args).status.code(), Some(1));
    }
}
