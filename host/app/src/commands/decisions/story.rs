//! One mail's whole story, from its repairs to the answers of the targets.

use postroom_core::harmless::on_one_line;
use postroom_core::{Action, RuleOutcome, Thread};
use postroom_store::{DecisionRow, EarlierDecision, Listings, OutboxRow};
use serde_json::json;

use crate::commands::listings::name_of;
use crate::commands::print;
use crate::output;

/// The most characters of a text in an action or a log line.
const TEXT_CHARS: usize = 300;

/// Prints the story of a mail.
pub fn print_story(reader: &dyn Listings, row: &DecisionRow, json: bool) -> anyhow::Result<()> {
    let deliveries = reader.deliveries(row.id)?;
    let earlier = reader.earlier_decisions(row.id)?;
    if json {
        let mut story = serde_json::to_value(row)?;
        story["deliveries"] = json!(deliveries);
        story["earlier"] = json!(earlier);
        println!("{}", output::json(&story)?);
        return Ok(());
    }
    print(for_people(row, &earlier, &deliveries)?)?;
    Ok(())
}

fn for_people(
    row: &DecisionRow,
    earlier: &[EarlierDecision],
    deliveries: &[OutboxRow],
) -> anyhow::Result<String> {
    let mut lines = Lines::default();
    lines.fact(
        "mail",
        format!("{} in {} of {}", row.id, row.mailbox, row.tenant),
    );
    let old = if row.old { ", old mail" } else { "" };
    lines.fact("received", format!("{}{old}", row.received));
    lines.fact("from", row.from.as_deref().unwrap_or("no address"));
    lines.fact("subject", &row.subject);
    lines.fact("message id", &row.message_id);
    for repair in &row.repairs {
        lines.fact("repaired", repair);
    }
    if let Some(classified) = &row.classified {
        let kind = name_of(&classified.kind);
        lines.fact("classified", format!("{kind}: {}", classified.reason));
    }
    match &row.provenance.client {
        Some(client) => {
            let sure = if client.sure { "sure" } else { "unsure" };
            let evidence = client.evidence;
            lines.fact("client", format!("{} by {evidence}, {sure}", client.name));
            if client.candidates.len() > 1 {
                lines.fact("", format!("candidates: {}", client.candidates.join(", ")));
            }
        }
        None if row.classified.is_some() => lines.fact("client", "none: no client fits the sender"),
        // No rule was given the mail.
        None => {}
    }
    if row.provenance.staff {
        lines.fact("staff", "the sender is one of the MSP's own people");
    }
    if let Some(requester) = &row.provenance.requester {
        lines.fact("on behalf of", requester.to_string());
    }
    for step in &row.provenance.steps {
        let ticket = step.ticket.as_deref();
        let ticket = ticket.map_or_else(String::new, |ticket| format!(" {ticket}"));
        let (method, evidence, result) = (step.method, &step.evidence, step.result);
        lines.fact("searched", format!("{method} {evidence}: {result}{ticket}"));
    }
    lines.fact(
        "thread",
        row.thread.as_ref().map_or_else(|| "none".into(), thread),
    );
    for step in &row.rules {
        let trouble = row.troubles.iter().find(|it| it.rule == step.rule);
        let how = match (step.result, trouble) {
            (RuleOutcome::Failed, Some(trouble)) => {
                let at = trouble.location.as_deref();
                let at = at.map_or_else(String::new, |at| format!(" at {at}"));
                format!("failed{at}: {}: {}", trouble.kind, trouble.message)
            }
            (RuleOutcome::Decided, _) => match &row.decided_at {
                Some(at) => format!("decided at {at}"),
                None => "decided".into(),
            },
            (result, _) => result.to_string(),
        };
        let (millis, kib) = (step.elapsed_us as f64 / 1e3, step.memory_bytes / 1024);
        lines.fact(
            "rule",
            format!("{} {how} ({millis:.3} ms, {kib} KiB)", step.rule),
        );
        if step.result == RuleOutcome::Decided {
            for call in &row.called_from {
                lines.fact("", format!("called from {call}"));
            }
        }
    }
    for line in &row.log {
        lines.fact("log", line);
    }
    for read in &row.lookups {
        lines.fact("looked up", serde_json::to_string(read)?);
    }
    for read in &row.kv_reads {
        lines.fact("kv read", serde_json::to_string(read)?);
    }
    for before in earlier {
        let reason = before.reason.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(" ({reason})"));
        let (outcome, rule) = (before.outcome.as_str(), &before.rule);
        let (decided, ended, by) = (&before.decided, &before.ended, &before.by);
        lines.fact(
            "before",
            format!("{outcome} by {rule} at {decided}, ended at {ended} by {by}{reason}"),
        );
    }
    let about = row.ticket.as_ref().or(row.alert_key.as_ref());
    let about = about.map_or_else(String::new, |about| format!(" {about}"));
    let rule = &row.rule;
    lines.fact(
        "outcome",
        format!(
            "{}{about} by {rule}, generation {}",
            row.outcome.as_str(),
            row.generation
        ),
    );
    for action in &row.actions {
        lines.fact("action", described(action)?);
    }
    for refusal in &row.refused {
        lines.fact(
            "refused",
            format!("{}: {}", refusal.action.kind().as_str(), refusal.reason),
        );
    }
    for entry in deliveries {
        lines.fact("delivery", delivery(entry));
    }
    Ok(lines.0.join("\n"))
}

/// Facts with their names, aligned.
#[derive(Default)]
struct Lines(Vec<String>);

impl Lines {
    fn fact(&mut self, name: &str, value: impl AsRef<str>) {
        let repeated = self
            .0
            .last()
            .is_some_and(|last| !name.is_empty() && last.starts_with(name));
        let name = if repeated { "" } else { name };
        self.0
            .push(format!("{name:<13}{}", shortened(value.as_ref())));
    }
}

fn shortened(text: &str) -> String {
    let text = on_one_line(text);
    match text.char_indices().nth(TEXT_CHARS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn thread(thread: &Thread) -> String {
    let may = if thread.authorised { "may" } else { "may not" };
    let method = thread.method.name();
    format!(
        "{} by {method}; the sender {may} write to it",
        thread.ticket
    )
}

/// Describes an action by its kind and its values, long texts cut.
fn described(action: &Action) -> anyhow::Result<String> {
    let value = serde_json::to_value(action)?;
    let mut words = vec![action.kind().as_str().to_owned()];
    for (name, value) in value.as_object().into_iter().flatten() {
        if name == "kind" || value.is_null() {
            continue;
        }
        let text = value.as_str().map_or_else(|| value.to_string(), shortened);
        words.push(format!("{name}={text}"));
    }
    Ok(words.join("  "))
}

fn delivery(entry: &OutboxRow) -> String {
    let to = match entry.to.is_empty() {
        true => entry.target.clone(),
        false => format!("{} to {}", entry.target, entry.to.join(", ")),
    };
    let mut text = format!("{} {to}: {}", entry.id, entry.state);
    if entry.attempts > 0 {
        text += &format!(
            " after {}",
            postroom_core::counted(entry.attempts as usize, "attempt")
        );
    }
    for (name, value) in [
        ("at", &entry.finished),
        ("next try", &entry.due),
        ("answer:", &entry.receipt),
        ("error:", &entry.error),
        ("dropped by", &entry.dropped_by),
    ] {
        if let Some(value) = value {
            text += &format!(", {name} {value}");
        }
    }
    text
}
