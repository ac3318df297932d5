//! Copies of one mail: the same mail in two mailboxes, or directly and by a list, has a mark in common.
//!
//! A mark covers the Message-ID, the sender, the Date, the subject, the decoded text and the attachments: a mail that only repeats a
//! Message-ID is no copy. Whatever a relay adds is left out: Received, and of list mail the prefix of the subject and the footer.

use sha2::{Digest, Sha256};

use crate::decision::{Action, Decision, Outcome};
use crate::message::Message;
use crate::parse::SYNTHETIC;
use crate::raw::ContentHash;

/// The rule that a copy is decided by.
pub const COPIES_RULE: &str = "copies";
/// How long after a mail its copies are recognised. Lists hold mail for moderation.
pub const COPY_WINDOW_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// The headers that only list software adds.
const LIST_HEADERS: [&str; 3] = ["List-Id", "List-Post", "List-Unsubscribe"];
/// The most lines of a footer.
const FOOTER_LINES: usize = 15;
/// The shortest line of `_`, `-` or `=` that begins a footer.
const RULER_CHARS: usize = 10;

/// Returns the marks of a mail: one of the whole, and for list mail one without its footer. None if the mail has no Message-ID, no
/// sender or no Date: a device that sends the same alarm again sends another mail.
pub fn copy_marks(message: &Message) -> Vec<ContentHash> {
    let (Some(from), Some(date)) = (&message.from, &message.date) else {
        return Vec::new();
    };
    if message.message_id.ends_with(SYNTHETIC) {
        return Vec::new();
    }
    let mark = |text: &str| {
        let mut hash = Sha256::new();
        let mut add = |part: &[u8]| {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        };
        add(message.message_id.as_bytes());
        add(from.email.to_lowercase().as_bytes());
        add(date.as_bytes());
        add(without_prefix(&message.subject).as_bytes());
        add(text.trim().as_bytes());
        for attachment in &message.attachments {
            add(attachment.name.as_bytes());
            add(&attachment.bytes);
        }
        ContentHash(hash.finalize().into())
    };
    let mut marks = vec![mark(&message.text)];
    let is_list = LIST_HEADERS
        .iter()
        .any(|name| message.headers(name).next().is_some());
    if is_list && let Some(text) = without_footer(&message.text) {
        marks.push(mark(text));
    }
    marks
}

/// Returns the decision about a copy, linked to the decision about the first mail.
pub fn copy_decision(first: i64, version: &str, generation: u64) -> Decision {
    Decision {
        outcome: Outcome::Ignored,
        actions: vec![Action::Ignore {
            reason: format!("same mail as {first}"),
        }],
        refused: Vec::new(),
        rule: COPIES_RULE.to_owned(),
        rule_hash: version.to_owned(),
        generation,
        thread: None,
        classified: None,
        rules: Vec::new(),
        troubles: Vec::new(),
        repairs: Vec::new(),
        log: Vec::new(),
        elapsed_us: 0,
        decided_at: None,
        called_from: Vec::new(),
        provenance: Default::default(),
    }
}

/// Returns whether a mail of this outcome has copies. One that was ignored or quarantined must not hide another: nobody saw it.
pub fn hides_copies(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Ticket | Outcome::Note | Outcome::Alert => true,
        Outcome::Ignored | Outcome::Quarantined => false,
    }
}

/// Returns the subject without the names in brackets that lists put before it.
fn without_prefix(subject: &str) -> &str {
    let mut rest = subject.trim();
    while let Some(tail) = rest
        .strip_prefix('[')
        .and_then(|tail| tail.split_once(']'))
        .map(|(_, tail)| tail.trim_start())
    {
        rest = tail;
    }
    rest
}

/// Returns the text above the last ruler, if a short footer follows it.
fn without_footer(text: &str) -> Option<&str> {
    let text = text.trim_end();
    let mut end = text.len();
    for _ in 0..=FOOTER_LINES {
        let start = text[..end].rfind('\n').map_or(0, |at| at + 1);
        if is_ruler(&text[start..end]) {
            return Some(&text[..start]);
        }
        end = start.checked_sub(1)?;
    }
    None
}

fn is_ruler(line: &str) -> bool {
    let line = line.trim_end();
    let is_of = |c: char| line.chars().count() >= RULER_CHARS && line.chars().all(|it| it == c);
    line == "--" || ['_', '-', '='].into_iter().any(is_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn marks(mail: &str) -> Vec<ContentHash> {
        let bytes = mail.replace('\n', "\r\n").into_bytes();
        copy_marks(&parse(&bytes.into(), &Default::default(), &[]))
    }

    fn are_copies(one: &str, other: &str) -> bool {
        let (one, other) = (marks(one), marks(other));
        one.iter().any(|mark| other.contains(mark))
    }

    const DIRECT: &str = "Received: from a by b; Mon, 30 Nov 2026 10:00:01 +0000\nFrom: Ann <ann@acme.example>\nTo: support@msp.example\n\
        Date: Mon, 30 Nov 2026 10:00:00 +0000\nSubject: Printer\nMessage-ID: <1@acme.example>\n\nIt burns.\n\n--\nAnn\n";

    #[test]
    fn what_relays_and_lists_add_makes_no_other_mail() {
        let relayed = DIRECT
            .replace("from a by b", "from c by d")
            .replace("Ann <ann@", "\"A. Archer\" <Ann@");
        assert!(are_copies(DIRECT, &relayed));
        let listed = DIRECT.replace("Subject: ", "List-Id: <all.acme.example>\nSubject: [all] ")
            + "_______________________________________________\nall mailing list\nhttps://lists.acme.example/all\n";
        assert!(are_copies(DIRECT, &listed));
        assert!(are_copies(&listed, DIRECT));
        assert!(are_copies(&listed, &listed));
    }

    #[test]
    fn another_mail_with_the_same_message_id_is_no_copy() {
        for (from, to) in [
            ("It burns.", "It is cold."),
            ("Ann <ann@acme.example>", "Ann <ann@evil.example>"),
            ("10:00:00 +0000", "10:00:02 +0000"),
            ("Subject: Printer", "Subject: Scanner"),
            ("1@acme", "2@acme"),
            (
                "\nAnn\n",
                "\nAnn\n\n__________\nPlease pay to another account.\n",
            ),
        ] {
            let other = DIRECT.replace(from, to);
            assert_ne!(other, DIRECT);
            assert!(!are_copies(DIRECT, &other), "{to}");
        }
        for header in [
            "Message-ID: <1@acme.example>\n",
            "Date: Mon, 30 Nov 2026 10:00:00 +0000\n",
            "From: Ann <ann@acme.example>\n",
        ] {
            assert!(marks(&DIRECT.replace(header, "")).is_empty(), "{header}");
        }
    }
}
