//! Turns a JavaScript regular expression into a pattern for the host's linear-time engine, where both surely mean the same.
//!
//! Only a whitelist passes: what differs between backtracking by ECMA-262 (section 22.2) and the `regex` crate, or is merely
//! doubtful, is left to JavaScript. Two differences depend on the text and are checked there: without the `u` flag JavaScript
//! counts UTF-16 units, and its multiline anchors know more line ends than `\n`.

/// The longest source that is looked at.
const SOURCE_CHARS: usize = 4096;
/// How deep groups may nest.
const DEPTH: usize = 32;
/// The largest count in `{n,m}`.
const REPEAT: u32 = 1000;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str =
    r"\t\n\x0b\f\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// A pattern of the `regex` crate, and where it means what the JavaScript one did.
#[derive(Debug, PartialEq, Eq)]
pub struct Translated {
    pub pattern: String,
    /// It can match the empty text; the two engines step on differently after that.
    pub nullable: bool,
    /// Same meaning only in a text without characters beyond U+FFFF.
    pub needs_bmp: bool,
    /// Same meaning only in a text whose line ends are all `\n`.
    pub needs_lf: bool,
}

/// `None` where JavaScript must match by itself.
pub fn translate(source: &str, flags: &str) -> Option<Translated> {
    let mut parser = Parser {
        rest: source.chars().collect(),
        at: 0,
        depth: 0,
        names: Vec::new(),
        out: String::with_capacity(source.len() * 2),
        ignore_case: false,
        multiline: false,
        dot_all: false,
        unicode: false,
        wide: false,
        anchored_lines: false,
    };
    if parser.rest.len() > SOURCE_CHARS {
        return None;
    }
    for flag in flags.chars() {
        match flag {
            'i' => parser.ignore_case = true,
            'm' => parser.multiline = true,
            's' => parser.dot_all = true,
            'u' => parser.unicode = true,
            'g' | 'd' => {}
            _ => return None,
        }
    }
    if parser.unicode && parser.ignore_case {
        return None;
    }
    let whole = parser.disjunction()?;
    if parser.at != parser.rest.len() {
        return None;
    }
    Some(Translated {
        nullable: whole.nullable,
        needs_bmp: parser.wide && !parser.unicode,
        needs_lf: parser.anchored_lines,
        pattern: parser.out,
    })
}

/// What decides whether a part may be repeated.
#[derive(Clone, Copy)]
struct Part {
    nullable: bool,
    captures: bool,
}

const CHARACTER: Part = Part {
    nullable: false,
    captures: false,
};

