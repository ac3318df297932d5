//! The quotes that mailers mark in their HTML: where they begin in the text, and the HTML without them.

use std::borrow::Cow;

use memchr::memmem;
use postroom_html::{Tag, Token};

use super::Lines;
use super::phrases::is_forward_line;
use super::prefix::{Prefix, prefix};
use crate::message::Message;

/// The bytes of a tag that are searched for its attributes.
const TAG_BYTES: usize = 2048;
/// The letters and digits after which a place in the HTML is found again in the text.
const AFTER_CHARS: usize = 60;
/// The bytes of the letters and digits before it that must agree.
const BEFORE_BYTES: usize = 24;
/// The bytes at the end of a piece of text that these are taken from.
const TEXT_TAIL_BYTES: usize = 200;
/// This many letters and digits identify a place without those before it.
const UNIQUE_CHARS: usize = 24;

/// Parts of tags of which a page with a marked quote has at least one.
const SIGNS: &[&str] = &[
    "gmail_quote",
    "gmail_extra",
    "divRplyFwdMsg",
    "appendonsend",
    "OutlookMessageHeader",
    "reference-message",
    "OLK_SRC_BODY_SECTION",
    "yahoo_quoted",
    "moz-cite-prefix",
    "protonmail_quote",
    "zmail_extra",
    "zwchr",
    "__QUOTED_TEXT__",
    "messageReplySection",
    "sh-quoted",
    "ntes",
    "isReplyContent",
    "original-content",
    "tutanota_quote",
    "blockquote",
    "border-top:solid",
    "border-left:solid",
    "border-top: solid",
];

/// Those of mailers whose text has no quote marks, or whose attribution may have any words.
const UNQUOTED_SIGNS: &[&str] = &[
    "moz-cite-prefix",
    "protonmail_quote",
    "messageReplySection",
    "zmail_extra",
    "divRplyFwdMsg",
    "appendonsend",
    "OutlookMessageHeader",
    "reference-message",
    "zwchr",
    "border-top:solid",
    "border-top: solid",
    "border-left:solid",
];

/// Ids of elements below which all is quoted.
const REST_IDS: &[&str] = &["divrplyfwdmsg", "appendonsend", "zwchr"];
/// Classes of elements below which all is quoted.
const REST_CLASSES: &[&str] = &["outlookmessageheader"];
/// Ids and names of elements that hold a quote.
const QUOTE_IDS: &[&str] = &[
    "olk_src_body_section",
    "isreplycontent",
    "original-content",
    "messagereplysection",
    "mail-editor-reference-message-container",
    "ms-outlook-mobile-reference-message",
    "divtagdefaultwrapperquote",
];
/// Parts of the classes of elements that hold a quote or its attribution.
const QUOTE_CLASSES: &[&str] = &[
    "gmail_quote",
    "gmail_extra",
    "gmail_attr",
    "yahoo_quoted",
    "moz-cite-prefix",
    "protonmail_quote",
    "zmail_extra",
    "sh-quoted",
    "ntes-mailmaster-quote",
    "ntes_mailmaster_quote",
    "isreplycontent",
    "tutanota_quote",
    "reference-message-container",
    "outlook-mobile-reference-message",
    "qmbox_quote",
];

/// The extent of a marked quote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mark {
    /// All from here on is quoted.
    Rest,
    /// The element is.
    Element,
}

/// Where the marked quotes of a page are.
#[derive(Debug, Default)]
struct Marked {
    /// The outermost marked elements, as byte offsets. One that ends with the page ends at its length.
    cuts: Vec<(usize, usize)>,
    /// The letters and digits before the first, at most the last few.
    before: String,
    /// Those from its start on.
    after: String,
    /// Whether words stand between two quotes, or in a marked element outside of its quotes.
    answers: bool,
    /// Whether words stand below the last.
    below: bool,
}

/// Returns the line of the text at which the first marked quote begins, if nothing but quotes follows it.
pub(super) fn boundary(html: &str, lines: &Lines<'_>) -> Option<usize> {
    // Where the text has quote marks, only a quote without them can begin elsewhere.
    let has = |sign: &&str| memmem::find(html.as_bytes(), sign.as_bytes()).is_some();
    if lines.text.contains("\n>") && !UNQUOTED_SIGNS.iter().any(has) {
        return None;
    }
    let marked = marked(html)?;
    if marked.answers || marked.below || marked.after.is_empty() || marked.before.is_empty() {
        return None;
    }
    let line = find(&marked, lines)?;
    // Quote marks are read line by line; a forward is kept.
    let first = lines.next_full(line)?;
    let is_forward = (first..lines.len().min(first + 3)).any(|at| is_forward_line(lines.get(at)));
    (!lines.is_quoted(first) && !is_forward).then_some(line)
}

