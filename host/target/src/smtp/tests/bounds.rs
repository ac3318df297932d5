//! Hostile and slow servers: what they send is bounded, a mail gets its time limit and no more, and no secret is shown.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use postroom_net::Trace;

use super::scripted::*;
use super::*;
use crate::MailAttachment;

/// Sends `bytes` for as long as the client reads. Counts in `taken` an upper bound of what the client accepted.
async fn endless(listener: TcpListener, first: &'static [u8], taken: Arc<AtomicUsize>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let _ = stream.write_all(first).await;
    let block = vec![b'x'; 64 * 1024];
    while let Ok(len) = stream.write(&block).await {
        taken.fetch_add(len, Ordering::Relaxed);
    }
}

/// The most that the kernel buffers of one loopback connection hold.
const IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_reply_without_end_is_read_up_to_a_bound() {
    for first in [&b""[..], b"220 ", b"220-hello\r\n220-"] {
        let (listener, port) = listener().await;
        let smtp = Smtp::new(patient(port), None, tls(&[])).unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(endless(listener, first, taken.clone()));
        let error = smtp.send(&mail(ANN), &[]).await.unwrap_err();
        assert!(
            matches!(
                error,
                SendError::Transient {
                    step: SmtpStep::Hello,
                    code: None,
                    ..
                }
            ),
            "{error:?}"
        );
        // The client hung up, so the server's write failed.
        serving.await.unwrap();
        assert!(taken.load(Ordering::Relaxed) < IN_FLIGHT_BYTES);
    }
}

#[tokio::test]
async fn a_server_that_scans_a_mail_first_has_longer_than_for_a_command() {
    let (outcome, _) = sent_by(
        None,
        &[
            HELLO,
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"354 go\r\n"),
                HearText,
                Wait(1500),
                Send(b"250 scanned\r\n"),
            ],
        ],
        (&mail(ANN), &[]),
        |settings| settings.timeouts.command = Duration::from_millis(500),
    )
    .await;
    assert_eq!(outcome.unwrap().text, "scanned");
    let defaults = SmtpTimeouts::default();
    assert_eq!(defaults.answer, Duration::from_secs(600));
}

/// Accepts a mail of several megabytes, this many bytes per read, with a pause after each.
async fn slow(listener: TcpListener, read: usize, pause: Duration) -> usize {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::with_capacity(read, stream);
    write(&mut stream, "220 hi").await;
    for answer in ["250 slow", "250 ok", "250 ok", "354 go"] {
        stream.read_line(&mut String::new()).await.unwrap();
        write(&mut stream, answer).await;
    }
    let (mut total, mut tail) = (0, Vec::new());
    while !tail.ends_with(b"\r\n.\r\n") {
        let mut block = vec![0; read];
        let len = stream.read(&mut block).await.unwrap();
        if len == 0 {
            return total;
        }
        total += len;
        tail.extend_from_slice(&block[..len]);
        tail.drain(..tail.len().saturating_sub(5));
        tokio::time::sleep(pause).await;
    }
    write(&mut stream, "250 at last").await;
    let _ = stream.read_to_end(&mut Vec::new()).await;
    total
}

/// Returns an attachment of this size.
fn large(bytes: usize) -> Vec<MailAttachment> {
    vec![MailAttachment::original(vec![7; bytes].into())]
}

#[tokio::test]
async fn a_slow_line_may_take_longer_than_any_limit_while_bytes_move() {
    let (listener, port) = listener().await;
    let mut settings = patient(port);
    settings.timeouts.stall = Duration::from_secs(3);
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let began = Instant::now();
    let serving = tokio::spawn(slow(listener, 256 * 1024, Duration::from_millis(80)));
    let receipt = smtp.send(&mail(ANN), &large(16 << 20)).await.unwrap();
    // This took longer than a standstill may last, and there was none.
    assert!(began.elapsed() > Duration::from_secs(3));
    assert_eq!(receipt.text, "at last");
    smtp.close().await;
    assert!(serving.await.unwrap() > 16 << 20);
}

