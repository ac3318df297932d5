//! One mail over an open session (RFC 5321 section 3.3).
//!
//! Each failure is identified by its step: before the text was complete, the mail was certainly not accepted; after that, nobody
//! can tell. DATA is sent only once a recipient is accepted, even to a server that offers PIPELINING, so that no text is ever
//! sent that reaches nobody.

use std::borrow::Cow;
use std::iter;

use crate::mail::ComposedMail;
use crate::smtp::draft::Draft;
use crate::smtp::error::{ACCESS_CODES, SendError, SmtpStep};
use crate::smtp::line::Written;
use crate::smtp::session::{Session, within};
use crate::smtp::{RefusedRecipient, SmtpReceipt};

/// The size of the pieces in which a mail's text is written.
const CHUNK_BYTES: usize = 16 * 1024;
/// The end of a mail's text (RFC 5321 section 4.1.1.4). Its first line end is the last one of the text.
const TEXT_END: &[u8] = b"\r\n.\r\n";
/// At RCPT, this means too many recipients (RFC 5321 section 4.5.3.1.10): the rest go in another transaction.
const TOO_MANY_RECIPIENTS: u16 = 552;
/// The server ends the session (RFC 5321 section 3.8).
pub(crate) const SHUTTING_DOWN: u16 = 421;
/// The number of commands sent together to a server that offers PIPELINING. They and their replies fit into the buffers in
/// between, so that neither side waits for the other to read (RFC 2920 section 3.1).
const PIPELINED_COMMANDS: usize = 32;

pub(crate) async fn submit(
    session: &mut Session,
    draft: Draft<'_>,
) -> Result<SmtpReceipt, SendError> {
    let wire = draft.write(session.offers.smtp_utf8)?;
    let mail = wire.composed;
    let sender = (SmtpStep::Sender, mail_from(session, &mail)?);
    let recipients = mail.to.iter().map(|recipient| {
        let command = format!("RCPT TO:<{}>", recipient.envelope);
        (SmtpStep::Recipient, command)
    });
    let commands: Vec<_> = iter::once(sender).chain(recipients).collect();
    let given = iter::once(None).chain(mail.to.iter().map(Some));
    let mut given = given.collect::<Vec<_>>().into_iter();

    let (mut refused, mut deferred) = (wire.refused, Vec::new());
    let mut accepted = 0_usize;
    let at_once = match session.offers.pipelining {
        true => PIPELINED_COMMANDS,
        false => 1,
    };
    for commands in commands.chunks(at_once) {
        let replies = session.commands(commands).await?;
        for (reply, recipient) in replies.iter().zip(&mut given) {
            let Some(recipient) = recipient else {
                session.positive(SmtpStep::Sender, reply)?;
                continue;
            };
            let of_this_one = || RefusedRecipient {
                address: recipient.given.clone(),
                code: reply.code,
                text: session.words(reply),
            };
            match reply.code {
                200..300 => accepted += 1,
                SHUTTING_DOWN => return Err(session.refusal(SmtpStep::Recipient, reply)),
                TOO_MANY_RECIPIENTS => deferred.push(of_this_one()),
                code if ACCESS_CODES.contains(&code) => deferred.push(of_this_one()),
                500.. => refused.push(of_this_one()),
                _ => deferred.push(of_this_one()),
            }
        }
        if replies.len() < commands.len() {
            return Err(SendError::Transient {
                step: SmtpStep::Recipient,
                code: None,
                problem: "the server ended the session".into(),
            });
        }
    }
    if accepted == 0 {
        return Err(nobody(&refused, &deferred));
    }

    let reply = session.command(SmtpStep::Data, "DATA").await?;
    if reply.code != 354 {
        return Err(session.refusal(SmtpStep::Data, &reply));
    }
    session.in_text = true;
    let mut whole = false;
    let reply = match text(session, &mail.bytes, &mut whole).await {
        Err(error @ (SendError::Timeout { .. } | SendError::Transient { code: None, .. }))
            if whole =>
        {
            return Err(SendError::Lost {
                problem: error.to_string(),
            });
        }
        reply => reply?,
    };
    session.positive(SmtpStep::Text, &reply)?;
    Ok(SmtpReceipt {
        code: reply.code,
        text: session.words(&reply),
        refused,
        deferred,
    })
}

