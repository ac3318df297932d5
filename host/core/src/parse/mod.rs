//! Parses a mail's bytes into a [`Message`]: total, linear, within named limits, with every repair noted.

mod address;
mod attached;
mod authentication;
mod calendar;
mod charset;
mod content;
mod decode;
mod enriched;
mod flowed;
mod headers;
mod html;
mod ids;
mod mapi;
mod mime;
mod outlook_msg;
mod params;
mod repairs;
mod rtf;
mod smime;
mod structure;
mod tnef;
mod uuencode;
mod words;
mod zones;

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use mail_parser::DateTime;
use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};

use crate::classify;
use crate::message::{Address, Classification, Header, Message};
use crate::raw::ContentHash;
use crate::reply;
pub use attached::attached_mail;
pub(crate) use attached::is_mail;
use authentication::Boundary;
pub use authentication::NO_AUTHSERV_ID;
use headers::{Field, Fields};
pub(crate) use ids::message_ids;
use mime::Head;
pub use repairs::MAX_REPAIRS;
use repairs::Repairs;
use structure::Structure;
pub(crate) use zones::iana_zone;

/// The suffix of a Message-ID that replaces a missing one. No external mail refers to it.
pub(crate) const SYNTHETIC: &str = "@synthetic.postroom.invalid";

/// How much of a mail is read. Anything over a limit is left out or cut, and noted as a repair.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ParseLimits {
    /// Bytes of the top header section whose fields are kept.
    pub header_bytes: usize,
    /// Bytes of one header's value.
    pub header_value_bytes: usize,
    /// Header fields kept.
    pub headers: usize,
    /// Addresses in each of To, Cc and Reply-To.
    pub addresses: usize,
    /// Message-IDs kept of In-Reply-To and References together.
    pub references: usize,
    /// MIME parts read, multiparts included.
    pub parts: usize,
    /// Nesting depth of multiparts.
    pub depth: usize,
    /// Bytes of decoded text; rules see no more.
    pub text_bytes: usize,
    /// Bytes of decoded HTML.
    pub html_bytes: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        Self {
            header_bytes: 256 * 1024,
            header_value_bytes: 32 * 1024,
            headers: 1000,
            addresses: 500,
            references: 100,
            parts: 1000,
            depth: 32,
            text_bytes: 1024 * 1024,
            html_bytes: 2 * 1024 * 1024,
        }
    }
}

/// Parses a mail. `trusted_boundaries` are the authserv-ids (RFC 8601) whose Authentication-Results are believed.
pub fn parse(raw: &Bytes, limits: &ParseLimits, trusted_boundaries: &[String]) -> Message {
    let mut repairs = Repairs::default();
    let raw = &match with_newlines(raw) {
        Cow::Borrowed(_) => raw.clone(),
        Cow::Owned(fixed) => {
            repairs.note("a bare CR was read as a line end");
            Bytes::from(fixed)
        }
    };
    if raw.is_empty() {
        repairs.note("the mail is empty");
    }
    let mut top = Top::default();
    let mut boundary = Boundary::new(trusted_boundaries);
    let body = top.read(raw, limits, &mut boundary, &mut repairs);
    let head = std::mem::take(&mut top.head);
    let structure = structure::split(raw, body, head, limits, &mut repairs);
    assemble(top, &boundary, structure, raw, limits, repairs)
}

/// Makes the mail of its headers and its parts. `raw` names it, if its headers do not.
fn assemble(
    mut top: Top,
    boundary: &Boundary<'_>,
    structure: Structure,
    raw: &[u8],
    limits: &ParseLimits,
    mut repairs: Repairs,
) -> Message {
    let content = content::read(structure, limits, &mut repairs);
    if top.from.is_none() {
        top.from = top.sender.take();
        repairs.note(match &top.from {
            Some(_) => "no address could be read from From: the one of Sender is used",
            None => "no address could be read from From",
        });
    }
    let message_id = top.message_id.take().unwrap_or_else(|| {
        repairs.note("no Message-ID: a synthetic one is used");
        synthetic_message_id(&ContentHash::of(raw), None)
    });
    let subject = header(&top.headers, "Subject").unwrap_or("").to_owned();
    let references = top.references(limits.references);
    let is_summary = content.is_summary;
    let mut message = Message {
        authentication: boundary.said(),
        is_authenticated: boundary.is_configured(),
        reply: String::new(),
        date: top.date.take(),
        references,
        from: top.from,
        to: top.to,
        cc: top.cc,
        reply_to: top.reply_to,
        message_id,
        subject,
        text: content.text,
        html: content.html,
        headers: top.headers,
        attachments: content.attachments,
        classification: Classification::Person,
        classification_reason: String::new(),
        challenge: false,
        delivery: None,
        calendar: content.calendar,
        null_sender: false,
        repairs: repairs.into_vec(),
        over_limit: content.over_limit,
    };
    // The summary of a calendar is nobody's words, so that it is the reply only once the mail is judged.
    if !is_summary {
        message.reply = reply::new_words(&message);
    }
    classify::judge(&mut message);
    if is_summary {
        message.reply = message.text.trim().to_owned();
    }
    message
}

