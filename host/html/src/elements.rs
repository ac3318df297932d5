//! Pairs the tags of a page, as browsers do with careless ones, and leaves out what no reader sees.

use std::collections::VecDeque;

use crate::{Style, Tag, Token, Tokenizer, tokens};

/// The most elements that may be open at a time. Deeper ones only end a line.
pub const MAX_NESTING: usize = 256;

/// The kind of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    Anchor,
    /// `<b>` and `<strong>`.
    Bold,
    Inline,
    Paragraph,
    /// `<div>` and others that begin on a new line.
    Block,
    Heading,
    Quote,
    Preformatted,
    List,
    NumberedList,
    Item,
    Definitions,
    /// `<dt>`
    Term,
    /// `<dd>`
    Definition,
    Table,
    RowGroup,
    Row,
    Cell,
    HeaderCell,
    // Without content:
    Break,
    Rule,
    Image,
    Void,
}

/// The number of kinds.
const KINDS: usize = Element::Void as usize + 1;
const CELLS: [Element; 2] = [Element::Cell, Element::HeaderCell];
const LISTS: [Element; 2] = [Element::List, Element::NumberedList];

/// One step through a page. Each element that opens also closes, blocks in the reverse order of their opening; elements
/// without content only open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'h> {
    Open(Element, Tag<'h>, Style),
    Close(Element),
    /// Text as written, its references not decoded.
    Text(&'h str),
}

/// Returns the visible content of a page.
pub fn elements(html: &str) -> Elements<'_> {
    Elements {
        tokens: tokens(html),
        open: Vec::new(),
        counts: [0; KINDS],
        deeper: 0,
        hiding: 0,
        due: VecDeque::new(),
        at_end: false,
    }
}

pub struct Elements<'h> {
    tokens: Tokenizer<'h>,
    open: Vec<Open<'h>>,
    /// How many of each kind are open, so that most searches need not look at them.
    counts: [usize; KINDS],
    /// How many elements are open beyond the limit.
    deeper: usize,
    /// How many open elements hide their content.
    hiding: usize,
    due: VecDeque<Event<'h>>,
    at_end: bool,
}

struct Open<'h> {
    element: Element,
    name: &'h str,
    /// Whether its opening was reported.
    shown: bool,
    hides: bool,
    /// Text in it has the font size zero.
    zero_font: bool,
    /// Its end tag came before that of a block in it.
    ended: bool,
}

impl Element {
    fn of(name: &str) -> Self {
        let mut lowered = [0; 10];
        let Some(lowered) = lowered.get_mut(..name.len()) else {
            return Self::Inline;
        };
        lowered.copy_from_slice(name.as_bytes());
        lowered.make_ascii_lowercase();
        match &*lowered {
            b"a" => Self::Anchor,
            b"b" | b"strong" => Self::Bold,
            b"p" => Self::Paragraph,
            b"div" | b"section" | b"article" | b"header" | b"footer" | b"form" | b"center"
            | b"html" | b"body" | b"main" | b"nav" | b"aside" | b"figure" | b"figcaption"
            | b"address" | b"fieldset" | b"legend" | b"details" | b"summary" | b"caption"
            | b"hgroup" | b"option" | b"dir" | b"menu" => Self::Block,
            b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" => Self::Heading,
            b"blockquote" => Self::Quote,
            b"pre" | b"listing" | b"xmp" => Self::Preformatted,
            b"ul" => Self::List,
            b"ol" => Self::NumberedList,
            b"li" => Self::Item,
            b"dl" => Self::Definitions,
            b"dt" => Self::Term,
            b"dd" => Self::Definition,
            b"table" => Self::Table,
            b"tbody" | b"thead" | b"tfoot" => Self::RowGroup,
            b"tr" => Self::Row,
            b"td" => Self::Cell,
            b"th" => Self::HeaderCell,
            b"br" => Self::Break,
            b"hr" => Self::Rule,
            b"img" | b"area" => Self::Image,
            b"input" | b"meta" | b"link" | b"col" | b"wbr" | b"base" | b"source" | b"track"
            | b"embed" | b"param" | b"frame" | b"" => Self::Void,
            _ => Self::Inline,
        }
    }

