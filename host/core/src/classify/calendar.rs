//! Tells an invitation, or the answer to one, from a mail in which a person also writes.

use std::collections::HashSet;

use crate::message::Message;

/// How much of a calendar part is read.
const PART_BYTES: usize = 64 * 1024;
/// How much of the text is searched for words.
const TEXT_BYTES: usize = 16 * 1024;
/// Fewer words than these are a program's.
const WORDS_MIN: usize = 4;

/// Returns the method of a mail's calendar part (RFC 5546), in capitals, if it asks or answers a person.
pub(super) fn method(mail: &Message) -> Option<String> {
    let stated = mail
        .calendar
        .as_ref()
        .map(|calendar| calendar.method.clone());
    let found = stated.or_else(|| property(&part(mail)?, "METHOD"));
    found
        .map(|method| method.to_ascii_uppercase())
        .filter(|method| {
            matches!(
                method.as_str(),
                "REQUEST" | "REPLY" | "CANCEL" | "COUNTER" | "DECLINECOUNTER" | "REFRESH" | "ADD"
            )
        })
}

/// Returns whether the mail says more than its calendar: the words that are left without labels, dates, links, and what
/// the event itself says.
pub(super) fn has_words(mail: &Message) -> bool {
    let known = known_words(mail);
    let mut words = 0;
    for line in mail.reply[..mail.reply.floor_char_boundary(TEXT_BYTES)].lines() {
        let line = line.trim();
        if line.chars().filter(|c| *c == '_').count() > 10 {
            // The block with which a meeting is joined.
            break;
        }
        if is_label(line) || line.contains("://") || is_date(line) {
            continue;
        }
        let own = split(line).filter(|word| word.chars().any(char::is_alphabetic));
        let (said, other): (Vec<_>, Vec<_>) = own.partition(|word| known.contains(word));
        if said.len() < other.len() || said.len() < 2 {
            words += other.iter().map(|word| weight(word)).sum::<usize>();
        }
    }
    words >= WORDS_MIN
}

fn known_words(mail: &Message) -> HashSet<String> {
    let mut text = mail.subject.clone();
    let mut add = |more: &str| {
        text.push(' ');
        text.push_str(more);
    };
    if let Some(calendar) = &mail.calendar {
        add(&calendar.summary);
        add(calendar.location.as_deref().unwrap_or(""));
    } else if let Some(part) = part(mail) {
        add(&property(&part, "SUMMARY").unwrap_or_default());
        add(&property(&part, "LOCATION").unwrap_or_default());
    }
    for address in mail.from.iter().chain(&mail.to) {
        add(address.name.as_deref().unwrap_or(""));
    }
    split(&text).collect()
}

/// Counts two signs as a word in scripts that write no spaces.
fn weight(word: &str) -> usize {
    let ideographs = word.chars().filter(|c| *c >= '\u{3040}').count();
    (ideographs / 2).max(1)
}

fn split(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

/// `When: Monday` is a label's line, as programs write them.
fn is_label(line: &str) -> bool {
    line.split_once([':', '：']).is_some_and(|(label, rest)| {
        !rest.trim().is_empty()
            && label.split_whitespace().count() <= 2
            && label.chars().count() <= 30
    })
}

fn is_date(line: &str) -> bool {
    let numbers = split(line)
        .filter(|word| word.chars().all(|c| c.is_ascii_digit()))
        .count();
    numbers >= 2 && split(line).count() <= 12
}

fn part(mail: &Message) -> Option<String> {
    let part = mail.attachments.iter().find(|part| {
        part.content_type == "text/calendar"
            || part.content_type == "application/ics"
            || part.name.to_ascii_lowercase().ends_with(".ics")
    })?;
    let head = &part.bytes[..part.bytes.len().min(PART_BYTES)];
    Some(
        String::from_utf8_lossy(head)
            .replace("\r\n", "\n")
            .replace("\n ", ""),
    )
}

fn property(part: &str, name: &str) -> Option<String> {
    part.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        let found = found.split(';').next().unwrap_or("");
        found
            .eq_ignore_ascii_case(name)
            .then(|| value.trim().to_owned())
    })
}
