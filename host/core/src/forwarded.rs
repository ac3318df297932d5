//! Reads the mail inside a forwarded one: attached, or inline below a header block.

use crate::message::{Address, Authentication, Classification, Header, Message};
use crate::parse::{ParseLimits, addresses_of, attached_mail, synthetic_message_id};
use crate::raw::ContentHash;
use crate::reply::labels::{Block, Role, block};
use crate::reply::phrases::{between_dashes, is_forward_line, is_original};
use crate::reply::{
    Lines, new_words,
    people::People,
    prefix::{Prefix, prefix},
};

/// The most bytes of a forwarded mail's values, such as its list of recipients.
const VALUE_BYTES: usize = 8 * 1024;

/// Returns the mail that a mail forwards, or `None` if it forwards none. Of several attached mails none is the forwarded one.
///
/// An attached mail is parsed with `limits`. Of an inline one, the sender, the recipients, the subject and the text are read from
/// the text; `headers` has the labelled values as written, `date` is set only if it states its time zone, and the attachments are
/// those of the outer mail. Neither says anything about who really sent it: `authentication` has no verdicts.
pub fn forwarded(message: &Message, limits: &ParseLimits) -> Option<Message> {
    if matches!(message.classification, Classification::Bounce) {
        return None;
    }
    let mut attached = message.attachments.iter().filter(|it| it.is_mail());
    match (attached.next(), attached.next()) {
        (Some(mail), None) => attached_mail(mail, limits),
        (Some(_), Some(_)) => None,
        _ => inline(message),
    }
}

fn inline(message: &Message) -> Option<Message> {
    let people = People::of(message);
    let sort = prefix(&message.subject);
    let is_reply =
        sort == Prefix::Reply || sort != Prefix::Forward && !message.references.is_empty();
    // In a reply, the history may hold an older forward.
    let text = if is_reply {
        &message.reply
    } else {
        &message.text
    };
    let (text, is_quoted) = match quoted_forward(text) {
        Some(text) => (text, true),
        None => (text.clone(), false),
    };
    let lines = Lines::of(&text);
    let found = find(&lines, &people, sort, is_reply && !is_quoted)?;
    let mut from = found.after;
    while from < lines.len() && lines.get(from).is_empty() {
        from += 1;
    }
    let body = lines.text_from(from).to_owned();
    Some(original(&found, body, message))
}

/// Returns the text from the line that announces a forward on, without quote marks, if Apple's mailers set them.
fn quoted_forward(text: &str) -> Option<String> {
    let lines = Lines::of(text);
    let marks = ['>', ' '];
    let at = (0..lines.len()).find(|at| {
        lines.is_quoted(*at) && is_forward_line(lines.get(*at).trim_start_matches(marks))
    })?;
    let mut out = String::with_capacity(text.len());
    for at in at..lines.len() {
        let line = lines.raw(at).trim_start();
        let line = line.strip_prefix('>').unwrap_or(line);
        out.push_str(line.strip_prefix(' ').unwrap_or(line));
        out.push('\n');
    }
    Some(out)
}

/// Finds the header block of the forwarded mail: below the line that announces it, or the first one of a mail that is no reply.
fn find(
    lines: &Lines<'_>,
    people: &People<'_>,
    sort: Prefix,
    announced_only: bool,
) -> Option<Block> {
    let readable = |found: &Block| found.first(Role::From).is_some() || found.is_certain();
    for at in 0..lines.len() {
        let line = lines.get(at);
        if line.is_empty() || line.starts_with('>') {
            continue;
        }
        let next = || lines.next_full(at + 1).filter(|next| *next <= at + 3);
        if is_forward_line(line) {
            let below = next().and_then(|next| block(lines, next, true, people));
            if let Some(found) = below.filter(readable) {
                return Some(found);
            }
            continue;
        }
        if announced_only {
            continue;
        }
        let original = is_original(line) || between_dashes(line).is_some_and(is_original);
        let found = match (original, sort) {
            (true, _) => next().and_then(|next| block(lines, next, true, people)),
            (false, Prefix::Forward | Prefix::Vs) => block(lines, at, false, people),
            (false, _) => None,
        };
        if let Some(found) = found.filter(Block::is_certain) {
            return Some(found);
        }
    }
    None
}

