//! The outcome of a mail in a few words, for live views.

use postroom_core::{Action, AlertState, Decision};
use postroom_store::Committed;

/// Returns the ticket's number with its priority, an alert's state, or a reason.
pub fn detail(decision: &Decision, committed: &Committed) -> String {
    let actions = decision.actions.iter();
    let what = actions.clone().find_map(|action| match action {
        Action::Ticket(ticket) => Some(ticket.priority.clone().unwrap_or_default()),
        Action::Alert(alert) => Some(state(alert.state).into()),
        Action::Ignore { reason } | Action::Quarantine { reason } => Some(reason.clone()),
        _ => None,
    });
    let noted = actions.clone().find_map(|action| match action {
        Action::Note(note) => note.ticket.clone(),
        _ => None,
    });
    let number = noted.or_else(|| committed.tickets.first().cloned());
    [number.unwrap_or_default(), what.unwrap_or_default()]
        .join(" ")
        .trim()
        .to_owned()
}

/// Returns the state of the first alert.
pub fn alert_state(decision: &Decision) -> Option<AlertState> {
    decision.actions.iter().find_map(|action| match action {
        Action::Alert(alert) => Some(alert.state),
        _ => None,
    })
}

fn state(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}
