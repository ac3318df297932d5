//! The probe: each step reported once, the failing one last, and no secret in its trace.

use super::tokens::{TOK1, TOK2};
use super::*;
use crate::token_server::TokenServer;

/// Returns the names of the steps and the reason that the last one failed, if it did.
async fn probed(source: &mut ImapSource) -> (Vec<&'static str>, Option<SourceError>) {
    let mut steps: Vec<ProbeStep<SourceError>> = Vec::new();
    source.probe(&mut |step| steps.push(step)).await;
    let names = steps.iter().map(|step| step.step.name()).collect();
    let failed = steps.iter().position(|step| step.outcome.is_err());
    assert!(failed.is_none_or(|at| at + 1 == steps.len()), "{steps:#?}");
    let last = steps.pop().unwrap();
    (names, last.outcome.err())
}

const SIGNED_IN: [&str; 4] = ["connect", "greeting", "token", "authenticate"];

#[tokio::test]
async fn every_step_is_told_and_the_mailbox_stays_as_it_is() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, command| match command {
        _ if command.starts_with("SELECT") => {
            Act::Say("* 3 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n{tag} OK [READ-ONLY] x\r\n".into())
        }
        _ if command.starts_with("FETCH") => {
            let mail = "Subject: =?utf-8?q?Dr=C3=BCcker?=\r\n\r\nprivate";
            Act::Say(format!(
                "* 3 FETCH (UID 12 RFC822.SIZE 900 BODY[]<0> {{{}}}\r\n{mail})\r\n{{tag}} OK\r\n",
                mail.len()
            ))
        }
        _ => Act::Usual,
    })
    .await;
    let trace = Trace::new();
    let mut source = server.source_as(authority.login());
    source.set_trace(trace.clone());
    let mut details = Vec::new();
    source
        .probe(&mut |step| details.push((step.step.name(), step.outcome.unwrap())))
        .await;
    assert_eq!(
        details.iter().map(|step| step.0).collect::<Vec<_>>(),
        [&SIGNED_IN[..], &["select", "fetch"]].concat()
    );
    let select = &details[4].1;
    assert!(select.starts_with("INBOX, 3 mails; read-only"), "{select}");
    assert_eq!(details[5].1, "newest mail: UID 12, 900 bytes, \"Drücker\"");
    assert_eq!(
        server.after_select().await,
        ["FETCH 3 (UID RFC822.SIZE BODY.PEEK[]<0.65536>)", "LOGOUT"]
    );
    let said: String = trace
        .take()
        .iter()
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(!said.contains(TOK1) && !said.contains("private"), "{said}");
    for line in [
        "C: P1 AUTHENTICATE XOAUTH2\n",
        "C: [redacted, 36 bytes]\n",
        "S: * 3 FETCH (UID 12 RFC822.SIZE 900 BODY[]<0> [44 bytes])\n",
    ] {
        assert!(said.contains(line), "{line}\n{said}");
    }
}

#[tokio::test]
async fn an_empty_folder_is_no_failure() {
    let server = Server::start(|_, command| match command {
        _ if command.starts_with("SELECT") => {
            Act::Say("* 0 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n{tag} OK x\r\n".into())
        }
        _ => Act::Usual,
    })
    .await;
    let (names, failed) = probed(&mut server.source()).await;
    assert!(failed.is_none(), "{failed:?}");
    assert_eq!(
        names,
        ["connect", "greeting", "authenticate", "select", "fetch"]
    );
}

#[tokio::test]
async fn signed_in_but_not_connected_is_told_from_a_missing_folder() {
    let not_connected = "{tag} BAD User is authenticated but not connected.\r\n";
    for (select, list, expected) in [
        (not_connected, not_connected, "not connected"),
        (not_connected, "", "not connected"),
        ("{tag} NO no\r\n", "{tag} OK done\r\n", "missing"),
        (
            "{tag} NO no\r\n",
            "* LIST () \"/\" INBOX\r\n{tag} OK done\r\n",
            "not opened",
        ),
        ("{tag} BAD no\r\n", "{tag} OK done\r\n", "missing"),
    ] {
        let authority = TokenServer::start().await;
        let server = Server::start(move |_, command| match command.split(' ').next() {
            Some("SELECT") => Act::Say(select.into()),
            Some("LIST") if list.is_empty() => Act::SayAndClose(String::new()),
            Some("LIST") => Act::Say(list.into()),
            _ => Act::Usual,
        })
        .await;
        let (names, failed) = probed(&mut server.source_as(authority.login())).await;
        assert_eq!(names, [&SIGNED_IN[..], &["select"]].concat());
        let kind = match failed.unwrap() {
            SourceError::NotConnected { .. } => "not connected",
            SourceError::Folder { missing: true, .. } => "missing",
            SourceError::Folder { .. } => "not opened",
            other => panic!("{other:?}"),
        };
        assert_eq!(kind, expected, "{select} {list}");
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_within_one_step() {
    let authority = TokenServer::start().await;
    let server = Server::start(|_, command| match command {
        TOK1 | TOK2 => Act::Say("{tag} NO [AUTHENTICATIONFAILED] no\r\n".into()),
        _ => Act::Usual,
    })
    .await;
    let (names, failed) = probed(&mut server.source_as(authority.login())).await;
    assert_eq!(names, SIGNED_IN);
    assert_eq!(authority.requests(), 2);
    assert!(
        matches!(&failed, Some(SourceError::RefusedLogin { code: Some(code), .. }) if code == "AUTHENTICATIONFAILED"),
        "{failed:?}"
    );
}
