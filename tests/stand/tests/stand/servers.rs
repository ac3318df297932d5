//! The properties of the servers that the end-to-end tests rely on, one by one: tokens, mail, the sink, the webhook,
//! outages.

use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use postroom_stand::{
    AuthorityFailure, CLIENT_ID, CLIENT_SECRET, MAIL_SCOPE, OTHER_SCOPE, PASSWORD, SmtpFailure,
    SmtpStage, Stand, WEBHOOK_SECRET, WebhookFailure, Wire, wait_for,
};
use sha2::Sha256;

use crate::{oauthbearer, token, xoauth2};

const MAIL: &[u8] = b"From: jo@outside.example\r\nTo: support@acme.example\r\nSubject: Printer\r\n\
    Message-ID: <1@outside.example>\r\n\r\nIt burns.\r\n";

#[test]
fn a_token_comes_by_client_credentials_on_both_microsoft_paths() -> Result<()> {
    let stand = Stand::start()?;
    let form = format!(
        "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}"
    );
    let v2 = token(
        &stand,
        "/acme/oauth2/v2.0/token",
        &format!("{form}&scope={MAIL_SCOPE}"),
    )?;
    assert_eq!(v2.0, 200, "{}", v2.1);
    assert_eq!(v2.1["expires_in"], 3600);
    assert_eq!(v2.1["token_type"], "Bearer");
    let v1 = token(
        &stand,
        "/acme/oauth2/token",
        &format!("{form}&resource=https://outlook.office365.com"),
    )?;
    assert_eq!(v1.0, 200, "{}", v1.1);

    stand.authority().set_token_lifetime(7)?;
    let short = token(
        &stand,
        "/acme/oauth2/v2.0/token",
        &format!("{form}&scope={MAIL_SCOPE}"),
    )?;
    assert_eq!(short.1["expires_in"], 7);

    let requests = stand.authority().token_requests()?;
    assert_eq!(requests.len(), 3);
    assert_eq!(requests[0].tenant, "acme");
    assert_eq!(requests[0].form["scope"], MAIL_SCOPE);
    assert_eq!(requests[1].path, "/acme/oauth2/token");
    assert_eq!(requests[2].status, Some(200));
    Ok(())
}

#[test]
fn token_errors_have_microsofts_shape() -> Result<()> {
    let stand = Stand::shared()?;
    let scope = MAIL_SCOPE;
    let id = CLIENT_ID;
    let cases = [
        (
            format!("grant_type=client_credentials&client_id={id}&client_secret=no&scope={scope}"),
            401,
            "invalid_client",
            7000215,
        ),
        (
            format!("grant_type=client_credentials&client_id={id}&scope={scope}"),
            401,
            "invalid_client",
            7000218,
        ),
        (
            format!("grant_type=client_credentials&client_id=who&client_secret=x&scope={scope}"),
            400,
            "unauthorized_client",
            700016,
        ),
        (
            format!(
                "grant_type=client_credentials&client_id={id}&client_secret={CLIENT_SECRET}&scope=IMAP"
            ),
            400,
            "invalid_scope",
            70011,
        ),
        (
            format!("grant_type=magic&client_id={id}&client_secret={CLIENT_SECRET}"),
            400,
            "unsupported_grant_type",
            70003,
        ),
    ];
    for (form, status, error, code) in cases {
        let (got, body) = token(stand, "/acme/oauth2/v2.0/token", &form)?;
        assert_eq!((got, &body["error"]), (status, &error.into()), "{form}");
        assert_eq!(body["error_codes"], serde_json::json!([code]), "{form}");
        let description = body["error_description"]
            .as_str()
            .context("no description")?;
        assert!(
            description.starts_with(&format!("AADSTS{code}: ")),
            "{description}"
        );
        assert!(body["trace_id"].is_string() && body["correlation_id"].is_string());
    }
    Ok(())
}

