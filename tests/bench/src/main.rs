//! The bench: Postroom on real servers, compared with other tools, as figures and as ratios within one run.
//!
//! It fails if a mail is lost, duplicated or misplaced or a token is requested too often, but never because a machine is
//! slow.

mod bare;
mod chance;
mod configuration;
mod distance;
mod fair;
mod fetch;
mod figures;
mod filled;
mod generations;
mod idle;
mod live;
mod lookup;
mod mails;
mod memory;
mod parallel;
mod process;
mod protocols;
mod reading;
mod replay;
mod room;
mod sandbox;
mod scripts;
mod sign_in;
mod storm;
mod threading;
mod throughput;

use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Parser, ValueEnum};
use postroom_stand::Stand;

/// How often the disk makes a page durable, to measure the cost.
const SYNCS: u64 = 50;
/// Starts on each store of generations.
const GENERATION_STARTS: usize = 50;
/// Mails of each arm of the lookup bench.
const LOOKUP_MAILS: u32 = 1000;
/// Alerts of the storm.
const STORM_ALERTS: usize = 10_000;
/// The most mails that each protocol drains: the double of Graph takes far longer than Dovecot.
const PROTOCOL_MAILS: u32 = 2000;
/// Saves of the configuration.
const CONFIGURATION_SAVES: u32 = 10;

/// Measures Postroom in comparison with imap_tools, imapflow + mailparser and mbsync.
#[derive(Debug, Parser)]
struct Options {
    /// Only these parts
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Mails of the throughput's mailbox
    #[arg(long, default_value_t = 5000)]
    mails: u32,
    /// Only these contenders of the throughput
    #[arg(long = "contender", value_enum)]
    contenders: Vec<throughput::Contender>,
    /// Times each contender runs
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Decisions of each rule, and readings of each mail
    #[arg(long, default_value_t = 3000)]
    decisions: usize,
    /// Saves of the rule
    #[arg(long, default_value_t = 50)]
    saves: u32,
    /// Idle mailboxes
    #[arg(long, default_value_t = 2000)]
    idle: u32,
    /// Seconds for which the wake-ups of idle mailboxes are counted; what recurs does so every two minutes
    #[arg(long, default_value_t = 120)]
    idle_secs: u64,
    /// Mailboxes of the configuration that is changed
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    mailboxes: u32,
    /// Seconds of each arm of the fair scheduling
    #[arg(long, default_value_t = 20)]
    fair_secs: u64,
    /// Mailboxes that sign in, at least one for each of the 50 profiles
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(50..))]
    sign_ins: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Reading,
    Sandbox,
    Scripts,
    Replay,
    Fair,
    Generations,
    Lookup,
    Threading,
    Storm,
    Throughput,
    Fetch,
    Protocols,
    Parallel,
    Live,
    Memory,
    Idle,
    Configuration,
    SignIn,
}

fn main() -> Result<()> {
    if std::env::args().nth(1).as_deref() == Some(fetch::CHILD) {
        return fetch::run_child();
    }
    let options = Options::parse();
    let wants = |part: Part| options.parts.is_empty() || options.parts.contains(&part);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    println!(
        "Postroom's bench: {cores} cores, one fsync takes {}\n",
        figures::time(sync_time()?)
    );
    if wants(Part::Reading) {
        reading::run(options.decisions)?;
        println!();
    }
    if wants(Part::Sandbox) {
        sandbox::run(options.decisions)?;
        println!();
    }
    if wants(Part::Scripts) {
        scripts::run()?;
        println!();
    }
    if wants(Part::Replay) {
        replay::run(options.mails, options.rounds)?;
        println!();
    }
    if wants(Part::Fair) {
        fair::run(options.rounds, Duration::from_secs(options.fair_secs))?;
        println!();
    }
    if wants(Part::Generations) {
        generations::run(GENERATION_STARTS)?;
        println!();
    }
    if wants(Part::Lookup) {
        lookup::run(LOOKUP_MAILS, options.rounds)?;
        println!();
    }
    if wants(Part::Threading) {
        threading::run()?;
        println!();
    }
    if wants(Part::Storm) {
        storm::run(STORM_ALERTS, options.rounds)?;
        println!();
    }
    // The other parts need servers.
    let alone = |part: &Part| {
        matches!(
            part,
            Part::Reading
                | Part::Sandbox
                | Part::Scripts
                | Part::Replay
                | Part::Fair
                | Part::Generations
                | Part::Lookup
                | Part::Threading
                | Part::Storm
        )
    };
    if !options.parts.is_empty() && options.parts.iter().all(alone) {
        return Ok(());
    }
    let stand = Stand::start()?;
    let mut peak = None;
    if wants(Part::Throughput) {
        peak = throughput::run(&stand, options.mails, options.rounds, &options.contenders)?;
        println!();
    }
    if wants(Part::Fetch) {
        fetch::run(&stand, options.mails, options.rounds)?;
        println!();
    }
    if wants(Part::Protocols) {
        let mails = options.mails.min(PROTOCOL_MAILS);
        protocols::run(&stand, mails, options.rounds)?;
        println!();
    }
    if wants(Part::Parallel) {
        parallel::run(&stand, options.mails, options.rounds)?;
        println!();
    }
    if wants(Part::Live) {
        live::run(&stand, options.saves)?;
        println!();
    }
    if wants(Part::Memory) {
        memory::run(&stand, options.mails, peak)?;
        println!();
    }
    if wants(Part::Idle) {
        idle::run(&stand, options.idle, Duration::from_secs(options.idle_secs))?;
        println!();
    }
    if wants(Part::Configuration) {
        configuration::run(&stand, options.mailboxes, CONFIGURATION_SAVES)?;
        println!();
    }
    if wants(Part::SignIn) {
        sign_in::vault()?;
        println!();
        sign_in::run(&stand, options.sign_ins)?;
        println!();
    }
    Ok(())
}

/// Returns the median time the disk of the data folders takes to make a page durable.
fn sync_time() -> Result<Duration> {
    let mut file = tempfile::tempfile_in(room::target()?)?;
    file.write_all(&[0; 4096])?;
    let mut taken = Vec::new();
    for turn in 0..SYNCS {
        let started = Instant::now();
        file.write_all_at(&[1; 4096], turn * 4096)?;
        file.sync_data()?;
        taken.push(started.elapsed());
    }
    Ok(figures::median(&taken))
}
