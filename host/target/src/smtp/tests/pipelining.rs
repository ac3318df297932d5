//! Commands sent together to a server that offers PIPELINING (RFC 2920), and what each reply then means.

use super::scripted::*;
use super::*;

const OFFER: &[Act] = &[
    Send(b"220 hi\r\n"),
    Hear,
    Send(b"250-scripted\r\n250 PIPELINING\r\n"),
];
/// The sender and two recipients, sent before any of them is replied to.
const ENVELOPE: &[Act] = &[
    Expect("MAIL FROM:<support@acme.example>"),
    Expect("RCPT TO:<late@client.example>"),
    Expect("RCPT TO:<ann@client.example>"),
];

#[tokio::test]
async fn sender_and_recipients_are_given_together_and_judged_one_by_one() {
    const ANSWERS: &[Act] = &[
        Send(b"250 ok\r\n451 later\r\n250 ok\r\n"),
        Expect("DATA"),
        Send(b"354 go\r\n"),
        HearText,
        Send(b"250 queued\r\n"),
    ];
    let (outcome, _) = sent_by(None, &[OFFER, ENVELOPE, ANSWERS], (&mail(TWO), &[]), |_| {}).await;
    let receipt = outcome.unwrap();
    assert!(receipt.refused.is_empty());
    assert_eq!(receipt.deferred[0].address, "late@client.example");
}

#[tokio::test]
async fn a_refused_sender_is_the_failure_whatever_is_said_of_the_recipients() {
    const ANSWERS: &[Act] = &[Send(
        b"550 no\r\n503 first the sender\r\n503 first the sender\r\n",
    )];
    let (outcome, heard) = sent_by(
        None,
        &[OFFER, ENVELOPE, ANSWERS, &[Hear]],
        (&mail(TWO), &[]),
        |_| {},
    )
    .await;
    let error = outcome.unwrap_err();
    let is_of_sender = matches!(
        error,
        SendError::Permanent {
            step: SmtpStep::Sender,
            code: Some(550),
            ..
        }
    );
    assert!(is_of_sender, "{error:?}");
    assert_eq!(heard.last().unwrap(), "QUIT");
}

#[tokio::test]
async fn the_reason_of_a_server_that_hangs_up_is_heard() {
    const ANSWERS: &[Act] = &[Send(b"421 4.3.2 going down\r\n")];
    let (outcome, _) = sent_by(None, &[OFFER, ENVELOPE, ANSWERS], (&mail(TWO), &[]), |_| {}).await;
    let error = outcome.unwrap_err();
    let is_of_sender = matches!(
        error,
        SendError::Transient {
            step: SmtpStep::Sender,
            code: Some(421),
            ..
        }
    );
    assert!(is_of_sender, "{error:?}");
}

#[tokio::test]
async fn a_text_is_begun_only_for_somebody() {
    const ANSWERS: &[Act] = &[Send(b"250 ok\r\n550 no\r\n550 no\r\n"), Hear];
    let (outcome, heard) =
        sent_by(None, &[OFFER, ENVELOPE, ANSWERS], (&mail(TWO), &[]), |_| {}).await;
    assert!(outcome.unwrap_err().is_permanent());
    assert_eq!(heard.last().unwrap(), "QUIT");
}

#[tokio::test]
async fn many_recipients_are_given_in_parts() {
    let many: Vec<String> = (0..100).map(|n| format!("p{n}@client.example")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let (listener, port) = listener().await;
    let smtp = Smtp::new(patient(port), None, tls(&[])).unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        write(&mut stream, "220 hi").await;
        let (mut line, mut recipients) = (String::new(), 0);
        while stream.read_line(&mut line).await.is_ok_and(|len| len > 0) {
            match std::mem::take(&mut line).trim_end() {
                it if it.starts_with("EHLO") => {
                    write(&mut stream, "250-scripted\r\n250 PIPELINING").await;
                }
                "DATA" => write(&mut stream, "354 go").await,
                "." => write(&mut stream, "250 queued").await,
                it if it.contains(" FROM:") || it.contains(" TO:") => {
                    recipients += usize::from(it.contains(" TO:"));
                    write(&mut stream, "250 ok").await;
                }
                _ => {}
            }
        }
        recipients
    });
    smtp.send(&mail(&many), &[]).await.unwrap();
    smtp.close().await;
    assert_eq!(serving.await.unwrap(), 100);
}