#[test]
fn the_token_endpoint_fails_on_command() -> Result<()> {
    let stand = Stand::start()?;
    let busy = AuthorityFailure::Status {
        code: 503,
        body: "busy".into(),
        retry_after_secs: Some(2),
    };
    stand.authority().fail_next(1, busy)?;
    stand
        .authority()
        .fail_next(1, AuthorityFailure::microsoft(400, "invalid_grant", 50173))?;
    stand.authority().fail_next(1, AuthorityFailure::Hang)?;

    // The status and the header, as received by a client.
    let mut wire = Wire::tls(stand.ports().authority, stand.ca_pem())?;
    wire.send(b"POST /acme/oauth2/v2.0/token HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
    assert!(wire.line()?.contains(" 503 "));
    let mut headers = String::new();
    loop {
        match wire.line()? {
            line if line.is_empty() => break,
            line => headers.push_str(&format!("{}\n", line.to_ascii_lowercase())),
        }
    }
    assert!(headers.contains("retry-after: 2"), "{headers}");

    let (status, body) = token(&stand, "/acme/oauth2/v2.0/token", "")?;
    assert_eq!(
        (status, &body["error_codes"]),
        (400, &serde_json::json!([50173]))
    );

    let mut hanging = Wire::tls(stand.ports().authority, stand.ca_pem())?;
    hanging.send(b"POST /acme/oauth2/v2.0/token HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
    let asked = || {
        stand
            .authority()
            .token_requests()
            .is_ok_and(|requests| requests.len() == 3)
    };
    assert!(wait_for(Duration::from_secs(5), asked));
    assert_eq!(stand.authority().token_requests()?[2].status, None);
    drop(hanging);
    stand.access_token(MAIL_SCOPE)?;
    Ok(())
}

#[test]
fn imap_takes_good_tokens_and_no_others() -> Result<()> {
    let stand = Stand::start()?;
    let good = stand.access_token(MAIL_SCOPE)?;
    for user in ["support@acme.example", "other+plus@beta.example"] {
        assert_eq!(xoauth2(&stand, user, &good)?, "OK");
    }
    assert_eq!(oauthbearer(&stand, "support@acme.example", &good)?, "OK");
    assert_eq!(
        xoauth2(&stand, "support@acme.example", "made-up")?,
        "AUTHENTICATIONFAILED"
    );
    assert_eq!(
        oauthbearer(&stand, "support@acme.example", "made-up")?,
        "AUTHENTICATIONFAILED"
    );

    let elsewhere = stand.access_token(OTHER_SCOPE)?;
    assert_eq!(
        xoauth2(&stand, "support@acme.example", &elsewhere)?,
        "AUTHENTICATIONFAILED"
    );

    stand.authority().set_token_lifetime(1)?;
    let short = stand.access_token(MAIL_SCOPE)?;
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(
        xoauth2(&stand, "support@acme.example", &short)?,
        "AUTHENTICATIONFAILED"
    );

    stand.authority().fail_introspection(
        1,
        AuthorityFailure::Status {
            code: 500,
            body: String::new(),
            retry_after_secs: None,
        },
    )?;
    assert_eq!(
        xoauth2(&stand, "support@acme.example", &good)?,
        "UNAVAILABLE"
    );
    assert_eq!(xoauth2(&stand, "support@acme.example", &good)?, "OK");

    stand.authority().revoke_tokens()?;
    assert_eq!(
        xoauth2(&stand, "support@acme.example", &good)?,
        "AUTHENTICATIONFAILED"
    );
    Ok(())
}

#[test]
fn pop3_takes_tokens_too() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "pop@acme.example";
    stand.deliver(user, MAIL)?;
    for (token, answer) in [
        (stand.access_token(MAIL_SCOPE)?, "+OK"),
        ("made-up".into(), "-ERR"),
    ] {
        let mut pop3 = Wire::tls(stand.ports().pop3s, stand.ca_pem())?;
        pop3.line()?;
        let response = format!("user={user}\x01auth=Bearer {token}\x01\x01");
        pop3.send(format!("AUTH XOAUTH2 {}\r\n", STANDARD.encode(response)).as_bytes())?;
        let mut line = pop3.line()?;
        if line.starts_with("+ ") {
            pop3.send(b"\r\n")?;
            line = pop3.line()?;
        }
        assert!(line.starts_with(answer), "{line}");
    }
    Ok(())
}

#[test]
fn a_thousand_mails_arrive_over_one_connection() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "busy@acme.example";
    let mails: Vec<_> = (0..1000)
        .map(|n| [MAIL, n.to_string().as_bytes()].concat())
        .collect();
    stand.deliver_many(user, &mails)?;
    assert_eq!(stand.message_count(user, "INBOX")?, mails.len());
    Ok(())
}

