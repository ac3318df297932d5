//! Servers that are broken, hostile, slow or old: what they say is bounded, judged by its digits, and never shows a secret.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use postroom_net::Trace;

use super::*;
use crate::smtp::Receipt;

/// What a server may do next.
enum Act {
    /// These bytes.
    Send(&'static [u8]),
    /// Reads a line.
    Hear,
    /// Reads a line that must be this one.
    Expect(&'static str),
    /// Reads the text of a mail.
    HearText,
    /// Milliseconds.
    Wait(u64),
}

use Act::{Expect, Hear, HearText, Send, Wait};

const GREETING: Act = Send(b"220 hi\r\n");
const HELLO: &[Act] = &[GREETING, Hear, Send(b"250 scripted\r\n")];

/// Serves one connection, then closes it. Gives all that was heard.
async fn act(listener: TcpListener, acts: impl IntoIterator<Item = &'static Act>) -> Vec<String> {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    for act in acts {
        match act {
            Send(bytes) => drop(stream.write_all(bytes).await),
            Wait(millis) => tokio::time::sleep(Duration::from_millis(*millis)).await,
            Hear | Expect(_) | HearText => {
                let mut line = Vec::new();
                let end: &[u8] = match act {
                    HearText => b"\r\n.\r\n",
                    _ => b"\r\n",
                };
                while !line.ends_with(end) {
                    if stream.read_until(b'\n', &mut line).await.unwrap_or(0) == 0 {
                        return heard;
                    }
                }
                let line = String::from_utf8(line).unwrap().trim_end().to_owned();
                if let Expect(expected) = act {
                    assert_eq!(line, *expected);
                }
                heard.push(line);
            }
        }
    }
    heard
}

/// With time limits that a loaded machine does not reach.
fn patient(port: u16) -> SmtpSettings {
    let limit = Duration::from_secs(30);
    SmtpSettings {
        timeouts: SmtpTimeouts {
            connect: limit,
            command: limit,
            data: limit,
            stall: limit,
            answer: limit,
        },
        ..settings(port, TlsMode::None)
    }
}

/// One mail over one connection that begins with [`HELLO`].
async fn sent(acts: &'static [Act], to: &[&str]) -> (Result<Receipt, SendError>, Vec<String>) {
    sent_by(None, &[HELLO, acts], &mail(to), |_| {}).await
}

async fn sent_by(
    login: Option<Login>,
    acts: &[&'static [Act]],
    mail: &OutgoingMail,
    adjust: impl FnOnce(&mut SmtpSettings),
) -> (Result<Receipt, SendError>, Vec<String>) {
    let (listener, port) = listener().await;
    let mut settings = patient(port);
    adjust(&mut settings);
    let smtp = Smtp::new(settings, login, tls(&[])).unwrap();
    let serving = tokio::spawn(act(listener, acts.concat_refs()));
    let outcome = smtp.send(mail).await;
    smtp.close().await;
    (outcome, serving.await.unwrap())
}

trait ConcatRefs {
    fn concat_refs(&self) -> Vec<&'static Act>;
}

impl ConcatRefs for [&'static [Act]] {
    fn concat_refs(&self) -> Vec<&'static Act> {
        self.iter().flat_map(|acts| acts.iter()).collect()
    }
}

/// Sends `bytes` for as long as the client reads. Gives how many the client took at most.
async fn endless(listener: TcpListener, first: &'static [u8], taken: Arc<AtomicUsize>) {
    let (mut stream, _) = listener.accept().await.unwrap();
    let _ = stream.write_all(first).await;
    let block = vec![b'x'; 64 * 1024];
    while let Ok(len) = stream.write(&block).await {
        taken.fetch_add(len, Ordering::Relaxed);
    }
}

/// What the kernel's buffers of one loopback connection may hold.
const IN_FLIGHT_BYTES: usize = 32 * 1024 * 1024;

#[tokio::test]
async fn a_reply_without_end_is_read_up_to_a_bound() {
    for first in [&b""[..], b"220 ", b"220-hello\r\n220-"] {
        let (listener, port) = listener().await;
        let smtp = Smtp::new(patient(port), None, tls(&[])).unwrap();
        let taken = Arc::new(AtomicUsize::new(0));
        let serving = tokio::spawn(endless(listener, first, taken.clone()));
        let error = smtp.send(&mail(ANN)).await.unwrap_err();
        assert!(
            matches!(
                error,
                SendError::Transient {
                    step: Step::Hello,
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
async fn an_answer_in_latin_1_is_judged_by_its_digits() {
    let (outcome, _) = sent(
        &[
            Hear,
            Send(b"250 Absender g\xfcltig\r\n"),
            Hear,
            Send(b"250 ok\r\n"),
            Hear,
            Send(b"354 los\r\n"),
            HearText,
            Send(b"250 2.0.0 Nachricht f\xfcr Sie \xfcbernommen\r\n"),
        ],
        ANN,
    )
    .await;
    let receipt = outcome.unwrap();
    assert_eq!(receipt.code, 250);
    assert!(receipt.text.starts_with("2.0.0 Nachricht f"), "{receipt:?}");

    let (outcome, _) = sent(
        &[
            Hear,
            Send(b"250 ok\r\n"),
            Hear,
            Send(b"550 Empf\xe4nger unbekannt\r\n"),
        ],
        ANN,
    )
    .await;
    let error = outcome.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");

    let (outcome, _) = sent_by(
        None,
        &[&[
            Send(b"220 Gr\xfc\xdf Gott\r\n"),
            Hear,
            Send(b"250-B\xfcro\r\n250 Gr\xf6\xdfe\r\n"),
            Hear,
            Send(b"550 5.7.60 no\r\n"),
        ]],
        &mail(ANN),
        |_| {},
    )
    .await;
    let error = outcome.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
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
        &mail(ANN),
        |settings| settings.timeouts.command = Duration::from_millis(500),
    )
    .await;
    assert_eq!(outcome.unwrap().text, "scanned");
    let defaults = SmtpTimeouts::default();
    assert_eq!(defaults.answer, Duration::from_secs(600));
}

/// Takes a mail of some megabytes at so many bytes a read, with a pause after each.
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

fn large_mail(bytes: usize) -> OutgoingMail {
    OutgoingMail {
        attached: Some(vec![7; bytes].into()),
        ..mail(ANN)
    }
}

#[tokio::test]
async fn a_slow_line_may_take_longer_than_any_limit_while_bytes_move() {
    let (listener, port) = listener().await;
    let mut settings = patient(port);
    settings.timeouts.stall = Duration::from_secs(3);
    let smtp = Smtp::new(settings, None, tls(&[])).unwrap();
    let began = Instant::now();
    let serving = tokio::spawn(slow(listener, 256 * 1024, Duration::from_millis(80)));
    let receipt = smtp.send(&large_mail(16 << 20)).await.unwrap();
    // Longer than a standstill may last, and there was none.
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
    let error = smtp.send(&large_mail(16 << 20)).await.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Timeout {
                step: Step::Text,
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
        // Unread data is there: the kernel ends the connection with a reset.
    };
    let large = large_mail(8 << 20);
    let (outcome, ()) = tokio::join!(smtp.send(&large), serving);
    let error = outcome.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Permanent {
                step: Step::Text,
                code: Some(552),
                ..
            }
        ),
        "{error:?}"
    );
}

const TWO: &[&str] = &["late@client.example", "ann@client.example"];

#[tokio::test]
async fn a_deferred_recipient_does_not_keep_the_mail_from_the_others() {
    const REST: &[Act] = &[
        Hear,
        Send(b"250 ok\r\n"),
        Expect("DATA"),
        Send(b"354 go\r\n"),
        HearText,
        Send(b"250 queued\r\n"),
    ];
    const MAIL: &[Act] = &[HELLO_MAIL.0, HELLO_MAIL.1];
    for (answer, code) in [
        (&[Hear, Send(b"451 4.7.1 greylisted\r\n")] as &[Act], 451),
        (&[Hear, Send(b"452 4.5.3 too many recipients\r\n")], 452),
        (&[Hear, Send(b"552 5.5.3 too many recipients\r\n")], 552),
        (&[Hear, Send(b"530 5.7.0 sign in first\r\n")], 530),
    ] {
        let (outcome, _) = sent_by(None, &[HELLO, MAIL, answer, REST], &mail(TWO), |_| {}).await;
        let receipt = outcome.unwrap();
        assert!(receipt.refused.is_empty());
        assert_eq!(receipt.deferred.len(), 1);
        assert_eq!(receipt.deferred[0].address, TWO[0]);
        assert_eq!(receipt.deferred[0].code, code);
    }
}

/// MAIL FROM, accepted.
const HELLO_MAIL: (Act, Act) = (Hear, Send(b"250 ok\r\n"));

#[tokio::test]
async fn when_nobody_is_accepted_one_deferral_keeps_the_mail() {
    for (answers, permanent) in [
        (
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"550 no\r\n"),
                Hear,
                Send(b"451 later\r\n"),
            ] as &[Act],
            false,
        ),
        (
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"552 full\r\n"),
                Hear,
                Send(b"552 full\r\n"),
            ],
            false,
        ),
        (
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"550 no\r\n"),
                Hear,
                Send(b"553 no\r\n"),
            ],
            true,
        ),
    ] {
        let (outcome, _) = sent(answers, TWO).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.is_permanent(), permanent, "{error:?}");
        assert!(!error.is_before_mail());
    }
}

