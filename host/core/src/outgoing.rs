//! Outgoing mail: replies and forwards, independent of how they are sent.

use serde::{Deserialize, Serialize};

use crate::decision::Reply;
use crate::effects::MailFacts;
use crate::message::Address;
use crate::parse::SYNTHETIC;

/// The most Message-IDs in one References header (RFC 5322 section 3.6.4 allows dropping the middle).
const REFERENCES: usize = 20;
/// The most characters of a subject.
const SUBJECT_CHARS: usize = 200;

/// The reason that a mail is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MailKind {
    Reply,
    /// It contains the mail that it forwards, in full.
    Forward,
    /// A message of an operator or a script, which answers no mail.
    Notification,
}

/// One mail to send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutgoingMail {
    pub kind: MailKind,
    pub to: Vec<Address>,
    /// In a reply, contains the ticket's number once, as `[T-12]`.
    pub subject: String,
    /// Empty in a forward, which contains the original.
    pub text: String,
    pub html: Option<String>,
    /// Without angle brackets, like all Message-IDs here. Stable across tries, so that a repeated mail is recognised.
    pub message_id: String,
    pub in_reply_to: Option<String>,
    /// Oldest first, as in the header (RFC 5322 section 3.6.4).
    pub references: Vec<String>,
    /// The signed token of the ticket, which the text of the mail shows below, and the HTML hides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_token: Option<String>,
}

pub(crate) fn reply(
    facts: &MailFacts,
    to: &Address,
    reply: &Reply,
    ticket: Option<&str>,
    message_id: String,
    token: Option<String>,
) -> OutgoingMail {
    let named = |text: &str| text.replace("{ticket}", ticket.unwrap_or_default());
    OutgoingMail {
        kind: MailKind::Reply,
        to: vec![to.clone()],
        subject: reply_subject(&facts.subject, ticket),
        text: named(&reply.text),
        html: reply.html.as_deref().map(named),
        message_id,
        in_reply_to: known_id(&facts.message_id),
        references: references(facts),
        reply_token: token,
    }
}

pub(crate) fn forward(facts: &MailFacts, to: &[String], message_id: String) -> OutgoingMail {
    let address = |to: &String| Address {
        name: None,
        email: bare_address(to).to_owned(),
    };
    OutgoingMail {
        kind: MailKind::Forward,
        to: to.iter().map(address).collect(),
        subject: cut(&format!("Fwd: {}", facts.subject)),
        text: String::new(),
        html: None,
        message_id,
        in_reply_to: None,
        references: references(facts),
        reply_token: None,
    }
}

/// Returns `local@domain` from `Name <local@domain>` or from a bare address.
pub fn bare_address(text: &str) -> &str {
    match text.rsplit_once('<') {
        Some((_, rest)) => rest.split('>').next().unwrap_or(rest).trim(),
        None => text.trim(),
    }
}

/// Returns `None` for a synthetic Message-ID, which nobody else knows.
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
