//! A mail as rules and threading see it: decoded, classified, with its repairs noted.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// One mailbox address, decoded (RFC 5322 section 3.4).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Address {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `local@domain`, the domain in lower case.
    pub email: String,
}

impl Address {
    /// Returns the part after the last `@`, or an empty string.
    pub fn domain(&self) -> &str {
        self.email.rsplit_once('@').map_or("", |(_, domain)| domain)
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.name {
            Some(name) => write!(f, "{name} <{}>", self.email),
            None => f.write_str(&self.email),
        }
    }
}

/// The kind of author, judged from the mail. A challenge is an auto-reply (RFC 3834 section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Classification {
    Person,
    AutoReply,
    Bounce,
    List,
    Machine,
    /// An invitation, or the answer to one, without words of a person (RFC 5546).
    Calendar,
}

/// The result of an authentication method (RFC 8601 section 2.7), reduced to three values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum AuthVerdict {
    Pass,
    Fail,
    #[default]
    None,
}

impl AuthVerdict {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// The trusted boundary's verdicts on the sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authentication {
    pub spf: AuthVerdict,
    pub dkim: AuthVerdict,
    pub dmarc: AuthVerdict,
    /// Whether the chain of the servers that passed the mail on is intact (RFC 8617). It names no sender by itself.
    #[serde(default, skip_serializing_if = "AuthVerdict::is_none")]
    pub arc: AuthVerdict,
}

/// A limit on MIME parts that a mail exceeds: rules would not see all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverLimit {
    /// It has more MIME parts, multiparts included.
    Parts { most: usize },
    /// It nests multiparts more deeply.
    Depth { most: usize },
}

/// What a bounce reports about an earlier mail.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeliveryReport {
    /// The recipients that the mail did not reach, each once.
    pub recipients: Vec<FailedRecipient>,
    /// The Message-ID of that mail, without angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}

/// A recipient that a mail did not reach, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedRecipient {
    /// `local@domain`, as the server that reports it wrote it.
    pub email: String,
    /// The enhanced status code, such as `5.1.1` (RFC 3463).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// False if the server still tries, or a later attempt may succeed.
    pub permanent: bool,
    /// The answer of the refusing server, on one line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnostic: Option<String>,
}

/// The first event of a calendar part (RFC 5545, RFC 5546).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Calendar {
    /// `REQUEST`, `REPLY`, `CANCEL` or another method in capitals; `PUBLISH` if the part names none.
    pub method: String,
    pub uid: String,
    pub summary: String,
    /// RFC 3339 if the time zone is known, else as written: `2026-11-30` or `2026-11-30T09:00:00`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The organizer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organizer: Option<String>,
    pub attendees: Vec<Attendee>,
}

/// A person that an event invites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attendee {
    pub email: String,
    /// PARTSTAT in lower case, such as `accepted`; `needs-action` if there is none.
    pub status: String,
}

/// A link of the mail's HTML or text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The words of the link; the URL itself for a bare one.
    pub text: String,
    pub url: String,
}

/// An attachment with its decoded content.
#[derive(Debug, Clone)]
pub struct Attachment {
    /// The decoded file name, without folders; empty if the mail has none.
    pub name: String,
    /// Lower-case `type/subtype`.
    pub content_type: String,
    /// The charset parameter, for reading it as text.
    pub charset: Option<String>,
    pub inline: bool,
    pub content_id: Option<String>,
    pub bytes: Bytes,
}

impl Attachment {
    /// Returns whether it is a mail, which [`attached_mail`](crate::attached_mail) opens.
    pub fn is_mail(&self) -> bool {
        crate::parse::is_mail(self)
    }
}

/// One header, unfolded and decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

/// A parsed mail. Every mail becomes one, whatever its bytes.
#[derive(Debug, Clone)]
pub struct Message {
    pub subject: String,
    /// The first address of From that can be parsed.
    pub from: Option<Address>,
    pub to: Vec<Address>,
    pub cc: Vec<Address>,
    pub reply_to: Vec<Address>,
    /// The Date header as RFC 3339.
    pub date: Option<String>,
    /// Without angle brackets; `HASH@synthetic.postroom.invalid` if the mail has none.
    pub message_id: String,
    /// Message-IDs of In-Reply-To, then References from the newest to the oldest, each once.
    pub references: Vec<String>,
    /// The decoded text; derived from the HTML if there is no text part.
    pub text: String,
    pub html: Option<String>,
    /// The new text: `text` without quotes and signature.
    pub reply: String,
    pub headers: Vec<Header>,
    pub attachments: Vec<Attachment>,
    pub classification: Classification,
    /// The mark that decided the classification, such as `Auto-Submitted: auto-replied`.
    pub classification_reason: String,
    /// True for an auto-reply that asks its recipient to prove to be a person.
    pub challenge: bool,
    /// Set for a bounce.
    pub delivery: Option<DeliveryReport>,
    /// Set if the mail has a calendar part.
    pub calendar: Option<Calendar>,
    /// True if the mail was sent with a null return path (`Return-Path: <>`).
    pub null_sender: bool,
    pub authentication: Authentication,
    /// Whether servers are configured whose verdicts on senders are believed.
    pub is_authenticated: bool,
    /// One short sentence for each thing that had to be repaired.
    pub repairs: Vec<String>,
    /// Set if parts are missing here because the mail has too many, or nests them too deeply.
    pub over_limit: Option<OverLimit>,
}

impl Message {
    /// Returns all values of a header, whose name is compared case-insensitively.
    pub fn headers<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> + 'a {
        self.headers
            .iter()
            .filter(move |h| h.name.eq_ignore_ascii_case(name))
            .map(|h| h.value.as_str())
    }
}
