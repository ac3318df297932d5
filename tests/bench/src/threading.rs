//! The search for a mail's ticket among 1,000 to 1,000,000 known mails: it must take the same time.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use postroom_core::{ReopenPolicy, ThreadMethod, ThreadQuery};
use postroom_store::Facts;
use postroom_store::sqlite::SqliteReader;
use rusqlite::Connection;

use crate::figures::{median, percentile, table, time};
use crate::process::measure;
use crate::room::Room;

const RULE: &[u8] = b"export function decide() {\n  return ticket();\n}\n";
/// The known mails of each round, received and sent ones each.
const KNOWN: [u32; 3] = [1000, 30_000, 1_000_000];
/// The references of a mail, of which only the last is known.
const REFERENCES: usize = 20;
/// Searches of each kind, among as many known mails.
const SEARCHES: usize = 2000;

/// Opens a ticket, fills the store with other mails and prints the median search. Fails if a search finds the wrong ticket.
pub fn run() -> Result<()> {
    println!("Threading: {SEARCHES} searches for a mail's ticket, {REFERENCES} references each");
    let configuration = "data_dir = \"data\"\n[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/all.js\"]\n";
    let room = Room::local(configuration, &[("all.js", RULE)])?;
    fs::create_dir(room.path().join("spool"))?;
    let first = "From: ann@acme.example\r\nMessage-ID: <first@acme.example>\r\nSubject: first\r\n\r\nHello\r\n";
    fs::write(room.path().join("spool/1.eml"), first)?;
    measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("log"),
    )?;
    let data = room.path().join("data");
    let writer = Connection::open(data.join("postroom.sqlite"))?;
    let mut rows = Vec::new();
    let mut there = 0;
    for known in KNOWN {
        fill(&writer, known - there)?;
        there = known;
        let reader = SqliteReader::open(&data)?;
        let mut unknown: Vec<String> = (0..REFERENCES).map(|n| format!("{n}@x.example")).collect();
        let none = search(&reader, &unknown, None)?;
        if let Some(last) = unknown.last_mut() {
            *last = "first@acme.example".into();
        }
        let last = search(&reader, &unknown, Some("T-1"))?;
        rows.push(vec![
            known.to_string(),
            time(median(&last)),
            time(percentile(&last, 0.99)),
            time(median(&none)),
        ]);
    }
    table(
        &["known mails", "found by the last", "99 %", "none known"],
        &rows,
    );
    Ok(())
}

/// Adds received and sent mails with Message-IDs of their own.
fn fill(conn: &Connection, mails: u32) -> Result<()> {
    let count = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)";
    conn.execute_batch("BEGIN")?;
    conn.execute(
        &format!(
            "{count} INSERT INTO journal (tenant, mailbox, received_ms, size, whole, message_key, content_hash, message_id, shared_key)
             SELECT 1, 1, 0, 100, 1, random(), randomblob(32), hex(randomblob(16)) || '@mail.example', random() FROM n"
        ),
        [mails],
    )
    .context("filling the journal")?;
    conn.execute(
        &format!(
            "{count} INSERT INTO sent (message_key, message_id, ticket)
             SELECT random(), hex(randomblob(16)) || '@acme.example', 1 FROM n"
        ),
        [mails],
    )
    .context("filling the sent mails")?;
    conn.execute_batch("COMMIT")?;
    Ok(())
}

fn search(
    reader: &SqliteReader,
    references: &[String],
    expected: Option<&str>,
) -> Result<Vec<Duration>> {
    let query = ThreadQuery {
        references: references.to_vec(),
        sender: Some("ann@acme.example".into()),
        ..ThreadQuery::default()
    };
    let reopen = ReopenPolicy::default();
    let mut taken = Vec::with_capacity(SEARCHES);
    for _ in 0..SEARCHES {
        let started = Instant::now();
        let found = Facts::thread(reader, "acme", &query, &reopen, 0)?.thread;
        taken.push(started.elapsed());
        let is_by_id = found
            .as_ref()
            .is_none_or(|it| it.method == ThreadMethod::MessageId);
        let ticket = found.as_ref().map(|it| it.ticket.as_str());
        ensure!(
            ticket == expected && is_by_id,
            "found {found:?}, not {expected:?}"
        );
    }
    Ok(taken)
}
