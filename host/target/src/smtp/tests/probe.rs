//! The probe: each step is reported once, the failing one last, and its trace holds no secret.

use postroom_net::{ProbeStep, Trace};

use super::*;
use crate::smtp::EnhancedStatus;
use crate::{TargetError, TestDelivery};

/// Returns the names of the steps, and why the last one failed.
async fn probed(smtp: &Smtp, send_to: Option<&Address>) -> (Vec<&'static str>, Option<SendError>) {
    let mut steps: Vec<ProbeStep<TargetError>> = Vec::new();
    let test = send_to.cloned().map(TestDelivery::Mail);
    smtp.probe(test.as_ref(), &mut |step| steps.push(step))
        .await;
    let names = steps.iter().map(|step| step.step.name()).collect();
    let last = steps.pop().unwrap();
    assert!(steps.iter().all(|step| step.outcome.is_ok()), "{steps:#?}");
    let error = last.outcome.err().map(|error| match error {
        TargetError::Smtp(error) => error,
        error => panic!("{error}"),
    });
    (names, error)
}

#[tokio::test]
async fn a_probe_sends_a_mail_only_where_it_is_told_to() {
    for send_to in [None, Some(address("ann@client.example"))] {
        let (login, _vault, authority) = bearer().await;
        let (listener, port) = listener().await;
        let trace = Trace::new();
        let mut smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
        smtp.set_trace(trace.clone());
        let script: &[Say] = match send_to {
            Some(_) => &[Line("235 hello"), OK, OK, GO, QUEUED, Line("221 bye")],
            None => &[Line("235 hello"), Line("221 bye")],
        };
        let (heard, (names, failed)) = beside(authority, async {
            tokio::join!(
                serve(listener, vec![Script(script)]),
                probed(&smtp, send_to.as_ref())
            )
        })
        .await;
        assert!(failed.is_none(), "{failed:?}");
        let mut expected = vec!["connect", "hello", "token", "authenticate"];
        expected.extend(send_to.as_ref().map(|_| "send"));
        assert_eq!(names, expected);
        assert_eq!(heard.last().unwrap(), "QUIT");
        let said: String = trace.take().iter().map(|it| format!("{it}\n")).collect();
        if send_to.is_some() {
            let mail = &heard[heard.len() - 2];
            assert!(
                mail.contains("Auto-Submitted: auto-generated\r\n"),
                "{mail}"
            );
            assert!(
                mail.contains("Subject: Postroom test mail from outgoing acme-out\r\n"),
                "{mail}"
            );
            assert!(
                said.contains(" bytes]\n") && !said.contains("Auto-Submitted"),
                "{said}"
            );
        }
        assert!(said.contains("C: AUTH XOAUTH2 [redacted, "), "{said}");
        assert!(
            !said.contains(&xoauth2("t1")["AUTH XOAUTH2 ".len()..]),
            "{said}"
        );
    }
}

#[tokio::test]
async fn tls_and_its_failures_are_a_step_of_their_own() {
    for (mode, trusted, expected) in [
        (TlsMode::Implicit, true, "connect tls hello"),
        (TlsMode::StartTls, true, "connect tls hello"),
        (TlsMode::Implicit, false, "connect tls"),
        (TlsMode::StartTls, false, "connect tls"),
    ] {
        let (root, acceptor) = certified();
        let (listener, port) = listener().await;
        let roots: &[_] = if trusted { &[root] } else { &[] };
        let smtp = Smtp::new(settings(port, mode), None, tls(roots)).unwrap();
        let server = serve_tls(listener, acceptor, mode);
        let (names, failed) = beside(server, probed(&smtp, None)).await;
        assert_eq!(names.join(" "), expected, "{mode:?} {failed:?}");
        let of_certificate = matches!(
            failed,
            Some(SendError::Tls {
                cause: Some(rustls::Error::InvalidCertificate(_)),
                ..
            })
        );
        assert_eq!(of_certificate, !trusted, "{mode:?}");
    }
}

