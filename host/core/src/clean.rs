//! Makes the HTML of a mail safe to show to people: words, structure and links, and neither scripts, styles nor what is
//! loaded from elsewhere.
//!
//! The crate ammonia decides what may stay. Its parser follows browsers in full, which takes quadratic time and memory on
//! pages of unclosed tags, so that it only gets what [`paired`] writes: visible elements that close in order, limited in
//! number and depth.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use postroom_html::{Element, Event, Tag};

/// The most elements of a clean page; the text of further ones stays.
pub const MAX_CLEAN_ELEMENTS: usize = 20_000;

/// The most bytes of a clean page, before ammonia reads it; the rest is left out.
pub const MAX_CLEAN_BYTES: usize = 2 * 1024 * 1024;

/// The widest cell, in columns or rows.
const WIDEST_SPAN: u32 = 100;
/// The content of images that are part of the page itself; others may hold scripts.
const IMAGE_DATA: [&str; 4] = [
    "data:image/png",
    "data:image/jpeg",
    "data:image/gif",
    "data:image/webp",
];
/// Elements within a line that stay.
const INLINE: [&str; 18] = [
    "i", "em", "u", "s", "strike", "del", "ins", "sub", "sup", "small", "code", "tt", "kbd",
    "samp", "var", "q", "cite", "abbr",
];
const BLOCKS: [&str; 26] = [
    "a",
    "b",
    "p",
    "div",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "blockquote",
    "pre",
    "ul",
    "ol",
    "li",
    "dl",
    "dt",
    "dd",
    "table",
    "tbody",
    "tr",
    "td",
    "th",
    "br",
    "hr",
    "img",
];

static CLEANER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let attributes = [
        ("a", HashSet::from(["href"])),
        ("img", HashSet::from(["src", "alt", "width", "height"])),
        ("td", HashSet::from(["colspan", "rowspan"])),
        ("th", HashSet::from(["colspan", "rowspan"])),
        ("ol", HashSet::from(["start"])),
    ];
    let mut cleaner = Builder::empty();
    cleaner
        .tags(INLINE.into_iter().chain(BLOCKS).collect())
        .tag_attributes(HashMap::from(attributes))
        .url_schemes(HashSet::from(["http", "https", "mailto", "cid", "data"]))
        .url_relative(UrlRelative::Deny)
        .link_rel(Some("noopener noreferrer nofollow"))
        .attribute_filter(|element, attribute, value| match (element, attribute) {
            ("a", "href") => is_link(value).then(|| value.into()),
            ("img", "src") => is_own_image(value).then(|| value.into()),
            _ => Some(Cow::Borrowed(value)),
        });
    cleaner
});

/// Returns the HTML of a mail without scripts, styles, forms, hidden content, and images from elsewhere. Images of the mail
/// itself (`cid:`) and within the page stay; of others the alternative text does. Links lead to `http`, `https` and
/// `mailto` only.
pub fn clean_html(html: &str) -> String {
    CLEANER.clean(&paired(html)).to_string()
}

fn starts_with(text: &str, start: &str) -> bool {
    text.get(..start.len())
        .is_some_and(|found| found.eq_ignore_ascii_case(start))
}

fn is_link(url: &str) -> bool {
    ["http://", "https://", "mailto:"]
        .into_iter()
        .any(|scheme| starts_with(url, scheme))
}

fn is_own_image(url: &str) -> bool {
    starts_with(url, "cid:") || IMAGE_DATA.into_iter().any(|kind| starts_with(url, kind))
}

/// Returns the visible elements of a page, each closed, in a table only where browsers expect them.
fn paired(html: &str) -> String {
    let mut writer = Writer {
        out: String::with_capacity(html.len()),
        open: Vec::new(),
        written: 0,
    };
    for event in postroom_html::elements(html) {
        match event {
            Event::Text(text) => writer.text(&postroom_html::decode(text)),
            Event::Open(element, tag, _) => writer.open(element, tag),
            Event::Close(element) => writer.close(element),
        }
    }
    while writer.pop() {}
    writer.out
}

struct Writer {
    out: String,
    open: Vec<Open>,
    written: usize,
}

struct Open {
    element: Element,
    /// Its name in the output, if it is there.
    name: Option<&'static str>,
    /// Closes together with what is around it: its end came early, or it is a cell that a table lacked.
    ended: bool,
}

