//! What others wrote, as it may be shown on a terminal, in a log and in a listing: one place decides what is harmless.

/// The text on one line, without what moves the cursor, colours the screen or turns the order of letters around.
pub fn harmless(text: &str) -> String {
    harmless_chars(text).collect()
}

/// As [`harmless`], for callers with a limit of their own.
pub fn harmless_chars(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|c| !turns(*c))
        .map(|c| if c.is_control() || breaks(c) { ' ' } else { c })
}

/// Marks of the bidirectional algorithm (Unicode UAX #9 section 2): they show a text as another than it is.
fn turns(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Line ends that are no control characters.
fn breaks(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_moves_breaks_or_turns() {
        for (text, expected) in [
            ("plain ü 名", "plain ü 名"),
            ("a\u{1b}[2Jb\r\nc\u{85}d", "a [2Jb  c d"),
            ("a\u{2028}b\u{2029}c", "a b c"),
            ("\u{202e}moc.live\u{202c}", "moc.live"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "a"),
        ] {
            assert_eq!(harmless(text), expected, "{text:?}");
        }
    }
}
