//! Converts ids and times between the database's form and everyone else's.

use crate::{JournalId, StoreError};
use jiff::Timestamp;
use postroom_core::{ItemKind, Outcome, Position};
use rusqlite::types::{FromSql, FromSqlResult, ToSql, ToSqlOutput, ValueRef};
use sha2::{Digest, Sha256};

impl ToSql for JournalId {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.to_sql()
    }
}

impl FromSql for JournalId {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        i64::column_result(value).map(JournalId)
    }
}

pub(crate) const TICKET: i64 = 0;
pub(crate) const NOTE: i64 = 1;
pub(crate) const ALERT: i64 = 2;

pub(crate) fn item_kind_number(kind: ItemKind) -> i64 {
    match kind {
        ItemKind::Ticket => TICKET,
        ItemKind::Note => NOTE,
        ItemKind::Alert => ALERT,
    }
}

pub(crate) fn item_kind_of(number: i64) -> Result<ItemKind, StoreError> {
    match number {
        TICKET => Ok(ItemKind::Ticket),
        NOTE => Ok(ItemKind::Note),
        ALERT => Ok(ItemKind::Alert),
        other => Err(StoreError::corrupt(format!("item kind {other}"))),
    }
}

pub(crate) fn outcome_number(outcome: Outcome) -> i64 {
    match outcome {
        Outcome::Ticket => 0,
        Outcome::Note => 1,
        Outcome::Alert => 2,
        Outcome::Ignored => 3,
        Outcome::Quarantined => 4,
    }
}

pub(crate) fn outcome_of(number: i64) -> Result<Outcome, StoreError> {
    match number {
        0 => Ok(Outcome::Ticket),
        1 => Ok(Outcome::Note),
        2 => Ok(Outcome::Alert),
        3 => Ok(Outcome::Ignored),
        4 => Ok(Outcome::Quarantined),
        other => Err(StoreError::corrupt(format!("outcome {other}"))),
    }
}

/// Returns a key for finding a Message-ID within a tenant. Equal keys must still be compared.
pub(crate) fn message_key(tenant: i64, message_id: &str) -> i64 {
    let digest = Sha256::new()
        .chain_update(tenant.to_le_bytes())
        .chain_update(message_id)
        .finalize();
    first_bytes(&digest)
}

/// Returns a key for finding a Message-ID among all tenants. Equal keys must still be compared.
pub(crate) fn shared_key(message_id: &str) -> i64 {
    first_bytes(&Sha256::digest(message_id.as_bytes()))
}

/// Returns a key that identifies a position on a server or in a spool.
pub(crate) fn place_key(position: &Position) -> i64 {
    first_bytes(&Sha256::digest(position.stored().as_bytes()))
}

fn first_bytes(digest: &[u8]) -> i64 {
    let mut first = [0; 8];
    first.copy_from_slice(&digest[..8]);
    i64::from_le_bytes(first)
}

/// Formats a time as RFC 3339 in UTC with milliseconds. A time out of range is shown as the nearest valid one.
pub(crate) fn rfc3339(ms: i64) -> String {
    let time = Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    });
    format!("{time:.3}")
}

/// Formats the UTC day as `YYYY-MM-DD`.
pub(crate) fn day(ms: i64) -> String {
    let mut text = rfc3339(ms);
    if let Some(t) = text.find('T') {
        text.truncate(t);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_as_people_write_them() {
        assert_eq!(rfc3339(1_753_000_000_120), "2025-07-20T08:26:40.120Z");
        assert_eq!(day(1_753_000_000_120), "2025-07-20");
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
    }
}
