//! Recipients and the sender: mails that are accepted for only some recipients, and addresses beyond ASCII.

use super::scripted::*;
use super::*;

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
        let (outcome, _) = sent_by(
            None,
            &[HELLO, MAIL, answer, REST],
            (&mail(TWO), &[]),
            |_| {},
        )
        .await;
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
        (&mail(&["info@bücher.example"]), &[]),
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
        (&mail(&["info@bücher.example", "ann@client.example"]), &[]),
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
    // Not offered: the others get the mail, and it contains only ASCII.
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
        (&mail(BOTH), &[]),
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

    // Offered: it is sent unchanged.
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
        (&mail(BOTH), &[]),
        |_| {},
    )
    .await;
    let receipt = outcome.unwrap();
    assert!(receipt.refused.is_empty());
    assert!(heard[5].contains("jörg@client.example"), "{heard:?}");
}
