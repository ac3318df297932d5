//! Content-Type and Content-Disposition: the value and its parameters (RFC 2045, 2183), including continued and encoded
//! ones (RFC 2231).

use std::borrow::Cow;

use super::charset::Label;
use super::ids::comment_len;
use super::repairs::Repairs;
use super::words::{decode_words, word_len};
use super::{decode, headers};

/// The longest value read, in bytes; the rest is ignored.
const LONGEST_VALUE: usize = 8 * 1024;
/// The most parameters read.
const MOST_PARAMS: usize = 64;
/// The longest name of a parameter, in bytes.
const LONGEST_NAME: usize = 64;

/// `value; name=value; …`, names in lower case and values decoded.
#[derive(Debug, Default)]
pub(crate) struct Parameterised {
    pub value: String,
    params: Vec<(String, String)>,
}

impl Parameterised {
    pub(crate) fn plain(value: &str) -> Self {
        Self {
            value: value.to_owned(),
            params: Vec::new(),
        }
    }

    pub(crate) fn with(value: &str, name: &str, param: Option<&str>) -> Self {
        let params = param.map(|param| (name.to_owned(), param.to_owned()));
        Self {
            value: value.to_owned(),
            params: params.into_iter().collect(),
        }
    }

    pub(crate) fn parse(raw: &[u8], repairs: &mut Repairs) -> Self {
        let text = headers::unfold(&raw[..raw.len().min(LONGEST_VALUE)], repairs);
        let text = after_comments(&text);
        let (value, rest) = first_value(text);
        let mut plain: Vec<(String, Cow<'_, str>)> = Vec::new();
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (name, value) in Pairs(rest).take(MOST_PARAMS) {
            match Piece::of(&name, &value) {
                Some(piece) => pieces.push(piece),
                None => plain.push((name, value)),
            }
        }
        let mut params = joined(pieces, repairs);
        // The encoded form of RFC 2231 is preferred if both exist (RFC 6266 section 4.3), so it comes first.
        for (name, value) in plain {
            let value = decode_words(&value, repairs);
            let value = match extended(&value) {
                Some((label, value)) => {
                    let mut bytes = Vec::new();
                    percent_decode(value.as_bytes(), &mut bytes);
                    decode::text(Cow::Owned(bytes), Some(label), false, repairs)
                }
                None => value.into_owned(),
            };
            params.push((name, value));
        }
        Self { value, params }
    }

    /// Returns the first value of a parameter that is not empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// Returns all values of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.params
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns whether this Content-Type is that of an attached mail, of its headers, or of a report about it.
    pub(crate) fn is_of_mail(&self) -> bool {
        self.value.starts_with("message/") || self.value == "text/rfc822-headers"
    }

    /// Returns whether this Content-Type tells more of the same part than an earlier one: the earlier names no type, or lacks
    /// the boundary or the charset that this one has.
    pub(crate) fn tells_more_than(&self, earlier: &Self) -> bool {
        let splits =
            |it: &Self| it.value.starts_with("multipart/") && it.param("boundary").is_some();
        let charset = |it: &Self| it.param("charset").is_some();
        if !self.value.contains('/') || earlier.is_of_mail() {
            return false;
        }
        !earlier.value.contains('/')
            || splits(self) && !splits(earlier)
            || self.value == earlier.value && charset(self) && !charset(earlier)
    }
}

/// Returns the value before the parameters, in lower case, and the rest. Quotes around it and blanks at its slash do not count;
/// where the value is missing, the parameters begin at once.
fn first_value(text: &str) -> (String, &str) {
    let (text, quoted) = match text.strip_prefix('"') {
        Some(text) => (text, true),
        None => (text, false),
    };
    const ENDS: [char; 6] = [';', ' ', '\t', '(', ',', '"'];
    let mut end = text.find(ENDS).unwrap_or(text.len());
    let mut value = text[..end].to_owned();
    // `text / plain`
    let after = text[end..].trim_start();
    let subtype = match after.strip_prefix('/') {
        Some(subtype) => Some(subtype.trim_start()),
        None => value.ends_with('/').then_some(after),
    };
    if let Some(from) = subtype {
        let subtype = &from[..from.find(ENDS).unwrap_or(from.len())];
        if !subtype.is_empty() && !subtype.contains('=') {
            value = format!("{}/{subtype}", value.trim_end_matches('/'));
            end = text.len() - from.len() + subtype.len();
        }
    }
    if value.contains('=') {
        return (String::new(), text);
    }
    let rest = &text[end..];
    let rest = match rest.strip_prefix('"') {
        Some(rest) if quoted => rest,
        _ => rest,
    };
    (value.trim().to_ascii_lowercase(), rest)
}

/// One numbered or encoded piece of a parameter: `name*2`, `name*`, `name*0*`.
struct Piece<'a> {
    name: String,
    number: u32,
    encoded: bool,
    value: Cow<'a, str>,
}

