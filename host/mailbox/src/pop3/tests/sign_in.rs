//! Sign-in: by token in two lines and in one, by password, and never without TLS to another machine.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::*;
use crate::token_server::TokenServer;

const XOAUTH2: &str = "+OK\r\nUSER\r\nSASL PLAIN XOAUTH2 OAUTHBEARER\r\n.\r\n";
const BEARER: &str = "+OK\r\nUSER\r\nSASL PLAIN OAUTHBEARER\r\n.\r\n";
const TOK1: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazEBAQ==";
const TOK2: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazIBAQ==";
const REFUSAL: &str = "+ eyJzdGF0dXMiOiI0MDEifQ==";

fn sign_in_of(server: &Server) -> Vec<String> {
    server.commands.lock().unwrap().clone()
}

#[tokio::test]
async fn a_token_goes_in_a_line_of_its_own() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, line| match line {
        "CAPA" => Act::Say(XOAUTH2.into()),
        "AUTH XOAUTH2" => say("+ "),
        _ => Act::Usual,
    })
    .await;
    server.source_as(authority.login()).connect().await.unwrap();
    assert_eq!(sign_in_of(&server), ["CAPA", "AUTH XOAUTH2", TOK1]);
}

#[tokio::test]
async fn a_server_that_wants_one_line_gets_one() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, line| match line {
        "CAPA" | "AUTH XOAUTH2" => say("-ERR unknown command"),
        _ => Act::Usual,
    })
    .await;
    server.source_as(authority.login()).connect().await.unwrap();
    let one_line = format!("AUTH XOAUTH2 {TOK1}");
    assert_eq!(sign_in_of(&server), ["CAPA", "AUTH XOAUTH2", &one_line]);
}

