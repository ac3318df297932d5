//! `postroom decisions`: what was decided about each mail, and why.

mod find;
mod story;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use postroom_core::{Action, AlertState, Outcome, counted};
use postroom_store::{DecisionRow, MailRequest};

use crate::cli::{DecisionsCommand, Filter};
use crate::commands::listings::{list, wanted};
use crate::commands::{again, open_listings};

pub use find::only;

pub fn decisions(
    config: &Path,
    command: Option<DecisionsCommand>,
    filter: &Filter,
    outcome: Option<String>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let mut wanted = wanted(filter, json)?;
    wanted.outcome = outcome.map(|name| outcome_of(&name)).transpose()?;
    let reader = open_listings(config)?;
    match command.unwrap_or(DecisionsCommand::List) {
        DecisionsCommand::List => print_rows(json, reader.decisions(&wanted)?),
        DecisionsCommand::Search { words } => {
            let found = find::search(&*reader, wanted, &words)?;
            print_rows(json, found.into_iter().map(Ok))
        }
        DecisionsCommand::Show { which } => {
            let found = find::all(&*reader, &which)?;
            match &found[..] {
                [only] => story::print_story(&*reader, only, json)?,
                // A ticket has several mails.
                _ => return print_rows(json, found.into_iter().map(Ok)),
            }
            Ok(ExitCode::SUCCESS)
        }
        DecisionsCommand::Again {
            which,
            force,
            reason,
        } => {
            let id = only(&*reader, &which)?.id;
            let request = MailRequest::Again { force };
            again::change(config, &[id], request, reason.as_deref(), json)
        }
    }
}

fn print_rows(
    json: bool,
    rows: impl Iterator<Item = Result<DecisionRow, postroom_store::StoreError>>,
) -> anyhow::Result<ExitCode> {
    list(
        json,
        rows,
        &[
            "id", "received", "mailbox", "outcome", "about", "rule", "from", "subject",
        ],
        |row| {
            vec![
                row.id.to_string(),
                row.received.clone(),
                row.mailbox.clone(),
                row.outcome.as_str().to_owned(),
                about(row),
                row.rule.clone(),
                row.from.clone().unwrap_or_default(),
                row.subject.clone(),
            ]
        },
    )
}

/// Returns a decision's ticket, or the state and key of its alert, or the number of its alerts by state.
fn about(row: &DecisionRow) -> String {
    if let Some(ticket) = &row.ticket {
        return ticket.clone();
    }
    let alerts: Vec<_> = row
        .actions
        .iter()
        .filter_map(|action| match action {
            Action::Alert(alert) => Some(alert),
            _ => None,
        })
        .collect();
    match &alerts[..] {
        [] => String::new(),
        [alert] => format!("{} {}", state(alert.state), alert.key),
        many => {
            let firing = many.iter().filter(|it| it.state == AlertState::Firing);
            let firing = firing.count();
            format!("{firing} firing, {} resolved", many.len() - firing)
        }
    }
}

fn state(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}

fn outcome_of(name: &str) -> anyhow::Result<Outcome> {
    serde_json::from_value(name.into()).with_context(|| {
        format!("--outcome {name}: one of ticket, note, alert, ignored, quarantined")
    })
}

/// Returns `1 mail` or `12 mails`, for messages about what was found.
fn mails(count: usize) -> String {
    counted(count, "mail")
}