#[tokio::test]
async fn a_server_that_wants_a_sign_in_speaks_of_no_mail() {
    for (acts, code) in [
        (
            &[Hear, Send(b"530 5.7.0 Authentication required\r\n")] as &[Act],
            530,
        ),
        (&[Hear, Send(b"538 5.7.11 Encryption required\r\n")], 538),
        (
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"535 5.7.8 your session has expired\r\n"),
            ],
            535,
        ),
    ] {
        let (outcome, _) = sent(acts, ANN).await;
        let error = outcome.unwrap_err();
        assert!(
            matches!(error, SendError::Denied { code: c, .. } if c == code),
            "{error:?}"
        );
        assert!(error.is_before_mail() && !error.is_permanent());
    }
}

const ACCEPTED: &[Act] = &[
    Hear,
    Send(b"250 ok\r\n"),
    Hear,
    Send(b"354 go\r\n"),
    HearText,
    Send(b"250 queued\r\n"),
];

#[tokio::test]
async fn a_domain_beyond_ascii_is_sent_as_xn() {
    let (outcome, heard) = sent_by(
        None,
        &[
            HELLO,
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Expect("RCPT TO:<info@xn--bcher-kva.example>"),
            ],
            &ACCEPTED[1..],
        ],
        &mail(&["info@bücher.example"]),
        |settings| settings.from = address("desk@büro.example"),
    )
    .await;
    outcome.unwrap();
    // A receipt names a recipient as the mail does.
    let (deferred, _) = sent_by(
        None,
        &[
            HELLO,
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Hear,
                Send(b"451 later\r\n"),
                Hear,
            ],
            &ACCEPTED[1..],
        ],
        &mail(&["info@bücher.example", "ann@client.example"]),
        |_| {},
    )
    .await;
    assert_eq!(deferred.unwrap().deferred[0].address, "info@bücher.example");
    assert_eq!(heard[1], "MAIL FROM:<desk@xn--bro-hoa.example>");
    assert!(heard[4].contains("To: info@xn--bcher-kva.example\r\n"));
    assert!(heard[4].is_ascii());
}