fn original(found: &Block, text: String, outer: &Message) -> Message {
    let addresses = |role: Role| -> Vec<Address> {
        found
            .first(role)
            .map_or_else(Vec::new, |entry| addresses_in(&entry.value))
    };
    let value = |role: Role| found.first(role).map(|entry| entry.value.clone());
    let mut from = addresses(Role::From).into_iter().next();
    if from.is_none() && found.first(Role::From).is_none() {
        // In a language without listed labels, the first value with an address is the sender's.
        let mut values = found.entries.iter().filter(|it| it.value.contains('@'));
        from = values
            .next()
            .and_then(|it| addresses_in(&it.value).into_iter().next());
    }
    let names = [
        ("From", Role::From),
        ("Date", Role::Date),
        ("To", Role::To),
        ("Cc", Role::Cc),
        ("Subject", Role::Subject),
    ];
    let headers = names.iter().filter_map(|(name, role)| {
        Some(Header {
            name: (*name).to_owned(),
            value: value(*role)?,
        })
    });
    let date = value(Role::Date).and_then(|date| crate::parse::date_of(&date));
    let mut mail = Message {
        subject: value(Role::Subject).unwrap_or_default(),
        from,
        to: addresses(Role::To),
        cc: addresses(Role::Cc),
        reply_to: Vec::new(),
        date,
        message_id: synthetic_message_id(&ContentHash::of(text.as_bytes()), None),
        references: Vec::new(),
        html: None,
        reply: String::new(),
        headers: headers.collect(),
        attachments: outer.attachments.clone(),
        classification: Classification::Person,
        classification_reason: "forwarded inside another mail".to_owned(),
        challenge: false,
        delivery: None,
        calendar: None,
        null_sender: false,
        authentication: Authentication::UNKNOWN,
        is_authenticated: false,
        repairs: Vec::new(),
        over_limit: None,
        text,
    };
    mail.reply = new_words(&mail);
    mail
}

/// Returns the addresses of a value. Outlook writes names alone: these are left out.
fn addresses_in(value: &str) -> Vec<Address> {
    let value = plain(value);
    let written = value.split(';').filter(|it| it.contains('@'));
    written.flat_map(addresses_of).collect()
}

/// Returns a list of addresses as RFC 5322 writes it: Outlook has `Name [mailto:a@b.example]` and semicolons, web mail adds
/// `<mailto:…>`.
fn plain(value: &str) -> String {
    let mut end = value.len().min(VALUE_BYTES);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let mut out = value[..end]
        .replace("<mailto:", "\u{0}")
        .replace("[mailto:", "<");
    while let Some(at) = out.find('\u{0}') {
        let end = out[at..].find('>').map_or(out.len(), |end| at + end + 1);
        let only = !out[..at].contains('@');
        match only {
            true => out.replace_range(at..=at, "<"),
            false => out.replace_range(at..end, ""),
        }
    }
    out.replace(']', ">").replace(">>", ">")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::forwarded;
    use crate::message::Message;
    use crate::parse::{ParseLimits, parse};

    fn read(mail: &str) -> Message {
        parse(&Bytes::from(mail.to_owned()), &ParseLimits::default(), &[])
    }

    fn attached(mails: usize, headers: &str) -> Option<Message> {
        let part = "--x\nContent-Type: message/rfc822\n\nFrom: Oda Brandt <oda.brandt@hamar.example>\nTo: \
                    nora.weiss@quill.example\nSubject: Licence\nMessage-ID: <7@hamar.example>\n\nIt ends.\n";
        let outer = read(&format!(
            "From: nora.weiss@quill.example\nTo: help@larch.example\nSubject: Please look\n{headers}\
             Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/plain\n\nSee below.\n{}--x--\n",
            part.repeat(mails)
        ));
        forwarded(&outer, &ParseLimits::default())
    }

    #[test]
    fn an_attached_mail_is_the_forwarded_one_if_it_is_the_only_one() {
        let inner = attached(1, "").expect("the attached mail");
        let from = inner.from.as_ref().map(ToString::to_string);
        assert_eq!(
            from.as_deref(),
            Some("Oda Brandt <oda.brandt@hamar.example>")
        );
        assert_eq!(inner.message_id, "7@hamar.example");
        assert_eq!(inner.text.trim(), "It ends.");
        assert!(attached(2, "").is_none());
        // A bounce returns the mail that it reports about.
        assert!(attached(1, "Return-Path: <>\nX-Failed-Recipients: a@b.example\n").is_none());
    }

    #[test]
    fn an_inline_mail_keeps_its_attachments_and_a_date_only_with_a_zone() {
        let outer = |date: &str| {
            read(&format!(
                "From: nora.weiss@quill.example\nSubject: Fwd: Licence\nContent-Type: multipart/mixed; boundary=x\n\n\
                 --x\n\n---------- Forwarded message ---------\nFrom: Oda Brandt <oda.brandt@hamar.example>\n\
                 Date: {date}\nSubject: Licence\nTo: <nora.weiss@quill.example>\n\nIt ends.\n\
                 --x\nContent-Type: application/pdf\nContent-Disposition: attachment; filename=a.pdf\n\nx\n--x--\n"
            ))
        };
        for (date, expected) in [
            (
                "Mon, 11 Mar 2024 09:02:11 +0100",
                Some("2024-03-11T09:02:11+01:00"),
            ),
            ("Mon, Mar 11, 2024 at 9:02 AM", None),
        ] {
            let inner = forwarded(&outer(date), &ParseLimits::default()).expect("a forward");
            assert_eq!(inner.date.as_deref(), expected);
            assert_eq!(inner.headers("Date").next(), Some(date));
            assert_eq!(inner.attachments.len(), 1);
            assert_eq!(inner.reply, "It ends.");
            assert!(inner.message_id.ends_with(".invalid"));
        }
    }
}
