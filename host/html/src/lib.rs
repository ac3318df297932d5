//! Reads the HTML and the labelled lines of mails, for both the host and the guest that runs scripts.
//!
//! It accepts any text, takes time proportional to its length, and has no dependencies, so that the guest stays small.
//! [`tokens`] splits a page into tags and texts, [`elements`] pairs the tags and leaves out what is not displayed,
//! [`table`] and [`pairs`] read the data in it.

mod elements;
mod entities;
mod pairs;
mod style;
mod tables;

pub use elements::{Element, Elements, Event, MAX_NESTING, elements};
pub use entities::{decode, named, reference};
pub use pairs::{MAX_PAIRS, field, pairs};
pub use style::Style;
pub use tables::table;

/// Elements whose content is not displayed.
const HIDDEN: [&str; 7] = ["head", "style", "script", "title", "template", "xml", "svg"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token<'h> {
    /// Text as written, its references not decoded. A text may be split over several tokens.
    Text(&'h str),
    Tag(Tag<'h>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag<'h> {
    /// As written; empty for `<!` and `<?`.
    pub name: &'h str,
    pub is_closing: bool,
    /// The rest of the tag, as written.
    source: &'h str,
}

/// Returns the tokens of a page in order. Comments and the content of hidden elements are left out.
pub fn tokens(html: &str) -> Tokenizer<'_> {
    Tokenizer {
        html,
        at: 0,
        missing: Missing::default(),
    }
}

pub struct Tokenizer<'h> {
    html: &'h str,
    at: usize,
    missing: Missing,
}

/// Searches that reached the end of the page without a match. They are not repeated, so that the whole stays linear.
#[derive(Default)]
struct Missing {
    comment_end: bool,
    tag_end: bool,
    /// The search for a `>` outside of quotes.
    unquoted_end: bool,
    closing: [bool; HIDDEN.len()],
}

impl<'h> Tag<'h> {
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Returns the attributes in order: names and values as written, values without quotes.
    pub fn attributes(&self) -> Attributes<'h> {
        Attributes(self.source)
    }

    /// Returns an attribute's value, its references decoded.
    pub fn attribute(&self, name: &str) -> Option<String> {
        self.attributes()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| decode(value))
    }

    /// Returns whether the tag ends with `/>`.
    pub fn is_self_closing(&self) -> bool {
        self.source.ends_with('/')
    }
}

pub struct Attributes<'h>(&'h str);

impl<'h> Iterator for Attributes<'h> {
    type Item = (&'h str, &'h str);

    fn next(&mut self) -> Option<Self::Item> {
        let is_space = |c: char| c.is_ascii_whitespace();
        let rest = self.0.trim_start_matches(|c| is_space(c) || c == '/');
        if rest.is_empty() {
            return None;
        }
        // A `=` at the start is part of the name.
        let end = rest
            .char_indices()
            .find(|(at, c)| is_space(*c) || *c == '/' || *c == '=' && *at > 0)
            .map_or(rest.len(), |(at, _)| at);
        let (name, rest) = rest.split_at(end);
        let Some(value) = rest.trim_start_matches(is_space).strip_prefix('=') else {
            self.0 = rest;
            return Some((name, ""));
        };
        let value = value.trim_start_matches(is_space);
        let (value, rest) = match value.chars().next() {
            Some(quote @ ('"' | '\'')) => {
                let inner = &value[1..];
                inner.split_once(quote).unwrap_or((inner, ""))
            }
            _ => value.split_at(value.find(is_space).unwrap_or(value.len())),
        };
        self.0 = rest;
        Some((name, value))
    }
}

impl<'h> Iterator for Tokenizer<'h> {
    type Item = Token<'h>;

    fn next(&mut self) -> Option<Token<'h>> {
        loop {
            let rest = &self.html[self.at..];
            if rest.is_empty() {
                return None;
            }
            let text = rest.find('<').unwrap_or(rest.len());
            if text > 0 {
                self.at += text;
                return Some(Token::Text(&rest[..text]));
            }
            if !self.missing.comment_end
                && let Some(comment) = rest.strip_prefix("<!--")
            {
                if let Some(empty) = ["<!-->", "<!--->"].iter().find(|it| rest.starts_with(**it)) {
                    self.at += empty.len();
                    continue;
                }
                match comment.find("-->") {
                    Some(end) => {
                        self.at += 4 + end + 3;
                        continue;
                    }
                    None => self.missing.comment_end = true,
                }
            }
            let Some((tag, length)) = self.tag(rest) else {
                self.at += 1;
                return Some(Token::Text("<"));
            };
            self.at += length;
            if !self.skipped_hidden(tag) {
                return Some(Token::Tag(tag));
            }
        }
    }
}

