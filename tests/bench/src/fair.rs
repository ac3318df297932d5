//! Fair scheduling: nine quiet tenants, without and with a hog whose rule uses its full time limit for each mail of a
//! backlog.
//!
//! Measures the time from a mail's rename into its maildir until Postroom has removed it there, which it does once the
//! decision is on disk. The arms alternate, each with its own service and data folder.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::chance::Chance;
use crate::figures::{median, percentile, table, time};
use crate::process::Background;
use crate::room::{Room, TEN_JS, tail};

const BURNS_JS: &str = include_str!("../rules/burns.js");
const QUIET: usize = 9;
/// The pause between two mails of all quiet tenants together: each gets about five a second.
const PAUSE: Duration = Duration::from_micros(22_222);
/// More mails than can be decided meanwhile, at a quarter of a second each.
const BACKLOG: u32 = 2000;
/// The interval of checks of the mails in flight.
const LOOK: Duration = Duration::from_micros(200);
/// The time at the start whose mails are not counted: caches are cold, and it is not known yet which tenant is slow.
const WARM_UP: Duration = Duration::from_secs(3);
/// The time limit of a mail, however the hog is served.
const PATIENCE: Duration = Duration::from_secs(240);

/// The results of one arm.
struct Arm {
    taken: Vec<Duration>,
    hog_mails_per_sec: f64,
}

/// Measures both arms, `rounds` times for `lasts` each, and prints the percentiles.
pub fn run(rounds: usize, lasts: Duration) -> Result<()> {
    println!(
        "Fair scheduling: {QUIET} quiet tenants with some five mails a second each, {rounds} rounds of {} s without and beside a hog",
        lasts.as_secs()
    );
    let (mut without, mut beside) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        without.push(arm(round, lasts, false)?);
        beside.push(arm(round, lasts, true)?);
    }
    let all =
        |arms: &[Arm]| -> Vec<Duration> { arms.iter().flat_map(|arm| arm.taken.clone()).collect() };
    let row = |name: &str, arms: &[Arm]| {
        let taken = all(arms);
        vec![
            name.to_owned(),
            taken.len().to_string(),
            time(median(&taken)),
            time(percentile(&taken, 0.99)),
            time(percentile(&taken, 1.0)),
        ]
    };
    table(
        &[
            "quiet tenants' mails",
            "counted",
            "median",
            "p99",
            "slowest",
        ],
        &[
            row("without the hog", &without),
            row("beside the hog", &beside),
        ],
    );
    let ratio = |without: &[Duration], beside: &[Duration]| {
        percentile(beside, 0.99).as_secs_f64() / percentile(without, 0.99).as_secs_f64()
    };
    let rounds = without.iter().zip(&beside);
    let each: Vec<String> = rounds
        .map(|(without, beside)| format!("{:.2}x", ratio(&without.taken, &beside.taken)))
        .collect();
    println!(
        "  p99 beside the hog is {:.2}x of that without (goal: <= 2x); in the rounds {}",
        ratio(&all(&without), &all(&beside)),
        each.join(", ")
    );
    let hog: f64 = beside.iter().map(|arm| arm.hog_mails_per_sec).sum();
    println!(
        "  the hog: {:.1} mails/s, of 4 that one slot can do; every quiet mail was decided once",
        hog / beside.len().max(1) as f64
    );
    Ok(())
}

