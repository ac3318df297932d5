//! Finds the patterns that stand as plain text in a script's `match` and `findAll`, and tries them, so that a bad one is told before a mail meets it.

use postroom_sandbox::Limits;
use regex::RegexBuilder;

use crate::config::Problem;

const FINDERS: &[&str] = &["match", "findAll"];
/// After these words a slash begins a regular expression, not a division.
const WORDS_BEFORE_REGEXP: &[&str] = &[
    "return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "else", "do",
];

/// Every literal pattern of a script that the linear-time engine refuses.
pub fn refused(file: &str, script: &str, limits: &Limits) -> Vec<Problem> {
    let tokens = tokens(script);
    let texts = (0..tokens.len()).filter_map(|n| pattern_at(&tokens[n..]));
    texts
        .filter_map(|(at, pattern)| {
            let (message, cure) = fault(pattern, limits)?;
            let (line, column) = place(script, at);
            Some(Problem {
                file: file.into(),
                line,
                column,
                key: String::new(),
                message,
                cure,
                source: None,
            })
        })
        .collect()
}

/// Line and column of an offset, from 1; the column in characters.
pub(super) fn place(script: &str, at: usize) -> (u32, u32) {
    let before = &script[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.matches('\n').count() as u32 + 1;
    let column = script[line_start..at].chars().count() as u32 + 1;
    (line, column)
}

#[derive(Debug, PartialEq)]
pub(super) enum Token<'s> {
    Word(&'s str),
    /// A string, decoded, and where it stands. `None` when a template's holes make it unknown.
    Text(usize, Option<String>),
    RegExp,
    Number,
    Sign(char),
}

/// The literal pattern of a call that begins here: `.match(field, "pattern")`. A string's own `match` takes one argument.
fn pattern_at<'t>(tokens: &'t [Token]) -> Option<(usize, &'t str)> {
    let [
        Token::Sign('.'),
        Token::Word(finder),
        Token::Sign('('),
        rest @ ..,
    ] = tokens
    else {
        return None;
    };
    if !FINDERS.contains(finder) {
        return None;
    }
    let mut depth = 0usize;
    for (n, token) in rest.iter().enumerate() {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth = depth.checked_sub(1)?,
            Token::Sign(',') if depth == 0 => {
                // A lone literal: one that is added to something is not the whole pattern.
                return match &rest[n + 1..] {
                    [Token::Text(at, Some(text)), Token::Sign(')' | ','), ..] => Some((*at, text)),
                    _ => None,
                };
            }
            _ => {}
        }
    }
    None
}

fn fault(pattern: &str, limits: &Limits) -> Option<(String, String)> {
    if pattern.len() > limits.pattern_bytes {
        return Some((
            format!("the pattern has {} bytes", pattern.len()),
            format!("a pattern may have {} bytes", limits.pattern_bytes),
        ));
    }
    let built = RegexBuilder::new(pattern)
        .size_limit(limits.compiled_pattern_bytes)
        .build();
    match built {
        Ok(_) => None,
        Err(regex::Error::CompiledTooBig(_)) => Some((
            "the pattern is too large once compiled".into(),
            "repeat less in it".into(),
        )),
        // The engine draws an arrow under the pattern; the last line says what is wrong.
        Err(error) => {
            let drawn = error.to_string();
            let reason = drawn.lines().last().unwrap_or_default();
            let reason = reason.strip_prefix("error: ").unwrap_or(reason);
            Some((
                format!("the pattern {pattern:?} is refused: {reason}"),
                "patterns in quotes are run in linear time, without look-around and back-references; write a /regular expression/ where you need those".into(),
            ))
        }
    }
}