/// Returns the HTML of the reply alone: `html` without the quotes that its mailer marked, and all of it for a forwarded mail, for
/// answers between quotes and if nothing is marked. Returns `None` if the mail has no HTML.
///
/// The HTML is not sanitised, and elements that the cut leaves open are not closed: a sanitiser must read it before anybody sees
/// it.
pub fn reply_html(message: &Message) -> Option<String> {
    let html = message.html.as_ref()?;
    let is_reply = match prefix(&message.subject) {
        Prefix::Forward => false,
        Prefix::Reply => true,
        Prefix::None | Prefix::Vs => !message.references.is_empty(),
    };
    let forwards = message.reply.lines().map(str::trim).any(is_forward_line);
    let found = match is_reply && !forwards {
        true => marked(html),
        false => None,
    };
    let Some(found) = found.filter(|found| !found.answers) else {
        return Some(html.clone());
    };
    // A page that is quoted from its start keeps what is quoted, as the text does.
    if found.before.is_empty() && !found.below {
        return Some(html.clone());
    }
    let mut out = String::with_capacity(html.len());
    let mut from = 0;
    for (start, end) in found.cuts {
        out.push_str(&html[from..start]);
        from = end;
    }
    out.push_str(&html[from..]);
    Some(out)
}

/// Finds the marked quotes. Takes time proportional to the length of the page.
fn marked(html: &str) -> Option<Marked> {
    if !SIGNS
        .iter()
        .any(|sign| memmem::find(html.as_bytes(), sign.as_bytes()).is_some())
    {
        return None;
    }
    let mut walk = Walk {
        html,
        found: Marked::default(),
        open: None,
        blockquotes: 0,
        after_blockquote: false,
    };
    for token in postroom_html::tokens(html) {
        match token {
            Token::Text(text) => walk.text(text),
            Token::Tag(tag) => walk.tag(tag),
        }
    }
    if let Some(open) = walk.open {
        walk.found.cuts.push((open.start, html.len()));
    }
    (!walk.found.cuts.is_empty()).then_some(walk.found)
}

/// A marked element whose end tag is still to come.
struct Open<'h> {
    start: usize,
    name: &'h str,
    mark: Mark,
    /// Elements of the same name in it that are open, itself included.
    depth: usize,
}

struct Walk<'h> {
    html: &'h str,
    found: Marked,
    open: Option<Open<'h>>,
    /// Blockquotes that are open in the marked element.
    blockquotes: usize,
    after_blockquote: bool,
}

impl<'h> Walk<'h> {
    fn text(&mut self, text: &str) {
        let first = self.open.is_none() && self.found.cuts.is_empty();
        let wants_after = self.open.is_some()
            && self.found.cuts.is_empty()
            && self.found.after.len() < AFTER_CHARS;
        let has_words = text.bytes().any(|b| !b.is_ascii_whitespace());
        if !has_words {
            return;
        }
        if first {
            let mut letters = String::new();
            push_letters(&mut letters, &decoded(tail(text, TEXT_TAIL_BYTES)));
            self.found.before.push_str(&letters);
            let before = tail(&self.found.before, BEFORE_BYTES).to_owned();
            self.found.before = before;
            return;
        }
        if wants_after {
            let mut letters = String::new();
            push_letters(&mut letters, &decoded(text));
            let room = AFTER_CHARS - self.found.after.chars().count();
            self.found.after.extend(letters.chars().take(room));
        }
        let says = || decoded(text).contains(char::is_alphanumeric);
        match &self.open {
            Some(open) => {
                let outside =
                    self.after_blockquote && self.blockquotes == 0 && open.mark == Mark::Element;
                if outside && !self.found.answers {
                    self.found.answers = says();
                }
            }
            None if !self.found.below => self.found.below = says(),
            None => {}
        }
    }

