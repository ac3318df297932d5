//! Parses server responses (RFC 9051 section 7): only what Postroom requests; the rest is skipped.
//!
//! The parser is flat, without recursion, so that no nesting can exhaust the stack.

use bytes::Bytes;
use jiff::civil::Date;
use jiff::fmt::strtime;
use postroom_core::harmless::harmless_chars;

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

/// Data that the server sends on its own or before a command's end.
#[derive(Debug)]
pub(super) enum Untagged {
    Status(Done),
    Capability(Vec<String>),
    Exists(u32),
    Expunge,
    Search(Ids),
    List(Folder),
    Namespace(Namespace),
    /// UIDNEXT of a STATUS response.
    UidNext(u32),
    Fetch(Fetched),
    Other,
}

/// The numbers of a search result, read one by one: the server determines how many there are.
#[derive(Debug)]
pub(super) struct Ids(Bytes);

/// A folder as LIST names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    pub name: Vec<u8>,
    /// The separator between the levels of its name; `None` without levels.
    pub separator: Option<char>,
    /// Whether it can contain mail.
    pub selectable: bool,
}

/// The location of a user's own folders (RFC 2342).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Namespace {
    pub prefix: String,
    pub separator: Option<char>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    No,
    Bad,
    Bye,
    PreAuth,
}

/// A status response: the end of a command, or information about the connection.
#[derive(Debug)]
pub(super) struct Done {
    pub status: Status,
    pub code: Option<Code>,
    /// The text for people: shortened, without control characters.
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
    /// The server reports a temporary failure of its own: UNAVAILABLE, INUSE and SERVERBUG.
    Passing,
    /// A limit on connections, commands or rates: LIMIT, and THROTTLED, which large providers use although no RFC defines
    /// it.
    Limit,
    /// The mailbox is full.
    OverQuota,
    /// The folder is open read-only.
    ReadOnly,
    /// Any other code, by its name in upper case.
    Other(String),
}

impl Code {
    /// Returns the name of a code that states the reason of a refusal.
    pub fn into_name(self) -> Option<String> {
        match self {
            Code::TryCreate => Some("TRYCREATE".into()),
            Code::NonExistent => Some("NONEXISTENT".into()),
            Code::AlreadyExists => Some("ALREADYEXISTS".into()),
            Code::Limit => Some("LIMIT".into()),
            Code::OverQuota => Some("OVERQUOTA".into()),
            Code::Other(name) => Some(name),
            Code::Capability(_)
            | Code::UidValidity(_)
            | Code::UidNext(_)
            | Code::Passing
            | Code::ReadOnly => None,
        }
    }
}

/// The requested attributes of one FETCH response.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub uid: Option<u32>,
    pub size: Option<u64>,
    pub arrived: Option<Arrived>,
    /// `BODY[HEADER.FIELDS …]`.
    pub header: Option<Literal>,
    /// `BODY[]`, complete or in part. NIL reads as empty.
    pub body: Option<Literal>,
}

/// The time at which a mail reached its server: INTERNALDATE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrived {
    /// Seconds since 1970 in UTC.
    pub secs: i64,
    /// The day on the server's own clock, which SEARCH SINCE uses.
    pub day: Date,
}

impl Arrived {
    /// Parses ` 7-Feb-2026 21:52:25 -0800`.
    fn read(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?.trim();
        let read = strtime::parse("%d-%b-%Y %H:%M:%S %z", text).ok()?;
        Some(Self {
            secs: read.to_timestamp().ok()?.as_second(),
            day: read.to_date().ok()?,
        })
    }
}

impl Ids {
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        let words = self.0.split(|b| *b == b' ').filter(|word| !word.is_empty());
        words.map_while(number)
    }
}

/// The letter of tags, which is followed by a number.
pub(super) const TAG: char = 'P';

/// Parses one response; `None` if it is invalid.
pub(super) fn read(pieces: &[Piece]) -> Option<Response> {
    let Some(Piece::Text(first)) = pieces.first() else {
        return None;
    };
    if let Some(rest) = first.strip_prefix(b"+") {
        let skipped = first.len() - rest.trim_ascii_start().len();
        return Some(Response::Continue(first.slice(skipped..)));
    }
    if is_bare_code(first) {
        return Some(Response::Untagged(Untagged::Other));
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

/// Returns whether a line is a response code without the status in front of it. Exchange 2013 sends `[COPYUID …]` that way
/// during a MOVE.
fn is_bare_code(line: &[u8]) -> bool {
    line.strip_prefix(b"[").is_some_and(|rest| {
        rest.first().is_some_and(u8::is_ascii_uppercase) && rest.contains(&b']')
    })
}

/// Returns a server's text for display.
pub(super) fn shown(text: &[u8]) -> String {
    harmless_chars(String::from_utf8_lossy(text).trim())
        .take(SHOWN_CHARS)
        .collect()
}

/// The longest server text that is shown, in characters.
const SHOWN_CHARS: usize = 500;
/// How much of a list of capabilities is read, in bytes.
const CAPABILITY_BYTES: usize = 64 * 1024;
/// The most capabilities that are kept.
const CAPABILITIES: usize = 512;
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
        b"LIST" => folder(words).map(Untagged::List),
        b"NAMESPACE" => Some(Untagged::Namespace(namespace(words).unwrap_or_default())),
        b"STATUS" => Some(uid_next(words).map_or(Untagged::Other, Untagged::UidNext)),
        b"SEARCH" => Some(Untagged::Search(Ids(Bytes::copy_from_slice(words.rest())))),
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
        b"UNAVAILABLE" | b"INUSE" | b"SERVERBUG" => Code::Passing,
        b"LIMIT" | b"THROTTLED" => Code::Limit,
        b"OVERQUOTA" => Code::OverQuota,
        b"READ-ONLY" => Code::ReadOnly,
        _ => other(),
    }
}