/// A script's words, strings and signs; comments and blanks are left out. Total: what is no script gives odd tokens, no error.
pub(super) fn tokens(script: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = script;
    while let Some(first) = rest.chars().next() {
        let at = script.len() - rest.len();
        let length = match first {
            c if c.is_whitespace() => c.len_utf8(),
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '/' if regexp_may_begin(tokens.last()) => match regexp(rest) {
                Some(length) => {
                    tokens.push(Token::RegExp);
                    length
                }
                None => {
                    tokens.push(Token::Sign('/'));
                    1
                }
            },
            '"' | '\'' | '`' => {
                let (length, text) = string(rest, first);
                tokens.push(Token::Text(at, text));
                length
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                tokens.push(if c.is_ascii_digit() {
                    Token::Number
                } else {
                    Token::Word(&rest[..length])
                });
                length
            }
            c => {
                tokens.push(Token::Sign(c));
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn regexp_may_begin(before: Option<&Token>) -> bool {
    match before {
        None => true,
        Some(Token::Word(word)) => WORDS_BEFORE_REGEXP.contains(word),
        Some(Token::Sign(sign)) => !matches!(sign, ')' | ']' | '}'),
        Some(Token::Text(..) | Token::RegExp | Token::Number) => false,
    }
}

/// The length of a regular expression's body; its flags are a word like any other.
fn regexp(text: &str) -> Option<usize> {
    let mut escaped = false;
    let mut in_class = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '\n' => return None,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '[' => in_class = true,
            ']' => in_class = false,
            '/' if !in_class => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// A string's length with its quotes, and what it says (ECMA-262 section 12.9.4).
fn string(text: &str, quote: char) -> (usize, Option<String>) {
    let mut said = Some(String::new());
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            _ if c == quote => return (at + 1, said),
            '\n' if quote != '`' => return (at, None),
            '$' if quote == '`' && chars.peek().is_some_and(|(_, c)| *c == '{') => said = None,
            '\\' => {
                let Some((_, escape)) = chars.next() else {
                    break;
                };
                let decoded = match escape {
                    'n' => Some('\n'),
                    't' => Some('\t'),
                    'r' => Some('\r'),
                    'b' => Some('\u{8}'),
                    'f' => Some('\u{c}'),
                    'v' => Some('\u{b}'),
                    '0' => Some('\0'),
                    '\n' => None,
                    'x' => code(&mut chars, 2),
                    'u' => code(&mut chars, 4),
                    other => Some(other),
                };
                if let (Some(said), Some(decoded)) = (&mut said, decoded) {
                    said.push(decoded);
                }
            }
            _ => {
                if let Some(said) = &mut said {
                    said.push(c);
                }
            }
        }
    }
    (text.len(), None)
}

/// The character of `\x41`, `\u0041` or `\u{41}`; what has none stands as the replacement character.
fn code(
    chars: &mut std::iter::Peekable<impl Iterator<Item = (usize, char)>>,
    digits: usize,
) -> Option<char> {
    let braced = chars.next_if(|(_, c)| *c == '{').is_some();
    let mut value = 0u32;
    let most = if braced { 6 } else { digits };
    for _ in 0..most {
        let Some((_, c)) = chars.next_if(|(_, c)| c.is_ascii_hexdigit()) else {
            break;
        };
        value = value << 4 | c.to_digit(16).unwrap_or(0);
    }
    if braced {
        chars.next_if(|(_, c)| *c == '}');
    }
    Some(char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(script: &str) -> Vec<(u32, u32)> {
        let found = refused("rule.js", script, &Limits::default());
        found.iter().map(|p| (p.line, p.column)).collect()
    }

    #[test]
    fn bad_literal_patterns_are_found_where_they_stand() {
        let script = "export function decide(mail) {\n  // mail.match(\"text\", \"(\")\n  if (mail.match(\"subject\", \"(unclosed\")) return;\n  for (const m of mail.findAll(`text`, '(?=ahead)')) ;\n}";
        assert_eq!(places(script), [(3, 29), (4, 40)]);
    }

    #[test]
    fn what_is_no_literal_pattern_is_let_be() {
        for script in [
            r#"mail.match("subject", "good (\\d+)")"#,
            r#"mail.match("subject", "(" + rest)"#,
            r#"mail.match("subject", pattern)"#,
            r#"mail.match("subject", /(?=ahead)/)"#,
            r#""text".match("(")"#,
            r#"const s = ".match('a', '(')""#,
            r#"mail.match("subject", `(${x}`)"#,
            r#"const half = a / b; x.match(f(1, "("), "fine") / 2"#,
            r#"return /["'`(]/.test(x) && mail.match("text", "fine")"#,
            "mail.match(\"subject\", \"unended",
            "",
        ] {
            assert_eq!(places(script), [], "{script}");
        }
    }

    #[test]
    fn escapes_mean_what_javascript_means() {
        let (length, said) = string(r#""a\\d\u{41}\x42\n\q" rest"#, '"');
        assert_eq!((length, said.as_deref()), (20, Some("a\\dAB\nq")));
    }
}
