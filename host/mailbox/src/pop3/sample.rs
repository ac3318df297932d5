//! Samples the newest mail, to check whether mails can be fetched.

use postroom_core::harmless::harmless_chars;
use postroom_core::{ParseLimits, parse};

use super::session::{Given, Session, protocol};
use super::wire::Body;
use crate::{BEGINNING_BYTES, SourceError};
use postroom_net::Step;

const STEP: Step = Step::Fetch;
/// The longest subject shown, in characters.
const SUBJECT_CHARS: usize = 80;

/// Describes the newest mail of a mailbox with `count` mails.
pub(super) async fn newest(session: &mut Session, count: usize) -> Result<String, SourceError> {
    if count == 0 {
        return Ok("the mailbox is empty".into());
    }
    let reply = session.command(STEP, &format!("LIST {count}")).await?;
    let reply = reply.accepted(STEP)?;
    let size = reply.text.split_ascii_whitespace().nth(1);
    let size: u64 = size
        .and_then(|size| size.parse().ok())
        .ok_or_else(|| protocol(STEP, "no size"))?;
    let body = Body::new(0, BEGINNING_BYTES, BEGINNING_BYTES);
    let command = format!("TOP {count} 0");
    let body = match session.mail(&command, BEGINNING_BYTES, body).await? {
        Given::Whole(body) | Given::Overrun(body) => body,
        Given::Refused(reply) if reply.code.is_none() => {
            return Ok(format!(
                "newest mail: {size} bytes; the server has no TOP, so mails over the size limit cost a session each"
            ));
        }
        Given::Refused(reply) => return Err(reply.refusal(STEP)),
    };
    let mail = parse(&body.bytes.into(), &ParseLimits::default(), &[]);
    let subject: String = harmless_chars(&mail.subject).take(SUBJECT_CHARS).collect();
    Ok(format!("newest mail: {size} bytes, \"{subject}\""))
}
