//! A mail as JSON: the properties of a message that clients may select.

use serde_json::{Map, Value, json};

use super::mailbox::GraphMail;

/// The properties of a message that `$select` accepts.
const PROPERTIES: [&str; 23] = [
    "id",
    "bccRecipients",
    "body",
    "bodyPreview",
    "categories",
    "ccRecipients",
    "changeKey",
    "conversationId",
    "createdDateTime",
    "flag",
    "from",
    "hasAttachments",
    "importance",
    "internetMessageId",
    "isDraft",
    "isRead",
    "lastModifiedDateTime",
    "parentFolderId",
    "receivedDateTime",
    "sender",
    "sentDateTime",
    "subject",
    "toRecipients",
];
const PREVIEW_CHARS: usize = 255;

/// Returns the first of these properties that no message has.
pub(super) fn unknown(select: &[String]) -> Option<&String> {
    let is_unknown = |name: &&String| !PROPERTIES.contains(&name.as_str());
    select.iter().find(is_unknown)
}

/// Returns the selected properties of a mail, or all of them. The id is always among them.
pub(super) fn json(mail: &GraphMail, select: Option<&[String]>, immutable: bool) -> Value {
    let id = match immutable {
        true => mail.id.clone(),
        false => mail.place_id(),
    };
    let text = body(&mail.mime);
    let time = format!("{:.0}", mail.received);
    let address = |name: &str| {
        let value = header(&mail.mime, name)?;
        Some(json!({ "emailAddress": emails(&value).into_iter().next()? }))
    };
    let addresses = |name: &str| {
        let value = header(&mail.mime, name).unwrap_or_default();
        let emails = emails(&value).into_iter();
        emails
            .map(|email| json!({ "emailAddress": email }))
            .collect::<Value>()
    };
    let whole = json!({
        "bccRecipients": [],
        "body": { "contentType": "text", "content": text },
        "bodyPreview": text.chars().take(PREVIEW_CHARS).collect::<String>(),
        "categories": mail.categories,
        "ccRecipients": addresses("cc"),
        "changeKey": format!("CQAAAB{:08}", mail.changed),
        "conversationId": format!("AAQkConversation{}", mail.subject()),
        "createdDateTime": time,
        "flag": { "flagStatus": "notFlagged" },
        "from": address("from"),
        "hasAttachments": false,
        "importance": "normal",
        "internetMessageId": header(&mail.mime, "message-id"),
        "isDraft": mail.is_draft,
        "isRead": mail.is_read,
        "lastModifiedDateTime": time,
        "parentFolderId": mail.folder,
        "receivedDateTime": time,
        "sender": address("from"),
        "sentDateTime": time,
        "subject": mail.subject(),
        "toRecipients": addresses("to"),
    });
    let mut fields = Map::new();
    fields.insert(
        "@odata.etag".into(),
        format!("W/\"CQAAAB{:08}\"", mail.changed).into(),
    );
    fields.insert("id".into(), id.into());
    if let Value::Object(all) = whole {
        let wanted = |name: &String| select.is_none_or(|select| select.contains(name));
        fields.extend(all.into_iter().filter(|(name, _)| wanted(name)));
    }
    Value::Object(fields)
}

/// Returns a header's value, unfolded (RFC 5322 section 2.2.3).
pub(super) fn header(mime: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(mime);
    let mut found: Option<String> = None;
    for line in text.lines() {
        if line.is_empty() {
            break;
        }
        if let (Some(value), true) = (&mut found, line.starts_with([' ', '\t'])) {
            value.push_str(line);
            continue;
        }
        if found.is_some() {
            break;
        }
        found = line
            .split_once(':')
            .filter(|(header, _)| header.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim().to_owned());
    }
    found
}

fn body(mime: &[u8]) -> String {
    let text = String::from_utf8_lossy(mime).replace("\r\n", "\n");
    let body = text.split_once("\n\n").map(|(_, body)| body.to_owned());
    body.unwrap_or_default()
}

/// Reads plain lists of addresses, without commas in names.
fn emails(value: &str) -> Vec<Value> {
    let parts = value.split(',').map(str::trim);
    let read = |part: &str| match part.split_once('<') {
        Some((name, address)) => json!({
            "name": name.trim().trim_matches('"'),
            "address": address.trim_end_matches('>'),
        }),
        None => json!({ "name": part, "address": part }),
    };
    parts.filter(|part| !part.is_empty()).map(read).collect()
}
