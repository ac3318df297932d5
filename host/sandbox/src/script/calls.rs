//! Where in a script's files the constructors of actions are called: the interpreter tells a place within the call, on its last
//! argument where that is more than a plain value, and people look for the call itself.
//!
//! All calls are found once, when a script is loaded, so that a decision takes a search among them and reads no text.

/// What makes an action, see `plugins/script/src/prelude.js`.
const CONSTRUCTORS: [&str; 9] = [
    "ticket",
    "note",
    "alert",
    "reply",
    "forward",
    "expect",
    "ignore",
    "quarantine",
    "pass",
];
/// A `/` after one of these begins a pattern; after any other word it divides.
const BEFORE_VALUES: [&str; 14] = [
    "return",
    "typeof",
    "case",
    "in",
    "of",
    "delete",
    "void",
    "throw",
    "new",
    "do",
    "else",
    "instanceof",
    "yield",
    "await",
];
/// A `/` after their brackets begins a pattern.
const BEFORE_STATEMENTS: [&str; 4] = ["if", "while", "for", "with"];

/// The calls in each of a script's files, by its name.
#[derive(Default)]
pub(crate) struct Calls(Vec<(String, Vec<Call>)>);

/// From the constructor's name to the closing bracket.
struct Call {
    from: Place,
    to: Place,
    /// The column that people count: characters, from 1.
    column: u32,
    /// The call that it stands in.
    outer: Option<usize>,
}

/// A line from 1, and a column as the interpreter counts: bytes, from 1 but in the first line, where it counts them from 0 and says 1 for 0.
type Place = (u32, u32);

impl Calls {
    /// `modules` are names and JavaScript. A file whose brackets do not fit, so that it was misread, has none.
    pub(super) fn of<'m>(modules: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let all = modules.into_iter();
        Self(
            all.map(|(name, text)| (name.to_owned(), calls(text).unwrap_or_default()))
                .collect(),
        )
    }

    /// The place of the call around a place, both as `file:line:column`; `None` where there is none.
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

/// An open bracket.
enum Open {
    Round {
        call: Option<usize>,
        before_statement: bool,
    },
    Square,
    Curly,
    /// `${` in a template.
    Hole,
}

/// What came last, blanks and comments left out.
#[derive(Clone, Copy)]
enum Last<'t> {
    /// A name or a keyword, where it begins, and whether a dot is before it.
    Word(&'t str, usize, bool),
    /// Something else that ends a value.
    Value,
    Dot,
    Other,
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    /// Where the line begins.
    line_start: usize,
    open: Vec<Open>,
    calls: Vec<Call>,
    last: Last<'t>,
}

/// In the order in which they begin; `None` when the brackets do not fit.
fn calls(text: &str) -> Option<Vec<Call>> {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        open: Vec::new(),
        calls: Vec::new(),
        last: Last::Other,
    };
    if text.starts_with("#!") {
        reader.skip_line();
    }
    while reader.step()? {}
    reader.open.is_empty().then_some(reader.calls)
}

