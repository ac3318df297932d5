//! Tokens of JavaScript and TypeScript: the only lexer of scripts outside of the interpreter.
//!
//! It reads any text in time proportional to its length and never fails; [`Lexer::is_whole`] reports afterwards whether the
//! brackets matched.

use std::iter::Peekable;

/// A `/` after one of these words begins a regular expression; after any other word it is a division.
const BEFORE_VALUES: [&str; 15] = [
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
    "default",
    "instanceof",
    "yield",
    "await",
];
/// A `/` after the parentheses of these words begins a regular expression.
const BEFORE_STATEMENTS: [&str; 4] = ["if", "while", "for", "with"];
/// U+2028 and U+2029, which also end a line (ECMA-262 section 12.3). The interpreter does not count those lines, and
/// neither does [`JsToken::line`].
const LINE_SEPARATORS: [[u8; 3]; 2] = [[0xe2, 0x80, 0xa8], [0xe2, 0x80, 0xa9]];

/// One token and its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsToken<'t> {
    pub kind: Kind<'t>,
    /// From 1.
    pub line: u32,
    /// The column in characters, from 1.
    pub column: u32,
    /// The number of bytes before it in its line.
    pub line_bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'t> {
    /// A name or a keyword.
    Word(&'t str),
    Number,
    /// A string, or a template without holes, with its quotes. [`text_value`] decodes it.
    Text(&'t str),
    /// A regular expression without its flags, which are a separate word.
    RegExp,
    Open(Bracket),
    Close(Bracket),
    /// The last part of a template with holes.
    TemplateEnd,
    /// `...`
    Spread,
    /// Any other character; `++` and `--` are one token.
    Sign(char),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bracket {
    Round,
    Square,
    Curly,
    /// `${` in a template, with the text before it.
    Hole,
}

/// The tokens of a text, in order, without comments and white space.
pub struct Lexer<'t> {
    text: &'t str,
    at: usize,
    line: u32,
    /// The offset of the current line.
    line_start: usize,
    /// The offset up to which the characters of this line are counted, and their number.
    counted: (usize, u32),
    open: Vec<Open>,
    before: Before,
    /// Whether the next token is a part of a template.
    in_template: bool,
    is_whole: bool,
    /// The end of the line in which a `/` was found not to begin a regular expression.
    no_regexp_until: usize,
    /// The number of bytes read more than once.
    reread: usize,
}

/// An open bracket, and whether a statement follows after it.
#[derive(Clone, Copy)]
struct Open(Bracket, bool);

/// The previous token, as far as it determines the meaning of a `/` or a bracket.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    /// The end of a value: a `/` is a division.
    Value,
    /// A name of [`BEFORE_STATEMENTS`].
    Statement,
    Dot,
    Other,
}

impl<'t> Lexer<'t> {
    pub fn new(text: &'t str) -> Self {
        let mut lexer = Self {
            text,
            at: 0,
            line: 1,
            line_start: 0,
            counted: (0, 0),
            open: Vec::new(),
            before: Before::Other,
            in_template: false,
            is_whole: true,
            no_regexp_until: 0,
            reread: 0,
        };
        if text.starts_with("#!") {
            lexer.skip_line();
        }
        lexer
    }

    /// Returns whether all brackets, strings, templates and comments read so far ended properly. If not, the text is not a
    /// script or was misread.
    pub fn is_whole(&self) -> bool {
        self.is_whole && self.open.is_empty() && !self.in_template
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Consumes one byte. Every byte that may be a line end is consumed here.
    fn bump(&mut self) -> Option<u8> {
        let byte = self.byte(0)?;
        self.at += 1;
        if byte == b'\n' || (byte == b'\r' && self.byte(0) != Some(b'\n')) {
            self.line += 1;
            self.line_start = self.at;
            self.counted = (self.at, 0);
        }
        Some(byte)
    }

    fn bump_while(&mut self, is_part: impl Fn(char) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    }

    /// Returns the start of a token whose kind is not known yet.
    fn begin(&mut self) -> JsToken<'t> {
        let (counted, characters) = self.counted;
        let characters = characters + self.text[counted..self.at].chars().count() as u32;
        self.counted = (self.at, characters);
        JsToken {
            kind: Kind::Number,
            line: self.line,
            column: characters + 1,
            line_bytes: self.at - self.line_start,
        }
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.byte(0) {
            match (byte, self.byte(1)) {
                (b' ' | b'\t' | b'\r' | b'\n' | 0xb | 0xc, _) => {
                    self.bump();
                }
                (b'/', Some(b'/')) => self.skip_line(),
                (b'/', Some(b'*')) => self.skip_comment(),
                (0x80.., _) => match self.text[self.at..].chars().next() {
                    Some(c) if is_blank(c) => self.at += c.len_utf8(),
                    _ => return,
                },
                _ => return,
            }
        }
    }

