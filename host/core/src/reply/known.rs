//! Finds the text of earlier mails in a mail: such text is quoted, whatever the mailer made of it.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::labels::labelled;
use super::people::People;
use super::stamp::Stamp;
use super::{LONGEST_LINE, Lines, extract};
use crate::message::Message;

/// The number of words in a row that are looked for. In Chinese and Japanese a word is one character.
const RUN_WORDS: usize = 6;
/// A run at the end or the start of the mail is quoted from this many characters on. A person may repeat a short sentence on purpose.
const EDGE_CHARS: usize = 60;
/// The same below an attribution or a header block.
const HEADED_CHARS: usize = 8;
/// A run in the middle of the mail is quoted from this many characters on.
const MIDDLE_CHARS: usize = 160;
/// The most lines of an attribution or header block above a quote without quote marks.
const HEAD_LINES: usize = 8;

/// Returns the new text like [`new_words`](super::new_words), and without what stands in one of the earlier texts of its
/// conversation in a longer run, whatever its line breaks, quote marks and indentation. Takes time proportional to the length
/// of all texts.
pub fn new_words_knowing(message: &Message, earlier: &[&str]) -> String {
    let lines = Lines::of(&message.text);
    let words = words_of(&lines);
    let mut covered = vec![false; words.len()];
    let mut known = HashSet::new();
    for text in earlier {
        let text: Vec<u64> = words_of(&Lines::of(text))
            .iter()
            .map(|it| it.hash)
            .collect();
        known.extend(text.windows(RUN_WORDS).map(run_hash));
        if (2..RUN_WORDS).contains(&text.len()) {
            cover_whole(&words, &text, &mut covered);
        }
    }
    let hashes: Vec<u64> = words.iter().map(|word| word.hash).collect();
    for (at, run) in hashes.windows(RUN_WORDS).enumerate() {
        if known.contains(&run_hash(run)) {
            covered[at..at + RUN_WORDS].fill(true);
        }
    }
    let old = old_lines(&lines, &words, &covered, &People::of(message));
    if !old.contains(&true) {
        return message.reply.clone();
    }
    extract(message, Some(&old))
}

struct Word {
    line: usize,
    chars: usize,
    hash: u64,
}

fn hash_of(word: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    word.hash(&mut hasher);
    hasher.finish()
}

/// Returns the hash of words in a row.
fn run_hash(run: &[u64]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    run.iter().fold(0, |hash, word| {
        (hash.rotate_left(7) ^ word).wrapping_mul(ODD)
    })
}

fn words_of(lines: &Lines<'_>) -> Vec<Word> {
    let mut words = Vec::new();
    let mut word = String::new();
    for line in 0..lines.len() {
        let mut add = |word: &mut String| {
            if !word.is_empty() {
                words.push(Word {
                    line,
                    chars: word.chars().count(),
                    hash: hash_of(word),
                });
                word.clear();
            }
        };
        for c in lines.raw(line).chars() {
            if !c.is_alphanumeric() {
                add(&mut word);
                continue;
            }
            let ideograph = matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}');
            if ideograph {
                add(&mut word);
            }
            match c.is_ascii() {
                true => word.push(c.to_ascii_lowercase()),
                false => word.extend(c.to_lowercase()),
            }
            if ideograph {
                add(&mut word);
            }
        }
        add(&mut word);
    }
    words
}

/// Covers the places where a short text stands as whole lines.
fn cover_whole(words: &[Word], text: &[u64], covered: &mut [bool]) {
    for at in 0..words.len().saturating_sub(text.len() - 1) {
        let run = &words[at..at + text.len()];
        let begins = at == 0 || words[at - 1].line != run[0].line;
        let ends = words
            .get(at + text.len())
            .is_none_or(|next| next.line != run[run.len() - 1].line);
        if begins && ends && run.iter().zip(text).all(|(word, hash)| word.hash == *hash) {
            covered[at..at + text.len()].fill(true);
        }
    }
}

/// Returns, for each line, whether it is quoted: all of its words are covered, and so are its neighbours' over a long enough
/// stretch.
fn old_lines(
    lines: &Lines<'_>,
    words: &[Word],
    covered: &[bool],
    people: &People<'_>,
) -> Vec<bool> {
    // Lines without words belong to the stretch around them.
    let mut state: Vec<Option<bool>> = vec![None; lines.len()];
    let mut chars = vec![0; lines.len()];
    for (word, covered) in words.iter().zip(covered) {
        let is_old = state[word.line].unwrap_or(true) && *covered;
        state[word.line] = Some(is_old);
        chars[word.line] += word.chars;
    }
    let mut old = vec![false; lines.len()];
    let mut at = 0;
    let mut after_new = false;
    while at < lines.len() {
        if state[at] != Some(true) {
            after_new |= state[at].is_some();
            at += 1;
            continue;
        }
        let first = at;
        let mut last = at;
        let mut length = 0;
        while at < lines.len() && state[at] != Some(false) {
            if state[at].is_some() {
                last = at;
                length += chars[at];
            }
            at += 1;
        }
        let is_tail = at == lines.len();
        let head = head_above(lines, first, people);
        let enough = match (is_tail || !after_new, head) {
            (true, Some(_)) => HEADED_CHARS,
            (true, None) => EDGE_CHARS,
            (false, _) => MIDDLE_CHARS,
        };
        if length >= enough {
            old[head.unwrap_or(first)..=last].fill(true);
        }
    }
    old
}