impl<'a> Piece<'a> {
    fn of(name: &str, value: &Cow<'a, str>) -> Option<Self> {
        let (base, rest) = name.split_once('*')?;
        let (number, encoded) = match rest.strip_suffix('*') {
            Some(number) => (number, true),
            None => (rest, rest.is_empty()),
        };
        let number = number.trim();
        let number = if number.is_empty() {
            0
        } else {
            number.parse().ok()?
        };
        Some(Self {
            name: base.trim().to_owned(),
            number,
            encoded,
            value: value.clone(),
        })
    }
}

fn joined(mut pieces: Vec<Piece<'_>>, repairs: &mut Repairs) -> Vec<(String, String)> {
    pieces.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
    // Of a piece that is given twice, the first counts.
    pieces.dedup_by(|later, first| later.name == first.name && later.number == first.number);
    let mut params = Vec::new();
    for run in pieces.chunk_by(|a, b| a.name == b.name) {
        let mut charset = None;
        let mut bytes = Vec::new();
        for (index, piece) in run.iter().enumerate() {
            let mut value: &str = &piece.value;
            if !piece.encoded {
                bytes.extend_from_slice(value.as_bytes());
                continue;
            }
            // The first piece, or the first that is encoded, has the charset.
            if charset.is_none()
                && let Some((label, rest)) = value.split_once('\'')
                && let Some((_language, rest)) = rest.split_once('\'')
                && (index == 0 || Label::known(label).is_some())
            {
                charset = Some(label.to_owned());
                value = rest;
            }
            percent_decode(value.as_bytes(), &mut bytes);
        }
        let text = decode::text(Cow::Owned(bytes), charset.as_deref(), false, repairs);
        // Some mailers cut encoded words into pieces.
        let text = decode_words(&text, repairs).into_owned();
        params.push((run[0].name.clone(), text));
    }
    params
}

/// Returns the charset and the text of a value that is encoded although its name does not say so: `utf-8''R%C3%BCck.pdf`.
fn extended(value: &str) -> Option<(&str, &str)> {
    let (label, rest) = value.split_once('\'')?;
    let (_language, rest) = rest.split_once('\'')?;
    let is_label = label.len() <= LONGEST_NAME && Label::known(label).is_some();
    (is_label && rest.contains('%')).then_some((label, rest))
}

fn percent_decode(mut bytes: &[u8], out: &mut Vec<u8>) {
    while let Some((&b, rest)) = bytes.split_first() {
        bytes = rest;
        match (b, rest) {
            (b'%', [a, c, tail @ ..]) if a.is_ascii_hexdigit() && c.is_ascii_hexdigit() => {
                out.push(decode::hex(*a) << 4 | decode::hex(*c));
                bytes = tail;
            }
            _ => out.push(b),
        }
    }
}

/// Iterates over `; name=value` pairs, without quotes. The `;` may be missing.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (String, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = after_comments(
                self.0
                    .trim_start_matches(|c: char| matches!(c, ';' | ',') || c.is_whitespace()),
            );
            let stop = rest.find(['=', ';'])?;
            let name = rest[..stop].trim();
            if rest.as_bytes()[stop] == b';' {
                self.0 = &rest[stop..];
                continue;
            }
            // After a word that belongs to nothing: `text/plain; us-ascii format=flowed`.
            let name = name.rsplit(char::is_whitespace).next().unwrap_or(name);
            let name = name.to_ascii_lowercase();
            let value = rest[stop + 1..].trim_start();
            // `charset=charset=utf-8`
            let value = match value.get(..name.len()) {
                Some(again) if !name.is_empty() && again.eq_ignore_ascii_case(&name) => {
                    match value[name.len()..].trim_start().strip_prefix('=') {
                        Some(value) => value.trim_start(),
                        None => value,
                    }
                }
                _ => value,
            };
            let (value, rest) = match value.strip_prefix('"') {
                Some(quoted) => unquoted(quoted),
                None if is_file_name(&name) => {
                    let end = file_name_end(value);
                    (Cow::Borrowed(value[..end].trim_end()), &value[end..])
                }
                None => {
                    let end = value_end(value, name == "boundary");
                    (Cow::Borrowed(value[..end].trim_end()), &value[end..])
                }
            };
            self.0 = rest;
            if !name.is_empty() {
                return Some((name, value));
            }
        }
    }
}

