//! `postroom mailbox test`: every step of a working mailbox; for one that fails, the step, the reason and the help.

use postroom_e2e::{PATIENCE, Room, both, mail};
use postroom_stand::{AuthorityFailure, Endpoint, MAIL_SCOPE, OTHER_SCOPE, Only, Stand, wait_for};
use serde_json::Value;

const TEST: [&str; 3] = ["mailbox", "test", "support"];

/// Returns the steps that a test prints with `--json`, and its exit code.
fn tested(room: &Room, more: &[&str]) -> (Vec<Value>, Option<i32>) {
    let args = [&TEST, more, &["--json"]].concat();
    let output = room.postroom(&args);
    let steps: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", both(&output))))
        .collect();
    assert!(!steps.is_empty(), "{}", both(&output));
    (steps, output.status.code())
}

fn names(steps: &[Value], part: &str) -> Vec<String> {
    let of_part = steps.iter().filter(|step| step["part"] == part);
    of_part
        .map(|step| step["step"].as_str().unwrap().to_owned())
        .collect()
}

/// Returns the one step that failed.
fn failing(steps: &[Value]) -> &Value {
    let mut failed = steps.iter().filter(|step| step["ok"] == false);
    let first = failed.next().expect("a step that failed");
    assert!(failed.next().is_none(), "{steps:#?}");
    first
}

#[test]
fn every_step_is_shown_beside_a_running_service_and_for_one_token() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let profile = format!(
        "provider = \"custom\"\ntoken_url = {:?}\nclient_id = {:?}\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\nscopes = [{MAIL_SCOPE:?}]\ngrant = \"client-credentials\"",
        stand.token_url(&room.directory()),
        stand.client_id(),
    );
    room.write(
        "postroom.toml",
        room.config_with(&profile, &["standard"], ""),
    );
    let running = room.start();
    running.await_log("rules are live");
    room.deliver(mail("for the sample", "private words"));
    room.await_decision("for the sample");
    let (steps, code) = tested(&room, &["--send-to", "ann@client.example", "--trace"]);
    assert_eq!(code, Some(0), "{steps:#?}");
    assert_eq!(
        names(&steps, "in"),
        [
            "connect",
            "tls",
            "greeting",
            "token",
            "authenticate",
            "select",
            "fetch",
            "target",
            "target"
        ]
    );
    assert_eq!(
        names(&steps, "out"),
        ["connect", "tls", "hello", "token", "authenticate", "send"]
    );
    for step in &steps {
        assert!(
            step["ok"] == true && step["elapsed_ms"].is_u64(),
            "{step:#?}"
        );
        assert!(
            step["detail"].is_string() && step["error"].is_null(),
            "{step:#?}"
        );
        assert!(step["trace"].is_array(), "{step:#?}");
    }
    let sent = room.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, ["ann@client.example"]);
    let text = String::from_utf8_lossy(&sent[0].data);
    assert!(text.contains("Auto-Submitted: auto-generated"), "{text}");
    // The running service and both parts of the test share one token.
    assert_eq!(room.token_requests().len(), 1);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_trace_shows_what_was_said_and_nothing_that_is_secret() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    room.deliver(mail("for the sample", "private words"));
    let output = room
        .command(&[&TEST[..], &["--trace", "--send-to", "ann@client.example"]].concat())
        .env("RUST_LOG", "trace")
        .output()
        .unwrap();
    room.keep_output(&output);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));
    let said = String::from_utf8_lossy(&output.stdout);
    for expected in [
        "ok   connect ",
        "oauth2/v2.0/token -> HTTP 200",
        "AUTHENTICATE XOAUTH2 [redacted, ",
        "C: AUTH XOAUTH2 [redacted, ",
        "S: 250",
        "BODY[]<0> [",
        "C: [mail, ",
        "newest mail: ",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
    assert!(!said.contains("private words"), "{said}");
    let all = both(&output);
    for secret in stand.authority().secrets().unwrap() {
        assert!(!all.contains(&secret), "{secret} is in\n{all}");
    }
}

