//! A storm: as many alerts as mails, all of which begin to fire at once, with and without storm control, beside as many tickets.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::figures::{median, table, time};
use crate::process::measure;
use crate::room::Room;

const RULE: &[u8] = b"export function decide(mail) {
  if (mail.subject.startsWith(\"ticket\")) return ticket();
  return alert({ key: mail.subject, state: \"firing\", host: mail.subject, severity: \"critical\" });
}
";
/// The alerts of a storm that are delivered by default, before the storm's own.
const DELIVERED: usize = 200;

/// One kind of mail.
struct Arm {
    what: &'static str,
    subject: &'static str,
    /// The value of `[alerts] storm`.
    storm: &'static str,
    taken: Vec<Duration>,
    entries: usize,
}

/// Drains a folder of `mails` mails for each arm, `rounds` times, and prints medians. Fails if an alert is missing or delivered
/// although it should be held.
pub fn run(mails: usize, rounds: usize) -> Result<()> {
    println!("Storm: {mails} alerts of one client that begin to fire at once, {rounds} rounds");
    let arm = |what, subject, storm| Arm {
        what,
        subject,
        storm,
        taken: Vec::new(),
        entries: 0,
    };
    let mut arms = [
        arm("tickets", "ticket", "\"off\""),
        arm("alerts, each delivered", "alert", "\"off\""),
        arm("alerts, one storm", "alert", "{}"),
    ];
    for _ in 0..rounds {
        for arm in &mut arms {
            drain(arm, mails)?;
        }
    }
    let rows: Vec<Vec<String>> = arms
        .iter()
        .map(|arm| {
            let taken = median(&arm.taken);
            let rate = mails as f64 / taken.as_secs_f64();
            vec![
                arm.what.to_owned(),
                format!("{rate:.0}"),
                time(taken),
                arm.entries.to_string(),
            ]
        })
        .collect();
    table(&["", "mails/s", "all of them", "deliveries"], &rows);
    println!("  every alert is recorded; a storm is {DELIVERED} of them and one about the rest");
    Ok(())
}

fn drain(arm: &mut Arm, mails: usize) -> Result<()> {
    // Nobody listens at port 1: deliveries are queued and wait.
    let configuration = format!(
        "data_dir = \"data\"\n[alerts]\nstorm = {}\n[tenants.acme]\n[mailboxes.drop]\ntenant = \"acme\"\nprotocol = \"spool\"\npath = \"spool\"\nrules = [\"rules/storm.js\"]\n[sinks.psa]\nkind = \"webhook\"\nurl = \"http://127.0.0.1:1/\"\nsecret = {{ file = \"secret\" }}\n",
        arm.storm
    );
    let room = Room::local(&configuration, &[("storm.js", RULE)])?;
    let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
    fs::write(room.path().join("secret"), secret)?;
    let folder = room.path().join("spool");
    fs::create_dir(&folder)?;
    // Compiles the rule.
    measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("log"),
    )?;
    for number in 0..mails {
        let mail = format!(
            "From: monitor@acme.example\r\nTo: alerts@acme.example\r\nSubject: {}-{number}\r\nDate: Mon, 30 Nov 2026 10:00:00 +0000\r\nMessage-ID: <{number}@mail.acme.example>\r\n\r\nDown.\r\n",
            arm.subject
        );
        fs::write(folder.join(format!("{number:06}.eml")), mail)?;
    }
    let usage = measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("log"),
    )?;
    arm.taken.push(usage.wall);
    let decided = room.rows("decisions")?.len();
    ensure!(decided == mails, "{decided} of {mails} mails are decided");
    let items = room.rows("items")?.len();
    arm.entries = room.rows("outbox")?.len();
    let is_storm = arm.storm == "{}" && mails > DELIVERED;
    let expected = match is_storm {
        true => (mails + 1, DELIVERED + 1),
        false => (mails, mails),
    };
    ensure!(
        (items, arm.entries) == expected,
        "{}: {items} items and {} deliveries, not {expected:?}",
        arm.what,
        arm.entries
    );
    Ok(())
}
