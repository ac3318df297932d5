//! Parses a mail's bytes into a [`Message`]: total, linear, within named limits, with every repair noted.

mod address;
mod authentication;
mod decode;
mod headers;
mod html;
mod mime;
mod params;
mod repairs;

use std::borrow::Cow;
use std::collections::HashSet;

use bytes::Bytes;
use mail_parser::DateTime;
use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};

use crate::classify::classify;
use crate::harmless::is_hidden;
use crate::message::{Address, Attachment, Header, Message};
use crate::raw::ContentHash;
use crate::reply;
use authentication::Boundary;
pub use authentication::NO_AUTHSERV_ID;
use headers::{Field, Fields};
use mime::{Disposition, Head, Leaf};
pub use repairs::MAX_REPAIRS;
use repairs::Repairs;

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

/// How many attachments with several names are noted individually.
const AMBIGUOUS_NOTED: usize = 16;

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
    let (leaves, over_limit) = mime::leaves(
        raw,
        body,
        std::mem::take(&mut top.head),
        limits,
        &mut repairs,
    );
    let mut content = Content::new(limits);
    let sole = leaves.len() == 1;
    for leaf in leaves {
        content.add(raw, leaf, sole, &mut repairs);
    }
    let (text, html, attachments) = content.finish(&mut repairs);

    if top.from.is_none() {
        repairs.note("no address could be read from From");
    }
    let message_id = top.message_id.take().unwrap_or_else(|| {
        repairs.note("no Message-ID: a synthetic one is used");
        synthetic_message_id(&ContentHash::of(raw), None)
    });
    let (classification, null_sender) = classify(&top.headers, top.from.as_ref());
    let subject = header(&top.headers, "Subject").unwrap_or("").to_owned();
    let references = top.references(limits.references);
    let mut message = Message {
        authentication: boundary.said(),
        reply: String::new(),
        date: top.date.take(),
        references,
        from: top.from,
        to: top.to,
        cc: top.cc,
        reply_to: top.reply_to,
        message_id,
        subject,
        text,
        html,
        headers: top.headers,
        attachments,
        classification,
        classification_reason: String::new(),
        challenge: false,
        delivery: None,
        calendar: None,
        null_sender,
        repairs: repairs.into_vec(),
        over_limit,
    };
    message.reply = reply::new_words(&message);
    message
}

