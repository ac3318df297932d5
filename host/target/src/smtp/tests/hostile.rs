//! Hostile submission servers: whatever they do at whatever step, the mail is kept, no answer counts that no command asked for, and
//! there is an end.

use std::io::{BufRead, BufReader as StdReader, Write};

use postroom_stand::{Hostility, Then};
use tokio::time::timeout;

use super::scripted::*;
use super::*;

/// The time limit of waits, never reached when everything works.
const PATIENCE: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(150);

/// The answers of an honest server. Each but the first follows a line, the last one the text of a mail.
const HONEST: [&str; 6] = [
    "220 hi",
    "250 scripted",
    "250 ok",
    "250 ok",
    "354 go",
    "250 queued",
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
        ("half an answer", now(b"25", Then::Stall)),
        (
            "a byte now and then",
            now(b"250-", Then::Drip(b"x".to_vec())),
        ),
        (
            "a line without end",
            now(b"250 ", Then::Flood(b"x".to_vec())),
        ),
        (
            "lines without end",
            now(b"", Then::Flood(b"250-x\r\n".to_vec())),
        ),
        (
            "lines that are no answers",
            now(b"", Then::Flood(b"hello\r\n".to_vec())),
        ),
        (
            "answers of another code",
            now(b"250-a\r\n999 b\r\n", Then::Stall),
        ),
        ("binary data", now(&binary, Then::Flood(b"\0".to_vec()))),
        (
            "a page",
            now(b"HTTP/1.1 400 Bad Request\r\n\r\n", Then::Close),
        ),
    ]
}

/// Starts a server that is honest for some answers, then hostile. It serves one connection.
fn honest_until(answers: usize, hostility: Hostility) -> (u16, std::thread::JoinHandle<u64>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = StdReader::new(stream.try_clone().unwrap());
        let hear = |reader: &mut StdReader<_>, end: &str| {
            let mut heard = String::new();
            while !heard.ends_with(end) && reader.read_line(&mut heard).unwrap_or(0) > 0 {}
        };
        for (number, answer) in HONEST.iter().enumerate().take(answers) {
            if number > 0 {
                hear(&mut reader, "\r\n");
            }
            let _ = write!(&stream, "{answer}\r\n");
        }
        match answers {
            0 => {}
            5 => hear(&mut reader, "\r\n.\r\n"),
            _ => hear(&mut reader, "\r\n"),
        }
        hostility.play(stream)
    });
    (port, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_hostile_answer_ends_at_every_step_and_keeps_the_mail() {
    for (answers, in_place_of) in HONEST.iter().enumerate() {
        for (name, hostility) in hostilities() {
            let at = format!("{name} in place of {in_place_of}");
            let (port, serving) = honest_until(answers, hostility);
            let mut settings = settings(port, TlsMode::None);
            settings.timeouts = SmtpTimeouts {
                command: SHORT,
                data: SHORT,
                stall: SHORT,
                answer: SHORT,
                ..settings.timeouts
            };
            let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
            let sent = timeout(PATIENCE, smtp.send(&mail(ANN), &[])).await;
            let error = sent
                .unwrap_or_else(|_| panic!("{at}: no end"))
                .expect_err(&at);
            match answers {
                // The mail may have arrived.
                5 => assert!(matches!(error, SendError::Lost { .. }), "{at}: {error:?}"),
                _ => assert!(
                    matches!(
                        error,
                        SendError::Timeout { .. } | SendError::Transient { code: None, .. }
                    ),
                    "{at}: {error:?}"
                ),
            }
            drop(smtp);
            let taken = timeout(PATIENCE, tokio::task::spawn_blocking(|| serving.join()));
            let taken = taken.await.expect("the client hangs up").unwrap().unwrap();
            // Most of it is in the buffers of the loopback connection.
            assert!(taken < 32 * 1024 * 1024, "{at}: {taken} bytes");
        }
    }
}

/// Returns the error of sending a mail to a server with this script.
async fn failing(acts: &[&'static [Act]]) -> SendError {
    let (outcome, _) = sent_by(None, acts, (&mail(ANN), &[]), |_| {}).await;
    outcome.unwrap_err()
}

#[tokio::test]
async fn an_answer_that_no_command_asked_for_is_never_taken_for_the_next_one() {
    const GO: &[Act] = &[Hear, Send(b"250 ok\r\n"), Hear, Send(b"250 ok\r\n"), Hear];
    for (acts, step) in [
        // In place of the answer to EHLO.
        (
            &[&[Send(b"220 hi\r\n250 extra\r\n"), Hear][..]][..],
            SmtpStep::Hello,
        ),
        (
            &[&[GREETING, Hear, Send(b"250 scripted\r\n250 extra\r\n"), Hear]],
            SmtpStep::Sender,
        ),
        (
            &[HELLO, &[Hear, Send(b"250 ok\r\n550 extra\r\n"), Hear]],
            SmtpStep::Recipient,
        ),
        // A server that lets a mail through before it has the text has lost it; one that refuses it has not read it.
        (
            &[HELLO, GO, &[Send(b"354 go\r\n250 queued\r\n"), HearText]],
            SmtpStep::Text,
        ),
        (
            &[HELLO, GO, &[Send(b"354 go\r\n550 5.7.1 no\r\n"), HearText]],
            SmtpStep::Text,
        ),
    ] {
        let error = failing(acts).await;
        assert!(
            matches!(&error, SendError::Transient { step: at, code: None, problem } if *at == step && problem.contains("not sent")),
            "{step}: {error:?}"
        );
    }
    // A server may always say that it is shutting down (RFC 5321 section 3.8).
    let error = failing(&[&[
        GREETING,
        Hear,
        Send(b"250 scripted\r\n421 4.3.2 shutting down\r\n"),
        Hear,
    ]])
    .await;
    assert!(
        matches!(
            error,
            SendError::Transient {
                code: Some(421),
                ..
            }
        ),
        "{error:?}"
    );
}
