//! Header sections: the limits of fields (RFC 5322 section 2.2), unfolding, and raw bytes above 127.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::charset::{self, Charset, Label};
use super::params::Parameterised;
use super::repairs::Repairs;
use super::words::decode_words;

/// How many bytes of headers with raw bytes above 127 a guess is made from.
const MOST_SAMPLED: usize = 4096;
/// How far into the body the charset of the first part is looked for.
const FIRST_PART: usize = 16 * 1024;
/// How many multiparts that a header section declares are asked for their boundary.
const BOUNDARIES_ASKED: usize = 4;

/// The longest name of a field, in bytes.
const LONGEST_NAME: usize = 128;

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
    boundaries_left: usize,
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
            boundaries_left: BOUNDARIES_ASKED,
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
        const MULTIPART: &[u8] = b"multipart/";
        let value = field.value.trim_ascii_start();
        let declares = value.len() > MULTIPART.len()
            && value[..MULTIPART.len()].eq_ignore_ascii_case(MULTIPART);
        // Each field is read once more here, and the charset of its bytes guessed.
        if !declares || self.boundaries_left == 0 {
            return;
        }
        self.boundaries_left -= 1;
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

    /// Returns the name and the position of the colon of a field whose colon stands on the next line, behind blanks: obsolete
    /// syntax (RFC 5322 section 4.5), with which senders of forged mail hide a field.
    fn name_above_colon(&self, start: usize, end: usize, next: usize) -> Option<(&'a str, usize)> {
        if !self.is_continuation(next) {
            return None;
        }
        let (below_end, _) = self.line(next);
        let below = &self.raw[next..below_end];
        let colon = next + below.len() - below.trim_ascii_start().len();
        let name = self.raw[start..end].trim_ascii_end();
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let found = self.raw.get(colon) == Some(&b':')
            && colon < below_end
            && (1..=LONGEST_NAME).contains(&name.len())
            && name.iter().all(is_name);
        found.then_some((std::str::from_utf8(name).ok()?, colon - start))
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
            if let Some((name, colon)) =
                field_name(line).or_else(|| self.name_above_colon(start, end, next))
            {
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
    // Japanese mailers write ISO-2022-JP into headers as it is. It may hold any ASCII character, so it is read first.
    if let Some(escaped) = Charset::escaped(raw).filter(|_| raw.is_ascii()) {
        let read = escaped.decode(raw, false);
        if !read.is_doubtful() {
            repairs.note(format!(
                "a header without a charset was read as {}",
                escaped.name()
            ));
            return Cow::Owned(one_line(read.text.as_bytes(), repairs));
        }
    }
    let plain = |b: &u8| *b >= b' ' && *b != 0x7f;
    if raw.iter().all(plain) {
        return match std::str::from_utf8(raw) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(foreign(raw, repairs)),
        };
    }
    Cow::Owned(one_line(raw, repairs))
}

/// Returns text without folds and control characters.
fn one_line(raw: &[u8], repairs: &mut Repairs) -> String {
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
    match String::from_utf8(out) {
        Ok(text) => text,
        Err(e) => foreign(e.as_bytes(), repairs),
    }
}

/// Returns a value for display: unfolded, encoded words decoded, without control characters.
pub(crate) fn decoded(raw: &[u8], repairs: &mut Repairs) -> String {
    match unfold(raw, repairs) {
        Cow::Borrowed(text) if !text.contains("=?") => text.to_owned(),
        text => decode_words(&text, repairs).into_owned(),
    }
}

/// Returns the charset in which raw bytes above 127 in headers are read: that of the mail or of its first part that states one,
/// or a guess from all headers at `start` together. `None` if nothing needs or states one.
pub(crate) fn raw_charset(raw: &[u8], start: usize, repairs: &mut Repairs) -> Option<Charset> {
    let mut fields = Fields::of_mail(raw, start);
    let mut sample = Vec::new();
    let mut stated = None;
    for field in fields.by_ref() {
        if field.is("Content-Type") && stated.is_none() {
            stated = charset_of(field.value);
        }
        if sample.len() < MOST_SAMPLED && std::str::from_utf8(field.value).is_err() {
            sample.extend(field.value.iter().take(MOST_SAMPLED));
            sample.push(b'\n');
        }
    }
    let body = &raw[fields.at..];
    let body = &body[..body.len().min(FIRST_PART)];
    if sample.is_empty() && body.is_ascii() {
        return None;
    }
    let stated = stated.or_else(|| charset_of(body));
    if stated.is_some() || sample.is_empty() {
        return stated;
    }
    if std::str::from_utf8(body).is_err() {
        sample.extend_from_slice(body);
    }
    Some(repairs.guesses.guess(&sample))
}

/// Returns the first charset stated in headers that raw bytes above 127 may be in.
fn charset_of(bytes: &[u8]) -> Option<Charset> {
    let mut rest = bytes;
    while let Some(found) = memchr2(b'c', b'C', rest) {
        rest = &rest[found..];
        if rest
            .get(..7)
            .is_some_and(|word| word.eq_ignore_ascii_case(b"charset"))
        {
            let value = &rest[7..];
            let value = &value[..memchr2(b';', b'\n', value).unwrap_or(value.len()).min(80)];
            let label = value
                .trim_ascii_start()
                .strip_prefix(b"=")
                .unwrap_or_default();
            let charset = std::str::from_utf8(label).ok().and_then(Label::known);
            if let Some(charset) = charset.filter(|charset| {
                *charset != Charset::UTF_8 && !charset.is_wide() && !charset.is_seven_bit()
            }) {
                return Some(charset);
            }
        }
        rest = &rest[1..];
    }
    None
}

fn foreign(bytes: &[u8], repairs: &mut Repairs) -> String {
    if let Some(mended) = charset::mend_utf8(bytes) {
        repairs.note("bytes in UTF-8 that are not were read as windows-1252");
        return mended.text;
    }
    let stated = repairs
        .header_charset
        .map(|charset| (charset, charset.decode(bytes, false)))
        .filter(|(_, read)| !read.is_doubtful());
    let (charset, read) = stated.unwrap_or_else(|| {
        let guess = repairs.guesses.guess(bytes);
        (guess, guess.decode(bytes, false))
    });
    repairs.note(format!(
        "8-bit header without a charset was read as {}",
        charset.name()
    ));
    read.text
}

/// Returns whether a line begins with the name of a MIME field.
pub(crate) fn is_of_mime(line: &[u8]) -> bool {
    line.len() > 8 && line[..8].eq_ignore_ascii_case(b"content-")
}

/// Returns the name and the position of the colon, if the line is the first line of a header.
fn field_name(line: &[u8]) -> Option<(&str, usize)> {
    let colon = memchr(b':', &line[..line.len().min(LONGEST_NAME)])?;
    let name = line[..colon].trim_ascii_end();
    if name.is_empty() || !name.iter().all(u8::is_ascii_graphic) {
        return None;
    }
    Some((std::str::from_utf8(name).ok()?, colon))
}
