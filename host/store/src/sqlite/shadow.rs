//! Shadows: a candidate rule that also decides a mailbox's next mails, and its differences from the live rule, mail by mail.
//! Results are written in one transaction per batch, so that a restart resumes exactly where it stopped.

use std::path::Path;

use bytes::Bytes;
use postroom_core::{ContentHash, TroubleKind};
use rusqlite::{Connection, OptionalExtension, Row, TransactionBehavior};

use super::ids::rfc3339;
use super::options::StoreOptions;
use super::recorded::{MAIL, mail_row};
use super::schema;
use super::{SqliteReader, SqliteStore};
use crate::{
    DecisionId, NewShadow, Shadow, ShadowId, ShadowMail, ShadowOutcome, ShadowPage, ShadowResult,
    ShadowState, StoreError,
};

/// Starts a shadow, with or without a running service. Of the mailbox's earlier shadows, only the counts are kept.
///
/// # Errors
/// [`StoreError::ShadowRuns`] if the mailbox already has one, [`StoreError::ShadowMails`] if it asks for no mails or too many.
pub(crate) fn start_shadow(
    data_dir: &Path,
    new: &NewShadow,
    options: &StoreOptions,
) -> Result<Shadow, StoreError> {
    if !(1..=options.limits.shadow_mails).contains(&new.wanted) {
        let most = options.limits.shadow_mails;
        return Err(StoreError::ShadowMails { most });
    }
    let mut conn = schema::open_beside(data_dir, options)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let newest_of_it = of_mailbox(&tx, &new.mailbox)?;
    if let Some(runs) = newest_of_it.filter(Shadow::is_active) {
        return Err(StoreError::ShadowRuns {
            mailbox: runs.mailbox,
            rule: runs.rule,
        });
    }
    for table in ["shadow_mail", "shadow_bytes"] {
        let sql = format!(
            "DELETE FROM {table} WHERE shadow IN (SELECT id FROM shadow WHERE mailbox = ?1)"
        );
        tx.execute(&sql, [&new.mailbox])?;
    }
    tx.execute(
        "DELETE FROM shadow WHERE state > 1 AND id NOT IN
             (SELECT id FROM shadow WHERE state > 1 ORDER BY id DESC LIMIT ?1)",
        [i64::try_from(options.limits.shadows).unwrap_or(i64::MAX)],
    )?;
    tx.execute(
        "WITH last (id) AS (SELECT coalesce(max(id), 0) FROM journal)
         INSERT INTO shadow (tenant, mailbox, rule, hash, replaces, limit_us, limit_memory, wanted, promote, began_ms, newest, reached)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, last.id,
                coalesce((SELECT min(p.journal) - 1 FROM pending p JOIN mailbox m ON m.id = p.mailbox WHERE m.name = ?2), last.id)
         FROM last",
        (
            &new.tenant,
            &new.mailbox,
            &new.rule,
            &new.hash.0,
            &new.replaces.0,
            new.limit_us as i64,
            new.limit_memory_bytes as i64,
            new.wanted as i64,
            new.promote,
            options.clock.now_ms(),
        ),
    )?;
    let id = ShadowId(tx.last_insert_rowid());
    tx.execute(
        "INSERT INTO shadow_bytes (shadow, bytes) VALUES (?1, ?2)",
        (id.0, &new.bytes[..]),
    )?;
    let shadow = read(&tx, id)?;
    tx.commit()?;
    shadow.ok_or_else(|| StoreError::corrupt("a shadow is gone as soon as it began"))
}

/// Ends a shadow, with or without a running service. Returns whether it did: only an active one can be stopped, fail or finish.
pub(crate) fn end_shadow(
    data_dir: &Path,
    id: ShadowId,
    state: ShadowState,
    reason: Option<&str>,
    options: &StoreOptions,
) -> Result<bool, StoreError> {
    let mut conn = schema::open_beside(data_dir, options)?;
    let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ended = end(&tx, id, state, reason, options.clock.now_ms())?;
    tx.commit()?;
    Ok(ended)
}

impl SqliteStore {
    /// Ends a shadow like [`end_shadow`], from the service itself.
    pub(crate) async fn write_shadow_end(
        &self,
        id: ShadowId,
        state: ShadowState,
        reason: Option<String>,
    ) -> Result<bool, StoreError> {
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(0, move |conn| {
                end(conn, id, state, reason.as_deref(), now_ms)
            })
            .await
    }

