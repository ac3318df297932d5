//! `postroom shadow show`: the differences found by the newest shadow of a mailbox, in the form of a replay.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use postroom_core::counted;
use postroom_sandbox::Limits;
use postroom_store::{Listings, Shadow, ShadowMail, ShadowResult};
use serde_json::Value;

use super::{listed, newest, state};
use crate::commands::replay::{Lines, Printer, Text, summary};
use crate::commands::{open_listings, print};
use postroom_line::replay::{Comparison, Report, RuleReport, Skip};
use postroom_line::shadow::replayed;
use postroom_rules::rulebook::RuleId;

pub fn show(config: &Path, mailbox: &str, all: bool, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let shadow = newest(&*reader, mailbox)?;
    let mails = reader.shadow_mails(shadow.id)?;
    let report = report(&shadow, &mails);
    let shown = match json {
        true => as_lines(&*reader, &shadow, &mails, &report),
        false => as_text(&*reader, &shadow, &mails, &report, all),
    };
    match shown {
        Err(error) if is_closed(&error) => Ok(ExitCode::SUCCESS),
        shown => shown.map(|()| ExitCode::SUCCESS),
    }
}

/// Returns a shadow's results as the counts of a replay; the candidate's cost covers the given mails.
pub fn report(shadow: &Shadow, mails: &[ShadowMail]) -> Report {
    let limits = Limits {
        time: Duration::from_micros(shadow.limit_us),
        memory_bytes: usize::try_from(shadow.limit_memory_bytes).unwrap_or(usize::MAX),
        ..Limits::default()
    };
    let id = RuleId {
        tenant: shadow.tenant.clone(),
        name: shadow.rule.clone(),
    };
    let mut rule = RuleReport::new(id, shadow.hash.hex(), limits);
    let mut changes = Report::default();
    for mail in mails {
        if let (Some(elapsed_us), Some(memory)) = (mail.elapsed_us, mail.memory_bytes) {
            let memory = usize::try_from(memory).unwrap_or(usize::MAX);
            rule.add(Duration::from_micros(elapsed_us), memory);
        }
        if let Some(kind) = mail.trouble {
            *rule.troubles.entry(kind.name()).or_default() += 1;
        }
        if let ShadowResult::Changed(words) = &mail.result {
            changes.count(&Comparison::Changed(words.clone()));
        }
    }
    let skips = Skip::ALL.into_iter();
    let skipped: BTreeMap<Skip, u64> = skips
        .filter_map(|skip| Some((skip, *shadow.skipped.get(skip.name())?)))
        .collect();
    Report {
        same: shadow.same,
        changed: shadow.changed,
        failed: shadow.failed,
        mended: shadow.mended,
        changes: changes.changes,
        unrecorded: shadow.unrecorded,
        skipped,
        rules: vec![rule],
        ..Report::default()
    }
}

fn as_text(
    reader: &dyn Listings,
    shadow: &Shadow,
    mails: &[ShadowMail],
    report: &Report,
    all: bool,
) -> anyhow::Result<()> {
    print(format!(
        "shadow of {} on {}, begun {}: {} of {}, {}\n",
        shadow.rule,
        shadow.mailbox,
        shadow.began,
        shadow.decided(),
        counted(shadow.wanted, "mail"),
        state(shadow)
    ))?;
    let mut text = Text::new(all);
    let mut unkept = 0;
    for mail in mails.iter().filter(|mail| differs(mail)) {
        match replayed(reader, mail)? {
            Some(replayed) => text.mail(&replayed)?,
            None => unkept += 1,
        }
    }
    if unkept > 0 {
        print(format!(
            "… {} more were decided differently; no details are kept\n",
            counted(unkept, "mail")
        ))?;
    }
    Ok(text.end(report)?)
}

/// Prints a line for each mail that was decided differently, and the counts at the end.
fn as_lines(
    reader: &dyn Listings,
    shadow: &Shadow,
    mails: &[ShadowMail],
    report: &Report,
) -> anyhow::Result<()> {
    let mut lines = Lines::new();
    let mut unkept = 0;
    for mail in mails.iter().filter(|mail| differs(mail)) {
        match replayed(reader, mail)? {
            Some(replayed) => lines.mail(&replayed)?,
            None => unkept += 1,
        }
    }
    let mut last = summary(report);
    if let Value::Object(last) = &mut last {
        // It was not a single run.
        last.remove("elapsed_ms");
        last.remove("interrupted");
        last.insert("not_kept".into(), unkept.into());
        last.insert("shadow".into(), listed(shadow));
    }
    lines.line(&last)?;
    Ok(lines.flush()?)
}

fn differs(mail: &ShadowMail) -> bool {
    !matches!(mail.result, ShadowResult::Same | ShadowResult::Skipped(_))
}

/// Returns whether the reader of the output went away (`| head`).
fn is_closed(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