#[tokio::test]
async fn a_name_beyond_ascii_needs_smtputf8() {
    const BOTH: &[&str] = &["jörg@client.example", "ann@client.example"];
    // Not offered: the others get the mail, and nothing in it is beyond ASCII.
    let (outcome, heard) = sent_by(
        None,
        &[
            HELLO,
            &[
                Hear,
                Send(b"250 ok\r\n"),
                Expect("RCPT TO:<ann@client.example>"),
            ],
            &ACCEPTED[1..],
        ],
        &mail(BOTH),
        |_| {},
    )
    .await;
    let receipt = outcome.unwrap();
    assert_eq!(receipt.refused.len(), 1);
    assert_eq!(receipt.refused[0].address, BOTH[0]);
    assert!(receipt.refused[0].text.contains("SMTPUTF8"), "{receipt:?}");
    assert!(heard.iter().all(|line| line.is_ascii()), "{heard:?}");

    let (outcome, _) = sent(&[], &BOTH[..1]).await;
    let error = outcome.unwrap_err();
    assert!(error.is_permanent() && error.to_string().contains("SMTPUTF8"));

    // Offered: it goes as it is.
    let (outcome, heard) = sent_by(
        None,
        &[
            &[
                GREETING,
                Hear,
                Send(b"250-mx\r\n250-8bitmime\r\n250 smtputf8\r\n"),
            ],
            &[
                Expect("MAIL FROM:<support@acme.example> BODY=8BITMIME SMTPUTF8"),
                Send(b"250 ok\r\n"),
                Expect("RCPT TO:<jörg@client.example>"),
                Send(b"250 ok\r\n"),
            ],
            ACCEPTED,
        ],
        &mail(BOTH),
        |_| {},
    )
    .await;
    let receipt = outcome.unwrap();
    assert!(receipt.refused.is_empty());
    assert!(heard[5].contains("jörg@client.example"), "{heard:?}");
}

