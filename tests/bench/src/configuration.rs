//! A changed configuration: one mailbox of a thousand is changed and one is added, while all of them have their sessions.
//!
//! Measures the time from the save (the rename that replaces the file) to the log line [`APPLIED`], both by the same clock. The
//! time includes the watcher's debounce.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postroom_stand::{Stand, wait_for};

use crate::figures::{median, percentile, time};
use crate::filled::check_moved;
use crate::process::Background;
use crate::room::{Room, TRIVIAL_JS, Way, await_sign_ins, mailbox, sessions, sign_ins, tail};

/// The log line that the service writes once a changed configuration is live.
const APPLIED: &str = "configuration applied";
const RULE: &str = "trivial.js";
/// Sessions that one save may end: that of the changed mailbox.
const CHANGED: usize = 1;
/// The pause after a save's effects are complete.
const PAUSE: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(60);

/// Saves the configuration `saves` times and prints the time until it was applied.
pub fn run(stand: &Stand, mailboxes: u32, saves: u32) -> Result<()> {
    println!(
        "Configuration: one of {mailboxes} mailboxes changed and one added by each save, {saves} saves"
    );
    let user = |number: u32| format!("configuration-{number}@acme.example");
    let users: Vec<String> = (0..mailboxes).map(user).collect();
    let room = Room::new(stand, &users, RULE, TRIVIAL_JS.as_bytes())?;
    let before = sign_ins(stand);
    let log = room.path().join("run.log");
    let service = Background::start(&mut room.postroom(&["run"])?, &log)?;
    await_sign_ins(stand, before + users.len(), &log)?;
    let mut taken = Vec::new();
    let mut kept = await_sessions(stand, users.len())?;
    for save in 0..saves {
        let (changed, added) = (save * mailboxes / saves.max(1), mailboxes + save);
        taken.push(save_once(stand, &room, changed, added, &user(added))?);
        // The added mailbox opens its session, and the changed one may open a new one.
        let added = user(added);
        stand.deliver(&added, mail(&added).as_bytes())?;
        let is_read = || check_moved(stand, &added, 1).is_ok();
        ensure!(
            wait_for(PATIENCE, is_read),
            "the added mailbox is not read:\n{}",
            tail(&log)
        );
        std::thread::sleep(PAUSE);
        let now = await_sessions(stand, users.len() + 1 + save as usize)?;
        let lost = kept.difference(&now).count();
        ensure!(
            lost <= CHANGED,
            "{lost} sessions ended, of which one save may end {CHANGED}:\n{}",
            tail(&log)
        );
        kept = now;
    }
    // A mailbox that no save concerned still works.
    let untouched = user(mailboxes - 1);
    stand.deliver(&untouched, mail(&untouched).as_bytes())?;
    let is_read = || check_moved(stand, &untouched, 1).is_ok();
    ensure!(
        wait_for(PATIENCE, is_read),
        "an unchanged mailbox is no longer read:\n{}",
        tail(&log)
    );
    service.stop()?;
    room.check_ledger(u64::from(saves) + 1)?;
    println!(
        "  from save to applied: median {}, p99 {}, slowest {} (goal: <= 1 s, the watcher's wait for quiet included)",
        time(median(&taken)),
        time(percentile(&taken, 0.99)),
        time(percentile(&taken, 1.0)),
    );
    println!(
        "  sessions at Dovecot: {} before, {} after, none of an unchanged mailbox ended; each added mailbox read its mail",
        users.len(),
        kept.len()
    );
    Ok(())
}

/// Changes the interval of one mailbox, adds another mailbox, and returns the time until this is applied.
fn save_once(stand: &Stand, room: &Room, changed: u32, added: u32, user: &str) -> Result<Duration> {
    let (file, fresh) = (
        room.path().join("postroom.toml"),
        room.path().join("postroom.toml.saving"),
    );
    let log = room.path().join("run.log");
    let old = fs::read_to_string(&file)?;
    let head = format!("[mailboxes.box{changed}]\n");
    let (before, block) = old.split_once(&head).context("the mailbox to change")?;
    let block = block.replacen("every = \"2m\"", "every = \"3m\"", 1);
    let more = mailbox(stand, Way::Imap, added as usize, user, "acme", RULE);
    fs::write(&fresh, format!("{before}{head}{block}{more}"))?;
    let lines = applied(&fs::read_to_string(&log)?)?.len();
    let saved = Timestamp::now();
    fs::rename(&fresh, &file)?;
    let waiting = Instant::now();
    loop {
        let applied = applied(&fs::read_to_string(&log)?)?;
        if let Some(at) = applied.get(lines) {
            return Ok(Duration::try_from(at.duration_since(saved))?);
        }
        ensure!(
            waiting.elapsed() < PATIENCE,
            "the log does not say {APPLIED:?} after a save:\n{}",
            tail(&log)
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Waits until this many sessions are open, and returns them.
fn await_sessions(stand: &Stand, count: usize) -> Result<BTreeSet<u16>> {
    let waiting = Instant::now();
    loop {
        let now = sessions(stand)?;
        if now.len() == count {
            return Ok(now);
        }
        ensure!(
            waiting.elapsed() < PATIENCE,
            "{} sessions are open instead of {count}",
            now.len()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Returns the times at which a configuration was applied.
fn applied(log: &str) -> Result<Vec<Timestamp>> {
    let complete = log.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let lines = complete.lines().filter(|line| line.contains(APPLIED));
    let time = |line: &str| Ok(line.split_whitespace().next().unwrap_or_default().parse()?);
    lines.map(time).collect()
}

fn mail(to: &str) -> String {
    format!(
        "From: dana@acme.example\r\nTo: {to}\r\nSubject: Screen stays black\r\nMessage-ID: <to.{to}>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nCould somebody come by?\r\n"
    )
}
