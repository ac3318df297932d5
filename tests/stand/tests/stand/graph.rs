//! The Graph double: what independent clients make of it, and what it refuses.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postroom_stand::{
    Answer, CLIENT_ID, GraphFailure, MAIL_SCOPE, NO_MAILBOX, OTHER_SCOPE, Stand, Wire, node,
};
use serde_json::Value;

use crate::{text, tokens_of};

const USER: &str = "support@acme.example";

fn mail(subject: &str) -> String {
    format!("From: Ann <ann@acme.example>\r\nTo: {USER}\r\nSubject: {subject}\r\nMessage-ID: <{subject}@acme.example>\r\n\r\nhelp\r\n")
        .replacen(&format!("<{subject}@"), &format!("<{}@", subject.replace(' ', ".")), 1)
}

/// One request. `more` are headers.
fn ask(
    stand: &Stand,
    token: &str,
    method: &str,
    path: &str,
    more: &[(&str, &str)],
    body: &[u8],
) -> Result<Answer> {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("Authorization", bearer.as_str())];
    headers.extend(more);
    let path = format!("/v1.0{path}");
    Wire::tls(stand.ports().graph, stand.ca_pem())?.exchange(method, &path, &headers, body)
}

fn get(stand: &Stand, token: &str, path: &str) -> Result<(u16, Value)> {
    let immutable = [("Prefer", "IdType=\"ImmutableId\", odata.maxpagesize=2")];
    let answer = ask(stand, token, "GET", path, &immutable, b"")?;
    Ok((answer.status, serde_json::from_slice(&answer.body)?))
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    let code = answer.1["error"]["code"].as_str();
    (answer.0, code.unwrap_or_default())
}

/// The path of a link, behind the version.
fn path_of(link: &Value) -> String {
    let link = link.as_str().unwrap_or_default();
    let path = link.split_once("/v1.0").map_or("", |(_, path)| path);
    path.to_owned()
}

#[test]
fn o365_is_served() -> Result<()> {
    let stand = Stand::start()?;
    is_served(&stand, &python("graph")?, "graph/o365_client.py")?;
    assert_eq!(stand.graph().sent().len(), 1);
    Ok(())
}

#[test]
fn microsofts_client_for_python_is_served() -> Result<()> {
    is_served(
        &Stand::start()?,
        &python("msgraph")?,
        "msgraph/msgraph_client.py",
    )
}

#[test]
fn microsofts_client_for_javascript_is_served() -> Result<()> {
    let stand = Stand::start()?;
    let throttled = GraphFailure::Throttled {
        retry_after_secs: 1,
    };
    stand.graph().fail_next(1, throttled);
    is_served(&stand, &node()?, "npm/graph_client.mjs")?;
    let sent = stand.graph().sent();
    let as_mime: Vec<bool> = sent.iter().map(|mail| mail.as_mime).collect();
    assert_eq!(as_mime, [false, true]);
    Ok(())
}

fn python(client: &str) -> Result<PathBuf> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/clients")
        .join(client)
        .join("bin/python");
    ensure!(
        python.exists(),
        "{} is missing: run `make setup`",
        python.display()
    );
    Ok(python)
}

