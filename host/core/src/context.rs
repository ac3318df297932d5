//! The context of a rule besides the mail: client, thread and time.

use serde::{Deserialize, Serialize};

use crate::message::Address;
use crate::named::named;

/// The client that the mail is attributed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The client's name in the configuration. With several candidates, the first of them.
    pub name: String,
    /// False if the evidence fits several clients, or a server under `[authentication] trusted` reports `dmarc=fail`: From may be
    /// forged.
    pub sure: bool,
    #[serde(default = "ClientEvidence::of_mailbox")]
    pub evidence: ClientEvidence,
    /// Every client that the evidence fits, in the order of the configuration.
    #[serde(default)]
    pub candidates: Vec<String>,
}

named! {
    /// The evidence for a client.
    ClientEvidence {
        /// The mailbox belongs to the client.
        Mailbox = "mailbox",
        /// The sender is one of the client's contacts or `addresses`.
        Contact = "contact",
        /// The sender's address without its tag (`ann+news@`), or an alias of a contact.
        Alias = "alias",
        /// The sender's domain is one of the client's.
        Domain = "domain",
        /// The sender's domain is below one of the client's.
        Subdomain = "subdomain",
        /// The mail arrived at one of the client's `recipients`.
        Recipient = "recipient",
        /// The mail arrived at an address of the mailbox with the client's name as its tag.
        PlusAddress = "plus-address",
        /// The mail belongs to one of the client's tickets.
        Ticket = "ticket",
    }
}

impl ClientEvidence {
    /// The evidence of a record or a case that states none.
    fn of_mailbox() -> Self {
        Self::Mailbox
    }
}

/// The ticket that a mail appears to belong to, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The ticket's number, such as `T-12`.
    pub ticket: String,
    pub method: ThreadMethod,
    /// Whether the mail may be added to it: its sender is the requester, a participant, a sender of the same client or a technician,
    /// and the ticket was not closed too long ago.
    pub authorised: bool,
}

named! {
    /// The evidence that a mail belongs to a ticket, strongest first.
    ThreadMethod {
        /// It carries the signed token of a mail that Postroom sent for the ticket.
        ReplyToken = "reply-token",
        /// It refers to a mail that Postroom sent for the ticket.
        OwnMessageId = "own-message-id",
        /// It reports that such a mail was not delivered.
        Bounce = "bounce",
        /// It refers to a mail that was received for the ticket.
        MessageId = "message-id",
        /// Its subject names the ticket.
        Subject = "subject",
        /// Its subject holds a number of another system that a mail of the ticket held too.
        ForeignNumber = "foreign-number",
    }
}

/// One step of the search for a mail's ticket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStep {
    pub method: ThreadMethod,
    /// The Message-ID or number that was looked up; their count, if none of several was known.
    pub evidence: String,
    pub result: StepResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
}

named! {
    /// The result of a step of the search for a ticket.
    StepResult {
        /// The mail's ticket.
        Found = "found",
        /// No ticket of the client.
        Unknown = "unknown",
        /// A token that this installation did not sign for the client.
        Forged = "forged",
        /// A ticket that the sender may not write to.
        Outsider = "outsider",
        /// A ticket that was closed too long ago.
        TooOld = "too-old",
        /// A ticket that the sender might write to, if it were proven that they wrote the mail.
        Unverified = "unverified",
    }
}

/// The context of one mail's decision. A rule's settings and `kv` belong to the rule, not to this.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Context {
    pub tenant: String,
    pub mailbox: String,
    pub client: Option<Client>,
    /// Whether the sender is one of the service provider's own technicians.
    pub staff: bool,
    /// The person on whose behalf a technician forwarded the mail.
    pub requester: Option<Address>,
    pub thread: Option<Thread>,
    /// How the thread was searched for.
    pub steps: Vec<ThreadStep>,
    /// The time at which the mail was journalled: RFC 3339 in UTC, milliseconds.
    pub now: String,
}

/// The facts about a mail's sender and thread at its decision, as its record keeps them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Provenance {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<Client>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub staff: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<Address>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<ThreadStep>,
}

impl Provenance {
    pub fn of(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            staff: context.staff,
            requester: context.requester.clone(),
            steps: context.steps.clone(),
        }
    }

    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