/// Sends the text and reads the reply to it.
async fn text(
    session: &mut Session,
    bytes: &[u8],
    whole: &mut bool,
) -> Result<crate::smtp::reply::Reply, SendError> {
    let stall = session.timeouts.stall;
    match session
        .line
        .write_text(stuffed(bytes), stall, whole)
        .await?
    {
        Written::Whole => {
            let answer = session.line.reply(SmtpStep::Text);
            let reply = within(SmtpStep::Text, session.timeouts.answer, answer).await?;
            session.in_text = false;
            Ok(reply)
        }
        Written::Answered(reply) if reply.code < 400 => Err(SendError::Transient {
            step: SmtpStep::Text,
            code: None,
            problem: format!(
                "the server answered {} before the end of the text",
                reply.code
            ),
        }),
        Written::Answered(reply) => Ok(reply),
    }
}

/// Returns MAIL FROM with the parameters that the mail needs.
fn mail_from(session: &Session, mail: &ComposedMail) -> Result<String, SendError> {
    let offers = &session.offers;
    let size = mail.bytes.len() as u64 + 2;
    if let Some(max) = offers.size_max
        && size > max
    {
        return Err(SendError::Permanent {
            step: SmtpStep::Sender,
            code: None,
            problem: format!("the mail has {size} bytes, and the server takes at most {max}"),
        });
    }
    let mut command = format!("MAIL FROM:<{}>", mail.from);
    if offers.size {
        command.push_str(&format!(" SIZE={size}"));
    }
    if offers.eight_bit_mime && !mail.bytes.is_ascii() {
        command.push_str(" BODY=8BITMIME");
    }
    if mail.is_international {
        command.push_str(" SMTPUTF8");
    }
    Ok(command)
}

/// Returns the error for a mail without accepted recipients. It is permanent only if each one was refused permanently.
fn nobody(refused: &[RefusedRecipient], deferred: &[RefusedRecipient]) -> SendError {
    let problem = |one: &RefusedRecipient| format!("{}: {}", one.address, one.text);
    match (deferred.first(), refused.first()) {
        (None, Some(first)) => SendError::Permanent {
            step: SmtpStep::Recipient,
            code: Some(first.code),
            problem: problem(first),
        },
        (first, _) => SendError::Transient {
            step: SmtpStep::Recipient,
            code: first.map(|first| first.code),
            problem: first.map(problem).unwrap_or_default(),
        },
    }
}

/// Returns the text in pieces, with each dot at the start of a line doubled (RFC 5321 section 4.5.2), followed by its end.
fn stuffed(bytes: &[u8]) -> impl Iterator<Item = Cow<'_, [u8]>> {
    let mut before = b'\n';
    let chunks = bytes.chunks(CHUNK_BYTES).map(move |chunk| {
        let mut stuffed = Vec::new();
        let mut copied = 0;
        for (at, byte) in chunk.iter().enumerate() {
            if *byte == b'.' && before == b'\n' {
                stuffed.extend_from_slice(&chunk[copied..at]);
                stuffed.push(b'.');
                copied = at;
            }
            before = *byte;
        }
        if copied == 0 && stuffed.is_empty() {
            return Cow::Borrowed(chunk);
        }
        stuffed.extend_from_slice(&chunk[copied..]);
        Cow::Owned(stuffed)
    });
    chunks.chain(iter::once(Cow::Borrowed(TEXT_END)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_at_the_beginning_of_a_line_is_doubled() {
        let whole = |text: &[u8]| stuffed(text).collect::<Vec<_>>().concat();
        for (text, sent) in [
            ("a", "a\r\n.\r\n"),
            (".", "..\r\n.\r\n"),
            ("a\r\n.\r\n..b\r\n.", "a\r\n..\r\n...b\r\n..\r\n.\r\n"),
            ("a.b\r\nc.", "a.b\r\nc.\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8_lossy(&whole(text.as_bytes())), sent);
        }
        // The boundary between two pieces.
        for before in CHUNK_BYTES - 3..CHUNK_BYTES + 3 {
            let mut text = vec![b'x'; before];
            text.extend(b"\r\n.y");
            let mut sent = vec![b'x'; before];
            sent.extend(b"\r\n..y\r\n.\r\n");
            assert!(whole(&text) == sent, "{before}");
        }
    }
}
