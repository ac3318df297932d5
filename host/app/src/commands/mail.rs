//! `postroom mail show`: a recorded mail as rules read it, or as it was fetched.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use postroom_core::{Attachment, Message, ParseLimits, clean_html, counted, parse};
use postroom_store::JournalId;
use serde_json::json;

use crate::commands::listings::name_of;
use crate::commands::{decisions, open_listings, print};
use crate::output;

/// The part of the mail to print.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Its headers, text and attachments.
    Whole,
    Raw,
    Html,
    Text,
}

pub fn show(config: &Path, which: &str, form: Form, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let row = decisions::only(&*reader, which)?;
    let Some(raw) = reader.raw(JournalId(row.id.0))? else {
        bail!(
            "the bytes of mail {} are no longer kept; help: `postroom decisions show {}` has what was decided, and `keep_raw` sets how long mail is kept",
            row.id,
            row.id
        );
    };
    if form == Form::Raw {
        let mut out = std::io::stdout().lock();
        return match out.write_all(&raw).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(ExitCode::SUCCESS),
        };
    }
    let mail = parse(&raw, &ParseLimits::default(), &[]);
    match form {
        Form::Text => print(&mail.text)?,
        Form::Html => match &mail.html {
            Some(html) => print(clean_html(html))?,
            None => bail!("mail {} has no HTML; help: --text prints its text", row.id),
        },
        _ if json => println!("{}", output::json(&facts(&mail))?),
        _ => print(for_people(&mail))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn facts(mail: &Message) -> serde_json::Value {
    let attachment = |it: &Attachment| json!({ "name": it.name, "content_type": it.content_type, "size": it.bytes.len(), "inline": it.inline });
    json!({
        "from": mail.from,
        "to": mail.to,
        "cc": mail.cc,
        "reply_to": mail.reply_to,
        "date": mail.date,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "references": mail.references,
        "classification": mail.classification,
        "classification_reason": mail.classification_reason,
        "repairs": mail.repairs,
        "text": mail.text,
        "reply": mail.reply,
        "html": mail.html,
        "attachments": mail.attachments.iter().map(attachment).collect::<Vec<_>>(),
        "delivery": mail.delivery,
        "calendar": mail.calendar,
    })
}

fn for_people(mail: &Message) -> String {
    let list = |addresses: &[postroom_core::Address]| {
        let shown: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        shown.join(", ")
    };
    let mut lines = Vec::new();
    for (name, value) in [
        (
            "From",
            mail.from
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
        ),
        ("To", list(&mail.to)),
        ("Cc", list(&mail.cc)),
        ("Date", mail.date.clone().unwrap_or_default()),
        ("Subject", mail.subject.clone()),
        (
            "Kind",
            format!(
                "{}: {}",
                name_of(&mail.classification),
                mail.classification_reason
            ),
        ),
    ] {
        if !value.is_empty() {
            lines.push(format!("{name:<9}{value}"));
        }
    }
    lines.extend(
        mail.repairs
            .iter()
            .map(|repair| format!("Repaired {repair}")),
    );
    for it in &mail.attachments {
        let (name, size) = (&it.name, counted(it.bytes.len(), "byte"));
        let inline = if it.inline { ", inline" } else { "" };
        lines.push(format!(
            "Attached {name} ({}, {size}{inline})",
            it.content_type
        ));
    }
    lines.push(String::new());
    lines.push(mail.text.clone());
    lines.join("\n")
}
