//! The journal: every mail is written here raw before anything reads it, together with how far its mailbox has been read.

use bytes::Bytes;
use postroom_core::{Cursor, Position};
use rusqlite::{Connection, OptionalExtension, Row};

use super::ids::{message_key, place_key, shared_key};
use super::{SqliteReader, SqliteStore};
use crate::{JournalBatch, JournalId, Journalled, NewMail, PendingMail, StoreError, Suspect};

const KNOWN: &str = "SELECT id, place FROM journal
     WHERE message_key = ?1 AND content_hash = ?2 AND mailbox = ?3 AND tenant = ?4 AND message_id = ?5";

const KNOWN_TO_ANY: &str = "SELECT id, place FROM journal
     WHERE shared_key = ?1 AND content_hash = ?2 AND mailbox = ?3 AND ?4 IS NULL AND message_id = ?5";

/// The size in bytes at which a page of pending mail ends early.
const PENDING_PAGE_BYTES: usize = 32 * 1024 * 1024;

impl SqliteStore {
    /// Journals a batch and moves the cursor in one transaction. Returns the results in the order of the mails.
    pub(crate) async fn write_journal(
        &self,
        batch: JournalBatch,
    ) -> Result<Vec<Journalled>, StoreError> {
        let weight = batch.mails.iter().map(|m| m.bytes.len()).sum();
        self.writer
            .submit(weight, move |conn| write_batch(conn, batch))
            .await
    }

    /// Records a failure of the line on a mail, and returns the number of its failures.
    pub(crate) async fn write_failed_attempt(
        &self,
        id: JournalId,
        error: impl Into<String>,
    ) -> Result<u32, StoreError> {
        let error = error.into();
        self.writer
            .submit(0, move |conn| {
                conn.prepare_cached(
                    "UPDATE pending SET attempts = attempts + 1, error = ?2
                     WHERE mailbox = (SELECT mailbox FROM journal WHERE id = ?1) AND journal = ?1 RETURNING attempts",
                )?
                .query_row((id, error), |row| row.get(0))
                .optional()?
                .ok_or(StoreError::UnknownMail { journal: id })
            })
            .await
    }
}

impl SqliteReader {
    /// Returns how far a mailbox has been read, or `None` before its first batch.
    pub(crate) fn cursor(&self, mailbox: &str) -> Result<Option<Cursor>, StoreError> {
        self.with(|conn| {
            let cursor: Option<Option<String>> = conn
                .prepare_cached("SELECT cursor FROM mailbox WHERE name = ?1")?
                .query_row([mailbox], |row| row.get(0))
                .optional()?;
            Ok(cursor.flatten().map(Cursor))
        })
    }

    /// Returns undecided mails of a mailbox, oldest first. There may be more even if it returns fewer than `limit`, but not if it
    /// returns none.
    pub(crate) fn pending(
        &self,
        mailbox: &str,
        limit: usize,
    ) -> Result<Vec<PendingMail>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT j.id, j.message_id, j.received_ms, p.attempts, j.whole, j.size, r.bytes, p.released, j.repetition
                 FROM mailbox m JOIN pending p ON p.mailbox = m.id JOIN journal j ON j.id = p.journal
                      JOIN raw r ON r.journal = j.id
                 WHERE m.name = ?1 ORDER BY p.journal LIMIT ?2",
            )?;
            let mut rows = statement.query((mailbox, limit as i64))?;
            let (mut page, mut bytes) = (Vec::new(), 0);
            while bytes < PENDING_PAGE_BYTES
                && let Some(row) = rows.next()?
            {
                let mail = pending_row(row)?;
                bytes += mail.bytes.len();
                page.push(mail);
            }
            Ok(page)
        })
    }

    /// Returns the oldest undecided mails of each mailbox, up to `limit` per mailbox: those that a process may have been deciding
    /// when it died. Those with the fewest attempts come first, so that a mail that blocks the others comes last.
    pub(crate) fn suspects(&self, limit: usize) -> Result<Vec<Suspect>, StoreError> {
        self.with(|conn| {
            let mut statement = conn.prepare_cached(
                "SELECT m.name, p.journal, p.attempts
                 FROM (SELECT mailbox, journal, attempts,
                              row_number() OVER (PARTITION BY mailbox ORDER BY journal) AS number FROM pending) p
                      JOIN mailbox m ON m.id = p.mailbox
                 WHERE p.number <= ?1 ORDER BY p.attempts, p.journal",
            )?;
            let rows = statement.query_map([limit as i64], |row| {
                Ok(Suspect {
                    mailbox: row.get(0)?,
                    id: row.get(1)?,
                    attempts: row.get(2)?,
                })
            })?;
            Ok(rows.collect::<Result<_, _>>()?)
        })
    }

    /// Returns one undecided mail, or `None` if it has been decided or was never journalled.
    pub(crate) fn pending_mail(&self, id: JournalId) -> Result<Option<PendingMail>, StoreError> {
        self.with(|conn| {
            Ok(conn
                .prepare_cached(
                    "SELECT j.id, j.message_id, j.received_ms, p.attempts, j.whole, j.size, r.bytes, p.released, j.repetition
                     FROM journal j JOIN pending p ON p.mailbox = j.mailbox AND p.journal = j.id
                          JOIN raw r ON r.journal = j.id
                     WHERE j.id = ?1",
                )?
                .query_row([id], pending_row)
                .optional()?)
        })
    }

    /// Returns the bytes of a mail as fetched, or `None` if there is no such mail or its bytes were purged.
    pub(crate) fn raw(&self, id: JournalId) -> Result<Option<Bytes>, StoreError> {
        self.with(|conn| {
            let bytes: Option<Vec<u8>> = conn
                .prepare_cached("SELECT bytes FROM raw WHERE journal = ?1")?
                .query_row([id], |row| row.get(0))
                .optional()?;
            Ok(bytes.map(Bytes::from))
        })
    }
}