/// Returns the first line of an attribution or a header block above a quote, of whatever form: a short paragraph with a date, or
/// with labels only.
fn head_above(lines: &Lines<'_>, quote: usize, people: &People<'_>) -> Option<usize> {
    let mut end = quote;
    while end > 0 && quote - end < 3 && lines.get(end - 1).is_empty() {
        end -= 1;
    }
    let mut first = end;
    while first > 0 && !lines.get(first - 1).is_empty() {
        first -= 1;
        if end - first > HEAD_LINES {
            return None;
        }
    }
    // The words of the sender come first: a mail of one paragraph is no head.
    if first == end || first == 0 {
        return None;
    }
    let mut text = String::new();
    for at in first..end {
        text.push_str(lines.get(at));
        text.push(' ');
    }
    if text.len() > LONGEST_LINE {
        return None;
    }
    let stamp = Stamp::of(&text);
    let labels = (first..end).filter(|at| labelled(lines.get(*at)).is_some());
    let labels = labels.count();
    let named = text.contains('@') || people.names(&text);
    let is_head = stamp.is_date() && (named || stamp.time)
        || labels >= 2 && labels == end - first && (named || stamp.is_any());
    is_head.then_some(first)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::new_words_knowing;
    use crate::parse::{ParseLimits, parse};

    const ASKED: &str = "Hello Nora,\n\nwe changed the fuser of the printer in hall 3 this morning and printed twenty pages.\n\
                         Can we close the ticket?\n\nLarch Helpdesk";

    fn reply(text: &str) -> String {
        let raw = format!(
            "From: Nora Weiss <nora.weiss@quill.example>\nTo: help@larch.example\nSubject: Re: [T-41] Printer\n\
             In-Reply-To: <note-41.7@larch.example>\nContent-Type: text/plain; charset=utf-8\n\n{text}\n"
        );
        let message = parse(&Bytes::from(raw), &ParseLimits::default(), &[]);
        new_words_knowing(&message, &["The printer jams.", ASKED])
    }

    #[test]
    fn known_text_is_quoted_whatever_its_dress() {
        let rewrapped = ASKED.replace(' ', "\n").replace("\n\n", "\n");
        let indented: String = ASKED.lines().map(|line| format!("    {line}\n")).collect();
        let starred: String = ASKED.lines().map(|line| format!("* {line} *\n")).collect();
        for (text, expected) in [
            (format!("Yes.\n\n{ASKED}"), "Yes."),
            (format!("Yes.\n\n{rewrapped}"), "Yes."),
            (format!("Yes.\n\n{indented}"), "Yes."),
            (format!("Yes.\n\n{starred}"), "Yes."),
            (
                format!("Yes.\n\nNork idatzi zuen 2024-03-11 9:02\n\n{ASKED}"),
                "Yes.",
            ),
            (
                format!("Yes.\n\nNork: Larch\nNori: Nora Weiss\n\n{ASKED}"),
                "Yes.",
            ),
            (format!("{ASKED}\n\nYes, close it."), "Yes, close it."),
            // A short earlier text needs an attribution above it.
            (
                "Yes.\n\nNora Weiss, 2024-03-10 8:00\nThe printer jams.".into(),
                "Yes.",
            ),
        ] {
            assert_eq!(reply(&text), expected, "{text}");
        }
    }

    #[test]
    fn what_a_person_repeats_stays() {
        for text in [
            "It happens again.\n\nThe printer jams.",
            "Can we close the ticket? Yes, we can.",
            "The printer jams.",
            "Larch Helpdesk\n\nthank you",
        ] {
            assert_eq!(reply(text), text);
        }
        // All of it is known: then it is kept.
        assert_eq!(reply(ASKED), ASKED);
    }

    #[test]
    fn long_known_texts_take_linear_time() {
        let text = "a b c d e f\n".repeat(40_000);
        let started = std::time::Instant::now();
        reply(&text);
        assert!(started.elapsed().as_secs() < 20);
    }
}
