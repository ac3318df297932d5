//! Finds the calls of action constructors in a script's files. The interpreter reports a position inside the call, on its
//! last argument if that is more than a plain value, but people look for the call itself.
//!
//! All calls are found once, when a script is loaded, so that a decision needs only a search among them and reads no text.

use super::lex::{Bracket, JsToken, Kind, Lexer};

/// The functions that make an action, see `plugins/script/src/prelude.js`.
const CONSTRUCTORS: [&str; 12] = [
    "ticket",
    "note",
    "alert",
    "reply",
    "forward",
    "expect",
    "update",
    "close",
    "decline",
    "ignore",
    "quarantine",
    "pass",
];

/// The most calls kept of one file. A file with more has none.
const MOST_CALLS: usize = 1 << 16;
/// The deepest nesting of calls. A file with deeper nesting has none; a decision walks from the innermost to the outermost.
const MOST_NESTED: usize = 256;

/// The calls in each of a script's files, by the file's name.
#[derive(Default)]
pub(crate) struct Calls(Vec<(String, Vec<Call>)>);

/// The range from the constructor's name to the closing bracket.
struct Call {
    from: Place,
    to: Place,
    /// The column as people count: characters, from 1.
    column: u32,
    /// The call that contains it.
    outer: Option<usize>,
}

/// A line from 1, and a column as the interpreter counts: bytes from 1, except in the first line, where it counts from 0
/// and reports 1 for 0.
type Place = (u32, u32);

impl Calls {
    /// Finds the calls. `modules` are names and JavaScript. A file with unbalanced brackets was misread and has no calls,
    /// nor has a file beyond the limits above. Takes time proportional to the text, for any text.
    pub(super) fn of<'m>(modules: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let all = modules.into_iter();
        Self(
            all.map(|(name, text)| (name.to_owned(), calls(text).unwrap_or_default()))
                .collect(),
        )
    }

    /// Returns the position of the call around a position, both as `file:line:column`; `None` if there is none.
    pub(crate) fn around(&self, place: &str) -> Option<String> {
        let (rest, column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        let at: Place = (line.parse().ok()?, column.parse().ok()?);
        let (_, calls) = self.0.iter().find(|(name, _)| name == file)?;
        let mut index = calls
            .partition_point(|call| call.from <= at)
            .checked_sub(1)?;
        while calls[index].to < at {
            index = calls[index].outer?;
        }
        let call = &calls[index];
        Some(format!("{file}:{}:{}", call.from.0, call.column))
    }
}

/// Returns the calls of a file in the order of their starts; `None` if its brackets are unbalanced or a limit is exceeded.
fn calls(text: &str) -> Option<Vec<Call>> {
    let mut calls: Vec<Call> = Vec::new();
    // For each open bracket the call that it belongs to, the innermost last.
    let mut brackets: Vec<Option<usize>> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    let mut before = [None; 2];
    let mut tokens = Lexer::new(text);
    for token in tokens.by_ref() {
        match token.kind {
            Kind::Open(bracket) => {
                let name = called(before, token).filter(|_| bracket == Bracket::Round);
                if let Some(name) = name {
                    if calls.len() == MOST_CALLS || open.len() == MOST_NESTED {
                        return None;
                    }
                    let outer = open.last().copied();
                    open.push(calls.len());
                    calls.push(Call {
                        from: place(name),
                        to: (u32::MAX, u32::MAX),
                        column: name.column,
                        outer,
                    });
                }
                brackets.push(name.and(open.last().copied()));
            }
            Kind::Close(_) => {
                if let Some(index) = brackets.pop()? {
                    open.pop();
                    calls[index].to = place(token);
                }
            }
            _ => {}
        }
        before = [before[1], Some(token)];
    }
    tokens.is_whole().then_some(calls)
}

/// Returns the constructor's name before a bracket, if it is on the same line and not a method.
fn called<'t>(before: [Option<JsToken<'t>>; 2], bracket: JsToken<'_>) -> Option<JsToken<'t>> {
    let [dot, name] = before;
    let name = name?;
    let is_method = dot.is_some_and(|token| token.kind == Kind::Sign('.'));
    let is_called = matches!(name.kind, Kind::Word(word) if CONSTRUCTORS.contains(&word))
        && name.line == bracket.line
        && !is_method;
    is_called.then_some(name)
}

