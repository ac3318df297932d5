//! Extracts the new text of a mail: without the quoted history and the signature. In doubt, more is kept.
//!
//! History is recognised by its structure: quote marks, attributions, header blocks, the mailer's own HTML, and the text of the mail
//! that is answered. Lists of words only help where the structure alone would not decide.

mod attribution;
mod known;
pub(crate) mod labels;
mod markup;
pub(crate) mod people;
pub(crate) mod phrases;
pub(crate) mod prefix;
mod signature;
mod stamp;

use std::cell::Cell;
use std::ops::Range;

use crate::message::Message;
use attribution::Attribution;
use labels::{Block, block, is_rule};
use people::People;
use phrases::{between_dashes, has_verb, is_foreign_delimiter, is_forward_line, is_original};
use prefix::{Prefix, prefix};
use stamp::Stamp;

pub use known::new_words_knowing;
pub use markup::reply_html;

/// The line that outgoing mails have above the history; in a reply, everything from this line on is old.
pub const DELIMITER: &str = "## reply above this line ##";

/// The longest line that is examined, in bytes. Longer ones are prose.
const LONGEST_LINE: usize = 400;
/// The most places of a text that are examined for a header block: labelled lines with a number near them. Behind them, a text is
/// a table, and a header block in it is not recognised.
const BLOCKS_EXAMINED: usize = 20_000;
/// The most lines of the question that is kept above an answer between quotes.
const QUESTION_LINES: usize = 4;

/// Returns the sender's new text. Keeps the whole text of a forwarded mail, since that is what it is about. The result is
/// empty only if the text is. Reads `text`, `html`, `subject`, `references` and the addresses of the message.
pub fn new_words(message: &Message) -> String {
    extract(message, None)
}

/// Returns the new text of a plain text without headers. `is_reply` means that it answers another mail.
pub fn new_words_of_text(text: &str, is_reply: bool) -> String {
    let lines = Lines::of(text);
    let kept = kept(&lines, is_reply, &People::default(), None, false, None);
    joined(&lines, &kept)
}

/// `old` has a flag for each line of the text: true if it stands in an earlier mail.
fn extract(message: &Message, old: Option<&[bool]>) -> String {
    let text = message.text.as_str();
    let people = People::of(message);
    let lines = Lines::of(text);
    let is_reply = match prefix(&message.subject) {
        Prefix::Forward => return text.trim().to_owned(),
        Prefix::Reply => true,
        Prefix::None => !message.references.is_empty() || quotes_recipient(&lines, &people),
        Prefix::Vs => match vs_forwards(&lines, &people) {
            Some(true) => return text.trim().to_owned(),
            Some(false) => true,
            None => !message.references.is_empty(),
        },
    };
    let boundary = match &message.html {
        Some(html) if is_reply => markup::boundary(html, &lines),
        _ => None,
    };
    let own_quotes =
        boundary.is_none() && message.html.as_deref().is_some_and(markup::has_own_quotes);
    joined(
        &lines,
        &kept(&lines, is_reply, &people, boundary, own_quotes, old),
    )
}

/// Returns whether `VS:` means a forward, by the language of the first header block; `None` without a block. A block whose
/// sender is the recipient of this mail quotes the recipient, whatever its language.
fn vs_forwards(lines: &Lines<'_>, people: &People<'_>) -> Option<bool> {
    let found = (0..lines.len())
        .find_map(|at| block(lines, at, false, people).filter(Block::is_certain))?;
    let from = found.first(labels::Role::From);
    if from.is_some_and(|from| people.is_recipient(&from.value)) {
        return Some(false);
    }
    match found.language {
        Some("fi" | "et") => Some(false),
        Some("da") => Some(true),
        _ => None,
    }
}

/// Returns whether a header block names the recipient of this mail as the sender of what stands below it: then this mail answers it,
/// though it has no header that says so.
fn quotes_recipient(lines: &Lines<'_>, people: &People<'_>) -> bool {
    (0..lines.len())
        .filter(|at| lines.get(*at).contains('@'))
        .filter_map(|at| block(lines, at, false, people))
        .any(|found| {
            let from = found.first(labels::Role::From);
            found.is_certain() && from.is_some_and(|from| people.is_recipient(&from.value))
        })
}

