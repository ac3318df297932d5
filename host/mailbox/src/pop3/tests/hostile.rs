//! Hostile POP3 servers: whatever they do at whatever command, there is an end, and no answer counts that no command asked for.

use postroom_stand::{Hostility, Then};

use super::*;

/// The time limit of waits, never reached when everything works.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);
const COMMANDS: [&str; 8] = [
    "CAPA", "USER", "PASS", "STAT", "UIDL", "LIST", "RETR 1", "RETR 3",
];

/// Returns what a server can send in place of an answer, by name.
fn hostilities() -> Vec<(&'static str, Hostility)> {
    let now = |first: &[u8], then| Hostility {
        listens: false,
        ..Hostility::new(first, then)
    };
    let binary: Vec<u8> = (128..=255).collect();
    vec![
        ("silence", now(b"", Then::Stall)),
        ("an end", now(b"", Then::Close)),
        ("half an answer", now(b"+O", Then::Stall)),
        ("half a list", now(b"+OK\r\n1 a\r\n", Then::Stall)),
        (
            "a list that is cut off",
            now(b"+OK\r\n1 a\r\n", Then::Close),
        ),
        (
            "a byte now and then",
            now(b"+OK ", Then::Drip(b"x".to_vec())),
        ),
        (
            "a line without end",
            now(b"+OK ", Then::Flood(b"x".to_vec())),
        ),
        (
            "answers without end",
            now(b"", Then::Flood(b"+OK 1 1\r\n".to_vec())),
        ),
        (
            "lines that are no answers",
            now(b"", Then::Flood(b"hello\r\n".to_vec())),
        ),
        (
            "a list without end",
            now(b"+OK\r\n", Then::Flood(b"1 a\r\n".to_vec())),
        ),
        ("binary data", now(&binary, Then::Flood(b"\0".to_vec()))),
        (
            "a page",
            now(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close),
        ),
    ]
}

/// Fetches everything from a server that is hostile at this command.
async fn fetched(at: &'static str, hostility: Hostility) -> Result<usize, SourceError> {
    let server = Server::start(move |_, line| match line.starts_with(at) {
        true => Act::Play(hostility.clone()),
        false => Act::Usual,
    })
    .await;
    let mut settings = server.settings();
    settings.timeouts.stall = SHORT;
    settings.timeouts.command = SHORT * 2;
    let login = Login::Password {
        user: "u@example".into(),
        password: Secret::new("pw"),
    };
    let mut source = pop3(settings, login, tls());
    let limits = FetchLimits {
        raw_bytes: 1024 * 1024,
        ..FetchLimits::default()
    };
    let mut mails = 0;
    let mut cursor = None;
    loop {
        let batch = source.fetch(cursor.as_ref(), &limits).await?;
        for mail in &batch.messages {
            assert!(mail.bytes.len() <= 1024 * 1024);
        }
        mails += batch.messages.len();
        if !batch.more {
            return Ok(mails);
        }
        cursor = batch.cursor;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_ends_at_every_command() {
    for command in COMMANDS {
        for (name, hostility) in hostilities() {
            let at = format!("{name} at {command}");
            let outcome = tokio::time::timeout(PATIENCE, fetched(command, hostility)).await;
            match outcome.unwrap_or_else(|_| panic!("{at}: no end")) {
                // A server without CAPA is an old one, and a mail may consist of any lines.
                Ok(mails) => assert!(
                    mails <= 3 && (command == "CAPA" || command.starts_with("RETR")),
                    "{at}: {mails} mails"
                ),
                Err(error) => assert!(
                    matches!(
                        error,
                        SourceError::Timeout { .. }
                            | SourceError::Transient { .. }
                            | SourceError::Protocol { .. }
                            // Too many mails.
                            | SourceError::Unusable { step: Step::List, .. }
                    ),
                    "{at}: {error:?}"
                ),
            }
        }
    }
}

#[tokio::test]
async fn an_answer_that_no_command_asked_for_ends_the_session() {
    for extra in [
        "+OK extra",
        "-ERR extra",
        "hello",
        "+OK\r\nSubject: x\r\n\r\nx\r\n.",
    ] {
        for command in ["CAPA", "USER", "PASS", "STAT", "UIDL", "LIST", "RETR 1"] {
            let server = Server::start(move |_, line| match line.starts_with(command) {
                true => Act::Say(format!("{}{extra}\r\n", usual(line))),
                false => Act::Usual,
            })
            .await;
            let limits = FetchLimits::default();
            match server.source().fetch(None, &limits).await {
                // The mail before it is whole, and the next one is not asked for.
                Ok(batch) => assert_eq!((command, uids(&batch)), ("RETR 1", vec!["a".to_owned()])),
                Err(error) => assert!(
                    matches!(&error, SourceError::Protocol { reason, .. } if reason.contains("not sent")),
                    "{extra} after {command}: {error}"
                ),
            }
            assert_eq!(server.count_of("RETR 2"), 0, "{extra} after {command}");
        }
    }
}
