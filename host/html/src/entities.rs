//! Character references of HTML: all names that represent one character, and numbers.

/// `NAME CODE` in hexadecimal, one per line, sorted by name (WHATWG HTML section 13.5). The 93 names that represent two
/// characters, mathematical signs, are left out.
const NAMES: &str = include_str!("entities.txt");
/// The characters of the numbers 128 to 159: those of windows-1252, as mailers use them (WHATWG HTML section 13.2.5.84).
const C1: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];
/// The most bytes between `&` and `;`: more than the longest name, and room for zeros before a number.
const LONGEST: usize = 32;

/// Decodes the references of a text. Other text stays unchanged.
pub fn decode(text: &str) -> String {
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let (c, length) = reference(rest).unwrap_or(('&', 1));
        decoded.push(c);
        rest = &rest[length..];
    }
    decoded.push_str(rest);
    decoded
}

/// Returns the character of the reference at the start of a text, and the reference's length in bytes. A number that is not
/// a character's becomes U+FFFD.
pub fn reference(text: &str) -> Option<(char, usize)> {
    let inner = text.strip_prefix('&')?;
    let end = inner.bytes().take(LONGEST + 1).position(|b| b == b';')?;
    let name = &inner[..end];
    let c = match name.strip_prefix('#') {
        Some(number) => numbered(number)?,
        None => named(name)?,
    };
    Some((c, end + 2))
}

/// Returns the character of a name such as `auml`; names are case-sensitive.
pub fn named(name: &str) -> Option<char> {
    let (mut from, mut to) = (0, NAMES.len());
    while from < to {
        let middle = (from + to) / 2;
        let start = NAMES[from..middle]
            .rfind('\n')
            .map_or(from, |end| from + end + 1);
        let end = NAMES[start..]
            .find('\n')
            .map_or(NAMES.len(), |end| start + end);
        let (known, code) = NAMES[start..end].split_once(' ')?;
        match known.cmp(name) {
            std::cmp::Ordering::Less => from = end + 1,
            std::cmp::Ordering::Greater => to = start,
            std::cmp::Ordering::Equal => {
                return u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
            }
        }
    }
    None
}

fn numbered(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix(['x', 'X']) {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return None;
    }
    // Only a number too large for any character overflows.
    let code = u32::from_str_radix(digits, radix).unwrap_or(u32::MAX);
    Some(match code {
        0 => char::REPLACEMENT_CHARACTER,
        0x80..=0x9f => C1[code as usize - 0x80],
        code => char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_become_characters() {
        for (written, meant) in [
            ("Gr&ouml;&szlig;e", "Größe"),
            ("&nbsp;&yuml;&Agrave;", "\u{a0}ÿÀ"),
            (
                "5&nbsp;&euro; &ndash; 10&nbsp;&deg;C",
                "5\u{a0}€ – 10\u{a0}°C",
            ),
            ("&#75;&#x4b;&#150;&#128;", "KK–€"),
            ("&lt;&amp;amp;", "<&amp;"),
            ("&CounterClockwiseContourIntegral;&Tab;", "∳\t"),
            (
                "&#xFFFFFF;&#0;&#xd800;&#99999999999;",
                "\u{fffd}\u{fffd}\u{fffd}\u{fffd}",
            ),
            (
                "R&D; &bogus; &toolongtobeany; &#; &#x; &#+1; &NotSubset; &",
                "R&D; &bogus; &toolongtobeany; &#; &#x; &#+1; &NotSubset; &",
            ),
            ("&ü;&", "&ü;&"),
        ] {
            assert_eq!(decode(written), meant, "{written}");
        }
    }

    #[test]
    fn every_name_is_found() {
        let mut before = "";
        for line in NAMES.lines() {
            let (name, code) = line.split_once(' ').unwrap();
            assert!(before < name, "{name} is not in order");
            assert!(name.len() <= LONGEST, "{name}");
            let c = u32::from_str_radix(code, 16).ok().and_then(char::from_u32);
            assert_eq!(named(name), c, "{name}");
            before = name;
        }
        for name in ["", "A", "zzz", "amp ", "amp\n"] {
            assert_eq!(named(name), None, "{name:?}");
        }
    }
}
