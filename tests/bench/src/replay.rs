//! Recorded mail through a candidate: the throughput bench's mails, journalled and decided before, are decided again and
//! compared.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::figures::{mebibytes, median, table, time};
use crate::mails;
use crate::process::{Usage, measure};
use crate::room::{Room, TEN_JS};

const RULE: &str = "ten.js";
/// The number of mails in a view of the last mails.
const FEW: &str = "50";

/// Replays `count` mails `rounds` times and prints medians. Fails unless each mail is decided as before.
pub fn run(count: u32, rounds: usize) -> Result<()> {
    println!(
        "Replay: {count} recorded mails, parsed and decided again by ten patterns, {rounds} rounds"
    );
    let room = Room::of_files(RULE, TEN_JS.as_bytes())?;
    let folder = room.path().join("mails");
    fs::create_dir(&folder)?;
    for number in 0..count {
        fs::write(
            folder.join(format!("{number:06}.eml")),
            mails::sample(number).bytes,
        )?;
    }
    let log = room.path().join("replay.log");
    measure(
        &mut room.postroom(&["mail", "import", "--mailbox", "drop", "mails"])?,
        &log,
    )?;
    fs::remove_dir_all(&folder)?;
    room.check_ledger(u64::from(count))?;

    let mut rows = Vec::new();
    let few = ["--limit", FEW];
    for (what, args, mails) in [
        ("all", &[][..], count),
        ("all, as JSON", &["--json"][..], count),
        ("the last 50", &few[..], count.min(50)),
    ] {
        let mut usages = Vec::new();
        for _ in 0..rounds {
            let args = [&["replay"][..], args].concat();
            usages.push(measure(&mut room.postroom(&args)?, &log)?);
        }
        rows.push(row(what, &usages, mails));
    }
    check(&room, count)?;
    table(&["", "time", "mails/s", "CPU", "peak RSS"], &rows);
    println!(
        "  goal: >= 5000 mails/s for all; the program's start is in the time. Each mail was decided as it was before"
    );
    Ok(())
}

fn row(what: &str, usages: &[Usage], mails: u32) -> Vec<String> {
    let of = |part: fn(&Usage) -> Duration| median(&usages.iter().map(part).collect::<Vec<_>>());
    let wall = of(|usage| usage.wall);
    let peak = usages.iter().map(|usage| usage.peak_rss).max();
    vec![
        what.to_owned(),
        time(wall),
        format!("{:.0}", f64::from(mails) / wall.as_secs_f64()),
        time(of(|usage| usage.cpu)),
        mebibytes(peak.unwrap_or(0)),
    ]
}

/// Checks that all decisions are the same, and that a different rule changes some.
fn check(room: &Room, count: u32) -> Result<()> {
    let summary = |args: &[&str]| -> Result<Value> {
        let output = room.postroom(args)?.output()?;
        let text = String::from_utf8(output.stdout)?;
        let last = text.lines().last().context("a replay without a summary")?;
        Ok(serde_json::from_str(last)?)
    };
    let same = summary(&["replay", "--json"])?;
    ensure!(
        same["same"] == count && same["replayed"] == count,
        "not every mail was decided as it was: {same}"
    );
    let other = room.path().join("other.js");
    fs::write(&other, TEN_JS.replace("Service desk", "Another desk"))?;
    let changed = summary(&[
        "replay",
        "--json",
        "--rule",
        "other.js",
        "--as",
        "rules/ten.js",
    ])?;
    ensure!(
        changed["changed"].as_u64().is_some_and(|mails| mails > 0) && changed["failed"] == 0,
        "a changed rule changed nothing: {changed}"
    );
    Ok(())
}
