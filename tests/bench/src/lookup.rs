//! The cost of two lookups a mail, with many contacts, and many open tickets of the client's own and of others.
//!
//! All arms run in one data folder, in turns, each in its own mailbox, so that disturbances affect all alike. The time of a
//! decision is the time that Postroom records with it.

use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rusqlite::Connection;

use crate::chance::Chance;
use crate::figures::{mebibytes, median, percentile, table, time};
use crate::process::measure;
use crate::room::{Room, component};

const ASKS_JS: &str = include_str!("../rules/asks.js");
const CONTACTS: u32 = 100_000;
/// Open tickets of the client that receives the mail.
const OWN: u32 = 10_000;
/// The number of other clients; each has as many, by the same requesters.
const OTHERS: u32 = 100;
/// The number of requesters; each has two tickets.
const REQUESTERS: u32 = OWN / 2;
/// The number of the first of them; the warm-up may have made earlier ones.
const FIRST: u32 = 1000;
/// Lookups of one mail.
const QUESTIONS: u32 = 2;
/// The number of the warm-up's one mail.
const WARM_UP: u32 = u32::MAX;

/// One kind of rule.
struct Arm {
    /// The name, also of its mailbox.
    name: &'static str,
    what: &'static str,
    tenant: &'static str,
    rule: &'static str,
    /// The value in its settings.
    asks: Option<&'static str>,
    /// The times without the program's start.
    taken: Vec<Duration>,
    peak_rss: u64,
}

/// Imports `mails` through each arm `rounds` times and prints medians. Fails if a result is wrong.
pub fn run(mails: u32, rounds: usize) -> Result<()> {
    println!(
        "Lookup: {CONTACTS} contacts, {OWN} open tickets beside {} of {OTHERS} other clients; {mails} mails an arm, {rounds} rounds",
        OWN * OTHERS
    );
    let arm = |name, what, tenant, rule, asks| Arm {
        name,
        what,
        tenant,
        rule,
        asks,
        taken: Vec::new(),
        peak_rss: 0,
    };
    let mut arms = [
        arm("plain", "JS rule, nothing granted", "plain", "js", None),
        arm("js0", "JS rule, no lookup", "acme", "js", None),
        arm("js2", "JS rule, two lookups", "acme", "js", Some("twice")),
        arm(
            "made",
            "JS rule, two lookups, opens a ticket",
            "acme",
            "js",
            Some("and tickets"),
        ),
        arm("rust0", "Rust rule, no lookup", "acme", "wasm", None),
        arm(
            "rust2",
            "Rust rule, two lookups",
            "acme",
            "wasm",
            Some("twice"),
        ),
    ];
    let asks = component("asks")?;
    let room = Room::local(&configuration(&arms), &[])?;
    for arm in &arms {
        let content = match arm.rule {
            "js" => ASKS_JS.as_bytes(),
            _ => &asks[..],
        };
        fs::write(room.path().join(arm.file()), content)?;
    }
    fs::write(room.path().join("contacts.csv"), contacts())?;
    // Creates the store, and compiles what has to be compiled.
    for arm in &mut arms {
        take(&room, arm, WARM_UP, 1)?;
        arm.taken.clear();
    }
    fill(&room).context("filling the store")?;

    let mut starts = Vec::new();
    for round in 0..rounds as u32 {
        for (number, arm) in (0..).zip(&mut arms) {
            let first = 1 + (round * 16 + number) * (mails + 1);
            let start = take(&room, arm, first, 1)?;
            let all = take(&room, arm, first + 1, mails)?;
            starts.push(start);
            arm.taken.push(all.saturating_sub(start));
        }
    }
    let decided = decided(&room)?;
    let of = |name: &str| -> Vec<Duration> {
        let own = decided.iter().filter(|(mailbox, _)| mailbox == name);
        own.map(|(_, taken)| *taken).collect()
    };
    let rows: Vec<Vec<String>> = arms
        .iter()
        .map(|arm| {
            let decisions = of(arm.name);
            let rate = f64::from(mails) / median(&arm.taken).as_secs_f64();
            vec![
                arm.what.to_owned(),
                format!("{rate:.0}"),
                time(median(&decisions)),
                time(percentile(&decisions, 0.99)),
                mebibytes(arm.peak_rss),
            ]
        })
        .collect();
    table(&["", "mails/s", "a decision", "p99", "peak RSS"], &rows);
    let question = |without: &str, with: &str| {
        let more = median(&of(with)).saturating_sub(median(&of(without)));
        time(more / QUESTIONS)
    };
    println!(
        "  a lookup takes {} by a JS rule, {} by a Rust rule; a start, with the contacts read, {}",
        question("js0", "js2"),
        question("rust0", "rust2"),
        time(median(&starts))
    );
    println!("  each mail got its sender's contact and two tickets, and none of another client");
    Ok(())
}

impl Arm {
    fn file(&self) -> String {
        format!("rules/{}.{}", self.name, self.rule)
    }
}

