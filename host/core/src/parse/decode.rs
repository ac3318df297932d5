//! Decodes bytes to text: transfer encodings (RFC 2045 section 6) and charsets, as far as they can be decoded.

use std::borrow::Cow;

use mail_parser::decoders::base64::base64_decode;
use memchr::{memchr, memchr_iter, memchr2};

use super::charset::{self, Charset, Label};
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

/// Decodes text. The charset is that of a byte order mark, of the label, or of escape sequences; text without any is UTF-8 if
/// it is valid, and a guess otherwise. A label with which much is unreadable gives way to a charset with which all is
/// readable. `cut` means that the bytes may end inside a character.
pub(crate) fn text(
    bytes: Cow<'_, [u8]>,
    label: Option<&str>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    read(bytes, label, |_| None, cut, repairs)
}

/// Decodes an HTML page like [`text`]; what the page declares for itself comes after the label and before a guess.
pub(crate) fn page(
    bytes: Cow<'_, [u8]>,
    label: Option<&str>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    read(bytes, label, charset::declared_by_page, cut, repairs)
}

fn read(
    bytes: Cow<'_, [u8]>,
    label: Option<&str>,
    declared: impl Fn(&[u8]) -> Option<Charset>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    let label = label.unwrap_or_default();
    let stated = Label::of(label);
    let mut out = if let Some(marked) = Charset::marked(&bytes) {
        marked.decode(&bytes, cut).text
    } else {
        let known = match stated {
            Label::Known(charset) if !charset.is_wide() || is_wide(&bytes) => Some(charset),
            _ => None,
        };
        match known {
            Some(charset) if charset == Charset::UTF_8 => utf_8(bytes, declared, cut, repairs),
            Some(charset) => labelled(&bytes, charset, declared, cut, repairs),
            None => {
                let odd = (stated == Label::Unknown).then_some(label);
                unlabelled(bytes, odd, declared, cut, repairs)
            }
        }
    };
    if out.starts_with('\u{feff}') {
        out.drain(..'\u{feff}'.len_utf8());
    }
    out
}

/// Reads text labelled UTF-8.
fn utf_8(
    bytes: Cow<'_, [u8]>,
    declared: impl Fn(&[u8]) -> Option<Charset>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    if let Some(text) = with_escapes(&bytes, repairs) {
        return text;
    }
    let bytes = match utf8(bytes, cut) {
        Ok(text) => return text,
        Err(bytes) => bytes,
    };
    mended(&bytes, repairs).unwrap_or_else(|| {
        let other = declared(&bytes)
            .filter(|other| !other.decode(&bytes, cut).is_doubtful())
            .filter(|other| *other != Charset::UTF_8)
            .unwrap_or_else(|| repairs.guesses.guess(&bytes));
        repairs.note(format!(
            "text labelled UTF-8 is not: read as {}",
            other.name()
        ));
        other.decode(&bytes, cut).text
    })
}

/// Reads text labelled with any charset but UTF-8.
fn labelled(
    bytes: &[u8],
    charset: Charset,
    declared: impl Fn(&[u8]) -> Option<Charset>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    let name = charset.name();
    if bytes.is_ascii() && !charset.is_seven_bit() {
        if let Some(text) = with_escapes(bytes, repairs) {
            return text;
        }
        if !charset.is_wide() {
            return charset.decode(bytes, cut).text;
        }
    }
    let read = charset.decode(bytes, cut);
    if charset.is_wide() || bytes.is_ascii() {
        if read.errors > 0 {
            repairs.note(format!("bytes that are not {name} were replaced"));
        }
        return read.text;
    }
    // Programs that switched to UTF-8 forget to change the label.
    let proof = if read.errors > 0 {
        1
    } else {
        charset.utf_8_proof()
    };
    if (charset.is_seven_bit() || lead_bytes(bytes) >= proof)
        && (!charset.is_seven_bit() || read.errors > 0)
        && let Ok(text) = utf8(Cow::Borrowed(bytes), cut)
    {
        repairs.note(format!("text labelled {name} is UTF-8"));
        return text;
    }
    // The label of programs that do not know better. Nothing in it is an error, but no language of Western Europe has words
    // made of accented letters alone.
    if charset == Charset::WINDOWS_1252 && charset::is_not_western(bytes) {
        let guess = repairs.guesses.guess(bytes);
        let other = guess.decode(bytes, cut);
        if guess != charset && other.errors == 0 {
            repairs.note(format!(
                "text labelled {name} is not: read as {}",
                guess.name()
            ));
            return other.text;
        }
    }
    if read.errors > 0 {
        let doubtful = read.is_doubtful();
        let other = declared(bytes)
            .filter(|declared| *declared != charset)
            .into_iter()
            .chain([repairs.guesses.guess(bytes)])
            // In a charset of single bytes everything is readable, which proves little.
            .filter(|other| doubtful || other.is_multi_byte())
            .map(|other| (other, other.decode(bytes, cut)))
            .find(|(_, text)| text.errors == 0);
        if let Some((other, text)) = other {
            repairs.note(format!(
                "text labelled {name} is not: read as {}",
                other.name()
            ));
            return text.text;
        }
    }
    if read.errors > 0 {
        repairs.note(format!("bytes that are not {name} were replaced"));
    }
    read.text
}