    /// Records mails, and the mail up to which all have been dealt with. A mail recorded before counts once. When as many as
    /// wanted have been decided, `then` gives the final state and the reason. Writes nothing if the shadow no longer runs.
    pub(crate) async fn write_shadow(
        &self,
        id: ShadowId,
        mails: Vec<ShadowMail>,
        reached: i64,
        then: ShadowOutcome,
    ) -> Result<Option<Shadow>, StoreError> {
        let weight = mails
            .iter()
            .map(|mail| mail.difference.as_ref().map_or(0, String::len))
            .sum();
        let most = (self.shadow_differences, self.shadow_difference_bytes);
        let now_ms = self.clock.now_ms();
        self.writer
            .submit(weight, move |conn| {
                let Some(before) = read(conn, id)?.filter(|it| it.state == ShadowState::Running)
                else {
                    return read(conn, id);
                };
                for mail in &mails {
                    record(conn, id, mail, most)?;
                }
                conn.prepare_cached("UPDATE shadow SET reached = ?2 WHERE id = ?1 AND reached < ?2")?
                    .execute((id.0, reached))?;
                // A skipped mail no longer needs a row once all mails before it have been dealt with.
                conn.prepare_cached(
                    "DELETE FROM shadow_mail WHERE shadow = ?1 AND journal > ?2 AND journal <= ?3 AND result = ?4",
                )?
                .execute((id.0, before.reached, reached, SKIPPED))?;
                let Some(after) = read(conn, id)? else {
                    return Ok(None);
                };
                if after.decided() >= after.wanted {
                    let (state, reason) = then(&after);
                    end(conn, id, state, reason.as_deref(), now_ms)?;
                }
                read(conn, id)
            })
            .await
    }
}

impl SqliteReader {
    /// Returns all shadows that are kept, newest first.
    pub(crate) fn shadows(&self) -> Result<Vec<Shadow>, StoreError> {
        self.with(|conn| select(conn, "ORDER BY id DESC"))
    }

    /// Returns the shadows that run or are to be promoted.
    pub(crate) fn active_shadows(&self) -> Result<Vec<Shadow>, StoreError> {
        self.with(|conn| select(conn, "WHERE state < 2 ORDER BY id"))
    }

    pub(crate) fn shadow(&self, id: ShadowId) -> Result<Option<Shadow>, StoreError> {
        self.with(|conn| read(conn, id))
    }

    /// Returns the newest shadow of a mailbox.
    pub(crate) fn shadow_of(&self, mailbox: &str) -> Result<Option<Shadow>, StoreError> {
        self.with(|conn| of_mailbox(conn, mailbox))
    }

    /// Returns the candidate, or `None` if a newer shadow of its mailbox has started or it was promoted.
    pub(crate) fn shadow_bytes(&self, id: ShadowId) -> Result<Option<Bytes>, StoreError> {
        self.with(|conn| {
            let bytes: Option<Vec<u8>> = conn
                .prepare_cached("SELECT bytes FROM shadow_bytes WHERE shadow = ?1")?
                .query_row([id.0], |row| row.get(0))
                .optional()?;
            Ok(bytes.map(Bytes::from))
        })
    }

