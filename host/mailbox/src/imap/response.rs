//! What a server's response means (RFC 9051 section 7): only what Postroom asks for is read, the rest is passed over.
//!
//! The reading is flat, without recursion, so that no nesting a server thinks up can exhaust the stack.

use bytes::Bytes;
use postroom_auth::text::harmless_chars;

use super::wire::{Literal, Piece};

/// One response.
#[derive(Debug)]
pub(super) enum Response {
    /// `+`, with its text.
    Continue(Bytes),
    Tagged {
        tag: u32,
        done: Done,
    },
    Untagged(Untagged),
}

/// Data the server sends on its own or before a command's end.
#[derive(Debug)]
pub(super) enum Untagged {
    Status(Done),
    Capability(Vec<String>),
    Exists(u32),
    Expunge,
    Search(Vec<u32>),
    /// A folder that exists.
    List,
    Fetch(Fetched),
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
    Bye,
    PreAuth,
}

/// A status response: how a command ended, or news of the connection.
#[derive(Debug)]
pub(super) struct Done {
    pub status: Status,
    pub code: Option<Code>,
    /// For people: shortened, without control characters.
    pub text: String,
}

/// A response code (RFC 9051 section 7.1, RFC 5530).
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Code {
    Capability(Vec<String>),
    UidValidity(u32),
    UidNext(u32),
    TryCreate,
    NonExistent,
    AlreadyExists,
    /// The server names trouble of its own that passes: UNAVAILABLE, INUSE, LIMIT, SERVERBUG, and THROTTLED, which
    /// large providers use and no RFC names.
    Passing,
    /// The folder is open for reading alone.
    ReadOnly,
    /// Any other, by its name in upper case.
    Other(String),
}

/// The attributes of one FETCH response that were asked for.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub uid: Option<u32>,
    pub size: Option<u64>,
    /// `BODY[]`, whole or a part of it. NIL reads as empty.
    pub body: Option<Literal>,
}

/// Tags are this letter and a number.
pub(super) const TAG: char = 'P';

/// Reads one response; `None` when it is none.
pub(super) fn read(pieces: &[Piece]) -> Option<Response> {
    let Some(Piece::Text(first)) = pieces.first() else {
        return None;
    };
    if let Some(rest) = first.strip_prefix(b"+") {
        let skipped = first.len() - rest.trim_ascii_start().len();
        return Some(Response::Continue(first.slice(skipped..)));
    }
    let mut words = Scanner::new(pieces);
    match words.word()? {
        b"*" => untagged(&mut words).map(Response::Untagged),
        tag => {
            let tag = number(tag.strip_prefix(&[TAG as u8])?)?;
            let status = status(words.word()?)?;
            Some(Response::Tagged {
                tag,
                done: done(status, words.rest()),
            })
        }
    }
}

/// A server's text as it may be shown.
pub(super) fn shown(text: &[u8]) -> String {
    harmless_chars(String::from_utf8_lossy(text).trim())
        .take(SHOWN_CHARS)
        .collect()
}

/// The longest server text that is shown, in characters.
const SHOWN_CHARS: usize = 500;
/// The longest name of a response code that is kept, in characters.
const CODE_CHARS: usize = 40;

fn untagged(words: &mut Scanner) -> Option<Untagged> {
    let word = words.word()?;
    if let Some(status) = status(word) {
        return Some(Untagged::Status(done(status, words.rest())));
    }
    if let Some(n) = number(word) {
        let Some(kind) = words.word() else {
            return Some(Untagged::Other);
        };
        return match kind.to_ascii_uppercase().as_slice() {
            b"EXISTS" => Some(Untagged::Exists(n)),
            b"EXPUNGE" => Some(Untagged::Expunge),
            b"FETCH" => fetched(words).map(Untagged::Fetch),
            _ => Some(Untagged::Other),
        };
    }
    match word.to_ascii_uppercase().as_slice() {
        b"CAPABILITY" => Some(Untagged::Capability(capabilities(words.rest()))),
        b"LIST" => Some(Untagged::List),
        b"SEARCH" => {
            let mut ids = Vec::new();
            while let Some(id) = words.word().and_then(number) {
                ids.push(id);
            }
            Some(Untagged::Search(ids))
        }
        _ => Some(Untagged::Other),
    }
}

fn status(word: &[u8]) -> Option<Status> {
    Some(match word.to_ascii_uppercase().as_slice() {
        b"OK" => Status::Ok,
        b"NO" => Status::No,
        b"BAD" => Status::Bad,
        b"BYE" => Status::Bye,
        b"PREAUTH" => Status::PreAuth,
        _ => return None,
    })
}

