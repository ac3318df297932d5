//! Old and odd servers: other charsets, lower case, no initial response, no EHLO.

use super::scripted::*;
use super::*;

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
        (&mail(ANN), &[]),
        |_| {},
    )
    .await;
    let error = outcome.unwrap_err();
    assert!(error.is_permanent(), "{error:?}");
}

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
            (&mail(ANN), &[]),
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
        (&mail(ANN), &[]),
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
        (&mail(ANN), &[]),
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
    let (outcome, _) = sent_by(
        None,
        &[old, &ACCEPTED[2..]],
        (&mail(ANN), &[]),
        |settings| {
            settings.hello = Some("mail.acme.example".into());
        },
    )
    .await;
    outcome.unwrap();
}
