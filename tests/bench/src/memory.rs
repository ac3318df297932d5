//! Postroom's memory over a long backlog.

use anyhow::Result;
use postroom_stand::Stand;

use crate::figures::mebibytes;
use crate::filled::{append, check_moved};
use crate::process::measure;
use crate::room::{Room, TEN_JS};

/// The long backlog, as a multiple of the throughput bench's.
const LONGER: u32 = 4;

/// Drains a backlog four times as long and prints its peak memory next to `short`, that of the throughput bench, if it was
/// measured.
pub fn run(stand: &Stand, count: u32, short: Option<u64>) -> Result<()> {
    let (user, longer) = ("backlog@acme.example", count * LONGER);
    println!("Memory: a backlog of {longer} mails, JS rule");
    append(stand, user, &(0..longer).collect::<Vec<_>>())?;
    let room = Room::new(stand, &[user.to_owned()], "ten.js", TEN_JS.as_bytes())?;
    let usage = measure(
        &mut room.postroom(&["run", "--once"])?,
        &room.path().join("run.log"),
    )?;
    room.check_ledger(u64::from(longer))?;
    check_moved(stand, user, longer)?;
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
