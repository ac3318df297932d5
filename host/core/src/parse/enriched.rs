//! The text of `text/enriched` (RFC 1896) and of its forerunner `text/richtext` (RFC 1341).

/// Commands whose content is no text.
const UNSEEN: &[&str] = &["param", "comment"];

/// Returns the text without its commands, with the line breaks that a reader shows.
pub(crate) fn to_text(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut unseen = 0usize;
    let mut unfilled = 0usize;
    while let Some(at) = rest.find(['<', '\n']) {
        if unseen == 0 {
            out.push_str(&rest[..at]);
        }
        rest = &rest[at..];
        if rest.starts_with('\n') {
            let breaks = rest.bytes().take_while(|b| *b == b'\n').count();
            rest = &rest[breaks..];
            if unseen > 0 {
                continue;
            }
            match (breaks, unfilled) {
                (1, 0) if !rest.is_empty() => out.push(' '),
                (1, 0) => out.push('\n'),
                (_, 0) => out.extend(std::iter::repeat_n('\n', breaks - 1)),
                _ => out.extend(std::iter::repeat_n('\n', breaks)),
            }
        } else if let Some(tail) = rest.strip_prefix("<<") {
            out.push('<');
            rest = tail;
        } else {
            let most = rest.floor_char_boundary(64);
            let Some(end) = rest[..most].find('>') else {
                out.push('<');
                rest = &rest[1..];
                continue;
            };
            let command = rest[1..end].trim().to_ascii_lowercase();
            rest = &rest[end + 1..];
            let (name, opens) = match command.strip_prefix('/') {
                Some(name) => (name, false),
                None => (command.as_str(), true),
            };
            let step = |count: usize| match opens {
                true => count + 1,
                false => count.saturating_sub(1),
            };
            match name {
                "nl" | "paragraph" if unseen == 0 => out.push('\n'),
                "lt" => out.push('<'),
                "nofill" => unfilled = step(unfilled),
                name if UNSEEN.contains(&name) => unseen = step(unseen),
                _ => {}
            }
        }
    }
    if unseen == 0 {
        out.push_str(rest);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::to_text;

    #[test]
    fn commands_go_and_breaks_stay() {
        for (source, expected) in [
            ("<bold>Hello</bold>\nworld.\n\nNext", "Hello world.\nNext"),
            ("<color><param>red</param>a</color> << b", "a < b"),
            ("<nofill>a\nb</nofill>", "a\nb"),
            ("a <lt> b<nl>c", "a < b\nc"),
            ("1 < 2", "1 < 2"),
            ("<", "<"),
        ] {
            assert_eq!(to_text(source), expected);
        }
    }
}
