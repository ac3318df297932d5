//! Writes out the events that sinks receive.

use postroom_core::{EventKind, ItemSnapshot};
use rusqlite::Connection;
use serde::Serialize;

use crate::StoreError;
use crate::commit::JournalledMail;
use crate::ids::{DecisionId, rfc3339};
use crate::items::{self, Origin};

/// What a sink receives.
#[derive(Serialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: EventKind,
    timestamp: String,
    data: EventData<'a>,
}

#[derive(Serialize)]
struct EventData<'a> {
    #[serde(flatten)]
    item: &'a ItemSnapshot,
    decision: DecisionId,
    mailbox: &'a str,
    message_id: &'a str,
}

pub(crate) fn event(
    conn: &Connection,
    kind: EventKind,
    item: i64,
    mail: &JournalledMail,
    origin: Origin,
) -> Result<String, StoreError> {
    let item = items::read(conn, item)?;
    Ok(serde_json::to_string(&Event {
        kind,
        timestamp: rfc3339(origin.now_ms),
        data: EventData {
            item: &item,
            decision: origin.decision,
            mailbox: &mail.mailbox,
            message_id: &mail.message_id,
        },
    })?)
}
