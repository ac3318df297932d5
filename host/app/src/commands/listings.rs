//! `items`, `expectations` and `ledger`: the recorded results, for people or as one JSON object per line.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::{Span, Timestamp, civil::Date, tz::TimeZone};
use postroom_core::{Clock, ItemKind, ItemSnapshot, MailboxState};
use postroom_store::{self as store, StoreError};
use serde::Serialize;

use crate::cli::Filter;
use crate::commands::{open_listings, table};
use crate::output;

/// The default limit of a listing for people; `--limit` and `--json` exceed it.
pub const SCREENFUL: usize = 500;

pub fn items(
    config: &Path,
    filter: &Filter,
    kind: Option<String>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut wanted = wanted(filter, json)?;
    wanted.kind = kind.map(|name| kind_of(&name)).transpose()?;
    let reader = open_listings(config)?;
    if wanted.kind == Some(ItemKind::Alert) {
        return alerts(json, reader.items(&wanted)?);
    }
    list(
        json,
        reader.items(&wanted)?,
        &[
            "id", "kind", "tenant", "about", "state", "queue", "title", "updated",
        ],
        |row| {
            vec![
                row.id.to_string(),
                name_of(&row.kind),
                row.tenant.clone(),
                row.ticket
                    .clone()
                    .or(row.alert_key.clone())
                    .unwrap_or_default(),
                row.state.clone(),
                row.queue.clone().unwrap_or_default(),
                title(row),
                row.updated.clone(),
            ]
        },
    )
}

/// Returns a title; for an alert also its severity, host and service.
fn title(row: &ItemSnapshot) -> String {
    let title = row.title.as_deref().unwrap_or_default();
    if row.kind != ItemKind::Alert {
        return title.to_owned();
    }
    let about = [&row.priority, &row.detail.host, &row.detail.service];
    let about: Vec<&str> = about.into_iter().flatten().map(String::as_str).collect();
    match about.is_empty() {
        true => title.to_owned(),
        false => format!("{}: {title}", about.join(" ")),
    }
}

/// Lists alerts with what is down, and since when.
fn alerts(json: bool, rows: store::Rows<ItemSnapshot>) -> anyhow::Result<ExitCode> {
    list(
        json,
        rows,
        &[
            "id",
            "tenant",
            "key",
            "state",
            "severity",
            "host",
            "service",
            "count",
            "last seen",
            "title",
        ],
        |row| {
            let state = match row.held {
                Some(held) => format!("{} ({held})", row.state),
                None => row.state.clone(),
            };
            vec![
                row.id.to_string(),
                row.tenant.clone(),
                row.alert_key.clone().unwrap_or_default(),
                state,
                row.priority.clone().unwrap_or_default(),
                row.detail.host.clone().unwrap_or_default(),
                row.detail.service.clone().unwrap_or_default(),
                row.count.unwrap_or_default().to_string(),
                row.last_seen.clone().unwrap_or_default(),
                row.title.clone().unwrap_or_default(),
            ]
        },
    )
}

pub fn expectations(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let rows = open_listings(config)?.expectations()?;
    list(
        json,
        rows.into_iter().map(Ok),
        &["due", "state", "tenant", "mailbox", "key", "last"],
        |row| {
            vec![
                row.due.clone(),
                row.state.to_owned(),
                row.tenant.clone(),
                row.mailbox.clone(),
                row.key.clone(),
                row.last.clone(),
            ]
        },
    )
}

