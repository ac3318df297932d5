//! `postroom send`: a notification leaves by an outgoing, once, and a script learns by the exit code what became of it.

use std::io::Write;
use std::process::Stdio;

use postroom_e2e::{Room, both};
use postroom_stand::{SmtpFailure, SmtpStage, Stand};
use serde_json::Value;

const SEND: [&str; 5] = [
    "send",
    "--to",
    "ann@client.example",
    "--subject",
    "Disk full on SRV-01",
];

/// A room whose outgoing leads straight to the sink: Dovecot in between would hide what the sink does.
fn direct(stand: &Stand) -> Room<'_> {
    let room = Room::bare(stand);
    let port = stand.ports().smtp_sink;
    room.write(
        "postroom.toml",
        format!(
            "[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\n\n\
             [outgoing.out]\nprotocol = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
             from = \"Monitoring <{user}>\"\nreply_to = \"desk@acme.example\"\n",
            user = room.user
        ),
    );
    room
}

#[test]
fn a_notification_leaves_signed_in_with_its_text_and_files() {
    let stand = Stand::shared().expect("the test stand");
    let room = Room::new(stand, &["standard"]);
    room.write("report.csv", "disk,free\nC:,0\n");
    room.write("body.html", "<p>Drive C: is full.</p>");
    let args = [
        &SEND[..],
        &[
            "--to",
            "bob@client.example",
            "--body",
            "-",
            "--html",
            "body.html",
        ],
        &["--attach", "report.csv"],
    ];
    let mut command = room.command(&args.concat());
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all("Drive C: is full.\n".as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    room.keep_output(&output);
    assert_eq!(output.status.code(), Some(0), "{}", both(&output));

    let sent = room.sent();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].to, ["ann@client.example", "bob@client.example"]);
    let text = String::from_utf8_lossy(&sent[0].data);
    for expected in [
        "Subject: Disk full on SRV-01",
        "Auto-Submitted: auto-generated",
        "X-Postroom-Loop: 1",
        "Drive C: is full.",
        "<p>Drive C: is full.</p>",
        "filename=\"report.csv\"",
        "ZGlzayxmcmVlCkM6LDAK",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
    // Nothing is stored: it is no delivery of the service.
    assert!(!room.path().join("data/postroom.sqlite").exists());
}

/// Sends, and returns the exit code with what `--json` says.
fn sent(room: &Room, more: &[&str]) -> (Option<i32>, Value) {
    let output = room.postroom(&[&SEND[..], more, &["--json"]].concat());
    let line = String::from_utf8_lossy(&output.stdout).into_owned();
    let object = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{}", both(&output)));
    (output.status.code(), object)
}

#[test]
fn the_exit_code_says_what_became_of_it() {
    let stand = Stand::start().expect("a stand of its own");
    let room = direct(&stand);
    let smtp = stand.smtp();

    let (code, said) = sent(&room, &[]);
    assert_eq!((code, &said["result"]), (Some(0), &"sent".into()), "{said}");
    let text = String::from_utf8_lossy(&smtp.received()[0].data).into_owned();
    assert!(text.contains("Reply-To: desk@acme.example"), "{text}");
    assert!(text.contains("From: Monitoring <"), "{text}");

    for (failure, code, result) in [
        (SmtpFailure::Reply(SmtpStage::Rcpt, 550), 3, "refused"),
        (SmtpFailure::Reply(SmtpStage::Data, 554), 3, "refused"),
        (SmtpFailure::Reply(SmtpStage::Rcpt, 451), 4, "try-again"),
        (SmtpFailure::Reply(SmtpStage::Mail, 421), 4, "try-again"),
        (SmtpFailure::DropAfterData, 5, "unknown"),
    ] {
        smtp.clear();
        smtp.fail_next(1, failure);
        let (exit, said) = sent(&room, &[]);
        assert_eq!(
            (exit, &said["result"]),
            (Some(code), &result.into()),
            "{said}"
        );
        // A script must not send again to those who may have it.
        let missed = match result {
            "unknown" => serde_json::json!([]),
            _ => serde_json::json!(["ann@client.example"]),
        };
        assert_eq!(said["not_sent_to"], missed, "{said}");
    }

    for (code, reply) in [(6, 550), (6, 451)] {
        smtp.clear();
        smtp.fail_next(1, SmtpFailure::Reply(SmtpStage::Rcpt, reply));
        let (exit, said) = sent(&room, &["--to", "bob@client.example"]);
        assert_eq!(
            (exit, &said["result"]),
            (Some(code), &"partly-sent".into()),
            "{said}"
        );
        assert_eq!(
            said["not_sent_to"],
            serde_json::json!(["ann@client.example"]),
            "{said}"
        );
        assert_eq!(smtp.received().len(), 1);
    }
}

#[test]
fn what_cannot_be_sent_says_why_and_sends_nothing() {
    let stand = Stand::start().expect("a stand of its own");
    let room = direct(&stand);
    for (more, code, words) in [
        (
            &["--attach", "not-there.pdf"][..],
            1,
            &["not-there.pdf"][..],
        ),
        (&["--outgoing", "uot"], 1, &["did you mean `out`?"]),
        (&["--to", "ann"], 2, &["a mail address"]),
    ] {
        let output = room.postroom(&[&SEND[..], more].concat());
        assert_eq!(output.status.code(), Some(code), "{}", both(&output));
        for word in words {
            assert!(both(&output).contains(word), "{word}: {}", both(&output));
        }
    }
    let more = "\n[outgoing.second]\nprotocol = \"smtp\"\nhost = \"127.0.0.1\"\ntls = \"none\"\nfrom = \"a@acme.example\"\n";
    let config = std::fs::read_to_string(room.path().join("postroom.toml")).unwrap();
    room.write("postroom.toml", format!("{config}{more}"));
    let output = room.postroom(&SEND);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        both(&output).contains("--outgoing: out, second"),
        "{}",
        both(&output)
    );
    assert!(stand.smtp().received().is_empty());
}
