//! Unicode that is damaged or does not say its byte order.

use encoding_rs::{Encoding, UTF_16BE, UTF_16LE, WINDOWS_1252};

use super::Decoded;

/// How many bytes are looked at to find the byte order.
const SAMPLE: usize = 4096;

/// UTF-8 with errors, read as far as possible.
pub(crate) struct MendedUtf8 {
    pub text: String,
    /// The valid characters above 127.
    valid: usize,
    /// Single bytes that were read as windows-1252.
    pub foreign: usize,
    /// Parts of characters, each of which became U+FFFD.
    pub broken: usize,
}

/// Reads UTF-8 that has errors: surrogates encoded one by one (CESU-8) are joined, and a lone byte above 127 is read as
/// windows-1252, because mails quote other mails without converting them. `None` if less than half of what is above 127 is
/// UTF-8, so that it is another charset.
pub(crate) fn mend_utf8(bytes: &[u8]) -> Option<MendedUtf8> {
    /// Errors more than valid characters, after which nothing more is read.
    const GIVE_UP: usize = 64;
    let mut out = MendedUtf8 {
        text: String::with_capacity(bytes.len()),
        valid: 0,
        foreign: 0,
        broken: 0,
    };
    let mut rest = bytes;
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) => {
                out.valid += lead_bytes(valid);
                out.text.push_str(valid);
                return (out.valid > out.foreign + out.broken).then_some(out);
            }
            Err(error) => error,
        };
        let (valid, bad) = rest.split_at(error.valid_up_to());
        let valid = String::from_utf8_lossy(valid);
        out.valid += lead_bytes(&valid);
        out.text.push_str(&valid);
        if out.foreign + out.broken > out.valid + GIVE_UP {
            return None;
        }
        let continuation = |b: &u8| matches!(b, 0x80..=0xbf);
        rest = match bad {
            [
                0xed,
                a @ 0xa0..=0xaf,
                b @ 0x80..=0xbf,
                0xed,
                c @ 0xb0..=0xbf,
                d @ 0x80..=0xbf,
                tail @ ..,
            ] => {
                let unit = |high: u8, low: u8| {
                    0xd000 | u16::from(high & 0x3f) << 6 | u16::from(low & 0x3f)
                };
                let pair = char::decode_utf16([unit(*a, *b), unit(*c, *d)]).next();
                out.text
                    .push(pair.and_then(Result::ok).unwrap_or('\u{fffd}'));
                out.valid += 1;
                tail
            }
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, tail @ ..] => {
                out.text.push('\u{fffd}');
                out.broken += 1;
                tail
            }
            bad => {
                let len = error.error_len().unwrap_or(bad.len());
                let followed = bad.get(1).is_some_and(continuation);
                if len == 1 && !(continuation(&bad[0]) && followed) {
                    match bad[0] {
                        0x80..=0x9f => {
                            let (text, _) = WINDOWS_1252.decode_without_bom_handling(&bad[..1]);
                            out.text.push_str(&text);
                        }
                        // As in Latin-1.
                        b => out.text.push(char::from(b)),
                    }
                    out.foreign += 1;
                    &bad[1..]
                } else {
                    let more = bad[len..].iter().take_while(|b| continuation(b)).count();
                    out.text.push('\u{fffd}');
                    out.broken += 1;
                    &bad[len + more..]
                }
            }
        };
    }
}

fn lead_bytes(text: &str) -> usize {
    text.bytes().filter(|b| *b >= 0xc0).count()
}

/// Returns the byte order of UTF-16 without a mark: that in which more units are ASCII, kana, or characters of East Asia.
pub(super) fn utf_16_order(bytes: &[u8]) -> &'static Encoding {
    let likelihood = |high: u8| match high {
        0 => 4,
        0x04 | 0x30 | 0x4e..=0x9f | 0xac..=0xd7 | 0xff => 1,
        _ => 0,
    };
    let (mut little, mut big) = (0, 0);
    for unit in bytes.chunks_exact(2).take(SAMPLE / 2) {
        big += likelihood(unit[0]);
        little += likelihood(unit[1]);
    }
    // RFC 2781 section 4.3: big-endian unless something says otherwise.
    if little > big { UTF_16LE } else { UTF_16BE }
}

/// Returns the encoding of text that is UTF-16 although nothing says so: every second byte is NUL, with few exceptions.
pub(crate) fn utf_16_without_mark(bytes: &[u8]) -> Option<&'static Encoding> {
    let sample = &bytes[..bytes.len().min(SAMPLE)];
    let (mut even, mut odd, mut both) = (0, 0, 0);
    for unit in sample.chunks_exact(2) {
        match unit {
            [0, 0] => both += 1,
            [0, _] => even += 1,
            [_, 0] => odd += 1,
            _ => {}
        }
    }
    let units = sample.len() / 2;
    // Text in Latin script; others have no NULs to find.
    let most = |found: usize, other: usize| {
        units >= 2 && found * 4 >= units * 3 && other == 0 && both == 0
    };
    if most(odd, even) {
        Some(UTF_16LE)
    } else if most(even, odd) {
        Some(UTF_16BE)
    } else {
        None
    }
}

pub(super) fn utf_32(bytes: &[u8]) -> Decoded {
    let (mut little, mut big) = (0, 0);
    for unit in bytes.chunks_exact(4).take(SAMPLE / 4) {
        big += usize::from(unit[0] == 0 && unit[1] <= 0x10);
        little += usize::from(unit[3] == 0 && unit[2] <= 0x10);
    }
    let text: String = bytes
        .chunks(4)
        .map(|unit| {
            let Ok(unit) = <[u8; 4]>::try_from(unit) else {
                return '\u{fffd}';
            };
            let code = if little > big {
                u32::from_le_bytes(unit)
            } else {
                u32::from_be_bytes(unit)
            };
            char::from_u32(code).unwrap_or('\u{fffd}')
        })
        .collect();
    Decoded::of(text)
}