impl<'h> Tokenizer<'h> {
    /// Returns the tag at this position, and its length with both brackets. A `<` may also be a plain character, as in `<
    /// 10 %`.
    fn tag(&mut self, html: &'h str) -> Option<(Tag<'h>, usize)> {
        let bytes = html.as_bytes();
        let is_closing = bytes.get(1) == Some(&b'/');
        let start = if is_closing { 2 } else { 1 };
        match bytes.get(start) {
            Some(b) if b.is_ascii_alphabetic() => {}
            Some(b'!' | b'?') if !is_closing => {}
            _ => return None,
        }
        if self.missing.tag_end {
            return None;
        }
        let mut end = None;
        if !self.missing.unquoted_end {
            end = unquoted_end(bytes);
            self.missing.unquoted_end = end.is_none();
        }
        let Some(end) = end.or_else(|| html.find('>')) else {
            self.missing.tag_end = true;
            return None;
        };
        let is_name = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b':' | b'-');
        let name = bytes[start..end].iter().position(|b| !is_name(b));
        let name_end = name.map_or(end, |length| start + length);
        let tag = Tag {
            name: &html[start..name_end],
            is_closing,
            source: &html[name_end..end],
        };
        Some((tag, end + 1))
    }

    /// Skips the content of a hidden element whose opening tag ends here. If the end tag is missing, only the tag is
    /// skipped.
    fn skipped_hidden(&mut self, tag: Tag<'_>) -> bool {
        let hidden = HIDDEN.iter().position(|name| tag.is(name));
        let Some(hidden) = hidden.filter(|_| !tag.is_closing) else {
            return false;
        };
        if self.missing.closing[hidden] {
            return false;
        }
        match closing(&self.html[self.at..], HIDDEN[hidden]) {
            Some(end) => self.at += end,
            None => self.missing.closing[hidden] = true,
        }
        true
    }
}

/// Returns the offset of the `</name` that closes an element.
fn closing(html: &str, name: &str) -> Option<usize> {
    let bytes = html.as_bytes();
    html.match_indices("</").map(|(at, _)| at).find(|at| {
        let end = at + 2 + name.len();
        let found = bytes.get(at + 2..end);
        found.is_some_and(|found| found.eq_ignore_ascii_case(name.as_bytes()))
            && !bytes.get(end).is_some_and(u8::is_ascii_alphanumeric)
    })
}

/// Returns the offset of the `>` outside of the quotes of attributes.
fn unquoted_end(bytes: &[u8]) -> Option<usize> {
    let mut quote = None;
    let mut value_follows = false;
    for (offset, b) in bytes.iter().enumerate() {
        match (quote, b) {
            (None, b'>') => return Some(offset),
            (None, b'"' | b'\'') if value_follows => quote = Some(*b),
            (Some(open), b) if open == *b => quote = None,
            _ => {}
        }
        value_follows = *b == b'=' || value_follows && b.is_ascii_whitespace();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the tokens in short form, separated by spaces.
    fn read(html: &str) -> String {
        let shown: Vec<String> = tokens(html)
            .map(|token| match token {
                Token::Text(text) => text.to_owned(),
                Token::Tag(tag) if tag.is_closing => format!("[/{}]", tag.name),
                Token::Tag(tag) => format!("[{}]", tag.name),
            })
            .collect();
        shown.join(" ")
    }

    #[test]
    fn tags_texts_and_what_is_neither() {
        for (html, expected) in [
            ("a<b>c</B>d", "a [b] c [/B] d"),
            ("<td title=\"a > b\" class='x>'>c", "[td] c"),
            ("<td title=\"open>c</td>", "[td] c [/td]"),
            ("free < 10 %, 1<2>", "free  <  10 %, 1 < 2>"),
            ("<!doctype html><?xml x?>a", "[] [] a"),
            ("a<!-- <b> -->c<!-- d", "a c < !-- d"),
            ("a<b", "a < b"),
            ("</ a>", "< / a>"),
            // Inputs on which the two former parsers disagreed.
            ("<o:p>a</o:p><li-x>", "[o:p] a [/o:p] [li-x]"),
            ("a<!-- >b", "a [] b"),
            ("<head><title>a</title></head>b", "[/head] b"),
            ("<title>a</title>b", "[/title] b"),
            ("<head>a<header>b</header>c", "a [header] b [/header] c"),
            ("<style>td > b { x }</STYLE >a", "[/STYLE] a"),
            ("<script>'</p>'</script>a", "[/script] a"),
            ("<script>a<script>b", "a [script] b"),
            (
                "a<!-->b<!--->c<!--[if !mso]><!-->d<!--<![endif]-->",
                "a b c d",
            ),
            ("<a href = \"b > c\">d", "[a] d"),
            (
                "<xml><o:x>1</o:x></xml><svg><text>2</text></svg>a",
                "[/xml] [/svg] a",
            ),
        ] {
            assert_eq!(read(html), expected, "{html}");
        }
    }

    #[test]
    fn attributes_as_browsers_read_them() {
        for (tag, expected) in [
            ("<a href=b c>", vec![("href", "b"), ("c", "")]),
            ("<a HREF = 'b c'd=\"\"/>", vec![("HREF", "b c"), ("d", "")]),
            ("<a =b=c / e='>", vec![("=b", "c"), ("e", "")]),
            ("<a ü=é/x>", vec![("ü", "é/x")]),
            ("<a>", vec![]),
        ] {
            let Some(Token::Tag(found)) = tokens(tag).next() else {
                panic!("{tag}");
            };
            assert_eq!(found.attributes().collect::<Vec<_>>(), expected, "{tag}");
        }
    }

    #[test]
    fn any_page_is_read_to_its_end() {
        for part in [
            "<",
            "<a",
            "<a b=\"",
            "<!--",
            "<head>",
            "</",
            "<style>x</",
            "&",
        ] {
            let html = part.repeat(1 << 16);
            assert!(tokens(&html).count() <= html.len(), "{part}");
        }
    }
}
