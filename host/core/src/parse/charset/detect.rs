//! The charset of text whose label is missing or wrong: what its page declares, or a guess.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::WINDOWS_1252;
use memchr::{memchr, memchr2, memmem};

use super::{Charset, Label};

/// How many bytes a guess is made from, beginning shortly before the first byte above 127.
const SAMPLE: usize = 16 * 1024;
/// How many bytes before it are looked at too.
const BEFORE: usize = 64;
/// How far into a page its declaration is looked for. The WHATWG reads 1,024 bytes; Outlook writes styles before it.
const DECLARATION: usize = 8 * 1024;

/// Returns the charset in which text with bytes above 127 probably reads well: windows-1252, in which all bytes are valid, if
/// no other does.
pub(crate) fn guess(bytes: &[u8]) -> Charset {
    let first = bytes.iter().position(|b| !b.is_ascii()).unwrap_or(0);
    let rest = &bytes[first.saturating_sub(BEFORE)..];
    let sample = &rest[..rest.len().min(SAMPLE)];
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample, sample.len() == rest.len());
    let charset = Charset::Web(detector.guess(None, Utf8Detection::Deny));
    if charset.decode(bytes, false).is_doubtful() {
        return Charset::Web(WINDOWS_1252);
    }
    charset
}

/// Returns the charset that an HTML page declares for itself: `<meta charset=…>`, `<meta http-equiv … content="…; charset=…">`
/// or the declaration of XML.
pub(crate) fn declared_by_page(bytes: &[u8]) -> Option<Charset> {
    let head = &bytes[..bytes.len().min(DECLARATION)];
    let mut at = 0;
    while let Some(found) = memchr(b'<', &head[at..]) {
        at += found + 1;
        let tag = &head[at..];
        let name: &[u8] = if starts_with(tag, b"meta") {
            b"charset"
        } else if starts_with(tag, b"?xml") {
            b"encoding"
        } else {
            continue;
        };
        let tag = &tag[..memchr(b'>', tag).unwrap_or(tag.len())];
        let lower = tag.to_ascii_lowercase();
        let Some(named) = memmem::find(&lower, name) else {
            continue;
        };
        let value = lower[named + name.len()..].trim_ascii_start();
        let Some(value) = value.strip_prefix(b"=") else {
            continue;
        };
        let value = value.trim_ascii_start();
        let value = match value {
            [quote @ (b'"' | b'\''), value @ ..] => {
                &value[..memchr(*quote, value).unwrap_or(value.len())]
            }
            value => {
                let end = memchr2(b'"', b'\'', value).unwrap_or(value.len());
                value[..end]
                    .split(|b| b.is_ascii_whitespace() || matches!(b, b';' | b'/'))
                    .next()
                    .unwrap_or_default()
            }
        };
        // A page whose declaration can be read byte by byte is not UTF-16, whatever it says.
        return std::str::from_utf8(value)
            .ok()
            .and_then(Label::known)
            .filter(|charset| !charset.is_wide());
    }
    None
}

fn starts_with(text: &[u8], word: &[u8]) -> bool {
    text.get(..word.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(word))
}
