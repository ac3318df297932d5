//! Encoded words (RFC 2047), as far as they can be read.

use std::borrow::Cow;

use memchr::{memchr, memmem};

use super::charset::{Charset, Label};
use super::decode;
use super::repairs::Repairs;

/// Decodes the encoded words of a line. Adjacent words of one charset are joined before decoding, because many mailers cut
/// inside a character, and some inside a group of base64.
pub(crate) fn decode_words<'a>(text: &'a str, repairs: &mut Repairs) -> Cow<'a, str> {
    if !text.contains("=?") {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut run: Vec<Word<'_>> = Vec::new();
    let mut from = 0;
    let mut search = 0;
    while let Some(found) = memmem::find(&text.as_bytes()[search..], b"=?") {
        let at = search + found;
        let Some(word) = Word::at(&text[at..]) else {
            search = at + 2;
            continue;
        };
        let between = &text[from..at];
        if run.is_empty() || !between.trim().is_empty() {
            flush(&mut out, &mut run, repairs);
            out.push_str(between);
        } else if !run.iter().all(|before| before.continues(&word)) {
            flush(&mut out, &mut run, repairs);
        }
        from = at + word.len;
        search = from;
        run.push(word);
    }
    flush(&mut out, &mut run, repairs);
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
    label: &'a str,
    charset: Label,
    base64: bool,
    data: &'a str,
    len: usize,
}

impl<'a> Word<'a> {
    /// The longest charset and language, in bytes.
    const LONGEST_LABEL: usize = 64;

    /// Reads the word at the beginning of the text. The search for its end stops at the next beginning, so that many beginnings
    /// are read in linear time.
    fn at(text: &'a str) -> Option<Self> {
        let rest = text.strip_prefix("=?")?;
        let label_end = memchr(
            b'?',
            &rest.as_bytes()[..rest.len().min(Self::LONGEST_LABEL)],
        )?;
        let label = &rest[..label_end];
        if label.contains(['=', '<', '>', ',', '(', ')', '@']) {
            return None;
        }
        let rest = &rest[label_end + 1..];
        let encoding_end = memchr(b'?', &rest.as_bytes()[..rest.len().min(4)])?;
        let (encoding, rest) = rest.split_at(encoding_end);
        let base64 = match encoding.trim() {
            "b" | "B" => true,
            "q" | "Q" => false,
            _ => return None,
        };
        let data = &rest[1..];
        let begins = text.len() - data.len();
        let (end, closed) = end_of(data, base64);
        Some(Self {
            // RFC 2231 section 5: a language may follow.
            label: label.split('*').next().unwrap_or(label),
            charset: Label::of(label.split('*').next().unwrap_or(label)),
            base64,
            data: &data[..end],
            len: begins + end + closed,
        })
    }

    /// Returns whether the next word may continue a character of this one.
    fn continues(&self, next: &Self) -> bool {
        self.charset == next.charset
            && (self.charset != Label::Unknown || self.label.eq_ignore_ascii_case(next.label))
    }

    /// Returns whether the data ends within a group of four, without padding.
    fn is_cut(&self) -> bool {
        self.base64
            && !self.data.contains('=')
            && !self
                .data
                .bytes()
                .filter(|b| !b.is_ascii_whitespace())
                .count()
                .is_multiple_of(4)
    }

    fn decode_into(&self, out: &mut Vec<u8>, repairs: &mut Repairs) {
        if self.base64 {
            decode_base64(self.data, out, repairs);
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

/// Returns where a word's data ends, and how many bytes its end mark has: fewer than two if it is incomplete.
fn end_of(data: &str, base64: bool) -> (usize, usize) {
    let bytes = data.as_bytes();
    let is = |at: usize, what: fn(&u8) -> bool| bytes.get(at).is_some_and(what);
    let mut at = 0;
    let mut stop = bytes.len();
    while let Some(found) = memchr(b'?', &bytes[at..]) {
        let mark = at + found;
        at = mark + 1;
        if !is(mark + 1, |b| *b == b'=') {
            if mark > 0 && bytes[mark - 1] == b'=' && is(mark + 1, u8::is_ascii_alphanumeric) {
                // The next word begins.
                stop = mark - 1;
                break;
            }
            continue;
        }
        // A question mark that was not encoded, and an encoded character after it.
        let literal = !base64
            && is(mark + 2, u8::is_ascii_hexdigit)
            && is(mark + 3, u8::is_ascii_hexdigit)
            && ends_later(&bytes[mark + 4..]);
        if literal {
            continue;
        }
        // `?=?` is half an end mark and the beginning of the next word.
        let shared = is(mark + 2, |b| *b == b'?') && is(mark + 3, u8::is_ascii_alphanumeric);
        return (mark, if shared { 1 } else { 2 });
    }
    // The end mark is missing: the word ends where a character follows that no word has.
    let open = &data[..stop];
    let end = open
        .find(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ',' | ';' | ')'))
        .unwrap_or(open.len());
    let stripped = open[..end].trim_end_matches('?').len();
    (stripped, end - stripped)
}

/// Returns whether an end mark follows before the next blank or beginning.
fn ends_later(bytes: &[u8]) -> bool {
    let end = bytes
        .iter()
        .position(|b| matches!(b, b' ' | b'\t' | b'?'))
        .unwrap_or(bytes.len());
    bytes[end..].starts_with(b"?=")
}

fn flush(out: &mut String, run: &mut Vec<Word<'_>>, repairs: &mut Repairs) {
    let Some(first) = run.first() else {
        return;
    };
    let label = first.label;
    let mut bytes = Vec::new();
    for word in run.iter() {
        word.decode_into(&mut bytes, repairs);
    }
    let last = run.len() - 1;
    if run[..last].iter().any(Word::is_cut)
        && let Some((joined, whole)) = joined(run, repairs)
        && oddities(&joined, first.charset) < oddities(&bytes, first.charset) + usize::from(whole)
    {
        repairs.note("encoded words cut inside a group of base64 were joined");
        bytes = joined;
    }
    out.push_str(&decode::text(
        Cow::Owned(bytes),
        Some(label),
        false,
        repairs,
    ));
    run.clear();
}

/// Returns the bytes of words whose base64 continues from one to the next, and whether they consist of whole groups.
fn joined(run: &[Word<'_>], repairs: &mut Repairs) -> Option<(Vec<u8>, bool)> {
    if !run.iter().all(|word| word.base64) {
        return None;
    }
    let data: String = run
        .iter()
        .flat_map(|word| word.data.chars())
        .filter(|c| !c.is_whitespace())
        .collect();
    let mut bytes = Vec::with_capacity(data.len());
    decode_base64(&data, &mut bytes, repairs);
    Some((bytes, data.len().is_multiple_of(4)))
}

fn decode_base64(data: &str, out: &mut Vec<u8>, repairs: &mut Repairs) {
    // Blanks come from folding within the word; in a part they would say that it is no base64.
    let data: Cow<'_, str> = if data.contains(char::is_whitespace) {
        Cow::Owned(data.split_whitespace().collect())
    } else {
        Cow::Borrowed(data)
    };
    let decoded = decode::TransferEncoding::Base64.decode(data.as_bytes(), repairs);
    out.extend_from_slice(&decoded);
}

/// Counts what does not belong in a header: characters that cannot be decoded, and control characters.
fn oddities(bytes: &[u8], label: Label) -> usize {
    let charset = match label {
        Label::Known(charset) => charset,
        Label::Unstated | Label::Unknown => Charset::UTF_8,
    };
    let read = charset.decode(bytes, false);
    read.errors + read.text.chars().filter(|c| c.is_control()).count()
}
