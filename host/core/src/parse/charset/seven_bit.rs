//! UTF-7 (RFC 2152) and HZ (RFC 1843).

use encoding_rs::GB18030;

use super::Decoded;

/// Decodes UTF-7. A shifted run ends at any character outside base64, which stays unless it is a `-`, or with the text. What
/// is no run, such as the `+49` of a telephone number, stays as it is.
pub(super) fn utf_7(bytes: &[u8]) -> Decoded {
    let mut out = Decoded::default();
    // The first half of a surrogate pair, which may be cut over two runs.
    let mut half: Option<u16> = None;
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'+' {
            close(&mut half, &mut out);
            let end = rest.iter().position(|b| *b == b'+').unwrap_or(rest.len());
            literal(&rest[..end], &mut out);
            rest = &rest[end..];
            continue;
        }
        let run = tail
            .iter()
            .position(|b| value(*b).is_none())
            .unwrap_or(tail.len());
        let (run, after) = tail.split_at(run);
        let (units, whole) = units(run);
        if run.is_empty() || units.is_empty() || !(whole || after.is_empty()) {
            close(&mut half, &mut out);
            out.text.push('+');
            rest = match (run, after) {
                ([], [b'-', after @ ..]) => after,
                _ => tail,
            };
            if !run.is_empty() {
                literal(run, &mut out);
                rest = after;
            }
            continue;
        }
        for unit in units {
            match (half.take(), unit) {
                (Some(high), 0xdc00..=0xdfff) => {
                    let pair = char::decode_utf16([high, unit]).next();
                    out.text
                        .push(pair.and_then(Result::ok).unwrap_or('\u{fffd}'));
                }
                (before, _) => {
                    if before.is_some() {
                        out.text.push('\u{fffd}');
                        out.errors += 1;
                    }
                    if matches!(unit, 0xd800..=0xdbff) {
                        half = Some(unit);
                    } else if let Some(c) = char::from_u32(u32::from(unit)) {
                        out.text.push(c);
                    } else {
                        out.text.push('\u{fffd}');
                        out.errors += 1;
                    }
                }
            }
        }
        rest = after.strip_prefix(b"-").unwrap_or(after);
    }
    close(&mut half, &mut out);
    out
}

fn close(half: &mut Option<u16>, out: &mut Decoded) {
    if half.take().is_some() {
        out.text.push('\u{fffd}');
        out.errors += 1;
    }
}

fn literal(bytes: &[u8], out: &mut Decoded) {
    let text = String::from_utf8_lossy(bytes);
    out.errors += text.matches('\u{fffd}').count();
    out.text.push_str(&text);
}

/// Returns the UTF-16 units of a run, and whether the bits that are left are padding.
fn units(run: &[u8]) -> (Vec<u16>, bool) {
    let mut units = Vec::with_capacity(run.len() * 3 / 8);
    let (mut bits, mut held) = (0u32, 0u32);
    for b in run {
        bits = bits << 6 | u32::from(value(*b).unwrap_or(0));
        held += 6;
        if held >= 16 {
            held -= 16;
            units.push((bits >> held) as u16);
            bits &= (1 << held) - 1;
        }
    }
    (units, held < 6 && bits == 0)
}

fn value(b: u8) -> Option<u8> {
    Some(match b {
        b'A'..=b'Z' => b - b'A',
        b'a'..=b'z' => b - b'a' + 26,
        b'0'..=b'9' => b - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    })
}

/// Decodes HZ: `~{` begins Chinese and `~}` ends it, `~~` is a tilde, and `~` at the end of a line joins it with the next.
pub(super) fn hz(bytes: &[u8]) -> Decoded {
    let mut gbk = Vec::with_capacity(bytes.len());
    let mut chinese = false;
    let mut rest = bytes;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match (first, tail) {
            (b'~', [b'{', tail @ ..]) => {
                chinese = true;
                rest = tail;
            }
            (b'~', [b'}', tail @ ..]) => {
                chinese = false;
                rest = tail;
            }
            (b'~', [b'~', tail @ ..]) if !chinese => {
                gbk.push(b'~');
                rest = tail;
            }
            (b'~', [b'\n', tail @ ..] | [b'\r', b'\n', tail @ ..]) if !chinese => rest = tail,
            // The line's end also ends Chinese whose end mark is missing.
            (b'\n', _) => {
                chinese = false;
                gbk.push(b'\n');
            }
            (0x21..=0x7e, [second @ 0x21..=0x7e, tail @ ..]) if chinese => {
                gbk.extend([first | 0x80, second | 0x80]);
                rest = tail;
            }
            _ => gbk.push(first),
        }
    }
    Decoded::of(GB18030.decode_without_bom_handling(&gbk).0.into_owned())
}
