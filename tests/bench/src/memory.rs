//! Postroom's memory: over a long backlog, and with many mailboxes that wait for mail.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use postroom_stand::Stand;

use crate::figures::mebibytes;
use crate::process::{Background, measure};
use crate::room::{Room, TEN_JS, await_sign_ins, sign_ins};
use crate::{mails, throughput};

/// The long backlog, as a multiple of the throughput bench's.
const LONGER: u32 = 4;
/// Mails stored by one command.
const APPENDED: usize = 500;
const PATIENCE: Duration = Duration::from_secs(180);
/// The time for which memory must not change to count as settled.
const SETTLED: Duration = Duration::from_secs(2);

/// Drains a backlog four times as long and prints its peak memory next to `short`, that of the throughput bench, if it was
/// measured.
pub fn backlog(stand: &Stand, count: u32, short: Option<u64>) -> Result<()> {
    let (user, longer) = ("backlog@acme.example", count * LONGER);
    println!("Memory: a backlog of {longer} mails, JS rule");
    for first in (0..longer).step_by(APPENDED) {
        let numbers = first..(first + APPENDED as u32).min(longer);
        let mails = numbers.map(|number| mails::sample(number).bytes);
        stand.append(user, "INBOX", "", mails)?;
    }
    let room = Room::new(stand, &[user.to_owned()], "ten.js", TEN_JS.as_bytes())?;
    let usage = measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("run.log"),
    )?;
    room.check_ledger(u64::from(longer))?;
    throughput::check_moved(stand, user, longer)?;
    println!(
        "  peak {} after {longer} mails (goal: flat), {:.0} mails/s",
        mebibytes(usage.peak_rss),
        f64::from(longer) / usage.wall.as_secs_f64()
    );
    if let Some(short) = short {
        println!(
            "  peak {} after {count} mails: grows {:.2}x",
            mebibytes(short),
            usage.peak_rss as f64 / short as f64
        );
    }
    Ok(())
}

/// Starts the service on one and on `count` idle mailboxes and prints the memory of each mailbox.
pub fn idle(stand: &Stand, count: u32) -> Result<()> {
    println!("Memory: idle mailboxes, each with its session in IDLE");
    let one = settled_rss(stand, "one", 1)?;
    let many = settled_rss(stand, "many", count)?;
    let each = many.saturating_sub(one) as f64 / f64::from(count.max(2) - 1);
    let goal_count = 2000.0;
    println!(
        "  1 mailbox {}, {count} mailboxes {}: {:.0} KiB each, so {:.0} MiB for {goal_count} (goal: <= 200 MiB)",
        mebibytes(one),
        mebibytes(many),
        each / 1024.0,
        (one as f64 + each * goal_count) / f64::from(1 << 20),
    );
    Ok(())
}

/// Returns the service's memory once all its mailboxes have signed in and it no longer changes, in bytes.
fn settled_rss(stand: &Stand, tag: &str, count: u32) -> Result<u64> {
    let users: Vec<String> = (0..count)
        .map(|number| format!("idle-{tag}-{number}@acme.example"))
        .collect();
    let room = Room::new(stand, &users, "ten.js", TEN_JS.as_bytes())?;
    let before = sign_ins(stand);
    let started = Instant::now();
    let log = room.path().join("run.log");
    let service = Background::start(&mut room.postroom(&["run"])?, &log)?;
    await_sign_ins(stand, before + count as usize, &log)?;
    let signed_in = started.elapsed();
    let mut rss = service.rss()?;
    let mut since = Instant::now();
    while since.elapsed() < SETTLED {
        std::thread::sleep(Duration::from_millis(100));
        let now = service.rss()?;
        if now != rss {
            (rss, since) = (now, Instant::now());
        }
        ensure!(started.elapsed() < PATIENCE, "the memory does not settle");
    }
    if count > 1 {
        println!(
            "  {count} mailboxes signed in within {:.1} s",
            signed_in.as_secs_f64()
        );
    }
    service.stop()?;
    Ok(rss)
}
