//! Outlook items: the properties (MS-OXPROPS) that make a mail, as TNEF streams and `.msg` files store them.

use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::mime::{Disposition, Head};
use super::repairs::Repairs;
use super::{decode, rtf};

/// Property types, and the flag of those with several values.
pub(crate) const STRING8: u16 = 0x1e;
pub(crate) const UNICODE: u16 = 0x1f;
pub(crate) const BINARY: u16 = 0x102;
pub(crate) const OBJECT: u16 = 0x0d;
pub(crate) const SEVERAL: u16 = 0x1000;

/// The attach method of a mail within a mail.
pub(crate) const EMBEDDED: u32 = 5;

/// Bytes of a property that becomes a header or a name.
const SHORT_BYTES: usize = 32 * 1024;
/// Bytes of a text or page.
const BODY_BYTES: usize = 8 * 1024 * 1024;

/// A text of an item, still in its charset.
#[derive(Debug, Clone)]
pub(crate) struct Text {
    pub bytes: Bytes,
    pub charset: Option<&'static str>,
}

/// The mail-like part of an Outlook item.
#[derive(Debug, Default)]
pub(crate) struct Item {
    pub attachments: Vec<ItemAttachment>,
    /// Whether the stream ends before the item does.
    pub cut: bool,
    pub codepage: Option<u32>,
    internet_codepage: Option<u32>,
    /// The header section of a mail that came over the internet.
    headers: Option<Property>,
    subject: Option<Property>,
    sender_name: Option<Property>,
    sender_email: Option<Property>,
    sender_smtp: Option<Property>,
    message_id: Option<Property>,
    sent: Option<u64>,
    pub recipients: Vec<String>,
    pub plain: Option<Property>,
    html: Option<Property>,
    rtf: Option<Bytes>,
}

/// The value of a property with a variable size.
#[derive(Debug, Clone)]
pub(crate) struct Property {
    pub kind: u16,
    pub value: Bytes,
}

/// An attachment of an Outlook item.
#[derive(Debug, Default)]
pub(crate) struct ItemAttachment {
    pub codepage: Option<u32>,
    pub long_name: Option<Property>,
    pub name: Option<Property>,
    pub title: Option<Property>,
    pub mime_type: Option<Property>,
    pub content_id: Option<Property>,
    pub method: u32,
    pub data: Bytes,
    /// Set if it is a mail.
    pub mail: Option<Box<Item>>,
}

impl Property {
    /// Returns a short text on one line.
    fn line(&self, codepage: Option<u32>) -> String {
        let value = self.value.slice(..self.value.len().min(SHORT_BYTES));
        let text = Text::of(
            &Self {
                kind: self.kind,
                value,
            },
            codepage,
        );
        let text = text.decoded();
        let text = text.trim_matches(|c: char| c == '\0' || c.is_whitespace());
        text.replace(|c: char| c.is_control(), " ")
    }
}

impl Text {
    fn of(property: &Property, codepage: Option<u32>) -> Self {
        let mut bytes = property.value.slice(..property.value.len().min(BODY_BYTES));
        if property.kind == UNICODE {
            let even = bytes.len() & !1;
            bytes.truncate(even);
            while bytes.ends_with(&[0, 0]) {
                bytes.truncate(bytes.len() - 2);
            }
            return Self {
                bytes,
                charset: Some("utf-16le"),
            };
        }
        while bytes.ends_with(&[0]) {
            bytes.truncate(bytes.len() - 1);
        }
        Self {
            bytes,
            charset: codepage.and_then(charset),
        }
    }

    fn decoded(&self) -> String {
        let bytes = Cow::Borrowed(&self.bytes[..]);
        decode::text(bytes, self.charset, true, &mut Repairs::default())
    }

    fn utf_8(text: String) -> Self {
        Self {
            bytes: text.into(),
            charset: Some("utf-8"),
        }
    }
}

impl Item {
    /// Returns whether a mail has use for a property with a variable size.
    pub(crate) fn takes(id: u16) -> bool {
        matches!(
            id,
            0x007d | 0x0037 | 0x0c1a | 0x0c1f | 0x5d01 | 0x1035 | 0x1000 | 0x1013 | 0x1009
        )
    }

    /// Takes a property of the item, if it is one of a mail.
    pub(crate) fn set(&mut self, id: u16, kind: u16, value: Bytes) {
        match (id, kind) {
            (0x0039, _) => self.sent = number(&value, 8),
            (0x3fde, _) => self.internet_codepage = small(&value),
            (0x3ffd, _) => self.codepage = small(&value).or(self.codepage),
            (0x1009, BINARY) => self.rtf = Some(value),
            (_, STRING8 | UNICODE | BINARY) => {
                let slot = match id {
                    0x007d => &mut self.headers,
                    0x0037 => &mut self.subject,
                    0x0c1a => &mut self.sender_name,
                    0x0c1f => &mut self.sender_email,
                    0x5d01 => &mut self.sender_smtp,
                    0x1035 => &mut self.message_id,
                    0x1000 => &mut self.plain,
                    0x1013 => &mut self.html,
                    _ => return,
                };
                *slot = Some(Property { kind, value });
            }
            _ => {}
        }
    }

