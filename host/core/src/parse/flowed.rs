//! Text with `format=flowed` (RFC 3676): paragraphs are joined again, quotes keep their depth.

/// Joins the flowed lines of a text whose line ends are `\n`. `del_sp` means that the blank at the end of a flowed line is
/// no part of the text.
pub(crate) fn joined(text: &str, del_sp: bool) -> String {
    let mut out = String::with_capacity(text.len() + text.len() / 16);
    // The quote depth of a paragraph whose last line flows on.
    let mut flowing = None;
    for (index, line) in text.split('\n').enumerate() {
        let unquoted = line.trim_start_matches('>');
        let depth = line.len() - unquoted.len();
        let content = unquoted.strip_prefix(' ').unwrap_or(unquoted);
        let is_signature = content == "-- ";
        if flowing != Some(depth) || is_signature {
            if index > 0 {
                out.push('\n');
            }
            out.extend(std::iter::repeat_n('>', depth));
            if depth > 0 && !content.is_empty() {
                out.push(' ');
            }
        }
        if content.ends_with(' ') && !is_signature {
            out.push_str(if del_sp {
                &content[..content.len() - 1]
            } else {
                content
            });
            flowing = Some(depth);
        } else {
            out.push_str(content);
            flowing = None;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::joined;

    #[test]
    fn paragraphs_quotes_and_signatures() {
        for (name, text, del_sp, expected) in [
            ("fixed", "a\nb\n", false, "a\nb\n"),
            ("flowed", "a \nb\n", false, "a b\n"),
            ("DelSp", "fr\u{fc} \nh\n", true, "fr\u{fc}h\n"),
            ("DelSp keeps one", "aus  \nallem\n", true, "aus allem\n"),
            ("stuffed", " > a\n From b\n", false, "> a\nFrom b\n"),
            ("quote", "> a \n> b\nc\n", false, "> a b\nc\n"),
            ("depth", ">> a \n> b \n> c\n", false, ">> a \n> b c\n"),
            ("quote without blank", ">a\n>\n>b\n", false, "> a\n>\n> b\n"),
            ("signature", "a \n-- \nNora\n", false, "a \n-- \nNora\n"),
            (
                "quoted signature",
                "> -- \n> Nora\n",
                false,
                "> -- \n> Nora\n",
            ),
            ("blank lines", "a\n\n \nb", false, "a\n\n\nb"),
            ("open end", "a ", false, "a "),
            ("empty", "", true, ""),
        ] {
            assert_eq!(joined(text, del_sp), expected, "{name}");
        }
    }
}