fn pending_row(row: &Row<'_>) -> rusqlite::Result<PendingMail> {
    Ok(PendingMail {
        id: row.get(0)?,
        message_id: row.get(1)?,
        received_ms: row.get(2)?,
        attempts: row.get(3)?,
        whole: row.get(4)?,
        size: row.get::<_, i64>(5)?.unsigned_abs(),
        bytes: Bytes::from(row.get::<_, Vec<u8>>(6)?),
        released: row.get(7)?,
        repetition: row.get(8)?,
    })
}

impl SqliteStore {
    pub(crate) async fn write_adoption(
        &self,
        mailbox: &str,
        tenant: &str,
    ) -> Result<u64, StoreError> {
        let (mailbox, tenant) = (mailbox.to_owned(), tenant.to_owned());
        self.writer
            .submit(0, move |conn| adopt(conn, &mailbox, &tenant))
            .await
    }
}

impl SqliteStore {
    pub(crate) async fn write_attribution(
        &self,
        mails: Vec<(JournalId, String)>,
    ) -> Result<(), StoreError> {
        self.writer
            .submit(0, move |conn| {
                mails
                    .iter()
                    .try_for_each(|(id, tenant)| attribute(conn, *id, tenant))
            })
            .await
    }
}

/// A decided mail stays its tenant's.
fn attribute(conn: &Connection, id: JournalId, tenant: &str) -> Result<(), StoreError> {
    let tenant = tenant_row(conn, tenant)?;
    let message_id: Option<String> = conn
        .prepare_cached(
            "SELECT j.message_id FROM journal j JOIN pending p ON p.mailbox = j.mailbox AND p.journal = j.id
             WHERE j.id = ?1",
        )?
        .query_row([id], |row| row.get(0))
        .optional()?;
    let Some(message_id) = message_id else {
        return Ok(());
    };
    conn.prepare_cached(
        "UPDATE journal SET tenant = ?2, message_key = ?3, shared_key = ?4 WHERE id = ?1",
    )?
    .execute((
        id,
        tenant,
        message_key(tenant, &message_id),
        shared_key(&message_id),
    ))?;
    Ok(())
}

