//! Parses address lists (RFC 5322 section 3.4), tolerating what mailers write.

use std::borrow::Cow;

use memchr::memchr2;

use super::headers::unfold;
use super::ids::comment_len;
use super::repairs::Repairs;
use super::words::{decode_words, word_len};
use crate::message::Address;

/// RFC 5321 section 4.5.3.1: 64 for the local part, 255 for the domain, and the `@`.
const LONGEST_EMAIL: usize = 320;

/// Returns the addresses of a field, at most `most`.
pub(crate) fn addresses(raw: &[u8], most: usize, repairs: &mut Repairs) -> Vec<Address> {
    let text = unfold(raw, repairs);
    let mut found = Vec::new();
    if !List::of(&text).read(most, true, &mut found, repairs) {
        repairs.note(format!(
            "addresses after the first {most} of a header were left out"
        ));
    }
    found
}

/// One element between commas, split into its parts.
#[derive(Default)]
struct Item {
    /// The words outside of angle brackets and comments, without quotes.
    phrase: String,
    /// The same with quotes, for an address without angle brackets.
    bare: String,
    angle: Option<String>,
    comment: String,
    /// Whether a comma ended it, so that a name may continue in the next element: `Doe, John <j@x>`.
    comma: bool,
}

struct List<'a> {
    text: &'a str,
    at: usize,
    /// Whether a search for the end of an angle bracket, a quote or a comment has failed, so that none follows: each search
    /// may read up to the end of the text.
    no_more_angles: bool,
    no_more_quotes: bool,
    no_more_comments: bool,
    carried: String,
}

