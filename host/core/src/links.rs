//! Finds the links of a mail: those of its HTML, or the URLs in its text.

use std::collections::HashMap;

use postroom_html::{Element, Event, Tag};

use crate::message::{Link, Message};

/// The most links of one mail; more are left out.
pub const MAX_LINKS: usize = 500;

/// The longest URL that is a link, in bytes.
const LONGEST_URL: usize = 8192;
/// The most bytes of a link's words; more are cut.
const LONGEST_WORDS: usize = 500;
/// The schemes of links, with the colon.
const SCHEMES: [&str; 4] = ["http:", "https:", "mailto:", "tel:"];
/// Schemes that the text shows besides.
const SHOWN_SCHEMES: [&str; 3] = ["ftp:", "ftps:", "file:"];

/// Returns the links in order, each URL once: `http`, `https`, `mailto` and `tel`.
pub fn links(message: &Message) -> Vec<Link> {
    let of_page = message.html.as_deref().map(of_html).unwrap_or_default();
    if of_page.is_empty() {
        of_text(&message.text)
    } else {
        of_page
    }
}

/// The target of a link that a reader may follow.
pub(crate) struct Target {
    url: String,
    /// The form in which a text shows it: addresses and numbers without `mailto:` and `tel:`.
    shown: String,
    is_link: bool,
}

impl Target {
    /// Reads the value of an `href`; `None` for places within the page, scripts, data, parts of the mail and relative
    /// addresses.
    pub(crate) fn of(href: &str) -> Option<Self> {
        let mut url = String::with_capacity(href.len());
        for c in href
            .trim_matches(|c: char| c.is_whitespace() || c.is_control())
            .chars()
        {
            match c {
                c if c.is_control() => {}
                ' ' => url.push_str("%20"),
                '<' => url.push_str("%3C"),
                '>' => url.push_str("%3E"),
                '"' => url.push_str("%22"),
                c => url.push(c),
            }
        }
        let has = |scheme: &str| starts_with(&url, scheme);
        let is_link = SCHEMES.into_iter().any(has);
        let is_host = has("www.") && url[4..].contains('.');
        let is_share = url.starts_with("\\\\");
        if url.len() > LONGEST_URL
            || !(is_link || is_host || is_share || SHOWN_SCHEMES.into_iter().any(has))
        {
            return None;
        }
        if is_host {
            url.insert_str(0, "http://");
        }
        let rest = url.find(':').map_or("", |colon| &url[colon + 1..]);
        if is_link && rest.trim_matches('/').is_empty() {
            return None;
        }
        let shown = if starts_with(&url, "mailto:") {
            let address = rest.split('?').next().unwrap_or_default();
            let address = percent_decoded(address);
            if !address.contains('@') {
                return None;
            }
            address
        } else if starts_with(&url, "tel:") {
            rest.to_owned()
        } else {
            url.clone()
        };
        Some(Self {
            url,
            shown,
            is_link: is_link || is_host,
        })
    }

    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }
}

/// Returns whether the words of a link already name its target, in full or without scheme, `www.` and the last `/`.
pub(crate) fn is_named_by(target: &Target, words: &str) -> bool {
    if words.len() > 4 * LONGEST_URL {
        return false;
    }
    let words = words.trim_matches(|c: char| c.is_whitespace() || "<>()[]".contains(c));
    if words.contains(&target.shown) {
        return true;
    }
    let digits = |text: &str| {
        text.chars()
            .filter(char::is_ascii_digit)
            .collect::<String>()
    };
    if starts_with(&target.url, "tel:") {
        let (number, named) = (digits(&target.shown), digits(words));
        // A number without its country's code names it, too.
        return !number.is_empty()
            && named.len() >= number.len().min(6)
            && number.ends_with(named.trim_start_matches('0'));
    }
    let named = bare(words);
    named == bare(&target.shown)
        || rewritten(&target.url).is_some_and(|original| named == bare(&original))
}

/// Returns whether an image is too small to be seen: it reports that the mail was opened.
pub(crate) fn is_tracker(tag: Tag<'_>) -> bool {
    tag.attributes().any(|(name, value)| {
        (name.eq_ignore_ascii_case("width") || name.eq_ignore_ascii_case("height"))
            && matches!(value.trim().trim_end_matches("px"), "0" | "1")
    })
}

