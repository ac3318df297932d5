//! From save to live: a script is saved repeatedly while mail flows, and no mail may be lost, decided twice, or decided by
//! half a rule.
//!
//! Measures the time from the save (the rename that replaces the file) to the log line `rules are live`, which is written
//! as soon as the new generation is live, both by the same clock. The time includes the watcher's debounce.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use jiff::Timestamp;
use postroom_core::ContentHash;
use postroom_stand::Stand;

use crate::chance::Chance;
use crate::figures::{median, percentile, time};
use crate::process::{Background, measure};
use crate::room::{Room, TEN_JS};

const USER: &str = "live@acme.example";
const RULE: &str = "ten.js";
const LIVE: &str = "rules are live";
/// The pause between two mails: about thirty a second.
const MAIL_PAUSE: Duration = Duration::from_millis(30);
const PATIENCE: Duration = Duration::from_secs(30);

/// Saves the rule `saves` times and prints the time until it was live.
pub fn run(stand: &Stand, saves: u32) -> Result<()> {
    println!("Save to live: a script of ten patterns, saved {saves} times while mail flows");
    let room = Room::new(stand, &[USER.to_owned()], RULE, version(0).as_bytes())?;
    let log = room.path().join("run.log");
    let service = Background::start(&mut room.postroom(&["run"])?, &log)?;
    await_lines(&log, 1)?;

    let (stop, sent) = (AtomicBool::new(false), AtomicU32::new(0));
    let saved = std::thread::scope(|scope| {
        let flow = scope.spawn(|| {
            let mails = std::iter::from_fn(|| {
                std::thread::sleep(MAIL_PAUSE);
                (!stop.load(Ordering::Relaxed)).then(|| mail(sent.fetch_add(1, Ordering::Relaxed)))
            });
            stand.deliver_many(USER, mails)
        });
        let saved = save_all(&room, &log, saves);
        stop.store(true, Ordering::Relaxed);
        match flow.join() {
            Ok(delivered) => delivered.and(saved),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })?;
    service.stop()?;
    // The last mails may still be on the server.
    measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("once.log"),
    )?;
    let sent = sent.into_inner();
    check(&room, sent, &saved)?;

    let taken: Vec<Duration> = saved.iter().map(|save| save.taken).collect();
    println!(
        "  median {}, p99 {}, slowest {} (goal: p99 <= 100 ms, the watcher's wait for quiet included)",
        time(median(&taken)),
        time(percentile(&taken, 0.99)),
        time(percentile(&taken, 1.0)),
    );
    println!(
        "  {sent} mails flowed meanwhile: each decided once, by one whole version, none by a version already replaced"
    );
    dev(&room, saves)
}

/// Makes the same saves in `postroom dev`, which first replays the last 50 of the mails, and measures the time to the
/// difference on the screen, and to live.
fn dev(room: &Room, saves: u32) -> Result<()> {
    let log = room.path().join("dev.log");
    let service = Background::start(&mut room.postroom(&["dev"])?, &log)?;
    let (replayed, live) = ("  replay  ", "    live  ");
    // The first lines belong to the start.
    await_begins(&log, live, 1)?;
    let rule = room.path().join("rules").join(RULE);
    let fresh = room.path().join("rules/.saving");
    let mut chance = Chance::new(11);
    let (mut shown, mut served) = (Vec::new(), Vec::new());
    for number in 1..=saves {
        std::fs::write(&fresh, version(saves + number))?;
        let saved = Instant::now();
        std::fs::rename(&fresh, &rule)?;
        await_begins(&log, replayed, number as usize + 1)?;
        shown.push(saved.elapsed());
        await_begins(&log, live, number as usize + 1)?;
        served.push(saved.elapsed());
        std::thread::sleep(Duration::from_millis(100 + chance.below(200)));
    }
    service.stop()?;
    let figures = |times: &[Duration]| {
        format!(
            "median {}, p99 {}, slowest {}",
            time(median(times)),
            time(percentile(times, 0.99)),
            time(percentile(times, 1.0))
        )
    };
    println!(
        "  in dev, with a replay of 50 mails, to the difference on the screen: {} (goal: 1 s)",
        figures(&shown)
    );
    println!("  in dev, to live: {}", figures(&served));
    Ok(())
}