/// Returns the kept lines as one text, or all of it if they have no words. A line is kept up to its offset.
fn joined(lines: &Lines<'_>, kept: &Kept) -> String {
    let mut out = String::with_capacity(lines.text.len());
    let mut last: Option<usize> = None;
    for index in kept.lines.iter().copied() {
        // What was cut out between two blank lines leaves one of them.
        let is_gap = last.is_some_and(|last| last + 1 < index && lines.get(last).is_empty());
        last = Some(index);
        if is_gap && lines.get(index).is_empty() {
            continue;
        }
        match kept.head {
            Some((shared, bytes)) if shared == index => out.push_str(&lines.get(index)[..bytes]),
            _ => out.push_str(lines.raw(index)),
        }
        out.push('\n');
    }
    let words = out.trim();
    if words.is_empty() {
        lines.text.trim()
    } else {
        words
    }
    .to_owned()
}

/// The lines of a reply.
struct Kept {
    lines: Vec<usize>,
    /// The last line, if only its first bytes are kept: an attribution follows on it.
    head: Option<(usize, usize)>,
}

/// Returns the lines of the reply: the sender's words, and above each answer between quotes the question that it answers.
fn kept(
    lines: &Lines<'_>,
    is_reply: bool,
    people: &People<'_>,
    boundary: Option<usize>,
    own_quotes: bool,
    old: Option<&[bool]>,
) -> Kept {
    let mut reader = Reader {
        lines,
        people,
        is_reply,
        boundary,
        own_quotes,
        old,
        parts: Vec::with_capacity(lines.len()),
        words: 0,
        attributed: false,
        bars: None,
    };
    reader.read();
    let parts = reader.parts;
    let inline = is_inline(&parts);
    let mut kept = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        match part {
            Part::Blank | Part::Word | Part::Head(_) => {
                let after_quote = index > 0
                    && matches!(part, Part::Word)
                    && inline
                    && !matches!(parts[index - 1], Part::Word);
                if after_quote {
                    question(lines, &parts, index, &mut kept);
                }
                kept.push(index);
            }
            Part::Quote | Part::Cut => {}
        }
    }
    signature::cut(lines, &mut kept);
    // A question whose answer was the signature.
    while inline
        && kept
            .last()
            .is_some_and(|last| matches!(parts[*last], Part::Quote) || lines.get(*last).is_empty())
    {
        kept.pop();
    }
    let head = parts.iter().enumerate().find_map(|(at, part)| match part {
        Part::Head(bytes) => Some((at, *bytes)),
        _ => None,
    });
    Kept { lines: kept, head }
}

/// The part of a mail that a line belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Blank,
    Word,
    Quote,
    /// An attribution, a header block, or history.
    Cut,
    /// An attribution whose first bytes are the sender's words.
    Head(usize),
}

/// Returns whether there are words between two quotes.
fn is_inline(parts: &[Part]) -> bool {
    let mut full = parts
        .iter()
        .filter(|part| matches!(part, Part::Word | Part::Head(_) | Part::Quote))
        .skip_while(|part| **part != Part::Quote)
        .skip_while(|part| **part == Part::Quote);
    full.any(|part| *part == Part::Quote)
}

/// Keeps the last paragraph of the quote above the answer at `answer`.
fn question(lines: &Lines<'_>, parts: &[Part], answer: usize, kept: &mut Vec<usize>) {
    let mut at = answer;
    let empty = |at: usize| lines.get(at).trim_matches(['>', '|', ' ']).is_empty();
    while at > 0 && (parts[at - 1] == Part::Blank || parts[at - 1] == Part::Quote && empty(at - 1))
    {
        at -= 1;
    }
    let end = at;
    if end == 0 || parts[end - 1] != Part::Quote {
        return;
    }
    let depth = |at: usize| quote_depth(lines.get(at));
    while at > 0
        && end - at < QUESTION_LINES
        && parts[at - 1] == Part::Quote
        && !empty(at - 1)
        && depth(at - 1) == depth(end - 1)
    {
        at -= 1;
    }
    // The blank lines between question and answer were kept already; the question stands above them.
    let blanks = kept.iter().rev().take_while(|index| **index >= end).count();
    let below = kept.split_off(kept.len() - blanks);
    kept.extend(at..end);
    kept.extend(below);
}

fn quote_depth(line: &str) -> usize {
    let marks = line.chars().take_while(|c| matches!(c, '>' | ' ' | '|'));
    marks.filter(|c| *c != ' ').count()
}

pub(crate) struct Lines<'a> {
    text: &'a str,
    spans: Vec<Range<usize>>,
    /// How many places were examined for a header block.
    examined: Cell<usize>,
}

