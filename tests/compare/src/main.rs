//! The referee of the parser: reads public corpora and our cases with three other readers beside Postroom, and fails on each field
//! where two of them agree and Postroom differs, unless `accepted.toml` gives a reason.

mod accepted;
mod fields;
mod figures;
mod mails;
mod readers;
mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use postroom_core::Message;

use accepted::{Accepted, Key, UNJUDGED};
use fields::{Difference, FIELDS, Opinion};
use mails::Mail;
use reading::Reading;

/// Characters of a value that are printed on each side of the first difference.
const SHOWN: usize = 60;

/// Compares Postroom's parser with mailparser, Python's email and the mail-parser crate.
#[derive(Debug, Parser)]
struct Options {
    /// Only mails whose name contains this
    only: Option<String>,
    /// Write new differences to accepted.toml and remove entries that no longer occur
    #[arg(long, conflicts_with = "only")]
    update: bool,
    /// Print accepted differences, too
    #[arg(long)]
    all: bool,
    /// The program that runs the Python peer
    #[arg(long, default_value = "python3")]
    python: String,
    /// The program that runs the npm peer
    #[arg(long, default_value = "node")]
    node: String,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut mails = mails::collect(&root)?;
    if let Some(only) = &options.only {
        mails.retain(|mail| mail.name.contains(only.as_str()));
    }
    let messages: Vec<Message> = mails.iter().map(readers::parse).collect();
    let found = compare(&options, &mails, &messages)?;

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("accepted.toml");
    let mut accepted = Accepted::load(&path)?;
    if options.update {
        accepted.update(&keys(&found));
        accepted.save(&path)?;
    }
    let mut faults = report(&options, &mails, &found, &accepted);
    // Figures of a part of the mails would say nothing.
    if options.only.is_none() {
        faults += figures::report(&root, &options.python, &mails, &messages)?;
    }
    match faults {
        0 => println!("\ncompare: no faults"),
        _ => println!("\ncompare: {faults} faults; docs/compare.md explains them"),
    }
    Ok(if faults == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Returns each difference with the name of its mail.
fn compare<'a>(
    options: &Options,
    mails: &'a [Mail],
    messages: &[Message],
) -> Result<Vec<(&'a str, Difference)>> {
    let peers = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("peers");
    // The crate may panic on a mail; its message is of no interest.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let of_crate: Vec<Reading> = mails.iter().map(readers::mail_parser).collect();
    std::panic::set_hook(hook);
    let (python, node) = std::thread::scope(|scope| {
        let python = scope.spawn(|| readers::child(&options.python, &peers.join("read.py"), mails));
        let node = readers::child(&options.node, &peers.join("read.mjs"), mails);
        let python = python
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        (python, node)
    });
    let (python, node) = (python?, node?);
    let mut found = Vec::new();
    for (at, mail) in mails.iter().enumerate() {
        let peers = [
            ("mailparser", &node[at]),
            ("email", &python[at]),
            ("mail-parser", &of_crate[at]),
        ];
        let flowed = mail
            .bytes
            .to_ascii_lowercase()
            .windows(13)
            .any(|window| window == b"format=flowed");
        let ours = readers::postroom(&messages[at]);
        found.extend(
            fields::differences(&ours, &peers, flowed)
                .into_iter()
                .map(|d| (mail.name.as_str(), d)),
        );
    }
    for (name, readings) in [
        ("mailparser", &node),
        ("email", &python),
        ("mail-parser", &of_crate),
    ] {
        let failed = readings
            .iter()
            .filter(|reading| reading.error.is_some())
            .count();
        println!(
            "{name}: {} mails read, {failed} failed",
            readings.len() - failed
        );
    }
    Ok(found)
}

/// Prints differences and counts. Returns the number of faults.
fn report(
    options: &Options,
    mails: &[Mail],
    found: &[(&str, Difference)],
    accepted: &Accepted,
) -> usize {
    let mut faults = 0;
    let mut counts = BTreeMap::new();
    let mut last = "";
    for (name, difference) in found {
        let reason = accepted.reason(&((*name).to_owned(), difference.field));
        let (accepted, all) = counts.entry(difference.field).or_insert((0, 0));
        *all += 1;
        let is_accepted = reason.is_some_and(|reason| reason != UNJUDGED);
        if is_accepted {
            *accepted += 1;
        } else {
            faults += 1;
        }
        if is_accepted && !options.all {
            continue;
        }
        if last != *name {
            println!("\n{name}");
            last = name;
        }
        let (ours, theirs) = excerpts(&difference.ours, &difference.theirs);
        println!("  {}", difference.field);
        println!("    ours    {ours}");
        println!("    theirs  {theirs}  ({})", difference.peers.join(", "));
        if let Some(reason) = reason {
            println!("    reason  {reason}");
        }
    }
    // Other mails are not read if some are selected.
    let stale = match options.only {
        Some(_) => Vec::new(),
        None => accepted.stale(&keys(found)),
    };
    if !stale.is_empty() {
        println!("\naccepted.toml lists what no longer occurs; make compare UPDATE=1 removes it");
        for entry in &stale {
            println!("  {entry}");
        }
        faults += stale.len();
    }
    println!("\n{} mails, {} fields each", mails.len(), FIELDS.len());
    println!("  {:<18}{:>12}{:>10}", "field", "differences", "accepted");
    for (field, (accepted, all)) in counts {
        println!("  {field:<18}{all:>12}{accepted:>10}");
    }
    println!("{} differences, {faults} faults", found.len());
    faults
}

fn keys(found: &[(&str, Difference)]) -> BTreeSet<Key> {
    found
        .iter()
        .map(|(name, difference)| ((*name).to_owned(), difference.field))
        .collect()
}

/// Returns two different values around the place where they differ, each on one line.
fn excerpts(ours: &Opinion, theirs: &Opinion) -> (String, String) {
    let flat = |opinion: &Opinion| {
        let values = opinion.iter().map(|value| value.as_deref().unwrap_or("?"));
        let text = values.collect::<Vec<_>>().join(" | ");
        text.chars().collect::<Vec<char>>()
    };
    let (ours, theirs) = (flat(ours), flat(theirs));
    let same = ours.iter().zip(&theirs).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(SHOWN / 2);
    let cut = |text: &[char]| {
        let start = from.min(text.len());
        let end = (same + SHOWN).min(text.len());
        let before = if start > 0 { "…" } else { "" };
        let after = if end < text.len() { "…" } else { "" };
        let shown: String = text[start..end].iter().collect();
        format!("{before}{}{after}", shown.escape_debug())
    };
    (cut(&ours), cut(&theirs))
}