/// Reads text without a label, or with a label that nobody knows (`odd`).
fn unlabelled(
    bytes: Cow<'_, [u8]>,
    odd: Option<&str>,
    declared: impl Fn(&[u8]) -> Option<Charset>,
    cut: bool,
    repairs: &mut Repairs,
) -> String {
    let note = |name: &str, repairs: &mut Repairs| match odd {
        Some(label) => repairs.note(format!(
            "charset \"{}\" is not known: read as {name}",
            shown(label)
        )),
        None => repairs.note(format!("8-bit text without a charset was read as {name}")),
    };
    if let Some(text) = with_escapes(&bytes, repairs) {
        return text;
    }
    if memchr(0, &bytes).is_some()
        && let Some(wide) = charset::utf_16_without_mark(&bytes)
    {
        let wide = Charset::Web(wide);
        note(&wide.name(), repairs);
        return wide.decode(&bytes, cut).text;
    }
    let bytes = match utf8(bytes, cut) {
        Ok(text) => {
            if odd.is_some() {
                note("UTF-8", repairs);
            }
            return text;
        }
        Err(bytes) => bytes,
    };
    if let Some(declared) = declared(&bytes).filter(|other| *other != Charset::UTF_8) {
        let read = declared.decode(&bytes, cut);
        if !read.is_doubtful() {
            return read.text;
        }
    }
    mended(&bytes, repairs).unwrap_or_else(|| {
        let guess = repairs.guesses.guess(&bytes);
        note(&guess.name(), repairs);
        guess.decode(&bytes, cut).text
    })
}

/// Reads seven-bit text that holds the escape sequences of ISO 2022, whatever its label.
fn with_escapes(bytes: &[u8], repairs: &mut Repairs) -> Option<String> {
    let charset = Charset::escaped(bytes)?;
    if !bytes.is_ascii() {
        return None;
    }
    let read = charset.decode(bytes, false);
    if read.is_doubtful() {
        return None;
    }
    repairs.note(format!(
        "text without its charset was read as {}",
        charset.name()
    ));
    Some(read.text)
}

/// Reads text that is mostly UTF-8.
fn mended(bytes: &[u8], repairs: &mut Repairs) -> Option<String> {
    let mended = charset::mend_utf8(bytes)?;
    if mended.foreign > 0 {
        repairs.note("bytes in UTF-8 that are not were read as windows-1252");
    }
    if mended.broken > 0 {
        repairs.note("bytes that are not UTF-8 were replaced");
    }
    Some(mended.text)
}

/// Returns whether text labelled UTF-16 or UTF-32 may be that: text of single bytes has no NULs, but blanks and line ends.
fn is_wide(bytes: &[u8]) -> bool {
    memchr(0, bytes).is_some()
        || bytes.len().is_multiple_of(2)
            && (std::str::from_utf8(bytes).is_err()
                || !bytes.iter().any(|b| matches!(b, b' ' | b'\n')))
}

fn lead_bytes(bytes: &[u8]) -> usize {
    bytes.iter().filter(|b| **b >= 0xc0).count()
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