/// The mail is found again under its new tenant, so that fetching it once more makes no second copy.
fn adopt(conn: &Connection, mailbox: &str, tenant: &str) -> Result<u64, StoreError> {
    let (mailbox, tenant) = (mailbox_row(conn, mailbox)?, tenant_row(conn, tenant)?);
    let mut foreign = conn.prepare_cached(
        "SELECT j.id, j.message_id FROM pending p JOIN journal j ON j.id = p.journal
         WHERE p.mailbox = ?1 AND j.tenant <> ?2",
    )?;
    let rows = foreign.query_map((mailbox, tenant), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let rows: Vec<(i64, String)> = rows.collect::<Result<_, _>>()?;
    let mut update =
        conn.prepare_cached("UPDATE journal SET tenant = ?2, message_key = ?3 WHERE id = ?1")?;
    for (id, message_id) in &rows {
        update.execute((id, tenant, message_key(tenant, message_id)))?;
    }
    Ok(rows.len() as u64)
}

/// Returns the row of a tenant or a mailbox, created when first seen.
pub(crate) fn mailbox_row(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    named_row(
        conn,
        name,
        "SELECT id FROM mailbox WHERE name = ?1",
        "INSERT INTO mailbox (name) VALUES (?1)",
    )
}

pub(crate) fn tenant_row(conn: &Connection, name: &str) -> Result<i64, StoreError> {
    named_row(
        conn,
        name,
        "SELECT id FROM tenant WHERE name = ?1",
        "INSERT INTO tenant (name) VALUES (?1)",
    )
}

fn named_row(conn: &Connection, name: &str, find: &str, make: &str) -> Result<i64, StoreError> {
    let found = conn
        .prepare_cached(find)?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if let Some(id) = found {
        return Ok(id);
    }
    Ok(conn.prepare_cached(make)?.insert([name])?)
}

fn write_batch(conn: &Connection, batch: JournalBatch) -> Result<Vec<Journalled>, StoreError> {
    let tenant = tenant_row(conn, &batch.tenant)?;
    let mailbox = mailbox_row(conn, &batch.mailbox)?;
    let journalled = batch
        .mails
        .into_iter()
        .map(|mail| write_mail(conn, tenant, batch.shared, mailbox, batch.received_ms, mail))
        .collect::<Result<_, _>>()?;
    if let Some(cursor) = &batch.cursor {
        conn.prepare_cached("UPDATE mailbox SET cursor = ?2 WHERE id = ?1")?
            .execute((mailbox, &cursor.0))?;
    }
    Ok(journalled)
}

fn write_mail(
    conn: &Connection,
    tenant: i64,
    shared: bool,
    mailbox: i64,
    received_ms: i64,
    mail: NewMail,
) -> Result<Journalled, StoreError> {
    let key = message_key(tenant, &mail.message_id);
    let place = place_key(&mail.position);
    let any_key = shared.then(|| shared_key(&mail.message_id));
    let (sql, first, of) = match any_key {
        // Whichever tenant it went to.
        Some(any_key) => (KNOWN_TO_ANY, any_key, None),
        None => (KNOWN, key, Some(tenant)),
    };
    let known: Option<(JournalId, Option<i64>)> = conn
        .prepare_cached(sql)?
        .query_row(
            (first, &mail.content_hash.0, mailbox, of, &mail.message_id),
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    if let Some((id, first_place)) = known {
        let decided = conn
            .prepare_cached("SELECT 1 FROM decision WHERE journal = ?1")?
            .exists([id])?;
        add_position(
            conn,
            mailbox,
            id,
            &mail.position,
            decided.then_some(received_ms),
        )?;
        return Ok(Journalled::Known {
            id,
            message_id: mail.message_id,
            repeated: note_repeat(conn, id, first_place, place, received_ms)?,
        });
    }
    let id = JournalId(
        conn.prepare_cached(
            "INSERT INTO journal (tenant, mailbox, received_ms, size, whole, message_key, content_hash, message_id, place, old, shared_key)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        )?
        .insert((
            tenant,
            mailbox,
            received_ms,
            mail.size as i64,
            mail.whole,
            key,
            &mail.content_hash.0,
            &mail.message_id,
            place,
            mail.old,
            any_key,
        ))?,
    );
    conn.prepare_cached("INSERT INTO raw (journal, bytes) VALUES (?1, ?2)")?
        .execute((id, &mail.bytes[..]))?;
    conn.prepare_cached("INSERT INTO pending (mailbox, journal) VALUES (?1, ?2)")?
        .execute((mailbox, id))?;
    add_position(conn, mailbox, id, &mail.position, None)?;
    Ok(Journalled::New(PendingMail {
        id,
        message_id: mail.message_id,
        received_ms,
        attempts: 0,
        released: false,
        repetition: 0,
        whole: mail.whole,
        size: mail.size,
        bytes: mail.bytes,
    }))
}

/// Records that a known mail is seen at a position, and returns whether it arrived again. A mail that is read once more from its
/// position, after a restart for example, did not.
fn note_repeat(
    conn: &Connection,
    id: JournalId,
    first_place: Option<i64>,
    place: i64,
    seen_ms: i64,
) -> Result<bool, StoreError> {
    match first_place {
        Some(first) if first == place => Ok(false),
        Some(_) => {
            let noted = conn
                .prepare_cached(
                    "INSERT OR IGNORE INTO repeat (journal, place, seen_ms) VALUES (?1, ?2, ?3)",
                )?
                .execute((id, place, seen_ms))?;
            Ok(noted > 0)
        }
        // The position of a mail journalled by an earlier version is unknown: most likely it was this one.
        None => {
            conn.prepare_cached("UPDATE journal SET place = ?2 WHERE id = ?1")?
                .execute((id, place))?;
            Ok(false)
        }
    }
}

/// Adds a position. It awaits one acknowledgement: that of the mail last seen there.
fn add_position(
    conn: &Connection,
    mailbox: i64,
    id: JournalId,
    position: &Position,
    due_ms: Option<i64>,
) -> Result<(), StoreError> {
    let held: Option<(i64, JournalId)> = conn
        .prepare_cached("SELECT id, journal FROM ack WHERE mailbox = ?1 AND position = ?2")?
        .query_row((mailbox, position.stored()), |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()?;
    match held {
        Some((_, journal)) if journal == id => return Ok(()),
        // A new row is used, so that a late reply for the old one does not count for this mail.
        Some((row, _)) => {
            conn.prepare_cached("DELETE FROM ack WHERE id = ?1")?
                .execute([row])?;
        }
        None => {}
    }
    conn.prepare_cached(
        "INSERT INTO ack (mailbox, journal, position, due_ms) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute((mailbox, id, position.stored(), due_ms))?;
    Ok(())
}
