//! Tokens that a server refuses: replaced once, and not blamed for the server's own trouble.

use postroom_auth::{Account, Resource};

use super::*;
use crate::token_server::TokenServer;

pub const TOK1: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazEBAQ==";
pub const TOK2: &str = "dXNlcj11AWF1dGg9QmVhcmVyIHRvazIBAQ==";

#[tokio::test]
async fn a_refused_token_is_replaced_once_and_the_challenge_is_kept() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, command| match command {
        "AUTHENTICATE XOAUTH2" => Act::Say("+ \r\n".into()),
        TOK1 | TOK2 => Act::Say("+ eyJzdGF0dXMiOiI0MDEifQ==\r\n".into()),
        "" => Act::Say("{tag} NO [AUTHENTICATIONFAILED] bad\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let mut source = server.source_as(authority.login());
    let error = source.connect().await.unwrap_err();
    let SourceError::RefusedLogin { challenge, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!(challenge.as_deref(), Some(r#"{"status":"401"}"#));
    let once = [
        "AUTHENTICATE XOAUTH2",
        TOK1,
        "",
        "AUTHENTICATE XOAUTH2",
        TOK2,
        "",
    ];
    assert_eq!(*server.commands.lock().await, once);
    // The fault is not the token's: the other mailboxes of the profile keep it.
    source.connect().await.unwrap_err();
    assert_eq!(
        server.commands.lock().await[6..],
        ["AUTHENTICATE XOAUTH2", TOK2, ""]
    );
    assert_eq!(authority.requests(), 2);
}

#[tokio::test]
async fn a_new_token_helps_and_a_server_in_trouble_blames_none() {
    let authority = TokenServer::start().await;
    let server = Server::greeting(
        "* OK [CAPABILITY IMAP4REV1 SASL-IR AUTH=XOAUTH2] x\r\n",
        |connection, command| match command.strip_prefix("AUTHENTICATE XOAUTH2 ") {
            Some(_) if connection == 1 => Act::Say("{tag} NO [UNAVAILABLE] try later\r\n".into()),
            Some(TOK1) => Act::Say("+ e30=\r\n".into()),
            Some(_) => Act::Say("{tag} OK\r\n".into()),
            None if command.is_empty() => Act::Say("{tag} NO bad\r\n".into()),
            None => Act::Usual,
        },
    )
    .await;
    let mut source = server.source_as(authority.login());
    assert!(source.connect().await.unwrap_err().is_transient());
    assert_eq!(authority.requests(), 1);
    source.connect().await.unwrap();
    assert_eq!(authority.requests(), 2);
}

#[tokio::test]
async fn without_a_token_no_server_is_dialled() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, _| Act::Usual).await;
    let Login::Bearer { user, tokens, .. } = authority.login() else {
        panic!("a login by token")
    };
    let mut source = server.source_as(Login::Bearer {
        user,
        account: Account {
            profile: "nobody".into(),
            login: None,
        },
        resource: Resource::Mail,
        tokens,
    });
    for _ in 0..3 {
        let error = source.connect().await.unwrap_err();
        assert!(matches!(error, SourceError::Auth(_)), "{error}");
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
    // Who tests the mailbox still sees each step up to the one that fails.
    let mut steps = Vec::new();
    source.probe(&mut |step| steps.push(step.step.name())).await;
    assert_eq!(steps, ["connect", "greeting", "token"]);
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}
