//! From IMAP to durable tickets: Postroom and its peers, one after the other, on copies of the same mailbox.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use postroom_stand::Stand;

use crate::figures::{mebibytes, median, table, time};
use crate::filled::{Expected, check_moved, copy_mailbox, fresh_folder};
use crate::mails;
use crate::process::{Usage, measure};
use crate::room::{Room, TEN_JS, component, target};

/// The mailbox that is filled; the contenders get copies.
const MASTER: &str = "master@acme.example";
/// Makes a peer fetch and move many mails with one command. Without it, a peer takes one mail at a time, as in the first
/// examples of its documentation, and moves a mail only after its outcome was recorded.
const BULK: &str = "--bulk";

/// The program that sorts the mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Contender {
    #[value(name = "rust")]
    PostroomRust,
    #[value(name = "js")]
    PostroomJs,
    #[value(name = "imaptools")]
    ImapTools,
    #[value(name = "imaptools-bulk")]
    ImapToolsBulk,
    #[value(name = "imapflow")]
    ImapFlow,
    #[value(name = "imapflow-bulk")]
    ImapFlowBulk,
    Mbsync,
}

const CONTENDERS: [Contender; 7] = [
    Contender::PostroomRust,
    Contender::PostroomJs,
    Contender::ImapTools,
    Contender::ImapFlow,
    Contender::ImapToolsBulk,
    Contender::ImapFlowBulk,
    Contender::Mbsync,
];

/// Measures the contenders (all if none is named), `rounds` times each, and prints a table of medians. Returns the peak
/// memory of the script run.
pub fn run(stand: &Stand, count: u32, rounds: usize, wanted: &[Contender]) -> Result<Option<u64>> {
    println!("Throughput: {count} mails, IMAP to durable tickets by ten patterns, {rounds} rounds");
    let expected = fill(stand, count)?;
    // Removed at the end only: a file system may be busy for seconds after thousands of files were deleted.
    let scratch = tempfile::tempdir_in(target()?)?;
    let mut usages: HashMap<&str, Vec<Usage>> = HashMap::new();
    for round in 0..rounds {
        for contender in CONTENDERS {
            let left_out = !wanted.is_empty() && !wanted.contains(&contender);
            if left_out || contender == Contender::Mbsync && !has_mbsync() {
                continue;
            }
            let user = format!("c{round}-{}@acme.example", contender.tag());
            copy_mailbox(stand, MASTER, &user)?;
            let usage = contender
                .run(stand, &user, &expected, &fresh_folder(scratch.path())?)
                .with_context(|| contender.name())?;
            usages.entry(contender.tag()).or_default().push(usage);
        }
    }
    report(count, &usages);
    let script = usages.get(Contender::PostroomJs.tag());
    Ok(script.map(|runs| peak(runs)))
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Contender::PostroomRust => "Postroom, Rust rule",
            Contender::PostroomJs => "Postroom, JS rule",
            Contender::ImapTools => "imap_tools",
            Contender::ImapFlow => "imapflow + mailparser",
            Contender::ImapToolsBulk => "imap_tools in bulk",
            Contender::ImapFlowBulk => "imapflow + mailparser in bulk",
            Contender::Mbsync => "mbsync (fetches to files, no more)",
        }
    }

    fn tag(self) -> &'static str {
        match self {
            Contender::PostroomRust => "rust",
            Contender::PostroomJs => "js",
            Contender::ImapTools => "imaptools",
            Contender::ImapToolsBulk => "imaptools-bulk",
            Contender::ImapFlow => "imapflow",
            Contender::ImapFlowBulk => "imapflow-bulk",
            Contender::Mbsync => "mbsync",
        }
    }

    /// Returns the goal as a multiple of the peers' speed.
    fn goal(self) -> &'static str {
        match self {
            Contender::PostroomRust => ">= 10x both, 3x mbsync",
            Contender::PostroomJs => ">= 6x both",
            _ => "",
        }
    }

    /// Runs the contender once, with its files below `dir`.
    fn run(self, stand: &Stand, user: &str, expected: &Expected, dir: &Path) -> Result<Usage> {
        match self {
            Contender::PostroomRust => {
                run_postroom(stand, user, expected, "ten.wasm", &component("ten")?)
            }
            Contender::PostroomJs => {
                run_postroom(stand, user, expected, "ten.js", TEN_JS.as_bytes())
            }
            Contender::ImapTools => run_peer(&mut imap_tools()?, stand, user, expected, dir),
            Contender::ImapToolsBulk => {
                run_peer(imap_tools()?.arg(BULK), stand, user, expected, dir)
            }
            Contender::ImapFlow => run_peer(&mut imapflow(), stand, user, expected, dir),
            Contender::ImapFlowBulk => run_peer(imapflow().arg(BULK), stand, user, expected, dir),
            Contender::Mbsync => run_mbsync(stand, user, expected, dir),
        }
    }
}

