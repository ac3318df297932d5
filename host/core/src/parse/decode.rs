//! Decodes bytes to text: transfer encodings (RFC 2045 section 6) and charsets, as far as they can be decoded.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use mail_parser::decoders::charsets::map::charset_decoder;
use memchr::{memchr, memchr_iter, memchr2};

use super::repairs::{Repairs, shown};
use super::uuencode;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum TransferEncoding {
    #[default]
    Identity,
    Base64,
    QuotedPrintable,
    Uuencode,
}

impl TransferEncoding {
    pub(crate) fn of(value: &str, repairs: &mut Repairs) -> Self {
        // Comments, parameters and quotes do not belong here, but occur.
        let value = value.trim_matches(|c: char| c.is_whitespace() || "\"';".contains(c));
        let word = value
            .split(|c: char| c.is_whitespace() || "\"';,(".contains(c))
            .next()
            .unwrap_or("");
        let word: String = word.chars().filter(|c| !"-_".contains(*c)).collect();
        let is = |name: &str| word.eq_ignore_ascii_case(name);
        let is_any = |names: &[&str]| names.iter().any(|name| is(name));
        if is_any(&["base64", "b64", "xbase64"]) {
            Self::Base64
        } else if is_any(&["quotedprintable", "qp"]) {
            Self::QuotedPrintable
        } else if is_any(&["xuuencode", "uuencode", "xuue", "uue", "xuu"]) {
            Self::Uuencode
        } else {
            if !is_any(&[
                "", "7bit", "8bit", "7bits", "8bits", "binary", "none", "7", "8",
            ]) {
                repairs.note(format!(
                    "transfer encoding \"{}\" is not known: read unchanged",
                    shown(value)
                ));
            }
            Self::Identity
        }
    }

    /// Returns how many bytes of source suffice for `text_bytes` of decoded text in any charset.
    pub(crate) fn source_cap(self, text_bytes: usize) -> usize {
        let factor = match self {
            Self::Identity => 2,
            Self::Base64 => 3,
            Self::QuotedPrintable => 6,
            Self::Uuencode => 3,
        };
        text_bytes.saturating_mul(factor).saturating_add(1024)
    }

    pub(crate) fn decode<'a>(self, bytes: &'a [u8], repairs: &mut Repairs) -> Cow<'a, [u8]> {
        match self {
            Self::Identity => Cow::Borrowed(bytes),
            Self::Base64 => base64(bytes, repairs),
            Self::QuotedPrintable => Cow::Owned(quoted_printable(bytes, repairs)),
            Self::Uuencode => uuencode::decode(bytes, repairs),
        }
    }
}

/// Decodes text of a charset. A byte order mark overrides the label, as in browsers. Without a label the text is UTF-8 if
/// it is valid, otherwise windows-1252, in which all bytes are valid. `cut` means that the bytes may end inside a
/// character.
pub(crate) fn text(
    bytes: Cow<'_, [u8]>,
    label: Option<&str>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    let label = label.map_or("", |l| {
        l.trim_matches(|c: char| c == '"' || c.is_whitespace())
    });
    let label = marked(&bytes).unwrap_or(label);
    let is = |name| label.eq_ignore_ascii_case(name);
    let mut out = if is("utf-8") || is("utf8") {
        match utf8(bytes, cut) {
            Ok(text) => text,
            Err(bytes) => {
                let lossy = String::from_utf8_lossy(&bytes).into_owned();
                if lossy.chars().any(|c| !c.is_ascii() && c != '\u{fffd}') {
                    repairs.note("bytes that are not UTF-8 were replaced");
                    lossy
                } else {
                    repairs.note("text labelled UTF-8 is not: read as windows-1252");
                    windows_1252(&bytes)
                }
            }
        }
    } else if label.is_empty() || is("us-ascii") || is("ascii") {
        match utf8(bytes, cut) {
            Ok(text) => text,
            Err(bytes) => {
                repairs.note("8-bit text without a charset was read as windows-1252");
                windows_1252(&bytes)
            }
        }
    } else if let Some(decode) = charset_decoder(label.as_bytes()) {
        decode(&bytes)
    } else {
        match utf8(bytes, cut) {
            Ok(text) => {
                repairs.note(format!(
                    "charset \"{}\" is not known: read as UTF-8",
                    shown(label)
                ));
                text
            }
            Err(bytes) => {
                repairs.note(format!(
                    "charset \"{}\" is not known: read as windows-1252",
                    shown(label)
                ));
                windows_1252(&bytes)
            }
        }
    };
    if out.starts_with('\u{feff}') {
        out.drain(..'\u{feff}'.len_utf8());
    }
    out
}

/// Returns the charset that a byte order mark indicates.
fn marked(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xef, 0xbb, 0xbf, ..] => Some("utf-8"),
        [0xff, 0xfe, ..] => Some("utf-16le"),
        [0xfe, 0xff, ..] => Some("utf-16be"),
        _ => None,
    }
}