/// Returns the Message-ID that [`parse`] would return, read from the headers alone; `None` if the mail has none and `parse`
/// would make a synthetic one.
pub fn message_id(raw: &[u8]) -> Option<String> {
    let raw = with_newlines(raw);
    let start = headers::start(&raw, &mut Repairs::default());
    Fields::of_mail(&raw, start)
        .filter(|field| field.is("Message-ID"))
        .find_map(|field| own_message_id(&field))
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
            arrived = memrchr(b';', field.value).and_then(|at| date(&field.value[at + 1..]));
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
        let mut fields = Fields::of_mail(raw, start);
        for mut field in fields.by_ref() {
            if self.message_id.is_none() && field.is("Message-ID") {
                self.message_id = own_message_id(&field);
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
            4 if field.is("From") && self.from.is_none() => {
                self.from = address::addresses(field.value, most, repairs)
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
            10 if field.is("References") && self.references.is_empty() => {
                self.references = message_ids(field.value);
            }
            11 if field.is("In-Reply-To") && self.in_reply_to.is_empty() => {
                self.in_reply_to = message_ids(field.value);
            }
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

/// The text, HTML and attachments collected so far, part by part.
struct Content<'l> {
    limits: &'l ParseLimits,
    segments: Vec<Segment>,
    text_bytes: usize,
    html_bytes: usize,
    attachments: Vec<Attachment>,
    /// One sentence for each attachment that states several names.
    ambiguous: Vec<String>,
}

/// One piece of the body: a text part, an HTML part, or the two of one multipart/alternative.
#[derive(Default)]
struct Segment {
    alternative: Option<usize>,
    plain: String,
    html: String,
}

impl<'l> Content<'l> {
    fn new(limits: &'l ParseLimits) -> Self {
        Self {
            limits,
            segments: Vec::new(),
            text_bytes: 0,
            html_bytes: 0,
            attachments: Vec::new(),
            ambiguous: Vec::new(),
        }
    }

    /// Adds a part. `sole` means that the mail has no other part.
    fn add(&mut self, raw: &Bytes, leaf: Leaf, sole: bool, repairs: &mut Repairs) {
        let head = &leaf.head;
        let content_type = head.content_type();
        let is_html = content_type == "text/html";
        let is_text = leaf.unsplit
            || is_html
            || content_type == "text/plain"
            || sole && content_type.starts_with("text/");
        let attached = head.disposition() == Disposition::Attachment;
        let is_body = match (sole, head.file_name()) {
            (true, None) => true,
            (true, Some(_)) | (false, None) => !attached,
            (false, Some(_)) => false,
        };
        if is_text && is_body {
            self.add_text(
                &raw[leaf.body.clone()],
                &leaf,
                is_html && !leaf.unsplit,
                repairs,
            );
        } else {
            self.attach(raw, &leaf, repairs);
        }
    }

    fn add_text(&mut self, source: &[u8], leaf: &Leaf, is_html: bool, repairs: &mut Repairs) {
        let (what, most, used) = if is_html {
            ("HTML", self.limits.html_bytes, &mut self.html_bytes)
        } else {
            ("text", self.limits.text_bytes, &mut self.text_bytes)
        };
        let left = most - *used;
        let encoding = leaf.head.encoding;
        let cap = encoding.source_cap(left);
        let was_cut = source.len() > cap;
        let bytes = encoding.decode(&source[..source.len().min(cap)], repairs);
        let text = decode::text(bytes, leaf.head.param("charset"), was_cut, repairs);
        let mut text = decode::normalise(text, repairs);
        if decode::cut(&mut text, left) || was_cut {
            repairs.note(format!("{what} over {most} bytes was cut"));
        }
        *used += text.len();
        let same = match (self.segments.last_mut(), leaf.alternative) {
            (Some(last), Some(group)) if last.alternative == Some(group) => Some(last),
            _ => None,
        };
        let segment = match same {
            Some(segment) => segment,
            None => {
                self.segments.push(Segment {
                    alternative: leaf.alternative,
                    ..Segment::default()
                });
                let last = self.segments.len() - 1;
                &mut self.segments[last]
            }
        };
        append(
            if is_html {
                &mut segment.html
            } else {
                &mut segment.plain
            },
            text,
        );
    }

    fn attach(&mut self, raw: &Bytes, leaf: &Leaf, repairs: &mut Repairs) {
        let head = &leaf.head;
        let source = raw.slice(leaf.body.clone());
        let decoded = match head.encoding.decode(&source, repairs) {
            Cow::Borrowed(_) => None,
            Cow::Owned(bytes) => Some(Bytes::from(bytes)),
        };
        let name = head
            .file_name()
            .map_or_else(String::new, |name| file_name(name, repairs));
        let mut others: Vec<String> = head
            .other_names()
            .map(|other| file_name(other, repairs))
            .filter(|other| *other != name)
            .collect();
        others.dedup();
        if !others.is_empty() {
            let others = others.join("\" and \"");
            self.ambiguous.push(format!(
                "the attachment \"{name}\" is also named \"{others}\""
            ));
        }
        self.attachments.push(Attachment {
            name,
            content_type: head.content_type().to_owned(),
            charset: head.param("charset").map(str::to_owned),
            inline: match head.disposition() {
                Disposition::Inline => true,
                Disposition::Attachment => false,
                Disposition::Unstated => head.content_id.is_some(),
            },
            content_id: head.content_id.clone(),
            bytes: decoded.unwrap_or(source),
        });
    }

    fn finish(mut self, repairs: &mut Repairs) -> (String, Option<String>, Vec<Attachment>) {
        let more = self.ambiguous.len().saturating_sub(AMBIGUOUS_NOTED);
        if more > 0 {
            self.ambiguous.truncate(AMBIGUOUS_NOTED);
            self.ambiguous
                .push(format!("{more} more attachments have several names"));
        }
        repairs.note_first(std::mem::take(&mut self.ambiguous));
        let most = self.limits.text_bytes;
        let mut text = String::new();
        let mut html = String::new();
        for segment in self.segments {
            let Segment {
                plain, html: page, ..
            } = segment;
            if !plain.trim().is_empty() || page.is_empty() {
                append(&mut text, plain);
            } else {
                let derived = html::to_text(&page, most);
                // Careless senders put both forms side by side in a multipart/mixed.
                if !text.split_whitespace().eq(derived.split_whitespace()) {
                    append(&mut text, derived);
                }
            }
            append(&mut html, page);
        }
        if decode::cut(&mut text, most) {
            repairs.note(format!("text over {most} bytes was cut"));
        }
        (text, (!html.is_empty()).then_some(html), self.attachments)
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

/// Returns the addresses of a header that is not part of a [`Message`].
pub(crate) fn addresses_of(value: &str) -> Vec<Address> {
    address::addresses(
        value.as_bytes(),
        ParseLimits::default().addresses,
        &mut Repairs::default(),
    )
}

/// Returns all Message-IDs of a field, without angle brackets (RFC 5322 section 3.6.4).
pub(crate) fn message_ids(raw: &[u8]) -> Vec<String> {
    const LONGEST_ID: usize = 998;
    let text = String::from_utf8_lossy(raw);
    let clean = |id: &str| -> Option<String> {
        let id: String = id
            .chars()
            .filter(|c| !c.is_whitespace() && !c.is_control())
            .collect();
        (!id.is_empty() && id.len() <= LONGEST_ID).then_some(id)
    };
    if !text.contains('<') {
        return text
            .split_whitespace()
            .filter(|word| word.contains('@'))
            .filter_map(clean)
            .collect();
    }
    text.split('<')
        .skip(1)
        .filter_map(|rest| clean(rest.split_once('>').map_or(rest, |(id, _)| id)))
        .collect()
}

fn own_message_id(field: &Field<'_>) -> Option<String> {
    const LONGEST_FIELD: usize = 4096;
    let value = &field.value[..field.value.len().min(LONGEST_FIELD)];
    message_ids(value).into_iter().next().or_else(|| {
        // Some programs write an id without `<`, `>` and `@`.
        let text = String::from_utf8_lossy(value);
        let word = text.split_whitespace().next()?;
        let id: String = word
            .chars()
            .filter(|c| !c.is_control() && !"<>".contains(*c))
            .collect();
        (!id.is_empty() && id.len() <= 998).then_some(id)
    })
}

/// Returns the mail with `\n` in place of `\r`, if it contains no `\n` at all.
fn with_newlines(raw: &[u8]) -> Cow<'_, [u8]> {
    if memchr(b'\n', raw).is_some() || memchr(b'\r', raw).is_none() {
        return Cow::Borrowed(raw);
    }
    Cow::Owned(
        raw.iter()
            .map(|b| if *b == b'\r' { b'\n' } else { *b })
            .collect(),
    )
}

fn extend(list: &mut Vec<Address>, field: &Field<'_>, most: usize, repairs: &mut Repairs) {
    let left = most - list.len();
    list.extend(address::addresses(field.value, left, repairs));
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

fn append(to: &mut String, more: String) {
    if to.is_empty() {
        *to = more;
    } else if !more.is_empty() {
        if !to.ends_with('\n') {
            to.push('\n');
        }
        to.push_str(&more);
    }
}

/// Returns a name without folders and without hidden characters.
fn file_name(name: &str, repairs: &mut Repairs) -> String {
    const LONGEST_NAME: usize = 255;
    let last = name.rsplit(['/', '\\']).next().unwrap_or("");
    let mut kept: String = last.chars().filter(|c| !is_hidden(*c)).collect();
    decode::cut(&mut kept, LONGEST_NAME);
    let kept = match kept.trim() {
        "." | ".." => "",
        kept => kept,
    };
    if kept != name.trim() {
        repairs.note("an unsafe file name was shortened");
    }
    kept.to_owned()
}
