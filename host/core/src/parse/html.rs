//! Converts HTML to text for mails without a text part: lines as a reader sees them, tabs between the cells of a row, `> `
//! for quotes, `text <url>` for links.

use std::ops::Range;

use postroom_html::{Element, Event, Style, Tag};

use crate::links::{Target, is_named_by, is_tracker};

/// The deepest quote level that is marked; deeper quotes get as many marks.
const MOST_QUOTE_MARKS: usize = 5;
/// The widest indentation of list items, in spaces.
const MOST_INDENT: usize = 32;
/// The rule that plain-text mailers write for `<hr>`.
const RULE: &str = "________________________________";
/// The longest URL that the text shows, in bytes. Longer ones are of use to programs only.
const LONGEST_SHOWN_URL: usize = 2000;
/// The most bytes of a cell that shares a line with others; one cell of a row may be longer.
const SHORT_CELL: usize = 200;
const LONG_CELL: usize = 4000;
/// The most lines of a cell that are joined to one.
const CELL_LINES: usize = 3;

/// Returns the text of a page, cut near `most` bytes.
pub(crate) fn to_text(html: &str, most: usize) -> String {
    let mut writer = Writer {
        out: String::with_capacity((html.len() / 2).min(most)),
        ..Writer::default()
    };
    for event in postroom_html::elements(html) {
        if writer.out.len() > most {
            break;
        }
        match event {
            Event::Text(text) => writer.text(text),
            Event::Open(element, tag, style) => writer.open(element, tag, style),
            Event::Close(element) => writer.close(element),
        }
    }
    writer.finish()
}

/// Returns whether a text says the same as the text of a page: the same words, whatever signs and URLs are between.
pub(crate) fn has_same_words(text: &str, of_page: &str) -> bool {
    words(text).eq(words(of_page))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_url = |word: &&str| {
        ["http:", "https:", "mailto:", "tel:"]
            .into_iter()
            .any(|scheme| word.starts_with(scheme))
    };
    text.split_whitespace()
        .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()))
        .filter(move |word| !word.is_empty() && !is_url(word))
}

#[derive(Default)]
struct Writer {
    out: String,
    /// Line ends due before the next word: 1 for a new line, 2 for an empty line in between.
    breaks: usize,
    /// The lowest quote level since the last word.
    gap_quotes: Option<usize>,
    space: bool,
    /// The spaces due before the next word of preformatted text.
    pad: String,
    cell: bool,
    /// A joiner or a direction mark, which matters between letters only.
    joiner: Option<char>,
    line_has_words: bool,
    quotes: usize,
    /// For each open block.
    blocks: Vec<Block>,
    /// For each open list: the number of its next item, if it is numbered.
    lists: Vec<Option<u32>>,
    /// The indentation of each open item.
    items: Vec<usize>,
    /// The sign of the item that begins with the next word.
    marker: Option<String>,
    link: Option<OpenLink>,
    /// Where the last link ended, and its URL.
    linked: (usize, String),
    rows: Vec<Row>,
}

struct Block {
    preformatted: bool,
    /// Line ends due before and after.
    breaks: usize,
    is_quote: bool,
    /// For a paragraph without space around it: where it begins. An empty one is an empty line.
    tight: Option<usize>,
}

struct OpenLink {
    start: usize,
    target: Target,
}

#[derive(Default)]
struct Row {
    /// Where its first word begins.
    words: Option<usize>,
    cells: Vec<Range<usize>>,
    /// Whether a cell has blocks in it that cannot share a line.
    has_blocks: bool,
    /// Whether a cell has a list, a heading or a table in it, which can only if they are one line.
    has_parts: bool,
}