    /// Returns the recorded mails, oldest first.
    pub(crate) fn shadow_mails(&self, id: ShadowId) -> Result<Vec<ShadowMail>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT journal, result, words, unrecorded, elapsed_us, memory, trouble, difference
                 FROM shadow_mail WHERE shadow = ?1 ORDER BY journal",
            )?;
            let mut rows = statement.query([id.0])?;
            let mut mails = Vec::new();
            while let Some(row) = rows.next()? {
                mails.push(shadow_mail(row)?);
            }
            Ok(mails)
        })
    }

    /// Returns a shadow's next mails that are decided and not recorded, at most `limit`, from one snapshot. `reached` is the mail
    /// up to which all have been dealt with, if more is known than was recorded.
    pub(crate) fn shadow_page(
        &self,
        shadow: &Shadow,
        reached: i64,
        limit: usize,
    ) -> Result<ShadowPage, StoreError> {
        let before = shadow.reached.max(reached);
        let sql = format!(
            "{MAIL} WHERE d.journal > ?1 AND j.mailbox = (SELECT id FROM mailbox WHERE name = ?2) AND t.name = ?5
               AND EXISTS (SELECT 1 FROM shadow s WHERE s.id = ?3 AND (d.journal > s.newest OR d.decided_ms > s.began_ms))
               AND NOT EXISTS (SELECT 1 FROM shadow_mail sm WHERE sm.shadow = ?3 AND sm.journal = d.journal)
             ORDER BY d.journal LIMIT ?4"
        );
        self.with(|conn| {
            // A mail decided between the two queries must not end up below the floor without having been seen.
            let moment = conn.unchecked_transaction()?;
            let floor: i64 = moment
                .prepare_cached(
                    "SELECT coalesce(
                         (SELECT min(p.journal) - 1 FROM pending p JOIN mailbox m ON m.id = p.mailbox WHERE m.name = ?1),
                         (SELECT max(id) FROM journal), 0)",
                )?
                .query_row([&shadow.mailbox], |row| row.get(0))?;
            let mut mails = Vec::new();
            {
                let mut statement = moment.prepare_cached(&sql)?;
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let mut rows = statement.query((
                    before,
                    &shadow.mailbox,
                    shadow.id.0,
                    limit,
                    &shadow.tenant,
                ))?;
                while let Some(row) = rows.next()? {
                    mails.push(mail_row(row)?);
                }
            }
            moment.commit()?;
            Ok(ShadowPage {
                whole: mails.len() < limit,
                floor: floor.max(before),
                before,
                mails,
            })
        })
    }
}

const SKIPPED: i64 = 4;