    fn skip_line(&mut self) {
        while self.at < self.text.len() && !ends_line(self.text.as_bytes(), self.at) {
            self.at += 1;
        }
    }

    fn skip_comment(&mut self) {
        self.at += 2;
        loop {
            match self.bump() {
                Some(b'*') if self.byte(0) == Some(b'/') => break self.at += 1,
                Some(_) => {}
                None => break self.is_whole = false,
            }
        }
    }

    fn token(&mut self, first: u8) -> (Kind<'t>, Before) {
        let from = self.at;
        match first {
            b'/' if self.before != Before::Value && self.skip_regexp() => {
                (Kind::RegExp, Before::Value)
            }
            b'"' | b'\'' => {
                self.skip_string(first);
                (Kind::Text(&self.text[from..self.at]), Before::Value)
            }
            b'`' => {
                self.at += 1;
                self.template_part(from)
            }
            b'(' => self.open(Bracket::Round),
            b'[' => self.open(Bracket::Square),
            b'{' => self.open(Bracket::Curly),
            b')' => self.close(Bracket::Round),
            b']' => self.close(Bracket::Square),
            b'}' if matches!(self.open.last(), Some(Open(Bracket::Hole, _))) => {
                self.in_template = true;
                self.close(Bracket::Hole)
            }
            b'}' => self.close(Bracket::Curly),
            b'+' | b'-' if self.byte(1) == Some(first) => {
                self.at += 2;
                (Kind::Sign(first.into()), self.before)
            }
            b'.' if self.text[from..].starts_with("...") => {
                self.at += 3;
                (Kind::Spread, Before::Other)
            }
            b'.' if !self.byte(1).is_some_and(|byte| byte.is_ascii_digit()) => {
                self.at += 1;
                (Kind::Sign('.'), Before::Dot)
            }
            b'.' | b'0'..=b'9' => {
                self.skip_number();
                (Kind::Number, Before::Value)
            }
            _ => match self.text[from..].chars().next() {
                Some(c) if is_word(c) => self.word(),
                c => {
                    self.at += c.map_or(1, char::len_utf8);
                    (Kind::Sign(c.unwrap_or_default()), Before::Other)
                }
            },
        }
    }

    fn word(&mut self) -> (Kind<'t>, Before) {
        let from = self.at;
        self.bump_while(is_word);
        let word = &self.text[from..self.at];
        let before = match self.before {
            Before::Dot => Before::Value,
            _ if BEFORE_VALUES.contains(&word) => Before::Other,
            _ if BEFORE_STATEMENTS.contains(&word) => Before::Statement,
            _ => Before::Value,
        };
        (Kind::Word(word), before)
    }

    fn open(&mut self, bracket: Bracket) -> (Kind<'t>, Before) {
        let is_before_statement = bracket == Bracket::Round && self.before == Before::Statement;
        self.open.push(Open(bracket, is_before_statement));
        self.at += 1;
        (Kind::Open(bracket), Before::Other)
    }

    /// Closes a bracket; a bracket without an opening one is ignored.
    fn close(&mut self, bracket: Bracket) -> (Kind<'t>, Before) {
        let is_before_statement = match self.open.last() {
            Some(Open(open, is_before_statement)) if *open == bracket => {
                let is_before_statement = *is_before_statement;
                self.open.pop();
                is_before_statement
            }
            _ => {
                self.is_whole = false;
                false
            }
        };
        self.at += 1;
        let before = match bracket {
            // More often the end of a block than of an object that is divided.
            Bracket::Curly => Before::Other,
            Bracket::Round if is_before_statement => Before::Other,
            _ => Before::Value,
        };
        (Kind::Close(bracket), before)
    }