#[test]
fn the_failing_step_is_named_with_its_cure() {
    let stand = Stand::shared().expect("the test stand");
    let ports = stand.ports();
    let imaps = format!("port = {}\ntls = \"implicit\"", ports.imaps);
    let microsoft = |room: &Room| {
        format!(
            "provider = \"microsoft\"\ntenant = \"contoso.example\"\ntoken_url = {:?}\nclient_id = {:?}\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\nscopes = [{OTHER_SCOPE:?}]\ngrant = \"client-credentials\"",
            stand.token_url(&room.directory()),
            stand.client_id(),
        )
    };
    // A change to a working configuration, the step that then fails, and words of its advice.
    let cases: &[(&str, String, &str, &[&str])] = &[
        (
            "host = \"localhost\"",
            "host = \"no-such-host.invalid\"".into(),
            "connect",
            &["DNS"],
        ),
        (
            &imaps,
            "port = 1\ntls = \"implicit\"".into(),
            "connect",
            &["nothing listens at port 1", "port = 993"],
        ),
        (
            &imaps,
            format!("port = {}\ntls = \"implicit\"", ports.imap),
            "tls",
            &["tls = \"starttls\""],
        ),
        (
            "every = \"5s\"",
            "every = \"5s\"\nfolder = \"Support/Neu\"".into(),
            "select",
            &["no folder Support/Neu"],
        ),
    ];
    for (from, to, step, words) in cases {
        let room = Room::new(stand, &["standard"]);
        let config = room.config(&["standard"], "");
        let (head, tail) = config.split_once("[mailboxes.support]").unwrap();
        let changed = tail.replacen(from, to, 1);
        assert_ne!(changed, tail, "{from}");
        room.write(
            "postroom.toml",
            format!("{head}[mailboxes.support]{changed}"),
        );
        let (steps, code) = tested(&room, &[]);
        assert_eq!(code, Some(1), "{to}: {steps:#?}");
        let failed = failing(&steps);
        assert_eq!(
            (failed["step"].as_str(), failed["part"].as_str()),
            (Some(*step), Some("in")),
            "{to}"
        );
        let advice = format!("{} {}", failed["advice"], failed["steps"]).replace("\\\"", "\"");
        for word in *words {
            assert!(advice.contains(word), "{word}: {advice}");
        }
        // The outgoing is tested nevertheless.
        assert_eq!(
            names(&steps, "out").last().map(String::as_str),
            Some("authenticate")
        );
    }

    // An application that Exchange does not know: the commands are filled in.
    let room = Room::bare(stand);
    room.write(
        "postroom.toml",
        room.config_with(&microsoft(&room), &["standard"], ""),
    );
    let (steps, code) = tested(&room, &[]);
    assert_eq!(code, Some(1));
    let failed = steps.iter().find(|step| step["ok"] == false).unwrap();
    assert_eq!(failed["step"], "authenticate");
    let commands = failed["steps"].to_string();
    for word in [
        "New-ServicePrincipal",
        "Add-MailboxPermission",
        stand.client_id(),
        &room.user,
    ] {
        assert!(commands.contains(word), "{word}: {commands}");
    }

    // A certificate of an authority that this machine does not trust.
    let room = Room::new(stand, &["standard"]);
    let config = room.config(&["standard"], "");
    let (_, rest) = config.split_once("[profiles.acme]").unwrap();
    let rest = rest.replacen(
        "profile = \"acme\"",
        "password = { env = \"POSTROOM_TEST_CLIENT_SECRET\" }",
        1,
    );
    room.write(
        "postroom.toml",
        format!("data_dir = \"data\"\n[profiles.acme]{rest}"),
    );
    let (steps, _) = tested(&room, &[]);
    let failed = steps.iter().find(|step| step["ok"] == false).unwrap();
    assert_eq!(failed["step"], "tls");
    assert!(
        failed["steps"].to_string().contains("[tls] ca"),
        "{failed:#?}"
    );
}

#[test]
fn why_there_is_no_token_is_told_by_its_step_alone() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    let directory = room.directory();
    let profile = format!(
        "provider = \"custom\"\ntoken_url = {:?}\nclient_id = {:?}\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\nscopes = [{MAIL_SCOPE:?}]\ngrant = \"client-credentials\"",
        stand.token_url(&directory),
        stand.client_id(),
    );
    room.write(
        "postroom.toml",
        room.config_with(&profile, &["standard"], ""),
    );
    let only = Only {
        tenant: Some(&directory),
        ..Only::default()
    };
    let refused = AuthorityFailure::microsoft(401, "invalid_client", 7_000_222);
    let authority = stand.authority();
    authority
        .fail_only(Endpoint::Token, 100, only, refused)
        .expect("ordering a failure");
    for command in [&TEST[..], &["auth", "login", "acme"]] {
        let output = room.postroom(command);
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        let said = both(&output);
        assert!(said.contains("7000222"), "{said}");
        assert!(!said.contains("ERROR"), "{said}");
    }
}

#[test]
fn a_folder_is_tested_too_and_a_wrong_name_is_guessed() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::bare(stand);
    room.write(
        "postroom.toml",
        "[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"standard\"]\n",
    );
    room.write("spool/one.eml", mail("one", "…"));
    let test = || room.ok(&["mailbox", "test", "drop"]);
    // A file counts once it was unchanged for a moment.
    assert!(
        wait_for(PATIENCE, || test().contains("1 mail\n")),
        "{}",
        test()
    );
    for word in ["ok   folder", "ok   write", "ok   list"] {
        assert!(test().contains(word), "{word}: {}", test());
    }
    assert!(room.path().join("spool/one.eml").exists());

    let guessed = room.postroom(&["mailbox", "test", "dorp"]);
    assert_eq!(guessed.status.code(), Some(1));
    assert!(
        both(&guessed).contains("did you mean `drop`?"),
        "{}",
        both(&guessed)
    );
    let nowhere = room.postroom(&["mailbox", "test", "drop", "--send-to", "ann@client.example"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(both(&nowhere).contains("no outgoing"), "{}", both(&nowhere));
    let no_address = room.postroom(&["mailbox", "test", "drop", "--send-to", "ann"]);
    assert_eq!(no_address.status.code(), Some(2));
}
