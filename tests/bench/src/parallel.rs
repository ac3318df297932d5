//! A backlog of many mailboxes, drained in parallel, beside the same mails in one mailbox.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postroom_stand::Stand;

use crate::distance::Distance;
use crate::figures::{each, mebibytes, median, table};
use crate::filled::{Expected, append, check_moved, copy_mailbox};
use crate::mails;
use crate::process::{Usage, dovecot_cpu, measure};
use crate::room::{Room, component};
use crate::throughput::peak;

const MAILBOXES: u32 = 30;
/// The time that a byte takes to the distant server and back.
const ROUND_TRIP: Duration = Duration::from_millis(20);
/// The mailbox with all mails; the runs get copies.
const MASTER: &str = "parallel@acme.example";

struct Run {
    usage: Usage,
    /// Dovecot's processor time meanwhile.
    server: Duration,
}

/// The runs at one distance from the server.
#[derive(Default)]
struct Arm {
    one: Vec<Run>,
    many: Vec<Run>,
}

/// Drains thirty mailboxes and one with the same mails, from a server on this machine and from one at a distance, `rounds` times
/// each, and prints a table of medians.
pub fn run(stand: &Stand, count: u32, rounds: usize) -> Result<()> {
    let shares = shares(count / MAILBOXES);
    let all: Vec<u32> = shares.iter().flatten().copied().collect();
    println!(
        "Parallel: {} mails in one mailbox and in {MAILBOXES}, Rust rule, {rounds} rounds",
        all.len()
    );
    append(stand, MASTER, &all)?;
    for (number, share) in shares.iter().enumerate() {
        append(stand, &master(number), share)?;
    }
    let far = Distance::to(stand.ports().imaps, ROUND_TRIP)?;
    let ports = [stand.ports().imaps, far.port];
    let mut arms: [Arm; 2] = Default::default();
    for round in 0..rounds {
        for (port, arm) in ports.into_iter().zip(&mut arms) {
            run_both(stand, port, round, (&all, &shares), arm)?;
        }
    }
    report(u32::try_from(all.len())?, &arms);
    Ok(())
}

fn run_both(
    stand: &Stand,
    port: u16,
    round: usize,
    (all, shares): (&Vec<u32>, &[Vec<u32>]),
    arm: &mut Arm,
) -> Result<()> {
    let user = format!("parallel-{port}-{round}@acme.example");
    copy_mailbox(stand, MASTER, &user)?;
    let one = drain(stand, port, &[user], std::slice::from_ref(all));
    arm.one.push(one.context("one mailbox")?);
    let mut users = Vec::new();
    for number in 0..shares.len() {
        let user = format!("parallel-{port}-{round}-{number}@acme.example");
        copy_mailbox(stand, &master(number), &user)?;
        users.push(user);
    }
    let many = drain(stand, port, &users, shares);
    arm.many.push(many.context("many mailboxes")?);
    Ok(())
}

fn master(number: usize) -> String {
    format!("parallel-master-{number}@acme.example")
}

/// Returns the numbers of the mails of each mailbox. A reply is in the mailbox of the mail that it answers, since mailboxes
/// are drained in any order.
fn shares(size: u32) -> Vec<Vec<u32>> {
    let mut next = 0;
    let share = |_| {
        let first = next;
        let numbers: Vec<u32> = (first..)
            .filter(|&number| !mails::answers_before(number, first))
            .take(size as usize)
            .collect();
        next = numbers.last().map_or(first, |last| last + 1);
        numbers
    };
    (0..MAILBOXES).map(share).collect()
}

/// Drains the mailboxes once, through a port of Dovecot or of a forwarder to it, and checks where each mail is.
fn drain(stand: &Stand, port: u16, users: &[String], shares: &[Vec<u32>]) -> Result<Run> {
    let room = Room::new(stand, users, "ten.wasm", &component("ten")?)?;
    let file = room.path().join("postroom.toml");
    let own = format!("port = {}\n", stand.ports().imaps);
    let configuration = fs::read_to_string(&file)?.replace(&own, &format!("port = {port}\n"));
    fs::write(&file, configuration)?;
    let before = dovecot_cpu(stand)?;
    let mut postroom = room.postroom(&["run", "--once"])?;
    let usage = measure(&mut postroom, &room.path().join("run.log"))?;
    let server = dovecot_cpu(stand)?.saturating_sub(before);
    let count: usize = shares.iter().map(Vec::len).sum();
    room.check_ledger(count as u64)?;
    let rows = room.rows("decisions")?;
    ensure!(
        rows.len() == count,
        "{} of {count} mails were decided",
        rows.len()
    );
    for (number, (user, share)) in users.iter().zip(shares).enumerate() {
        let own: Vec<_> = rows
            .iter()
            .filter(|row| row["mailbox"] == format!("box{number}"))
            .cloned()
            .collect();
        Expected::of(share.iter().copied())
            .check_decisions(&own)
            .and_then(|()| check_moved(stand, user, share.len() as u32))
            .with_context(|| user.clone())?;
    }
    Ok(Run { usage, server })
}

fn report(count: u32, [near, far]: &[Arm; 2]) {
    let middle = |runs: &[Run], of: fn(&Run) -> Duration| {
        median(&runs.iter().map(of).collect::<Vec<Duration>>())
    };
    let rate = |runs: &[Run]| f64::from(count) / middle(runs, |run| run.usage.wall).as_secs_f64();
    let row = |name: String, runs: &[Run], one: &[Run]| {
        let usages: Vec<Usage> = runs.iter().map(|run| run.usage).collect();
        vec![
            name,
            format!("{:.0}", rate(runs)),
            format!("{:.2}x", rate(runs) / rate(one)),
            each(middle(runs, |run| run.usage.cpu), count),
            each(middle(runs, |run| run.server), count),
            mebibytes(peak(&usages)),
        ]
    };
    let far_ms = ROUND_TRIP.as_millis();
    table(
        &[
            "backlog",
            "mails/s",
            "to one",
            "CPU a mail",
            "Dovecot's",
            "peak RSS",
        ],
        &[
            row("in 1 mailbox".into(), &near.one, &near.one),
            row(format!("in {MAILBOXES} mailboxes"), &near.many, &near.one),
            row(format!("in 1, server {far_ms} ms away"), &far.one, &far.one),
            row(
                format!("in {MAILBOXES}, server {far_ms} ms away"),
                &far.many,
                &far.one,
            ),
        ],
    );
    println!(
        "  every mail in its right place and mailbox, ledger balanced, INBOX empty: checked after every run"
    );
}
