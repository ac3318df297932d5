//! Translates JavaScript regular expressions into patterns for the host's linear-time engine, if both certainly mean the
//! same.
//!
//! Only a whitelist is translated: anything that differs between backtracking by ECMA-262 (section 22.2) and the `regex`
//! crate, or is merely doubtful, is left to JavaScript. Two differences depend on the text and are checked there: without
//! the `u` flag JavaScript counts UTF-16 units, and its multiline anchors accept more line ends than `\n`.

/// The longest source that is translated.
const SOURCE_CHARS: usize = 4096;
/// The deepest nesting of groups.
const DEPTH: usize = 32;
/// The largest count in `{n,m}`.
const REPEAT: u32 = 1000;

const DIGIT: &str = "0-9";
const WORD: &str = "0-9A-Za-z_";
const SPACE: &str =
    r"\t\n\x0b\f\r \u{a0}\u{1680}\u{2000}-\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}\u{feff}";

/// Characters that count as two in JavaScript without the `u` flag.
const BEYOND_BMP: &str = r"[\u{10000}-\u{10ffff}]";
/// Line ends that only JavaScript recognises.
const OTHER_LINE_ENDS: &str = r"[\r\u{2028}\u{2029}]";

/// A pattern of the `regex` crate, and the conditions under which it means the same as the JavaScript one.
#[derive(Debug, PartialEq, Eq)]
pub struct Translated {
    pub pattern: String,
    /// Whether it can match the empty text; the two engines continue differently after such a match.
    nullable: bool,
    /// Whether it means the same only in a text without characters beyond U+FFFF.
    needs_bmp: bool,
    /// Whether it means the same only in a text whose line ends are all `\n`.
    needs_lf: bool,
}

impl Translated {
    /// Returns whether the host may search a text for the first match, or for all; `has` checks whether that text matches a
    /// pattern.
    pub fn holds<E>(
        &self,
        all: bool,
        has: impl Fn(&'static str) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let differs = (all && self.nullable)
            || (self.needs_lf && has(OTHER_LINE_ENDS)?)
            || (self.needs_bmp && has(BEYOND_BMP)?);
        Ok(!differs)
    }
}

/// Translates a pattern; returns `None` if JavaScript must match by itself.
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

/// The properties that decide whether a part may be repeated.
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
    /// Whether it can match half of a surrogate pair.
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
        // Setting such a property would set an object's prototype instead.
        (!name.is_empty() && name != "__proto__" && !self.names.contains(&name)).then_some(name)
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
        // JavaScript resets a group's capture at each iteration and refuses empty iterations; the other engine does
        // neither.
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

    /// Returns the character of an escape; the backslash is read already.
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
            // Halves of a surrogate pair are not characters: `from_u32` refuses them.
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
                // `[\w-x]` is a legacy form that is not a range.
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

    /// Returns one character of a class; `Some(None)` for a set such as `\d`, which is written out already.
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

/// Appends a character as itself if it is literal everywhere in a pattern, otherwise by its number.
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

/// Returns a character and its other case as ECMA-262's Canonicalize pairs them without `u`; `None` if it is not that
/// simple.
fn folded(c: char) -> Option<(char, Option<char>)> {
    match c {
        'a'..='z' => Some((c, Some(c.to_ascii_uppercase()))),
        'A'..='Z' => Some((c, Some(c.to_ascii_lowercase()))),
        '\0'..='\u{7f}' => Some((c, None)),
        // Latin-1: the micro sign, sharp s and y with diaeresis pair with letters outside of it.
        'µ' | 'ß' | 'ÿ' => None,
        '×' | '÷' | '\u{80}'..='\u{bf}' => Some((c, None)),
        'À'..='Þ' => Some((c, char::from_u32(u32::from(c) + 32))),
        'à'..='þ' => Some((c, char::from_u32(u32::from(c) - 32))),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
