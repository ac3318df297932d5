//! Finds the decisions that a person means: by id, Message-ID, ticket or words.

use std::collections::VecDeque;

use anyhow::bail;
use postroom_core::{Action, ticket_number};
use postroom_store::{DecisionId, DecisionRow, Filter, Listings};

use super::mails;

/// Returns the decisions with this id or Message-ID, or about this ticket, oldest first.
///
/// # Errors
/// Fails if there is none.
pub fn all(reader: &dyn Listings, which: &str) -> anyhow::Result<Vec<DecisionRow>> {
    let which = which.trim();
    if let Ok(id) = which.parse() {
        return match reader.decision(DecisionId(id))? {
            Some(row) => Ok(vec![row]),
            None => bail!(
                "there is no decision {id}; help: `postroom decisions` lists the newest, `postroom decisions search WORDS` finds others"
            ),
        };
    }
    let ticket = ticket_number(&which.to_uppercase());
    let message_id = which.trim_start_matches('<').trim_end_matches('>');
    let wanted = Filter {
        ticket,
        message_id: ticket.is_none().then(|| message_id.to_owned()),
        ..Filter::default()
    };
    let found = reader.decisions(&wanted)?.collect::<Result<Vec<_>, _>>()?;
    if found.is_empty() {
        let help = "`postroom decisions search WORDS` finds mail by words of its sender, subject, ticket or alert";
        match ticket {
            Some(_) => bail!("no mail is about {which}; help: {help}"),
            None => bail!(
                "{which:?} is neither the id of a decision, nor a ticket such as T-12, nor the Message-ID of a mail; help: {help}"
            ),
        }
    }
    Ok(found)
}

/// Returns the one decision with this id or Message-ID, or about this ticket.
///
/// # Errors
/// Fails if there is none, or more than one.
pub fn only(reader: &dyn Listings, which: &str) -> anyhow::Result<DecisionRow> {
    let mut found = all(reader, which)?;
    match (found.pop(), found.len()) {
        (Some(row), 0) => Ok(row),
        (_, others) => bail!(
            "{which} has {}; help: name one by its id, which `postroom decisions show {which}` lists",
            mails(others + 1)
        ),
    }
}

/// Returns the newest decisions that contain every word, ignoring case, oldest first.
pub fn search(
    reader: &dyn Listings,
    filter: Filter,
    words: &[String],
) -> anyhow::Result<Vec<DecisionRow>> {
    let words: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
    let most = filter.limit.unwrap_or(usize::MAX);
    let mut found = VecDeque::new();
    // The limit holds for what is found, not for what is searched.
    let unlimited = Filter {
        limit: None,
        ..filter
    };
    for row in reader.decisions(&unlimited)? {
        let row = row?;
        let text = searchable(&row);
        if words.iter().all(|word| text.contains(word.as_str())) {
            found.push_back(row);
            if found.len() > most {
                found.pop_front();
            }
        }
    }
    Ok(found.into())
}

/// Returns everything of a decision that a search looks at, in lower case.
fn searchable(row: &DecisionRow) -> String {
    let mut parts = vec![
        row.subject.as_str(),
        row.from.as_deref().unwrap_or_default(),
        &row.message_id,
        &row.tenant,
        &row.mailbox,
        row.outcome.as_str(),
        row.ticket.as_deref().unwrap_or_default(),
        &row.rule,
    ];
    for action in &row.actions {
        match action {
            Action::Alert(alert) => {
                let more = [&alert.host, &alert.service, &alert.severity, &alert.summary];
                parts.push(&alert.key);
                parts.extend(more.into_iter().flatten().map(String::as_str));
            }
            Action::Ticket(ticket) => parts.extend(ticket.title.as_deref()),
            Action::Ignore { reason } | Action::Quarantine { reason } => parts.push(reason),
            _ => {}
        }
    }
    parts.join("\n").to_lowercase()
}
