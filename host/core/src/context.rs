//! The context of a rule besides the mail: client, thread and time.

use serde::{Deserialize, Serialize};

use crate::named::named;

/// The client that the mail is attributed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub name: String,
    /// False if a server under `[authentication] trusted` reports `dmarc=fail`: From may be forged.
    pub sure: bool,
    pub evidence: ClientEvidence,
    pub candidates: Vec<String>,
}

named! {
    /// What a client was attributed by.
    ClientEvidence {
        Mailbox = "mailbox",
        Domain = "domain",
    }
}

/// The ticket that a mail appears to belong to, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The ticket's number, such as `T-12`.
    pub ticket: String,
    pub method: ThreadMethod,
    /// Whether the sender may write to it: its requester, a participant, or a sender of the same client.
    pub authorised: bool,
}

named! {
    /// The evidence that a mail belongs to a ticket.
    ThreadMethod {
        /// The mail refers to a mail of the ticket.
        MessageId = "message-id",
        /// The mail's subject names the ticket.
        Subject = "subject",
    }
}

/// The context of one mail's decision. A rule's settings and `kv` belong to the rule, not to this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub tenant: String,
    pub mailbox: String,
    pub client: Option<Client>,
    pub staff: bool,
    pub thread: Option<Thread>,
    /// The time at which the mail was journalled: RFC 3339 in UTC, milliseconds.
    pub now: String,
}
