//! `postroom outbox`: lists deliveries and their errors, and retries or drops them.

use std::collections::VecDeque;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::Timestamp;
use postroom_core::{Clock, counted};
use postroom_store::{
    Control, Filter, Listings, OutboxChange, OutboxDetail, OutboxRow, OutboxSelection,
};
use serde_json::json;

use crate::cli::{OutboxCommand, OutboxFilter};
use crate::commands::listings::{SCREENFUL, list, name_of};
use crate::commands::{open_listings, operator, print};
use crate::store;

const STATES: &[&str] = &["waiting", "delivered", "dead", "dropped"];
/// The most ids that a retry of many entries prints.
const NAMED: usize = 10;

pub fn outbox(
    config: &Path,
    command: Option<OutboxCommand>,
    filter: &OutboxFilter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    match command.unwrap_or(OutboxCommand::List) {
        OutboxCommand::List => list_entries(&*open_listings(config)?, filter, json),
        OutboxCommand::Show { id } => {
            let Some(entry) = open_listings(config)?.outbox_entry(id)? else {
                bail!("the outbox has no entry {id}; `postroom outbox` lists what it has");
            };
            show(&entry, json)?;
            Ok(ExitCode::SUCCESS)
        }
        OutboxCommand::Retry {
            ids,
            target,
            all_dead,
        } => {
            let wanted = match (all_dead, target) {
                (true, target) => OutboxSelection::Dead { target },
                (false, Some(target)) => OutboxSelection::Target(target),
                (false, None) => OutboxSelection::Entries(ids),
            };
            let data_dir = data_dir(config)?;
            let changes = store::control(&data_dir)
                .retry_outbox(&wanted)
                .with_context(|| format!("the data folder {}", data_dir.display()))?;
            report(&changes, "due now", json)
        }
        OutboxCommand::Drop { ids, reason } => {
            let data_dir = data_dir(config)?;
            let changes = store::control(&data_dir)
                .drop_outbox(&ids, &operator(), reason.as_deref())
                .with_context(|| format!("the data folder {}", data_dir.display()))?;
            report(&changes, "dropped", json)
        }
    }
}