impl<'a> List<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            no_more_angles: false,
            no_more_quotes: false,
            no_more_comments: false,
            carried: String::new(),
        }
    }

    /// Adds the addresses to `found` until these are `most`, and returns whether those are all. `decodes` means that lists in
    /// encoded words are read too.
    fn read(
        mut self,
        most: usize,
        decodes: bool,
        found: &mut Vec<Address>,
        repairs: &mut Repairs,
    ) -> bool {
        while let Some(item) = self.item() {
            let address = match item.address(&mut self.carried, repairs) {
                Read::Address(address) => address,
                Read::Nothing => continue,
                // Some mailers encode the whole of `Name <address>`, or the whole list.
                Read::Encoded(text) => {
                    let before = found.len();
                    if decodes && !List::of(&text).read(most, false, found, repairs) {
                        return false;
                    }
                    if found.len() > before {
                        repairs.note("an address within an encoded word was read");
                        self.carried.clear();
                    }
                    continue;
                }
            };
            if found.len() >= most {
                return false;
            }
            found.push(address);
        }
        true
    }

    fn item(&mut self) -> Option<Item> {
        if self.at >= self.text.len() {
            return None;
        }
        let mut item = Item::default();
        while self.at < self.text.len() {
            let rest = &self.text[self.at..];
            match rest.as_bytes()[0] {
                b',' | b';' => {
                    item.comma = rest.as_bytes()[0] == b',';
                    self.at += 1;
                    break;
                }
                b'"' => self.quoted(&mut item),
                b'(' => self.comment(&mut item.comment),
                b'<' => self.angle(&mut item),
                // A stray one.
                b'>' => self.at += 1,
                b':' if item.angle.is_none() && !item.bare.contains('@') => {
                    // A group's name.
                    self.at += 1;
                    item.phrase.clear();
                    item.bare.clear();
                }
                b' ' | b'\t' => {
                    self.at += 1;
                    if !item.phrase.is_empty() && !item.phrase.ends_with(' ') {
                        item.phrase.push(' ');
                    }
                    if !item.bare.is_empty() && !item.bare.ends_with(' ') {
                        item.bare.push(' ');
                    }
                }
                first => {
                    let len = match first {
                        b'=' => word_len(rest),
                        _ => None,
                    };
                    let len = len.unwrap_or_else(|| {
                        rest.as_bytes()[1..]
                            .iter()
                            .position(|b| b",;\"(<>: \t=".contains(b))
                            .map_or(rest.len(), |end| end + 1)
                    });
                    let len = rest.ceil_char_boundary(len);
                    item.phrase.push_str(&rest[..len]);
                    item.bare.push_str(&rest[..len]);
                    self.at += len;
                }
            }
        }
        Some(item)
    }

    fn quoted(&mut self, item: &mut Item) {
        let start = self.at;
        let inside = &self.text[start + 1..];
        let len = (!self.no_more_quotes).then(|| quote_len(inside)).flatten();
        let Some(len) = len else {
            // A quote that is never closed is a stray character.
            self.no_more_quotes = true;
            self.at += 1;
            return;
        };
        self.at += len + 2;
        let mut escaped = false;
        for c in inside[..len].chars() {
            if c == '\\' && !escaped {
                escaped = true;
            } else {
                escaped = false;
                item.phrase.push(c);
            }
        }
        item.bare.push_str(&self.text[start..self.at]);
    }

    fn comment(&mut self, comment: &mut String) {
        let rest = &self.text[self.at..];
        let Some(len) = (!self.no_more_comments)
            .then(|| comment_len(rest))
            .flatten()
        else {
            self.no_more_comments = true;
            self.at += 1;
            return;
        };
        self.at += len;
        if !comment.is_empty() {
            comment.push(' ');
        }
        let mut escaped = false;
        for c in rest[1..len - 1].chars() {
            if c == '\\' && !escaped {
                escaped = true;
            } else {
                escaped = false;
                comment.push(c);
            }
        }
    }

    fn angle(&mut self, item: &mut Item) {
        self.at += 1;
        let rest = &self.text[self.at..];
        let found = if self.no_more_angles {
            None
        } else {
            self.angle_end(rest)
        };
        let inside = match found {
            Some((inside, len)) => {
                self.at += len;
                inside
            }
            None => {
                // Its end is missing.
                let end = rest.find([',', ';', '<', '>']).unwrap_or(rest.len());
                self.at += end;
                if rest[end..].starts_with('>') {
                    self.at += 1;
                }
                Cow::Borrowed(&rest[..end])
            }
        };
        let usable = |angle: &str| angle.contains('@') || angle.contains("=?");
        match &item.angle {
            Some(held) if usable(held) || !usable(&inside) => {}
            _ => item.angle = Some(inside.into_owned()),
        }
    }

    /// Returns what stands in angle brackets, without comments, and the length up to and with the closing bracket. `None` if
    /// another bracket or a comma comes before it.
    fn angle_end<'t>(&mut self, text: &'t str) -> Option<(Cow<'t, str>, usize)> {
        let mut out = String::new();
        let mut from = 0;
        let mut at = 0;
        let route = text.trim_start().starts_with('@');
        let bytes = text.as_bytes();
        let mut quotes_end = true;
        while at < bytes.len() {
            match bytes[at] {
                b'>' => {
                    let last = &text[from..at];
                    let inside = if out.is_empty() {
                        Cow::Borrowed(last)
                    } else {
                        Cow::Owned(out + last)
                    };
                    return Some((inside, at + 1));
                }
                b'<' => return None,
                b',' | b';' if !route => return None,
                b'"' if quotes_end => match quote_len(&text[at + 1..]) {
                    Some(len) => at += len + 2,
                    None => {
                        quotes_end = false;
                        at += 1;
                    }
                },
                b'(' if !self.no_more_comments => match comment_len(&text[at..]) {
                    Some(len) => {
                        out.push_str(&text[from..at]);
                        at += len;
                        from = at;
                    }
                    None => {
                        self.no_more_comments = true;
                        at += 1;
                    }
                },
                _ => at += 1,
            }
        }
        self.no_more_angles = true;
        None
    }
}

/// Returns the length of a quoted string up to its closing quote.
fn quote_len(inside: &str) -> Option<usize> {
    let bytes = inside.as_bytes();
    let mut at = 0;
    loop {
        let found = at + memchr2(b'"', b'\\', &bytes[at..])?;
        if bytes[found] == b'"' {
            return Some(found);
        }
        at = found + 2;
        if at > bytes.len() {
            return None;
        }
    }
}

enum Read {
    Address(Address),
    /// The decoded text of an element whose address may be in encoded words.
    Encoded(String),
    Nothing,
}

