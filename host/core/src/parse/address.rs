//! Parses address lists (RFC 5322 section 3.4), tolerating what mailers write.

use memchr::memchr;

use super::headers::{decode_words, unfold, word_len};
use super::repairs::Repairs;
use crate::message::Address;

/// RFC 5321 section 4.5.3.1: 64 for the local part, 255 for the domain, and the `@`.
const LONGEST_EMAIL: usize = 320;

/// Returns the addresses of a field, at most `most`.
pub(crate) fn addresses(raw: &[u8], most: usize, repairs: &mut Repairs) -> Vec<Address> {
    let text = unfold(raw, repairs);
    let mut list = List {
        text: &text,
        at: 0,
        no_more_ends: false,
        carried: String::new(),
    };
    let mut found = Vec::new();
    while let Some(item) = list.item() {
        let Some(address) = item.address(&mut list.carried, repairs) else {
            continue;
        };
        if found.len() == most {
            repairs.note(format!(
                "addresses after the first {most} of a header were left out"
            ));
            break;
        }
        found.push(address);
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
    /// Whether a search for a `>` has failed, so that none follows.
    no_more_ends: bool,
    carried: String,
}

impl List<'_> {
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
                            .position(|b| b",;\"(<: \t=".contains(b))
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
        self.at += 1;
        let mut escaped = false;
        let inside = &self.text[self.at..];
        let mut end = inside.len();
        let mut quote = String::new();
        for (offset, c) in inside.char_indices() {
            if escaped {
                quote.push(c);
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if c == '"' {
                end = offset;
                break;
            } else {
                quote.push(c);
            }
        }
        self.at = (self.at + end + 1).min(self.text.len());
        item.phrase.push_str(&quote);
        item.bare.push_str(&self.text[start..self.at]);
    }

    fn comment(&mut self, comment: &mut String) {
        if !comment.is_empty() {
            comment.push(' ');
        }
        let mut depth = 0usize;
        let mut escaped = false;
        for (offset, c) in self.text[self.at..].char_indices() {
            if escaped {
                escaped = false;
                comment.push(c);
                continue;
            }
            match c {
                '\\' => escaped = true,
                '(' => {
                    depth += 1;
                    if depth > 1 {
                        comment.push(c);
                    }
                }
                ')' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += offset + 1;
                        return;
                    }
                    comment.push(c);
                }
                _ => comment.push(c),
            }
        }
        self.at = self.text.len();
    }

    fn angle(&mut self, item: &mut Item) {
        self.at += 1;
        let rest = &self.text[self.at..];
        let end = if self.no_more_ends {
            None
        } else {
            memchr(b'>', rest.as_bytes())
        };
        let inside = match end {
            Some(end) => {
                self.at += end + 1;
                &rest[..end]
            }
            None => {
                self.no_more_ends = true;
                let end = rest.find([',', ';']).unwrap_or(rest.len());
                self.at += end;
                &rest[..end]
            }
        };
        if item.angle.is_none() {
            item.angle = Some(inside.to_owned());
        }
    }
}

impl Item {
    fn address(self, carried: &mut String, repairs: &mut Repairs) -> Option<Address> {
        let prefix = std::mem::take(carried);
        if let Some(email) = self.angle.as_deref().and_then(email) {
            let phrase = if prefix.is_empty() {
                self.phrase
            } else {
                format!("{prefix}, {}", self.phrase)
            };
            return Some(Address {
                name: name(&phrase, repairs).or_else(|| name(&self.comment, repairs)),
                email,
            });
        }
        if let Some((words, email)) = bare(&self.bare).or_else(|| bare(&self.phrase)) {
            let named = name(&words, repairs).or_else(|| name(&self.comment, repairs));
            return Some(Address { name: named, email });
        }
        // Some mailers encode the whole of `Name <address>`.
        if self.phrase.contains("=?") {
            let text = decode_words(&self.phrase, repairs).into_owned();
            let angled = text.split_once('<').and_then(|(words, rest)| {
                Some((words.to_owned(), email(rest.split('>').next()?)?))
            });
            if let Some((words, email)) = angled.or_else(|| bare(&text)) {
                repairs.note("an address within an encoded word was read");
                return Some(Address {
                    name: name(&words, repairs),
                    email,
                });
            }
        }
        if self.comma && self.angle.is_none() {
            *carried = if prefix.is_empty() {
                self.phrase.trim().to_owned()
            } else {
                prefix
            };
        }
        None
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

fn email(text: &str) -> Option<String> {
    let mut text = text.trim().trim_start_matches('<').trim();
    if text.starts_with('@') {
        // A source route (RFC 5322 section 4.4).
        text = text.rsplit_once(':')?.1.trim();
    }
    if text
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("mailto:"))
    {
        text = &text[7..];
    }
    let (local, domain) = text.rsplit_once('@')?;
    let quoted = local.len() > 2 && local.starts_with('"') && local.ends_with('"');
    let odd = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '<' | '>' | ',' | '"');
    if local.is_empty()
        || domain.is_empty()
        || text.len() > LONGEST_EMAIL
        || domain.contains(odd)
        || (!quoted && local.contains(odd))
    {
        return None;
    }
    Some(format!("{local}@{}", domain.to_lowercase()))
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