/// Runs the script of an independent client on a mailbox with 23 mails; it fails if the client is not served as by Graph.
fn is_served(stand: &Stand, program: &Path, script: &str) -> Result<()> {
    for number in 0..23 {
        let received = jiff::Timestamp::from_second(1_790_000_000 + number)?;
        let mail = mail(&format!("mail {number}"));
        stand.graph().deliver_dated(USER, "inbox", received, mail);
    }
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients");
    let output = Command::new(program)
        .arg(clients.join(script))
        .env(
            "GRAPH_URL",
            format!("https://localhost:{}/", stand.ports().graph),
        )
        .env("GRAPH_TOKEN", stand.access_token(OTHER_SCOPE)?)
        .env("GRAPH_MAILBOX", USER)
        .env("REQUESTS_CA_BUNDLE", stand.ca_pem())
        .env("SSL_CERT_FILE", stand.ca_pem())
        .env("NODE_EXTRA_CA_CERTS", stand.ca_pem())
        .env("HOME", stand.dir())
        .current_dir(stand.dir())
        .output()?;
    ensure!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[test]
fn tokens_open_what_they_are_for() -> Result<()> {
    let stand = Stand::start()?;
    let inbox = |of: &str| format!("/users/{of}/mailFolders/inbox");
    let app = stand.access_token(OTHER_SCOPE)?;
    assert_eq!(get(&stand, &app, &inbox(USER))?.0, 200);
    assert_eq!(
        code(&get(&stand, &app, "/me/messages")?),
        (400, "BadRequest")
    );
    assert_eq!(
        code(&get(&stand, &app, &inbox(NO_MAILBOX))?),
        (404, "ErrorInvalidUser")
    );
    for token in ["", "no-token", &stand.access_token(MAIL_SCOPE)?] {
        assert_eq!(
            code(&get(&stand, token, &inbox(USER))?),
            (401, "InvalidAuthenticationToken")
        );
    }
    let own = "https://graph.microsoft.com/Mail.ReadWrite";
    let shared = "https://graph.microsoft.com/Mail.ReadWrite.Shared";
    let own = text(&tokens_of(&stand, "jo@acme.example", own)?, "access_token")?;
    let shared = text(
        &tokens_of(&stand, "jo@acme.example", shared)?,
        "access_token",
    )?;
    let denied = (403, "ErrorAccessDenied");
    assert_eq!(get(&stand, &own, "/me/mailFolders/inbox")?.0, 200);
    assert_eq!(get(&stand, &own, &inbox("JO@acme.example"))?.0, 200);
    assert_eq!(code(&get(&stand, &shared, &inbox(USER))?), denied);
    stand.graph().share("jo@acme.example", USER);
    assert_eq!(get(&stand, &shared, &inbox(USER))?.0, 200);
    // Without the permission for another's mailbox the right alone opens nothing.
    assert_eq!(code(&get(&stand, &own, &inbox(USER))?), denied);
    stand.graph().cover(CLIENT_ID, &["other@acme.example"]);
    assert_eq!(code(&get(&stand, &app, &inbox(USER))?), denied);
    assert_eq!(get(&stand, &app, &inbox("other@acme.example"))?.0, 200);
    stand.authority().revoke_tokens()?;
    assert_eq!(get(&stand, &app, &inbox("other@acme.example"))?.0, 401);
    Ok(())
}

#[test]
fn a_delta_query_lists_each_mail_once_and_then_what_changed() -> Result<()> {
    let stand = Stand::start()?;
    let (graph, app) = (stand.graph(), stand.access_token(OTHER_SCOPE)?);
    let ids: Vec<String> = (0..5)
        .map(|n| graph.deliver(USER, mail(&format!("mail {n}"))))
        .collect();
    let delta = format!("/users/{USER}/mailFolders/inbox/messages/delta");
    let mut path = format!("{delta}?%24select=isRead");
    let mut seen = Vec::new();
    let link = loop {
        let (status, page) = get(&stand, &app, &path)?;
        ensure!(status == 200, "{page}");
        for item in page["value"].as_array().into_iter().flatten() {
            assert!(
                item["subject"].is_null() && item["isRead"] == false,
                "{item}"
            );
            seen.push(text(item, "id")?);
        }
        if page["@odata.nextLink"].is_null() {
            break path_of(&page["@odata.deltaLink"]);
        }
        path = path_of(&page["@odata.nextLink"]);
    };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    assert_eq!(seen, newest_first);

    let json = [("Content-Type", "application/json")];
    let mail_path = |id: &str| format!("/users/{USER}/messages/{id}");
    let moved = ask(
        &stand,
        &app,
        "POST",
        &format!("{}/move", mail_path(&ids[0])),
        &json,
        br#"{"destinationId":"archive"}"#,
    )?;
    assert_eq!(moved.status, 201);
    // Without the preference for immutable ids, a move changes the id.
    let moved: Value = serde_json::from_slice(&moved.body)?;
    assert_ne!(text(&moved, "id")?, ids[0]);
    assert_eq!(
        get(&stand, &app, &mail_path(&ids[0]))?.1["id"],
        ids[0].as_str()
    );
    let read = ask(
        &stand,
        &app,
        "PATCH",
        &mail_path(&ids[1]),
        &json,
        br#"{"isRead":true}"#,
    )?;
    assert_eq!(read.status, 200);
    for _ in 0..2 {
        let (_, page) = get(&stand, &app, &link)?;
        let entries = page["value"].as_array().cloned().unwrap_or_default();
        assert_eq!(entries.len(), 2, "{page}");
        assert_eq!(
            (&entries[0]["id"], &entries[0]["isRead"]),
            (&ids[1].as_str().into(), &true.into())
        );
        assert_eq!(entries[1]["@removed"]["reason"], "deleted");
    }
    graph.forget_places();
    assert_eq!(code(&get(&stand, &app, &link)?), (410, "syncStateNotFound"));
    Ok(())
}

#[test]
fn mime_and_json_are_sent_and_what_is_wrong_is_refused() -> Result<()> {
    let stand = Stand::start()?;
    let app = stand.access_token(OTHER_SCOPE)?;
    let send = |kind: &str, body: &[u8]| -> Result<(u16, String)> {
        let path = format!("/users/{USER}/sendMail");
        let answer = ask(&stand, &app, "POST", &path, &[("Content-Type", kind)], body)?;
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let code = body["error"]["code"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok((answer.status, code))
    };
    let mime =
        format!("From: {USER}\r\nTo: jo@outside.example\r\nSubject: by MIME\r\n\r\nhello\r\n");
    assert_eq!(
        send("text/plain", STANDARD.encode(&mime).as_bytes())?.0,
        202
    );
    // Exchange replaces the Message-ID and leaves the rest.
    let sent = stand.graph().sent().remove(0);
    let expected = format!("Message-ID: <{}>\r\n{mime}", sent.message_id);
    assert_eq!(String::from_utf8_lossy(&sent.mime), expected);
    assert!(stand.graph().sent()[0].as_mime);
    assert_eq!(stand.graph().folder(USER, "sentitems").len(), 1);
    let foreign = mime.replace(USER, "ceo@acme.example");
    for (kind, body, expected) in [
        (
            "text/plain",
            mime.as_bytes(),
            (400, "ErrorMimeContentInvalidBase64String"),
        ),
        (
            "text/plain",
            STANDARD.encode(&foreign).as_bytes(),
            (403, "ErrorSendAsDenied"),
        ),
        ("application/json", b"{}", (400, "BadRequest")),
        (
            "application/json",
            br#"{"message":{"subject":"x"}}"#,
            (400, "ErrorInvalidRecipients"),
        ),
        ("text/html", b"x", (415, "UnsupportedMediaType")),
    ] {
        let (status, code) = send(kind, body)?;
        assert_eq!((status, code.as_str()), expected);
    }
    assert_eq!(stand.graph().sent().len(), 1);
    Ok(())
}

#[test]
fn failures_come_on_command_and_for_one_mailbox() -> Result<()> {
    let stand = Stand::start()?;
    let (graph, app) = (stand.graph(), stand.access_token(OTHER_SCOPE)?);
    let inbox = |of: &str| format!("/users/{of}/mailFolders/inbox");
    graph.fail_next_of(
        USER,
        1,
        GraphFailure::Throttled {
            retry_after_secs: 7,
        },
    );
    assert_eq!(get(&stand, &app, &inbox("other@acme.example"))?.0, 200);
    let answer = ask(&stand, &app, "GET", &inbox(USER), &[], b"")?;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );
    graph.fail_next(
        1,
        GraphFailure::Status {
            status: 503,
            code: "ServiceUnavailable",
        },
    );
    assert_eq!(
        code(&get(&stand, &app, &inbox(USER))?),
        (503, "ServiceUnavailable")
    );
    graph.fail_next(1, GraphFailure::Drop);
    assert!(get(&stand, &app, &inbox(USER)).is_err());
    assert_eq!(get(&stand, &app, &inbox(USER))?.0, 200);
    assert_eq!(graph.requests_of(USER).len(), 4);
    Ok(())
}
