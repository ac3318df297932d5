//! Logs events from the bus: one line for each event that an operator needs to see.

use std::time::Duration;

use postroom_core::MailboxState;
use postroom_rules::directory::DirectoryReloaded;
use postroom_rules::rulebook::{LoadRefusal, Reloaded};

use crate::bus::Heard;
use crate::event::{
    Delivered, DeliveryFailed, FailureConsequence, LineEvent, MailDecided, MailboxChanged,
    StateChange,
};
use crate::intake::IntakeError;

/// The number of rules named in one log line; the rest are counted.
const NAMED: usize = 10;

/// Logs an event, or the number of events missed.
pub fn log(heard: &Heard) {
    match heard {
        Heard::Event(LineEvent::Decided(mails)) => mails.iter().for_each(log_decided),
        Heard::Event(LineEvent::Delivered(delivered)) => log_delivered(delivered),
        Heard::Event(LineEvent::DeliveryFailed(failed)) => log_delivery_failed(failed),
        Heard::Event(LineEvent::RulesReloaded(reloaded)) => log_rules(reloaded),
        Heard::Event(LineEvent::DirectoryReloaded(reloaded)) => log_directory(reloaded),
        Heard::Event(LineEvent::MailboxChanged(changed)) => log_mailbox(changed),
        Heard::Lagged(events) => {
            tracing::warn!(
                events,
                "the log could not keep up and misses events; `postroom decisions`, `outbox` and `ledger` have their results"
            );
        }
    }
}

fn log_decided(decided: &MailDecided) {
    let (mailbox, decision) = (&decided.mailbox, &decided.conclusion.decision);
    tracing::debug!(tenant = %mailbox.tenant, mailbox = %mailbox.name, mail = decided.mail.0, message_id = %decided.message_id,
        rule = %decision.rule, outcome = decision.outcome.as_str(), "mail decided");
}

fn log_delivered(delivered: &Delivered) {
    let delivery = &delivered.delivery;
    tracing::debug!(target = %delivery.target.1, tenant = %delivery.tenant, entry = delivery.entry, decision = delivery.decision.map(|it| it.0),
        "entry delivered: {}", delivered.receipt.status);
}

fn log_delivery_failed(failed: &DeliveryFailed) {
    let (to, entry) = (&failed.delivery.target.1, failed.delivery.entry);
    let problem = &failed.problem;
    match failed.consequence {
        FailureConsequence::Retry {
            pause, again: true, ..
        } => {
            tracing::debug!(target = %to, entry, retry_secs = pause.as_secs(), "entry still refused: {problem}");
        }
        FailureConsequence::Retry {
            pause,
            give_up_after,
            again: false,
        } => {
            tracing::warn!(target = %to, entry, retry_secs = pause.as_secs(), "entry refused; it is tried again until it is {} old: {problem}", days(give_up_after));
        }
        FailureConsequence::RetryRest { pause } => {
            tracing::warn!(target = %to, entry, retry_secs = pause.as_secs(), "delivered to some recipients: {problem}");
        }
        FailureConsequence::DeadLetter => {
            tracing::error!(target = %to, entry, "delivery failed permanently; moved to dead letters: {problem}");
        }
    }
}

fn log_rules(reloaded: &Reloaded) {
    for (rule, reason) in &reloaded.refused {
        match reason {
            LoadRefusal::Returned { .. } => {
                tracing::info!(tenant = %rule.tenant, rule = %rule.name, "an earlier version is live: {reason}");
            }
            _ => {
                tracing::error!(tenant = %rule.tenant, rule = %rule.name, "rule not loaded: {reason}");
            }
        }
    }
    if let Some(generation) = reloaded.generation.filter(|_| !reloaded.live.is_empty()) {
        let first = reloaded.live.iter().take(NAMED);
        let mut names: Vec<String> = first
            .map(|rule| format!("{}/{}", rule.tenant, rule.name))
            .collect();
        let more = reloaded.live.len().saturating_sub(NAMED);
        if more > 0 {
            names.push(format!("and {more} more"));
        }
        tracing::info!(generation, rules = %names.join(", "), "rules are live");
    }
    for rule in &reloaded.returned {
        let generation = reloaded.generation.unwrap_or_default();
        tracing::warn!(generation, tenant = %rule.tenant, rule = %rule.name, "rolled back to the previous version");
    }
}

fn log_directory(reloaded: &DirectoryReloaded) {
    for (tenant, problem) in &reloaded.refused {
        tracing::error!(%tenant, "not applied: {problem}");
    }
    for (tenant, file) in &reloaded.live {
        tracing::info!(%tenant, file, "contacts or assets are live");
    }
    for (tenant, file) in &reloaded.returned {
        tracing::warn!(%tenant, file, "serving the last valid version");
    }
}

fn log_mailbox(changed: &MailboxChanged) {
    let (mailbox, state) = (&changed.mailbox.name, changed.change.state());
    match &changed.change {
        // Room in the outbox is logged once per tenant, elsewhere.
        StateChange::Serving {
            before: MailboxState::Starting | MailboxState::OutboxFull,
        }
        | StateChange::OutboxFull => {}
        StateChange::Serving { .. } => tracing::info!(%mailbox, "serving again"),
        StateChange::Renumbered(renumbering) => {
            tracing::error!(%mailbox, %state, "{renumbering}");
        }
        StateChange::Paused { error, pause, .. } => match &**error {
            IntakeError::Misconfigured(why) => {
                let help = format!("{}; then restart postroom", why.help);
                tracing::error!(%mailbox, %state, help, "the mailbox is misconfigured, its mail stays on the server: {why}");
            }
            // Hundreds of mailboxes may share the account, whose failure was already logged once, with help.
            error if error.is_of_sign_in() => {
                tracing::debug!(%mailbox, %state, retry_secs = pause.as_secs(), "mailbox paused: {error}");
            }
            error => {
                tracing::error!(%mailbox, %state, retry_secs = pause.as_secs(), "mailbox paused: {error}");
            }
        },
    }
}

fn days(age: Duration) -> String {
    match age.as_secs() {
        secs if secs >= 86_400 => format!("{} d", secs / 86_400),
        secs => format!("{secs} s"),
    }
}
