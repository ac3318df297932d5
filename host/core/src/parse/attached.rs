//! Mails that a mail carries as attachments: `message/rfc822`, `.eml` files and Outlook's `.msg` files.

use bytes::Bytes;

use super::authentication::Boundary;
use super::headers::{self, Fields};
use super::repairs::Repairs;
use super::{ParseLimits, Top, assemble, outlook_msg, parse, structure};
use crate::message::{Attachment, Message};

/// The fields that make an unnamed file a mail; two of them are needed.
const FIELDS: &[&str] = &["From", "To", "Subject", "Date", "Message-ID", "Received"];
/// How much of a file is looked at for them.
const LOOKED_AT_BYTES: usize = 16 * 1024;

/// Opens an attachment that is a mail, by its type, its name or its content. Returns `None` for any other attachment.
///
/// Nothing in the mail is authenticated, because its author may be the sender of the outer mail. Its own attachments stay
/// closed until this is called for them.
pub fn attached_mail(attachment: &Attachment, limits: &ParseLimits) -> Option<Message> {
    let bytes = &attachment.bytes;
    match is_mail(attachment) {
        true if outlook_msg::is_compound(bytes) => outlook_mail(bytes, limits),
        true => Some(parse(bytes, limits, &[])),
        false => None,
    }
}

/// Returns whether an attachment is a mail, by its type, its name or the beginning of its content.
pub(crate) fn is_mail(attachment: &Attachment) -> bool {
    let bytes = &attachment.bytes;
    if outlook_msg::is_compound(bytes) {
        return true;
    }
    let ends_with = |suffix: &str| {
        let name = attachment.name.as_bytes();
        name.len() > suffix.len()
            && name[name.len() - suffix.len()..].eq_ignore_ascii_case(suffix.as_bytes())
    };
    match attachment.content_type.as_str() {
        "message/rfc822" | "message/global" | "message/news" => true,
        "application/octet-stream" | "text/plain" | "application/eml" | "message/x-emlx" => {
            ends_with(".eml") && has_fields(bytes)
                || attachment.name.is_empty() && has_fields(bytes)
        }
        _ => ends_with(".eml") && has_fields(bytes),
    }
}

fn outlook_mail(bytes: &Bytes, limits: &ParseLimits) -> Option<Message> {
    let item = outlook_msg::read(bytes, limits)?;
    let mut repairs = Repairs::default();
    let mut boundary = Boundary::new(&[]);
    let mut top = Top::default();
    let header_section = item.header_section();
    top.read(
        header_section.as_bytes(),
        limits,
        &mut boundary,
        &mut repairs,
    );
    let structure = structure::split_item(item, bytes.len(), limits, &mut repairs);
    Some(assemble(top, &boundary, structure, bytes, limits, repairs))
}

fn has_fields(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(LOOKED_AT_BYTES)];
    let start = headers::start(head, &mut Repairs::default());
    let is_known = |name: &str| FIELDS.iter().any(|known| known.eq_ignore_ascii_case(name));
    let known = Fields::of_mail(head, start).filter(|field| is_known(field.name));
    known.take(2).count() == 2
}