/// Returns the URL that a filter such as Microsoft's Safe Links replaced by one of its own.
fn rewritten(url: &str) -> Option<String> {
    let (host, query) = url.split_once('?')?;
    if !host.contains("safelinks.protection.outlook") {
        return None;
    }
    let original = query
        .split('&')
        .find_map(|it| it.trim_start_matches("amp;").strip_prefix("url="))?;
    Some(percent_decoded(original))
}

fn bare(url: &str) -> String {
    let mut url = url.trim();
    for prefix in [
        "mailto:", "https://", "http://", "file:///", "file://", "www.",
    ] {
        if starts_with(url, prefix) {
            url = &url[prefix.len()..];
        }
    }
    url.trim_end_matches(['/', '.']).to_lowercase()
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(start))
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let pair = others
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        let escaped = pair.and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match escaped {
            Some(byte) if *first == b'%' && byte >= b' ' => {
                bytes.push(byte);
                rest = &others[2..];
            }
            _ => {
                bytes.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The links found so far, with the place of each URL.
#[derive(Default)]
struct Found {
    links: Vec<Link>,
    places: HashMap<String, usize>,
}

impl Found {
    /// Adds a link; a repeated one only adds words to one without.
    fn add(&mut self, words: &str, url: String) {
        match self.places.get(&url) {
            Some(place) => {
                let known = &mut self.links[*place];
                if known.text.is_empty() {
                    words.clone_into(&mut known.text);
                }
            }
            None if self.links.len() < MAX_LINKS => {
                self.places.insert(url.clone(), self.links.len());
                self.links.push(Link {
                    text: words.to_owned(),
                    url,
                });
            }
            None => {}
        }
    }

    fn finish(mut self) -> Vec<Link> {
        for link in &mut self.links {
            if link.text.is_empty() {
                link.text.clone_from(&link.url);
            }
        }
        self.links
    }
}

fn of_html(html: &str) -> Vec<Link> {
    let mut found = Found::default();
    let mut open: Option<OpenAnchor> = None;
    let target_of = |tag: Tag<'_>| {
        let target = tag.attribute("href").and_then(|href| Target::of(&href));
        target.filter(|target| target.is_link)
    };
    for event in postroom_html::elements(html) {
        match event {
            Event::Open(Element::Anchor, tag, _) => {
                open = target_of(tag).map(|target| OpenAnchor {
                    url: target.url,
                    words: String::new(),
                    is_visible: false,
                });
            }
            Event::Close(Element::Anchor) => {
                if let Some(anchor) = open.take().filter(|anchor| anchor.is_visible) {
                    found.add(&tidy(&anchor.words), anchor.url);
                }
            }
            Event::Open(Element::Image, tag, _) if tag.is("area") => {
                if let Some(target) = target_of(tag) {
                    found.add(&tidy(&tag.attribute("alt").unwrap_or_default()), target.url);
                }
            }
            other => {
                if let Some(anchor) = &mut open {
                    anchor.read(other);
                }
            }
        }
    }
    found.finish()
}

struct OpenAnchor {
    url: String,
    /// As written, references not decoded.
    words: String,
    /// Whether there is something to click on.
    is_visible: bool,
}

impl OpenAnchor {
    fn read(&mut self, event: Event<'_>) {
        match event {
            Event::Text(text) => {
                self.is_visible |= !text.trim().is_empty();
                self.add(text);
            }
            Event::Open(Element::Image, tag, _) if !is_tracker(tag) => {
                let alternative = tag
                    .attributes()
                    .find(|(name, _)| name.eq_ignore_ascii_case("alt"));
                self.is_visible = true;
                self.add(" ");
                self.add(alternative.map_or("", |(_, text)| text));
                self.add(" ");
            }
            Event::Open(Element::Break, ..) => self.add(" "),
            Event::Open(element, ..) | Event::Close(element) if element.is_block() => self.add(" "),
            _ => {}
        }
    }

    fn add(&mut self, words: &str) {
        if self.words.len() <= 8 * LONGEST_WORDS {
            self.words.push_str(words);
        }
    }
}

/// Returns words as written in HTML as a short text with single spaces.
fn tidy(source: &str) -> String {
    let mut text = String::new();
    for word in postroom_html::decode(source).split_whitespace() {
        let word: String = word
            .chars()
            .filter(|c| !c.is_control() && !matches!(c, '\u{ad}' | '\u{200b}' | '\u{feff}'))
            .collect();
        if text.len() + word.len() > LONGEST_WORDS {
            break;
        }
        if !text.is_empty() && !word.is_empty() {
            text.push(' ');
        }
        text.push_str(&word);
    }
    text
}

fn of_text(text: &str) -> Vec<Link> {
    let mut found = Found::default();
    let mut from = 0;
    // Each scheme has a colon.
    while let Some(colon) = text[from..].find(':').map(|at| from + at) {
        let start = SCHEMES.iter().find_map(|scheme| {
            let start = (colon + 1)
                .checked_sub(scheme.len())
                .filter(|start| *start >= from)?;
            if !text.get(start..=colon)?.eq_ignore_ascii_case(scheme) {
                return None;
            }
            let is_word = text[..start].ends_with(|c: char| c.is_ascii_alphanumeric());
            (!is_word).then_some(start)
        });
        let Some(start) = start else {
            from = colon + 1;
            continue;
        };
        let rest = &text[start..];
        let enclosed = text[..start]
            .ends_with('<')
            .then(|| enclosed(rest))
            .flatten();
        let (url, length) = match enclosed {
            Some((url, length)) => (url, length),
            None => {
                let url = bare_url(rest);
                (url.to_owned(), url.len())
            }
        };
        from = (start + length).max(colon + 1);
        let has_slashes = url
            .get(colon - start + 1..)
            .is_some_and(|rest| rest.starts_with("//"));
        let needs_slashes = starts_with(&url, "http");
        if (has_slashes || !needs_slashes)
            && let Some(target) = Target::of(&url)
        {
            found.add("", target.url);
        }
        if found.links.len() == MAX_LINKS {
            break;
        }
    }
    found.finish()
}

/// Returns the URL between angle brackets, which may be wrapped over lines (RFC 3986 appendix C), and its length in the
/// text.
fn enclosed(text: &str) -> Option<(String, usize)> {
    let end = text
        .bytes()
        .take(LONGEST_URL)
        .position(|b| matches!(b, b'<' | b'>' | b' '))?;
    if text.as_bytes()[end] != b'>' {
        return None;
    }
    let url = text[..end].chars().filter(|c| !c.is_whitespace()).collect();
    Some((url, end))
}

/// Returns the URL at the start of a text, without the punctuation and the brackets of the sentence around it.
fn bare_url(text: &str) -> &str {
    let is_end = |c: char| {
        c.is_whitespace() || c.is_control() || "<>\"`|\\^{}«»“”„，。、！；：）」』】》".contains(c)
    };
    let end = text.find(is_end).unwrap_or(text.len());
    let mut url = &text[..end];
    let count = |url: &str, c: char| url.matches(c).count();
    let mut balance = count(url, '(') as isize - count(url, ')') as isize;
    let mut square = count(url, '[') as isize - count(url, ']') as isize;
    // A `)` that closes nothing ends the URL, as in Markdown.
    while let Some(c) = url.chars().next_back() {
        match c {
            ')' if balance < 0 => balance += 1,
            ']' if square < 0 => square += 1,
            '.' | ',' | ';' | ':' | '!' | '?' | '\'' | '*' | '’' | '…' => {}
            _ => break,
        }
        url = &url[..url.len() - c.len_utf8()];
    }
    url
}

#[cfg(test)]
mod tests {
    use super::{LONGEST_URL, MAX_LINKS, Target, is_named_by, of_html, of_text};
    use crate::message::Link;

    fn shown(links: Vec<Link>) -> String {
        let lines: Vec<String> = links
            .into_iter()
            .map(|link| {
                if link.text == link.url {
                    link.url
                } else {
                    format!("{}→{}", link.text, link.url)
                }
            })
            .collect();
        lines.join(" | ")
    }

    #[test]
    fn anchors_are_links() {
        for (html, expected) in [
            (
                "<a href='https://a.example/x?b=1&amp;c=2'>Open <b>it</b></a>",
                "Open it→https://a.example/x?b=1&c=2",
            ),
            (
                "<a href=' HTTPS://a.example/\n x '>y</a>",
                "y→HTTPS://a.example/%20x",
            ),
            (
                "<a href=mailto:a@b.example>Ann</a> <a href='tel:+49 40 1'>call</a>",
                "Ann→mailto:a@b.example | call→tel:+49%2040%201",
            ),
            (
                "<a href='#top'>a</a><a href='javascript:x()'>b</a><a href='data:x'>c</a><a href='cid:x'>d</a><a href='x.html'>e</a><a name=f>g</a>",
                "",
            ),
            (
                "<a href='java\nscript:x()'>a</a><a href='ftp://a.example/'>b</a><a href='https://'>c</a>",
                "",
            ),
            (
                "<a href=http://a.example><img alt='Acme Ltd'></a>",
                "Acme Ltd→http://a.example",
            ),
            (
                "<a href=http://a.example><img></a><a href=http://a.example>Shop</a><a href=http://a.example>again</a>",
                "Shop→http://a.example",
            ),
            (
                "<a href=http://a.example><img></a><a href=http://b.example> </a><a href=http://c.example><img width=1></a>",
                "http://a.example",
            ),
            ("<a href=www.a.example>a</a>", "a→http://www.a.example"),
            (
                "<a href=http://a.example>a<a href=http://b.example>b",
                "a→http://a.example | b→http://b.example",
            ),
            (
                "<p style='display:none'><a href=http://a.example>a</a></p><map><area href=http://b.example alt=B></map>",
                "B→http://b.example",
            ),
            ("<!-- <a href=http://a.example>a</a> -->", ""),
        ] {
            assert_eq!(shown(of_html(html)), expected, "{html}");
        }
    }

    #[test]
    fn urls_of_a_text_are_links() {
        for (text, expected) in [
            (
                "See https://a.example/x. Or (http://b.example/y)!",
                "https://a.example/x | http://b.example/y",
            ),
            (
                "https://a.example/wiki/A_(b) and (see https://a.example/c_(d)).",
                "https://a.example/wiki/A_(b) | https://a.example/c_(d)",
            ),
            (
                "Click here<https://a.example/?x=1&y=2>, <mailto:a@b.example> or <tel:+4940>",
                "https://a.example/?x=1&y=2 | mailto:a@b.example | tel:+4940",
            ),
            (
                "<https://a.example/long\n/wrapped>",
                "https://a.example/long/wrapped",
            ),
            (
                "[text](https://a.example/x) **https://b.example** \"https://c.example\"",
                "https://a.example/x | https://b.example | https://c.example",
            ),
            (
                "请看https://a.example/x，谢谢。《https://b.example》",
                "https://a.example/x | https://b.example",
            ),
            (
                "https://a.example https://a.example/ https://a.example",
                "https://a.example | https://a.example/",
            ),
            (
                "xhttp://a.example http: //b https:/c mailto: tel: http://",
                "",
            ),
            ("a:b::c https://ü.example/ä?", "https://ü.example/ä"),
        ] {
            let found = shown(of_text(text));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn words_that_name_the_target() {
        for (url, words, expected) in [
            ("https://a.example/", "a.example", true),
            ("https://www.a.example/x", "http://a.example/x/", true),
            ("https://a.example/x", "a.example", false),
            ("mailto:Ann@a.example?subject=x", "ann@A.example", true),
            ("mailto:ann@a.example", "Ann", false),
            ("tel:+49-40-123456", "+49 (40) 12 34 56", true),
            ("tel:+4940123456", "040 123456", true),
            ("tel:+4940123456", "our hotline 7", false),
            ("https://a.example/x", "see https://a.example/x now", true),
            (
                "https://eur01.safelinks.protection.outlook.com/?url=https%3A%2F%2Fa.example%2Fx&data=05",
                "https://a.example/x",
                true,
            ),
        ] {
            let target = Target::of(url).expect(url);
            assert_eq!(is_named_by(&target, words), expected, "{url} {words}");
        }
    }

    #[test]
    fn links_are_limited() {
        let anchors: String = (0..MAX_LINKS + 5)
            .map(|n| format!("<a href=http://a.example/{n}>{n}</a>"))
            .collect();
        assert_eq!(of_html(&anchors).len(), MAX_LINKS);
        let urls: String = (0..MAX_LINKS + 5)
            .map(|n| format!("http://a.example/{n} "))
            .collect();
        assert_eq!(of_text(&urls).len(), MAX_LINKS);
        let long = |length: usize| format!("http://a.example/{}", "x".repeat(length - 17));
        assert_eq!(of_text(&long(LONGEST_URL)).len(), 1);
        assert_eq!(of_text(&long(LONGEST_URL + 1)).len(), 0);
    }

    #[test]
    fn odd_texts_take_linear_time() {
        for piece in [
            "http://",
            "http://a(",
            "http://a)",
            "<http://a",
            ":",
            "<a href=http://a>",
            "<a href=http://a><a>",
            "mailto:a@b ",
            "a).",
        ] {
            let text = format!("http://a{}", piece.repeat((1 << 20) / piece.len()));
            of_text(&text);
            assert!(of_html(&text).len() <= MAX_LINKS, "{piece:?}");
        }
    }
}
