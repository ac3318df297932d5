//! Logs events from the bus: one line for each event that an operator needs to see.

use std::time::Duration;

use postroom_config::{PartKind, PartName};
use postroom_core::MailboxState;
use postroom_rules::directory::DirectoryReloaded;
use postroom_rules::rulebook::{LoadRefusal, Reloaded};

use crate::bus::Heard;
use crate::event::{
    AppliedChanges, ConfigurationChanged, Delivered, DeliveryFailed, FailureConsequence, LineEvent,
    MailDecided, MailboxChanged, StateChange,
};
use crate::intake::IntakeError;

/// The number of rules, or of parts of the configuration, named in one log line; the rest are counted.
const NAMED: usize = 10;

/// The end of the help for a part that cannot be used because a secret is missing.
pub const AFTER_CORRECTION: &str =
    "a file is noticed within 30 s, a variable of the environment needs a restart of postroom";

/// Logs an event, or the number of events missed.
pub fn log(heard: &Heard) {
    match heard {
        Heard::Event(LineEvent::Decided(mails)) => mails.iter().for_each(log_decided),
        Heard::Event(LineEvent::Delivered(delivered)) => log_delivered(delivered),
        Heard::Event(LineEvent::DeliveryFailed(failed)) => log_delivery_failed(failed),
        Heard::Event(LineEvent::RulesReloaded(reloaded)) => log_rules(reloaded),
        Heard::Event(LineEvent::DirectoryReloaded(reloaded)) => log_directory(reloaded),
        Heard::Event(LineEvent::MailboxChanged(changed)) => log_mailbox(changed),
        Heard::Event(LineEvent::ConfigurationChanged(changed)) => log_configuration(changed),
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
        let rules = reloaded.live.iter();
        let names = named(rules.map(|rule| format!("{}/{}", rule.tenant, rule.name)));
        tracing::info!(generation, rules = %names, "rules are live");
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
        StateChange::PartlyRead(reasons) => {
            const HELP: &str =
                "create the folder on the server, or correct or remove it in `folders`";
            tracing::error!(%mailbox, %state, help = HELP, "some folders are not read, the others are: {reasons}");
        }
        StateChange::Paused { error, pause, .. } => match &**error {
            IntakeError::Misconfigured(why) => {
                let help = format!("{}; {AFTER_CORRECTION}", why.help);
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

fn log_configuration(changed: &ConfigurationChanged) {
    for problem in changed.refused.iter().take(NAMED) {
        tracing::error!(at = problem.place(), help = %problem.cure, "not applied, the configuration stays as it was here: {}", problem.title());
    }
    let more = changed.refused.len().saturating_sub(NAMED);
    if more > 0 {
        tracing::error!("and {more} more problems: `postroom check` lists them");
    }
    let Some(applied) = &changed.applied else {
        return;
    };
    let AppliedChanges {
        number, changes, ..
    } = applied;
    let list = |parts: &[PartName]| {
        let names = named(parts.iter().map(ToString::to_string));
        (!parts.is_empty()).then_some(names)
    };
    let ms = applied.took.as_millis();
    tracing::info!(
        configuration = number,
        added = list(&changes.added),
        removed = list(&changes.removed),
        changed = list(&changes.changed),
        ms,
        "configuration applied"
    );
    let gone = changes.removed.iter();
    let gone = gone.filter(|part| part.kind == PartKind::Mailbox).count();
    if gone > 0 {
        tracing::warn!(
            mailboxes = gone,
            "mailboxes were removed and are not read any more; `postroom config back` returns to what was before"
        );
    }
    if !changes.at_restart.is_empty() {
        let settings = changes.at_restart.join(", ");
        tracing::warn!(%settings, "these settings take effect when postroom starts again");
    }
}

/// Joins the first names, and counts the others.
fn named(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(NAMED);
    let mut shown: Vec<String> = names.take(NAMED).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

fn days(age: Duration) -> String {
    match age.as_secs() {
        secs if secs >= 86_400 => format!("{} d", secs / 86_400),
        secs => format!("{secs} s"),
    }
}