pub fn ledger(config: &Path, mailbox: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let wanted = store::Filter {
        mailbox: mailbox.map(str::to_owned),
        ..store::Filter::default()
    };
    let rows = reader.ledger(&wanted)?;
    let balanced = rows.iter().all(store::LedgerRow::balances);
    list(
        json,
        rows.into_iter().map(Ok),
        &[
            "mailbox",
            "day",
            "seen",
            "tickets",
            "notes",
            "alerts",
            "ignored",
            "quarantined",
            "pending",
            "repeated",
        ],
        |row| {
            let counts = [
                row.seen,
                row.tickets,
                row.notes,
                row.alerts,
                row.ignored,
                row.quarantined,
                row.pending,
                row.repeated,
            ];
            let mut cells = vec![row.mailbox.clone(), row.day.clone()];
            cells.extend(counts.iter().map(u64::to_string));
            cells
        },
    )?;
    for row in reader.mailboxes()? {
        if let (false, Some(state)) = (
            json,
            row.state.filter(|state| *state != MailboxState::Serving),
        ) {
            let since = row.since.unwrap_or_default();
            let detail = row.detail.unwrap_or_default();
            let kind = match state {
                MailboxState::PartlyRead => "is read in part",
                _ => "is paused",
            };
            println!("{} {kind} since {since}: {state}: {detail}", row.mailbox);
        }
    }
    if balanced {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the ledger does not balance: this is a bug in Postroom; please report it");
    Ok(ExitCode::FAILURE)
}

/// Lists the mails that arrived again and were not decided again.
pub fn repeats(config: &Path, mailbox: Option<&str>, json: bool) -> anyhow::Result<ExitCode> {
    let wanted = store::Filter {
        mailbox: mailbox.map(str::to_owned),
        limit: (!json).then_some(SCREENFUL),
        ..store::Filter::default()
    };
    let rows = open_listings(config)?.repeats(&wanted)?;
    list(
        json,
        rows.into_iter().map(Ok),
        &["seen", "mailbox", "message id", "mail", "first"],
        |row| {
            vec![
                row.seen.clone(),
                row.mailbox.clone(),
                row.message_id.clone(),
                row.mail.0.to_string(),
                row.first.clone(),
            ]
        },
    )
}

/// Prints rows as the store returns them; a pipe that closes early (`| head`) is not an error.
pub fn list<T: Serialize>(
    json: bool,
    rows: impl Iterator<Item = Result<T, StoreError>>,
    header: &[&str],
    cells: impl Fn(&T) -> Vec<String>,
) -> anyhow::Result<ExitCode> {
    if !json {
        let rows = rows.collect::<Result<Vec<T>, _>>()?;
        table::print(header, rows.iter().map(cells))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    for row in rows {
        let mut line = output::json(&row?)?;
        line.push('\n');
        match out.write_all(line.as_bytes()) {
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => break,
            written => written?,
        }
    }
    match out.flush() {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Returns the filter for a listing's options. Tables are limited by default; JSON has all rows unless limited.
pub fn wanted(filter: &Filter, json: bool) -> anyhow::Result<store::Filter> {
    Ok(store::Filter {
        tenant: filter.tenant.clone(),
        mailbox: filter.mailbox.clone(),
        since_ms: filter.since.as_deref().map(since).transpose()?,
        limit: filter.limit.or((!json).then_some(SCREENFUL)),
        ..store::Filter::default()
    })
}

/// Returns the time of `--since`, in milliseconds since 1970 in UTC.
pub fn since(text: &str) -> anyhow::Result<i64> {
    let moment = if let Ok(time) = text.parse::<Timestamp>() {
        time
    } else if let Ok(day) = text.parse::<Date>() {
        day.to_zoned(TimeZone::UTC)?.timestamp()
    } else if let Ok(age) = text.parse::<Span>() {
        Clock::system()
            .now()
            .to_zoned(TimeZone::UTC)
            .checked_sub(age)?
            .timestamp()
    } else {
        bail!(
            "--since {text}: a time (2026-01-31T12:00:00Z), a day (2026-01-31) or an age (90m, 24h, 7d)"
        );
    };
    Ok(moment.as_millisecond())
}

fn kind_of(name: &str) -> anyhow::Result<ItemKind> {
    serde_json::from_value(name.into())
        .with_context(|| format!("--kind {name}: one of ticket, note, alert"))
}

/// Returns a value's name in JSON.
pub fn name_of(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(name)) => name,
        _ => String::new(),
    }
}