fn fill(stand: &Stand, count: u32) -> Result<Expected> {
    let mut sizes = Vec::new();
    let mut attached = 0;
    for number in 0..count {
        let mail = mails::sample(number);
        sizes.push(mail.bytes.len());
        attached += usize::from(memory_has(&mail.bytes, b"Content-Disposition: attachment"));
    }
    sizes.sort_unstable();
    let kib = |share: usize| {
        let size = sizes.get(sizes.len() * share / 100).copied().unwrap_or(0);
        format!("{:.1}", size as f64 / 1024.0)
    };
    println!(
        "  sizes: median {} KiB, p90 {} KiB, {} MiB in all; {attached} with attachments",
        kib(50),
        kib(90),
        sizes.iter().sum::<usize>() >> 20,
    );
    let started = std::time::Instant::now();
    stand.deliver_many(MASTER, (0..count).map(|number| mails::sample(number).bytes))?;
    println!("  delivered by LMTP in {}", time(started.elapsed()));
    Ok(Expected::of(0..count))
}

fn memory_has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn run_postroom(
    stand: &Stand,
    user: &str,
    expected: &Expected,
    rule: &str,
    content: &[u8],
) -> Result<Usage> {
    let room = Room::new(stand, &[user.to_owned()], rule, content)?;
    let log = room.path().join("run.log");
    let usage = measure(&mut room.postroom(&["run", "--once"])?, &log)?;
    room.check_ledger(u64::from(expected.count()))?;
    expected.check_decisions(&room.rows("decisions")?)?;
    check_moved(stand, user, expected.count())?;
    Ok(usage)
}

fn imap_tools() -> Result<Command> {
    let mut command = Command::new(target()?.join("../venv-bench/bin/python"));
    command.arg(peers().join("sort.py"));
    Ok(command)
}

fn imapflow() -> Command {
    let mut command = Command::new("node");
    command.arg(peers().join("sort.mjs"));
    command
}

fn run_peer(
    command: &mut Command,
    stand: &Stand,
    user: &str,
    expected: &Expected,
    dir: &Path,
) -> Result<Usage> {
    let out = dir.join("places");
    command
        .env("BENCH_PORT", stand.ports().imaps.to_string())
        .env("BENCH_USER", user)
        .env("BENCH_PASSWORD", stand.password())
        .env("BENCH_CA", stand.ca_pem())
        .env("BENCH_OUT", &out);
    let usage = measure(command, &dir.join("log"))?;
    let places = fs::read_to_string(&out)?;
    expected.check(places.lines().filter_map(|line| {
        let (id, place) = line.split_once('\t')?;
        Some((id.to_owned(), place.to_owned()))
    }))?;
    check_moved(stand, user, expected.count())?;
    Ok(usage)
}

