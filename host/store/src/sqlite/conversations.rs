//! Remembers the conversations in which a person had an answer that is sent only once.

use crate::StoreError;
use postroom_core::effects::Conversation;
use rusqlite::Connection;

/// How long a conversation is remembered. After that, its person may be answered once more.
const KEPT_MS: i64 = 90 * 24 * 60 * 60 * 1000;

/// Returns whether the person was answered in this conversation.
pub(crate) fn is_answered(
    conn: &Connection,
    tenant: i64,
    of: &Conversation,
) -> Result<bool, StoreError> {
    let mut known = conn.prepare_cached(
        "SELECT 1 FROM answered WHERE tenant = ?1 AND person = ?2 AND message_id = ?3",
    )?;
    for id in &of.message_ids {
        if known.exists((tenant, &of.person, id))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Remembers that the person was answered, and forgets answers that are long past.
pub(crate) fn record(
    conn: &Connection,
    tenant: i64,
    of: &Conversation,
    now_ms: i64,
) -> Result<(), StoreError> {
    conn.prepare_cached("DELETE FROM answered WHERE answered_ms <= ?1")?
        .execute([now_ms - KEPT_MS])?;
    let mut insert = conn.prepare_cached(
        "INSERT OR REPLACE INTO answered (tenant, person, message_id, answered_ms) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for id in &of.message_ids {
        insert.execute((tenant, &of.person, id, now_ms))?;
    }
    Ok(())
}