    /// Returns whether it begins on a new line.
    pub fn is_block(self) -> bool {
        !matches!(self, Self::Anchor | Self::Bold | Self::Inline) && !self.is_void()
    }

    pub fn is_cell(self) -> bool {
        matches!(self, Self::Cell | Self::HeaderCell)
    }

    fn is_void(self) -> bool {
        matches!(self, Self::Break | Self::Rule | Self::Image | Self::Void)
    }

    /// Returns whether end tags of what is outside of it do not reach into it.
    fn is_boundary(self) -> bool {
        self == Self::Table || self.is_cell()
    }
}

impl<'h> Iterator for Elements<'h> {
    type Item = Event<'h>;

    fn next(&mut self) -> Option<Event<'h>> {
        loop {
            if let Some(event) = self.due.pop_front() {
                return Some(event);
            }
            if self.at_end {
                return None;
            }
            match self.tokens.next() {
                None => {
                    self.at_end = true;
                    self.close_down_to(0);
                }
                Some(Token::Text(text)) => {
                    if self.hiding == 0 && !self.open.last().is_some_and(|open| open.zero_font) {
                        return Some(Event::Text(text));
                    }
                }
                Some(Token::Tag(tag)) if tag.is_closing => self.end(tag),
                Some(Token::Tag(tag)) => self.begin(tag),
            }
        }
    }
}

impl<'h> Elements<'h> {
    fn begin(&mut self, tag: Tag<'h>) {
        let element = Element::of(tag.name);
        let style = Style::of(tag);
        let is_drawing = tag
            .name
            .get(..2)
            .is_some_and(|start| start.eq_ignore_ascii_case("v:"));
        self.close_implied(element);
        if element.is_void() || tag.is_self_closing() && tag.name.contains(':') {
            if element.is_void() && self.hiding == 0 && !style.hides {
                self.due.push_back(Event::Open(element, tag, style));
            }
            return;
        }
        if element.is_cell()
            && let Some(outer) = self.innermost(&[Element::Table, Element::RowGroup, Element::Row])
            && self.open[outer].element != Element::Row
        {
            self.push(Element::Row, "tr", tag, Style::default());
        }
        let hides = style.hides || is_drawing;
        self.push(element, tag.name, tag, Style { hides, ..style });
    }

    fn push(&mut self, element: Element, name: &'h str, tag: Tag<'h>, style: Style) {
        if self.open.len() >= MAX_NESTING {
            self.deeper += 1;
            if element.is_block() && self.hiding == 0 {
                self.due
                    .push_back(Event::Open(Element::Break, tag, Style::default()));
            }
            return;
        }
        let inherited = self.open.last().is_some_and(|open| open.zero_font);
        // Without a document type, browsers let no table inherit a font size.
        let inherited = inherited && element != Element::Table;
        let shown = self.hiding == 0 && !style.hides;
        self.hiding += usize::from(style.hides);
        self.counts[element as usize] += 1;
        self.open.push(Open {
            element,
            name,
            shown,
            hides: style.hides,
            zero_font: style.zero_font.unwrap_or(inherited),
            ended: false,
        });
        if shown {
            self.due.push_back(Event::Open(element, tag, style));
        }
    }

    /// Closes the elements whose end tags may be left out before this one.
    fn close_implied(&mut self, element: Element) {
        use Element::{Definition, Definitions, HeaderCell, Item, Row, RowGroup, Table, Term};
        let is = |at: usize, wanted: Element| self.open[at].element == wanted;
        let ended = match element {
            Item => self
                .within_cell(&[Item, LISTS[0], LISTS[1]])
                .filter(|at| is(*at, Item)),
            Term | Definition => self
                .within_cell(&[Term, Definition, Definitions])
                .filter(|at| !is(*at, Definitions)),
            Element::Heading => self.within_cell(&[Element::Heading]),
            Row => self.innermost(&[Table, RowGroup]).map(|at| at + 1),
            RowGroup => self.innermost(&[Table]).map(|at| at + 1),
            Element::Cell | HeaderCell => self.innermost(&[Table, RowGroup, Row]).map(|at| at + 1),
            _ => None,
        };
        if let Some(at) = ended {
            self.close_down_to(at);
        }
        if element == Element::Anchor
            && let Some(at) = self.within_cell(&[Element::Anchor])
        {
            self.end_inline(at);
        }
        if (element.is_block() && !element.is_cell() || element == Element::Rule)
            && let Some(at) = self.within_cell(&[Element::Paragraph])
        {
            self.close_down_to(at);
        }
    }

