//! The people and the subject of a mail, which a header block above a quote repeats.

use crate::fold::{folded_eq, without_tags};
use crate::message::{Address, Message};

/// The most addresses of a mail that are looked for in header blocks.
const ADDRESSES: usize = 32;
/// A shorter name or subject is found in too many lines to prove anything.
const SHORTEST: usize = 4;

/// The sender, the recipients and the subject of the mail that is read.
#[derive(Default)]
pub(crate) struct People<'a> {
    /// In lower case: addresses and full names.
    names: Vec<String>,
    /// The addresses of its recipients, in lower case.
    recipients: Vec<String>,
    subject: &'a str,
}

impl<'a> People<'a> {
    pub fn of(message: &'a Message) -> Self {
        let recipients = message.to.iter().chain(&message.cc);
        let all = message
            .from
            .iter()
            .chain(&message.reply_to)
            .chain(recipients.clone())
            .take(ADDRESSES);
        let mut names = Vec::new();
        for Address { name, email } in all {
            names.push(email.to_lowercase());
            let name = name.as_deref().unwrap_or_default().trim();
            if name.len() >= SHORTEST && name.contains(' ') {
                names.push(name.to_lowercase());
            }
        }
        Self {
            names,
            recipients: recipients
                .take(ADDRESSES)
                .map(|it| it.email.to_lowercase())
                .collect(),
            subject: bare(&message.subject),
        }
    }

    /// Returns whether a value holds an address or the full name of somebody who takes part in this mail.
    pub fn names(&self, value: &str) -> bool {
        let value = value.to_lowercase();
        self.names.iter().any(|name| value.contains(name.as_str()))
    }

    /// Returns whether a value holds the address of one of the mail's recipients.
    pub fn is_recipient(&self, value: &str) -> bool {
        let value = value.to_lowercase();
        let mut known = self.recipients.iter();
        known.any(|email| value.contains(email.as_str()))
    }

    /// Returns whether a value is the subject of this mail, whatever prefixes either has.
    pub fn is_subject(&self, value: &str) -> bool {
        self.subject.len() >= SHORTEST && folded_eq(bare(value), self.subject)
    }
}

/// Returns a subject without tags and without prefixes such as `Re:`, `Fwd:` and `RE[2]:`.
fn bare(subject: &str) -> &str {
    const LONGEST_PREFIX: usize = 16;
    let mut rest = without_tags(subject).trim();
    while let Some(at) = rest.find([':', '：'])
        && at <= LONGEST_PREFIX
        && rest[..at].chars().filter(|c| c.is_alphabetic()).count() <= 5
        && !rest[..at].contains(' ')
    {
        let sign = rest[at..].chars().next().map_or(1, char::len_utf8);
        let next = without_tags(&rest[at + sign..]).trim();
        if next.is_empty() {
            break;
        }
        rest = next;
    }
    rest
}