fn place(token: JsToken<'_>) -> Place {
    let before = token.line_bytes as u32;
    match token.line {
        1 => (1, before.max(1)),
        line => (line, before + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each case has `«` before the expected call and `‸` before the position that the interpreter reports.
    #[test]
    fn the_call_around_a_place_is_found() {
        let cases = [
            "x\nreturn «alert({\n  key: key,\n  host: ‸name,\n});",
            "x\nreturn «‸ticket();",
            "x\nreturn «‸pass ( );",
            "x\n«alert({ key: f(‸x), state: \"firing\" })",
            "x\n«alert({ key: f(g(x), [h(‸y)]) })",
            "x\n[reply({ text }), «note({ body: ‸body })]",
            "x\nreply({ text: a(b) }), «note({ body: ‸body }), ticket({ title: c })",
            "x\nforward(«ticket(‸x), y)",
            "x\n«forward(ticket(x), ‸y)",
            "x\n«ticket({ title: \")\", body: ')\\')', queue: `)${ ‸a }` })",
            "x\n«ticket({ title: `${ `)${b}(` }(`, body: ‸a })",
            "x\n«ticket({ /* ) \n ) */ title: // ) \n ‸a })",
            "x\n«ticket({ title: a.replace(/[/)]\\/\\)/g, ‸b) })",
            "x\nif (a) /\\)/.test(b); «ticket({ title: ‸a })",
            "x\n{ } /\\(/.test(b); «ticket({ title: ‸a })",
            "x\n[...«note({ body: ‸body })]",
            "x\n1. / 2; f(\")/\", «ticket({ title: ‸a }))",
            "x\n(a) / 2 + (b[0] / 3); i++ / 2; «ticket({ title: ‸a }) / 1",
            "x\r\nreturn «alert({\r\n  key: \"a\",\r\n  host: ‸name,\r\n});",
            "x\r«alert({\r  host: ‸name })",
            "x\n/* äöü */ «alert({ key: \"ü\", host: ‸name })",
            "const always = «‸ticket({ queue: \"a\" });",
            "const always = «ticket({ queue: ‸a });",
            "«ticket({ queue: ‸a });",
            "#!/bin/it's (\nconst always = «ticket({ queue: ‸a });",
        ];
        for case in cases {
            let plain = case.replace(['«', '‸'], "");
            let told = case.replace('«', "");
            let (before, _) = told.split_once('‸').unwrap();
            let expected = case.replace('‸', "");
            let (call, _) = expected.split_once('«').unwrap();
            let lines = |text: &str| {
                let text = text.replace("\r\n", "\n").replace('\r', "\n");
                let (line, rest) = (text.matches('\n').count() + 1, text);
                (line, rest.rsplit('\n').next().unwrap().to_owned())
            };
            let ((line, rest), (call_line, call_rest)) = (lines(before), lines(call));
            let column = match line {
                1 => rest.len().max(1),
                _ => rest.len() + 1,
            };
            let found = Calls::of([("a:b.js", &*plain)]).around(&format!("a:b.js:{line}:{column}"));
            let wanted = format!("a:b.js:{call_line}:{}", call_rest.chars().count() + 1);
            assert_eq!(found, Some(wanted), "{case}");
        }
    }

    #[test]
    fn a_file_with_too_many_calls_has_none() {
        let (within, beyond) = (
            "pass();".repeat(MOST_CALLS),
            "pass();".repeat(MOST_CALLS + 1),
        );
        assert_eq!(calls(&within).map(|calls| calls.len()), Some(MOST_CALLS));
        assert!(calls(&beyond).is_none());
        let nested = |depth| format!("{}{}", "pass(".repeat(depth), ")".repeat(depth));
        assert_eq!(
            calls(&nested(MOST_NESTED)).map(|calls| calls.len()),
            Some(MOST_NESTED)
        );
        assert!(calls(&nested(MOST_NESTED + 1)).is_none());
    }

    #[test]
    fn no_call_is_made_up() {
        let cases = [
            // Under another name, as a method, and after the call.
            "x\nconst a = alert;\nreturn a({ key: ‸key });",
            "x\nmine.alert({ key: ‸key })",
            "x\nalert({ key }); a(‸b)",
            "x\n\"alert(\"; a(‸b)",
            "x\n/alert(/; a(‸b)",
            // Unbalanced brackets: the whole file is misread.
            "x\nalert({ key: ‸key ))",
            "x\nalert({ key: ‸key }",
            "x\n)alert({ key: ‸key })",
            "x\nalert({ key: ‸key }); `",
            "x\nalert({ key: ‸key }); /* ",
        ];
        for case in cases {
            let (before, _) = case.split_once('‸').unwrap();
            let line = before.matches('\n').count() + 1;
            let column = before.rsplit('\n').next().unwrap().len() + 1;
            let calls = Calls::of([("a.js", &*case.replace('‸', ""))]);
            assert_eq!(
                calls.around(&format!("a.js:{line}:{column}")),
                None,
                "{case}"
            );
        }
        let calls = Calls::of([("a.js", "ticket()")]);
        for odd in [
            "", "a.js", "a.js:1", "a.js:x:1", "b.js:1:1", "a.js:9:9", "a.js:0:0",
        ] {
            assert_eq!(calls.around(odd), None, "{odd}");
        }
    }
}
