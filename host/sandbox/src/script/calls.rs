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

/// The most calls of one file that are kept. A file with more has none.
const MOST_CALLS: usize = 1 << 16;
/// The most calls within each other. A file with more has none; a decision walks from the innermost to the outermost.
const MOST_NESTED: usize = 256;
/// Bytes looked at again, for each byte of a file, before it is given up. Patterns and columns take two.
const MOST_LOOKS: usize = 4;

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
    /// `modules` are names and JavaScript. A file whose brackets do not fit, so that it was misread, has none, nor has one
    /// that is beyond the limits above. Takes time in proportion to the text, whatever is in it.
    pub(crate) fn of<'m>(modules: impl IntoIterator<Item = (&'m str, &'m str)>) -> Self {
        let all = modules.into_iter();
        Self(
            all.map(|(name, text)| (name.to_owned(), calls(text).0.unwrap_or_default()))
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
    /// The calls that are open, the innermost last.
    open_calls: Vec<usize>,
    last: Last<'t>,
    /// Up to where the characters of this line are counted, and how many they are.
    counted: (usize, u32),
    /// The end of the line in which a `/` was found to begin no pattern.
    no_pattern_until: usize,
    /// Bytes looked at besides reading on.
    looks: usize,
}

/// In the order in which they begin; `None` when the brackets do not fit or a limit is passed. Also the bytes that were looked
/// at besides reading on.
fn calls(text: &str) -> (Option<Vec<Call>>, usize) {
    let mut reader = reader(text);
    let read = reader.read_all();
    (read.map(|()| reader.calls), reader.looks)
}

fn reader(text: &str) -> Reader<'_> {
    Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        open: Vec::new(),
        calls: Vec::new(),
        open_calls: Vec::new(),
        last: Last::Other,
        counted: (0, 0),
        no_pattern_until: 0,
        looks: 0,
    }
}

impl<'t> Reader<'t> {
    fn read_all(&mut self) -> Option<()> {
        if self.text.starts_with("#!") {
            self.skip_line();
        }
        let most_looks = self.text.len().saturating_mul(MOST_LOOKS);
        while self.step()? {
            if self.looks > most_looks {
                return None;
            }
        }
        self.open.is_empty().then_some(())
    }

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
            self.counted = (self.at, 0);
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
            b'(' | b'[' | b'{' => self.begin(byte)?,
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