    fn end(&mut self, tag: Tag<'h>) {
        let element = Element::of(tag.name);
        if element.is_void() {
            if element == Element::Break && self.hiding == 0 {
                self.due
                    .push_back(Event::Open(element, tag, Style::default()));
            }
            return;
        }
        if self.deeper > 0 {
            self.deeper -= 1;
            return;
        }
        let inside_table = |wanted: [Element; 2]| {
            self.innermost(&[wanted[0], wanted[1], Element::Table])
                .filter(|at| self.open[*at].element != Element::Table)
        };
        let found = match element {
            Element::Cell | Element::HeaderCell => inside_table(CELLS),
            Element::Row | Element::RowGroup => inside_table([element; 2]),
            Element::Table => self.innermost(&[Element::Table]),
            Element::Heading => self.within_cell(&[Element::Heading]),
            Element::List | Element::NumberedList => self.within_cell(&LISTS),
            _ => self.named(element, tag.name),
        };
        match found {
            Some(at) if element.is_block() => self.close_down_to(at),
            Some(at) => self.end_inline(at),
            None if element == Element::Paragraph && self.hiding == 0 => {
                self.due
                    .push_back(Event::Open(element, tag, Style::default()));
                self.due.push_back(Event::Close(element));
            }
            None => {}
        }
    }

    /// Returns the innermost open element of some kinds.
    fn innermost(&self, wanted: &[Element]) -> Option<usize> {
        if !self.has_any(wanted) {
            return None;
        }
        self.open
            .iter()
            .rposition(|open| wanted.contains(&open.element))
    }

    /// Returns the innermost open element of some kinds, if no cell or table is between.
    fn within_cell(&self, wanted: &[Element]) -> Option<usize> {
        if !self.has_any(wanted) {
            return None;
        }
        let at = self.open.iter().rposition(|open| {
            !open.ended && wanted.contains(&open.element) || open.element.is_boundary()
        })?;
        wanted.contains(&self.open[at].element).then_some(at)
    }

    fn has_any(&self, wanted: &[Element]) -> bool {
        wanted.iter().any(|it| self.counts[*it as usize] > 0)
    }