fn run_mbsync(stand: &Stand, user: &str, expected: &Expected, dir: &Path) -> Result<Usage> {
    let mut command = mbsync(stand, user, dir, true)?;
    let usage = measure(&mut command, &dir.join("log"))?;
    let fetched = mbsync_files(dir)?.len();
    ensure!(
        fetched == expected.count() as usize,
        "mbsync fetched {fetched} of {} mails",
        expected.count()
    );
    Ok(usage)
}

/// Returns mbsync as it fetches a mailbox's INBOX to files in this folder.
pub fn mbsync(stand: &Stand, user: &str, dir: &Path, fsync: bool) -> Result<Command> {
    let config = dir.join("mbsyncrc");
    fs::write(
        &config,
        format!(
            "FSync {fsync}\n\n\
             IMAPAccount bench\nHost localhost\nPort {port}\nUser {user}\nPass {password}\nSSLType IMAPS\nCertificateFile {ca}\nAuthMechs LOGIN\n\n\
             IMAPStore far\nAccount bench\n\n\
             MaildirStore near\nPath {dir}/\nInbox {dir}/INBOX\n\n\
             Channel bench\nFar :far:\nNear :near:\nPatterns INBOX\nSync Pull\nCreate Near\nSyncState *\n",
            fsync = if fsync { "yes" } else { "no" },
            port = stand.ports().imaps,
            password = stand.password(),
            ca = stand.ca_pem().display(),
            dir = dir.display(),
        ),
    )?;
    let mut command = Command::new("mbsync");
    command.arg("-c").arg(&config).arg("-a");
    Ok(command)
}

/// Returns the files that it fetched.
pub fn mbsync_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for folder in ["new", "cur"] {
        for entry in fs::read_dir(dir.join("INBOX").join(folder))? {
            files.push(entry?.path());
        }
    }
    Ok(files)
}

fn report(count: u32, usages: &HashMap<&str, Vec<Usage>>) {
    let rate = |contender: Contender| {
        let runs = usages.get(contender.tag())?;
        let walls: Vec<Duration> = runs.iter().map(|usage| usage.wall).collect();
        Some(f64::from(count) / median(&walls).as_secs_f64())
    };
    let mut rows = Vec::new();
    for contender in CONTENDERS {
        let (Some(own), Some(runs)) = (rate(contender), usages.get(contender.tag())) else {
            continue;
        };
        let cpus: Vec<Duration> = runs.iter().map(|usage| usage.cpu).collect();
        let machine: Vec<Duration> = runs.iter().map(|usage| usage.machine_cpu).collect();
        let ratio = |peer: Contender, bulk: Contender| {
            let to = |peer| rate(peer).map_or("-".into(), |peer| format!("{:.1}x", own / peer));
            format!("{} / {}", to(peer), to(bulk))
        };
        rows.push(vec![
            contender.name().to_owned(),
            format!("{own:.0}"),
            ratio(Contender::ImapTools, Contender::ImapToolsBulk),
            ratio(Contender::ImapFlow, Contender::ImapFlowBulk),
            rate(Contender::Mbsync).map_or("-".into(), |peer| format!("{:.1}x", own / peer)),
            time(median(&cpus)),
            time(median(&machine)),
            mebibytes(peak(runs)),
            contender.goal().to_owned(),
        ]);
    }
    table(
        &[
            "contender",
            "mails/s",
            "to imap_tools / bulk",
            "to imapflow / bulk",
            "to mbsync",
            "CPU",
            "machine CPU",
            "peak RSS",
            "goal",
        ],
        &rows,
    );
    println!(
        "  every mail in its right place, ledger balanced, INBOX empty: checked after every run"
    );
    if !has_mbsync() {
        println!("  mbsync is not installed: left out");
    }
}

pub fn peak(runs: &[Usage]) -> u64 {
    runs.iter().map(|usage| usage.peak_rss).max().unwrap_or(0)
}

pub fn has_mbsync() -> bool {
    Command::new("mbsync")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}