    /// Skips `1`, `1.5`, `1.`, `.5`, `0x1f` or `1_000n`; the sign of an exponent ends a number, and its digits are another.
    fn skip_number(&mut self) {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let from = self.at;
        self.bump_while(is_part);
        let whole = &self.text[from..self.at];
        let may_have_fraction = whole.bytes().all(|b| b.is_ascii_digit() || b == b'_');
        if may_have_fraction && self.byte(0) == Some(b'.') {
            self.at += 1;
            self.bump_while(is_part);
        }
    }

    /// Skips a string. A line end ends it, since a string spans lines only with a backslash.
    fn skip_string(&mut self, quote: u8) {
        self.at += 1;
        loop {
            match self.byte(0) {
                None | Some(b'\n' | b'\r') => return self.is_whole = false,
                Some(byte) => {
                    self.bump();
                    match byte {
                        b'\\' => self.skip_escaped(),
                        byte if byte == quote => return,
                        _ => {}
                    }
                }
            }
        }
    }

    fn skip_escaped(&mut self) {
        if self.bump() == Some(b'\r') && self.byte(0) == Some(b'\n') {
            self.bump();
        }
    }

    /// Reads from inside a template to its end, or into its next hole.
    fn template_part(&mut self, from: usize) -> (Kind<'t>, Before) {
        let is_first = self.text.as_bytes().get(from) == Some(&b'`') && !self.in_template;
        self.in_template = false;
        loop {
            match self.bump() {
                Some(b'\\') => self.skip_escaped(),
                Some(b'`') if is_first => {
                    return (Kind::Text(&self.text[from..self.at]), Before::Value);
                }
                Some(b'`') => return (Kind::TemplateEnd, Before::Value),
                Some(b'$') if self.byte(0) == Some(b'{') => {
                    self.at += 1;
                    self.open.push(Open(Bracket::Hole, false));
                    return (Kind::Open(Bracket::Hole), Before::Other);
                }
                Some(_) => {}
                None => {
                    self.is_whole = false;
                    return (Kind::TemplateEnd, Before::Value);
                }
            }
        }
    }

    /// Skips a regular expression that ends in its line; if none does, the `/` is a plain character.
    fn skip_regexp(&mut self) -> bool {
        // A search that failed in this line has read the rest of it. This one can end differently only before the next
        // bracket of a class: from there on both are in the same state.
        let failed_before = self.at < self.no_regexp_until;
        let mut in_class = false;
        let bytes = self.text.as_bytes();
        let from = self.at + 1;
        let mut at = from;
        let end = loop {
            match bytes.get(at) {
                None => break None,
                Some(_) if ends_line(bytes, at) => break None,
                // A regular expression contains no line end, not even after a backslash.
                Some(b'\\') if at + 1 < bytes.len() && !ends_line(bytes, at + 1) => at += 1,
                Some(b'[' | b']') if failed_before => break None,
                Some(b'[') => in_class = true,
                Some(b']') => in_class = false,
                Some(b'/') if !in_class => break Some(at + 1),
                Some(_) => {}
            }
            at += 1;
        };
        self.reread += at.min(bytes.len()) - from.min(bytes.len());
        match end {
            Some(end) => self.at = end,
            None if !failed_before => self.no_regexp_until = at,
            None => {}
        }
        end.is_some()
    }
}

impl<'t> Iterator for Lexer<'t> {
    type Item = JsToken<'t>;

    fn next(&mut self) -> Option<JsToken<'t>> {
        if !self.in_template {
            self.skip_blanks();
        }
        let first = self.byte(0);
        if self.in_template && first.is_none() {
            return None;
        }
        let mut token = self.begin();
        (token.kind, self.before) = match self.in_template {
            true => self.template_part(self.at),
            false => self.token(first?),
        };
        Some(token)
    }
}

/// Decodes a [`Kind::Text`] (ECMA-262 section 12.9.4). Returns `None` if it does not end.
pub fn text_value(quoted: &str) -> Option<String> {
    let mut chars = quoted.chars();
    let quote = chars.next()?;
    let mut value = String::with_capacity(quoted.len());
    let mut chars = chars.peekable();
    loop {
        match chars.next()? {
            c if c == quote => return Some(value),
            '\\' => value.extend(escaped(&mut chars)?),
            // All line ends of a template are line feeds.
            '\r' => {
                chars.next_if_eq(&'\n');
                value.push('\n');
            }
            c => value.push(c),
        }
    }
}

