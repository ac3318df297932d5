//! Finds the patterns that are literals in a script's `match` and `findAll`, and tries them, so that a bad one is reported
//! before a mail reaches it.

use postroom_sandbox::Limits;
use postroom_sandbox::lex::{Bracket, JsToken, Kind, Lexer, text_value};
use regex::RegexBuilder;

use postroom_config::Problem;

const FINDERS: &[&str] = &["match", "findAll"];

/// Returns every literal pattern of a script that the linear-time engine refuses.
pub fn refused(file: &str, script: &str, limits: &Limits) -> Vec<Problem> {
    let found = literals(script).into_iter();
    found
        .filter_map(|(at, quoted)| {
            let (message, cure) = fault(&text_value(quoted)?, limits)?;
            Some(Problem {
                file: file.into(),
                line: at.line,
                column: at.column,
                key: String::new(),
                message,
                cure,
                source: None,
            })
        })
        .collect()
}

/// An open bracket.
struct Open {
    /// Whether it belongs to a call of `match` or `findAll`.
    is_finder: bool,
    commas: usize,
}

/// Returns the second arguments of these calls that are a single literal, as in `.match(field, "pattern")`: a literal with
/// something added is not the whole pattern. A string's own `match` has one argument.
fn literals(script: &str) -> Vec<(JsToken<'_>, &str)> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut before: [Option<JsToken>; 2] = [None; 2];
    for token in Lexer::new(script) {
        let kinds = before.map(|token| token.map(|token| token.kind));
        let ends_argument = matches!(token.kind, Kind::Sign(',') | Kind::Close(Bracket::Round));
        if let [Some(Kind::Sign(',')), Some(Kind::Text(text))] = kinds
            && let Some(Open {
                is_finder: true,
                commas: 1,
            }) = open.last()
            && ends_argument
        {
            found.extend(before[1].map(|at| (at, text)));
        }
        match token.kind {
            Kind::Open(bracket) => open.push(Open {
                is_finder: bracket == Bracket::Round
                    && matches!(kinds, [Some(Kind::Sign('.')), Some(Kind::Word(word))] if FINDERS.contains(&word)),
                commas: 0,
            }),
            Kind::Close(_) => {
                open.pop();
            }
            Kind::Sign(',') => {
                if let Some(open) = open.last_mut() {
                    open.commas += 1;
                }
            }
            _ => {}
        }
        before = [before[1], Some(token)];
    }
    found
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
        // The engine draws an arrow below the pattern; the last line contains the reason.
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

    /// Inputs on which two former lexers disagreed.
    #[test]
    fn a_pattern_is_found_behind_what_is_hard_to_read() {
        for before in [
            r#"if (x) /["'`(]/.test(x); "#,
            r#"{ } /["]/.test(x); "#,
            r#"await /"/.exec(x); "#,
            r#"x instanceof /`/; "#,
            r#"const text = `${ `"${ x }` }"`; "#,
            r#"x.return / 2; y = "/"; "#,
            r#"i++ / 2; y = "/"; "#,
        ] {
            let column = before.chars().count() as u32 + 23;
            let script = format!("{before}mail.match(\"subject\", \"(\")");
            assert_eq!(places(&script), [(1, column)], "{script}");
        }
        let nested = "x.match(".repeat(1 << 16);
        assert_eq!(places(&nested), []);
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
}
