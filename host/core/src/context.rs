//! The context of a rule besides the mail: client, thread and time.

use serde::{Deserialize, Serialize};

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
    /// `message-id` or `subject`.
    pub method: String,
    /// Whether the sender may write to it: its requester, a participant, or of the same client.
    pub authorised: bool,
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