/// Returns the Message-ID that [`parse`] would return, read from the headers alone; `None` if the mail has none and `parse`
/// would make a synthetic one.
pub fn message_id(raw: &[u8]) -> Option<String> {
    let raw = with_newlines(raw);
    let start = headers::start(&raw, &mut Repairs::default());
    Fields::of_mail(&raw, start)
        .filter(|field| field.is("Message-ID"))
        .find_map(|field| ids::own_message_id(field.value))
}

/// Returns the times at which a mail claims to have been sent (Date) and to have arrived (its topmost Received), in
/// milliseconds since 1970 in UTC, read from the headers alone. A time that is missing or unreadable is left out.
pub fn stated_times_ms(raw: &[u8]) -> Vec<i64> {
    let (sent, arrived) = sent_and_arrived_ms(raw);
    sent.into_iter().chain(arrived).collect()
}

/// When a mail arrived by its topmost Received, or else by its Date; like [`stated_times_ms`].
pub fn arrived_ms(raw: &[u8]) -> Option<i64> {
    let (sent, arrived) = sent_and_arrived_ms(raw);
    arrived.or(sent)
}

fn sent_and_arrived_ms(raw: &[u8]) -> (Option<i64>, Option<i64>) {
    let raw = with_newlines(raw);
    let start = headers::start(&raw, &mut Repairs::default());
    let (mut sent, mut arrived) = (None, None);
    for field in Fields::of_mail(&raw, start) {
        if sent.is_none() && field.is("Date") {
            sent = date(field.value);
        } else if arrived.is_none() && field.is("Received") {
            arrived = trailing_date(field.value);
        }
        if sent.is_some() && arrived.is_some() {
            break;
        }
    }
    let ms = |date: Option<String>| {
        let time: jiff::Timestamp = date?.parse().ok()?;
        Some(time.as_millisecond())
    };
    (ms(sent), ms(arrived))
}

/// Returns the synthetic Message-ID of a mail without one, from the hash of its bytes and, if its source has one, from the
/// identity of its file: an alarm that comes again byte for byte in another file is another mail.
pub fn synthetic_message_id(hash: &ContentHash, file: Option<&str>) -> String {
    let mut id = match file {
        Some(file) => ContentHash::of(format!("{}\0{file}", hash.hex()).as_bytes()).hex(),
        None => hash.hex(),
    };
    id.truncate(32);
    id.push_str(SYNTHETIC);
    id
}

/// The contents of the top header section.
#[derive(Default)]
struct Top {
    head: Head,
    headers: Vec<Header>,
    message_id: Option<String>,
    from: Option<Address>,
    /// The address of Sender, used only if From has none.
    sender: Option<Address>,
    to: Vec<Address>,
    cc: Vec<Address>,
    reply_to: Vec<Address>,
    date: Option<String>,
    in_reply_to: Vec<String>,
    /// As written, oldest first.
    references: Vec<String>,
}

impl Top {
    /// Returns where the body begins.
    fn read(
        &mut self,
        raw: &[u8],
        limits: &ParseLimits,
        boundary: &mut Boundary<'_>,
        repairs: &mut Repairs,
    ) -> usize {
        let start = headers::start(raw, repairs);
        repairs.header_charset = headers::raw_charset(raw, start, repairs);
        let mut fields = Fields::of_mail(raw, start);
        for mut field in fields.by_ref() {
            if self.message_id.is_none() && field.is("Message-ID") {
                self.message_id = ids::own_message_id(field.value);
            }
            self.head.read(&field, repairs);
            if field.at - start > limits.header_bytes || self.headers.len() >= limits.headers {
                repairs.note("headers over the limit were left out");
                continue;
            }
            if field.value.len() > limits.header_value_bytes {
                repairs.note("an overlong header was cut");
                field.value = &field.value[..limits.header_value_bytes];
            }
            boundary.note(&field);
            self.structured(&field, limits, repairs);
            self.headers.push(Header {
                name: field.name.to_owned(),
                value: headers::decoded(field.value, repairs),
            });
        }
        if fields.junk {
            repairs.note("lines among the headers that are not headers were skipped");
        }
        if self.headers.is_empty() && !raw.is_empty() {
            repairs.note("no headers were found: the whole mail is text");
        } else if fields.open_end {
            repairs.note(
                "no blank line after the headers: the text begins at the first line that is not a header",
            );
        }
        fields.at
    }