    /// Takes the subject or the sender from an attribute that is no property, unless a property states it.
    pub(crate) fn set_subject(&mut self, value: Bytes) {
        let kind = STRING8;
        self.subject.get_or_insert(Property { kind, value });
    }

    pub(crate) fn set_sender(&mut self, name: Bytes, email: Bytes) {
        let kind = STRING8;
        self.sender_name
            .get_or_insert(Property { kind, value: name });
        self.sender_email
            .get_or_insert(Property { kind, value: email });
    }

    /// Returns the text and the page, by content type. `left` bounds the RTF that is decompressed for them.
    pub(crate) fn bodies(&self, left: &mut usize) -> Vec<(&'static str, Text)> {
        let plain = self.plain.as_ref().map(|it| Text::of(it, self.codepage));
        let mut plain = plain.filter(|text| !text.bytes.trim_ascii().is_empty());
        let codepage = self.internet_codepage.or(self.codepage);
        let page = self.html.as_ref().map(|it| match it.kind {
            BINARY => Text::of(it, self.internet_codepage),
            _ => Text::of(it, codepage),
        });
        let mut page = page.filter(|text| !text.bytes.trim_ascii().is_empty());
        if page.is_none()
            && let Some(packed) = &self.rtf
            && let Some(source) = rtf::decompress(packed, *left)
        {
            *left -= source.len();
            match rtf::read(&source) {
                rtf::Document::Html(html) => page = Some(Text::utf_8(html)),
                rtf::Document::Text(text) if plain.is_none() => plain = Some(Text::utf_8(text)),
                rtf::Document::Text(_) => {}
            }
        }
        let plain = plain.map(|text| ("text/plain", text));
        let page = page.map(|text| ("text/html", text));
        plain.into_iter().chain(page).collect()
    }

    pub(crate) fn subject(&self) -> String {
        let subject = self.subject.as_ref();
        subject.map_or_else(String::new, |it| it.line(self.codepage))
    }

    /// Returns the header section of the mail, as far as the item says it.
    pub(crate) fn header_section(&self) -> String {
        if let Some(headers) = &self.headers {
            let text = Text::of(headers, self.codepage).decoded();
            let text = text.trim_start();
            if text.contains(':') {
                return format!("{}\r\n\r\n", text.trim_end());
            }
        }
        let line = |property: &Option<Property>| {
            let property = property.as_ref();
            property.map_or_else(String::new, |it| it.line(self.codepage))
        };
        let mut out = String::new();
        let email = [line(&self.sender_smtp), line(&self.sender_email)]
            .into_iter()
            .map(|email| match email.get(..5) {
                Some(scheme) if scheme.eq_ignore_ascii_case("smtp:") => email[5..].to_owned(),
                _ => email,
            })
            .find(|email| email.contains('@'));
        if let Some(email) = email {
            let name = line(&self.sender_name).replace(['"', '\\'], "");
            let _ = write!(out, "From: \"{name}\" <{email}>\r\n");
        }
        if !self.recipients.is_empty() {
            let _ = write!(out, "To: {}\r\n", self.recipients.join(",\r\n "));
        }
        let subject = self.subject();
        if !subject.is_empty() {
            let _ = write!(out, "Subject: {subject}\r\n");
        }
        if let Some(date) = self.sent.and_then(date) {
            let _ = write!(out, "Date: {date}\r\n");
        }
        let id = line(&self.message_id);
        if !id.is_empty() {
            let _ = write!(out, "Message-ID: {id}\r\n");
        }
        out.push_str("\r\n");
        out
    }

    /// Writes the item as a mail of at most about `most` bytes; attachments over it are left out.
    pub(crate) fn to_mail(&self, most: usize, rtf: &mut usize) -> Bytes {
        const BOUNDARY: &str = "=_outlook_item_=";
        let mut out = String::new();
        for line in self.header_section().trim_end().split("\r\n") {
            // The fields that describe the form of the original, which is another one.
            let lower = line.get(..8).unwrap_or_default().to_ascii_lowercase();
            if lower == "content-" || lower == "mime-ver" {
                out.push_str("X-Original-");
            }
            out.push_str(line);
            out.push_str("\r\n");
        }
        let _ = write!(
            out,
            "MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"{BOUNDARY}\"\r\n"
        );
        let mut part = |head: &str, body: &[u8]| {
            if out.len() + body.len() / 2 * 3 > most {
                return;
            }
            let _ = write!(
                out,
                "\r\n--{BOUNDARY}\r\n{head}Content-Transfer-Encoding: base64\r\n\r\n"
            );
            for line in body.chunks(57) {
                STANDARD.encode_string(line, &mut out);
                out.push_str("\r\n");
            }
        };
        for (content_type, text) in self.bodies(rtf) {
            let charset = text.charset.unwrap_or_default();
            let head = format!("Content-Type: {content_type}; charset=\"{charset}\"\r\n");
            part(&head, &text.bytes);
        }
        for attachment in &self.attachments {
            let name = attachment.file_name().replace(['"', '\\'], "");
            let content_type = attachment.content_type();
            let head = format!(
                "Content-Type: {content_type}\r\nContent-Disposition: attachment; filename=\"{name}\"\r\n"
            );
            part(&head, &attachment.data);
        }
        let _ = write!(out, "--{BOUNDARY}--\r\n");
        Bytes::from(out)
    }
}

