//! Submission against a scripted server: each failure must be identified by its step.

mod alternate;
mod bounds;
mod hostile;
mod old_servers;
mod pipelining;
mod probe;
mod recipients;
mod scripted;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, ClientCredential, Endpoints, Grant, Login, Need, Profile, Provider,
    Resource, Secret, SendSecret, Tokens,
};
use postroom_core::{Address, MailKind, OutgoingMail};
use postroom_net::{TlsMode, Unreachable};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::smtp::{SendError, Smtp, SmtpSettings, SmtpStep, SmtpTarget, SmtpTimeouts};
use crate::{Attempt, Content, Delivery, Target};

/// One reply of the scripted server.
#[derive(Clone, Copy)]
enum Say {
    /// Sends this line.
    Line(&'static str),
    /// Sends nothing more and closes the connection.
    Drop,
    /// Sends nothing and keeps the connection open.
    Silence,
}

use Say::{Drop, Line, Silence};

const OK: Say = Line("250 ok");
const GO: Say = Line("354 go");
const QUEUED: Say = Line("250 2.0.0 queued as 1");

/// The replies on one connection to the commands after EHLO.
struct Script(&'static [Say]);

async fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

fn settings(port: u16, tls: TlsMode) -> SmtpSettings {
    SmtpSettings {
        name: "acme-out".into(),
        host: "127.0.0.1".into(),
        alternate_host: None,
        port,
        tls,
        from: address("support@acme.example"),
        reply_to: None,
        tag_replies: false,
        hello: None,
        proxies: postroom_net::Proxies::default(),
        timeouts: SmtpTimeouts {
            connect: Duration::from_millis(500),
            command: Duration::from_millis(500),
            data: Duration::from_millis(500),
            stall: Duration::from_millis(500),
            answer: Duration::from_millis(500),
            return_after: Duration::from_secs(3600),
        },
    }
}

/// Returns a configuration that trusts only these certificates.
fn tls(roots: &[CertificateDer<'static>]) -> Arc<rustls::ClientConfig> {
    let mut trusted = rustls::RootCertStore::empty();
    for root in roots {
        trusted.add(root.clone()).unwrap();
    }
    let provider = rustls::crypto::ring::default_provider();
    Arc::new(
        rustls::ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(trusted)
            .with_no_client_auth(),
    )
}

fn address(email: &str) -> Address {
    Address {
        name: None,
        email: email.into(),
    }
}

fn mail(to: &[&str]) -> OutgoingMail {
    OutgoingMail {
        kind: MailKind::Reply,
        to: to.iter().map(|a| address(a)).collect(),
        subject: "Re: Printer".into(),
        text: "We have it.".into(),
        html: None,
        message_id: "1.0@acme.example".into(),
        in_reply_to: None,
        references: Vec::new(),
        reply_token: None,
    }
}

/// Serves the scripts, one connection each, and returns every line received.
async fn serve(listener: TcpListener, scripts: Vec<Script>) -> Vec<String> {
    let mut heard = Vec::new();
    for script in scripts {
        let (stream, _) = listener.accept().await.unwrap();
        talk(stream, script, &mut heard, true).await;
    }
    heard
}

/// Serves one connection. The text of a mail is recorded as one line.
async fn talk(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    Script(script): Script,
    heard: &mut Vec<String>,
    greet: bool,
) {
    let mut stream = BufReader::new(stream);
    if greet {
        write(&mut stream, "220 scripted").await;
    }
    let mut answers = script.iter();
    let mut in_text = false;
    loop {
        let mut line = String::new();
        let end = if in_text { "\r\n.\r\n" } else { "\r\n" };
        while !line.ends_with(end) {
            match stream.read_line(&mut line).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        if line.starts_with("EHLO") {
            write(
                &mut stream,
                "250-scripted\r\n250-STARTTLS\r\n250 AUTH PLAIN XOAUTH2",
            )
            .await;
            continue;
        }
        heard.push(line.trim_end().to_owned());
        match answers.next() {
            Some(Line(answer)) => {
                in_text = !in_text && answer.starts_with("354");
                write(&mut stream, answer).await;
            }
            Some(Silence) => drop(stream.read_to_end(&mut Vec::new()).await),
            Some(Drop) | None => return,
        }
    }
}

async fn write(stream: &mut (impl AsyncWrite + Unpin), line: &str) {
    // The client may already be gone; its reaction is what a test checks.
    let _ = stream.write_all(format!("{line}\r\n").as_bytes()).await;
}

/// Runs one send against one scripted connection.
async fn one(script: &'static [Say], to: &[&str]) -> Result<crate::smtp::SmtpReceipt, SendError> {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    beside(
        serve(listener, vec![Script(script)]),
        smtp.send(&mail(to), &[]),
    )
    .await
}

/// Returns the second future's result; the first is dropped if it has not finished by then.
async fn beside<T>(server: impl Future, work: impl Future<Output = T>) -> T {
    let forever = async {
        server.await;
        std::future::pending().await
    };
    tokio::select! {
        done = work => done,
        never = forever => never,
    }
}

const ANN: &[&str] = &["ann@client.example"];

#[tokio::test]
async fn a_connection_is_kept_for_the_next_mail() {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    let script = Script(&[OK, OK, GO, QUEUED, OK, OK, OK, GO, QUEUED, Line("221 bye")]);
    let sending = async {
        let receipt = smtp.send(&mail(ANN), &[]).await.unwrap();
        assert_eq!(
            (receipt.code, receipt.text.as_str()),
            (250, "2.0.0 queued as 1")
        );
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let (heard, ()) = tokio::join!(serve(listener, vec![script]), sending);
    let commands: Vec<&str> = heard
        .iter()
        .map(|l| l.lines().next().unwrap_or_default())
        .filter(|l| !l.starts_with("From:"))
        .collect();
    assert_eq!(
        commands,
        [
            "MAIL FROM:<support@acme.example>",
            "RCPT TO:<ann@client.example>",
            "DATA",
            "NOOP",
            "MAIL FROM:<support@acme.example>",
            "RCPT TO:<ann@client.example>",
            "DATA",
            "QUIT"
        ]
    );
    assert!(heard[3].ends_with("We have it.\r\n."), "{:?}", heard[3]);
}

#[tokio::test]
async fn a_kept_connection_that_died_is_replaced() {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    let scripts = vec![
        Script(&[OK, OK, GO, QUEUED, Line("421 idle too long")]),
        Script(&[OK, OK, GO, QUEUED]),
    ];
    let sending = async {
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.send(&mail(ANN), &[]).await.unwrap();
    };
    beside(serve(listener, scripts), sending).await;
}

#[tokio::test]
async fn each_refusal_is_known_by_its_step_and_code() {
    let cases: &[(&'static [Say], SmtpStep, u16)] = &[
        (
            &[Line("550 5.7.60 may not send as this")],
            SmtpStep::Sender,
            550,
        ),
        (
            &[OK, Line("550 5.1.1 no such user")],
            SmtpStep::Recipient,
            550,
        ),
        (&[OK, OK, Line("554 5.7.1 no")], SmtpStep::Data, 554),
        (&[OK, OK, GO, Line("554 5.7.1 spam")], SmtpStep::Text, 554),
        (&[Line("421 4.3.2 going down")], SmtpStep::Sender, 421),
        (&[OK, Line("451 4.7.1 try later")], SmtpStep::Recipient, 451),
        (&[OK, OK, Line("451 no")], SmtpStep::Data, 451),
        (
            &[OK, OK, GO, Line("452 4.3.1 disk full")],
            SmtpStep::Text,
            452,
        ),
    ];
    for (script, at, answer) in cases {
        let error = one(script, ANN).await.unwrap_err();
        let (step, code) = match &error {
            SendError::Permanent { step, code, .. } if *answer >= 500 => (*step, *code),
            SendError::Transient { step, code, .. } if *answer < 500 => (*step, *code),
            other => panic!("{at} {answer}: {other:?}"),
        };
        assert_eq!((step, code), (*at, Some(*answer)), "{error}");
        assert_eq!(error.is_permanent(), *answer >= 500);
    }
}

#[tokio::test]
async fn a_lost_answer_is_told_from_a_mail_that_never_left() {
    let lost: &[&'static [Say]] = &[&[OK, OK, GO, Drop], &[OK, OK, GO, Silence]];
    for script in lost {
        let error = one(script, ANN).await.unwrap_err();
        assert!(matches!(error, SendError::Lost { .. }), "{error:?}");
    }
    let early: &[(&'static [Say], SmtpStep)] = &[
        (&[Drop], SmtpStep::Sender),
        (&[Silence], SmtpStep::Sender),
        (&[OK, Drop], SmtpStep::Recipient),
        (&[OK, OK, Silence], SmtpStep::Data),
    ];
    for (script, at) in early {
        let error = one(script, ANN).await.unwrap_err();
        assert!(
            matches!(&error, SendError::Transient { step, code: None, .. } | SendError::Timeout { step, .. } if step == at),
            "{at}: {error:?}"
        );
    }
}

#[tokio::test]
async fn nobody_listening_is_transient_and_a_garbled_answer_too() {
    let (listener, port) = listener().await;
    drop(listener);
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    let error = smtp.send(&mail(ANN), &[]).await.unwrap_err();
    let refused = Unreachable::Refused;
    assert!(
        matches!(error, SendError::Unreachable { why, .. } if why == refused),
        "{error:?}"
    );
    let error = one(&[Line("hello?")], ANN).await.unwrap_err();
    assert!(
        matches!(
            error,
            SendError::Transient {
                step: SmtpStep::Sender,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn one_refused_recipient_does_not_keep_the_mail_from_the_others() {
    let script = &[OK, Line("550 5.1.1 no such user"), OK, GO, QUEUED];
    let receipt = one(script, &["gone@client.example", "ann@client.example"])
        .await
        .unwrap();
    assert_eq!(receipt.refused.len(), 1);
    assert_eq!(receipt.refused[0].address, "gone@client.example");
    assert_eq!(receipt.refused[0].code, 550);
}

#[tokio::test]
async fn a_password_signs_in_and_a_refused_one_is_not_the_mails_fault() {
    let login = || {
        Some(Login::Password {
            user: "ann".into(),
            password: Secret::new("hunter2"),
        })
    };
    let (first, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), login(), tls(&[])).unwrap();
    let script = Script(&[Line("235 hello"), OK, OK, GO, QUEUED]);
    let sending = async {
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let (heard, ()) = tokio::join!(serve(first, vec![script]), sending);
    assert_eq!(
        heard[0],
        format!("AUTH PLAIN {}", BASE64.encode("\0ann\0hunter2"))
    );

    let (second, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), login(), tls(&[])).unwrap();
    let script = Script(&[Line("535 5.7.8 bad credentials")]);
    let error = beside(serve(second, vec![script]), smtp.send(&mail(ANN), &[]))
        .await
        .unwrap_err();
    assert!(!error.is_permanent());
    assert!(
        matches!(&error, SendError::RefusedLogin { user, code: 535, .. } if user == "ann"),
        "{error:?}"
    );
    assert!(!format!("{error} {error:?}").contains("hunter2"));
}

/// An authorization server that issues t1, t2, t3…
async fn authority(listener: TcpListener) {
    for n in 1.. {
        let (mut stream, _): (TcpStream, _) = listener.accept().await.unwrap();
        let mut heard = Vec::new();
        while !String::from_utf8_lossy(&heard).contains("grant_type") {
            if stream.read_buf(&mut heard).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let body = format!(r#"{{"access_token":"t{n}","token_type":"Bearer","expires_in":3600}}"#);
        write(
            &mut stream,
            &format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
        .await;
    }
}

/// Returns a login with that server's tokens. The folder is the vault's and is deleted when dropped.
async fn bearer() -> (Login, tempfile::TempDir, impl Future<Output = ()>) {
    let (listener, port) = listener().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .tls_backend_preconfigured((*tls(&[])).clone())
        .build()
        .unwrap();
    let profile = Profile {
        name: "contoso".into(),
        provider: Provider::Custom,
        directory: None,
        endpoints: Endpoints::Fixed {
            authorize: None,
            token: format!("http://127.0.0.1:{port}/token").parse().unwrap(),
            device: None,
        },
        client_id: "id".into(),
        client: ClientCredential::Secret {
            secret: Secret::new("s"),
            previous: None,
            send: SendSecret::Body,
            expires: None,
        },
        grant: Grant::ClientCredentials,
        scopes: Some(vec!["mail".into()]),
        tenants: None,
    };
    let account = Account {
        profile: "contoso".into(),
        login: None,
    };
    let used = AccountUse {
        account: account.clone(),
        needs: vec![Need::Smtp],
    };
    let folder = tempfile::tempdir().unwrap();
    let vault = Vault::open(folder.path(), VaultKey::random().unwrap()).unwrap();
    let login = Login::Bearer {
        user: "support@acme.example".into(),
        account,
        resource: Resource::Mail,
        tokens: Arc::new(Tokens::new(http, vec![profile], vec![used], vault)),
    };
    (login, folder, authority(listener))
}

fn xoauth2(token: &str) -> String {
    let response = format!("user=support@acme.example\x01auth=Bearer {token}\x01\x01");
    format!("AUTH XOAUTH2 {}", BASE64.encode(response))
}

/// {"status":"401"} as a challenge.
const CHALLENGE: Say = Line("334 eyJzdGF0dXMiOiI0MDEifQ==");
const REFUSED: Say = Line("535 5.7.3 Authentication unsuccessful");

#[tokio::test]
async fn a_refused_token_is_replaced_once_by_a_new_one() {
    let (login, _vault, authority) = bearer().await;
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
    let scripts = vec![
        Script(&[CHALLENGE, REFUSED]),
        Script(&[Line("235 hello"), OK, OK, GO, QUEUED]),
    ];
    let sending = async {
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let (heard, ()) = beside(authority, async {
        tokio::join!(serve(listener, scripts), sending)
    })
    .await;
    assert_eq!(heard[0], xoauth2("t1"));
    assert_eq!(heard[1], "");
    assert_eq!(heard[2], xoauth2("t2"));
}

#[tokio::test]
async fn a_login_refused_twice_keeps_the_servers_challenge_and_hides_the_token() {
    let (login, _vault, authority) = bearer().await;
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
    let scripts = vec![Script(&[CHALLENGE, REFUSED]), Script(&[CHALLENGE, REFUSED])];
    let error = beside(
        authority,
        beside(serve(listener, scripts), smtp.send(&mail(ANN), &[])),
    )
    .await
    .unwrap_err();
    match &error {
        SendError::RefusedLogin {
            code: 535,
            text,
            challenge,
            ..
        } => {
            assert!(text.contains("unsuccessful"));
            assert_eq!(challenge.as_deref(), Some(r#"{"status":"401"}"#));
        }
        other => panic!("{other:?}"),
    }
    assert!(!error.is_permanent());
    assert!(!format!("{error} {error:?}").contains("t2"));
}

#[tokio::test]
async fn a_server_that_refuses_every_token_costs_the_profile_one() {
    let (login, _vault, authority) = bearer().await;
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
    const WELCOME: &[Say] = &[Line("235 hello"), OK, OK, GO, QUEUED, Line("221 bye")];
    let refusal = || Script(&[REFUSED]);
    let scripts = vec![
        refusal(),
        refusal(),
        refusal(),
        refusal(),
        Script(WELCOME),
        refusal(),
        Script(WELCOME),
    ];
    let sending = async {
        for _ in 0..3 {
            let error = smtp.send(&mail(ANN), &[]).await.unwrap_err();
            assert!(matches!(error, SendError::RefusedLogin { .. }), "{error:?}");
        }
        // After a successful login, a refused token is worth replacing again.
        for _ in 0..2 {
            smtp.send(&mail(ANN), &[]).await.unwrap();
            smtp.close().await;
        }
    };
    let (heard, ()) = beside(authority, async {
        tokio::join!(serve(listener, scripts), sending)
    })
    .await;
    let tried: Vec<&String> = heard.iter().filter(|l| l.starts_with("AUTH")).collect();
    let tokens = ["t1", "t2", "t2", "t2", "t2", "t2", "t3"].map(xoauth2);
    assert_eq!(tried, tokens.iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_cannot_check_tokens_now_does_not_cost_the_token() {
    let (login, _vault, authority) = bearer().await;
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), Some(login), tls(&[])).unwrap();
    let scripts = vec![
        Script(&[Line("454 4.7.0 Temporary authentication failure")]),
        Script(&[Line("235 hello"), OK, OK, GO, QUEUED]),
    ];
    let sending = async {
        let error = smtp.send(&mail(ANN), &[]).await.unwrap_err();
        assert!(
            matches!(
                error,
                SendError::Transient {
                    step: SmtpStep::Login,
                    code: Some(454),
                    ..
                }
            ),
            "{error:?}"
        );
        smtp.send(&mail(ANN), &[]).await.unwrap();
        smtp.close().await;
    };
    let (heard, ()) = beside(authority, async {
        tokio::join!(serve(listener, scripts), sending)
    })
    .await;
    assert_eq!(
        heard.iter().filter(|l| **l == xoauth2("t1")).count(),
        2,
        "{heard:?}"
    );
}

#[test]
fn mail_never_goes_in_clear_to_another_machine() {
    for (host, allowed) in [
        ("localhost", true),
        ("127.0.0.2", true),
        ("::1", true),
        ("smtp.acme.example", false),
        ("192.0.2.1", false),
        ("localhost.acme.example", false),
    ] {
        let settings = SmtpSettings {
            host: host.into(),
            ..settings(25, TlsMode::None)
        };
        assert_eq!(
            Smtp::new(settings, None, tls(&[])).is_ok(),
            allowed,
            "{host}"
        );
    }
}

/// Returns a certificate for 127.0.0.1 and an acceptor that uses it, signed by its own private authority.
fn certified() -> (CertificateDer<'static>, TlsAcceptor) {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["127.0.0.1".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let der = certificate.der().clone();
    let config = rustls::ServerConfig::builder_with_provider(
        rustls::crypto::ring::default_provider().into(),
    )
    .with_safe_default_protocol_versions()
    .unwrap()
    .with_no_client_auth()
    .with_single_cert(
        vec![der.clone()],
        PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
    )
    .unwrap();
    (der, TlsAcceptor::from(Arc::new(config)))
}

/// Serves one connection with TLS from the start, or after STARTTLS.
async fn serve_tls(listener: TcpListener, acceptor: TlsAcceptor, mode: TlsMode) {
    let (mut stream, _) = listener.accept().await.unwrap();
    if mode == TlsMode::StartTls {
        let mut heard = Vec::new();
        talk(&mut stream, Script(&[]), &mut heard, true).await;
        assert_eq!(heard, ["STARTTLS"]);
        write(&mut stream, "220 go").await;
    }
    if let Ok(stream) = acceptor.accept(stream).await {
        let script = Script(&[OK, OK, GO, QUEUED, Silence]);
        talk(stream, script, &mut Vec::new(), mode == TlsMode::Implicit).await;
    }
}

#[tokio::test]
async fn our_own_root_is_trusted_and_no_other_stranger() {
    for mode in [TlsMode::Implicit, TlsMode::StartTls] {
        for trusted in [true, false] {
            let (root, acceptor) = certified();
            let (listener, port) = listener().await;
            let roots: &[_] = if trusted { &[root] } else { &[] };
            let smtp = Smtp::new(settings(port, mode), None, tls(roots)).unwrap();
            let outcome = beside(
                serve_tls(listener, acceptor, mode),
                smtp.send(&mail(ANN), &[]),
            )
            .await;
            match outcome {
                Ok(_) => assert!(trusted, "{mode:?}: a stranger was trusted"),
                Err(error) => assert!(!trusted, "{mode:?}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn a_mail_whose_answer_was_lost_is_flagged_once_it_is_taken() {
    let (listener, port) = listener().await;
    let smtp = Smtp::new(settings(port, TlsMode::None), None, tls(&[])).unwrap();
    let target = SmtpTarget::new(smtp, false);
    let lost = Script(&[OK, OK, GO, Drop]);
    let taken = Script(&[OK, OK, GO, QUEUED, OK, OK, OK, GO, QUEUED]);
    let served = serve(listener, vec![lost, taken]);
    let mail = mail(ANN);
    let deliver = |idempotency_key| {
        target.deliver(Delivery {
            idempotency_key,
            content: Content::Mail {
                mail: &mail,
                attachments: Vec::new(),
            },
            is_repeat: false,
            reference: None,
        })
    };
    let sending = async {
        let Attempt::Failed(fault) = deliver("a").await else {
            panic!("the answer was lost");
        };
        assert!(fault.may_have_arrived, "{fault:?}");
        let mut receipts = Vec::new();
        for key in ["a", "b"] {
            match deliver(key).await {
                Attempt::Delivered(receipt) => receipts.push(receipt.status),
                other => panic!("{other:?}"),
            }
        }
        receipts
    };
    let receipts = beside(served, sending).await;
    assert!(
        receipts[0].contains("may have arrived twice"),
        "{receipts:?}"
    );
    assert_eq!(receipts[1], "250 2.0.0 queued as 1");
}