/// Returns the character of an escape; the inner `None` is a line end, the outer one the end of the text.
fn escaped(chars: &mut Peekable<impl Iterator<Item = char>>) -> Option<Option<char>> {
    Some(match chars.next()? {
        'n' => Some('\n'),
        't' => Some('\t'),
        'r' => Some('\r'),
        'b' => Some('\u{8}'),
        'f' => Some('\u{c}'),
        'v' => Some('\u{b}'),
        '0' => Some('\0'),
        '\r' => {
            chars.next_if_eq(&'\n');
            None
        }
        '\n' | '\u{2028}' | '\u{2029}' => None,
        'x' => Some(code(chars, 2)),
        'u' => Some(code(chars, 4)),
        other => Some(other),
    })
}

/// Returns the character of `\x41`, `\u0041` or `\u{41}`; the replacement character if there is none.
fn code(chars: &mut Peekable<impl Iterator<Item = char>>, digits: usize) -> char {
    let is_braced = chars.next_if_eq(&'{').is_some();
    let mut value = 0u32;
    let most = if is_braced { 6 } else { digits };
    for _ in 0..most {
        let Some(digit) = chars.next_if(char::is_ascii_hexdigit) else {
            break;
        };
        value = value << 4 | digit.to_digit(16).unwrap_or(0);
    }
    if is_braced {
        chars.next_if_eq(&'}');
    }
    char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn ends_line(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at], b'\n' | b'\r')
        || bytes[at] == LINE_SEPARATORS[0][0]
            && LINE_SEPARATORS
                .iter()
                .any(|separator| bytes[at..].starts_with(separator))
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || matches!(c, '_' | '$' | '#' | '\\')
        || !c.is_ascii() && !is_blank(c)
}