    fn tag(&mut self, tag: Tag<'h>) {
        // The name is a part of the page, so that its place is known.
        let name = (tag.name.as_ptr() as usize).wrapping_sub(self.html.as_ptr() as usize);
        if name == 0 || name > self.html.len() {
            return;
        }
        let start = name - if tag.is_closing { 2 } else { 1 };
        match &mut self.open {
            Some(open) => {
                if tag.is("blockquote") {
                    if tag.is_closing {
                        self.blockquotes = self.blockquotes.saturating_sub(1);
                        self.after_blockquote = true;
                    } else {
                        self.blockquotes += 1;
                    }
                }
                if open.mark == Mark::Rest || !tag.is(open.name) {
                    return;
                }
                if !tag.is_closing {
                    open.depth += 1;
                    return;
                }
                open.depth -= 1;
                if open.depth == 0 {
                    let after = name + tag.name.len();
                    let end = memchr::memchr(b'>', &self.html.as_bytes()[after..]);
                    let end = end.map_or(self.html.len(), |end| after + end + 1);
                    self.found.cuts.push((open.start, end));
                    self.open = None;
                }
            }
            None if tag.is_closing => {}
            None => {
                let Some(mark) = mark(self.html, name, tag) else {
                    return;
                };
                // Words between two quotes are answers.
                self.found.answers |= self.found.below && !self.found.cuts.is_empty();
                self.blockquotes = usize::from(tag.is("blockquote"));
                self.after_blockquote = false;
                self.open = Some(Open {
                    start,
                    name: tag.name,
                    mark,
                    depth: 1,
                });
                if tag.is("hr") {
                    // It has no end tag.
                    self.open = self.open.take().map(|open| Open {
                        mark: Mark::Rest,
                        ..open
                    });
                }
            }
        }
    }
}

/// Returns what an opening tag marks.
fn mark(html: &str, name: usize, tag: Tag<'_>) -> Option<Mark> {
    let is = |known: &[&str]| known.iter().any(|it| tag.is(it));
    if !is(&["div", "blockquote", "span", "hr", "table", "section", "p"]) {
        return None;
    }
    let attributes = attributes(html, name + tag.name.len());
    if attributes.is_empty() {
        return None;
    }
    let (mut quote, mut rest) = (false, false);
    for (key, value) in pairs(attributes) {
        let value = value.to_lowercase();
        match key {
            _ if key.eq_ignore_ascii_case("id") || key.eq_ignore_ascii_case("name") => {
                // Outlook on the web prefixes the ids of quoted pages.
                let id = value.trim_start_matches("x_");
                rest |= REST_IDS.contains(&id);
                quote |= QUOTE_IDS.contains(&id);
            }
            _ if key.eq_ignore_ascii_case("class") => {
                rest |= REST_CLASSES.iter().any(|it| value.contains(it));
                // What Gmail's button for quotes makes; a history has a division around it.
                let own = tag.is("blockquote") && value.trim() == "gmail_quote";
                quote |= !own && QUOTE_CLASSES.iter().any(|it| value.contains(it));
            }
            _ if key.eq_ignore_ascii_case("type") => {
                quote |= tag.is("blockquote") && value == "cite"
            }
            _ if key.eq_ignore_ascii_case("cite") => quote |= tag.is("blockquote"),
            _ if key.eq_ignore_ascii_case("data-marker") => quote |= value == "__quoted_text__",
            _ if key.eq_ignore_ascii_case("style") && tag.is("div") => {
                let style: String = value.chars().filter(|c| !c.is_whitespace()).collect();
                let bare = style.contains("border:none");
                // Outlook for Windows: a line above the header block, or at the left of the quote.
                rest |= bare && style.contains("border-top:solid") && style.contains("padding:3");
                quote |= bare && style.contains("border-left:solid") && style.contains("padding:0");
            }
            _ => {}
        }
    }
    match (rest, quote) {
        (true, _) => Some(Mark::Rest),
        (false, true) => Some(Mark::Element),
        (false, false) => None,
    }
}

/// Returns whether a page has quotes that the sender made with Gmail's button, and none that Gmail made of the history.
pub(super) fn has_own_quotes(html: &str) -> bool {
    let has = |words: &str| memmem::find(html.as_bytes(), words.as_bytes()).is_some();
    has("<blockquote class=\"gmail_quote\"")
        && !has("<div class=\"gmail_quote")
        && !has("gmail_attr")
        && !has("gmail_extra")
}

/// Returns the source of a tag's attributes, at most [`TAG_BYTES`] of it.
fn attributes(html: &str, from: usize) -> &str {
    let mut end = html.len().min(from + TAG_BYTES);
    while !html.is_char_boundary(end) {
        end -= 1;
    }
    let source = html.get(from..end).unwrap_or_default();
    let mut quote = None;
    for (at, b) in source.bytes().enumerate() {
        match (quote, b) {
            (None, b'>') => return &source[..at],
            (None, b'"' | b'\'') => quote = Some(b),
            (Some(open), b) if open == b => quote = None,
            _ => {}
        }
    }
    source.split('>').next().unwrap_or_default()
}

/// Returns the names and values of attributes.
fn pairs(mut source: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        loop {
            let equals = source.find('=')?;
            let key = source[..equals].trim_end();
            let key = key.rsplit(char::is_whitespace).next().unwrap_or_default();
            let rest = source[equals + 1..].trim_start();
            let (value, after) = match rest.chars().next() {
                Some(quote @ ('"' | '\'')) => match rest[1..].split_once(quote) {
                    Some(found) => found,
                    None => (&rest[1..], ""),
                },
                _ => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
            };
            source = after;
            if !key.is_empty() {
                return Some((key, value));
            }
        }
    })
}

