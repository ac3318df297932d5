//! Finds unquoted text where TOML requires a value, the most common mistake of first-time authors.

/// The characters that end an unquoted value.
const ENDS: [char; 8] = [',', ']', '}', '#', '\n', '\r', '"', '\''];

/// Returns the unquoted text that begins or ends at the offset of a syntax error, with the offset of its start.
pub fn bare_text(text: &str, at: usize) -> Option<(usize, &str)> {
    let begin = text.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
    let line = text[begin..].split('\n').next()?;
    if line.trim_start().starts_with('[') {
        return None;
    }
    let opens = ['=', '[', ','];
    let opened = text[begin..at].rfind(opens).or_else(|| line.find('='));
    // A line without any of these characters belongs to an array.
    let begin = begin + opened.map_or(0, |it| it + 1);
    let value = &text[begin..];
    let begin = begin + (value.len() - value.trim_start_matches([' ', '\t']).len());
    let bare = text[begin..].split(ENDS).next()?.trim_end();
    let is_number = bare
        .chars()
        .all(|c| c.is_ascii_digit() || "+-._:".contains(c))
        && bare.matches('.').count() < 2;
    let is_word = matches!(bare, "true" | "false" | "inf" | "nan");
    let is_table = bare.starts_with(['{', '[']);
    (!bare.is_empty() && !is_number && !is_word && !is_table).then_some((begin, bare))
}

#[cfg(test)]
mod tests {
    use toml::de::DeTable;

    use super::*;

    /// Returns the text reported in a document's first error.
    fn found(text: &str) -> Option<&str> {
        let (_, errors) = DeTable::parse_recoverable(text);
        let at = errors.first().expect("an error").span().unwrap().start;
        bare_text(text, at).map(|(_, bare)| bare)
    }

    #[test]
    fn text_without_quotes_is_found_wherever_it_stands() {
        for (text, expected) in [
            ("protocol = imap", "imap"),
            ("[m]\nprotocol = imap # a comment\nevery = \"2m\"", "imap"),
            ("every = 2m", "2m"),
            ("every = 30 s", "30 s"),
            ("size = 64MiB", "64MiB"),
            ("path = /var/spool/acme", "/var/spool/acme"),
            ("path = spool/acme", "spool/acme"),
            ("address = help@acme.example", "help@acme.example"),
            ("url = https://psa.example/x?y", "https://psa.example/x?y"),
            ("host = imap.acme.example\nport = 993", "imap.acme.example"),
            ("tenant = nan-acme", "nan-acme"),
            ("tenant = true-north", "true-north"),
            ("tenant = Müller", "Müller"),
            ("tenant = acme GmbH", "acme GmbH"),
            ("rules = [standard]", "standard"),
            ("rules = [\"rules/a.js\", standard]", "standard"),
            ("password = { env = ACME }", "ACME"),
            ("password = {env=ACME}", "ACME"),
            ("server = 10.0.0.1", "10.0.0.1"),
            ("rules = [\n  \"rules/a.js\",\n  standard,\n]", "standard"),
        ] {
            assert_eq!(found(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_faults_are_not_taken_for_it() {
        for text in [
            "a = ",
            "a = \"open",
            "a = 1\na = 2",
            "a = [1, 2",
            "[table",
            "a = 1_",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
