//! The readers: Postroom's parser and the mail-parser crate in this process, Python's email and npm's mailparser as child
//! processes that read a path per line and write a reading per line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use mail_parser::{Address, HeaderValue, MessageParser, MimeHeaders as _, PartType};
use postroom_core::{Message, ParseLimits};

use crate::mails::Mail;
use crate::reading::{Mailbox, Part, Reading, hash};

/// A Message-ID that Postroom gives a mail without one.
const SYNTHETIC: &str = "@synthetic.postroom.invalid";

/// Parses a mail as a mailbox without trusted boundaries does.
pub fn parse(mail: &Mail) -> Message {
    postroom_core::parse(&mail.bytes, &ParseLimits::default(), &[])
}

/// Returns Postroom's reading.
pub fn postroom(message: &Message) -> Reading {
    let mailboxes = |list: &[postroom_core::Address]| {
        let mailbox = |address: &postroom_core::Address| Mailbox {
            name: address.name.clone().unwrap_or_default(),
            email: address.email.clone(),
        };
        Some(list.iter().map(mailbox).collect())
    };
    let id = message.message_id.as_str();
    let attachment = |attachment: &postroom_core::Attachment| Part {
        name: attachment.name.clone(),
        content_type: attachment.content_type.clone(),
        size: Some(attachment.bytes.len()),
        hash: Some(hash(&attachment.content_type, &attachment.bytes)),
    };
    let date = message.date.as_deref().and_then(|date| date.parse().ok());
    Reading {
        error: None,
        subject: Some(message.subject.clone()),
        from: mailboxes(message.from.as_slice()),
        to: mailboxes(&message.to),
        cc: mailboxes(&message.cc),
        reply_to: mailboxes(&message.reply_to),
        date: Some(date.map_or(0, |date: jiff::Timestamp| date.as_second())),
        message_id: Some(if id.ends_with(SYNTHETIC) { "" } else { id }.to_owned()),
        in_reply_to: Some(message.references.clone()),
        references: Some(Vec::new()),
        text: Some(message.text.clone()),
        html: Some(message.html.clone().unwrap_or_default()),
        attachments: Some(message.attachments.iter().map(attachment).collect()),
    }
}

/// Returns the reading of the mail-parser crate.
pub fn mail_parser(mail: &Mail) -> Reading {
    let read = || {
        MessageParser::default()
            .parse(&mail.bytes[..])
            .map(|m| crate_reading(&m))
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Some(reading)) => reading,
        Ok(None) => failure("it found no headers"),
        Err(_) => failure("it panicked"),
    }
}

fn failure(why: &str) -> Reading {
    Reading {
        error: Some(why.to_owned()),
        ..Reading::default()
    }
}

fn crate_reading(message: &mail_parser::Message<'_>) -> Reading {
    // A text body may list HTML parts, and the other way round, for readers that want one or the other.
    let texts = |ids: &[u32], html: bool| {
        let parts = ids.iter().filter_map(|&id| message.parts.get(id as usize));
        let text = parts.filter_map(|part| match &part.body {
            PartType::Text(text) if !html => Some(text.as_ref()),
            PartType::Html(text) if html => Some(text.as_ref()),
            _ => None,
        });
        Some(text.collect::<Vec<_>>().join("\n"))
    };
    let date = message.date().filter(|date| date.is_valid());
    Reading {
        error: None,
        subject: Some(message.subject().unwrap_or("").to_owned()),
        from: Some(mailboxes(message.from())),
        to: Some(mailboxes(message.to())),
        cc: Some(mailboxes(message.cc())),
        reply_to: Some(mailboxes(message.reply_to())),
        date: Some(date.map_or(0, mail_parser::DateTime::to_timestamp)),
        message_id: Some(message.message_id().unwrap_or("").to_owned()),
        in_reply_to: Some(ids(message.in_reply_to())),
        references: Some(ids(message.references())),
        text: texts(&message.text_body, false),
        html: texts(&message.html_body, true),
        attachments: Some(message.attachments().map(part).collect()),
    }
}

fn mailboxes(field: Option<&Address<'_>>) -> Vec<Mailbox> {
    let all = field.into_iter().flat_map(Address::iter);
    all.filter_map(|address| {
        Some(Mailbox {
            name: address.name().unwrap_or("").to_owned(),
            email: address.address()?.to_owned(),
        })
    })
    .collect()
}

fn ids(value: &HeaderValue<'_>) -> Vec<String> {
    match value {
        HeaderValue::Text(id) => vec![id.to_string()],
        HeaderValue::TextList(ids) => ids.iter().map(ToString::to_string).collect(),
        _ => Vec::new(),
    }
}

fn part(part: &mail_parser::MessagePart<'_>) -> Part {
    let content_type = part.content_type().map_or_else(String::new, |field| {
        format!("{}/{}", field.ctype(), field.subtype().unwrap_or("")).to_ascii_lowercase()
    });
    let binary = match &part.body {
        PartType::Binary(content) | PartType::InlineBinary(content) => Some(content.as_ref()),
        // Text is decoded to UTF-8, so its bytes are not those of the attachment.
        _ => None,
    };
    Part {
        name: part.attachment_name().unwrap_or("").to_owned(),
        size: binary.map(<[u8]>::len),
        hash: binary.map(|content| hash(&content_type, content)),
        content_type,
    }
}

/// Returns the readings of a child process, one for each mail.
pub fn child(program: &str, script: &Path, mails: &[Mail]) -> Result<Vec<Reading>> {
    let mut child = Command::new(program)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{program} cannot be started"))?;
    let mut stdin = child.stdin.take().context("stdin")?;
    let stdout = BufReader::new(child.stdout.take().context("stdout")?);
    let readings = std::thread::scope(|scope| {
        // A child that dies closes the pipe: it then has written fewer readings, which is noticed below.
        scope.spawn(move || {
            for mail in mails {
                if writeln!(stdin, "{}", mail.path.display()).is_err() {
                    break;
                }
            }
        });
        let mut readings: Vec<Reading> = Vec::new();
        for line in stdout.lines() {
            readings.push(serde_json::from_str(&line?)?);
        }
        Ok::<_, anyhow::Error>(readings)
    });
    let status = child.wait()?;
    let readings = readings.with_context(|| script.display().to_string())?;
    if !status.success() || readings.len() != mails.len() {
        let at = mails.get(readings.len()).map_or("the end", |m| &m.name);
        bail!("{} stopped at {at}: {status}", script.display());
    }
    Ok(readings)
}