/// Returns the first capabilities of a list: honest servers have a few dozen.
fn capabilities(list: &[u8]) -> Vec<String> {
    list[..list.len().min(CAPABILITY_BYTES)]
        .split(|b| *b == b' ')
        .filter(|word| !word.is_empty())
        .take(CAPABILITIES)
        .map(|word| String::from_utf8_lossy(word).to_ascii_uppercase())
        .collect()
}

/// Parses `(\Noselect) "/" name`.
fn folder(words: &mut Scanner) -> Option<Folder> {
    if !matches!(words.next()?, Token::Open) {
        return None;
    }
    let mut selectable = true;
    loop {
        match words.next()? {
            Token::Close => break,
            Token::Word(flag) => {
                let missing: [&[u8]; 2] = [b"\\Noselect", b"\\NonExistent"];
                selectable &= !missing.iter().any(|it| flag.eq_ignore_ascii_case(it));
            }
            _ => {}
        }
    }
    let separator = separator(&words.next()?);
    let name = words.next()?.text()?;
    Some(Folder {
        name,
        separator,
        selectable,
    })
}

/// Returns the first of the user's own namespaces: `((prefix separator)) …`
fn namespace(words: &mut Scanner) -> Option<Namespace> {
    for _ in 0..2 {
        if !matches!(words.next()?, Token::Open) {
            return None;
        }
    }
    let prefix = words.next()?.text()?;
    Some(Namespace {
        prefix: String::from_utf8(prefix).ok()?,
        separator: separator(&words.next()?),
    })
}

fn separator(token: &Token) -> Option<char> {
    match token {
        Token::Quoted(text) => text.first().map(|b| char::from(*b)),
        _ => None,
    }
}

/// Parses `name (UIDNEXT n)`.
fn uid_next(words: &mut Scanner) -> Option<u32> {
    words.next()?.text()?;
    if !matches!(words.next()?, Token::Open) {
        return None;
    }
    loop {
        let name = words.word()?;
        let value = words.word()?;
        if name.eq_ignore_ascii_case(b"UIDNEXT") {
            return number(value);
        }
    }
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
            (b"INTERNALDATE", Token::Quoted(value)) => found.arrived = Arrived::read(&value),
            (name, value) if name.starts_with(b"BODY[]") => found.body = Some(value.literal()?),
            (name, value) if name.starts_with(b"BODY[HEADER.FIELDS") => {
                found.header = Some(value.literal()?);
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

impl Token<'_> {
    /// Returns the text of a string or an atom.
    fn text(self) -> Option<Vec<u8>> {
        match self {
            Token::Word(word) => Some(word.to_vec()),
            Token::Quoted(bytes) => Some(bytes),
            Token::Literal(literal) => Some(literal.bytes.to_vec()),
            Token::Open | Token::Close => None,
        }
    }

    /// Returns the bytes of a string; NIL is empty.
    fn literal(self) -> Option<Literal> {
        match self {
            Token::Literal(literal) => Some(literal.clone()),
            Token::Quoted(bytes) => Some(Literal {
                len: bytes.len() as u64,
                bytes: bytes.into(),
            }),
            Token::Word(word) if word.eq_ignore_ascii_case(b"NIL") => Some(Literal {
                len: 0,
                bytes: Bytes::new(),
            }),
            _ => None,
        }
    }
}

/// Iterates over a response's tokens.
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

    /// Returns the next token if it is a word.
    fn word(&mut self) -> Option<&'a [u8]> {
        match self.next()? {
            Token::Word(word) => Some(word),
            _ => None,
        }
    }

    /// Returns the rest of the current text.
    fn rest(&self) -> &'a [u8] {
        self.text.trim_ascii_start()
    }

    /// Skips everything up to the end of the list that was just opened.
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

    /// Returns a word, including a bracketed section in it, such as `BODY[HEADER.FIELDS (TO)]`.
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
mod tests;