fn is_blank(c: char) -> bool {
    c.is_whitespace() || c == '\u{feff}'
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns each token in short form: words and texts as written, `/` for a regular expression, `%` for a division.
    fn read(text: &str) -> String {
        let mut shown = String::new();
        let mut lexer = Lexer::new(text);
        for token in lexer.by_ref() {
            if !shown.is_empty() {
                shown.push(' ');
            }
            match token.kind {
                Kind::Word(word) => shown.push_str(word),
                Kind::Text(text) => shown.push_str(text),
                Kind::Number => shown.push('1'),
                Kind::RegExp => shown.push('/'),
                Kind::Open(Bracket::Hole) => shown.push_str("${"),
                Kind::Close(Bracket::Hole) => shown.push_str("}$"),
                Kind::Open(bracket) => shown.push(['(', '[', '{'][bracket as usize]),
                Kind::Close(bracket) => shown.push([')', ']', '}'][bracket as usize]),
                Kind::TemplateEnd => shown.push('`'),
                Kind::Spread => shown.push_str("..."),
                Kind::Sign('/') => shown.push('%'),
                Kind::Sign(sign) => shown.push(sign),
            }
        }
        if !lexer.is_whole() {
            shown.push_str(" !");
        }
        shown
    }

    #[test]
    fn a_slash_divides_or_begins_a_regular_expression() {
        for (text, expected) in [
            ("a / b / c", "a % b % c"),
            ("a = /b/g", "a = / g"),
            // Inputs on which the two former lexers disagreed.
            ("if (a) /[\"'`(]/.test(b)", "if ( a ) / . test ( b )"),
            ("f(a) /2/ b", "f ( a ) % 1 % b"),
            ("a.if(b) /2/ c", "a . if ( b ) % 1 % c"),
            ("{ } /[\"]/.test(b)", "{ } / . test ( b )"),
            ("await /\"/.exec(a)", "await / . exec ( a )"),
            ("yield /'/", "yield /"),
            ("a instanceof /`/", "a instanceof /"),
            ("export default /\"/", "export default /"),
            ("a.return /2/ b", "a . return % 1 % b"),
            ("i++ /2/ b", "i + % 1 % b"),
            ("1. /2/ .5 /3/ 0x1f /4", "1 % 1 % 1 % 1 % 1 % 1"),
            ("1..a / 2", "1 . a % 1"),
            ("a[0] / b[1] / 2", "a [ 1 ] % b [ 1 ] % 1"),
            ("`${a}` / 2 / b", "${ a }$ ` % 1 % b"),
            ("[.../a/.exec(b)]", "[ ... / . exec ( b ) ]"),
            ("x = /[/]\\/\"/", "x = /"),
            ("x = /no end", "x = % no end"),
            ("x = /no\\\nend/", "x = % no\\ end %"),
            ("x = /no\u{2028}end/", "x = % no end %"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn templates_nest_and_comments_and_blanks_are_left_out() {
        for (text, expected) in [
            ("`a${ `)${b}(` }(`", "${ ${ b }$ ` }$ `"),
            ("`a${{b: `c`}}${d}`", "${ { b : `c` } }$ ${ d }$ `"),
            ("`\\${a}` b", "`\\${a}` b"),
            ("'a\\'b' \"c\\\nd\"", "'a\\'b' \"c\\\nd\""),
            ("a // \" `\n/* ' */ b", "a b"),
            ("a // b\u{2029}c", "a c"),
            ("a\u{a0}(\u{feff}ü)", "a ( ü )"),
            ("#!/usr/bin/it's\na", "a"),
            ("#a in b; \\u0061b", "#a in b ; \\u0061b"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_script_is_read_to_its_end_and_is_not_whole() {
        for (text, expected) in [
            ("(a", "( a !"),
            ("a)(b)", "a ) ( b ) !"),
            ("(]a)", "( ] a ) !"),
            ("'a\nb", "'a b !"),
            ("`a", "` !"),
            ("`a${", "${ !"),
            ("`a${b}", "${ b }$ !"),
            ("a /* b", "a !"),
            ("\"a\\", "\"a\\ !"),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_token_knows_its_line_and_column() {
        let places: Vec<_> = Lexer::new("ä b\r\n`x\ny` c\r  'ö' d")
            .map(|token| (token.line, token.column, token.line_bytes))
            .collect();
        assert_eq!(
            places,
            [
                (1, 1, 0),
                (1, 3, 3),
                (2, 1, 0),
                (3, 4, 3),
                (4, 3, 2),
                (4, 7, 7)
            ]
        );
    }

    #[test]
    fn escapes_mean_what_javascript_means() {
        for (quoted, expected) in [
            (r#""a\\d\u{41}\x42\n\q\u0043""#, Some("a\\dAB\nqC")),
            ("'a\\\r\nb'", Some("ab")),
            ("`a\r\nb`", Some("a\nb")),
            ("'a", None),
            ("'a\\", None),
            ("", None),
        ] {
            assert_eq!(text_value(quoted).as_deref(), expected, "{quoted}");
        }
    }

    /// Texts that once took time proportional to the square of their length.
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
            "`${}".repeat(long / 4),
            "\"\n".repeat(long / 2),
        ];
        for text in texts {
            let mut lexer = Lexer::new(&text);
            let _ = lexer.by_ref().count();
            let reread = lexer.reread;
            assert!(
                reread <= 2 * text.len(),
                "{reread} of {} bytes read again: {text:.40}",
                text.len(),
            );
        }
    }

    /// Compares the lexer with a search without memory, at every `/` of texts made of the characters that matter.
    #[test]
    fn a_search_that_failed_before_changes_no_answer() {
        fn plain(bytes: &[u8], from: usize) -> Option<usize> {
            let (mut at, mut in_class) = (from, false);
            loop {
                match *bytes.get(at)? {
                    b'\n' => return None,
                    b'\\' if bytes.get(at + 1).is_some_and(|byte| *byte != b'\n') => at += 1,
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
            let mut lexer = Lexer::new(&text);
            loop {
                if lexer.byte(0) == Some(b'/') && !matches!(lexer.byte(1), Some(b'/' | b'*')) {
                    let from = lexer.at + 1;
                    remembered += usize::from(from <= lexer.no_regexp_until);
                    let found = lexer.skip_regexp().then_some(lexer.at);
                    assert_eq!(found, plain(text.as_bytes(), from), "{text:?} from {from}");
                    if found.is_some() {
                        continue;
                    }
                }
                // Like the lexer: an escaped byte is never a beginning.
                if lexer.bump() == Some(b'\\') {
                    lexer.bump();
                }
                if lexer.byte(0).is_none() {
                    break;
                }
            }
        }
        assert!(remembered > 1000, "{remembered}");
    }
}
