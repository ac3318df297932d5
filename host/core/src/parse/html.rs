//! Converts HTML to text for mails without a text part: lines as a reader sees them, tabs between table cells, `> ` for
//! quotes.

use postroom_html::{Tag, Token};

/// The deepest quote level that is marked; deeper quotes get as many marks.
const MOST_QUOTE_MARKS: usize = 5;
/// The length of the longest element name that matters.
const LONGEST_NAME: usize = 10;
/// The rule that plain-text mailers write for `<hr>`.
const RULE: &str = "________________________________";

/// Returns the text of a page, cut near `most` bytes.
pub(crate) fn to_text(html: &str, most: usize) -> String {
    let mut writer = Writer {
        out: String::with_capacity((html.len() / 2).min(most)),
        ..Writer::default()
    };
    for token in postroom_html::tokens(html) {
        if writer.out.len() > most {
            break;
        }
        match token {
            Token::Text(text) => writer.text(text),
            Token::Tag(tag) => writer.tag(tag),
        }
    }
    writer.finish()
}

/// Moves one level in or out.
fn step(level: &mut usize, closing: bool) {
    *level = if closing {
        level.saturating_sub(1)
    } else {
        *level + 1
    };
}

#[derive(Default)]
struct Writer {
    out: String,
    /// Line ends due before the next word: 1 for a new line, 2 for an empty line in between.
    breaks: usize,
    space: bool,
    cell: bool,
    line_has_words: bool,
    quotes: usize,
    preformatted: usize,
}

impl Writer {
    fn tag(&mut self, tag: Tag<'_>) {
        let mut lowered = [0; LONGEST_NAME];
        let Some(name) = lowered.get_mut(..tag.name.len()) else {
            return;
        };
        name.copy_from_slice(tag.name.as_bytes());
        name.make_ascii_lowercase();
        match &*name {
            b"br" => self.hard_break(),
            b"p" | b"h1" | b"h2" | b"h3" | b"h4" | b"h5" | b"h6" | b"table" | b"ul" | b"ol" => {
                self.owe(2);
            }
            b"div" | b"tr" | b"section" | b"article" | b"header" | b"footer" | b"dl" | b"dt"
            | b"dd" | b"form" | b"center" => self.owe(1),
            b"td" | b"th" => self.cell |= tag.is_closing,
            b"li" => {
                self.owe(1);
                if !tag.is_closing {
                    self.word("-");
                    self.space = true;
                }
            }
            b"pre" => {
                self.owe(1);
                step(&mut self.preformatted, tag.is_closing);
            }
            b"blockquote" => {
                self.owe(1);
                step(&mut self.quotes, tag.is_closing);
            }
            b"hr" => {
                self.owe(1);
                self.word(RULE);
                self.owe(1);
            }
            _ => {}
        }
    }

    fn owe(&mut self, breaks: usize) {
        self.breaks = self.breaks.max(breaks);
        self.space = false;
        self.cell = false;
    }

    fn hard_break(&mut self) {
        // Two in a row make an empty line; more have no further effect.
        self.breaks = (self.breaks + 1).min(2);
        self.space = false;
        self.cell = false;
    }

    fn word(&mut self, word: &str) {
        if self.breaks > 0 {
            if !self.out.is_empty() {
                self.out.push('\n');
                if self.breaks > 1 {
                    self.marks();
                    self.out.truncate(self.out.trim_end_matches(' ').len());
                    self.out.push('\n');
                }
            }
            self.breaks = 0;
            self.line_has_words = false;
        }
        if !self.line_has_words {
            self.marks();
        } else if self.cell {
            self.out.push('\t');
        } else if self.space {
            self.out.push(' ');
        }
        self.line_has_words = true;
        self.space = false;
        self.cell = false;
        self.out.push_str(word);
    }

    fn marks(&mut self) {
        for _ in 0..self.quotes.min(MOST_QUOTE_MARKS) {
            self.out.push_str("> ");
        }
    }

    fn text(&mut self, text: &str) {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() {
            match bytes[at] {
                b'\n' if self.preformatted > 0 => {
                    self.hard_break();
                    at += 1;
                }
                b' ' if self.preformatted > 0 && self.line_has_words && self.breaks == 0 => {
                    self.out.push(' ');
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

    /// Writes a run without ASCII spaces; it may still contain other spaces and invisible fillers.
    fn decoded(&mut self, run: &str) {
        if run.is_ascii() && !run.trim().is_empty() {
            self.word(run);
            return;
        }
        for piece in run.split_inclusive(is_filler) {
            let word = piece.trim_end_matches(is_filler);
            if !word.is_empty() {
                self.word(word);
            }
            if piece.ends_with(|c: char| c.is_whitespace()) {
                self.space = true;
            }
        }
    }

    fn finish(mut self) -> String {
        self.out.truncate(self.out.trim_end().len());
        self.out
    }
}

/// Returns whether a character is a space, or one of the soft hyphens, zero-width spaces and joiners that pad the previews
/// of newsletters.
fn is_filler(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{ad}' | '\u{200b}' | '\u{34f}' | '\u{feff}')
}