#[test]
fn a_delivered_mail_lies_in_the_inbox() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "inbox@acme.example";
    assert_eq!(stand.message_count(user, "INBOX")?, 0);
    stand.deliver(user, MAIL)?;
    stand.deliver_from("", user, MAIL)?;
    let mails = stand.folder(user, "INBOX")?;
    assert_eq!(mails.len(), 2);
    assert_eq!(stand.message_count(user, "INBOX")?, 2);
    assert!(
        mails[0]
            .bytes
            .starts_with(b"Return-Path: <someone@outside.example>\r\n")
    );
    assert!(mails[1].bytes.starts_with(b"Return-Path: <>\r\n"));
    assert!(
        mails
            .iter()
            .all(|mail| mail.bytes.ends_with(MAIL) && mail.flags.is_empty())
    );
    assert!(mails[0].uid < mails[1].uid);
    assert!(stand.folder(user, "Nowhere")?.is_empty());
    Ok(())
}

#[test]
fn hostile_bytes_arrive_as_they_are() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "hostile@acme.example";
    let bodies: [&[u8]; 4] = [
        b"",
        b"no header, no line end",
        b".\r\n..\r\n.",
        b"A: b\r\n\r\nx\ry\r\n\xff\xfe",
    ];
    stand.deliver_many(user, bodies)?;
    let mails = stand.folder(user, "INBOX")?;
    assert_eq!(mails.len(), bodies.len());
    for (mail, body) in mails.iter().zip(bodies) {
        assert!(
            mail.bytes.ends_with(body),
            "{:?}",
            String::from_utf8_lossy(&mail.bytes)
        );
    }
    Ok(())
}

#[test]
fn appended_mails_keep_their_bytes_and_flags() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "appended@acme.example";
    let mails: Vec<_> = (0..500)
        .map(|n| [MAIL, n.to_string().as_bytes()].concat())
        .collect();
    stand.append(user, "Old/Ones", r"\Seen", &mails)?;
    let stored = stand.folder(user, "Old/Ones")?;
    assert_eq!(
        stored.iter().map(|mail| &mail.bytes).collect::<Vec<_>>(),
        mails.iter().collect::<Vec<_>>()
    );
    assert!(stored.iter().all(|mail| mail.flags == [r"\Seen"]));
    Ok(())
}

#[test]
fn idle_hears_of_a_delivery_at_once() -> Result<()> {
    let stand = Stand::shared()?;
    let user = "idle@acme.example";
    let mut imap = Wire::plain(stand.ports().imap)?;
    imap.line()?;
    imap.send(format!("a LOGIN {user} {PASSWORD}\r\nb SELECT INBOX\r\nc IDLE\r\n").as_bytes())?;
    while !imap.line()?.starts_with('+') {}
    stand.deliver(user, MAIL)?;
    let delivered = SystemTime::now();
    while !imap.line()?.ends_with("1 EXISTS") {}
    // Dovecot collects changes for half a second.
    assert!(delivered.elapsed()? < Duration::from_secs(2));
    Ok(())
}