    fn named(&self, element: Element, name: &str) -> Option<usize> {
        if !self.has_any(&[element]) {
            return None;
        }
        let is = |open: &Open<'_>| {
            !open.ended && open.element == element && open.name.eq_ignore_ascii_case(name)
        };
        let at = self
            .open
            .iter()
            .rposition(|open| is(open) || open.element.is_boundary())?;
        is(&self.open[at]).then_some(at)
    }

    fn close_down_to(&mut self, at: usize) {
        while self.open.len() > at
            && let Some(open) = self.open.pop()
        {
            self.counts[open.element as usize] -= 1;
            self.hiding -= usize::from(open.hides);
            if open.shown && !open.ended {
                self.due.push_back(Event::Close(open.element));
            }
        }
    }

    /// Closes an element within a line. Blocks in it stay open.
    fn end_inline(&mut self, at: usize) {
        if !self.open[at + 1..]
            .iter()
            .any(|open| open.element.is_block())
        {
            self.close_down_to(at);
            return;
        }
        let open = &mut self.open[at];
        open.ended = true;
        self.hiding -= usize::from(std::mem::take(&mut open.hides));
        if open.shown {
            self.due.push_back(Event::Close(open.element));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Element, Event, MAX_NESTING, elements};

    /// Returns the events in short form.
    fn read(html: &str) -> String {
        elements(html)
            .map(|event| match event {
                Event::Text(text) => text.to_owned(),
                Event::Open(element, ..) => format!("<{element:?}>"),
                Event::Close(element) => format!("</{element:?}>"),
            })
            .collect()
    }

    #[test]
    fn what_is_left_out_is_closed() {
        for (html, expected) in [
            (
                "<p>a<p>b",
                "<Paragraph>a</Paragraph><Paragraph>b</Paragraph>",
            ),
            (
                "<ul><li>a<li>b<ul><li>c</ul><li>d</ul>e",
                "<List><Item>a</Item><Item>b<List><Item>c</Item></List></Item><Item>d</Item></List>e",
            ),
            (
                "<table><td>a<td>b<tr><th>c</table>d",
                "<Table><Row><Cell>a</Cell><Cell>b</Cell></Row><Row><HeaderCell>c</HeaderCell></Row></Table>d",
            ),
            ("<b><p>a</b>b</p>", "<Bold><Paragraph>a</Bold>b</Paragraph>"),
            (
                "<i><p>a</i>b</p>c</i>d",
                "<Inline><Paragraph>a</Inline>b</Paragraph>cd",
            ),
            ("a</div>b</p>c</td>", "ab<Paragraph></Paragraph>c"),
            ("<a>x<a>y</a>z", "<Anchor>x</Anchor><Anchor>y</Anchor>z"),
            (
                "<table><tr><td></div><font>a<td>b</table>",
                "<Table><Row><Cell><Inline>a</Inline></Cell><Cell>b</Cell></Row></Table>",
            ),
            ("<h2>a</h3>b</br>c", "<Heading>a</Heading>b<Break>c"),
            (
                "<dl><dt>a<dd>b<dt>c</dl>",
                "<Definitions><Term>a</Term><Definition>b</Definition><Term>c</Term></Definitions>",
            ),
        ] {
            assert_eq!(read(html), expected, "{html}");
        }
    }

    #[test]
    fn what_is_hidden_is_left_out() {
        for (html, expected) in [
            ("<i style='display:none'>a<b>b</i>c", "c"),
            ("<p hidden>a<p>b", "<Paragraph>b</Paragraph>"),
            ("<i hidden><p>a</i>b</p>c", "bc"),
            (
                "<table><tr><td style='display:none'>a<td>b</table>",
                "<Table><Row><Cell>b</Cell></Row></Table>",
            ),
            (
                "<div style='font-size:0px'>a<div style='font-size:13px'>b</div>c</div>",
                "<Block><Block>b</Block></Block>",
            ),
            (
                "<div style='font-size:0'><table><td>a</table></div>",
                "<Block><Table><Row><Cell>a</Cell></Row></Table></Block>",
            ),
            ("<img style='display:none' alt=a>b", "b"),
            (
                "<v:rect><v:fill/><center>a</center></v:rect>b<o:p>c</o:p>",
                "b<Inline>c</Inline>",
            ),
            ("<a style='mso-hide:all'>a</a>", "<Anchor>a</Anchor>"),
        ] {
            assert_eq!(read(html), expected, "{html}");
        }
    }

    #[test]
    fn nesting_is_limited() {
        let page = |depth: usize| format!("{}a{}b", "<div>".repeat(depth), "</div>".repeat(depth));
        let blocks = |html: &str| {
            elements(html)
                .filter(|event| matches!(event, Event::Open(Element::Block, ..)))
                .count()
        };
        assert_eq!(blocks(&page(MAX_NESTING)), MAX_NESTING);
        assert!(!read(&page(MAX_NESTING)).contains("Break"));
        assert_eq!(blocks(&page(MAX_NESTING + 50)), MAX_NESTING);
        assert!(read(&page(MAX_NESTING + 1)).contains("<Block><Break>a</Block>"));
        assert!(read(&page(MAX_NESTING + 50)).ends_with("</Block>b"));
    }

    #[test]
    fn every_block_closes_in_order() {
        for part in [
            "<b><p>",
            "<table><tr><td>",
            "<td></p></b>",
            "<li><a></ul>",
            "<tr></table>",
            "<i hidden><div></i>",
        ] {
            let html = part.repeat(1 << 14);
            let mut open = Vec::new();
            for event in elements(&html) {
                match event {
                    Event::Open(element, ..) if element.is_block() => open.push(element),
                    Event::Close(element) if element.is_block() => {
                        assert_eq!(open.pop(), Some(element), "{part}");
                    }
                    _ => {}
                }
            }
            assert!(open.is_empty(), "{part}");
        }
    }
}