fn is_file_name(name: &str) -> bool {
    let name = name.split('*').next().unwrap_or(name);
    matches!(name, "name" | "filename")
}

/// Returns the end of a value without quotes: a `;`, a comment, or a blank before another parameter. Boundaries hold
/// parentheses (RFC 2046 section 5.1.1), so that only a blank before one begins a comment there.
fn value_end(value: &str, is_boundary: bool) -> usize {
    let mut at = 0;
    while let Some(found) = value[at..].find([';', ' ', '\t', '(']) {
        let end = at + found;
        match value.as_bytes()[end] {
            b' ' | b'\t' if !begins_parameter(&value[end..]) => at = end + blanks(&value[end..]),
            b'(' if is_boundary && !value[..end].ends_with([' ', '\t']) => at = end + 1,
            _ => return end,
        }
    }
    value.len()
}

/// Returns the end of a file name without quotes, which may hold blanks, parentheses and semicolons: whatever stands before
/// another parameter.
fn file_name_end(value: &str) -> usize {
    let mut at = 0;
    while let Some(found) = value[at..].find([';', ' ', '\t', '=']) {
        let end = at + found;
        let rest = &value[end..];
        match rest.as_bytes()[0] {
            b'=' => at = end + word_len(rest).unwrap_or(1),
            b';' => {
                let after = rest.trim_start_matches([';', ' ', '\t']);
                if after.is_empty() || begins_parameter(after) {
                    return end;
                }
                at = value.len() - after.len();
            }
            _ if is_known_parameter(rest) => return end,
            _ => at = end + blanks(rest),
        }
    }
    value.len()
}

fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches([' ', '\t']).len()
}

/// Returns whether a parameter begins here: a name and `=`.
fn begins_parameter(text: &str) -> bool {
    parameter_name(text).is_some()
}

/// Returns whether a parameter of Content-Type or Content-Disposition begins here.
fn is_known_parameter(text: &str) -> bool {
    const KNOWN: &[&str] = &[
        "boundary",
        "charset",
        "creation-date",
        "delsp",
        "filename",
        "format",
        "method",
        "modification-date",
        "name",
        "read-date",
        "size",
        "type",
    ];
    parameter_name(text).is_some_and(|name| {
        let name = name.split('*').next().unwrap_or(name);
        KNOWN.iter().any(|known| name.eq_ignore_ascii_case(known))
    })
}

fn parameter_name(text: &str) -> Option<&str> {
    let text = text.trim_start_matches([' ', '\t']);
    let bytes = &text.as_bytes()[..text.len().min(LONGEST_NAME)];
    let end = bytes
        .iter()
        .position(|b| !(b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'*' | b'.')))?;
    (end > 0 && bytes[end..].trim_ascii_start().starts_with(b"=")).then(|| &text[..end])
}

/// Returns the text up to the closing quote, and the rest. A backslash escapes only quotes and backslashes, because file
/// names contain paths. A quote closes only before another parameter, a comment or the end, because file names contain quotes.
fn unquoted(text: &str) -> (Cow<'_, str>, &str) {
    let mut out = String::new();
    let mut from = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    let mut first_quote = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let rest = &text[at + 1..];
                if !closes(rest) {
                    first_quote.get_or_insert(at);
                    at += 1;
                    continue;
                }
                let last = &text[from..at];
                return if out.is_empty() {
                    (Cow::Borrowed(last), rest)
                } else {
                    (Cow::Owned(out + last), rest)
                };
            }
            b'\\' if matches!(bytes.get(at + 1), Some(b'"' | b'\\')) => {
                out.push_str(&text[from..at]);
                from = at + 1;
                at += 2;
            }
            _ => at += 1,
        }
    }
    // The closing quote is missing, or junk follows it.
    let end = first_quote.or_else(|| text.find(';')).unwrap_or(text.len());
    (Cow::Borrowed(&text[..end]), &text[end..])
}

fn closes(rest: &str) -> bool {
    let rest = rest.trim_start_matches([' ', '\t']);
    rest.is_empty() || rest.starts_with([';', '(', ',']) || begins_parameter(rest)
}

fn after_comments(text: &str) -> &str {
    let mut text = text.trim_start();
    while text.starts_with('(') {
        let Some(len) = comment_len(text) else {
            return text;
        };
        text = text[len..].trim_start_matches(|c: char| c == ';' || c.is_whitespace());
    }
    text
}