impl<'t> Reader<'t> {
    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Takes one byte; all that may end a line goes through here.
    fn take(&mut self) -> Option<u8> {
        let byte = self.byte(0)?;
        self.at += 1;
        if byte == b'\n' || (byte == b'\r' && self.byte(0) != Some(b'\n')) {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(byte)
    }

    fn place(&self, at: usize) -> Place {
        let before = (at - self.line_start) as u32;
        match self.line {
            1 => (1, before.max(1)),
            line => (line, before + 1),
        }
    }

    /// False at the end.
    fn step(&mut self) -> Option<bool> {
        let Some(byte) = self.byte(0) else {
            return Some(false);
        };
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                self.take();
            }
            b'/' if self.byte(1) == Some(b'/') => self.skip_line(),
            b'/' if self.byte(1) == Some(b'*') => self.skip_comment()?,
            b'/' if self.begins_pattern() => self.last = Last::Value,
            b'"' | b'\'' => {
                self.skip_string(byte)?;
                self.last = Last::Value;
            }
            b'`' => {
                self.at += 1;
                self.skip_template()?;
            }
            b'(' | b'[' | b'{' => self.begin(byte),
            b')' | b']' | b'}' => self.end(byte)?,
            b'+' | b'-' if self.byte(1) == Some(byte) => self.at += 2,
            b'.' => {
                self.at += 1;
                self.last = Last::Dot;
            }
            _ if is_word(byte) => self.word(),
            _ => {
                self.at += 1;
                self.last = Last::Other;
            }
        }
        Some(true)
    }

    fn word(&mut self) {
        let from = self.at;
        while self.byte(0).is_some_and(is_word) {
            self.at += 1;
        }
        let after_dot = matches!(self.last, Last::Dot);
        self.last = Last::Word(&self.text[from..self.at], from, after_dot);
    }

    fn begin(&mut self, byte: u8) {
        let open = match (byte, self.last) {
            (b'(', Last::Word(word, from, false)) => Open::Round {
                call: self.call(word, from),
                before_statement: BEFORE_STATEMENTS.contains(&word),
            },
            (b'(', _) => Open::Round {
                call: None,
                before_statement: false,
            },
            (b'[', _) => Open::Square,
            _ => Open::Curly,
        };
        self.open.push(open);
        self.at += 1;
        self.last = Last::Other;
    }

    /// Notes a call that begins. A name in another line than its bracket is left alone.
    fn call(&mut self, word: &str, from: usize) -> Option<usize> {
        if from < self.line_start || !CONSTRUCTORS.contains(&word) {
            return None;
        }
        let outer = self.open.iter().rev().find_map(|open| match open {
            Open::Round { call, .. } => *call,
            _ => None,
        });
        let column = self.text[self.line_start..from].chars().count() as u32 + 1;
        self.calls.push(Call {
            from: self.place(from),
            to: (u32::MAX, u32::MAX),
            column,
            outer,
        });
        Some(self.calls.len() - 1)
    }

    fn end(&mut self, byte: u8) -> Option<()> {
        let place = self.place(self.at);
        self.at += 1;
        self.last = match (byte, self.open.pop()?) {
            (
                b')',
                Open::Round {
                    call,
                    before_statement,
                },
            ) => {
                if let Some(index) = call {
                    self.calls[index].to = place;
                }
                match before_statement {
                    true => Last::Other,
                    false => Last::Value,
                }
            }
            (b']', Open::Square) => Last::Value,
            // More often a block's end than an object's that is divided.
            (b'}', Open::Curly) => Last::Other,
            (b'}', Open::Hole) => return self.skip_template(),
            _ => return None,
        };
        Some(())
    }

    fn skip_line(&mut self) {
        while self
            .byte(0)
            .is_some_and(|byte| !matches!(byte, b'\n' | b'\r'))
        {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) -> Option<()> {
        self.at += 2;
        while !(self.take()? == b'*' && self.byte(0) == Some(b'/')) {}
        self.at += 1;
        Some(())
    }

    fn skip_string(&mut self, quote: u8) -> Option<()> {
        self.at += 1;
        loop {
            match self.take()? {
                b'\\' => {
                    self.take()?;
                }
                byte if byte == quote => return Some(()),
                _ => {}
            }
        }
    }

    /// From within a template to its end, or to the next hole in it.
    fn skip_template(&mut self) -> Option<()> {
        loop {
            match self.take()? {
                b'\\' => {
                    self.take()?;
                }
                b'`' => {
                    self.last = Last::Value;
                    return Some(());
                }
                b'$' if self.byte(0) == Some(b'{') => {
                    self.at += 1;
                    self.open.push(Open::Hole);
                    self.last = Last::Other;
                    return Some(());
                }
                _ => {}
            }
        }
    }

    /// Goes behind a pattern where one may stand and its end is in the same line.
    fn begins_pattern(&mut self) -> bool {
        let may = match self.last {
            Last::Word(word, _, after_dot) => !after_dot && BEFORE_VALUES.contains(&word),
            Last::Value => false,
            Last::Dot | Last::Other => true,
        };
        if !may {
            return false;
        }
        let mut in_class = false;
        let bytes = self.text.as_bytes();
        let mut at = self.at + 1;
        while let Some(byte) = bytes.get(at) {
            match byte {
                b'\n' | b'\r' => return false,
                b'\\' => at += 1,
                b'[' => in_class = true,
                b']' => in_class = false,
                b'/' if !in_class => {
                    self.at = at + 1;
                    return true;
                }
                _ => {}
            }
            at += 1;
        }
        false
    }
}

/// Letters beyond ASCII count, and so do blanks beyond it, which nobody writes between a name and its bracket.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | b'#' | b'\\') || byte >= 0x80
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each case has `«` before the call that is expected and `‸` before the place that the interpreter tells.
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
    fn no_call_is_made_up() {
        let cases = [
            // Under another name, as a method, and after the call.
            "x\nconst a = alert;\nreturn a({ key: ‸key });",
            "x\nmine.alert({ key: ‸key })",
            "x\nalert({ key }); a(‸b)",
            "x\n\"alert(\"; a(‸b)",
            "x\n/alert(/; a(‸b)",
            // Brackets that do not fit: all of it is misread.
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
