//! A replay as one JSON object per line: every mail when it is decided, the counts at the end.

use std::io::{BufWriter, StdoutLock, Write};

use postroom_core::{Action, Decision, Outcome, Refusal, Trouble};
use postroom_store::DecisionId;
use serde::Serialize;
use serde_json::{Value, json};

use super::Printer;
use crate::output;
use postroom_line::replay::{Comparison, End, Replayed, Report, RuleReport, Skip, Unrecorded};

pub struct Lines(BufWriter<StdoutLock<'static>>);

/// One mail.
#[derive(Serialize)]
struct Line<'a> {
    id: DecisionId,
    tenant: &'a str,
    mailbox: &'a str,
    message_id: &'a str,
    /// The time of journalling, RFC 3339 in UTC.
    received: String,
    /// `same`, `changed`, `failed`, `mended` or `skipped`.
    result: &'static str,
    #[serde(flatten)]
    decided: Option<Decided<'a>>,
    /// Why it was skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Skip>,
}

#[derive(Serialize)]
struct Decided<'a> {
    from: Option<&'a str>,
    subject: &'a str,
    /// The candidate's outcome.
    outcome: Outcome,
    rule: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    change: Option<&'a str>,
    /// Both decisions, if they differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Said<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Said<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    unrecorded: &'a [Unrecorded],
    elapsed_us: u64,
    memory_bytes: usize,
}

#[derive(Serialize)]
struct Said<'a> {
    outcome: Outcome,
    actions: &'a [Action],
    refused: &'a [Refusal],
    rule: &'a str,
    rule_hash: &'a str,
    troubles: &'a [Trouble],
    log: &'a [String],
}

impl Lines {
    pub fn new() -> Self {
        Self(BufWriter::new(std::io::stdout().lock()))
    }

    /// Prints one line that is not a mail.
    pub fn line(&mut self, value: &impl Serialize) -> std::io::Result<()> {
        let mut line = output::json(value)?;
        line.push('\n');
        self.0.write_all(line.as_bytes())
    }

    pub fn flush(&mut self) -> std::io::Result<()> {
        self.0.flush()
    }
}

impl Printer for Lines {
    /// Returns false: no bar shares the output with these lines.
    fn shows(&self, _: &Replayed) -> bool {
        false
    }

    fn mail(&mut self, replayed: &Replayed) -> std::io::Result<()> {
        let mail = &replayed.mail;
        let received = jiff::Timestamp::from_millisecond(mail.received_ms);
        self.line(&Line {
            id: mail.id,
            tenant: &mail.tenant,
            mailbox: &mail.mailbox,
            message_id: &mail.message_id,
            received: received.map_or(String::new(), |time| format!("{time:.3}")),
            result: match &replayed.end {
                End::Decided(compared) => compared.verdict.name(),
                End::Skipped(_) => "skipped",
            },
            decided: decided(&replayed.end),
            reason: match &replayed.end {
                End::Decided(_) => None,
                End::Skipped(skip) => Some(*skip),
            },
        })
    }

    fn end(&mut self, report: &Report) -> std::io::Result<()> {
        self.line(&summary(report))?;
        self.flush()
    }
}

fn decided(end: &End) -> Option<Decided<'_>> {
    let End::Decided(compared) = end else {
        return None;
    };
    let differs = compared.verdict != Comparison::Same;
    let spent = compared.spent.iter();
    Some(Decided {
        from: compared.from.as_ref().map(|from| from.email.as_str()),
        subject: &compared.subject,
        outcome: compared.after.outcome,
        rule: &compared.after.rule,
        change: match &compared.verdict {
            Comparison::Changed(words) => Some(words),
            _ => None,
        },
        before: differs.then(|| said(&compared.before)),
        after: differs.then(|| said(&compared.after)),
        unrecorded: &compared.unrecorded,
        elapsed_us: compared.after.elapsed_us,
        memory_bytes: spent.map(|it| it.memory_bytes).max().unwrap_or(0),
    })
}

fn said(decision: &Decision) -> Said<'_> {
    Said {
        outcome: decision.outcome,
        actions: &decision.actions,
        refused: &decision.refused,
        rule: &decision.rule,
        rule_hash: &decision.rule_hash,
        troubles: &decision.troubles,
        log: &decision.log,
    }
}

/// Returns the counts, for the end.
pub fn summary(report: &Report) -> Value {
    let skipped: Vec<Value> = report
        .skipped
        .iter()
        .map(|(reason, mails)| json!({ "reason": reason, "mails": mails }))
        .collect();
    json!({
        "result": "summary",
        "replayed": report.replayed(),
        "same": report.same,
        "changed": report.changed,
        "failed": report.failed,
        "mended": report.mended,
        "changes": report.changes,
        "unrecorded": report.unrecorded,
        "skipped": skipped,
        "rules": report.rules.iter().map(rule).collect::<Vec<_>>(),
        "elapsed_ms": u64::try_from(report.elapsed.as_millis()).unwrap_or(u64::MAX),
        "interrupted": report.interrupted,
    })
}

fn rule(rule: &RuleReport) -> Value {
    let micros =
        |share: f64| u64::try_from(rule.times.percentile(share).as_micros()).unwrap_or(u64::MAX);
    json!({
        "tenant": rule.id.tenant,
        "rule": rule.id.name,
        "rule_hash": rule.hash,
        "asked": rule.asked,
        "troubles": rule.troubles,
        "median_us": micros(0.5),
        "p99_us": micros(0.99),
        "most_us": micros(1.0),
        "limit_us": u64::try_from(rule.limits.time.as_micros()).unwrap_or(u64::MAX),
        "memory_bytes": rule.memory_bytes,
        "limit_memory_bytes": rule.limits.memory_bytes,
    })
}
