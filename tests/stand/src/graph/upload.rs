//! Attachments of a draft: in one request below 3 MB, in an upload session from there on.

use std::collections::HashMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::State;
use super::http::{Answer, Asked};
use super::mailbox::GraphAttachment;
use super::routes::{body, not_found};

/// The smallest file for an upload session, and the largest.
const SESSION_BYTES_MIN: u64 = 3 * 1024 * 1024;
const SESSION_BYTES_MAX: u64 = 150 * 1024 * 1024;

/// The open sessions, by the secret in their URL.
pub(super) type Uploads = HashMap<String, Upload>;

pub(super) struct Upload {
    mailbox: String,
    draft: String,
    name: String,
    size: u64,
    received: Vec<u8>,
}

/// Attaches a file in one request.
pub(super) fn attach(state: &mut State, asked: &Asked, address: &str, id: &str) -> Answer {
    let file = match body(asked) {
        Ok(file) => file,
        Err(answer) => return answer,
    };
    if file["@odata.type"] != "#microsoft.graph.fileAttachment" {
        return Answer::error(
            400,
            "ErrorInvalidRequest",
            "The type of the attachment is missing.",
        );
    }
    let content = file["contentBytes"]
        .as_str()
        .map(|text| STANDARD.decode(text));
    let (Some(name), Some(Ok(content))) = (file["name"].as_str(), content) else {
        return Answer::error(
            400,
            "ErrorInvalidRequest",
            "name or contentBytes is missing.",
        );
    };
    if content.len() as u64 >= SESSION_BYTES_MIN {
        let text = "The attachment is too large for one request.";
        return Answer::error(413, "ErrorAttachmentSizeLimitExceeded", text);
    }
    let attachment = GraphAttachment {
        name: name.to_owned(),
        content,
    };
    match add(state, address, id, attachment) {
        true => Answer::json(201, &json!({ "id": "AAMkAtt", "name": name })),
        false => not_found(),
    }
}

/// Opens an upload session for a file.
pub(super) fn open(state: &mut State, asked: &Asked, address: &str, id: &str) -> Answer {
    let wanted = match body(asked) {
        Ok(wanted) => wanted,
        Err(answer) => return answer,
    };
    let item = &wanted["AttachmentItem"];
    let (Some("file"), Some(name), Some(size)) = (
        item["attachmentType"].as_str(),
        item["name"].as_str(),
        item["size"].as_u64(),
    ) else {
        return Answer::error(
            400,
            "ErrorInvalidRequest",
            "The AttachmentItem is incomplete.",
        );
    };
    if size < SESSION_BYTES_MIN {
        let text = "The attachment size should not be less than the minimum size.";
        let code = "ErrorAttachmentSizeShouldNotBeLessThanMinimumSize";
        return Answer::error(400, code, text);
    }
    if size > SESSION_BYTES_MAX {
        let text = "The attachment is larger than 150 MB.";
        return Answer::error(413, "ErrorAttachmentSizeLimitExceeded", text);
    }
    if !state
        .mailbox(address)
        .find(id)
        .is_some_and(|it| it.is_draft)
    {
        return not_found();
    }
    let secret = format!("session{:04}", state.uploads.len() + 1);
    let url = format!(
        "https://localhost:{}/upload/{secret}?authtoken=stand-upload-secret",
        state.port
    );
    state.uploads.insert(
        secret,
        Upload {
            mailbox: address.to_owned(),
            draft: id.to_owned(),
            name: name.to_owned(),
            size,
            received: Vec::new(),
        },
    );
    Answer::json(
        201,
        &json!({
            "uploadUrl": url,
            "expirationDateTime": "2099-01-01T00:00:00Z",
            "nextExpectedRanges": ["0-"],
        }),
    )
}

/// Takes a range of a file. The URL carries the permission, and a token must not be sent to it.
pub(super) fn range(
    state: &mut State,
    asked: &Asked,
    session: &str,
    range: &str,
    has_token: bool,
) -> Answer {
    if has_token {
        let text = "Do not specify the Authorization header.";
        return Answer::error(401, "InvalidAuthenticationToken", text);
    }
    let is_allowed = asked.query("authtoken") == Some("stand-upload-secret");
    let Some(upload) = state.uploads.get_mut(session).filter(|_| is_allowed) else {
        return not_found();
    };
    let expected = upload.received.len() as u64;
    let end = expected + asked.body.len() as u64;
    let stated = format!("bytes {expected}-{}/{}", end.saturating_sub(1), upload.size);
    if asked.method != "PUT" || asked.body.is_empty() || range != stated {
        let text = format!("The range {range} is not the expected {stated}.");
        return Answer::error(416, "ErrorInvalidRange", &text);
    }
    upload.received.extend_from_slice(&asked.body);
    if end < upload.size {
        let next: Value = json!([end.to_string()]);
        return Answer::json(200, &json!({ "nextExpectedRanges": next }));
    }
    let Some(done) = state.uploads.remove(session) else {
        return not_found();
    };
    let attachment = GraphAttachment {
        name: done.name,
        content: done.received,
    };
    match add(state, &done.mailbox, &done.draft, attachment) {
        true => Answer::empty(201),
        false => not_found(),
    }
}

fn add(state: &mut State, address: &str, id: &str, attachment: GraphAttachment) -> bool {
    let mailbox = state.mailbox(address);
    if !mailbox.find(id).is_some_and(|mail| mail.is_draft) {
        return false;
    }
    mailbox.change(id, |mail| mail.attachments.push(attachment));
    true
}
