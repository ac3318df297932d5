//! The seven-bit encodings of East Asia built on ISO 2022: ISO-2022-JP with its extensions (RFC 1468, 1554, 2237, CP5022x),
//! ISO-2022-KR (RFC 1557) and ISO-2022-CN (RFC 1922).
//!
//! One decoder reads them all, since mailers mix them up. An escape sequence changes the state and prints nothing, however
//! many follow each other.

use std::borrow::Cow;

use encoding_rs::{EUC_JP, EUC_KR, Encoding, GB18030, ISO_8859_7};
use memchr::{memchr, memchr2, memmem};

use super::Decoded;

const ESC: u8 = 0x1b;
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;

/// The set that SO shifts to if the text designates none: mailers forget the designation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shifted {
    Katakana,
    Korean,
    Chinese,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Ascii,
    /// JIS X 0201, with ¥ and ‾.
    Roman,
    Katakana,
    Jis0208,
    Jis0212,
    Gb2312,
    Ksc5601,
    /// The right halves of ISO 8859-1 and -7.
    Latin1,
    Greek,
    /// A set of two bytes that cannot be read.
    Unread,
}

impl Set {
    fn is_double(self) -> bool {
        matches!(
            self,
            Self::Jis0208 | Self::Jis0212 | Self::Gb2312 | Self::Ksc5601 | Self::Unread
        )
    }
}

/// Returns the family of encodings whose escape sequences are in text without bytes above 127. Those that only choose ASCII
/// also occur in the logs of terminals and prove nothing.
pub(super) fn escaped(bytes: &[u8]) -> Option<Shifted> {
    let mut at = memchr(ESC, bytes)?;
    loop {
        match &bytes[at + 1..] {
            [b'$', b')', b'C', ..] => return Some(Shifted::Korean),
            [b'$', b')', b'A' | b'E' | b'G', ..] => return Some(Shifted::Chinese),
            [b'$', b'@' | b'A' | b'B', ..]
            | [b'$', b'(', b'@'..=b'D' | b'O'..=b'Q', ..]
            | [b'(', b'I' | b'J', ..] => return Some(Shifted::Katakana),
            _ => at += 1 + memchr(ESC, &bytes[at + 1..])?,
        }
    }
}

pub(super) fn decode(bytes: &[u8], shifted: Shifted) -> Decoded {
    let restored = if shifted == Shifted::Katakana && memchr(ESC, bytes).is_none() {
        with_escapes(bytes)
    } else {
        Cow::Borrowed(bytes)
    };
    let mut state = State {
        g0: Set::Ascii,
        g1: match shifted {
            Shifted::Katakana => Set::Katakana,
            Shifted::Korean => Set::Ksc5601,
            Shifted::Chinese => Set::Gb2312,
        },
        g2: Set::Latin1,
        out: false,
    };
    let mut text = Runs::default();
    let mut rest: &[u8] = &restored;
    while let Some((&first, tail)) = rest.split_first() {
        rest = match first {
            ESC => state.escape(tail, &mut text),
            SHIFT_OUT => {
                state.out = true;
                tail
            }
            SHIFT_IN => {
                state.out = false;
                tail
            }
            b'\n' | b'\r' => {
                state.line_end(tail);
                text.plain(first);
                tail
            }
            0x80.. => text.high(rest),
            _ => text.character(state.set(), rest),
        };
    }
    text.finish()
}

struct State {
    g0: Set,
    g1: Set,
    g2: Set,
    /// Whether SO has shifted to G1.
    out: bool,
}

impl State {
    fn set(&self) -> Set {
        if self.out { self.g1 } else { self.g0 }
    }

    /// Reads the escape sequence before `tail`, and returns what follows it.
    fn escape<'a>(&mut self, tail: &'a [u8], text: &mut Runs) -> &'a [u8] {
        let double = |last: u8| match last {
            // The first plane of JIS X 0213 has the characters of JIS X 0208 in the same places.
            b'@' | b'B' | b'O' | b'Q' => Set::Jis0208,
            b'A' | b'E' => Set::Gb2312,
            b'C' => Set::Ksc5601,
            b'D' => Set::Jis0212,
            _ => Set::Unread,
        };
        match tail {
            [b'(', last @ b'@'..=b'~', after @ ..] => {
                self.g0 = match last {
                    b'I' => Set::Katakana,
                    b'J' | b'H' => Set::Roman,
                    _ => Set::Ascii,
                };
                self.out = false;
                after
            }
            [b'$', b'(', last @ b'@'..=b'~', after @ ..]
            | [b'$', last @ b'@'..=b'C', after @ ..] => {
                self.g0 = double(*last);
                self.out = false;
                after
            }
            [b'$', b')', last @ b'@'..=b'~', after @ ..] => {
                self.g1 = double(*last);
                after
            }
            [b'$', b'*', b'@'..=b'~', after @ ..] => {
                self.g2 = Set::Unread;
                after
            }
            [b')', b'@'..=b'~', after @ ..] => {
                self.g1 = Set::Katakana;
                after
            }
            [b'.', last @ b'@'..=b'~', after @ ..] => {
                self.g2 = if *last == b'F' {
                    Set::Greek
                } else {
                    Set::Latin1
                };
                after
            }
            [b'&', b'@', after @ ..] => after,
            [b'N', after @ ..] if !after.is_empty() => text.character(self.g2, after),
            // Cut off at the end.
            [] | [b'$'] | [b'('] | [b'$', b'(' | b')' | b'*'] => &[],
            after => {
                text.plain(ESC);
                after
            }
        }
    }

    /// A line ends. The standards return to ASCII before it. Text that does not is continued in the next line if a return to
    /// ASCII follows there, since relays wrap long lines anywhere; otherwise the return is missing.
    fn line_end(&mut self, tail: &[u8]) {
        self.out = false;
        if !self.g0.is_double() || matches!(tail, [b'\n', ..]) {
            return;
        }
        let continued = memchr2(ESC, b'\n', tail)
            .is_some_and(|at| tail[at] == ESC && tail.get(at + 1) == Some(&b'('));
        if !continued {
            self.g0 = Set::Ascii;
        }
    }
}

