//! Case-insensitive comparison without building lower-case copies; the known words are written in lower case.

pub(crate) fn starts_with(text: &str, known: &str) -> bool {
    let ascii = |word: &str| word.bytes().next().filter(u8::is_ascii);
    if let (Some(a), Some(b)) = (ascii(text), ascii(known))
        && a.to_ascii_lowercase() != b
    {
        return false;
    }
    let mut folded = folded(text);
    known.chars().all(|c| folded.next() == Some(c))
}

pub(crate) fn starts_with_any(text: &str, known: &[&str]) -> bool {
    known.iter().any(|known| starts_with(text, known))
}

pub(crate) fn is_any(text: &str, known: &[&str]) -> bool {
    known
        .iter()
        .any(|known| starts_with(text, known) && folded(text).count() == known.chars().count())
}

/// Returns a subject without the prefixes of gateways and ticket systems: `[EXTERNAL] Re: x` is `Re: x`.
pub(crate) fn without_tags(subject: &str) -> &str {
    const LONGEST_TAG: usize = 40;
    let mut rest = subject.trim_start();
    while let Some((tag, after)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'))
        && tag.len() <= LONGEST_TAG
        && !after.trim_start().is_empty()
    {
        rest = after.trim_start();
    }
    rest
}

/// Returns whether two texts are equal without regard to case.
pub(crate) fn folded_eq(a: &str, b: &str) -> bool {
    folded(a).eq(folded(b))
}

/// Returns the characters in lower case. The Turkish `İ` becomes a plain `i`, without the dot that Unicode adds to it.
pub(crate) fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .flat_map(char::to_lowercase)
        .filter(|c| *c != '\u{307}')
}