fn password() -> Option<Login> {
    Some(Login::Password {
        user: "ann".into(),
        password: Secret::new(PASSWORD),
    })
}

const PASSWORD: &str = "Xq8Q~hunter/two+0123";
const SIGNED_IN: &[Act] = &[Send(b"235 ok\r\n"), Hear, Send(b"250 ok\r\n")];

#[tokio::test]
async fn keywords_in_lower_case_and_the_old_form_of_auth_are_known() {
    for offer in [
        &[
            GREETING,
            Hear,
            Send(b"250-mx\r\n250 auth plain login\r\n"),
            Hear,
        ] as &[Act],
        &[
            GREETING,
            Hear,
            Send(b"250-mx\r\n250 AUTH=PLAIN LOGIN\r\n"),
            Hear,
        ],
    ] {
        let (outcome, heard) = sent_by(
            password(),
            &[offer, SIGNED_IN, ACCEPTED],
            &mail(ANN),
            |_| {},
        )
        .await;
        outcome.unwrap();
        assert!(heard[1].starts_with("AUTH PLAIN "), "{heard:?}");
    }
    let offer: &[Act] = &[
        GREETING,
        Hear,
        Send(b"250-mx\r\n250 Auth Login\r\n"),
        Expect("AUTH LOGIN"),
        Send(b"334 VXNlcm5hbWU6\r\n"),
        Hear,
        Send(b"334 UGFzc3dvcmQ6\r\n"),
        Hear,
    ];
    let (outcome, heard) = sent_by(
        password(),
        &[offer, SIGNED_IN, ACCEPTED],
        &mail(ANN),
        |_| {},
    )
    .await;
    outcome.unwrap();
    assert_eq!(heard[2], BASE64.encode("ann"));
    assert_eq!(heard[3], BASE64.encode(PASSWORD));
}

#[tokio::test]
async fn an_initial_response_that_was_overlooked_is_given_again() {
    let offer: &[Act] = &[
        GREETING,
        Hear,
        Send(b"250-mx\r\n250 AUTH PLAIN\r\n"),
        Hear,
        Send(b"334 \r\n"),
        Hear,
    ];
    let (outcome, heard) = sent_by(
        password(),
        &[offer, SIGNED_IN, ACCEPTED],
        &mail(ANN),
        |_| {},
    )
    .await;
    outcome.unwrap();
    assert_eq!(heard[1], format!("AUTH PLAIN {}", heard[2]));
}

#[tokio::test]
async fn a_server_without_ehlo_is_told_helo() {
    let old: &[Act] = &[
        GREETING,
        Expect("EHLO mail.acme.example"),
        Send(b"500 what?\r\n"),
        Expect("HELO mail.acme.example"),
        Send(b"250-mx\r\n250 SIZE 1\r\n"),
        Expect("MAIL FROM:<support@acme.example>"),
        Send(b"250 ok\r\n"),
        Hear,
        Send(b"250 ok\r\n"),
    ];
    let (outcome, _) = sent_by(None, &[old, &ACCEPTED[2..]], &mail(ANN), |settings| {
        settings.hello = Some("mail.acme.example".into());
    })
    .await;
    outcome.unwrap();
}

#[tokio::test]
async fn a_mail_larger_than_the_server_takes_is_not_begun() {
    let offer: &[Act] = &[GREETING, Hear, Send(b"250-mx\r\n250 size 1000\r\n")];
    let (outcome, heard) = sent_by(None, &[offer], &large_mail(2000), |_| {}).await;
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
        &large_mail(2000),
        |_| {},
    )
    .await;
    outcome.unwrap();
    // The text was heard without its line end and the final dot.
    let size = heard[4].len() - ".".len();
    assert_eq!(
        heard[1],
        format!("MAIL FROM:<support@acme.example> SIZE={size}")
    );
}

/// A server that quotes each line it hears, with `code`.
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
    // The last two: a reply that does not end, and a line that is no reply.
    for code in ["501 ", "454 ", "334 ", "501-", "Bad "] {
        for login in [password(), Some(bearer.clone())] {
            let (listener, port) = listener().await;
            let trace = Trace::new();
            let user = login.as_ref().unwrap().user().to_owned();
            let settings = match code {
                "501-" => settings(port, TlsMode::None),
                _ => patient(port),
            };
            let smtp = Smtp::new(settings, login, tls(&[]))
                .unwrap()
                .with_trace(trace.clone());
            let error = beside(quoting(listener, code), smtp.send(&mail(ANN)))
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
