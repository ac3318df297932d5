//! Sending: `sendMail` accepts a mail as MIME in base64, or as JSON; a draft is created from MIME and sent on its own. Either
//! way, the mail gets a new Message-ID, as from Exchange.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use super::http::{Answer, Asked};
use super::routes::not_found;
use super::{GraphSent, State, message};
use crate::mail::with_message_id;

/// Accepts a mail, and puts it into the sent items unless the client declines.
pub(super) fn send(state: &mut State, asked: &Asked, address: &str) -> Answer {
    let is_mime = asked.content_type.starts_with("text/plain");
    let (mime, keep) = match is_mime {
        true => match of_mime(&asked.body) {
            Some(mime) => (mime, true),
            None => {
                let text = "Invalid base64 string for MIME content.";
                return Answer::error(400, "ErrorMimeContentInvalidBase64String", text);
            }
        },
        false => match of_json(asked, address) {
            Ok(read) => read,
            Err(answer) => return answer,
        },
    };
    if let Err(answer) = sendable(&mime, address) {
        return answer;
    }
    let message_id = state.new_message_id();
    let mime = with_message_id(&mime, &message_id);
    state.sent.push(GraphSent {
        mailbox: address.to_owned(),
        mime: mime.clone(),
        message_id,
        as_mime: is_mime,
        attachments: Vec::new(),
    });
    if keep {
        let mailbox = state.mailbox(address);
        let folder = mailbox.folder_or_make("sentitems");
        let id = mailbox.add(&folder, Timestamp::now(), mime, false);
        mailbox.change(&id, |mail| mail.is_read = true);
    }
    // Accepted, not delivered.
    Answer::empty(202)
}

/// Creates a draft from MIME.
pub(super) fn draft(state: &mut State, asked: &Asked, address: &str) -> Answer {
    if !asked.content_type.starts_with("text/plain") {
        let text = "This double creates drafts from MIME only.";
        return Answer::error(415, "UnsupportedMediaType", text);
    }
    let Some(mime) = of_mime(&asked.body) else {
        let text = "Invalid base64 string for MIME content.";
        return Answer::error(400, "ErrorMimeContentInvalidBase64String", text);
    };
    let message_id = state.new_message_id();
    let mime = with_message_id(&mime, &message_id);
    let mailbox = state.mailbox(address);
    let folder = mailbox.folder_or_make("drafts");
    let id = mailbox.add(&folder, Timestamp::now(), mime, true);
    match mailbox.find(&id) {
        Some(mail) => {
            let draft = message::json(mail, None, asked.wants_immutable_ids());
            Answer::json(201, &draft)
        }
        None => not_found(),
    }
}

/// Sends a draft: it moves to the sent items under the same immutable id.
pub(super) fn send_draft(state: &mut State, asked: &Asked, address: &str, id: &str) -> Answer {
    if !asked.body.is_empty() {
        let text = "The request body must be empty.";
        return Answer::error(400, "BadRequest", text);
    }
    let Some(mail) = state.mailbox(address).find(id).cloned() else {
        return not_found();
    };
    if !mail.is_draft {
        let text = "The item is not a draft.";
        return Answer::error(400, "ErrorInvalidOperation", text);
    }
    if let Err(answer) = sendable(&mail.mime, address) {
        return answer;
    }
    // The id is new once more: only the sent mail shows it.
    let message_id = state.new_message_id();
    let mime = with_message_id(&mail.mime, &message_id);
    state.sent.push(GraphSent {
        mailbox: address.to_owned(),
        mime: mime.clone(),
        message_id,
        as_mime: true,
        attachments: mail.attachments,
    });
    let mailbox = state.mailbox(address);
    let folder = mailbox.folder_or_make("sentitems");
    mailbox.move_to(&mail.id, &folder);
    mailbox.change(&mail.id, |mail| {
        mail.mime = mime;
        mail.is_draft = false;
        mail.is_read = true;
    });
    Answer::empty(202)
}

/// Refuses a mail that Exchange would not submit from this mailbox.
fn sendable(mime: &[u8], address: &str) -> Result<(), Answer> {
    let has_recipient = ["to", "cc", "bcc"]
        .iter()
        .any(|name| message::header(mime, name).is_some_and(|value| value.contains('@')));
    if !has_recipient {
        let text = "At least one recipient is not valid.";
        return Err(Answer::error(400, "ErrorInvalidRecipients", text));
    }
    if let Some(from) = message::header(mime, "from")
        && !from.to_lowercase().contains(address)
    {
        let text = "The user account which was used to submit this request does not have the right to send mail on behalf of the specified sending account.";
        return Err(Answer::error(403, "ErrorSendAsDenied", text));
    }
    Ok(())
}

fn of_mime(body: &[u8]) -> Option<Vec<u8>> {
    let lines = body.iter().filter(|byte| !byte.is_ascii_whitespace());
    let mime = STANDARD.decode(lines.copied().collect::<Vec<_>>()).ok()?;
    message::header(&mime, "from").is_some().then_some(mime)
}

/// Returns the mail in a JSON body as MIME, and whether it is kept in the sent items.
fn of_json(asked: &Asked, address: &str) -> Result<(Vec<u8>, bool), Answer> {
    let invalid = |text: &str| Answer::error(400, "BadRequest", text);
    if !asked.content_type.starts_with("application/json") {
        let text = "The content type must be application/json or text/plain.";
        return Err(Answer::error(415, "UnsupportedMediaType", text));
    }
    let body: Value = serde_json::from_slice(&asked.body)
        .map_err(|_| invalid("Unable to read JSON request payload."))?;
    // Real clients write the first letter in either case.
    let mail = match &body["message"] {
        Value::Null => &body["Message"],
        mail => mail,
    };
    if !mail.is_object() {
        return Err(invalid("The value of the parameter 'Message' is empty."));
    }
    let text = |value: &Value| {
        value
            .as_str()
            .unwrap_or_default()
            .replace(['\r', '\n'], " ")
    };
    let addresses = |name: &str| {
        let list = mail[name].as_array().into_iter().flatten();
        let list = list.map(|it| text(&it["emailAddress"]["address"]));
        list.collect::<Vec<_>>().join(", ")
    };
    let mut mime = format!(
        "From: {address}\r\nSubject: {}\r\nMessage-ID: <{}@stand.prod.outlook.example>\r\n",
        text(&mail["subject"]),
        Timestamp::now().as_nanosecond(),
    );
    for (header, name) in [
        ("To", "toRecipients"),
        ("Cc", "ccRecipients"),
        ("Bcc", "bccRecipients"),
    ] {
        let list = addresses(name);
        if !list.is_empty() {
            mime.push_str(&format!("{header}: {list}\r\n"));
        }
    }
    let content = mail["body"]["content"].as_str().unwrap_or_default();
    mime.push_str(&format!("\r\n{content}\r\n"));
    let keep = body["saveToSentItems"]
        .as_bool()
        .or(body["SaveToSentItems"].as_bool())
        .unwrap_or(true);
    Ok((mime.into_bytes(), keep))
}