impl<'a> Lines<'a> {
    pub fn of(text: &'a str) -> Self {
        let mut spans = Vec::with_capacity(text.len() / 40 + 1);
        let mut from = 0;
        for end in memchr::memchr_iter(b'\n', text.as_bytes()) {
            spans.push(from..end);
            from = end + 1;
        }
        spans.push(from..text.len());
        Self {
            text,
            spans,
            examined: Cell::new(0),
        }
    }

    /// Returns whether another place may be examined for a header block.
    fn may_hold_a_block(&self) -> bool {
        self.examined.set(self.examined.get() + 1);
        self.examined.get() <= BLOCKS_EXAMINED
    }

    pub fn len(&self) -> usize {
        self.spans.len()
    }

    pub fn raw(&self, index: usize) -> &'a str {
        &self.text[self.spans[index].clone()]
    }

    /// Returns the line without surrounding spaces; empty past the end.
    pub fn get(&self, index: usize) -> &'a str {
        match self.spans.get(index) {
            Some(span) => self.text[span.clone()].trim(),
            None => "",
        }
    }

    /// Returns the first full line at `index` or within `BLANKS` lines below it; a longer gap is the end of the text or no
    /// neighbourhood.
    pub fn next_full(&self, index: usize) -> Option<usize> {
        const BLANKS: usize = 50;
        (index..self.len().min(index + BLANKS)).find(|at| !self.get(*at).is_empty())
    }

    /// Returns the text from a line on.
    pub fn text_from(&self, index: usize) -> &'a str {
        self.spans
            .get(index)
            .map_or("", |span| &self.text[span.start..])
    }

    pub fn is_quoted(&self, index: usize) -> bool {
        self.get(index).starts_with(['>', '＞'])
    }
}

/// Reads the lines from the top. A mail that is not a reply may be a form, a log or a forwarded mail under another subject: in
/// it, only quotes below an attribution are history.
struct Reader<'r, 'a> {
    lines: &'r Lines<'a>,
    people: &'r People<'r>,
    is_reply: bool,
    /// The line from which the mailer's HTML marks the text as quoted.
    boundary: Option<usize>,
    /// Whether the sender made the quotes of the HTML, so that only those below an attribution are history.
    own_quotes: bool,
    old: Option<&'r [bool]>,
    parts: Vec<Part>,
    /// How many lines are the sender's words so far.
    words: usize,
    attributed: bool,
    /// The line from which a `|` at the start of a line is a quote mark.
    bars: Option<usize>,
}

impl Reader<'_, '_> {
    fn read(&mut self) {
        let lines = self.lines;
        // Quotes at the end count as history even without an attribution.
        let mut trailing = lines.len();
        while self.is_reply
            && !self.own_quotes
            && trailing > 0
            && (lines.is_quoted(trailing - 1) || lines.get(trailing - 1).is_empty())
        {
            trailing -= 1;
        }
        while self.parts.len() < lines.len() {
            let at = self.parts.len();
            let line = lines.get(at);
            if self.boundary == Some(at) && self.words > 0 {
                self.retract();
                self.cut_rest();
                return;
            }
            if self.old.is_some_and(|old| old[at]) {
                self.parts.push(Part::Cut);
                continue;
            }
            if line.is_empty() || line.len() > LONGEST_LINE {
                self.push(if line.is_empty() {
                    Part::Blank
                } else {
                    Part::Word
                });
                continue;
            }
            if is_delimiter(line) && self.words == 0 && line.starts_with('>') {
                // The answer may stand below the quote.
                self.attributed = true;
                self.push(Part::Quote);
                continue;
            }
            if is_delimiter(line) || self.is_reply && self.words > 0 && is_foreign_delimiter(line) {
                self.retract_history_head();
                self.cut_rest();
                return;
            }
            if self.is_quote(at) {
                if self.quote(at, trailing) {
                    return;
                }
                continue;
            }
            if is_forward_line(line) {
                self.keep_rest();
                return;
            }
            if self.is_reply && self.history(at) {
                return;
            }
            if self.parts.len() > at {
                continue;
            }
            if self.attributed && self.is_torn_quote(at) {
                self.push(Part::Quote);
                continue;
            }
            if self.attribution(at) {
                return;
            }
        }
    }

    fn push(&mut self, part: Part) {
        self.words += usize::from(part == Part::Word);
        self.parts.push(part);
    }

    fn keep_rest(&mut self) {
        self.parts.resize(self.lines.len(), Part::Word);
    }

    fn cut_rest(&mut self) {
        self.parts.resize(self.lines.len(), Part::Cut);
    }

