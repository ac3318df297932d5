//! The mail inside a mail that a person forwarded.

use crate::message::Message;
use crate::parse::{ParseLimits, parse};

/// Returns the mail that was forwarded as an attachment.
pub fn forwarded(mail: &Message, limits: &ParseLimits) -> Option<Message> {
    let mut attached = mail
        .attachments
        .iter()
        .filter(|it| it.content_type == "message/rfc822");
    let only = attached.next().filter(|_| attached.next().is_none())?;
    let inner = parse(&only.bytes, limits, &[]);
    inner.from.is_some().then_some(inner)
}
