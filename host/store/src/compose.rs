//! Writes out what leaves the house: the events that sinks receive and the mails that answer or forward one.

use postroom_core::parse::SYNTHETIC;
use postroom_core::{Address, Reply};
use serde::{Deserialize, Serialize};

use crate::commit::MailFacts;
use crate::ids::{DecisionId, JournalId, rfc3339};
use crate::items::ItemRow;

/// Message-IDs in one References header at most (RFC 5322 section 3.6.4 lets the middle be dropped).
const REFERENCES: usize = 20;
/// Characters of a subject at most.
const SUBJECT_CHARS: usize = 200;

/// Why a mail leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailKind {
    Reply,
    Forward,
}

/// The payload of an outbox entry of kind [`crate::OutboxKind::Mail`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutgoingMailPayload {
    pub kind: MailKind,
    /// The mail it answers or forwards; [`crate::Reader::raw`] has the bytes.
    pub journal: JournalId,
    pub to: Vec<Address>,
    /// A reply's names its ticket once, as `[T-12]`.
    pub subject: String,
    /// Empty in a forward, which carries the original.
    pub text: String,
    pub html: Option<String>,
    /// Without angle brackets, as are all Message-IDs here.
    pub message_id: String,
    pub in_reply_to: Option<String>,
    /// Oldest first.
    pub references: Vec<String>,
}

/// The event that a sink receives.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    data: EventData<'a>,
}

#[derive(Serialize)]
struct EventData<'a> {
    #[serde(flatten)]
    item: &'a ItemRow,
    decision: DecisionId,
    mailbox: &'a str,
    message_id: &'a str,
}

pub(crate) fn event(
    kind: &str,
    item: &ItemRow,
    decision: DecisionId,
    mailbox: &str,
    message_id: &str,
    now_ms: i64,
) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Event {
        kind,
        timestamp: rfc3339(now_ms),
        data: EventData {
            item,
            decision,
            mailbox,
            message_id,
        },
    })
}

pub(crate) fn reply(
    journal: JournalId,
    facts: &MailFacts,
    to: &Address,
    reply: &Reply,
    ticket: Option<&str>,
    message_id: String,
) -> OutgoingMailPayload {
    let named = |text: &str| text.replace("{ticket}", ticket.unwrap_or_default());
    OutgoingMailPayload {
        kind: MailKind::Reply,
        journal,
        to: vec![to.clone()],
        subject: reply_subject(&facts.subject, ticket),
        text: named(&reply.text),
        html: reply.html.as_deref().map(named),
        message_id,
        in_reply_to: known_id(&facts.message_id),
        references: references(facts),
    }
}

pub(crate) fn forward(
    journal: JournalId,
    facts: &MailFacts,
    to: &[String],
    message_id: String,
) -> OutgoingMailPayload {
    let address = |to: &String| Address {
        name: None,
        email: bare_address(to).to_owned(),
    };
    OutgoingMailPayload {
        kind: MailKind::Forward,
        journal,
        to: to.iter().map(address).collect(),
        subject: cut(&format!("Fwd: {}", facts.subject)),
        text: String::new(),
        html: None,
        message_id,
        in_reply_to: None,
        references: references(facts),
    }
}

/// `local@domain` out of `Name <local@domain>` or a bare address.
pub(crate) fn bare_address(text: &str) -> &str {
    match text.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest).trim(),
        None => text.trim(),
    }
}

fn known_id(message_id: &str) -> Option<String> {
    (!message_id.is_empty() && !message_id.ends_with(SYNTHETIC)).then(|| message_id.to_owned())
}

fn references(facts: &MailFacts) -> Vec<String> {
    let newest_first = known_id(&facts.message_id).into_iter();
    let mut list: Vec<String> = newest_first
        .chain(facts.references.iter().cloned())
        .take(REFERENCES)
        .collect();
    list.reverse();
    list
}

fn reply_subject(subject: &str, ticket: Option<&str>) -> String {
    let mut bare = subject.trim();
    while let Some(rest) = bare
        .get(..3)
        .filter(|p| p.eq_ignore_ascii_case("re:"))
        .and_then(|_| bare.get(3..))
    {
        bare = rest.trim_start();
    }
    match ticket.map(|t| format!("[{t}]")) {
        Some(tag) if !bare.contains(&tag) => cut(&format!("Re: {tag} {bare}")),
        _ => cut(&format!("Re: {bare}")),
    }
}

fn cut(subject: &str) -> String {
    subject.trim_end().chars().take(SUBJECT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_names_its_ticket_once() {
        for (subject, ticket, expected) in [
            ("Printer", Some("T-12"), "Re: [T-12] Printer"),
            ("RE: re:[T-12] Printer", Some("T-12"), "Re: [T-12] Printer"),
            ("[T-1] Printer", Some("T-12"), "Re: [T-12] [T-1] Printer"),
            ("Re: Printer", None, "Re: Printer"),
            ("", Some("T-1"), "Re: [T-1]"),
            ("ré", None, "Re: ré"),
        ] {
            assert_eq!(reply_subject(subject, ticket), expected, "{subject:?}");
        }
        assert_eq!(reply_subject(&"ü".repeat(900), None).chars().count(), 200);
    }

    #[test]
    fn addresses_are_bared() {
        assert_eq!(bare_address("Ann <ann@a.example>"), "ann@a.example");
        assert_eq!(bare_address(" ann@a.example "), "ann@a.example");
        assert_eq!(bare_address("<broken"), "broken");
    }
}
