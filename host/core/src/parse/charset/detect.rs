//! The charset of text whose label is missing or wrong: what its page declares, or a guess.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use memchr::{memchr, memchr2, memmem};

use super::{Charset, Label};

/// How many bytes a guess is made from, beginning shortly before the first byte above 127.
const SAMPLE: usize = 16 * 1024;
/// How many bytes before it are looked at too.
const BEFORE: usize = 64;
/// How many bytes of one mail guesses are made from: the detector is slow, and a mail may have thousands of headers.
pub(crate) const MOST_SAMPLED: usize = 512 * 1024;
/// The least that a guess costs, in bytes.
const FIXED_COST: usize = 64;
/// How far into a page its declaration is looked for. The WHATWG reads 1,024 bytes; Outlook writes styles before it.
const DECLARATION: usize = 8 * 1024;

/// The guesses of one mail.
#[derive(Debug)]
pub(crate) struct Guesses {
    bytes_left: usize,
}

impl Default for Guesses {
    fn default() -> Self {
        Self {
            bytes_left: MOST_SAMPLED,
        }
    }
}

impl Guesses {
    /// Returns the charset in which text with bytes above 127 probably reads well: windows-1252, in which all bytes are valid,
    /// if no other does, or if the mail has used up its guesses.
    pub(crate) fn guess(&mut self, bytes: &[u8]) -> Charset {
        let first = bytes.iter().position(|b| !b.is_ascii()).unwrap_or(0);
        let rest = &bytes[first.saturating_sub(BEFORE)..];
        let sample = &rest[..rest.len().min(SAMPLE)];
        // A lone `£`, `°` or `ï` tells nothing, and is most often that of windows-1252.
        if rest.iter().filter(|b| !b.is_ascii()).nth(1).is_none() {
            return Charset::WINDOWS_1252;
        }
        match self.bytes_left.checked_sub(sample.len().max(FIXED_COST)) {
            Some(left) => self.bytes_left = left,
            None => return Charset::WINDOWS_1252,
        }
        let charset = probable(sample, sample.len() == rest.len());
        if charset.decode(bytes, false).is_doubtful() {
            return Charset::WINDOWS_1252;
        }
        charset
    }
}

fn probable(sample: &[u8], whole: bool) -> Charset {
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Deny);
    detector.feed(sample, whole);
    Charset::Web(detector.guess(None, Utf8Detection::Deny))
}

/// Returns whether most letters of windows-1252 that are not ASCII stand in long runs of such letters, as those of Greek,
/// Cyrillic, Hebrew or Chinese do. A few runs, such as a list of umlauts, prove nothing.
pub(crate) fn is_not_western(bytes: &[u8]) -> bool {
    const LONG_RUN: usize = 4;
    const FEWEST_IN_RUNS: usize = 16;
    const NO_BREAK_SPACE: u8 = 0xa0;
    let is_letter = |b: &u8| *b >= 0xc0 && !matches!(b, 0xd7 | 0xf7);
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let (mut letters, mut in_runs) = (0, 0);
    // In the charsets of China every second byte may be a sign.
    for run in sample.split(|b| *b <= NO_BREAK_SPACE) {
        let of_run = run.iter().filter(|b| is_letter(b)).count();
        letters += of_run;
        if of_run >= LONG_RUN {
            in_runs += of_run;
        }
    }
    in_runs >= FEWEST_IN_RUNS && in_runs * 2 > letters
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