impl Item {
    fn address(self, carried: &mut String, repairs: &mut Repairs) -> Read {
        let prefix = std::mem::take(carried);
        let angle = self
            .angle
            .as_deref()
            .map(|angle| decode_words(angle, repairs));
        if let Some(email) = angle.as_deref().and_then(email_in) {
            let phrase = if prefix.is_empty() {
                self.phrase
            } else {
                format!("{prefix}, {}", self.phrase)
            };
            return Read::Address(Address {
                name: name(&phrase, repairs).or_else(|| name(&self.comment, repairs)),
                email,
            });
        }
        if let Some((words, email)) = bare(&self.bare).or_else(|| bare(&self.phrase)) {
            let named = name(&words, repairs).or_else(|| name(&self.comment, repairs));
            return Read::Address(Address { name: named, email });
        }
        if self.phrase.contains("=?") {
            let text = decode_words(&self.phrase, repairs);
            if text.contains('@') {
                return Read::Encoded(text.into_owned());
            }
        }
        if self.comma && self.angle.is_none() {
            *carried = if prefix.is_empty() {
                self.phrase.trim().to_owned()
            } else {
                prefix
            };
        }
        Read::Nothing
    }
}

/// Returns the last word with an `@`, and the other words.
fn bare(text: &str) -> Option<(String, String)> {
    if !text.contains('@') {
        return None;
    }
    if let Some(email) = email(text) {
        return Some((String::new(), email));
    }
    let found = text.split_whitespace().rev().find_map(email)?;
    let words: Vec<&str> = text
        .split_whitespace()
        .filter(|word| !word.contains('@'))
        .collect();
    Some((words.join(" "), found))
}

/// Returns the address in angle brackets, where some mailers also write the name.
fn email_in(angle: &str) -> Option<String> {
    email(angle).or_else(|| angle.split_whitespace().rev().find_map(email))
}

fn email(text: &str) -> Option<String> {
    let mut text = text
        .trim()
        .trim_start_matches('<')
        .trim_end_matches('>')
        .trim();
    if text.starts_with('@') {
        // A source route (RFC 5322 section 4.4).
        text = text.split_once(':')?.1.trim();
    }
    for (open, close) in [('[', ']'), ('\'', '\''), ('"', '"')] {
        // Around the whole, not around the domain or the local part.
        if let Some(inside) = text.strip_prefix(open)
            && let Some(inside) = inside.strip_suffix(close)
            && inside.contains('@')
        {
            text = inside.trim();
        }
    }
    if text
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:"))
    {
        text = text[7..].trim_start();
    }
    if text.len() > LONGEST_EMAIL {
        return None;
    }
    let (local, domain) = text.rsplit_once('@')?;
    let local = local.trim_end();
    let domain = domain.trim_start().trim_end_matches(['.', ':', '!']);
    let domain = match domain.strip_suffix(']') {
        Some(domain) if !domain.starts_with('[') => domain,
        _ => domain,
    };
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | '"');
    if local.is_empty() || domain.is_empty() || domain.contains(odd) || domain.contains('@') {
        return None;
    }
    let local = if quoted {
        without_needless_quotes(local)
    } else if local.contains(odd) || local.contains('@') {
        return None;
    } else {
        local
    };
    Some(format!("{local}@{}", domain.to_lowercase()))
}

/// Returns a quoted local part without its quotes if it means the same without them (RFC 5322 section 3.2.3).
fn without_needless_quotes(local: &str) -> &str {
    let inside = local.trim_matches('"');
    let is_atom = inside.len() + 2 == local.len()
        && inside.split('.').all(|atom| {
            !atom.is_empty()
                && atom
                    .chars()
                    .all(|c| c.is_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        });
    if is_atom { inside } else { local }
}

fn name(phrase: &str, repairs: &mut Repairs) -> Option<String> {
    let decoded = decode_words(phrase.trim(), repairs);
    let mut name = decoded.trim();
    for quote in ['"', '\''] {
        name = name
            .strip_prefix(quote)
            .and_then(|name| name.strip_suffix(quote))
            .map_or(name, str::trim);
    }
    (!name.is_empty()).then(|| name.to_owned())
}