impl Writer {
    fn open(&mut self, element: Element, tag: Tag<'_>) {
        if matches!(
            element,
            Element::Row | Element::RowGroup | Element::Cell | Element::HeaderCell
        ) {
            self.pop_ended();
        }
        match element {
            Element::Image => return self.image(tag),
            Element::Break => return self.void("<br>"),
            Element::Rule => return self.void("<hr>"),
            Element::Void => return,
            _ => {}
        }
        let name = self.name_of(element, tag).filter(|_| self.has_room());
        if let Some(name) = name {
            if !matches!(name, "tr" | "tbody" | "td" | "th") {
                self.enter_cell();
            }
            self.out.push('<');
            self.out.push_str(name);
            self.attributes(name, tag);
            self.out.push('>');
            self.written += 1;
        }
        self.open.push(Open {
            element,
            name,
            ended: false,
        });
    }

    fn close(&mut self, element: Element) {
        if element.is_block() {
            self.pop_ended();
            self.pop();
            while self
                .open
                .last()
                .is_some_and(|open| open.ended && !open.element.is_block())
            {
                self.pop();
            }
            return;
        }
        let found = self
            .open
            .iter()
            .rposition(|open| open.element == element && !open.ended);
        if let Some(at) = found {
            self.open[at].ended = true;
            // A cell that its table lacked stays open for what follows.
            if self.open[at..]
                .iter()
                .all(|open| open.ended && !open.element.is_block())
            {
                while self.open.len() > at && self.pop() {}
            }
        }
    }

    fn text(&mut self, text: &str) {
        let room = MAX_CLEAN_BYTES.saturating_sub(self.out.len());
        let text = text
            .get(..text.floor_char_boundary(room))
            .unwrap_or_default();
        if text.is_empty() {
            return;
        }
        if self.in_table_only() {
            if text.trim().is_empty() {
                return;
            }
            self.enter_cell();
        }
        escape(text, &mut self.out);
    }

    fn void(&mut self, tag: &str) {
        if self.has_room() {
            self.enter_cell();
            self.out.push_str(tag);
            self.written += 1;
        }
    }

    fn image(&mut self, tag: Tag<'_>) {
        let source = tag.attribute("src").unwrap_or_default();
        let fits = self.out.len() + source.len() < MAX_CLEAN_BYTES;
        if !is_own_image(source.trim()) || !self.has_room() || !fits {
            let alternative = tag.attribute("alt").unwrap_or_default();
            return self.text(alternative.trim());
        }
        self.enter_cell();
        self.out.push_str("<img");
        self.attribute("src", source.trim());
        for name in ["alt", "width", "height"] {
            if let Some(value) = tag.attribute(name) {
                self.attribute(name, value.trim());
            }
        }
        self.out.push('>');
        self.written += 1;
    }