    fn structured(&mut self, field: &Field<'_>, limits: &ParseLimits, repairs: &mut Repairs) {
        let most = limits.addresses;
        match field.name.len() {
            2 if field.is("To") => extend(&mut self.to, field, most, repairs),
            2 if field.is("Cc") => extend(&mut self.cc, field, most, repairs),
            4 if field.is("From") => {
                let first = address::addresses(field.value, most, repairs)
                    .into_iter()
                    .next();
                match (&self.from, &first) {
                    (None, _) => self.from = first,
                    (Some(from), Some(other)) if from.email != other.email => {
                        repairs.note("From is given twice: the first is used");
                    }
                    _ => {}
                }
            }
            6 if field.is("Sender") && self.sender.is_none() => {
                self.sender = address::addresses(field.value, most, repairs)
                    .into_iter()
                    .next();
            }
            4 if field.is("Date") && self.date.is_none() => {
                self.date = date(field.value);
                if self.date.is_none() {
                    repairs.note("the Date could not be read");
                }
            }
            8 if field.is("Reply-To") => extend(&mut self.reply_to, field, most, repairs),
            10 if field.is("References") => self.references.extend(message_ids(field.value)),
            11 if field.is("In-Reply-To") => self.in_reply_to.extend(message_ids(field.value)),
            _ => {}
        }
    }

    fn references(&mut self, most: usize) -> Vec<String> {
        let mut seen = HashSet::new();
        let newest_first = std::mem::take(&mut self.references).into_iter().rev();
        std::mem::take(&mut self.in_reply_to)
            .into_iter()
            .chain(newest_first)
            .filter(|id| seen.insert(id.clone()))
            .take(most)
            .collect()
    }
}

/// Returns the text of a page, which replaces a missing text part.
pub(crate) fn text_of_html(html: &str, most: usize) -> String {
    html::to_text(html, most)
}

/// Decodes the first `most` bytes of an attachment like a text part of this charset, and returns at most `most` bytes of
/// text. Line ends stay unchanged.
pub fn text_of(bytes: &[u8], charset: Option<&str>, most: usize) -> String {
    let head = &bytes[..bytes.len().min(most)];
    let was_cut = head.len() < bytes.len();
    let mut text = decode::text(
        Cow::Borrowed(head),
        charset,
        was_cut,
        &mut Repairs::default(),
    );
    decode::cut(&mut text, most);
    text
}

/// Returns whether the text of a mail is the summary of its calendar.
pub(crate) fn is_calendar_summary(mail: &Message) -> bool {
    let most = ParseLimits::default().addresses;
    mail.calendar.is_some()
        && mail.html.is_none()
        && mail.attachments.iter().any(|part| {
            let text = text_of(
                &part.bytes,
                part.charset.as_deref(),
                calendar::CALENDAR_BYTES,
            );
            calendar::read(&text, most).is_some_and(|event| event.summary() == mail.text)
        })
}

/// Returns the addresses of a header that is not part of a [`Message`].
pub(crate) fn addresses_of(value: &str) -> Vec<Address> {
    address::addresses(
        value.as_bytes(),
        ParseLimits::default().addresses,
        &mut Repairs::default(),
    )
}

/// Returns the mail with `\n` in place of each bare `\r`, if its headers end with these.
fn with_newlines(raw: &[u8]) -> Cow<'_, [u8]> {
    const LONGEST_NAME: usize = 80;
    let Some(first) = memchr(b'\r', raw) else {
        return Cow::Borrowed(raw);
    };
    let is_field = |rest: &[u8]| {
        let name = rest.iter().take(LONGEST_NAME);
        let name = name.take_while(|b| b.is_ascii_alphanumeric() || **b == b'-');
        let length = name.count();
        length > 0 && rest.get(length) == Some(&b':')
    };
    match memchr(b'\n', raw) {
        Some(newline) if newline < first || !is_field(&raw[first + 1..]) => {
            return Cow::Borrowed(raw);
        }
        _ => {}
    }
    let mut out = raw.to_vec();
    for at in first..out.len() {
        if out[at] == b'\r' && out.get(at + 1) != Some(&b'\n') {
            out[at] = b'\n';
        }
    }
    Cow::Owned(out)
}

fn extend(list: &mut Vec<Address>, field: &Field<'_>, most: usize, repairs: &mut Repairs) {
    let left = most - list.len();
    list.extend(address::addresses(field.value, left, repairs));
}

/// Returns the time at the end of a Received header, as RFC 3339.
pub(crate) fn trailing_date(received: &[u8]) -> Option<String> {
    memrchr(b';', received).and_then(|at| date(&received[at + 1..]))
}

fn date(raw: &[u8]) -> Option<String> {
    const LONGEST_DATE: usize = 200;
    let text = String::from_utf8_lossy(&raw[..raw.len().min(LONGEST_DATE)]);
    let date = DateTime::parse_rfc822(&text)?;
    if !date.is_valid() {
        return None;
    }
    let text = date.to_rfc3339();
    text.parse::<jiff::Timestamp>().ok().map(|_| text)
}

/// Returns a date that a mailer wrote into a text as RFC 3339, if it is one of RFC 5322 with its time zone.
pub(crate) fn date_of(value: &str) -> Option<String> {
    let zoned = value.rsplit(' ').next()?.starts_with(['+', '-']) || value.ends_with("GMT");
    zoned.then(|| date(value.as_bytes()))?
}

fn header<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.as_str())
}