#[test]
fn submission_with_a_token_reaches_the_sink() -> Result<()> {
    let stand = Stand::start()?;
    let mut smtp = submission(&stand)?;
    send(&mut smtp, 250)?;
    let mails = stand.smtp().received();
    assert_eq!(mails.len(), 1);
    assert_eq!(mails[0].from, "support@acme.example");
    assert_eq!(mails[0].to, ["jo@outside.example"]);
    assert!(mails[0].data.ends_with(b"\r\n\r\n.starts with a dot\r\n"));
    assert!(mails[0].answered);

    for (stage, code) in [
        (SmtpStage::Mail, 451),
        (SmtpStage::Rcpt, 550),
        (SmtpStage::Data, 554),
    ] {
        stand.smtp().fail_next(1, SmtpFailure::Reply(stage, code));
        send(&mut submission(&stand)?, code)?;
    }
    assert_eq!(stand.smtp().received().len(), 1);

    stand.smtp().fail_next(1, SmtpFailure::DropAfterData);
    let answer = send(&mut submission(&stand)?, 250);
    assert!(answer.is_err(), "an answer without one from the sink");
    assert_eq!(
        stand
            .smtp()
            .received()
            .iter()
            .filter(|mail| !mail.answered)
            .count(),
        1
    );

    stand.smtp().clear();
    assert!(stand.smtp().received().is_empty());
    Ok(())
}

#[test]
fn the_sink_can_be_spoken_to_directly() -> Result<()> {
    let stand = Stand::start()?;
    let mut smtp = Wire::plain(stand.ports().smtp_sink)?;
    smtp.reply()?;
    smtp.command("EHLO test")?;
    assert!(smtp.command("DATA")?.starts_with("503"));
    send(&mut smtp, 250)?;
    stand.smtp().fail_next(1, SmtpFailure::HangAfterData);
    let before = stand.smtp().received().len();
    smtp.send(b"MAIL FROM:<>\r\nRCPT TO:<a@b.example>\r\nDATA\r\nx\r\n.\r\n")?;
    assert!(wait_for(Duration::from_secs(5), || stand
        .smtp()
        .received()
        .len()
        == before + 1));
    let hung = &stand.smtp().received()[before];
    assert_eq!((hung.from.as_str(), hung.answered), ("", false));
    Ok(())
}

#[test]
fn the_webhook_checks_signatures_and_fails_on_command() -> Result<()> {
    let stand = Stand::start()?;
    let port = stand.ports().webhook;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    assert_eq!(post(port, &hook("m1", now, b"{\"a\":1}")?)?, 204);
    assert_eq!(post(port, &hook("m2", now - 900, b"{}")?)?, 204);
    let altered = String::from_utf8(hook("m3", now, b"{}")?)?.replace("{}", "[]");
    assert_eq!(post(port, altered.as_bytes())?, 204);
    let received = stand.webhook().received();
    assert_eq!(received[0].signature, Ok(()));
    assert_eq!(received[0].header("Webhook-Id"), Some("m1"));
    assert_eq!(received[0].json()?["a"], 1);
    assert!(
        received[1]
            .signature
            .as_ref()
            .is_err_and(|why| why.contains("too far"))
    );
    assert!(
        received[2]
            .signature
            .as_ref()
            .is_err_and(|why| why.contains("no signature holds"))
    );

    let busy = WebhookFailure::Status {
        code: 503,
        retry_after_secs: Some(1),
    };
    stand.webhook().fail_next(2, busy);
    stand.webhook().fail_next(1, WebhookFailure::Drop);
    let request = hook("m4", now, b"{}")?;
    assert_eq!(post(port, &request)?, 503);
    assert_eq!(post(port, &request)?, 503);
    assert!(post(port, &request).is_err());
    assert_eq!(post(port, &request)?, 204);
    let answers: Vec<_> = stand
        .webhook()
        .received()
        .iter()
        .map(|request| request.status)
        .collect();
    assert_eq!(answers[3..], [Some(503), Some(503), None, Some(204)]);
    Ok(())
}

#[test]
fn an_outage_ends_where_it_began() -> Result<()> {
    let stand = Stand::start()?;
    stand.deliver("support@acme.example", MAIL)?;
    stand.stop_dovecot()?;
    assert!(Wire::plain(stand.ports().imap).is_err());
    assert!(Wire::plain(stand.ports().lmtp).is_err());
    stand.start_dovecot()?;
    assert_eq!(stand.message_count("support@acme.example", "INBOX")?, 1);
    Ok(())
}