    /// Marks the lines up to `end` as cut.
    fn cut_to(&mut self, end: usize) {
        let end = end.min(self.lines.len());
        if end > self.parts.len() {
            self.parts.resize(end, Part::Cut);
        }
    }

    /// Marks the lines from `first` on, which were taken for words, as cut.
    fn cut_from(&mut self, first: usize) {
        for part in self.parts.iter_mut().skip(first) {
            self.words -= usize::from(matches!(part, Part::Word | Part::Head(_)));
            *part = Part::Cut;
        }
    }

    fn cut_attribution(&mut self, found: &Attribution) {
        self.cut_from(found.first);
        self.cut_to(found.after);
        if let Some(bytes) = found.head {
            self.parts[found.first] = Part::Head(bytes);
            self.words += 1;
        }
    }

    fn is_quote(&self, at: usize) -> bool {
        let line = self.lines.get(at);
        self.lines.is_quoted(at)
            || self.bars.is_some_and(|from| at >= from) && line.starts_with('|')
    }

    /// Reads a line with a quote mark. Returns true if the rest is dealt with.
    fn quote(&mut self, at: usize, trailing: usize) -> bool {
        let line = self.lines.get(at);
        let inner = line.trim_start_matches(['>', '＞', ' ']);
        // Apple's mailers quote the mails that they forward.
        if !self.attributed && is_forward_line(inner) {
            self.keep_rest();
            return true;
        }
        // The last line of an attribution may begin with the bracket of its address: `>:`.
        if line.ends_with([':', '：'])
            && at > 0
            && self.parts[at - 1] == Part::Word
            && self.attribution(at)
        {
            return true;
        }
        if self.parts.len() > at {
            return false;
        }
        // GroupWise writes `>>> Name <address> 11.03.24 9:02 >>>` above a text without marks.
        if self.is_reply
            && line.starts_with(">>> ")
            && (line.ends_with(">>>") || line.ends_with(':'))
        {
            let next = self.lines.next_full(at + 1);
            if Stamp::of(line).is_date()
                && next.is_some_and(|next| !self.lines.is_quoted(next))
                && self.words > 0
            {
                self.cut_rest();
                return true;
            }
        }
        let is_history = self.attributed || at >= trailing;
        self.push(if is_history { Part::Quote } else { Part::Word });
        false
    }

    /// Returns whether a line without a mark is the rest of a quoted link: it closes a bracket that the quote above it opened, or
    /// is a link between quotes.
    fn is_torn_quote(&self, at: usize) -> bool {
        if at == 0 || self.parts[at - 1] != Part::Quote {
            return false;
        }
        let (above, line) = (self.lines.get(at - 1), self.lines.get(at));
        let opens = |open: char, close: char| {
            above.rfind(open) > above.rfind(close) && line.contains(close) && !line.contains(open)
        };
        let is_link = line.starts_with("(http") || line.starts_with("<http");
        let words = line.split_whitespace().filter(|word| *word != ">").count();
        words == 1
            && (opens('(', ')')
                || opens('<', '>') && above.len() > 1
                || is_link && self.lines.is_quoted(at + 1))
    }

    /// Reads what may be a header block, or a line such as `-----Original Message-----`. Returns true if the rest is dealt
    /// with.
    fn history(&mut self, at: usize) -> bool {
        let lines = self.lines;
        let line = lines.get(at);
        let dashed = between_dashes(line);
        let next = lines.next_full(at + 1).filter(|next| *next <= at + 3);
        // The sender's own text may have `--- headings ---`: only known words count as a sign of history.
        let ruled = dashed.is_some_and(is_original) || is_original(line);
        let found = match ruled || dashed.is_some() || is_rule(line) {
            true => next.and_then(|next| block(lines, next, ruled, self.people)),
            false => block(lines, at, false, self.people),
        };
        let found = found.filter(Block::is_certain);
        let is_original_line = dashed.is_some_and(|words| {
            is_original(words) || has_verb(&words.to_lowercase()) && line.ends_with('-')
        });
        if found.is_none() && !is_original_line {
            return false;
        }
        let head = found.as_ref().map_or(at + 1, |found| found.after);
        // If the quoted mail has quote marks too, answers may be between them.
        if let Some(body) = lines.next_full(head)
            && lines.is_quoted(body)
        {
            self.attributed = true;
            self.cut_to(body);
            return false;
        }
        if self.words == 0 {
            // The history comes first: the text below it may be the answer.
            self.keep_rest();
        } else {
            self.retract();
            self.cut_rest();
        }
        true
    }

