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
/// The names that browsers also read without their `;` (WHATWG HTML section 13.5), sorted.
const LEGACY: &str = "AElig AMP Aacute Acirc Agrave Aring Atilde Auml COPY Ccedil ETH Eacute Ecirc Egrave Euml GT Iacute Icirc Igrave Iuml \
    LT Ntilde Oacute Ocirc Ograve Oslash Otilde Ouml QUOT REG THORN Uacute Ucirc Ugrave Uuml Yacute aacute acirc acute aelig agrave amp \
    aring atilde auml brvbar ccedil cedil cent copy curren deg divide eacute ecirc egrave eth euml frac12 frac14 frac34 gt iacute icirc \
    iexcl igrave iquest iuml laquo lt macr micro middot nbsp not ntilde oacute ocirc ograve ordf ordm oslash otilde ouml para plusmn \
    pound quot raquo reg sect shy sup1 sup2 sup3 szlig thorn times uacute ucirc ugrave uml uuml yacute yen yuml";

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
/// a character's becomes U+FFFD. The `;` may be missing after a number and after an old name, unless letters, digits or `=`
/// follow, as in the `&copy=2` of an address.
pub fn reference(text: &str) -> Option<(char, usize)> {
    let inner = text.strip_prefix('&')?;
    let is_name = |b: u8| b.is_ascii_alphanumeric() || b == b'#';
    let bytes = inner.as_bytes();
    let end = bytes
        .iter()
        .take(LONGEST + 1)
        .position(|b| !is_name(*b))
        .unwrap_or(bytes.len());
    let name = &inner[..end];
    let closed = bytes.get(end) == Some(&b';');
    if !closed && (end > LONGEST || bytes.get(end) == Some(&b'=')) {
        return None;
    }
    let c = match name.strip_prefix('#') {
        Some(number) => numbered(number)?,
        None if closed || is_legacy(name) => named(name)?,
        None => return None,
    };
    Some((c, 1 + end + usize::from(closed)))
}

fn is_legacy(name: &str) -> bool {
    name.len() > 1 && LEGACY.split_ascii_whitespace().any(|known| known == name)
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
                "5&nbsp&copy 2024 &#150 &amp&lt, &ouml\n",
                "5\u{a0}© 2024 – &<, ö\n",
            ),
            (
                "?a=1&copy=2&reg=3&lt=4 &alpha &notit &ampere",
                "?a=1&copy=2&reg=3&lt=4 &alpha &notit &ampere",
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
    fn every_old_name_is_known() {
        for name in LEGACY.split_ascii_whitespace() {
            assert!(named(name).is_some(), "{name}");
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