fn decoded(text: &str) -> Cow<'_, str> {
    match text.contains('&') {
        true => Cow::Owned(postroom_html::decode(text)),
        false => Cow::Borrowed(text),
    }
}

/// Adds the letters and digits of a text in lower case.
fn push_letters(out: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !c.is_ascii() && c.is_alphanumeric() {
            out.extend(c.to_lowercase());
        }
    }
}

/// Returns the last bytes of a text, at most this many.
fn tail(text: &str, bytes: usize) -> &str {
    let mut from = text.len().saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// Finds the start of the first quote in the text: the line that begins with its first words, below the words before it.
fn find(marked: &Marked, lines: &Lines<'_>) -> Option<usize> {
    let mut stream = String::with_capacity(lines.text.len());
    let mut starts = Vec::with_capacity(lines.len());
    for at in 0..lines.len() {
        let from = stream.len();
        push_letters(&mut stream, lines.raw(at));
        if stream.len() > from {
            starts.push((from, at));
        }
    }
    let mut places = memmem::find_iter(stream.as_bytes(), marked.after.as_bytes())
        .filter_map(|at| {
            let line = starts.binary_search_by_key(&at, |(from, _)| *from).ok()?;
            Some((at, starts[line].1))
        })
        .take(64);
    let first = places.next()?;
    let mut others = places.peekable();
    if others.peek().is_none() && marked.after.chars().count() >= UNIQUE_CHARS {
        return Some(first.1);
    }
    std::iter::once(first)
        .chain(others)
        .find(|(at, _)| stream[..*at].ends_with(marked.before.as_str()))
        .map(|(_, line)| line)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::reply_html;
    use crate::parse::{ParseLimits, parse};

    fn html_of(subject: &str, html: &str) -> String {
        let raw = format!(
            "From: nora.weiss@quill.example\nTo: help@larch.example\nSubject: {subject}\n\
             In-Reply-To: <note-41.7@larch.example>\nContent-Type: text/html\n\n{html}\n"
        );
        let message = parse(&Bytes::from(raw), &ParseLimits::default(), &[]);
        reply_html(&message)
            .expect("a mail with HTML")
            .trim()
            .to_owned()
    }

    #[test]
    fn marked_quotes_are_cut() {
        for (html, expected) in [
            (
                "<p>Yes</p><div class=gmail_quote>On x wrote:<blockquote class=gmail_quote>a</blockquote></div>",
                "<p>Yes</p>",
            ),
            (
                "<p>Yes</p><div class=\"moz-cite-prefix\">x</div><blockquote type=cite>a</blockquote><p>No</p>",
                "<p>Yes</p><p>No</p>",
            ),
            (
                "<div>Yes<hr><div id=\"divRplyFwdMsg\">From</div><p>a</p></div>",
                "<div>Yes<hr>",
            ),
            (
                "<p>Yes</p><div name=messageReplySection><div>a</div>b</div>",
                "<p>Yes</p>",
            ),
            ("<p>Yes</p><DIV CLASS='yahoo_quoted' ID=x>a", "<p>Yes</p>"),
            // Nothing is marked, all is quoted, or answers are inside.
            (
                "<p>Yes</p><blockquote>mine</blockquote>",
                "<p>Yes</p><blockquote>mine</blockquote>",
            ),
            (
                "<div class=gmail_quote>a</div>",
                "<div class=gmail_quote>a</div>",
            ),
            (
                "<div class=gmail_quote><blockquote type=cite>a</blockquote>Yes<blockquote>b</blockquote></div>",
                "<div class=gmail_quote><blockquote type=cite>a</blockquote>Yes<blockquote>b</blockquote></div>",
            ),
        ] {
            assert_eq!(html_of("Re: x", html), expected);
        }
        let forward =
            "<p>Look</p><div class=gmail_quote>---------- Forwarded message ---------<br>a</div>";
        assert_eq!(html_of("Fwd: x", forward), forward);
        assert_eq!(html_of("Re: x", forward), forward);
    }

    #[test]
    fn hostile_pages_take_linear_time() {
        for part in [
            "<div class=gmail_quote>",
            "<blockquote type=cite>a</blockquote>b",
            "<div class='",
            "<div style=\"border:none;border-top:solid;padding:3\"",
            "gmail_quote<p>a",
            "<div a=b c=d e='f'>",
        ] {
            let page = part.repeat(1_000_000 / part.len());
            let started = std::time::Instant::now();
            html_of("Re: x", &page);
            assert!(started.elapsed().as_secs() < 20, "{part}");
        }
    }
}