fn list_entries(
    reader: &dyn Listings,
    filter: &OutboxFilter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let state = filter.state.as_deref();
    if let Some(state) = state
        && !STATES.contains(&state)
    {
        bail!("--state {state}: one of {}", STATES.join(", "));
    }
    let most = filter.limit.or((!json).then_some(SCREENFUL));
    let wanted = Filter {
        limit: most.filter(|_| state.is_none()),
        ..Filter::default()
    };
    let mut rows = VecDeque::new();
    let mut any = false;
    for row in reader.outbox(&wanted)? {
        let row = row?;
        any = true;
        if state.is_none_or(|state| state == row.state) {
            rows.push_back(Ok(row));
        }
        // The newest are kept, as in the other listings.
        if most.is_some_and(|most| rows.len() > most) {
            rows.pop_front();
        }
    }
    if let (true, true, false, Some(state)) = (any, rows.is_empty(), json, state) {
        print(format!("no entry is {state}"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let now = Clock::system().now();
    list(
        json,
        rows.into_iter(),
        &[
            "id",
            "tenant",
            "target",
            "kind",
            "state",
            "what",
            "subject",
            "decision",
            "tries",
            "age",
            "next try",
            "last error",
        ],
        |row| cells(row, now),
    )
}

fn cells(row: &OutboxRow, now: Timestamp) -> Vec<String> {
    vec![
        row.id.to_string(),
        row.tenant.clone(),
        row.target.clone(),
        name_of(&row.kind),
        state(row).to_owned(),
        what(row),
        row.title.clone().unwrap_or_default(),
        decision(row),
        row.attempts.to_string(),
        age(&row.since, now),
        row.due
            .as_deref()
            .map(|due| next_try(due, now))
            .unwrap_or_default(),
        row.error.clone().unwrap_or_default(),
    ]
}

/// Returns the state; `refused` for an entry that its target refuses while it accepts others.
fn state(row: &OutboxRow) -> &str {
    match row.refused {
        Some(_) if row.state == "waiting" => "refused",
        _ => row.state,
    }
}

/// Returns the number of the decision; empty for an alert of Postroom itself.
fn decision(row: &OutboxRow) -> String {
    row.decision.map(|it| it.to_string()).unwrap_or_default()
}

/// Describes the entry: its recipients, or its ticket or alert.
fn what(row: &OutboxRow) -> String {
    if !row.to.is_empty() {
        return row.to.join(", ");
    }
    let about = row.alert_key.as_ref().or(row.ticket.as_ref());
    about.cloned().unwrap_or_default()
}

fn age(since: &str, now: Timestamp) -> String {
    match since.parse::<Timestamp>() {
        Ok(since) => span(now.duration_since(since).as_secs()),
        Err(_) => String::new(),
    }
}

fn next_try(due: &str, now: Timestamp) -> String {
    match due
        .parse::<Timestamp>()
        .map(|due| due.duration_since(now).as_secs())
    {
        Ok(left) if left > 0 => format!("in {}", span(left)),
        Ok(_) => "due".into(),
        Err(_) => String::new(),
    }
}

/// Returns the largest unit of a duration, which is precise enough here.
fn span(secs: i64) -> String {
    match secs.max(0) {
        secs if secs < 60 => format!("{secs}s"),
        secs if secs < 3_600 => format!("{}m", secs / 60),
        secs if secs < 86_400 => format!("{}h", secs / 3_600),
        secs => format!("{}d", secs / 86_400),
    }
}

fn show(entry: &OutboxDetail, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print(serde_json::to_string(entry)?)?);
    }
    let row = &entry.row;
    let mut lines = vec![
        ("entry", row.id.to_string()),
        ("state", state(row).to_owned()),
        ("tenant", row.tenant.clone()),
        ("target", format!("{} ({})", row.target, name_of(&row.kind))),
        ("decision", decision(row)),
        ("tries", row.attempts.to_string()),
        ("created", row.created.clone()),
        ("key", row.idempotency_key.clone()),
    ];
    let since = Some(&row.since).filter(|since| **since != row.created);
    for (name, value) in [
        ("ticket", &row.ticket),
        ("alert", &row.alert_key),
        ("subject", &row.title),
        ("retried", &since.cloned()),
        ("refused", &row.refused),
        ("next try", &row.due),
        ("ended", &row.finished),
        ("error", &row.error),
        ("receipt", &row.receipt),
        ("dropped by", &row.dropped_by),
        ("reason", &row.dropped_reason),
    ] {
        if let Some(value) = value {
            lines.push((name, value.clone()));
        }
    }
    if !row.to.is_empty() {
        lines.push(("to", row.to.join(", ")));
    }
    for (name, value) in lines {
        print(format!("{name:<11}{value}"))?;
    }
    match entry.payload.is_null() {
        true => print("\nits payload is no longer kept")?,
        false => print(format!(
            "\n{}",
            serde_json::to_string_pretty(&entry.payload)?
        ))?,
    }
    Ok(())
}

/// Prints the result for each entry. The exit code is 1 if a named entry could not be changed.
fn report(changes: &[(i64, OutboxChange)], done: &str, json: bool) -> anyhow::Result<ExitCode> {
    let mut changed = Vec::new();
    let mut all = true;
    for (id, change) in changes {
        let problem = match change {
            OutboxChange::Changed => None,
            OutboxChange::Unknown => Some("there is no such entry".to_owned()),
            OutboxChange::Ended(state) => Some(format!("it is {state} already")),
            OutboxChange::Purged => Some("its payload is no longer kept".to_owned()),
        };
        if json {
            print(json!({ "id": id, "changed": problem.is_none(), "problem": problem }))?;
        } else if let Some(problem) = &problem {
            print(format!("{id}: not changed: {problem}"))?;
        }
        match problem {
            None => changed.push(id.to_string()),
            Some(_) => all = false,
        }
    }
    if !json {
        let entries = counted(changed.len(), "entry");
        let named = match changed.len() {
            0 => String::new(),
            1..=NAMED => format!(": {}", changed.join(", ")),
            _ => format!(": {} …", changed[..NAMED].join(", ")),
        };
        print(format!("{entries} {done}{named}"))?;
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn data_dir(config: &Path) -> anyhow::Result<std::path::PathBuf> {
    postroom_config::data_dir(config).map_err(|problems| anyhow::anyhow!("{problems}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_by_their_largest_unit() {
        for (secs, expected) in [
            (-5, "0s"),
            (59, "59s"),
            (60, "1m"),
            (7_199, "1h"),
            (86_400 * 14, "14d"),
        ] {
            assert_eq!(span(secs), expected);
        }
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        assert_eq!(next_try("2026-01-01T00:10:00Z", now), "in 10m");
        assert_eq!(next_try("2025-12-31T00:00:00Z", now), "due");
    }
}
