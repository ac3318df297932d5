//! Makes foreign text harmless for terminals, logs and listings: the one list of characters that control a terminal or
//! are invisible.
//!
//! [`visible`] escapes these characters, so that nothing is lost; [`harmless`] removes them from a server's text;
//! [`picture`] keeps one column for each on a screen.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Stands for a character without a picture: ␚. Some terminals drop U+FFFD.
const SUBSTITUTE: char = '\u{241a}';

/// Returns the text with every [hidden](is_hidden) character as a JSON escape. Line feeds and tabs stay, and a
/// carriage return before a line feed is left out.
pub fn visible(text: &str) -> Cow<'_, str> {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    if text.bytes().all(is_plain) || !text.chars().any(|c| is_hidden(c) && !is_layout(c)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\r' if chars.peek() == Some(&'\n') => {}
            c if is_hidden(c) && !is_layout(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(shown, "\\u{unit:04x}");
                }
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Returns the text on one line: like [`visible`], with line ends and tabs as spaces.
pub fn on_one_line(text: &str) -> String {
    let flat: String = text
        .chars()
        .filter(|c| *c != '\r')
        .map(|c| if is_layout(c) { ' ' } else { c })
        .collect();
    visible(&flat).into_owned()
}

fn is_layout(c: char) -> bool {
    matches!(c, '\n' | '\t')
}

/// Returns whether a character moves the cursor, changes colours, rings, breaks a line, changes the reading direction
/// (Unicode UAX #9), or is invisible and changes what is read. The joiners U+200C and U+200D belong to letters in several
/// scripts and stay.
pub fn is_hidden(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f'
        | '\x7f'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{180e}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// Returns the text on one line: control characters and line ends become spaces, all other [hidden](is_hidden) characters
/// are dropped.
pub fn harmless(text: &str) -> String {
    harmless_chars(text).collect()
}

/// Returns the characters of [`harmless`], for callers with their own limit.
pub fn harmless_chars(text: &str) -> impl Iterator<Item = char> {
    text.chars().filter_map(|c| match c {
        c if c.is_control() || breaks(c) => Some(' '),
        c if is_hidden(c) => None,
        c => Some(c),
    })
}

/// Returns the character that represents this one on a screen: the picture of a control character, a space for a line end.
pub fn picture(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' => ' ',
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or(SUBSTITUTE),
        '\x7f' => '\u{2421}',
        c if is_hidden(c) => SUBSTITUTE,
        c => c,
    }
}

/// Returns whether a character is a line end but not a control character.
fn breaks(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_hidden_is_left() {
        for (text, expected) in [
            ("plain ü 名 👩\u{200d}🚒", "plain ü 名 👩\u{200d}🚒"),
            ("a\nb\tc", "a\nb\tc"),
            ("a\r\nb\rc", "a\nb\\u000dc"),
            ("\x1b[2J\x07", "\\u001b[2J\\u0007"),
            ("\u{9b}31m\x7f", "\\u009b31m\\u007f"),
            ("\u{202e}moc.live\u{2066}", "\\u202emoc.live\\u2066"),
            ("a\u{2028}b\u{200b}c\u{feff}", "a\\u2028b\\u200bc\\ufeff"),
            ("\u{e0041}", "\\udb40\\udc41"),
        ] {
            assert_eq!(visible(text), expected, "{text:?}");
        }
        assert_eq!(on_one_line("a\r\nb\tc\x1b"), "a b c\\u001b");
    }

    #[test]
    fn harmless_text_neither_moves_breaks_turns_nor_hides() {
        for (text, expected) in [
            ("plain ü 名", "plain ü 名"),
            ("a\u{1b}[2Jb\r\nc\u{85}d", "a [2Jb  c d"),
            ("a\u{2028}b\u{2029}c", "a b c"),
            ("\u{202e}moc.live\u{202c}", "moc.live"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "a"),
            ("a\u{200b}b\u{ad}c\u{feff}d\u{e0041}", "abcd"),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }

    /// The three ways to display a text agree on which characters are hidden.
    #[test]
    fn whatever_is_hidden_is_shown_by_none() {
        for c in (0..=0x10ffff).filter_map(char::from_u32) {
            let text = c.to_string();
            let is_shown = !is_hidden(c) || matches!(c, '\n' | '\t');
            assert_eq!(visible(&text) == text, is_shown, "{c:?}");
            assert!(!is_hidden(picture(c)), "{c:?}");
            assert!(!harmless(&text).chars().any(is_hidden), "{c:?}");
        }
    }
}