/// Counts one mail unless it was counted before, and stores its difference as far as there is room.
fn record(
    conn: &Connection,
    id: ShadowId,
    mail: &ShadowMail,
    (most, most_bytes): (u64, u64),
) -> Result<(), StoreError> {
    let (result, counter, words) = match &mail.result {
        ShadowResult::Same => (0, "same", None),
        ShadowResult::Changed(words) => (1, "changed", Some(words)),
        ShadowResult::Failed => (2, "failed", None),
        ShadowResult::Fixed => (3, "mended", None),
        ShadowResult::Skipped(reason) => (SKIPPED, "", Some(reason)),
    };
    let (kept, kept_bytes): (i64, i64) = conn
        .prepare_cached("SELECT kept, kept_bytes FROM shadow WHERE id = ?1")?
        .query_row([id.0], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let has_room = |text: &&String| {
        let bytes = kept_bytes.unsigned_abs() + text.len() as u64;
        kept.unsigned_abs() < most && bytes <= most_bytes
    };
    let difference = mail.difference.as_ref().filter(has_room);
    let added = conn
        .prepare_cached(
            "INSERT OR IGNORE INTO shadow_mail (shadow, journal, result, words, unrecorded, elapsed_us, memory, trouble, difference)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?
        .execute((
            id.0,
            mail.mail.0,
            result,
            words,
            mail.unrecorded,
            mail.elapsed_us.map(|it| it as i64),
            mail.memory_bytes.map(|it| it as i64),
            mail.trouble.map(TroubleKind::name),
            difference,
        ))?;
    if added == 0 {
        return Ok(());
    }
    if let ShadowResult::Skipped(reason) = &mail.result {
        let path = format!("$.\"{reason}\"");
        conn.prepare_cached(
            "UPDATE shadow SET skipped = json_set(skipped, ?2, coalesce(skipped ->> ?2, 0) + 1) WHERE id = ?1",
        )?
        .execute((id.0, path))?;
        return Ok(());
    }
    conn.prepare_cached(&format!(
        "UPDATE shadow SET {counter} = {counter} + 1, unrecorded = unrecorded + ?2, kept = kept + ?3, kept_bytes = kept_bytes + ?4
         WHERE id = ?1"
    ))?
    .execute((
        id.0,
        mail.unrecorded,
        difference.is_some(),
        difference.map_or(0, String::len) as i64,
    ))?;
    Ok(())
}

/// Ends a shadow. One that has already ended can still become promoted; any other state only ends an active one.
fn end(
    conn: &Connection,
    id: ShadowId,
    state: ShadowState,
    reason: Option<&str>,
    now_ms: i64,
) -> Result<bool, StoreError> {
    let ended_ms = (state != ShadowState::Promoting).then_some(now_ms);
    let ended = conn
        .prepare_cached(
            "UPDATE shadow SET state = ?2, reason = ?3, ended_ms = ?4
             WHERE id = ?1 AND (state < 2 OR (?2 = 4 AND state <> 4))",
        )?
        .execute((id.0, state as i64, reason, ended_ms))?
        > 0;
    if ended && state == ShadowState::Promoted {
        conn.prepare_cached("DELETE FROM shadow_bytes WHERE shadow = ?1")?
            .execute([id.0])?;
    }
    Ok(ended)
}

fn read(conn: &Connection, id: ShadowId) -> Result<Option<Shadow>, StoreError> {
    let found = select(conn, &format!("WHERE id = {}", id.0))?;
    Ok(found.into_iter().next())
}

fn of_mailbox(conn: &Connection, mailbox: &str) -> Result<Option<Shadow>, StoreError> {
    let mut statement = conn.prepare_cached(&format!(
        "{SHADOW} WHERE mailbox = ?1 ORDER BY id DESC LIMIT 1"
    ))?;
    let mut rows = statement.query([mailbox])?;
    rows.next()?.map(shadow).transpose()
}

fn select(conn: &Connection, which: &str) -> Result<Vec<Shadow>, StoreError> {
    let mut statement = conn.prepare_cached(&format!("{SHADOW} {which}"))?;
    let mut rows = statement.query([])?;
    let mut shadows = Vec::new();
    while let Some(row) = rows.next()? {
        shadows.push(shadow(row)?);
    }
    Ok(shadows)
}

const SHADOW: &str = "SELECT id, tenant, mailbox, rule, hash, replaces, limit_us, limit_memory, wanted, promote, began_ms, ended_ms,
         state, reason, same, changed, failed, mended, unrecorded, skipped, reached FROM shadow";

fn shadow(row: &Row<'_>) -> Result<Shadow, StoreError> {
    let count = |at: usize| row.get::<_, i64>(at).map(i64::unsigned_abs);
    let state: u32 = row.get(12)?;
    let state = ShadowState::ALL.get(state as usize).copied();
    Ok(Shadow {
        id: ShadowId(row.get(0)?),
        tenant: row.get(1)?,
        mailbox: row.get(2)?,
        rule: row.get(3)?,
        hash: ContentHash(row.get(4)?),
        replaces: ContentHash(row.get(5)?),
        limit_us: count(6)?,
        limit_memory_bytes: count(7)?,
        wanted: count(8)?,
        promote: row.get(9)?,
        began: rfc3339(row.get(10)?),
        ended: row.get::<_, Option<i64>>(11)?.map(rfc3339),
        state: state.ok_or_else(|| StoreError::corrupt("the state of a shadow"))?,
        reason: row.get(13)?,
        same: count(14)?,
        changed: count(15)?,
        failed: count(16)?,
        mended: count(17)?,
        unrecorded: count(18)?,
        skipped: serde_json::from_str(&row.get::<_, String>(19)?)?,
        reached: row.get(20)?,
    })
}

fn shadow_mail(row: &Row<'_>) -> Result<ShadowMail, StoreError> {
    let words: Option<String> = row.get(2)?;
    let words = words.unwrap_or_default();
    let count = |at: usize| {
        let count: Option<i64> = row.get(at)?;
        Ok::<_, rusqlite::Error>(count.map(i64::unsigned_abs))
    };
    Ok(ShadowMail {
        mail: DecisionId(row.get(0)?),
        result: match row.get(1)? {
            0 => ShadowResult::Same,
            1 => ShadowResult::Changed(words),
            2 => ShadowResult::Failed,
            3 => ShadowResult::Fixed,
            SKIPPED => ShadowResult::Skipped(words),
            other => return Err(StoreError::corrupt(format!("a shadow's result {other}"))),
        },
        unrecorded: row.get(3)?,
        elapsed_us: count(4)?,
        memory_bytes: count(5)?,
        trouble: row
            .get::<_, Option<String>>(6)?
            .and_then(|name| TroubleKind::from_name(&name)),
        difference: row.get(7)?,
    })
}