#[tokio::test]
async fn oauthbearer_is_used_where_xoauth2_is_not_offered() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, line| match line {
        "CAPA" => Act::Say(BEARER.into()),
        "AUTH OAUTHBEARER" => say("+"),
        _ => Act::Usual,
    })
    .await;
    server.source_as(authority.login()).connect().await.unwrap();
    let said = sign_in_of(&server);
    let answer = String::from_utf8(BASE64.decode(&said[2]).unwrap()).unwrap();
    let place = format!("host=127.0.0.1\x01port={}", server.port);
    assert_eq!(
        answer,
        format!("n,a=u,\x01{place}\x01auth=Bearer tok1\x01\x01")
    );
    // A refusal is acknowledged in its own form.
    let server = Server::start(|_, line| match line {
        "CAPA" => Act::Say(BEARER.into()),
        "AUTH OAUTHBEARER" => say("+ "),
        "AQ==" => say("-ERR [AUTH] no"),
        _ => say(REFUSAL),
    })
    .await;
    let error = server
        .source_as(authority.login())
        .connect()
        .await
        .unwrap_err();
    let SourceError::RefusedLogin {
        challenge, code, ..
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!(challenge.as_deref(), Some(r#"{"status":"401"}"#));
    assert_eq!(code.as_deref(), Some("AUTH"));
}

#[tokio::test]
async fn a_refused_token_is_replaced_once_also_when_the_server_hangs_up() {
    for hangs_up in [false, true] {
        let authority = TokenServer::start().await;
        let server = Server::start(move |_, line| match line {
            "CAPA" => Act::Say(XOAUTH2.into()),
            "AUTH XOAUTH2" => say("+ "),
            TOK1 | TOK2 => say(REFUSAL),
            "" if hangs_up => Act::SayAndClose("-ERR Authentication failure\r\n".into()),
            "" => say("-ERR Authentication failure"),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source_as(authority.login());
        let error = source.connect().await.unwrap_err();
        assert_eq!(error.is_transient(), hangs_up, "{error}");
        // The token is not at fault: the profile's other mailboxes keep it.
        for _ in 0..2 {
            let error = source.connect().await.unwrap_err();
            assert!(matches!(error, SourceError::RefusedLogin { .. }), "{error}");
        }
        assert_eq!(authority.requests(), 2);
    }
}

#[tokio::test]
async fn a_server_in_trouble_blames_no_token() {
    let authority = TokenServer::start().await;
    let server = Server::start(|connection, line| match line {
        "CAPA" => Act::Say(XOAUTH2.into()),
        "AUTH XOAUTH2" => say("+ "),
        TOK1 if connection == 1 => say("-ERR [SYS/TEMP] later"),
        TOK1 if connection == 2 => say("-ERR [IN-USE] locked"),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source_as(authority.login());
    for _ in 0..2 {
        assert!(source.connect().await.unwrap_err().is_transient());
    }
    source.connect().await.unwrap();
    assert_eq!(authority.requests(), 1);
}

#[tokio::test]
async fn a_password_goes_by_plain_or_by_user_and_pass() {
    let server = Server::start(|_, line| match line {
        "CAPA" => Act::Say(XOAUTH2.into()),
        "AUTH PLAIN" => say("+ "),
        _ => Act::Usual,
    })
    .await;
    server.source().connect().await.unwrap();
    let plain = BASE64.encode("\0u@example\0pw");
    assert_eq!(sign_in_of(&server), ["CAPA", "AUTH PLAIN", &plain]);
    let server = Server::start(|_, _| Act::Usual).await;
    server.source().connect().await.unwrap();
    assert_eq!(sign_in_of(&server), ["CAPA", "USER u@example", "PASS pw"]);
}

#[tokio::test]
async fn nothing_is_sent_in_clear_to_another_machine() {
    let server = Server::start(|_, _| Act::Usual).await;
    let mut source = server.source();
    // TEST-NET-1 (RFC 5737): the refusal comes before any connection.
    source.settings.host = "192.0.2.1".into();
    let error = source.connect().await.unwrap_err();
    assert!(matches!(error, SourceError::Unusable { .. }), "{error}");
    assert!(error.to_string().contains("in clear"), "{error}");
}

#[tokio::test]
async fn without_stls_no_secret_is_sent() {
    for answer in ["-ERR no TLS", "+OK go\r\n+OK slipped in"] {
        let server = Server::start(move |_, line| match line {
            "STLS" => say(answer),
            _ => Act::Usual,
        })
        .await;
        let mut source = server.source();
        source.settings.tls = TlsMode::StartTls;
        let error = source.connect().await.unwrap_err();
        assert!(matches!(error, SourceError::Tls { .. }), "{error}");
        assert_eq!(sign_in_of(&server), ["STLS"]);
    }
}

#[tokio::test]
async fn a_secret_cannot_smuggle_a_command() {
    let server = Server::start(|_, _| Act::Usual).await;
    let login = Login::Password {
        user: "u@example".into(),
        password: Secret::new("pw\r\nDELE 1"),
    };
    let error = server.source_as(login).connect().await.unwrap_err();
    assert!(matches!(error, SourceError::Unusable { .. }), "{error}");
    assert_eq!(sign_in_of(&server), ["CAPA", "USER u@example"]);
}

#[tokio::test]
async fn a_server_that_quotes_a_sign_in_shows_no_secret() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, line| match line {
        "CAPA" => Act::Say(XOAUTH2.into()),
        "AUTH XOAUTH2" => say("+ "),
        line => say(&format!("-ERR I do not take {line}, nor tok1")),
    })
    .await;
    let trace = Trace::new();
    let mut source = server.source_as(authority.login());
    source.set_trace(trace.clone());
    let error = source.connect().await.unwrap_err().to_string();
    let said: String = trace
        .take()
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    for shown in [error, said] {
        for secret in [TOK1, TOK2, "tok1", "tok2"] {
            assert!(!shown.contains(secret), "{secret}: {shown}");
        }
    }
}

#[tokio::test]
async fn without_a_token_no_server_is_dialled() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, _| Act::Usual).await;
    let Login::Bearer {
        user,
        tokens,
        resource,
        ..
    } = authority.login()
    else {
        panic!("a login by token")
    };
    let account = postroom_auth::Account {
        profile: "nobody".into(),
        login: None,
    };
    let mut source = server.source_as(Login::Bearer {
        user,
        account,
        resource,
        tokens,
    });
    let error = source.connect().await.unwrap_err();
    assert!(matches!(error, SourceError::Auth(_)), "{error}");
    assert_eq!(server.connections(), 0);
}
