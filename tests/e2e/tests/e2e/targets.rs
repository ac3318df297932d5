//! `postroom target test`: every step to a target that works, and for one that does not the step, the reason and the help.

use postroom_e2e::{Room, both};
use postroom_stand::{Stand, WebhookFailure};
use serde_json::Value;

/// The steps that a test prints with `--json`, and its exit code.
fn tested(room: &Room, args: &[&str]) -> (Vec<Value>, Option<i32>) {
    let args = [&["target", "test"], args, &["--json"]].concat();
    let output = room.postroom(&args);
    let steps: Vec<Value> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{}", both(&output))))
        .collect();
    assert!(!steps.is_empty(), "{}", both(&output));
    (steps, output.status.code())
}

fn names(steps: &[Value]) -> Vec<&str> {
    let names = steps.iter().map(|step| step["step"].as_str());
    names.collect::<Option<_>>().unwrap()
}

/// The last step failed, and its advice has all of these words.
fn assert_fails(steps: &[Value], step: &str, words: &[&str]) {
    let (last, before) = steps.split_last().unwrap();
    assert!(before.iter().all(|it| it["ok"] == true), "{steps:#?}");
    assert_eq!(
        (last["step"].as_str(), &last["ok"]),
        (Some(step), &Value::Bool(false))
    );
    let said =
        format!("{} {} {}", last["error"], last["advice"], last["steps"]).replace("\\\"", "\"");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}

#[test]
fn a_sink_is_reached_and_takes_a_signed_test_event_when_asked() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let (steps, code) = tested(&room, &["psa"]);
    assert_eq!(
        (names(&steps), code),
        (vec!["connect"], Some(0)),
        "{steps:#?}"
    );
    assert!(room.posted().is_empty());

    let (steps, code) = tested(&room, &["psa", "--send-event", "--trace"]);
    assert_eq!(
        (names(&steps), code),
        (vec!["connect", "send"], Some(0)),
        "{steps:#?}"
    );
    let posted = room.posted();
    assert_eq!(posted.len(), 1);
    assert_eq!(posted[0].signature, Ok(()));
    let event = posted[0].json().unwrap();
    assert_eq!(event["type"], "postroom.test");
    assert_eq!(event["data"]["sink"], "psa");
    assert!(steps[1]["trace"].to_string().contains("POST"), "{steps:#?}");
    // Nothing of it is stored or counted.
    assert!(!room.path().join("data/postroom.sqlite").exists());
}

#[test]
fn a_sink_that_fails_is_explained() {
    let stand = Stand::start().expect("a stand of its own");
    let room = Room::new(&stand, &["standard"]);
    for (status, words) in [
        (404, &["nothing at this path", "[sinks.psa] url"][..]),
        (401, &["another secret"]),
        (308, &["redirect"]),
        (503, &["its log"]),
    ] {
        let failure = WebhookFailure::Status {
            code: status,
            retry_after_secs: None,
        };
        stand.webhook().fail_next(1, failure);
        let (steps, code) = tested(&room, &["psa", "--send-event"]);
        assert_eq!(code, Some(1));
        assert_fails(&steps, "send", words);
    }

    let config = room.config(&["standard"], "");
    let hook = stand.webhook().url();
    for (url, step, words) in [
        ("https://no-such-host.invalid/hook", "connect", &["DNS"][..]),
        (
            "http://127.0.0.1:1/hook",
            "connect",
            &["host 127.0.0.1, port 1"],
        ),
        (
            &hook.replace("http:", "https:"),
            "tls",
            &["Correct the port"],
        ),
    ] {
        room.write("postroom.toml", config.replacen(&hook, url, 1));
        let (steps, code) = tested(&room, &["psa"]);
        assert_eq!(code, Some(1), "{url}");
        assert_fails(&steps, step, words);
    }
}

#[test]
fn a_sink_without_its_secret_is_named_with_what_is_missing() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let config = room.config(&["standard"], "");
    let (before, sink) = config.split_once("[sinks.psa]").unwrap();
    let (head, tail) = sink.split_once("env = \"").unwrap();
    let (_, tail) = tail.split_once('"').unwrap();
    room.write(
        "postroom.toml",
        format!("{before}[sinks.psa]{head}env = \"POSTROOM_NOT_SET\"{tail}"),
    );
    let (steps, code) = tested(&room, &["psa"]);
    assert_eq!(code, Some(1));
    assert_fails(&steps, "configuration", &["POSTROOM_NOT_SET"]);
}

#[test]
fn an_outgoing_is_tested_with_its_alternate_host_and_a_mail() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    let (steps, code) = tested(&room, &["out"]);
    let opened = ["connect", "tls", "hello", "token", "authenticate"];
    assert_eq!(
        (names(&steps), code),
        (opened.to_vec(), Some(0)),
        "{steps:#?}"
    );
    assert!(room.sent().is_empty());

    let config = room.config(&["standard"], "");
    let (head, outgoing) = config.split_once("[outgoing.out]").unwrap();
    let with_alternate = |host: &str| {
        let host = format!("host = \"localhost\"\nalternate_host = \"{host}\"");
        let outgoing = outgoing.replacen("host = \"localhost\"", &host, 1);
        format!("{head}[outgoing.out]{outgoing}")
    };
    room.write("postroom.toml", with_alternate("127.0.0.1"));
    let (steps, code) = tested(&room, &["out", "--send-to", "ann@client.example"]);
    let all = [&opened[..], &opened[..], &["send"]].concat();
    assert_eq!((names(&steps), code), (all, Some(0)), "{steps:#?}");
    assert_eq!(room.sent().len(), 1);

    room.write("postroom.toml", with_alternate("no-such-host.invalid"));
    let (steps, code) = tested(&room, &["out"]);
    assert_eq!(code, Some(1));
    assert_fails(
        &steps,
        "connect",
        &[
            "alternate host no-such-host.invalid",
            "getent hosts no-such-host.invalid",
        ],
    );

    // The service would go on to the alternate host, and so does the test.
    let both_local = with_alternate("localhost");
    let first_fails = both_local.replacen(
        "host = \"localhost\"\nalternate_host",
        "host = \"no-such-host.invalid\"\nalternate_host",
        1,
    );
    room.write("postroom.toml", first_fails);
    let (steps, code) = tested(&room, &["out", "--send-to", "bob@client.example"]);
    let all = [&["connect"][..], &opened[..], &["send"]].concat();
    assert_eq!((names(&steps), code), (all, Some(1)), "{steps:#?}");
    assert_eq!(room.sent().len(), 2);
}

#[test]
fn a_wrong_name_or_test_is_answered_with_the_right_one() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    for (args, words) in [
        (&["pas"][..], &["did you mean `psa`?"][..]),
        (
            &["psa", "--send-to", "ann@client.example"],
            &["--send-event"],
        ),
        (&["out", "--send-event"], &["--send-to ADDRESS"]),
    ] {
        let output = room.postroom(&[&["target", "test"], args].concat());
        assert_eq!(output.status.code(), Some(1), "{}", both(&output));
        for word in words {
            assert!(both(&output).contains(word), "{word}: {}", both(&output));
        }
    }
}