    /// `None` when there are too many calls.
    fn begin(&mut self, byte: u8) -> Option<()> {
        let open = match (byte, self.last) {
            (b'(', Last::Word(word, from, false)) => Open::Round {
                call: match from >= self.line_start && CONSTRUCTORS.contains(&word) {
                    true => Some(self.call(from)?),
                    // A name in another line than its bracket is left alone too.
                    false => None,
                },
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
        Some(())
    }

    /// Notes a call that begins in this line and returns its index; `None` when there are too many.
    fn call(&mut self, from: usize) -> Option<usize> {
        let index = self.calls.len();
        if index == MOST_CALLS || self.open_calls.len() == MOST_NESTED {
            return None;
        }
        // Calls begin one after the other: each line's characters are counted once.
        let (counted, characters) = self.counted;
        let characters = characters + self.text[counted..from].chars().count() as u32;
        self.looks += from - counted;
        self.counted = (from, characters);
        self.calls.push(Call {
            from: self.place(from),
            to: (u32::MAX, u32::MAX),
            column: characters + 1,
            outer: self.open_calls.last().copied(),
        });
        self.open_calls.push(index);
        Some(index)
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
                    self.open_calls.pop();
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
        // A search that failed in this line looked at all that follows. This one can only end otherwise before the next
        // bracket of a class: from there on both are in the same state.
        let failed_before = self.at < self.no_pattern_until;
        let mut in_class = false;
        let bytes = self.text.as_bytes();
        let from = self.at + 1;
        let mut at = from;
        let end = loop {
            match bytes.get(at) {
                None | Some(b'\n' | b'\r') => break None,
                // No line ends within a pattern, not even behind a backslash.
                Some(b'\\') if !matches!(bytes.get(at + 1), Some(b'\n' | b'\r')) => at += 1,
                Some(b'[' | b']') if failed_before => break None,
                Some(b'[') => in_class = true,
                Some(b']') => in_class = false,
                Some(b'/') if !in_class => break Some(at + 1),
                Some(_) => {}
            }
            at += 1;
        };
        self.looks += at.min(bytes.len()) - from.min(bytes.len());
        match end {
            Some(end) => self.at = end,
            None if !failed_before => self.no_pattern_until = at,
            None => {}
        }
        end.is_some()
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

    /// Texts that took time in proportion to their square, once.
    #[test]
    fn any_text_is_read_in_time_proportional_to_its_length() {
        let long = 1 << 20;
        let texts = [
            format!("b={{}}/2;c=\"/\";d=\"{}", "=/[".repeat(long / 3)),
            format!("b={{}}/2;c=\"/\";d=\"{}", "=/[a]/[".repeat(long / 7)),
            format!("b={{}}/2;c=\"/\";d=\"{}", "=/]".repeat(long / 3)),
            "=/[".repeat(long / 3),
            "=/[\\/".repeat(long / 5),
            "{}/[\n".repeat(long / 5),
            "/".repeat(long),
            "pass();".repeat(long / 7),
            "é;pass();".repeat(long / 10),
            "pass(".repeat(long / 5),
            format!("{}pass()", "(".repeat(long)),
            format!("{}{}", "[".repeat(long / 2), "pass();".repeat(long / 14)),
            "`${".repeat(long / 3),
        ];
        for text in texts {
            let (_, looks) = calls(&text);
            assert!(
                looks <= 2 * text.len(),
                "{looks} looks at {} bytes: {:.40}",
                text.len(),
                text
            );
        }
    }

    #[test]
    fn a_file_with_too_many_calls_has_none() {
        let (within, beyond) = (
            "pass();".repeat(MOST_CALLS),
            "pass();".repeat(MOST_CALLS + 1),
        );
        assert_eq!(calls(&within).0.map(|calls| calls.len()), Some(MOST_CALLS));
        assert!(calls(&beyond).0.is_none());
        let nested = |depth| format!("{}{}", "pass(".repeat(depth), ")".repeat(depth));
        assert_eq!(
            calls(&nested(MOST_NESTED)).0.map(|calls| calls.len()),
            Some(MOST_NESTED)
        );
        assert!(calls(&nested(MOST_NESTED + 1)).0.is_none());
    }

    /// What a search without a memory finds, at every `/` of texts made up of what matters to it.
    #[test]
    fn a_search_that_failed_before_changes_no_answer() {
        fn plain(bytes: &[u8], from: usize) -> Option<usize> {
            let (mut at, mut in_class) = (from, false);
            loop {
                match *bytes.get(at)? {
                    b'\n' => return None,
                    b'\\' if bytes.get(at + 1) != Some(&b'\n') => at += 1,
                    b'[' => in_class = true,
                    b']' => in_class = false,
                    b'/' if !in_class => return Some(at + 1),
                    _ => {}
                }
                at += 1;
            }
        }
        let mut seed = 1u32;
        let mut remembered = 0;
        for _ in 0..20_000 {
            let text: String = (0..16)
                .map(|_| {
                    seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    ['/', '/', '[', ']', '=', '=', '\\', '\n'][(seed >> 29) as usize]
                })
                .collect();
            let mut reader = reader(&text);
            loop {
                if reader.byte(0) == Some(b'/') && !matches!(reader.byte(1), Some(b'/' | b'*')) {
                    let from = reader.at + 1;
                    reader.last = Last::Other;
                    remembered += usize::from(from <= reader.no_pattern_until);
                    let found = reader.begins_pattern().then_some(reader.at);
                    assert_eq!(found, plain(text.as_bytes(), from), "{text:?} from {from}");
                    if found.is_some() {
                        continue;
                    }
                }
                // As the reader does: an escaped byte is never looked at as a beginning.
                if reader.take() == Some(b'\\') {
                    reader.take();
                }
                if reader.byte(0).is_none() {
                    break;
                }
            }
        }
        assert!(remembered > 1000, "{remembered}");
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