/// Returns the text with `\n` as its only line end and without NULs.
pub(crate) fn normalise(text: String, repairs: &mut Repairs) -> String {
    let bytes = text.as_bytes();
    if memchr2(b'\r', 0, bytes).is_none() {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut from = 0;
    while let Some(found) = memchr2(b'\r', 0, &bytes[from..]) {
        let at = from + found;
        out.push_str(&text[from..at]);
        from = at + 1;
        if bytes[at] == 0 {
            repairs.note("NUL characters were removed");
        } else if bytes.get(at + 1) != Some(&b'\n') {
            // `\r\r\n` is one line end with a stray CR; any other bare CR is its own line end.
            if !bytes[from..].starts_with(b"\r\n") {
                out.push('\n');
            }
            repairs.note("a bare CR was read as a line end");
        }
    }
    out.push_str(&text[from..]);
    out
}

/// Cuts at a character boundary.
pub(crate) fn cut(text: &mut String, most: usize) -> bool {
    if text.len() <= most {
        return false;
    }
    text.truncate(text.floor_char_boundary(most));
    true
}

pub(crate) fn windows_1252(bytes: &[u8]) -> String {
    match charset_decoder(b"windows-1252") {
        Some(decode) => decode(bytes),
        None => String::from_utf8_lossy(bytes).into_owned(),
    }
}

fn utf8(bytes: Cow<'_, [u8]>, cut: bool) -> Result<String, Cow<'_, [u8]>> {
    match std::str::from_utf8(&bytes) {
        Ok(_) => {}
        Err(e) if cut && e.error_len().is_none() => {
            let whole = e.valid_up_to();
            return String::from_utf8(bytes[..whole].to_vec())
                .map_err(|e| Cow::Owned(e.into_bytes()));
        }
        Err(_) => return Err(bytes),
    }
    String::from_utf8(bytes.into_owned()).map_err(|e| Cow::Owned(e.into_bytes()))
}

fn base64<'a>(bytes: &'a [u8], repairs: &mut Repairs) -> Cow<'a, [u8]> {
    const NOT_BASE64: &str = "a part labelled base64 is not: kept unchanged";
    if blanks_between_digits(bytes) * 16 > bytes.len() {
        repairs.note(NOT_BASE64);
        return Cow::Borrowed(bytes);
    }
    // The fast decoder treats 0xFF as its end mark.
    if memchr(0xff, bytes).is_none()
        && let Some(decoded) = base64_decode(bytes)
    {
        return Cow::Owned(decoded);
    }
    let kept: Vec<u8> = bytes
        .iter()
        .copied()
        .filter(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'='))
        .collect();
    let blank = bytes.iter().filter(|b| b.is_ascii_whitespace()).count();
    let foreign = bytes.len() - kept.len() - blank;
    if let Some(end) = base64_before_text(bytes)
        && let Some(decoded) = base64_decode(bytes[..end].trim_ascii_end())
    {
        repairs.note("text below base64 was not decoded");
        return Cow::Owned(decoded);
    }
    // The sender did not encode the content, which has words and punctuation.
    if foreign * 16 > bytes.len() {
        repairs.note(NOT_BASE64);
        return Cow::Borrowed(bytes);
    }
    repairs.note("characters outside base64 were skipped");
    Cow::Owned(base64_decode(&kept).unwrap_or_default())
}

/// Counts blanks inside lines: words have them, and base64 has none.
fn blanks_between_digits(bytes: &[u8]) -> usize {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_alphanumeric);
    memchr_iter(b' ', bytes)
        .filter(|at| *at > 0 && is_digit(at - 1) && is_digit(at + 1))
        .count()
}

/// Returns the length of base64 that lines of text follow, such as the footer that a mailing list appends.
pub(crate) fn base64_before_text(bytes: &[u8]) -> Option<usize> {
    const SURELY_BASE64: usize = 60;
    let is_digit = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
    let (mut end, mut digits, mut longest) = (0, 0, 0);
    let mut last = None;
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        let trimmed = line.trim_ascii();
        if !trimmed.iter().all(is_digit) {
            let padded = last == Some(b'=') || longest >= SURELY_BASE64;
            return (digits > 0 && digits % 4 == 0 && padded).then_some(end);
        }
        end += line.len();
        digits += trimmed.len();
        longest = longest.max(trimmed.len());
        last = trimmed.last().copied().or(last);
    }
    None
}

/// Decodes quoted-printable. Trailing spaces stay, because a signature's delimiter ends with one.
fn quoted_printable(bytes: &[u8], repairs: &mut Repairs) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = memchr(b'=', rest) {
        out.extend_from_slice(&rest[..at]);
        rest = &rest[at + 1..];
        match rest {
            [] | [b'\r'] => rest = &[],
            [b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..] => rest = tail,
            [a, b, tail @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => {
                out.push(hex(*a) << 4 | hex(*b));
                rest = tail;
            }
            _ => match after_padding(rest) {
                Some(tail) => rest = tail,
                None => {
                    repairs.note("broken quoted-printable was kept unchanged");
                    out.push(b'=');
                }
            },
        }
    }
    out.extend_from_slice(rest);
    out
}

/// Returns the rest after a soft line break that transport padded with spaces.
fn after_padding(rest: &[u8]) -> Option<&[u8]> {
    const MOST_PADDING: usize = 80;
    let blanks = rest
        .iter()
        .take(MOST_PADDING)
        .take_while(|b| matches!(b, b' ' | b'\t'))
        .count();
    if blanks == 0 {
        return None;
    }
    match &rest[blanks..] {
        [b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..] => Some(tail),
        [] => Some(&[]),
        _ => None,
    }
}

pub(crate) fn hex(digit: u8) -> u8 {
    (digit as char).to_digit(16).map_or(0, |d| d as u8)
}