struct Parser {
    rest: Vec<char>,
    at: usize,
    depth: usize,
    names: Vec<String>,
    out: String,
    ignore_case: bool,
    multiline: bool,
    dot_all: bool,
    unicode: bool,
    /// Something can match half of a surrogate pair.
    wide: bool,
    anchored_lines: bool,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.rest.get(self.at).copied()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += 1;
        Some(next)
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = text
            .chars()
            .enumerate()
            .all(|(i, c)| self.rest.get(self.at + i) == Some(&c));
        if found {
            self.at += text.chars().count();
        }
        found
    }

    fn disjunction(&mut self) -> Option<Part> {
        let mut whole = self.alternative()?;
        while self.eat("|") {
            self.out.push('|');
            let other = self.alternative()?;
            whole = Part {
                nullable: whole.nullable || other.nullable,
                captures: whole.captures || other.captures,
            };
        }
        Some(whole)
    }

    fn alternative(&mut self) -> Option<Part> {
        let mut whole = Part {
            nullable: true,
            captures: false,
        };
        while let Some(next) = self.peek() {
            if matches!(next, '|' | ')') {
                break;
            }
            let part = self.term()?;
            whole = Part {
                nullable: whole.nullable && part.nullable,
                captures: whole.captures || part.captures,
            };
        }
        Some(whole)
    }

    fn term(&mut self) -> Option<Part> {
        const ASSERTION: Part = Part {
            nullable: true,
            captures: false,
        };
        if self.eat("^") {
            self.anchor("(?m:^)", r"\A");
            return Some(ASSERTION);
        }
        if self.eat("$") {
            self.anchor("(?m:$)", r"\z");
            return Some(ASSERTION);
        }
        if self.eat(r"\b") {
            self.out.push_str(r"(?-u:\b)");
            return Some(ASSERTION);
        }
        let atom = self.atom()?;
        self.quantifier(atom)
    }

    fn anchor(&mut self, line: &str, text: &str) {
        self.out.push_str(if self.multiline { line } else { text });
        self.anchored_lines |= self.multiline;
    }

    fn atom(&mut self) -> Option<Part> {
        match self.next()? {
            '(' => self.group(),
            '[' => self.class(),
            '.' => {
                self.wide = true;
                self.out.push_str(if self.dot_all {
                    "(?s:.)"
                } else {
                    r"[^\n\r\u{2028}\u{2029}]"
                });
                Some(CHARACTER)
            }
            '\\' => {
                let (set, negated) = match self.peek()? {
                    'd' => (DIGIT, false),
                    'D' => (DIGIT, true),
                    'w' => (WORD, false),
                    'W' => (WORD, true),
                    's' => (SPACE, false),
                    'S' => (SPACE, true),
                    _ => {
                        let literal = self.escape(false)?;
                        return self.literal(literal);
                    }
                };
                self.at += 1;
                self.wide |= negated;
                self.out.push_str(if negated { "[^" } else { "[" });
                self.out.push_str(set);
                self.out.push(']');
                Some(CHARACTER)
            }
            '*' | '+' | '?' | '{' | '}' | ']' | ')' => None,
            literal => self.literal(literal),
        }
    }

    fn literal(&mut self, literal: char) -> Option<Part> {
        if literal > '\u{ffff}' && !self.unicode {
            return None;
        }
        if !self.ignore_case {
            push_char(&mut self.out, literal);
            return Some(CHARACTER);
        }
        match folded(literal)? {
            (one, None) => push_char(&mut self.out, one),
            (one, Some(other)) => {
                self.out.push('[');
                push_char(&mut self.out, one);
                push_char(&mut self.out, other);
                self.out.push(']');
            }
        }
        Some(CHARACTER)
    }

    fn group(&mut self) -> Option<Part> {
        self.depth += 1;
        if self.depth > DEPTH {
            return None;
        }
        let captures = if self.eat("?:") {
            self.out.push_str("(?:");
            false
        } else if self.eat("?<") {
            let name = self.group_name()?;
            self.out.push_str("(?P<");
            self.out.push_str(&name);
            self.out.push('>');
            self.names.push(name);
            true
        } else if self.peek() == Some('?') {
            return None;
        } else {
            self.out.push('(');
            true
        };
        let inner = self.disjunction()?;
        if !self.eat(")") {
            return None;
        }
        self.depth -= 1;
        self.out.push(')');
        Some(Part {
            nullable: inner.nullable,
            captures: captures || inner.captures,
        })
    }

    fn group_name(&mut self) -> Option<String> {
        let mut name = String::new();
        loop {
            match self.next()? {
                '>' => break,
                c if c == '_'
                    || c.is_ascii_alphabetic()
                    || (!name.is_empty() && c.is_ascii_digit()) =>
                {
                    name.push(c)
                }
                _ => return None,
            }
        }
        (!name.is_empty() && !self.names.contains(&name)).then_some(name)
    }

    fn quantifier(&mut self, atom: Part) -> Option<Part> {
        let start = self.at;
        let (min, many) = match self.peek() {
            Some('*') => (0, true),
            Some('+') => (1, true),
            Some('?') => (0, false),
            Some('{') => {
                self.at += 1;
                let min = self.count()?;
                if self.eat(",") && self.peek() != Some('}') && self.count()? < min {
                    return None;
                }
                if self.peek() != Some('}') {
                    return None;
                }
                (min, true)
            }
            _ => return Some(atom),
        };
        self.at += 1;
        // JavaScript forgets a group's capture at each turn and refuses empty turns; the other engine does neither.
        if atom.nullable || (atom.captures && many) {
            return None;
        }
        self.eat("?");
        self.out.extend(&self.rest[start..self.at]);
        Some(Part {
            nullable: min == 0,
            captures: atom.captures,
        })
    }

    fn count(&mut self) -> Option<u32> {
        let mut count: Option<u32> = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            self.at += 1;
            count = Some(count.unwrap_or(0) * 10 + digit).filter(|count| *count <= REPEAT);
            count?;
        }
        count
    }

    /// The character that an escape stands for; the backslash is read already.
    fn escape(&mut self, in_class: bool) -> Option<char> {
        Some(match self.next()? {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'f' => '\u{c}',
            'v' => '\u{b}',
            'x' => char::from_u32(self.hex(2)?)?,
            'u' if self.unicode && self.eat("{") => {
                let start = self.at;
                while self.next()? != '}' {}
                let digits: String = self.rest[start..self.at - 1].iter().collect();
                if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
                    return None;
                }
                char::from_u32(u32::from_str_radix(&digits, 16).ok()?)?
            }
            // Halves of a surrogate pair are no characters: `from_u32` refuses them.
            'u' => char::from_u32(self.hex(4)?)?,
            syntax if r"^$\.*+?()[]{}|/".contains(syntax) => syntax,
            '-' if in_class || !self.unicode => '-',
            other if !self.unicode && other.is_ascii() && !other.is_ascii_alphanumeric() => other,
            _ => return None,
        })
    }

    fn hex(&mut self, digits: usize) -> Option<u32> {
        let mut value = 0;
        for _ in 0..digits {
            value = value * 16 + self.next()?.to_digit(16)?;
        }
        Some(value)
    }

    fn class(&mut self) -> Option<Part> {
        self.out.push('[');
        if self.eat("^") {
            self.out.push('^');
            self.wide = true;
        }
        if self.peek() == Some(']') {
            return None;
        }
        while !self.eat("]") {
            let Some(low) = self.class_atom()? else {
                // `[\w-x]` is a relic that means something else than a range.
                if self.peek() == Some('-') && self.rest.get(self.at + 1) != Some(&']') {
                    return None;
                }
                continue;
            };
            if self.peek() == Some('-')
                && self.rest.get(self.at + 1).is_some_and(|next| *next != ']')
            {
                self.at += 1;
                let high = self.class_atom()??;
                self.class_range(low, high)?;
            } else {
                self.class_char(low)?;
            }
        }
        self.out.push(']');
        Some(CHARACTER)
    }

    /// One character of a class; `Some(None)` when it was a set such as `\d`, written out already.
    fn class_atom(&mut self) -> Option<Option<char>> {
        let atom = match self.next()? {
            '\\' => {
                let set = match self.peek()? {
                    'd' => DIGIT,
                    'w' => WORD,
                    's' => SPACE,
                    _ => return self.escape(true).map(Some),
                };
                self.at += 1;
                self.out.push_str(set);
                return Some(None);
            }
            c => c,
        };
        Some(Some(atom))
    }

    fn class_char(&mut self, c: char) -> Option<()> {
        if c > '\u{ffff}' && !self.unicode {
            return None;
        }
        if !self.ignore_case {
            push_char(&mut self.out, c);
            return Some(());
        }
        let (one, other) = folded(c)?;
        push_char(&mut self.out, one);
        if let Some(other) = other {
            push_char(&mut self.out, other);
        }
        Some(())
    }

    fn class_range(&mut self, low: char, high: char) -> Option<()> {
        if low > high || (high > '\u{ffff}' && !self.unicode) {
            return None;
        }
        self.push_range(low, high);
        // Such a range spans the halves of surrogate pairs.
        if low <= '\u{d7ff}' && high >= '\u{e000}' {
            self.wide = true;
        }
        if self.ignore_case {
            if !high.is_ascii() {
                return None;
            }
            for (from, to, shift) in [('a', 'z', -32i8), ('A', 'Z', 32)] {
                let (from, to) = (low.max(from), high.min(to));
                if from <= to {
                    let other = |c: char| char::from((c as u8).wrapping_add_signed(shift));
                    self.push_range(other(from), other(to));
                }
            }
        }
        Some(())
    }

    fn push_range(&mut self, low: char, high: char) {
        push_char(&mut self.out, low);
        self.out.push('-');
        push_char(&mut self.out, high);
    }
}

