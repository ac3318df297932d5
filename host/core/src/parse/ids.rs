//! Message-IDs (RFC 5322 section 3.6.4), tolerating what mailers write around them.

use std::borrow::Cow;

use super::headers::unfold;
use super::repairs::Repairs;
use super::words::decode_words;

/// The longest id kept, in bytes.
const LONGEST_ID: usize = 998;

/// Returns all Message-IDs of a field, without angle brackets. Words without brackets are ids only where none has brackets:
/// beside those they are addresses and phrases, as in `<id> (message from nora@quill.example)`.
pub(crate) fn message_ids(raw: &[u8]) -> Vec<String> {
    let text = readable(raw);
    let found = Found::of(&text);
    if !found.bracketed.is_empty() {
        return found.bracketed;
    }
    // A sentence names an address rather than an id: `Your message of Monday from nora@quill.example`.
    let is_sentence = found.words.iter().any(|word| !word.contains('@'));
    found
        .words
        .into_iter()
        .filter(|word| word.contains('@'))
        .filter(|word| !is_sentence || word.split('@').next().is_some_and(has_digit))
        .filter_map(clean)
        .collect()
}

/// Returns the id of a Message-ID field. Some programs write it without `<`, `>` and `@`.
pub(crate) fn own_message_id(raw: &[u8]) -> Option<String> {
    const LONGEST_FIELD: usize = 4096;
    let raw = &raw[..raw.len().min(LONGEST_FIELD)];
    message_ids(raw).into_iter().next().or_else(|| {
        let text = readable(raw);
        let word = Found::of(&text).words.into_iter().next()?;
        clean(&word.replace(['<', '>'], ""))
    })
}

/// Returns a field on one line, with its encoded words decoded. Ids are not read for people, so repairs are not noted.
fn readable(raw: &[u8]) -> String {
    let repairs = &mut Repairs::default();
    match unfold(raw, repairs) {
        Cow::Borrowed(text) if !text.contains("=?") => text.to_owned(),
        text => decode_words(&text, repairs).into_owned(),
    }
}

/// The ids and words of a field outside of comments.
#[derive(Default)]
struct Found<'a> {
    bracketed: Vec<String>,
    words: Vec<&'a str>,
}

impl<'a> Found<'a> {
    fn of(text: &'a str) -> Self {
        let mut found = Self::default();
        let mut comments_end = true;
        let mut at = 0;
        while let Some(first) = text[at..].chars().next() {
            let rest = &text[at..];
            match first {
                '<' => at += found.bracket(&rest[1..]) + 1,
                '(' if comments_end => match comment_len(rest) {
                    Some(len) => at += len,
                    None => {
                        comments_end = false;
                        at += 1;
                    }
                },
                ',' | ';' | '>' | '"' => at += 1,
                c if c.is_whitespace() => at += c.len_utf8(),
                _ => {
                    let end = rest
                        .find(|c: char| {
                            c.is_whitespace() || matches!(c, ',' | ';' | '<' | '>' | '"')
                        })
                        .unwrap_or(rest.len());
                    let word = &rest[..end];
                    // An id whose opening bracket is missing.
                    match clean(word).filter(|_| rest[end..].starts_with('>')) {
                        Some(id) => found.bracketed.push(id),
                        None => found.words.push(word),
                    }
                    at += end;
                }
            }
        }
        found
    }

    /// Reads what follows an opening bracket, and returns its length. A second opening bracket means that the first was stray,
    /// or that its closing one is missing.
    fn bracket(&mut self, text: &'a str) -> usize {
        let end = text.find(['<', '>']).unwrap_or(text.len());
        let inside = text[..end].trim();
        if text[end..].starts_with('>') {
            self.ids(without_comment(inside));
            return end + 1;
        }
        if let Some(word) = inside.split([' ', '\t', ',', ';']).next() {
            self.bracketed.extend(clean(word));
        }
        end
    }

    /// Keeps the ids of one pair of brackets. Several are parted by commas or blanks; an id that is cut by a fold is one.
    fn ids(&mut self, inside: &str) {
        let several = || {
            inside
                .split([' ', ',', ';'])
                .filter(|word| !word.is_empty())
        };
        if several().nth(1).is_some() && several().all(|word| word.contains('@')) {
            self.bracketed.extend(several().filter_map(clean));
        } else {
            self.bracketed.extend(clean(inside));
        }
    }
}

fn clean(id: &str) -> Option<String> {
    let id: String = id
        .chars()
        .filter(|c| !c.is_whitespace() && !c.is_control())
        .collect();
    (!id.is_empty() && id.len() <= LONGEST_ID).then_some(id)
}

fn has_digit(text: &str) -> bool {
    text.contains(|c: char| c.is_ascii_digit())
}

fn without_comment(id: &str) -> &str {
    match id.find(" (") {
        Some(at) if id.ends_with(')') => id[..at].trim_end(),
        _ => id,
    }
}

/// Returns the length of the comment at the beginning, with the comments in it; `None` if it is not closed.
pub(crate) fn comment_len(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    let mut escaped = false;
    for (at, b) in text.bytes().enumerate() {
        match b {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'(' => depth += 1,
            b')' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}