#[test]
fn two_stands_stand_side_by_side() -> Result<()> {
    let (first, second) = (Stand::start()?, Stand::start()?);
    first.deliver("support@acme.example", MAIL)?;
    assert_eq!(first.message_count("support@acme.example", "INBOX")?, 1);
    assert_eq!(second.message_count("support@acme.example", "INBOX")?, 0);
    let foreign = first.access_token(MAIL_SCOPE)?;
    assert_eq!(
        xoauth2(&second, "support@acme.example", &foreign)?,
        "AUTHENTICATIONFAILED"
    );

    let dir = first.dir().to_owned();
    drop(first);
    assert!(!dir.exists());
    assert_eq!(processes_of(&dir)?, 0);
    assert!(processes_of(second.dir())? > 0);
    Ok(())
}

#[test]
fn a_killed_process_leaves_nothing_behind() -> Result<()> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_stand"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .context("starting the program `stand`")?;
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(
        child.stdout.take().context("no output")?,
    ));
    let dir = loop {
        let line = lines.next().context("the stand ended early")??;
        if let Some(dir) = line.trim().strip_prefix("Logs and mail: ") {
            break std::path::PathBuf::from(dir);
        }
    };
    assert!(processes_of(&dir)? > 0);
    child.kill()?;
    child.wait()?;
    let gone = || !dir.exists() && processes_of(&dir).is_ok_and(|count| count == 0);
    assert!(
        wait_for(Duration::from_secs(10), gone),
        "{} is still in use",
        dir.display()
    );
    Ok(())
}

/// Returns an authenticated session with Dovecot's submission.
fn submission(stand: &Stand) -> Result<Wire> {
    let mut smtp = Wire::tls(stand.ports().submissions, stand.ca_pem())?;
    smtp.reply()?;
    smtp.command("EHLO test")?;
    let token = stand.access_token(MAIL_SCOPE)?;
    let response = format!("user=support@acme.example\x01auth=Bearer {token}\x01\x01");
    let reply = smtp.command(&format!("AUTH XOAUTH2 {}", STANDARD.encode(response)))?;
    ensure!(reply.starts_with("235"), "{reply}");
    Ok(smtp)
}

/// Sends one mail; the first unusual reply must have the code `expected`.
fn send(smtp: &mut Wire, expected: u16) -> Result<()> {
    let steps = [
        ("MAIL FROM:<support@acme.example>", "250"),
        ("RCPT TO:<jo@outside.example>", "250"),
        ("DATA", "354"),
        ("Subject: Got it\r\n\r\n..starts with a dot\r\n.", "250"),
    ];
    let mut last = String::new();
    for (command, usual) in steps {
        last = smtp.command(command)?;
        if !last.starts_with(usual) {
            break;
        }
    }
    ensure!(
        last.starts_with(&expected.to_string()),
        "expected {expected}, got {last}"
    );
    Ok(())
}

/// Returns a signed webhook request, as bytes of HTTP.
fn hook(id: &str, timestamp: u64, body: &[u8]) -> Result<Vec<u8>> {
    let key = STANDARD.decode(WEBHOOK_SECRET.trim_start_matches("whsec_"))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&key)?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let head = format!(
        "POST /hook HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\nWebhook-Id: {id}\r\n\
         Webhook-Timestamp: {timestamp}\r\nWebhook-Signature: v1,{signature}\r\n\r\n",
        body.len()
    );
    Ok([head.as_bytes(), body].concat())
}

/// Posts it on a separate connection; returns the status.
fn post(port: u16, request: &[u8]) -> Result<u16> {
    let mut wire = Wire::plain(port)?;
    wire.send(request)?;
    Ok(wire
        .line()?
        .split(' ')
        .nth(1)
        .context("no status")?
        .parse()?)
}

/// Returns the number of running processes with the stand's folder on their command line.
fn processes_of(dir: &std::path::Path) -> Result<usize> {
    let dir = dir.to_string_lossy();
    let mut count = 0;
    for entry in std::fs::read_dir("/proc")? {
        // Processes start and end while the list is read.
        let Ok(command) = std::fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        count += usize::from(String::from_utf8_lossy(&command).contains(dir.as_ref()));
    }
    Ok(count)
}