impl Writer {
    fn open(&mut self, element: Element, tag: Tag<'_>, style: Style) {
        match element {
            Element::Break => return self.hard_break(),
            Element::Rule => {
                self.owe(1);
                self.word(RULE);
                return self.owe(1);
            }
            Element::Image => return self.image(tag),
            Element::Void => return,
            Element::Anchor => {
                self.link = tag
                    .attribute("href")
                    .and_then(|url| Target::of(&url))
                    .map(|target| OpenLink {
                        start: self.out.len(),
                        target,
                    });
            }
            _ => {}
        }
        if !element.is_block() {
            if style.is_block {
                self.owe(1);
            } else if style.is_cell {
                self.cell |= self.line_has_words;
            }
            return;
        }
        let is_quote = element == Element::Quote && !style.indents;
        let is_tight = element == Element::Paragraph && (style.is_tight || is_of_word(tag));
        let breaks = match element {
            Element::Paragraph if !self.items.is_empty() => 1,
            Element::Paragraph if is_tight => 1,
            Element::List | Element::NumberedList if !self.items.is_empty() => 1,
            Element::Paragraph
            | Element::Heading
            | Element::Table
            | Element::List
            | Element::NumberedList => 2,
            Element::Cell | Element::HeaderCell if self.rows.is_empty() => 0,
            _ if style.top_border => 2,
            _ => 1,
        };
        if element.is_cell() && self.rows.is_empty() {
            self.cell |= self.line_has_words;
        } else {
            self.owe(breaks);
        }
        let preformatted = style
            .preformatted
            .unwrap_or(element == Element::Preformatted || self.is_preformatted());
        self.blocks.push(Block {
            preformatted,
            breaks,
            is_quote,
            tight: is_tight.then_some(self.out.len()),
        });
        self.quotes += usize::from(is_quote);
        if let Some(row) = self.rows.last_mut() {
            row.has_blocks |= is_quote || preformatted;
            row.has_parts |= matches!(
                element,
                Element::Table
                    | Element::List
                    | Element::NumberedList
                    | Element::Heading
                    | Element::Definitions
            );
        }
        match element {
            Element::List => self.lists.push(None),
            Element::NumberedList => {
                let start = tag
                    .attribute("start")
                    .and_then(|start| start.trim().parse().ok());
                self.lists.push(Some(start.unwrap_or(1)));
            }
            Element::Item => {
                let marker = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let marker = format!("{number}. ");
                        *number = number.saturating_add(1);
                        marker
                    }
                    _ => "- ".to_owned(),
                };
                self.items.push(marker.len());
                self.marker = Some(marker);
            }
            Element::Definition => self.items.push(2),
            Element::Row => self.rows.push(Row::default()),
            Element::Cell | Element::HeaderCell => {
                let start = self.out.len();
                if let Some(row) = self.rows.last_mut() {
                    row.cells.push(start..start);
                }
            }
            _ => {}
        }
    }

    fn close(&mut self, element: Element) {
        if element == Element::Anchor {
            return self.end_link();
        }
        if !element.is_block() {
            return;
        }
        match element {
            Element::List | Element::NumberedList => {
                self.lists.pop();
            }
            Element::Item => {
                self.items.pop();
                self.marker = None;
            }
            Element::Definition => {
                self.items.pop();
            }
            Element::Row => {
                if let Some(row) = self.rows.pop() {
                    self.join_cells(&row);
                }
            }
            Element::Cell | Element::HeaderCell => {
                let end = self.out.len();
                if let Some(cell) = self.rows.last_mut().and_then(|row| row.cells.last_mut()) {
                    cell.end = end;
                } else {
                    self.cell |= self.line_has_words;
                }
            }
            _ => {}
        }
        if let Some(block) = self.blocks.pop() {
            let is_empty_line = block.tight == Some(self.out.len());
            if block.breaks > 0 {
                self.owe(if is_empty_line { 2 } else { block.breaks });
            }
            self.quotes -= usize::from(block.is_quote);
            self.note_quotes();
        }
    }

    fn is_preformatted(&self) -> bool {
        self.blocks.last().is_some_and(|block| block.preformatted)
    }

    fn owe(&mut self, breaks: usize) {
        self.keep_delimiter();
        self.note_quotes();
        // The first block of an item is on the item's line.
        let most = if self.marker.is_some() { 1 } else { 2 };
        self.breaks = self.breaks.max(breaks.min(most));
        self.forget_spaces();
    }

    fn hard_break(&mut self) {
        self.keep_delimiter();
        self.note_quotes();
        // Two in a row make an empty line; more have no further effect.
        self.breaks = (self.breaks + 1).min(2);
        self.forget_spaces();
    }

    fn note_quotes(&mut self) {
        let level = self
            .gap_quotes
            .map_or(self.quotes, |level| level.min(self.quotes));
        self.gap_quotes = Some(level);
    }

    /// Keeps the space at the end of a signature's delimiter (RFC 3676 section 4.3).
    fn keep_delimiter(&mut self) {
        let ends_with_space = self.space || self.pad.starts_with(' ');
        if ends_with_space && self.breaks == 0 && self.out.ends_with("--") {
            let line = self.out.rsplit('\n').next().unwrap_or_default();
            if without_marks(line, MOST_QUOTE_MARKS) == "--" {
                self.out.push(' ');
            }
        }
    }

    fn forget_spaces(&mut self) {
        self.space = false;
        self.cell = false;
        self.pad.clear();
        self.joiner = None;
    }

    fn word(&mut self, word: &str) {
        if self.breaks > 0 {
            if !self.out.is_empty() {
                self.out.push('\n');
                if self.breaks > 1 {
                    self.marks(self.gap_quotes.unwrap_or(self.quotes));
                    self.out.truncate(self.out.trim_end_matches(' ').len());
                    self.out.push('\n');
                }
            }
            self.breaks = 0;
            self.line_has_words = false;
        }
        self.gap_quotes = None;
        if !self.line_has_words {
            self.marks(self.quotes);
            self.indent();
            self.out.push_str(&self.pad);
        } else if self.cell {
            self.out.push('\t');
        } else if !self.pad.is_empty() {
            self.out.push_str(&self.pad);
        } else if self.space {
            self.out.push(' ');
        } else if let Some(joiner) = self.joiner {
            self.out.push(joiner);
        }
        self.line_has_words = true;
        self.forget_spaces();
        let at = self.out.len();
        for row in self.rows.iter_mut().rev() {
            if row.words.is_some() {
                break;
            }
            row.words = Some(at);
        }
        self.out.push_str(word);
    }

    fn marks(&mut self, level: usize) {
        for _ in 0..level.min(MOST_QUOTE_MARKS) {
            self.out.push_str("> ");
        }
    }

    fn indent(&mut self) {
        let marker = self.marker.take();
        let own = marker.as_ref().map_or(0, String::len);
        let all: usize = self.items.iter().sum();
        let width = all.saturating_sub(own).min(MOST_INDENT);
        self.out.extend(std::iter::repeat_n(' ', width));
        self.out.push_str(&marker.unwrap_or_default());
    }

    fn text(&mut self, text: &str) {
        let preformatted = self.is_preformatted();
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\n' if preformatted => {
                    self.hard_break();
                    at += 1;
                }
                b' ' | b'\t' if preformatted => {
                    self.pad.push(char::from(bytes[at]));
                    at += 1;
                }
                b if b.is_ascii_whitespace() => {
                    self.space = true;
                    at += 1;
                }
                b'&' => match postroom_html::reference(&text[at..]) {
                    Some((c, length)) => {
                        self.decoded(c.encode_utf8(&mut [0; 4]));
                        at += length;
                    }
                    None => {
                        self.word("&");
                        at += 1;
                    }
                },
                _ => {
                    let end = bytes[at..]
                        .iter()
                        .position(|b| b.is_ascii_whitespace() || *b == b'&')
                        .map_or(bytes.len(), |end| at + end);
                    self.decoded(&text[at..end]);
                    at = end;
                }
            }
        }
    }

    /// Writes a run without ASCII spaces; it may still contain other spaces and invisible characters.
    fn decoded(&mut self, run: &str) {
        if run.is_ascii() && !run.trim().is_empty() {
            self.word(run);
            return;
        }
        let mut rest = run;
        while let Some(c) = rest.chars().next() {
            if is_filler(c) || is_joiner(c) {
                if c.is_whitespace() {
                    self.space = true;
                } else if is_joiner(c) {
                    self.joiner = Some(c);
                }
                rest = &rest[c.len_utf8()..];
            } else {
                let end = rest
                    .find(|c| is_filler(c) || is_joiner(c))
                    .unwrap_or(rest.len());
                self.word(&rest[..end]);
                rest = &rest[end..];
            }
        }
    }

    /// Writes the alternative text of an image, unless it is a file name or the image cannot be seen.
    fn image(&mut self, tag: Tag<'_>) {
        if is_tracker(tag) {
            return;
        }
        let alternative = tag
            .attributes()
            .find(|(name, _)| name.eq_ignore_ascii_case("alt"));
        let alternative = alternative.map_or("", |(_, text)| text.trim());
        if alternative.is_empty() || is_file_name(alternative) {
            return;
        }
        let is_word = alternative.contains(char::is_alphanumeric);
        self.space |= is_word;
        self.text(alternative);
        self.space |= is_word;
    }

    fn end_link(&mut self) {
        let Some(OpenLink { start, target }) = self.link.take() else {
            return;
        };
        let words = self.out.get(start..).unwrap_or_default();
        let words = words.trim_matches(|c: char| c.is_whitespace() || c == '>');
        // The picture above a headline has the same link as the headline.
        let is_repeated = self.linked.0 >= start && self.linked.1 == target.shown();
        if words.is_empty()
            || is_repeated
            || target.shown().len() > LONGEST_SHOWN_URL
            || is_named_by(&target, words)
        {
            return;
        }
        self.out.push_str(" <");
        self.out.push_str(target.shown());
        self.out.push('>');
        self.linked = (self.out.len(), target.shown().to_owned());
    }

    /// Puts the cells of a row on one line, with tabs in between, if they are short. The cells of a layout stay paragraphs.
    fn join_cells(&mut self, row: &Row) {
        let Some(words) = row.words.filter(|_| !row.has_blocks) else {
            return;
        };
        let mut cells: Vec<Vec<&str>> = Vec::new();
        let mut has_long = false;
        for cell in &row.cells {
            let start = cell.start.max(words);
            let Some(text) = self.out.get(start..cell.end) else {
                continue;
            };
            if text.len() > SHORT_CELL {
                if has_long || text.len() > LONG_CELL {
                    return;
                }
                has_long = true;
            }
            let marks = self.quotes.min(MOST_QUOTE_MARKS);
            let lines: Vec<&str> = text
                .lines()
                .map(|line| without_marks(line, marks).trim())
                .filter(|line| !line.is_empty())
                .collect();
            if lines.len() > CELL_LINES || row.has_parts && lines.len() > 1 {
                return;
            }
            if !lines.is_empty() {
                cells.push(lines);
            }
        }
        let Some((_, others)) = cells.split_last() else {
            return;
        };
        // Two columns with several lines are a layout; labels must stay on lines of their own.
        let is_layout = others.len() == 1 && others[0].len() > 1;
        let has_labels =
            |lines: &Vec<&str>| lines.len() > 1 && lines.iter().all(|line| line.contains(':'));
        if others.is_empty() || is_layout || cells.iter().any(has_labels) {
            return;
        }
        let lines: Vec<String> = cells.iter().map(|lines| lines.join(" ")).collect();
        let joined = lines.join("\t");
        self.out.truncate(words);
        self.out.push_str(&joined);
        self.linked.0 = 0;
    }

    fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }
}