    /// Reads a line that may end an attribution, else takes it for words. Returns true if the rest is dealt with.
    fn attribution(&mut self, at: usize) -> bool {
        let lines = self.lines;
        let is_quote = self.is_quote(at);
        let found = attribution::ending_at(lines, at, self.people)
            .filter(|found| self.is_reply || !found.plain)
            .filter(|found| {
                let parts = &self.parts[found.first.min(at)..];
                parts
                    .iter()
                    .all(|part| matches!(part, Part::Word | Part::Blank))
            });
        let Some(found) = found else {
            if !is_quote {
                self.push(Part::Word);
            }
            return false;
        };
        let above = self.words
            - self.parts[found.first..]
                .iter()
                .filter(|part| **part == Part::Word)
                .count()
            + usize::from(found.head.is_some());
        let next = lines.next_full(found.after);
        let barred = next.is_some_and(|next| {
            lines.get(next).starts_with('|') && lines.get(next + 1).starts_with('|')
        });
        if barred && self.is_reply {
            self.bars = next;
        }
        match next {
            Some(next) if lines.is_quoted(next) || self.bars == Some(next) => {
                self.attributed = true;
                self.cut_attribution(&found);
            }
            None if found.sure => {
                self.cut_attribution(&found);
                self.cut_rest();
                return true;
            }
            Some(_) if self.is_reply && above > 0 && found.sure => {
                self.cut_attribution(&found);
                self.cut_rest();
                return true;
            }
            _ if is_quote => {}
            _ => self.push(Part::Word),
        }
        false
    }

    /// Cuts the rules and lines such as `Original Message` at the end of what was read.
    fn retract(&mut self) {
        let mut from = self.parts.len();
        while from > 0 {
            let line = self.lines.get(from - 1);
            let is_head =
                is_rule(line) || is_original(line) || between_dashes(line).is_some_and(is_original);
            if !line.is_empty() && !is_head {
                break;
            }
            from -= 1;
        }
        self.cut_from(from);
    }

    /// Cuts an attribution or a header block at the end of what was read, in whatever language: they stand right above a
    /// delimiter.
    fn retract_history_head(&mut self) {
        const HEAD_LINES: usize = 12;
        self.retract();
        let end = self.parts.iter().rposition(|part| *part == Part::Word);
        let Some(last) = end else {
            return;
        };
        let line = self.lines.get(last);
        if line.ends_with([':', '：']) && line.contains(stamp::is_digit) {
            let found = attribution::ending_at(self.lines, last, self.people);
            self.cut_from(found.map_or(last, |found| found.first));
            return;
        }
        let mut first = last;
        while first > 0 && last - first < HEAD_LINES && self.parts[first - 1] == Part::Word {
            first -= 1;
        }
        let certain = |at: usize| {
            block(self.lines, at, true, self.people)
                .is_some_and(|found| found.is_certain() && found.after > last)
        };
        if let Some(at) = (first..last).find(|at| certain(*at)) {
            self.cut_from(at);
            self.retract();
        }
    }
}

fn is_delimiter(line: &str) -> bool {
    let line = line.trim_matches(|c: char| c == '>' || c == '*' || c.is_whitespace());
    line.get(..DELIMITER.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(DELIMITER))
}

#[cfg(test)]
mod tests {
    use super::new_words_of_text;

    #[test]
    fn plain_text_is_kept_whole() {
        for text in [
            "Hello,\n\nthe printer is broken.\n\nAnna",
            "> net use shows nothing\nany idea?",
            "From: the cellar\nto the roof, all is wet",
            "On Monday I wrote:\nnothing came back",
            "--\nall below the line",
            "> only a quote",
        ] {
            assert_eq!(new_words_of_text(text, false), text);
        }
        assert_eq!(new_words_of_text("  \n", false), "");
    }

    #[test]
    fn long_odd_texts_take_linear_time() {
        for line in [
            "On ",
            "On 1 wrote\n",
            "On 11.03.2024 9:02 a@b wrote:\n",
            "On 11.03.2024 9:02\n",
            ">\n",
            ">:\n",
            "From: \n",
            "From: 1:22\n",
            "a: 1\n\n",
            "--\n",
            "-----\n",
            "> >",
            "a:",
            "\n",
            "a\n\n\n\n\n\n\n\n\n\n",
            "11.",
        ] {
            let text = line.repeat(1_000_000 / line.len());
            let started = std::time::Instant::now();
            new_words_of_text(&text, true);
            // Far below the time of quadratic work, even without optimisation on a busy machine.
            assert!(started.elapsed().as_secs() < 20, "{line:?}");
        }
    }
}