impl ItemAttachment {
    /// Returns whether an attachment has use for a property with a variable size.
    pub(crate) fn takes(id: u16) -> bool {
        matches!(id, 0x3701 | 0x3707 | 0x3704 | 0x3001 | 0x370e | 0x3712)
    }

    /// Takes a property of the attachment.
    pub(crate) fn set(&mut self, id: u16, kind: u16, value: Bytes) {
        if id == 0x3705 {
            self.method = small(&value).unwrap_or_default();
            return;
        }
        if (id, kind) == (0x3701, BINARY) {
            self.data = value;
            return;
        }
        let slot = match id {
            0x3707 => &mut self.long_name,
            0x3704 => &mut self.name,
            0x3001 => &mut self.title,
            0x370e => &mut self.mime_type,
            0x3712 => &mut self.content_id,
            _ => return,
        };
        if matches!(kind, STRING8 | UNICODE) {
            *slot = Some(Property { kind, value });
        }
    }

    fn file_name(&self) -> String {
        [&self.long_name, &self.name, &self.title]
            .into_iter()
            .flatten()
            .map(|name| name.line(self.codepage))
            .find(|name| !name.is_empty())
            .unwrap_or_default()
    }

    fn content_type(&self) -> String {
        let stated = self.mime_type.as_ref().map(|it| it.line(None));
        stated
            .filter(|it| it.contains('/') && it.bytes().all(|b| b.is_ascii_graphic() && b != b';'))
            .map_or_else(
                || "application/octet-stream".to_owned(),
                |it| it.to_ascii_lowercase(),
            )
    }

    /// Returns the attachment as a part of a mail. An embedded mail is written as one of at most about `most` bytes.
    pub(crate) fn into_part(self, most: usize, rtf: &mut usize) -> (Head, Bytes) {
        if let Some(mail) = &self.mail {
            let head = Head::made("message/rfc822", None).disposed(Disposition::Attachment);
            return (head, mail.to_mail(most, rtf));
        }
        let mut head = Head::made(&self.content_type(), None).named(&self.file_name());
        if let Some(id) = &self.content_id {
            let id = id.line(self.codepage);
            let id = id.trim_matches(|c| c == '<' || c == '>');
            head.content_id = (!id.is_empty()).then(|| id.to_owned());
        }
        if head.content_id.is_none() {
            head = head.disposed(Disposition::Attachment);
        }
        (head, self.data)
    }
}

/// Returns the charset of a Windows code page.
pub(crate) fn charset(codepage: u32) -> Option<&'static str> {
    Some(match codepage {
        437 | 850 | 1252 => "windows-1252",
        874 => "windows-874",
        932 => "shift_jis",
        936 => "gbk",
        949 => "euc-kr",
        950 => "big5",
        1200 => "utf-16le",
        1201 => "utf-16be",
        1250 => "windows-1250",
        1251 => "windows-1251",
        1253 => "windows-1253",
        1254 => "windows-1254",
        1255 => "windows-1255",
        1256 => "windows-1256",
        1257 => "windows-1257",
        1258 => "windows-1258",
        20127 => "us-ascii",
        20866 => "koi8-r",
        21866 => "koi8-u",
        28591 => "iso-8859-1",
        28592 => "iso-8859-2",
        28595 => "iso-8859-5",
        28597 => "iso-8859-7",
        28599 => "iso-8859-9",
        28605 => "iso-8859-15",
        50220..=50222 => "iso-2022-jp",
        51932 => "euc-jp",
        51949 => "euc-kr",
        54936 => "gb18030",
        65001 => "utf-8",
        _ => return None,
    })
}

fn number(value: &[u8], bytes: usize) -> Option<u64> {
    let value = value.get(..bytes)?;
    Some(
        value
            .iter()
            .rev()
            .fold(0, |sum, b| sum << 8 | u64::from(*b)),
    )
}

fn small(value: &[u8]) -> Option<u32> {
    number(value, 4).and_then(|number| u32::try_from(number).ok())
}

/// Returns a count of 100 nanoseconds since 1601 as RFC 5322 writes times.
fn date(filetime: u64) -> Option<String> {
    const SECONDS_TO_1970: i64 = 11_644_473_600;
    let seconds = i64::try_from(filetime / 10_000_000).ok()? - SECONDS_TO_1970;
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    Some(time.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}