/// Waits until this many lines of the log have this prefix.
fn await_begins(log: &Path, begin: &str, count: usize) -> Result<()> {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        if text.lines().filter(|line| line.starts_with(begin)).count() >= count {
            return Ok(());
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{begin:?} begins fewer than {count} lines of the log:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Save {
    taken: Duration,
    /// The time at which its version was live.
    live: Timestamp,
}

fn save_all(room: &Room, log: &Path, saves: u32) -> Result<Vec<Save>> {
    let mut chance = Chance::new(7);
    let rule = room.path().join("rules").join(RULE);
    let fresh = room.path().join("rules/.saving");
    let mut all = Vec::new();
    for number in 1..=saves {
        std::fs::write(&fresh, version(number))?;
        let saved = Timestamp::now();
        std::fs::rename(&fresh, &rule)?;
        // The first line belongs to the start.
        let lines = await_lines(log, number as usize + 1)?;
        let line = lines.last().context("a log without lines")?;
        let live: Timestamp = line.split_whitespace().next().unwrap_or_default().parse()?;
        let taken = Duration::try_from(live.duration_since(saved))?;
        all.push(Save { taken, live });
        // Not in step with anything.
        std::thread::sleep(Duration::from_millis(100 + chance.below(200)));
    }
    Ok(all)
}

/// Returns the script in the version with this number, identified by the queue of its tickets.
fn version(number: u32) -> String {
    TEN_JS.replace("Service desk", &format!("v{number}"))
}

/// Waits until the log has reported this many times that rules are live.
fn await_lines(log: &Path, count: usize) -> Result<Vec<String>> {
    let started = Instant::now();
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let lines: Vec<String> = complete
            .lines()
            .filter(|line| line.contains(LIVE))
            .map(str::to_owned)
            .collect();
        if lines.len() >= count {
            return Ok(lines);
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "{LIVE:?} stands only {} times in the log:\n{text}",
            lines.len()
        );
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn check(room: &Room, sent: u32, saved: &[Save]) -> Result<()> {
    room.check_ledger(u64::from(sent))?;
    let hashes: HashMap<String, u32> = (0..=u32::try_from(saved.len())?)
        .map(|number| (ContentHash::of(version(number).as_bytes()).hex(), number))
        .collect();
    let mut seen = HashSet::new();
    for row in room.rows("decisions")? {
        let id = row["message_id"].as_str().unwrap_or_default().to_owned();
        ensure!(seen.insert(id.clone()), "{id} was decided twice");
        let by = row["rule_hash"].as_str().and_then(|hash| hashes.get(hash));
        let Some(&by) = by else {
            bail!("{id} was decided by no version: {row}");
        };
        let queue = row["actions"][0]["queue"].as_str().unwrap_or_default();
        ensure!(
            queue == format!("v{by}"),
            "{id}: version {by} answered {queue:?}"
        );
        let received: Timestamp = row["received"].as_str().unwrap_or_default().parse()?;
        // A running batch keeps its rules, so only mail journalled after the change must have the new ones.
        let replaced = saved.get(by as usize).map(|next| next.live);
        ensure!(
            replaced.is_none_or(|at| received <= at),
            "{id} came at {received} and was decided by version {by}, which was replaced at {replaced:?}"
        );
    }
    ensure!(
        seen.len() == sent as usize,
        "{} of {sent} mails were decided",
        seen.len()
    );
    Ok(())
}

fn mail(number: u32) -> String {
    format!(
        "From: dana@acme.example\r\nTo: {USER}\r\nSubject: Screen {number} stays black\r\nMessage-ID: <{number}.live@mail.acme.example>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\nCould somebody come by?\r\n"
    )
}