/// Returns whether a tag is one of Word's and Outlook's, whose paragraphs have no space around them.
fn is_of_word(tag: Tag<'_>) -> bool {
    let is_class = |(name, value): (&str, &str)| {
        name.eq_ignore_ascii_case("class")
            && (value.starts_with("Mso") || value.starts_with("x_Mso"))
    };
    tag.attributes().any(is_class)
}

fn without_marks(line: &str, most: usize) -> &str {
    let mut line = line;
    for _ in 0..most {
        line = line.strip_prefix("> ").unwrap_or(line);
    }
    line
}

/// Returns whether a character is a space, or one of the soft hyphens, zero-width spaces and joiners that pad the previews
/// of newsletters.
fn is_filler(c: char) -> bool {
    c.is_whitespace()
        || matches!(
            c,
            '\u{ad}' | '\u{200b}' | '\u{34f}' | '\u{feff}' | '\u{2060}' | '\u{180e}'
        )
}

/// Returns whether a character joins or parts the letters beside it, or states their direction. Previews are also padded
/// with these.
fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}'..='\u{200f}')
}

fn is_file_name(text: &str) -> bool {
    let ending = text.rsplit('.').next().unwrap_or_default();
    !text.contains(' ')
        && ["png", "jpg", "jpeg", "gif", "bmp", "svg", "webp"]
            .iter()
            .any(|known| ending.eq_ignore_ascii_case(known))
        || text.starts_with("cid:")
        || text.starts_with("http")
}
