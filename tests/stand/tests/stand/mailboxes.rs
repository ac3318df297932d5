//! Which mailboxes a token opens at Dovecot, and through which protocol.

use anyhow::Result;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postroom_stand::{AuthorityFailure, GOOGLE_SCOPE, PASSWORD, Stand, USER_SCOPES, Wire};

use crate::{oauthbearer, text, tokens_of, xoauth2};

const REFUSED: &str = "AUTHENTICATIONFAILED";

#[test]
fn a_users_token_opens_the_users_mailboxes_and_no_others() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let jo = text(
        &tokens_of(&stand, "Jo@acme.example", USER_SCOPES)?,
        "access_token",
    )?;
    for mailbox in ["jo@acme.example", "JO@acme.example"] {
        assert_eq!(xoauth2(&stand, mailbox, &jo)?, "OK", "{mailbox}");
        assert_eq!(oauthbearer(&stand, mailbox, &jo)?, "OK", "{mailbox}");
    }
    let others = [
        "support@acme.example",
        "desk@acme.example",
        "third@acme.example",
        "nobody",
    ];
    for mailbox in others {
        assert_eq!(xoauth2(&stand, mailbox, &jo)?, REFUSED, "{mailbox}");
    }
    for mailbox in &others[..3] {
        authority.share("jo@acme.example", mailbox)?;
        assert_eq!(xoauth2(&stand, mailbox, &jo)?, "OK", "{mailbox}");
        assert_eq!(oauthbearer(&stand, mailbox, &jo)?, "OK", "{mailbox}");
    }
    let ann = text(
        &tokens_of(&stand, "ann@acme.example", USER_SCOPES)?,
        "access_token",
    )?;
    assert_eq!(xoauth2(&stand, "support@acme.example", &ann)?, REFUSED);

    // A failure of one of the conditions for opening a mailbox is a failure, not a refusal.
    let trouble = AuthorityFailure::status(500, "");
    authority.fail_introspection(1, trouble.clone())?;
    assert_eq!(xoauth2(&stand, "jo@acme.example", &jo)?, "UNAVAILABLE");
    assert_eq!(xoauth2(&stand, "jo@acme.example", &jo)?, "OK");

    authority.revoke_access_tokens()?;
    assert_eq!(xoauth2(&stand, "jo@acme.example", &jo)?, REFUSED);
    Ok(())
}

#[test]
fn a_users_token_serves_the_protocols_of_its_scopes() -> Result<()> {
    let stand = Stand::shared()?;
    let mail = "https://outlook.office.com";
    // IMAP, POP3, SMTP.
    let cases = [
        (USER_SCOPES.to_owned(), [true, false, true]),
        (format!("{mail}/POP.AccessAsUser.All"), [false, true, false]),
        (format!("{mail}/SMTP.Send"), [false, false, true]),
        (
            "https://outlook.office365.com/IMAP.AccessAsUser.All".to_owned(),
            [true, false, false],
        ),
        (
            "https://outlook.office365.us/IMAP.AccessAsUser.All".to_owned(),
            [true, false, false],
        ),
        (format!("{mail}/.default"), [true, true, true]),
        (GOOGLE_SCOPE.to_owned(), [true, true, true]),
        (format!("{mail}/EWS.AccessAsUser.All"), [false; 3]),
        (
            "https://graph.microsoft.com/Mail.ReadWrite".to_owned(),
            [false; 3],
        ),
    ];
    let user = "scopes@acme.example";
    for (scope, expected) in cases {
        let token = text(&tokens_of(stand, user, &scope)?, "access_token")?;
        let served = [
            xoauth2(stand, user, &token)? == "OK",
            pop3(stand, user, &token)?,
            submission(stand, user, &token)?,
        ];
        assert_eq!(served, expected, "{scope}");
    }
    Ok(())
}

#[test]
fn a_kick_ends_a_users_sessions_and_no_others() -> Result<()> {
    let stand = Stand::start()?;
    let session = |user: &str| -> Result<Wire> {
        let mut imap = Wire::tls(stand.ports().imaps, stand.ca_pem())?;
        imap.line()?;
        imap.send(format!("a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\n").as_bytes())?;
        while !imap.line()?.starts_with("b OK") {}
        Ok(imap)
    };
    let mut jo = session("jo@acme.example")?;
    let mut ann = session("ann@acme.example")?;
    jo.send(b"c IDLE\r\n")?;
    assert!(jo.line()?.starts_with('+'));
    stand.kick("jo@acme.example")?;
    let bye = loop {
        match jo.line() {
            Ok(line) if line.starts_with("* BYE") => break true,
            Ok(_) => {}
            Err(_) => break false,
        }
    };
    assert!(bye, "no BYE");
    assert!(jo.line().is_err());
    ann.send(b"c NOOP\r\n")?;
    assert!(ann.line()?.starts_with("c OK"));
    session("jo@acme.example")?;
    Ok(())
}

fn pop3(stand: &Stand, user: &str, token: &str) -> Result<bool> {
    let mut pop3 = Wire::tls(stand.ports().pop3s, stand.ca_pem())?;
    pop3.line()?;
    pop3.send(b"AUTH XOAUTH2\r\n")?;
    pop3.line()?;
    pop3.send(format!("{}\r\n", sasl(user, token)).as_bytes())?;
    let mut line = pop3.line()?;
    if line.starts_with('+') && !line.starts_with("+OK") {
        pop3.send(b"\r\n")?;
        line = pop3.line()?;
    }
    Ok(line.starts_with("+OK"))
}

fn submission(stand: &Stand, user: &str, token: &str) -> Result<bool> {
    let mut smtp = Wire::tls(stand.ports().submissions, stand.ca_pem())?;
    smtp.reply()?;
    smtp.command("EHLO test")?;
    let mut reply = smtp.command(&format!("AUTH XOAUTH2 {}", sasl(user, token)))?;
    if reply.starts_with("334") {
        reply = smtp.command("")?;
    }
    Ok(reply.starts_with("235"))
}

fn sasl(user: &str, token: &str) -> String {
    STANDARD.encode(format!("user={user}\x01auth=Bearer {token}\x01\x01"))
}
