//! Intake by protocol: the same mails over IMAP and POP3 from Dovecot, and from the double of Microsoft Graph.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postroom_stand::Stand;

use crate::figures::{each, mebibytes, median, table};
use crate::filled::{Expected, append, check_moved, copy_mailbox};
use crate::mails;
use crate::process::{Usage, dovecot_cpu, measure};
use crate::room::{Room, Way, component};
use crate::throughput::peak;

/// The mailbox that is filled; the runs get copies.
const MASTER: &str = "protocols@acme.example";
/// The first is the one that the others are compared with.
const WAYS: [Way; 4] = [Way::Imap, Way::ImapDelete, Way::Pop3, Way::Graph];

struct Run {
    usage: Usage,
    /// Dovecot's processor time meanwhile.
    server: Duration,
}

/// Drains the same mails in each way, `rounds` times, and prints a table of medians.
pub fn run(stand: &Stand, count: u32, rounds: usize) -> Result<()> {
    println!(
        "Protocols: the same {count} mails by each protocol to durable tickets, Rust rule, {rounds} rounds"
    );
    // Graph does not list a backlog in the order of arrival, so a reply could be decided before the mail that it answers.
    let numbers = (0..).filter(|&number| !mails::answers_before(number, number));
    let numbers: Vec<u32> = numbers.take(count as usize).collect();
    append(stand, MASTER, &numbers)?;
    let expected = Expected::of(numbers);
    let mut runs: Vec<Vec<Run>> = WAYS.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (way, runs) in WAYS.into_iter().zip(&mut runs) {
            let user = format!("p{round}-{way:?}@acme.example").to_lowercase();
            runs.push(drain(stand, way, &user, &expected).with_context(|| name(way))?);
        }
    }
    report(count, &runs);
    Ok(())
}

fn drain(stand: &Stand, way: Way, user: &str, expected: &Expected) -> Result<Run> {
    match way {
        Way::Graph => fill_graph(stand, user)?,
        _ => copy_mailbox(stand, MASTER, user)?,
    }
    let rule = component("ten")?;
    let room = Room::over(stand, way, &[user.to_owned()], "ten.wasm", &rule)?;
    let before = dovecot_cpu(stand)?;
    let mut postroom = room.postroom(&["run", "--once"])?;
    let usage = measure(&mut postroom, &room.path().join("run.log"))?;
    let server = dovecot_cpu(stand)?.saturating_sub(before);
    room.check_ledger(u64::from(expected.count()))?;
    expected.check_decisions(&room.rows("decisions")?)?;
    check_mailbox(stand, way, user, expected.count())?;
    Ok(Run { usage, server })
}

/// Copies the mails to the double, byte for byte and in their order.
fn fill_graph(stand: &Stand, user: &str) -> Result<()> {
    let stored = stand.folder(MASTER, "INBOX")?;
    let start = Timestamp::now() - Duration::from_secs(24 * 60 * 60);
    for (number, mail) in stored.into_iter().enumerate() {
        let received = start + Duration::from_millis(number as u64);
        let graph = stand.graph();
        graph.deliver_dated(user, "inbox", received, mail.bytes);
    }
    Ok(())
}

/// Fails unless the inbox is empty and all mails are where their acknowledgement puts them.
fn check_mailbox(stand: &Stand, way: Way, user: &str, count: u32) -> Result<()> {
    match way {
        Way::Imap => check_moved(stand, user, count),
        Way::ImapDelete | Way::Pop3 => {
            let left = stand.message_count(user, "INBOX")?;
            ensure!(left == 0, "{left} mails stayed in INBOX");
            Ok(())
        }
        Way::Graph => {
            let graph = stand.graph();
            let left = graph.folder(user, "inbox").len();
            let moved = graph.folder(user, "Processed").len();
            ensure!(
                left == 0 && moved == count as usize,
                "{left} mails stayed in the inbox and {moved} of {count} are in Processed"
            );
            Ok(())
        }
    }
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Imap => "IMAP, moved",
        Way::ImapDelete => "IMAP, deleted",
        Way::Pop3 => "POP3, deleted",
        Way::Graph => "Graph (our double), moved",
    }
}

fn report(count: u32, runs: &[Vec<Run>]) {
    let middle = |runs: &[Run], of: fn(&Run) -> Duration| {
        median(&runs.iter().map(of).collect::<Vec<Duration>>())
    };
    let rate = |runs: &[Run]| f64::from(count) / middle(runs, |run| run.usage.wall).as_secs_f64();
    let first = runs.first().map_or(0.0, |runs| rate(runs));
    let rows: Vec<Vec<String>> = WAYS
        .into_iter()
        .zip(runs)
        .map(|(way, runs)| {
            let usages: Vec<Usage> = runs.iter().map(|run| run.usage).collect();
            vec![
                name(way).to_owned(),
                format!("{:.0}", rate(runs)),
                format!("{:.2}x", rate(runs) / first),
                each(middle(runs, |run| run.usage.cpu), count),
                match way {
                    Way::Graph => "-".to_owned(),
                    _ => each(middle(runs, |run| run.server), count),
                },
                mebibytes(peak(&usages)),
            ]
        })
        .collect();
    table(
        &[
            "protocol, mail then",
            "mails/s",
            "to IMAP",
            "CPU a mail",
            "Dovecot's",
            "peak RSS",
        ],
        &rows,
    );
    println!(
        "  every mail in its right place, ledger balanced, inbox empty: checked after every run"
    );
}
