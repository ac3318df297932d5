//! Content-Type and Content-Disposition: the value and its parameters (RFC 2045, 2183), including continued and encoded
//! ones (RFC 2231).

use std::borrow::Cow;

use super::headers::decode_words;
use super::repairs::Repairs;
use super::{decode, headers};

/// The longest value read, in bytes; the rest is ignored.
const LONGEST_VALUE: usize = 8 * 1024;
/// The most parameters read.
const MOST_PARAMS: usize = 64;

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
        let raw = if raw.len() > LONGEST_VALUE {
            repairs.note("an overlong MIME header was cut");
            &raw[..LONGEST_VALUE]
        } else {
            raw
        };
        let text = headers::unfold(raw, repairs);
        let end = text.find([';', ' ', '\t', '(']).unwrap_or(text.len());
        let value = text[..end].trim().to_ascii_lowercase();
        let mut plain: Vec<(String, Cow<'_, str>)> = Vec::new();
        let mut pieces: Vec<Piece<'_>> = Vec::new();
        for (name, value) in Pairs(&text[end..]).take(MOST_PARAMS) {
            match Piece::of(&name, &value) {
                Some(piece) => pieces.push(piece),
                None => plain.push((name, value)),
            }
        }
        let mut params = joined(pieces, repairs);
        // The encoded form of RFC 2231 is preferred if both exist (RFC 6266 section 4.3), so it comes first.
        for (name, value) in plain {
            params.push((name, decode_words(&value, repairs).into_owned()));
        }
        Self { value, params }
    }

    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// Returns all values of a parameter.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.params
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
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
        let number = if number.is_empty() {
            0
        } else {
            number.parse().ok()?
        };
        Some(Self {
            name: base.to_owned(),
            number,
            encoded,
            value: value.clone(),
        })
    }
}

fn joined(mut pieces: Vec<Piece<'_>>, repairs: &mut Repairs) -> Vec<(String, String)> {
    pieces.sort_by(|a, b| (&a.name, a.number).cmp(&(&b.name, b.number)));
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
            if index == 0
                && let Some((label, rest)) = value.split_once('\'')
                && let Some((_language, rest)) = rest.split_once('\'')
            {
                charset = Some(label.to_owned());
                value = rest;
            }
            percent_decode(value.as_bytes(), &mut bytes);
        }
        let text = decode::text(Cow::Owned(bytes), charset.as_deref(), false, repairs);
        params.push((run[0].name.clone(), text));
    }
    params
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

/// Iterates over `; name=value` pairs, without quotes.
struct Pairs<'a>(&'a str);

impl<'a> Iterator for Pairs<'a> {
    type Item = (String, Cow<'a, str>);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let rest = self
                .0
                .trim_start_matches(|c: char| c == ';' || c.is_whitespace());
            let stop = rest.find(['=', ';'])?;
            let name = rest[..stop].trim();
            if rest.as_bytes()[stop] == b';' {
                self.0 = &rest[stop..];
                continue;
            }
            let value = rest[stop + 1..].trim_start();
            let (value, rest) = match value.strip_prefix('"') {
                Some(quoted) => unquoted(quoted),
                None => {
                    let end = value.find(';').unwrap_or(value.len());
                    (Cow::Borrowed(value[..end].trim_end()), &value[end..])
                }
            };
            self.0 = rest;
            if !name.is_empty() {
                return Some((name.to_ascii_lowercase(), value));
            }
        }
    }
}

/// Returns the text up to the closing quote, and the rest. A backslash escapes only quotes and backslashes, because file
/// names contain paths.
fn unquoted(text: &str) -> (Cow<'_, str>, &str) {
    let mut out = String::new();
    let mut from = 0;
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let rest = &text[at + 1..];
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
    (Cow::Owned(out + &text[from..]), "")
}
