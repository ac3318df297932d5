//! The outcome of a mail in a few words, for live views.

use postroom_core::{Action, AlertState, Decision};
use postroom_store::Committed;

/// Returns the ticket's number with its priority, an alert's state, or a reason.
pub fn detail(decision: &Decision, committed: &Committed) -> String {
    let actions = decision.actions.iter();
    let what = actions.clone().find_map(|action| match action {
        Action::Ticket(ticket) => Some(ticket.priority.clone().unwrap_or_default()),
        Action::Alert(_) => Some(states(decision)),
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

/// Returns the state of the alerts: firing if one of them is.
pub fn alert_state(decision: &Decision) -> Option<AlertState> {
    decision.main_alert().map(|alert| alert.state)
}

/// Returns the state of the only alert, or how many of several are firing.
fn states(decision: &Decision) -> String {
    let all = decision.alerts().count();
    let firing = decision
        .alerts()
        .filter(|alert| alert.state == AlertState::Firing);
    match (firing.count(), all) {
        (1, 1) => state(AlertState::Firing).to_owned(),
        (0, 1) => state(AlertState::Resolved).to_owned(),
        (firing, all) => format!("{firing} of {all} firing"),
    }
}

fn state(state: AlertState) -> &'static str {
    match state {
        AlertState::Firing => "firing",
        AlertState::Resolved => "resolved",
    }
}