fn arm(round: usize, lasts: Duration, with_hog: bool) -> Result<Arm> {
    let rules = [
        ("ten.js", TEN_JS.as_bytes()),
        ("burns.js", BURNS_JS.as_bytes()),
    ];
    let room = Room::local(&configuration(), &rules)?;
    for tenant in 0..=QUIET {
        for folder in ["new", "tmp"] {
            fs::create_dir_all(room.path().join(format!("spool{tenant}")).join(folder))?;
        }
    }
    for number in 0..if with_hog { BACKLOG } else { 0 } {
        fs::write(
            room.path().join(format!("spool{QUIET}/new/{number}")),
            mail(u64::from(number)),
        )?;
    }
    let log = room.path().join("run.log");
    let service = Background::start(&mut room.postroom(&["run"])?, &log)?;
    let started = Instant::now();
    while !fs::read_to_string(&log)?.contains("rules are live") {
        ensure!(
            started.elapsed() < PATIENCE,
            "it did not start:\n{}",
            tail(&log)
        );
        std::thread::sleep(LOOK);
    }
    let mut flow = Flow {
        room: &room,
        chance: Chance::new(round as u64),
        under_way: Vec::new(),
        sent: 0,
        taken: Vec::new(),
    };
    let began = Instant::now();
    let mut next = began;
    while began.elapsed() < WARM_UP + lasts {
        if Instant::now() >= next {
            flow.send(began.elapsed() >= WARM_UP)?;
            // Not in step with anything.
            next += PAUSE / 2 + Duration::from_micros(flow.chance.below(PAUSE.as_micros() as u64));
        }
        flow.look();
        std::thread::sleep(LOOK);
    }
    let hog_mails = decided(&room, QUIET..QUIET + 1)?;
    let measured = began.elapsed();
    while !flow.under_way.is_empty() {
        ensure!(
            began.elapsed() < PATIENCE,
            "mails stay undecided:\n{}",
            tail(&log)
        );
        flow.look();
        std::thread::sleep(LOOK);
    }
    let (sent, taken) = (flow.sent, flow.taken);
    service.stop()?;
    let decided = decided(&room, 0..QUIET)?;
    ensure!(
        decided == sent,
        "{decided} of {sent} quiet mails were decided"
    );
    Ok(Arm {
        taken,
        hog_mails_per_sec: hog_mails as f64 / measured.as_secs_f64(),
    })
}

/// Mail to the quiet tenants, one after the other.
struct Flow<'a> {
    room: &'a Room,
    chance: Chance,
    /// The files that Postroom has not removed yet, with their start times, and whether they count.
    under_way: Vec<(PathBuf, Instant, bool)>,
    sent: u64,
    taken: Vec<Duration>,
}

impl Flow<'_> {
    fn send(&mut self, counts: bool) -> Result<()> {
        let number = self.sent;
        self.sent += 1;
        let spool = self
            .room
            .path()
            .join(format!("spool{}", number as usize % QUIET));
        let (fresh, file) = (
            spool.join(format!("tmp/{number}")),
            spool.join(format!("new/{number}")),
        );
        fs::write(&fresh, mail(number))?;
        self.under_way.push((file.clone(), Instant::now(), counts));
        fs::rename(fresh, file)?;
        Ok(())
    }

    fn look(&mut self) {
        let taken = &mut self.taken;
        self.under_way.retain(|(file, since, counts)| {
            let is_there = file.exists();
            if !is_there && *counts {
                taken.push(since.elapsed());
            }
            is_there
        });
    }
}

/// Returns how many mails of these tenants are decided.
fn decided(room: &Room, tenants: std::ops::Range<usize>) -> Result<u64> {
    let names: Vec<String> = tenants.map(|tenant| format!("box{tenant}")).collect();
    let rows = room.rows("ledger")?;
    let own = rows
        .iter()
        .filter(|row| names.iter().any(|name| row["mailbox"] == **name));
    Ok(own
        .map(|row| row["seen"].as_u64().unwrap_or(0) - row["pending"].as_u64().unwrap_or(0))
        .sum())
}

/// Returns the configuration. The last of the tenants is the hog.
fn configuration() -> String {
    // Otherwise the hog would soon be switched off.
    let mut text = String::from("data_dir = \"data\"\n[limits]\nstrikes = 0\n");
    for tenant in 0..=QUIET {
        let rule = if tenant == QUIET {
            "burns.js"
        } else {
            "ten.js"
        };
        let _ = write!(
            text,
            r#"
[tenants.client{tenant}]

[mailboxes.box{tenant}]
tenant = "client{tenant}"
protocol = "spool"
path = "spool{tenant}"
after = {{ done = "delete", failed = "delete" }}
rules = ["rules/{rule}"]
"#
        );
    }
    text
}

fn mail(number: u64) -> String {
    format!(
        "From: dana@acme.example\r\nTo: support@acme.example\r\nSubject: Screen {number} stays black\r\nMessage-ID: <{number}.fair@mail.acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n{}\r\n",
        "Could somebody come by and look at it, please?\r\n".repeat(60)
    )
}