    /// Returns the name under which an element is written. Parts of a table outside of one are plain blocks.
    fn name_of(&self, element: Element, tag: Tag<'_>) -> Option<&'static str> {
        let parent = self.open.iter().rev().find_map(|open| open.name);
        Some(match element {
            Element::Anchor => {
                let url = tag.attribute("href")?;
                return is_link(url.trim()).then_some("a");
            }
            Element::Bold => "b",
            Element::Inline => return INLINE.into_iter().find(|known| tag.is(known)),
            Element::Paragraph => "p",
            Element::Heading => BLOCKS
                .into_iter()
                .find(|known| tag.is(known))
                .unwrap_or("h6"),
            Element::Quote => "blockquote",
            Element::Preformatted => "pre",
            Element::List => "ul",
            Element::NumberedList => "ol",
            Element::Item => "li",
            Element::Definitions => "dl",
            Element::Term => "dt",
            Element::Definition => "dd",
            Element::Table => "table",
            Element::RowGroup if parent == Some("table") => "tbody",
            Element::Row if matches!(parent, Some("table" | "tbody")) => "tr",
            Element::Cell if parent == Some("tr") => "td",
            Element::HeaderCell if parent == Some("tr") => "th",
            _ => "div",
        })
    }

    fn attributes(&mut self, name: &str, tag: Tag<'_>) {
        let number = |name: &str| {
            tag.attribute(name)
                .and_then(|value| value.trim().parse::<u32>().ok())
        };
        match name {
            "a" => {
                let url = tag.attribute("href").unwrap_or_default();
                self.attribute("href", url.trim());
            }
            "td" | "th" => {
                for span in ["colspan", "rowspan"] {
                    if let Some(width) =
                        number(span).filter(|width| (2..=WIDEST_SPAN).contains(width))
                    {
                        self.attribute(span, &width.to_string());
                    }
                }
            }
            "ol" => {
                if let Some(start) = number("start") {
                    self.attribute("start", &start.to_string());
                }
            }
            _ => {}
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape(value, &mut self.out);
        self.out.push('"');
    }

    fn has_room(&self) -> bool {
        self.written < MAX_CLEAN_ELEMENTS && self.out.len() < MAX_CLEAN_BYTES
    }

    /// Returns whether the innermost element is a part of a table that holds cells only.
    fn in_table_only(&self) -> bool {
        let parent = self.open.iter().rev().find_map(|open| open.name);
        matches!(parent, Some("table" | "tbody" | "tr"))
    }

    /// Adds the row and the cell that a table lacks. Browsers would move the content in front of the table.
    fn enter_cell(&mut self) {
        if !self.in_table_only() {
            return;
        }
        let parent = self.open.iter().rev().find_map(|open| open.name);
        let missing = [(Element::Row, "tr"), (Element::Cell, "td")];
        for (element, name) in &missing[usize::from(parent == Some("tr"))..] {
            self.out.push('<');
            self.out.push_str(name);
            self.out.push('>');
            self.written += 1;
            self.open.push(Open {
                element: *element,
                name: Some(name),
                ended: true,
            });
        }
    }

    fn pop_ended(&mut self) {
        while self.open.last().is_some_and(|open| open.ended) {
            self.pop();
        }
    }

    /// Closes the innermost element; false if none is open.
    fn pop(&mut self) -> bool {
        let Some(open) = self.open.pop() else {
            return false;
        };
        if let Some(name) = open.name {
            self.out.push_str("</");
            self.out.push_str(name);
            self.out.push('>');
        }
        true
    }
}

fn escape(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\0' => {}
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_CLEAN_BYTES, MAX_CLEAN_ELEMENTS, clean_html};

    #[test]
    fn what_people_read_stays() {
        for (html, expected) in [
            (
                "<h2>Disk</h2><p>is <b>full</b> &amp; <i>slow</i><br>now",
                "<h2>Disk</h2><p>is <b>full</b> &amp; <i>slow</i><br>now</p>",
            ),
            (
                "<a href='https://a.example/?b=1&amp;c=2' onclick=x() target=_blank>a</a>",
                "<a href=\"https://a.example/?b=1&amp;c=2\" rel=\"noopener noreferrer nofollow\">a</a>",
            ),
            (
                "<table width=9 style='x'><tr><th colspan=2>h<tr><td>a<td>b</table>",
                "<table><tbody><tr><th colspan=\"2\">h</th></tr><tr><td>a</td><td>b</td></tr></tbody></table>",
            ),
            (
                "<ol start=3><li>a<ul><li>b</ol>",
                "<ol start=\"3\"><li>a<ul><li>b</li></ul></li></ol>",
            ),
            (
                "<img src='cid:a@b' alt='Plan' onerror=x>",
                "<img src=\"cid:a@b\" alt=\"Plan\">",
            ),
            (
                "<img src='data:image/png;base64,AA=='>",
                "<img src=\"data:image/png;base64,AA==\">",
            ),
            ("<img src='https://t.example/p.gif' alt='Acme'>", "Acme"),
            (
                "<center>a</center><font color=red>b</font><o:p>c</o:p>",
                "<div>a</div>bc",
            ),
            ("<b><p>a</b>b</p>c", "<b><p>ab</p></b>c"),
            (
                "<table>lost<tr><td>a</table>",
                "<table><tbody><tr><td>lost</td></tr><tr><td>a</td></tr></tbody></table>",
            ),
            (
                "<table><b>x</b>y</table>z<td>q",
                "<table><tbody><tr><td><b>x</b>y</td></tr></tbody></table>z<div>q</div>",
            ),
            (
                "<blockquote><pre> a\n b</pre></blockquote>",
                "<blockquote><pre> a\n b</pre></blockquote>",
            ),
            ("5 < 6 &lt;b&gt; &quot;", "5 &lt; 6 &lt;b&gt; \""),
        ] {
            assert_eq!(clean_html(html), expected, "{html}");
        }
    }

    #[test]
    fn what_acts_or_reports_goes() {
        for html in [
            "<script>alert(1)</script>",
            "<scr<script>ipt>alert(1)</scr</script>ipt>",
            "<img src=x onerror=alert(1)>",
            "<svg onload=alert(1)><script>alert(1)</script></svg>",
            "<svg><style><img src=x onerror=alert(1)></style></svg>",
            "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
            "<a href='javascript:alert(1)'>a</a>",
            "<a href='JaVa\tScript:alert(1)'>a</a>",
            "<a href=' &#106;avascript:alert(1)'>a</a>",
            "<a href='data:text/html,<script>alert(1)</script>'>a</a>",
            "<a href='cid:x'>a</a><a href='//a.example'>b</a><a href='vbscript:x'>c</a>",
            "<img src='data:image/svg+xml,<svg onload=alert(1)>'>",
            "<img src='http://t.example/x.png'><img src=//t.example/x><img srcset='http://t.example/x 1x' src=x>",
            "<div style='background:url(http://t.example/x)'>a</div>",
            "<style>@import url(http://t.example/x)</style><link rel=stylesheet href=http://t.example/x>",
            "<iframe src=http://t.example srcdoc='<script>alert(1)</script>'></iframe><object data=x></object><embed src=x>",
            "<form action=http://t.example><input name=password><button formaction=javascript:x>a</button></form>",
            "<base href=http://t.example/><meta http-equiv=refresh content='0;url=http://t.example'>",
            "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
            "<textarea><img src=x onerror=alert(1)></textarea><title><img src=x onerror=alert(1)></title>",
            "<!--><img src=x onerror=alert(1)>--><![CDATA[<script>alert(1)</script>]]>",
            "<video src=http://t.example/x poster=http://t.example/y><source src=http://t.example/z></video>",
            "<p hidden>hidden</p><span style='display:none'>hidden</span>",
            "<a href='https://a.example/\" onmouseover=\"alert(1)'>a</a>",
            "<xmp><script>alert(1)</script></xmp><plaintext><script>alert(1)",
        ] {
            let clean = clean_html(html);
            // Inside of tags: nothing of this; as text it is harmless.
            let tags: String = clean
                .split('<')
                .skip(1)
                .filter_map(|tag| Some(tag.split_once('>')?.0))
                .collect::<Vec<_>>()
                .join("\n")
                .to_lowercase();
            for bad in [
                "script",
                " on",
                "style",
                "t.example",
                "data:",
                "srcset",
                "iframe",
                "form",
                "svg",
                "math",
                "meta",
                "base",
                "title",
            ] {
                let quoted =
                    bad == " on" && tags.contains("onmouseover") && !tags.contains("\" on");
                assert!(!tags.contains(bad) || quoted, "{html}: {clean}");
            }
            assert!(!clean.contains("hidden"), "{html}: {clean}");
            assert_eq!(clean_html(&clean), clean, "{html}");
        }
    }

    #[test]
    fn hostile_pages_are_bounded() {
        for part in [
            "<b class=N><p>",
            "<div>",
            "<table><b>",
            "<table>a",
            "<a href=http://a.example/N><p>",
            "<b><i><u><p></b></i></u>",
            "<td>",
            "<p>x",
            "<br>",
            "<",
            "<li>",
            "<font color=N><table><tr><td>",
        ] {
            let mut html = String::new();
            for n in 0.. {
                if html.len() > 1 << 21 {
                    break;
                }
                html += &part.replace('N', &n.to_string());
            }
            let clean = clean_html(&html);
            assert!(
                clean.matches('<').count() <= 4 * MAX_CLEAN_ELEMENTS,
                "{part}"
            );
            // Escapes and the `rel` of links come on top.
            assert!(clean.len() < 6 * MAX_CLEAN_BYTES, "{part}");
        }
        let text = "x".repeat(MAX_CLEAN_BYTES);
        assert_eq!(clean_html(&text).len(), MAX_CLEAN_BYTES);
        assert_eq!(clean_html(&(text + "<b>y")).len(), MAX_CLEAN_BYTES);
        let html = "<p>x".repeat(MAX_CLEAN_ELEMENTS + 10);
        let clean = clean_html(&html);
        assert_eq!(clean.matches("<p>").count(), MAX_CLEAN_ELEMENTS);
        assert_eq!(
            clean.matches('x').count(),
            MAX_CLEAN_ELEMENTS + 10,
            "text beyond the limit stays"
        );
    }
}