#[tokio::test]
async fn a_server_that_stops_reading_is_given_up() {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    let _serving = tokio::spawn(slow(listener, 64 * 1024, Duration::from_secs(3600)));
    let error = smtp.send(&mail(ANN), &large(16 << 20)).await.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Timeout {
                step: SmtpStep::Text,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_refusal_in_the_middle_of_the_text_is_heard() {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(patient(port), None, tls(&[])).unwrap();
    let serving = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        write(&mut stream, "220 hi").await;
        for answer in ["250 hi", "250 ok", "250 ok", "354 go"] {
            stream.read_line(&mut String::new()).await.unwrap();
            write(&mut stream, answer).await;
        }
        stream.read_exact(&mut [0; 100_000]).await.unwrap();
        write(&mut stream, "552 5.3.4 too large").await;
        // Unread data remains, so the kernel ends the connection with a reset.
    };
    let (mail, files) = (mail(ANN), large(8 << 20));
    let (outcome, ()) = tokio::join!(smtp.send(&mail, &files), serving);
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Permanent {
                step: SmtpStep::Text,
                code: Some(552),
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_mail_larger_than_the_server_takes_is_not_begun() {
    let offer: &[Act] = &[GREETING, Hear, Send(b"250-mx\r\n250 size 1000\r\n")];
    let (outcome, heard) = sent_by(None, &[offer], (&mail(ANN), &large(2000)), |_| {}).await;
    let error = outcome.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
    assert_eq!(heard.len(), 1);
    let (outcome, heard) = sent_by(
        None,
        &[
            &[GREETING, Hear, Send(b"250-mx\r\n250 size 100000\r\n")],
            &[Hear, Send(b"250 ok\r\n"), Hear, Send(b"250 ok\r\n")],
            &ACCEPTED[2..],
        ],
        (&mail(ANN), &large(2000)),
        |_| {},
    )
    .await;
    outcome.unwrap();
    // The text was recorded without its line end and the final dot.
    let size = heard[4].len() - ".".len();
    assert_eq!(
        heard[1],
        format!("MAIL FROM:<support@acme.example> SIZE={size}")
    );
}

/// Runs a server that quotes each line it receives, with `code`.
async fn quoting(listener: TcpListener, code: &str) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        write(&mut stream, "220 hi").await;
        let mut line = String::new();
        while stream.read_line(&mut line).await.is_ok_and(|len| len > 0) {
            let said = std::mem::take(&mut line);
            let said = said.trim_end();
            let answer = match said {
                _ if said.starts_with("EHLO") => "250-mx\r\n250 AUTH PLAIN XOAUTH2".to_owned(),
                _ => format!("{code}5.5.4 Syntax error: \"{said}\""),
            };
            write(&mut stream, &answer).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_quotes_a_sign_in_shows_no_secret() {
    let (bearer, _vault, authority) = bearer().await;
    let authority = tokio::spawn(authority);
    // The last two: a reply that never ends, and a line that is not a reply.
    for code in ["501 ", "454 ", "334 ", "501-", "Bad "] {
        for login in [password(), Some(bearer.clone())] {
            let (listener, port) = listener().await;
            let trace = Trace::new();
            let user = login.as_ref().unwrap().user().to_owned();
            let settings = match code {
                "501-" => settings(port, TlsMode::None),
                _ => patient(port),
            };
            let mut smtp = Smtp::new(settings, login, tls(&[])).unwrap();
            smtp.set_trace(trace.clone());
            let error = beside(quoting(listener, code), smtp.send(&mail(ANN), &[]))
                .await
                .unwrap_err();
            assert!(error.is_before_mail(), "{code}: {error:?}");
            let said: String = trace.take().iter().map(|it| format!("{it}\n")).collect();
            let shown = format!("{error} {error:?} {said}");
            let responses = [
                BASE64.encode(format!("\0{user}\0{PASSWORD}")),
                BASE64.encode(format!("user={user}\x01auth=Bearer t1")),
                BASE64.encode(PASSWORD),
                PASSWORD.to_owned(),
            ];
            for secret in responses {
                assert!(!shown.contains(&secret[..secret.len().min(12)]), "{shown}");
            }
            assert!(shown.contains("[redacted]"), "{code}: {shown}");
        }
    }
    authority.abort();
}