fn done(status: Status, rest: &[u8]) -> Done {
    let coded = rest
        .strip_prefix(b"[")
        .and_then(|inner| Some((inner, inner.iter().position(|b| *b == b']')?)));
    let code = coded.map(|(inner, end)| code(&inner[..end]));
    Done {
        status,
        code,
        text: shown(rest),
    }
}

fn code(inner: &[u8]) -> Code {
    let mut parts = inner.splitn(2, |b| *b == b' ');
    let name = parts.next().unwrap_or_default().to_ascii_uppercase();
    let value = parts.next().unwrap_or_default();
    let other = || Code::Other(shown(&name).chars().take(CODE_CHARS).collect());
    let numbered = |make: fn(u32) -> Code| number(value).map_or_else(other, make);
    match name.as_slice() {
        b"CAPABILITY" => Code::Capability(capabilities(value)),
        b"UIDVALIDITY" => numbered(Code::UidValidity),
        b"UIDNEXT" => numbered(Code::UidNext),
        b"TRYCREATE" => Code::TryCreate,
        b"NONEXISTENT" => Code::NonExistent,
        b"ALREADYEXISTS" => Code::AlreadyExists,
        b"UNAVAILABLE" | b"INUSE" | b"LIMIT" | b"SERVERBUG" | b"THROTTLED" => Code::Passing,
        b"READ-ONLY" => Code::ReadOnly,
        _ => other(),
    }
}

fn capabilities(list: &[u8]) -> Vec<String> {
    list.split(|b| *b == b' ')
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
        .collect()
}

fn fetched(words: &mut Scanner) -> Option<Fetched> {
    let mut found = Fetched::default();
    if !matches!(words.next()?, Token::Open) {
        return None;
    }
    loop {
        let name = match words.next()? {
            Token::Close => return Some(found),
            Token::Word(name) => name.to_ascii_uppercase(),
            _ => return None,
        };
        let value = words.next()?;
        match (name.as_slice(), value) {
            (b"UID", Token::Word(value)) => found.uid = Some(number(value)?),
            (b"RFC822.SIZE", Token::Word(value)) => found.size = Some(number64(value)?),
            (name, value) if name.starts_with(b"BODY[]") => {
                found.body = Some(match value {
                    Token::Literal(literal) => literal.clone(),
                    Token::Quoted(bytes) => Literal {
                        len: bytes.len() as u64,
                        bytes: bytes.into(),
                    },
                    Token::Word(word) if word.eq_ignore_ascii_case(b"NIL") => Literal {
                        len: 0,
                        bytes: Bytes::new(),
                    },
                    _ => return None,
                });
            }
            (_, Token::Open) => words.close()?,
            (_, Token::Close) => return None,
            _ => {}
        }
    }
}

fn number(word: &[u8]) -> Option<u32> {
    number64(word)?.try_into().ok()
}

