//! The context of a rule besides the mail: client, thread and time.

use serde::{Deserialize, Serialize};

use crate::named::named;

/// The client that the mail is attributed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    pub name: String,
    /// False when a server under `[authentication] trusted` says `dmarc=fail`: From may be forged.
    pub sure: bool,
}

/// The ticket a mail seems to belong to, with the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// The ticket's number, such as `T-12`.
    pub ticket: String,
    pub method: ThreadMethod,
    /// Whether the sender may write to it: its requester, a participant, or of the same client.
    pub authorised: bool,
}

named! {
    /// The evidence by which a mail was taken to belong to a ticket.
    ThreadMethod {
        /// It refers to a mail of the ticket.
        MessageId = "message-id",
        /// Its subject names the ticket.
        Subject = "subject",
    }
}

/// The context of one mail's decision. A rule's settings and `kv` belong to the rule, not to this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Context {
    pub tenant: String,
    pub mailbox: String,
    pub client: Option<Client>,
    pub thread: Option<Thread>,
    /// When the mail was journalled: RFC 3339 in UTC, milliseconds.
    pub now: String,
}
