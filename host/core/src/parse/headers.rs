//! Header sections: the limits of fields (RFC 5322 section 2.2), unfolding, and encoded words (RFC 2047).

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::decode;
use super::params::Parameterised;
use super::repairs::Repairs;

/// One raw header field.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    pub name: &'a str,
    /// Still folded and encoded, without the final line end.
    pub value: &'a [u8],
    /// The offset of the name in the mail.
    pub at: usize,
}

impl Field<'_> {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }
}

/// Iterates over one header section. At the end, `at` is the offset of the body.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    raw: &'a [u8],
    pub at: usize,
    /// Whether lines that are no header were skipped.
    pub junk: bool,
    /// Whether the section ended without its blank line.
    pub open_end: bool,
    ended: bool,
    within_multipart: bool,
    /// The boundary of the multipart that a field of the section declares, empty if it states none: its line ends the
    /// section.
    boundary: Option<String>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of_mail(raw: &'a [u8], at: usize) -> Self {
        Self {
            raw,
            at,
            junk: false,
            open_end: false,
            ended: false,
            within_multipart: false,
            boundary: None,
        }
    }

    /// Returns an iterator over the headers of a MIME part: a line that begins with two dashes ends them, since it may be a
    /// boundary.
    pub(crate) fn of_part(raw: &'a [u8], at: usize) -> Self {
        Self {
            within_multipart: true,
            ..Self::of_mail(raw, at)
        }
    }

    /// Returns the end of the line's content and the start of the next line.
    fn line(&self, at: usize) -> (usize, usize) {
        match memchr(b'\n', &self.raw[at..]) {
            Some(found) => {
                let newline = at + found;
                let end = if found > 0 && self.raw[newline - 1] == b'\r' {
                    newline - 1
                } else {
                    newline
                };
                (end, newline + 1)
            }
            None => (self.raw.len(), self.raw.len()),
        }
    }

    fn keep_boundary(&mut self, field: &Field<'_>) {
        let content_type = Parameterised::parse(field.value, &mut Repairs::default());
        if content_type.value.starts_with("multipart/") {
            let boundary = content_type.param("boundary").unwrap_or_default();
            self.boundary = Some(boundary.trim_end().to_owned());
        }
    }

    /// Returns whether a line that begins with two dashes belongs to the parts below the headers.
    fn ends_section(&self, line: &[u8], next: usize) -> bool {
        let Some(boundary) = &self.boundary else {
            return self.within_multipart;
        };
        let (end, _) = self.line(next);
        self.within_multipart
            || !boundary.is_empty() && line.starts_with(boundary.as_bytes())
            || is_of_mime(&self.raw[next..end])
    }

    fn is_continuation(&self, at: usize) -> bool {
        matches!(self.raw.get(at), Some(b' ' | b'\t'))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        while !self.ended {
            if self.at >= self.raw.len() {
                break;
            }
            let start = self.at;
            let (end, next) = self.line(start);
            let line = &self.raw[start..end];
            // `\r\r\n` is a line end too.
            if line.iter().all(|b| *b == b'\r') {
                self.at = next;
                self.ended = true;
                return None;
            }
            if line.starts_with(b"--") && self.ends_section(&line[2..], next) {
                break;
            }
            if let Some((name, colon)) = field_name(line) {
                let (mut end, mut next) = (end, next);
                while self.is_continuation(next) {
                    (end, next) = self.line(next);
                }
                self.at = next;
                let field = Field {
                    name,
                    value: &self.raw[start + colon + 1..end],
                    at: start,
                };
                if !self.within_multipart && field.is("Content-Type") {
                    self.keep_boundary(&field);
                }
                return Some(field);
            }
            let (after, _) = self.line(next);
            let below = &self.raw[next..after];
            // The text of a part may begin right below its headers, with words before a colon.
            if field_name(below).is_none() || self.within_multipart && !is_of_mime(below) {
                break;
            }
            self.junk = true;
            self.at = next;
        }
        if !self.ended {
            self.ended = true;
            self.open_end = self.at < self.raw.len();
        }
        None
    }
}

/// Returns the offset of the headers: after a byte order mark, an mbox line and blank lines, if headers follow these.
pub(crate) fn start(raw: &[u8], repairs: &mut Repairs) -> usize {
    let mut at = 0;
    if raw.starts_with(b"\xef\xbb\xbf") {
        at = 3;
        repairs.note("a byte order mark before the headers was skipped");
    }
    let mbox = at
        + raw[at..]
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
    if raw[mbox..].starts_with(b"From ") || raw[mbox..].starts_with(b">From ") {
        at = memchr(b'\n', &raw[mbox..]).map_or(raw.len(), |found| mbox + found + 1);
        repairs.note("an mbox line before the headers was skipped");
    }
    let blank = raw[at..]
        .iter()
        .take_while(|b| matches!(b, b'\r' | b'\n'))
        .count();
    if blank > 0 {
        let rest = &raw[at + blank..];
        let line = &rest[..memchr(b'\n', rest).unwrap_or(rest.len())];
        if field_name(line).is_some() {
            at += blank;
            repairs.note("blank lines before the headers were skipped");
        }
    }
    at
}