/// Imports this many mails from `first` on, and returns the time it took.
fn take(room: &Room, arm: &mut Arm, first: u32, mails: u32) -> Result<Duration> {
    let folder = room.path().join("mails");
    fs::create_dir(&folder)?;
    let mut chance = Chance::new(u64::from(first));
    for number in 0..mails {
        let id = first.wrapping_add(number);
        let sender = chance.below(u64::from(REQUESTERS));
        let mail = format!(
            "From: user{sender}@acme.example\r\nTo: support@acme.example\r\nSubject: {id}\r\nMessage-ID: <{id}.{}@mail.acme.example>\r\n\r\nCould somebody look at it?\r\n",
            arm.name
        );
        fs::write(folder.join(format!("{number:06}.eml")), mail)?;
    }
    let log = room.path().join("import.log");
    let args = ["mail", "import", "--mailbox", arm.name, "mails"];
    let usage = measure(&mut room.postroom(&args)?, &log)?;
    fs::remove_dir_all(&folder)?;
    arm.peak_rss = arm.peak_rss.max(usage.peak_rss);
    Ok(usage.wall)
}

/// Returns mailbox and time of each decision except those of the warm-up. Fails if one has a wrong text.
fn decided(room: &Room) -> Result<Vec<(String, Duration)>> {
    let mut decided = Vec::new();
    for row in room.rows("decisions")? {
        let subject = row["subject"].as_str().and_then(|it| it.parse().ok());
        if subject == Some(WARM_UP) {
            continue;
        }
        let mailbox = row["mailbox"].as_str().unwrap_or_default();
        let from = row["from"].as_str().unwrap_or_default();
        let expected = match mailbox {
            "js2" | "rust2" | "made" => {
                let name = from.split('@').next().unwrap_or_default();
                format!("{name} has 2")
            }
            _ => "asked nothing".to_owned(),
        };
        let action = &row["actions"][0];
        ensure!(
            action["reason"] == expected.as_str() || action["title"] == expected.as_str(),
            "not {expected:?}: {row}"
        );
        let micros = row["elapsed_us"].as_u64().context("no elapsed_us")?;
        decided.push((mailbox.to_owned(), Duration::from_micros(micros)));
    }
    Ok(decided)
}

fn contacts() -> String {
    let mut text = String::from("name,email,phone,vip,floor\n");
    for number in 0..CONTACTS {
        let _ = writeln!(
            text,
            "user{number},user{number}@acme.example,+1 555 {number:06},{},{}",
            if number % 50 == 0 { "yes" } else { "" },
            number % 9
        );
    }
    text
}

/// Writes the tickets into the store, since making them through the line would take minutes.
fn fill(room: &Room) -> Result<()> {
    let store = Connection::open(room.path().join("data/postroom.sqlite"))?;
    store.execute_batch(&format!(
        "PRAGMA journal_mode = OFF;
         PRAGMA synchronous = OFF;
         PRAGMA foreign_keys = OFF;
         PRAGMA cache_size = -200000;
         BEGIN;
         WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {OTHERS})
         INSERT INTO tenant (id, name) SELECT 1000 + n, 'other' || n FROM c;
         CREATE TEMP TABLE made (ticket INTEGER PRIMARY KEY, tenant INTEGER, requester TEXT);
         WITH RECURSIVE c(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM c WHERE n < {all} - 1)
         INSERT INTO made SELECT {FIRST} + n,
             CASE n % ({OTHERS} + 1) WHEN 0 THEN (SELECT id FROM tenant WHERE name = 'acme') ELSE 1000 + n % ({OTHERS} + 1) END,
             'user' || (n / ({OTHERS} + 1) % {REQUESTERS}) || '@acme.example' FROM c;
         INSERT INTO item (kind, tenant, decision, ticket, state, created_ms, updated_ms, title, priority, queue, detail, body)
         SELECT 0, tenant, (SELECT min(journal) FROM decision), ticket, 'open', 1753000000000, 1753000000000, 'Ticket ' || ticket,
             'normal', 'Service desk', json_object('fields', json_object('job', 'job ' || (ticket % 1000)), 'requester', requester), 'It burns'
         FROM made ORDER BY ticket;
         INSERT INTO ticket_word (tenant, name, value, ticket) SELECT tenant, '', requester, ticket FROM made ORDER BY 1, 2, 3, 4;
         UPDATE sequence SET last = {FIRST} + {all} WHERE name = 'ticket';
         COMMIT;
         PRAGMA journal_mode = WAL;",
        all = OWN * (OTHERS + 1)
    ))?;
    Ok(())
}

fn configuration(arms: &[Arm]) -> String {
    let mut text = String::from(
        "data_dir = \"data\"\n[tenants.plain]\n[tenants.acme]\ngrants = [\"lookup\"]\ncontacts = \"contacts.csv\"\n",
    );
    for arm in arms {
        let (name, tenant, file) = (arm.name, arm.tenant, arm.file());
        let _ = write!(
            text,
            "[mailboxes.{name}]\ntenant = \"{tenant}\"\nprotocol = \"spool\"\npath = \"spool-{name}\"\nrules = [\"{file}\"]\n"
        );
        if let Some(asks) = arm.asks {
            let _ = write!(
                text,
                "[tenants.{tenant}.settings.\"{file}\"]\nasks = {asks:?}\n"
            );
        }
    }
    text
}
