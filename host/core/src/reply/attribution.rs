//! Attributions: the one to four lines with an author and a date that stand above a quote, such as "On … wrote:".

use super::labels::is_dress;
use super::people::People;
use super::phrases::{ATTRIBUTION_STARTS, has_verb, is_verb_at_end};
use super::stamp::{Stamp, is_digit};
use super::{LONGEST_LINE, Lines};
use crate::fold::{folded, starts_with_any};

/// The most lines that one attribution may be wrapped over.
const ATTRIBUTION_LINES: usize = 4;
/// The longest attribution without a date and an address, such as `Anna Hill wrote:`, in bytes.
const PLAIN_BYTES: usize = 100;

/// Lines that state an author and a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attribution {
    pub first: usize,
    /// The line below it.
    pub after: usize,
    /// Whether it has a date with its year, and an author: programs write these, people rarely do.
    pub sure: bool,
    /// Whether only the author and a verb are known. Counts only in a reply, directly above a quote.
    pub plain: bool,
    /// The bytes of the first line that are the sender's own.
    pub head: Option<usize>,
}

/// Returns the attribution whose last line is at `last`. Looks at this line and the three above it.
pub(super) fn ending_at(
    lines: &Lines<'_>,
    last: usize,
    people: &People<'_>,
) -> Option<Attribution> {
    let line = lines.get(last).trim_end_matches(is_dress);
    let colon = line.ends_with([':', '：']) || ends_with_verb(line);
    // Most lines end here.
    if line.len() > LONGEST_LINE || !colon && !line.contains('@') && !line.contains(is_digit) {
        return None;
    }
    let above_quote = lines
        .next_full(last + 1)
        .is_some_and(|next| next <= last + 3 && lines.is_quoted(next) && !is_tail(lines.get(next)));
    if !colon && !above_quote {
        return None;
    }
    let mut joined = String::new();
    let mut found = None;
    let mut blank = false;
    for first in (last.saturating_sub(ATTRIBUTION_LINES)..=last).rev() {
        let above = lines.get(first);
        // A link in the author's name may be set apart: the bracket that opens it begins a paragraph.
        if above.is_empty() && !blank && first < last && lines.get(first + 1).starts_with('<') {
            blank = true;
            continue;
        }
        if last - first >= ATTRIBUTION_LINES && !blank {
            break;
        }
        let is_tail = first == last && above.starts_with('>');
        if above.is_empty()
            || above.starts_with('>') && !is_tail
            || joined.len() + above.len() > LONGEST_LINE
        {
            break;
        }
        joined = match joined.is_empty() {
            true => above.to_owned(),
            false => format!("{above} {joined}"),
        };
        let evidence = Evidence::of(&joined, colon && above_quote, people);
        if evidence.is_full(colon, above_quote) {
            found = Some((first, evidence));
            break;
        }
        if found.is_none() && evidence.is_partial(colon, above_quote) {
            found = Some((first, evidence));
        }
    }
    let (mut first, evidence) = found?;
    let head = shared_head(lines.get(first));
    // The start of a long one may be left on the line above, such as "On Monday,".
    if first > 0
        && head.is_none()
        && last - first + 1 < ATTRIBUTION_LINES
        && !starts_with_any(lines.get(first), ATTRIBUTION_STARTS)
        && starts_with_any(lines.get(first - 1), ATTRIBUTION_STARTS)
        && !lines.get(first - 1).ends_with(['.', '!', '?', ':'])
    {
        first -= 1;
    }
    let begins = first == 0 || lines.get(first - 1).is_empty();
    if evidence.is_plain() && (!begins || first != last || line.len() > PLAIN_BYTES) {
        return None;
    }
    Some(Attribution {
        first,
        after: last + 1,
        sure: evidence.is_sure(colon),
        plain: evidence.is_plain(),
        head,
    })
}

/// Returns the length of the sender's words that share a line with the start of an attribution: `Thanks. On Mon, 11 March …`.
fn shared_head(line: &str) -> Option<usize> {
    const STARTS: [&str; 6] = [" On ", "-On ", " Am ", " Le ", " El ", " Op "];
    /// The digits of the day follow a start and a day's name.
    const DAY_BYTES: usize = 16;
    if starts_with_any(line, ATTRIBUTION_STARTS) {
        return None;
    }
    let at = STARTS.iter().filter_map(|start| line.find(start)).min()?;
    let (head, rest) = line.split_at(at);
    let day = rest
        .bytes()
        .skip(4)
        .take(DAY_BYTES)
        .any(|b| b.is_ascii_digit());
    let head = head.trim_end_matches(['-', ' ']);
    let is_words = head.contains(char::is_alphanumeric)
        && !head.contains(['@', '<'])
        && !head.contains(is_digit);
    (day && is_words && Stamp::of(rest).is_date()).then_some(head.len())
}

/// Returns whether a line ends an attribution that lost its colon: `On … Anna Hill <anna@a.example> wrote`.
fn ends_with_verb(line: &str) -> bool {
    let lower = || -> String { folded(line).collect() };
    line.contains('@') && line.ends_with(char::is_alphabetic) && is_verb_at_end(&lower())
}

/// Returns whether a line with a quote mark is the end of an attribution, whose address has a bracket there: `>:`.
fn is_tail(line: &str) -> bool {
    const TAIL_BYTES: usize = 24;
    line.len() <= TAIL_BYTES && line.starts_with('>') && line.ends_with([':', '：'])
}

/// The evidence in the lines of a candidate.
struct Evidence {
    stamp: Stamp,
    digits: bool,
    address: bool,
    verb: bool,
    start: bool,
    peer: bool,
}

impl Evidence {
    /// Reads a candidate. Without a date, verbs and people matter only if `undated_counts`.
    fn of(joined: &str, undated_counts: bool, people: &People<'_>) -> Self {
        let digits = joined.contains(is_digit);
        let stamp = match digits {
            true => Stamp::of(joined),
            false => Stamp::default(),
        };
        let matters = undated_counts || stamp.is_date();
        Self {
            stamp,
            digits,
            address: joined.contains('@'),
            verb: matters && has_verb(&folded(joined).collect::<String>()),
            start: matters && starts_with_any(joined, ATTRIBUTION_STARTS),
            peer: matters && people.names(joined),
        }
    }

    fn author(&self) -> bool {
        self.address || self.verb || self.peer
    }

    fn is_full(&self, colon: bool, above_quote: bool) -> bool {
        let dated = self.stamp.is_date();
        match (colon, above_quote) {
            // A date and a time right above a quote, in any language.
            (true, true) => dated && (self.author() || self.stamp.time),
            (true, false) => dated && self.author(),
            (false, true) => dated && (self.address || self.verb && self.stamp.time),
            (false, false) => false,
        }
    }

    fn is_partial(&self, colon: bool, above_quote: bool) -> bool {
        colon && above_quote && (self.verb || self.address && self.digits)
    }

    fn is_plain(&self) -> bool {
        !(self.address || self.stamp.is_any() || self.start && self.digits)
    }

    fn is_sure(&self, colon: bool) -> bool {
        let dated = self.stamp.is_date();
        let written = dated && self.stamp.time && self.address && (self.verb || self.peer);
        colon
            && (written
                || dated && self.start && self.verb && (self.stamp.time || self.address)
                || dated && self.address && self.peer)
    }
}