/// Probes a server that sends these lines, one for each line that it receives.
async fn against(mode: TlsMode, said: &'static [&'static str]) -> (Vec<&'static str>, SendError) {
    let (listener, port) = listener().await;
    let server = async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        for line in said {
            write(&mut stream, line).await;
            let _ = stream.read_line(&mut String::new()).await;
        }
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let smtp = Smtp::new(settings(port, mode), None, tls(&[])).unwrap();
    let (names, failed) = beside(server, probed(&smtp, None)).await;
    (names, failed.unwrap())
}

#[tokio::test]
async fn what_comes_before_the_handshake_is_not_believed() {
    const OFFER: &str = "250-hello\r\n250 STARTTLS";
    let (names, failed) = against(
        TlsMode::StartTls,
        &["220 hi", OFFER, "220 go\r\n250-hello\r\n250 AUTH PLAIN"],
    )
    .await;
    assert_eq!(names, ["connect", "tls"]);
    assert!(
        matches!(failed, SendError::Tls { cause: None, .. }),
        "{failed:?}"
    );

    let (names, failed) = against(TlsMode::StartTls, &["220 hi", "250 hello"]).await;
    assert_eq!(names, ["connect", "tls"]);
    assert!(
        matches!(
            failed,
            SendError::Unsupported {
                step: SmtpStep::Tls,
                ..
            }
        ),
        "{failed:?}"
    );

    let (names, failed) = against(TlsMode::StartTls, &["220 hi", OFFER, "454 not now"]).await;
    assert_eq!(names, ["connect", "tls"]);
    assert!(
        matches!(
            failed,
            SendError::Transient {
                step: SmtpStep::Tls,
                code: Some(454),
                ..
            }
        ),
        "{failed:?}"
    );

    let (names, failed) = against(TlsMode::StartTls, &["554 go away"]).await;
    assert_eq!(names, ["connect", "hello"]);
    assert!(
        matches!(
            failed,
            SendError::Transient {
                step: SmtpStep::Hello,
                code: Some(554),
                ..
            }
        ),
        "{failed:?}"
    );
}

#[tokio::test]
async fn mixed_up_modes_and_servers_of_another_kind_are_told_apart() {
    let (names, failed) = against(TlsMode::Implicit, &["220 hi"]).await;
    assert_eq!(names, ["connect", "tls"]);
    assert!(
        matches!(
            failed,
            SendError::Tls {
                cause: Some(rustls::Error::InvalidMessage(_)),
                ..
            }
        ),
        "{failed:?}"
    );
    // A server that waits for TLS sends nothing.
    let (names, failed) = against(TlsMode::StartTls, &[]).await;
    assert_eq!(names, ["connect", "hello"]);
    assert!(
        matches!(
            failed,
            SendError::Timeout {
                step: SmtpStep::Hello,
                ..
            }
        ),
        "{failed:?}"
    );
    let (names, failed) = against(TlsMode::StartTls, &["SSH-2.0-OpenSSH_9.2"]).await;
    assert_eq!(names, ["connect", "hello"]);
    assert!(
        matches!(
            failed,
            SendError::Transient {
                step: SmtpStep::Hello,
                code: None,
                ..
            }
        ),
        "{failed:?}"
    );
}

#[tokio::test]
async fn a_refusal_keeps_the_servers_status_code() {
    let (login, _vault, authority) = bearer().await;
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
    let refusal: &[Say] = &[Line(
        "535-5.7.139 Authentication unsuccessful\r\n535 5.7.139 SmtpClientAuthentication is disabled",
    )];
    let scripts = vec![Script(refusal), Script(refusal)];
    let server = async {
        tokio::join!(serve(listener, scripts), authority);
    };
    let (names, failed) = beside(server, probed(&smtp, None)).await;
    assert_eq!(names, ["connect", "hello", "token", "authenticate"]);
    let failed = failed.unwrap();
    assert_eq!(
        failed.enhanced_status(),
        Some(EnhancedStatus(5, 7, 139)),
        "{failed:?}"
    );
    for (text, code) in [
        ("5.7.3 no", Some(EnhancedStatus(5, 7, 3))),
        ("no 5.7.3", None),
        ("5.7 no", None),
        ("5.7.3.1 no", None),
        ("", None),
    ] {
        let refused = SendError::RefusedLogin {
            user: "ann".into(),
            code: 535,
            text: text.into(),
            challenge: None,
        };
        assert_eq!(refused.enhanced_status(), code, "{text}");
    }
}
