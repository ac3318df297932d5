//! Events: changes of tickets, notes and alerts in a neutral form, which each target renders in its own way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::alert_state::HoldReason;
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
    /// `open`, `pending` or `closed` for a ticket, `public` or `internal` for a note, `firing` or `resolved` for an alert.
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
    /// The earliest and the latest time at which an alert's mails were sent, RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_seen: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<String>,
    /// Why the changes of an alert are recorded and not delivered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<HoldReason>,
    /// When a ticket was closed, RFC 3339 in UTC, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub close_reason: Option<String>,
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
    #[serde(rename = "ticket.updated")]
    TicketUpdated,
    #[serde(rename = "ticket.closed")]
    TicketClosed,
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

impl ItemSnapshot {
    /// Returns the item as an event shows it: a flapping alert is firing, whatever its last mail reported, and says so.
    pub fn announced_as(mut self, kind: EventKind) -> Self {
        if kind == EventKind::AlertFiring && self.held == Some(HoldReason::Flapping) {
            self.state = "firing".to_owned();
            let title = self.title.get_or_insert_default();
            title.push_str(" (flapping)");
        }
        self
    }
}
