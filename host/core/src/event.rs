//! Events: changes of tickets, notes and alerts in a neutral form, which each target renders in its own way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::decision::Value;

/// The kind of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    Ticket,
    Note,
    Alert,
}

/// A ticket, note or alert in its current state. The keys after `updated` are present only if they are not empty.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemSnapshot {
    pub id: i64,
    pub kind: ItemKind,
    pub tenant: String,
    /// `T-12`: a ticket's own number, or that of the ticket a note belongs to.
    pub ticket: Option<String>,
    pub title: Option<String>,
    pub body: Option<String>,
    /// For an alert, its severity.
    pub priority: Option<String>,
    pub queue: Option<String>,
    pub fields: BTreeMap<String, Value>,
    /// `open` for a ticket, `public` or `internal` for a note, `firing` or `resolved` for an alert.
    pub state: String,
    /// RFC 3339 in UTC; for an alert, the time of its first mail.
    pub created: String,
    /// The time of an alert's last mail or a ticket's last note.
    pub updated: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert_key: Option<String>,
    /// The number of mails of an alert; for an alert of Postroom itself, the number of its changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// True if only old mail made it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old: bool,
    #[serde(flatten)]
    pub detail: ItemDetail,
}

/// Facts that only some items have.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ItemDetail {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The ticket that the mail of this one belongs to, if it could not be added there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub related: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
}

/// The change of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    #[serde(rename = "ticket.created")]
    TicketCreated,
    #[serde(rename = "note.created")]
    NoteCreated,
    #[serde(rename = "alert.firing")]
    AlertFiring,
    #[serde(rename = "alert.resolved")]
    AlertResolved,
}

/// A change of an item, and the mail that caused it, unless the item is an alert of Postroom itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub kind: EventKind,
    /// RFC 3339 in UTC.
    pub timestamp: String,
    pub item: ItemSnapshot,
    /// The number of the mail's decision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<i64>,
    pub mailbox: String,
    /// Without angle brackets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
}