/// A character as itself where it is plainly one in every place of a pattern, else by its number.
fn push_char(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric()
        || matches!(
            c,
            ' ' | '_' | ':' | '@' | ',' | ';' | '"' | '\'' | '%' | '=' | '<' | '>' | '/'
        )
    {
        out.push(c);
    } else if c.is_ascii() {
        out.push_str(&format!("\\x{:02x}", u32::from(c)));
    } else {
        out.push(c);
    }
}

/// A character and its other case as ECMA-262's Canonicalize pairs them without `u`; `None` where that is not as simple.
fn folded(c: char) -> Option<(char, Option<char>)> {
    match c {
        'a'..='z' => Some((c, Some(c.to_ascii_uppercase()))),
        'A'..='Z' => Some((c, Some(c.to_ascii_lowercase()))),
        '\0'..='\u{7f}' => Some((c, None)),
        // Latin-1: the micro sign, sharp s and y with diaeresis pair with letters elsewhere.
        'µ' | 'ß' | 'ÿ' => None,
        '×' | '÷' | '\u{80}'..='\u{bf}' => Some((c, None)),
        'À'..='Þ' => Some((c, char::from_u32(u32::from(c) + 32))),
        'à'..='þ' => Some((c, char::from_u32(u32::from(c) - 32))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rquickjs::{Array, Context, Function, Object, Runtime, Value};

    use super::translate;

    const TEXTS: [&str; 24] = [
        "",
        "a",
        "abcd",
        "aab ab b",
        "xxxxxxxxxxxx",
        "xxy\nxy",
        "Backup job \"Files (daily)\" on srv-01.acme.example FAILED",
        "[WARN]  disk 93,5 % of 120 GB",
        "Job: nightly\nState: ok\n",
        "Job: nightly\r\nState: ok\r\n",
        "line\u{2028}line\u{2029}\rJob: x",
        "db1.acme is DOWN; db2.acme is UP",
        "Re: Ticket #42 and TICKET 7",
        "mail to Ärger@über.example, bob@acme.example",
        "für Élodie: über ÜBER ﬀ ß ẞ ÿ Ÿ µ Μ",
        "K\u{212a}k S\u{17f}s Å\u{212b}å",
        "😀 a😀b 😀😀",
        "😀",
        "e\u{301} \u{e9} \u{e8}",
        "\u{a0}\u{feff}\u{180e}\u{3000}\u{85}x\u{b}",
        "/var/log/a.log",
        "-a-z-a",
        "\u{0}\u{7f}\u{80}\u{ffff}\u{fffe}",
        "[x] (y) {z} ^$.*+?|\\",
    ];

    /// A match as both engines tell it: where it starts in UTF-16, and the groups.
    type Found = Vec<(usize, Vec<Option<String>>)>;

    fn by_host(pattern: &regex::Regex, text: &str, all: bool) -> Found {
        let found = |captures: regex::Captures<'_>| {
            let start = captures.get(0).map_or(0, |whole| whole.start());
            let groups = captures
                .iter()
                .map(|group| group.map(|group| group.as_str().to_owned()))
                .collect();
            (text[..start].encode_utf16().count(), groups)
        };
        if all {
            pattern.captures_iter(text).map(found).collect()
        } else {
            pattern.captures(text).map(found).into_iter().collect()
        }
    }

    fn by_script(
        context: &Context,
        source: &str,
        flags: &str,
        text: &str,
        all: bool,
    ) -> Option<Found> {
        context.with(|ctx| {
            let run: Function = ctx
                .eval(
                    "(source, flags, text, all) => { const re = new RegExp(source, flags + (all ? 'g' : '')); \
                     return all ? [...text.matchAll(re)] : [re.exec(text)].filter(Boolean) }",
                )
                .ok()?;
            let found: Array = run.call((source, flags, text, all)).ok()?;
            let one = |found: Object<'_>| {
                let groups = found.as_array()?.iter::<Value>().map(|group| {
                    group.ok()?.as_string().map(|text| text.to_string().unwrap_or_else(|_| "half a pair".into()))
                });
                Some((found.get("index").ok()?, groups.collect()))
            };
            found.iter::<Object>().map(|found| one(found.ok()?)).collect()
        })
    }

    /// Compares both engines on one text wherever the translation claims that they agree.
    fn agree(context: &Context, source: &str, flags: &str, text: &str) {
        let Some(translated) = translate(source, flags) else {
            return;
        };
        let pattern = regex::Regex::new(&translated.pattern).unwrap_or_else(|error| {
            panic!("/{source}/{flags} became {}: {error}", translated.pattern)
        });
        if (translated.needs_bmp && text.chars().any(|c| c > '\u{ffff}'))
            || (translated.needs_lf && text.contains(['\r', '\u{2028}', '\u{2029}']))
        {
            return;
        }
        for all in [false, true] {
            if !(all && translated.nullable) {
                let expected = by_script(context, source, flags, text, all).unwrap_or_else(|| {
                    panic!("/{source}/{flags} is no JavaScript, yet was translated")
                });
                let found = by_host(&pattern, text, all);
                assert_eq!(
                    found, expected,
                    "/{source}/{flags} as {} on {text:?}, all: {all}",
                    translated.pattern
                );
            }
        }
    }

    fn context() -> Context {
        Context::full(&Runtime::new().expect("a runtime")).expect("a context")
    }

    #[test]
    fn listed_patterns_run_where_they_should_and_agree() {
        let context = context();
        let cases: Vec<&str> = include_str!("../cases/patterns.txt")
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect();
        assert!(cases.len() > 50, "the list of patterns is gone");
        for case in cases {
            let (whose, expression) = case
                .split_once(' ')
                .expect("a line is `host /…/` or `script /…/`");
            let (source, flags) = expression[1..]
                .rsplit_once('/')
                .expect("an expression ends with /flags");
            let flags = flags.replace('g', "");
            assert_eq!(
                translate(source, &flags).is_some(),
                whose == "host",
                "{case}"
            );
            for text in TEXTS {
                agree(&context, source, &flags, text);
            }
        }
    }

    #[test]
    fn patterns_put_together_by_chance_agree() {
        const PIECES: [&str; 44] = [
            "a", "b", "k", "S", "é", "Å", "1", " ", ".", "\\d", "\\w", "\\s", "\\S", "\\W", "\\b",
            "^", "$", "|", "(", ")", "(?:", "(?<n>", "*", "+", "?", "*?", "+?", "{2}", "{1,2}",
            "[ab]", "[^a]", "[a-k]", "[^\\s]", "[\\w.]", "[é-ü]", "\\n", "\\x61", "\\u0062", "\\.",
            "\\-", "-", "(a|", "(?:b|", "[A-z]",
        ];
        const LETTERS: [&str; 16] = [
            "a", "b", "A", "k", "\u{212a}", "s", "é", "É", "1", " ", "\n", ".", "-", "\r", "😀",
            "\u{2028}",
        ];
        let context = context();
        let mut state = 0x1234_5678_9abc_def1_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % limit as u64) as usize
        };
        let mut translated = 0;
        for _ in 0..12_000 {
            let mut source: String = (0..=below(8))
                .map(|_| PIECES[below(PIECES.len())])
                .collect();
            let open = source
                .matches('(')
                .count()
                .saturating_sub(source.matches(')').count());
            source.push_str(&")".repeat(open));
            let flags = ["", "i", "m", "s", "u", "im", "ms"][below(7)];
            if translate(&source, flags).is_none() {
                continue;
            }
            translated += 1;
            for _ in 0..4 {
                let text: String = (0..below(9))
                    .map(|_| LETTERS[below(LETTERS.len())])
                    .collect();
                agree(&context, &source, flags, &text);
            }
        }
        assert!(
            translated > 1_000,
            "only {translated} patterns were compared"
        );
    }
}