/// The text so far, and a run of bytes in one EUC encoding that follows it.
#[derive(Default)]
struct Runs {
    text: Decoded,
    run: Vec<u8>,
    encoding: Option<&'static Encoding>,
}

impl Runs {
    /// Reads one character of a set, and returns what follows it.
    fn character<'a>(&mut self, set: Set, bytes: &'a [u8]) -> &'a [u8] {
        let (first, tail) = (bytes[0], &bytes[1..]);
        if !(0x21..=0x7e).contains(&first) {
            self.plain(first);
            return tail;
        }
        match set {
            Set::Ascii => self.plain(first),
            Set::Roman => match first {
                b'\\' => self.push('¥'),
                b'~' => self.push('‾'),
                _ => self.plain(first),
            },
            Set::Katakana => self.encoded(EUC_JP, &[0x8e, first | 0x80]),
            Set::Latin1 => self.push(char::from(first | 0x80)),
            Set::Greek => self.encoded(ISO_8859_7, &[first | 0x80]),
            Set::Jis0208 | Set::Jis0212 | Set::Gb2312 | Set::Ksc5601 | Set::Unread => {
                let [second @ 0x21..=0x7e, tail @ ..] = tail else {
                    self.error();
                    return tail;
                };
                let pair = [first | 0x80, second | 0x80];
                match set {
                    Set::Jis0208 => self.encoded(EUC_JP, &pair),
                    Set::Jis0212 => self.encoded(EUC_JP, &[0x8f, pair[0], pair[1]]),
                    Set::Gb2312 => self.encoded(GB18030, &pair),
                    Set::Ksc5601 => self.encoded(EUC_KR, &pair),
                    _ => self.error(),
                }
                return tail;
            }
        }
        tail
    }

    /// Reads a run of bytes above 127, which the encodings do not have: UTF-8 that a list server appended, or katakana of eight
    /// bits.
    fn high<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let len = bytes.iter().take_while(|b| !b.is_ascii()).count();
        let (run, tail) = bytes.split_at(len);
        if let Ok(text) = std::str::from_utf8(run) {
            self.flush();
            self.text.text.push_str(text);
            return tail;
        }
        for b in run {
            match b {
                0xa1..=0xdf => self.encoded(EUC_JP, &[0x8e, *b]),
                _ => self.error(),
            }
        }
        tail
    }

    fn encoded(&mut self, encoding: &'static Encoding, bytes: &[u8]) {
        if self.encoding != Some(encoding) {
            self.flush();
            self.encoding = Some(encoding);
        }
        self.run.extend_from_slice(bytes);
    }

    fn plain(&mut self, b: u8) {
        match self.encoding {
            Some(_) => self.run.push(b),
            None => self.text.text.push(char::from(b)),
        }
    }

    fn push(&mut self, c: char) {
        self.flush();
        self.text.text.push(c);
    }

    fn error(&mut self) {
        self.push('\u{fffd}');
        self.text.errors += 1;
    }

    fn flush(&mut self) {
        if let Some(encoding) = self.encoding.take() {
            let (text, wrong) = encoding.decode_without_bom_handling(&self.run);
            if wrong {
                self.text.errors += text.matches('\u{fffd}').count();
            }
            self.text.text.push_str(&text);
            self.run.clear();
        }
    }

    fn finish(mut self) -> Decoded {
        self.flush();
        self.text
    }
}

/// Restores the escape characters of text from which a gateway has removed them: `$B` and an even number of bytes before
/// `(B` or `(J` in the same line.
fn with_escapes(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memmem::find(bytes, b"$B").is_none() && memmem::find(bytes, b"$@").is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut out = Vec::with_capacity(bytes.len() + 64);
    let mut rest = bytes;
    // A failed search is not repeated before the place where it ended, so that the work stays linear.
    let mut resume_len = usize::MAX;
    while let Some((&first, tail)) = rest.split_first() {
        let begins = matches!(rest, [b'$', b'B' | b'@', ..]) && rest.len() <= resume_len;
        if !begins {
            out.push(first);
            rest = tail;
            continue;
        }
        let inner = &rest[2..];
        let mut end = None;
        let mut read = 0;
        for (at, pair) in inner.chunks_exact(2).enumerate() {
            read = at * 2;
            match pair {
                b"(B" | b"(J" => {
                    end = Some(at * 2);
                    break;
                }
                [0x21..=0x7e, 0x21..=0x7e] => {}
                _ => break,
            }
        }
        match end {
            Some(end) if end > 0 => {
                out.push(ESC);
                out.extend_from_slice(&rest[..2 + end]);
                out.push(ESC);
                out.extend_from_slice(&inner[end..end + 2]);
                rest = &inner[end + 2..];
            }
            _ => {
                resume_len = inner.len().saturating_sub(read);
                out.push(first);
                rest = tail;
            }
        }
    }
    Cow::Owned(out)
}