/// Returns a value unfolded to one line of UTF-8, its encoded words not yet decoded.
pub(crate) fn unfold<'a>(raw: &'a [u8], repairs: &mut Repairs) -> Cow<'a, str> {
    let raw = raw.trim_ascii();
    let plain = |b: &u8| *b >= b' ' && *b != 0x7f;
    if raw.iter().all(plain) {
        return match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(foreign(raw, repairs)),
        };
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.iter().copied().peekable();
    while let Some(b) = bytes.next() {
        match b {
            b'\n' | b'\r' => {
                while bytes
                    .next_if(|b| matches!(b, b'\r' | b'\n' | b' ' | b'\t'))
                    .is_some()
                {}
                if out.last() != Some(&b' ') {
                    out.push(b' ');
                }
            }
            0 => repairs.note("NUL characters were removed"),
            b if b < b' ' || b == 0x7f => out.push(b' '),
            b => out.push(b),
        }
    }
    Cow::Owned(match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => foreign(e.as_bytes(), repairs),
    })
}

/// Returns a value for display: unfolded, encoded words decoded, without control characters.
pub(crate) fn decoded(raw: &[u8], repairs: &mut Repairs) -> String {
    match unfold(raw, repairs) {
        Cow::Borrowed(text) if !text.contains("=?") => text.to_owned(),
        text => decode_words(&text, repairs).into_owned(),
    }
}

/// Decodes the encoded words of a line (RFC 2047). Adjacent words of one charset are joined before decoding, because many
/// mailers cut inside a character.
pub(crate) fn decode_words<'a>(text: &'a str, repairs: &mut Repairs) -> Cow<'a, str> {
    if !text.contains("=?") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut pending: Option<(&str, Vec<u8>)> = None;
    let mut from = 0;
    let mut search = 0;
    while let Some(found) = memmem::find(&text.as_bytes()[search..], b"=?") {
        let at = search + found;
        let Some(word) = Word::at(&text[at..]) else {
            search = at + 2;
            continue;
        };
        let between = &text[from..at];
        if pending.is_none() || !between.trim().is_empty() {
            flush(&mut out, &mut pending, repairs);
            out.push_str(between);
        }
        match &mut pending {
            Some((charset, bytes)) if charset.eq_ignore_ascii_case(word.charset) => {
                word.decode_into(bytes, repairs);
            }
            _ => {
                flush(&mut out, &mut pending, repairs);
                let mut bytes = Vec::with_capacity(word.data.len());
                word.decode_into(&mut bytes, repairs);
                pending = Some((word.charset, bytes));
            }
        }
        from = at + word.len;
        search = from;
    }
    flush(&mut out, &mut pending, repairs);
    out.push_str(&text[from..]);
    // An encoded word may hide line ends.
    if out.contains(|c: char| c.is_control()) {
        out = out
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
    }
    Cow::Owned(out)
}

/// Returns the length of the encoded word at this position, if there is one.
pub(crate) fn word_len(text: &str) -> Option<usize> {
    Word::at(text).map(|word| word.len)
}

struct Word<'a> {
    charset: &'a str,
    base64: bool,
    data: &'a str,
    len: usize,
}

impl<'a> Word<'a> {
    /// Far above the RFC's 75 characters, but still a bound for the search.
    const MOST: usize = 2048;

    fn at(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("=?")?;
        let rest = &rest[..rest.floor_char_boundary(Self::MOST)];
        let charset_end = memchr(b'?', &rest.as_bytes()[..rest.len().min(64)])?;
        let charset = &rest[..charset_end];
        if charset.is_empty() || charset.contains([' ', '=', '<', '>', '"', ',']) {
            return None;
        }
        let (encoding, tail) = rest[charset_end + 1..].split_once('?')?;
        let base64 = match encoding {
            "b" | "B" => true,
            "q" | "Q" => false,
            _ => return None,
        };
        let data = &tail[..memmem::find(tail.as_bytes(), b"?=")?];
        Some(Self {
            // RFC 2231 section 5: a language may follow.
            charset: charset.split('*').next().unwrap_or(charset),
            base64,
            data,
            len: 2 + charset_end + 1 + encoding.len() + 1 + data.len() + 2,
        })
    }

    fn decode_into(&self, out: &mut Vec<u8>, repairs: &mut Repairs) {
        if self.base64 {
            let decoded = decode::TransferEncoding::Base64.decode(self.data.as_bytes(), repairs);
            out.extend_from_slice(&decoded);
            return;
        }
        let mut bytes = self.data.as_bytes();
        while let Some((&b, rest)) = bytes.split_first() {
            bytes = rest;
            match (b, rest) {
                (b'_', _) => out.push(b' '),
                (b'=', [a, c, tail @ ..]) if a.is_ascii_hexdigit() && c.is_ascii_hexdigit() => {
                    out.push(decode::hex(*a) << 4 | decode::hex(*c));
                    bytes = tail;
                }
                _ => out.push(b),
            }
        }
    }
}

fn flush(out: &mut String, pending: &mut Option<(&str, Vec<u8>)>, repairs: &mut Repairs) {
    if let Some((charset, bytes)) = pending.take() {
        out.push_str(&decode::text(
            Cow::Owned(bytes),
            Some(charset),
            false,
            repairs,
        ));
    }
}

fn foreign(bytes: &[u8], repairs: &mut Repairs) -> String {
    repairs.note("8-bit header without a charset was read as windows-1252");
    decode::windows_1252(bytes)
}

/// Returns whether a line begins with the name of a MIME field.
pub(crate) fn is_of_mime(line: &[u8]) -> bool {
    line.len() > 8 && line[..8].eq_ignore_ascii_case(b"content-")
}

/// Returns the name and the position of the colon, if the line is the first line of a header.
fn field_name(line: &[u8]) -> Option<(&str, usize)> {
    const LONGEST_NAME: usize = 128;
    let colon = memchr(b':', &line[..line.len().min(LONGEST_NAME)])?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, colon))
}
