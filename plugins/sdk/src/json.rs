//! Just enough JSON to read one string from the settings: a JSON crate would triple the size of a small rule.

/// Returns a string member of the outermost object; `None` if it is missing or not a string, or if the JSON is malformed
/// before it.
pub fn text_member(json: &str, name: &str) -> Option<String> {
    let mut reader = Reader { rest: json };
    reader.eat('{')?;
    loop {
        let key = reader.text()?;
        reader.eat(':')?;
        if key == name {
            return reader.text();
        }
        reader.skip_value()?;
        reader.eat(',')?;
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn peek(&mut self) -> Option<char> {
        self.rest = self.rest.trim_start();
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest.chars().next()?;
        self.rest = &self.rest[next.len_utf8()..];
        Some(next)
    }

    fn eat(&mut self, expected: char) -> Option<()> {
        (self.peek()? == expected).then(|| self.next())?;
        Some(())
    }

    fn text(&mut self) -> Option<String> {
        self.eat('"')?;
        let mut text = String::new();
        loop {
            match self.next()? {
                '"' => return Some(text),
                '\\' => text.push(self.escape()?),
                other => text.push(other),
            }
        }
    }

    fn escape(&mut self) -> Option<char> {
        Some(match self.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'u' => {
                let unit = self.unit()?;
                if (0xD800..0xDC00).contains(&unit) {
                    self.rest = self.rest.strip_prefix("\\u")?;
                    let low = self
                        .unit()?
                        .checked_sub(0xDC00)
                        .filter(|low| *low < 0x400)?;
                    char::from_u32(0x10000 + ((unit - 0xD800) << 10) + low)?
                } else {
                    char::from_u32(unit)?
                }
            }
            same @ ('"' | '\\' | '/') => same,
            _ => return None,
        })
    }

    fn unit(&mut self) -> Option<u32> {
        let digits = self.rest.get(..4)?;
        self.rest = &self.rest[4..];
        u32::from_str_radix(digits, 16).ok()
    }

    /// Skips one value; brackets inside strings do not count.
    fn skip_value(&mut self) -> Option<()> {
        let mut depth = 0usize;
        loop {
            match self.peek()? {
                '"' => {
                    self.text()?;
                }
                '{' | '[' => {
                    depth += 1;
                    self.next();
                }
                '}' | ']' => {
                    depth = depth.checked_sub(1)?;
                    self.next();
                }
                _ => {
                    self.next();
                }
            }
            if depth == 0 && matches!(self.peek()?, ',' | '}') {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text_member;

    #[test]
    fn a_text_is_found_past_other_values() {
        let json = r#" { "a": [1, {"queue": "no"}, "]"], "b": 1.5e3, "queue" : "Zürich \"2\" \n\ud83d\ude00", "c": null } "#;
        assert_eq!(
            text_member(json, "queue").as_deref(),
            Some("Zürich \"2\" \n\u{1F600}")
        );
    }

    #[test]
    fn what_is_no_text_or_malformed_is_none() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"queue": 5}"#,
            r#"{"queue": "x"#,
            r#"{"a": {"queue": "x"}}"#,
            r#"{"queue":"\ud83d"}"#,
        ] {
            assert_eq!(text_member(json, "queue"), None, "{json}");
        }
    }
}