fn number64(word: &[u8]) -> Option<u64> {
    if !word.first()?.is_ascii_digit() {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

enum Token<'a> {
    Open,
    Close,
    Word(&'a [u8]),
    Quoted(Vec<u8>),
    Literal(&'a Literal),
}

/// Walks over a response's tokens.
struct Scanner<'a> {
    text: &'a [u8],
    rest: &'a [Piece],
}

impl<'a> Scanner<'a> {
    fn new(pieces: &'a [Piece]) -> Self {
        Self {
            text: &[],
            rest: pieces,
        }
    }

    /// The next token when it is a word.
    fn word(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// What is left of the current text.
    fn rest(&self) -> &'a [u8] {
        self.text.trim_ascii_start()
    }

    /// Passes over everything up to the end of the list that was just opened.
    fn close(&mut self) -> Option<()> {
        let mut depth = 1u32;
        while depth > 0 {
            match self.next()? {
                Token::Open => depth = depth.checked_add(1)?,
                Token::Close => depth -= 1,
                _ => {}
            }
        }
        Some(())
    }

    fn next(&mut self) -> Option<Token<'a>> {
        loop {
            self.text = self.text.trim_ascii_start();
            match self.text.first() {
                None => {
                    let (piece, rest) = self.rest.split_first()?;
                    self.rest = rest;
                    match piece {
                        Piece::Text(text) => self.text = text,
                        Piece::Literal(literal) => return Some(Token::Literal(literal)),
                    }
                }
                Some(b'(') => {
                    self.text = &self.text[1..];
                    return Some(Token::Open);
                }
                Some(b')') => {
                    self.text = &self.text[1..];
                    return Some(Token::Close);
                }
                Some(b'"') => return self.quoted(),
                Some(_) => return Some(Token::Word(self.atom())),
            }
        }
    }

    /// A word; a bracketed section in it, such as `BODY[HEADER.FIELDS (TO)]`, belongs to it.
    fn atom(&mut self) -> &'a [u8] {
        let mut bracketed = false;
        let end = self
            .text
            .iter()
            .position(|b| {
                match b {
                    b'[' => bracketed = true,
                    b']' => bracketed = false,
                    _ => {}
                }
                !bracketed && matches!(b, b' ' | b'(' | b')')
            })
            .unwrap_or(self.text.len());
        let (word, rest) = self.text.split_at(end);
        self.text = rest;
        word
    }

    fn quoted(&mut self) -> Option<Token<'a>> {
        let mut bytes = Vec::new();
        let mut escaped = false;
        for (at, b) in self.text.iter().enumerate().skip(1) {
            match b {
                _ if escaped => {
                    bytes.push(*b);
                    escaped = false;
                }
                b'\\' => escaped = true,
                b'"' => {
                    self.text = &self.text[at + 1..];
                    return Some(Token::Quoted(bytes));
                }
                _ => bytes.push(*b),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(line: &str) -> Vec<Piece> {
        vec![Piece::Text(Bytes::copy_from_slice(line.as_bytes()))]
    }

    fn fetch(line: &str) -> Option<Fetched> {
        match read(&text(line)) {
            Some(Response::Untagged(Untagged::Fetch(fetched))) => Some(fetched),
            _ => None,
        }
    }

    #[test]
    fn what_was_asked_for_is_found_among_what_was_not() {
        let found = fetch(
            r#"* 7 FETCH (FLAGS (\Seen "x\")" ((a))) BODY[HEADER.FIELDS (TO)] "h" UID 12 X-GM ("(" NIL) RFC822.SIZE 99 BODY[]<0> "b\"c")"#,
        )
        .unwrap();
        assert_eq!((found.uid, found.size), (Some(12), Some(99)));
        assert_eq!(&found.body.unwrap().bytes[..], b"b\"c");
        assert_eq!(
            fetch("* 1 FETCH (UID 1 BODY[] NIL)")
                .unwrap()
                .body
                .unwrap()
                .len,
            0
        );
        assert!(fetch("* 1 FETCH (UID 1)").unwrap().body.is_none());
    }

    #[test]
    fn status_codes_are_typed() {
        let Some(Response::Tagged { tag: 3, done }) =
            read(&text("P3 no [TRYCREATE] Mailbox\u{7} missing"))
        else {
            panic!()
        };
        assert_eq!(
            (done.status, done.code),
            (Status::No, Some(Code::TryCreate))
        );
        assert_eq!(done.text, "[TRYCREATE] Mailbox  missing");
        for (line, code) in [
            ("P1 OK [UIDVALIDITY 7] x", Some(Code::UidValidity(7))),
            ("P1 OK [UIDNEXT x]", Some(Code::Other("UIDNEXT".into()))),
            ("P1 OK [read-only] x", Some(Code::ReadOnly)),
            ("P1 NO [unavailable] x", Some(Code::Passing)),
            (
                "P1 OK [CAPABILITY a IDLE] x",
                Some(Code::Capability(vec!["A".into(), "IDLE".into()])),
            ),
            ("P1 OK [oops", None),
            ("P1 OK", None),
        ] {
            let Some(Response::Tagged { done, .. }) = read(&text(line)) else {
                panic!("{line}")
            };
            assert_eq!(done.code, code, "{line}");
        }
    }

    #[test]
    fn other_responses() {
        assert!(matches!(read(&text("+ aGk=")), Some(Response::Continue(c)) if &c[..] == b"aGk="));
        assert!(matches!(read(&text("+")), Some(Response::Continue(c)) if c.is_empty()));
        assert!(matches!(
            read(&text("* 4 exists")),
            Some(Response::Untagged(Untagged::Exists(4)))
        ));
        assert!(
            matches!(read(&text("* SEARCH 1 5 (MODSEQ 3)")), Some(Response::Untagged(Untagged::Search(ids))) if ids == [1, 5])
        );
        assert!(matches!(
            read(&text("* VANISHED 1:4")),
            Some(Response::Untagged(Untagged::Other))
        ));
    }

    #[test]
    fn nonsense_is_refused_and_nesting_is_harmless() {
        for line in [
            "",
            "220 mail.example ESMTP",
            "P OK",
            "P1",
            "* 1 FETCH",
            "* 1 FETCH (UID",
            "* 1 FETCH (UID x)",
            "* 1 FETCH (UID 99999999999)",
            "* 1 FETCH (UID 1 BODY[] (a))",
            "* 1 FETCH (\"open",
        ] {
            assert!(read(&text(line)).is_none(), "{line}");
        }
        let deep = format!(
            "* 1 FETCH (X {}{} UID 3)",
            "(".repeat(1_000_000),
            ")".repeat(1_000_000)
        );
        assert_eq!(fetch(&deep).unwrap().uid, Some(3));
        assert!(fetch(&deep[..1_500_000]).is_none());
    }
}
