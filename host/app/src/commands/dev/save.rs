//! The view of a save: its errors, the results of its tests, and its effect on the last mails.

use std::collections::HashMap;

use postroom_core::harmless::picture;
use postroom_core::{Action, ActionKind, Decision, counted};
use postroom_sandbox::LoadError;
use postroom_store::StoreError;
use serde_json::Value;

use super::view::{HANG, below, labelled};
use crate::commands::replay::text;
use crate::commands::screen::{Ink, Line, columns, fit};
use postroom_line::replay::{Compared, Comparison, End, Rehearsed, Replayed, mismatch};
use postroom_rules::cases::{Mismatch, Tested};
use postroom_rules::rulebook::{Change, LoadRefusal, Reloaded, RuleId, Serves};

/// The most failing tests shown with their difference; further ones are counted.
const FAILING: usize = 5;
/// The most mails shown with their difference; further ones are counted.
const MAILS: usize = 3;
/// The most lines shown of one difference.
const LINES: usize = 10;
/// The most names listed; further ones are counted.
const NAMES: usize = 4;
/// The width around the mark to which a long source line is cut.
const AROUND: usize = 30;

/// The context for describing a change.
pub struct SaveReport<'a> {
    /// Whether rules are named with their tenants.
    pub tenants: bool,
    pub several_mailboxes: bool,
    /// The command-line argument that names the configuration: empty, or ` --config FILE`.
    pub config: &'a str,
    /// How mail can be brought in.
    pub bring_in: &'a str,
    /// The most mails that are replayed.
    pub mails: usize,
}

impl SaveReport<'_> {
    /// Returns the names of the saved rules, or of those that went back.
    pub fn title(&self, change: &Change<'_>) -> String {
        let mut ids: Vec<&RuleId> = change.passed().iter().map(|(id, _)| id).collect();
        ids.extend(change.refused().iter().map(|(id, _)| id));
        ids.extend(change.fresh());
        let returned: Vec<&RuleId> = change.returned().iter().collect();
        match (ids.is_empty(), returned.is_empty()) {
            (true, true) => "the rules".into(),
            (_, false) => format!("{} went back", self.names(&returned)),
            (false, true) => format!("{} saved", self.names(&ids)),
        }
    }

    /// Returns all of a change except for its result.
    pub fn change(
        &self,
        change: &Change<'_>,
        rehearsed: Option<&Result<Rehearsed, StoreError>>,
    ) -> Vec<Line> {
        let mut lines = self.refusals(change);
        lines.extend(self.tests(change));
        match rehearsed {
            None => {}
            Some(Ok(rehearsed)) => lines.extend(self.rehearsal(rehearsed)),
            Some(Err(error)) => lines.push(
                labelled(Ink::Red, "replay")
                    .with(Ink::Red, format!("not done: {error}"))
                    .wrapped(HANG),
            ),
        }
        lines.extend(self.not_live(change));
        lines
    }

    /// Returns the line about what went live, if anything did.
    pub fn ending(&self, reloaded: &Reloaded, serving: u64) -> Option<Line> {
        let after = reloaded.noticed.map_or(String::new(), |noticed| {
            format!(", {} ms after the save", noticed.elapsed().as_millis())
        });
        let (ink, text) = match reloaded.generation {
            Some(number) if !reloaded.returned.is_empty() && reloaded.live.is_empty() => (
                Ink::Yellow,
                format!("generation {number}, rolled back to the previous version"),
            ),
            Some(number) => (Ink::Green, format!("generation {number}{after}")),
            None if reloaded.refused.is_empty() => {
                let text = format!("generation {serving} stays live: the rule is the same");
                (Ink::Plain, text)
            }
            None => return None,
        };
        Some(labelled(ink, "live").with(Ink::Plain, text).wrapped(HANG))
    }

    fn refusals(&self, change: &Change<'_>) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut told: Vec<String> = Vec::new();
        for (_, refusal) in change.refused() {
            let text = refusal.to_string();
            // One file may be a rule of many tenants.
            if matches!(refusal, LoadRefusal::Tests { .. }) || told.contains(&text) {
                continue;
            }
            lines.push(
                labelled(Ink::Red, "error")
                    .with(Ink::Red, &text)
                    .wrapped(HANG),
            );
            if let LoadRefusal::NoRule {
                error: LoadError::Script { line, column, .. },
                source_line: Some(source),
            } = refusal
            {
                lines.extend(excerpt(source, *line, *column));
            }
            told.push(text);
        }
        lines
    }

    fn tests(&self, change: &Change<'_>) -> Vec<Line> {
        let refused = change
            .refused()
            .iter()
            .filter_map(|(id, refusal)| match refusal {
                LoadRefusal::Tests { tested, .. } => Some((id, tested)),
                _ => None,
            });
        let passed = change.passed().iter().map(|(id, tested)| (id, tested));
        let all: Vec<(&RuleId, &Tested)> = refused.chain(passed).collect();
        let (with, without): (Vec<_>, Vec<_>) = all
            .iter()
            .partition(|(_, tested)| tested.cases > 0 || tested.broken.is_some());
        let mut lines = Vec::new();
        if !with.is_empty() {
            let cases: usize = with.iter().map(|(_, tested)| tested.cases).sum();
            let failed: usize = with.iter().map(|(_, tested)| tested.failing.len()).sum();
            let broken = with.iter().any(|(_, tested)| tested.broken.is_some());
            let mut parts = Vec::new();
            if !broken {
                parts.push(format!("{} ok", cases - failed));
            }
            if failed > 0 {
                parts.push(format!("{failed} failed"));
            }
            if with.len() > 1 {
                let last = parts.pop().unwrap_or_default();
                parts.push(format!("{last}, {} rules together", with.len()));
            }
            let is_red = failed > 0 || broken;
            let ink = if is_red { Ink::Red } else { Ink::Green };
            if !parts.is_empty() {
                lines.push(labelled(ink, "tests").with(Ink::Plain, parts.join(", ")));
            }
        }
        for (id, tested) in with {
            lines.extend(self.failing(id, tested, all.len() > 1));
        }
        if !without.is_empty() {
            let ids: Vec<&RuleId> = without.iter().map(|(id, _)| *id).collect();
            let text = match all.len() {
                1 if change.generation().is_some() => "none".into(),
                1 => "none yet: `postroom rule pin DECISION` makes one from a received mail".into(),
                _ => format!("none beside {}", self.names(&ids)),
            };
            lines.push(
                labelled(Ink::Dim, "tests")
                    .with(Ink::Dim, text)
                    .wrapped(HANG),
            );
        }
        lines
    }

    fn failing(&self, id: &RuleId, tested: &Tested, several: bool) -> Vec<Line> {
        let mut lines = Vec::new();
        let whose = match several {
            true => format!("{}: ", self.names(&[id])),
            false => String::new(),
        };
        if let Some(broken) = &tested.broken {
            let text = format!("{whose}{broken}");
            lines.push(
                labelled(Ink::Red, "tests")
                    .with(Ink::Red, text)
                    .wrapped(HANG),
            );
        }
        for failing in tested.failing.iter().take(FAILING) {
            let text = format!("{whose}{}: {}", failing.case, failing.reason);
            lines.push(below().with(Ink::Red, text).wrapped(HANG));
            if let Some(mismatch) = &failing.mismatch {
                lines.extend(difference(mismatch));
            }
        }
        if tested.failing.len() > FAILING {
            let left = tested.failing.len() - FAILING;
            let text = format!(
                "… {left} more: postroom rule test {}{}",
                id.name, self.config
            );
            lines.push(below().with(Ink::Dim, text).wrapped(HANG));
        }
        lines
    }

    fn rehearsal(&self, rehearsed: &Rehearsed) -> Vec<Line> {
        let report = &rehearsed.report;
        if rehearsed.mails == 0 {
            let text = format!("nothing is recorded yet: {}", self.bring_in);
            return vec![
                labelled(Ink::Dim, "replay")
                    .with(Ink::Dim, text)
                    .wrapped(HANG),
            ];
        }
        let against = match rehearsed.against {
            Some(generation) => format!("compared with generation {generation}"),
            None => "compared with the recorded decisions".into(),
        };
        let counts = match report.replayed() {
            0 => "no mail could be replayed".into(),
            _ => text::counts(report),
        };
        let is_same = report.same > 0 && report.same == report.replayed();
        let ink = match (is_same, report.failed) {
            (true, _) => Ink::Green,
            (_, 0) => Ink::Yellow,
            _ => Ink::Red,
        };
        let first = labelled(ink, "replay")
            .with(Ink::Plain, counts)
            .wrapped(HANG);
        let mut lines = vec![first];
        let mut note = |text: String| lines.push(below().with(Ink::Dim, text).wrapped(HANG));
        match rehearsed.left() {
            0 => note(format!("{}, {against}", of_mails(rehearsed.mails))),
            _ => note(format!(
                "{} of the last {} within the time, {against}",
                report.replayed(),
                mails(rehearsed.mails)
            )),
        }
        for (skip, count) in &report.skipped {
            note(format!("not replayed: {count} {}", skip.words()));
        }
        if report.unrecorded > 0 {
            note(format!(
                "{} made queries that were not made when the mail arrived; the results were empty",
                format_args!("for {} a rule", counted(report.unrecorded, "mail"))
            ));
        }
        for replayed in telling_most(&rehearsed.differing) {
            if let End::Decided(compared) = &replayed.end {
                lines.extend(self.mail(replayed, compared));
            }
        }
        let left = rehearsed.differing.len().saturating_sub(MAILS);
        if left > 0 {
            // The command selects one mailbox, or none.
            let mailbox = match rehearsed.mailboxes.as_slice() {
                [only] if self.several_mailboxes => format!(" --mailbox {only}"),
                _ => String::new(),
            };
            let text = format!(
                "… {left} more; against the record, all: postroom replay --limit {}{mailbox} --all{}",
                self.mails, self.config
            );
            lines.push(below().with(Ink::Dim, text).wrapped(HANG));
        }
        lines
    }

    /// Returns the lines of one mail that differs.
    fn mail(&self, replayed: &Replayed, compared: &Compared) -> Vec<Line> {
        let (ink, head) = match &compared.verdict {
            Comparison::Changed(words) => (Ink::Bold, words.as_str()),
            Comparison::Failed => (Ink::Red, "new failure"),
            verdict => (Ink::Bold, verdict.name()),
        };
        let mail = &replayed.mail;
        let mut lines = vec![
            below()
                .with(ink, head)
                .with(Ink::Plain, format!(": {}", quoted(&compared.subject)))
                .with(Ink::Dim, format!(", mail {} of {}", mail.id, mail.mailbox))
                .wrapped(HANG),
        ];
        for remark in text::remarks(&compared.before, &compared.after) {
            lines.push(
                below()
                    .with(Ink::Plain, format!("  {remark}"))
                    .wrapped(HANG + 2),
            );
        }
        let (before, after) = (&compared.before, &compared.after);
        match kinds(before) == kinds(after) {
            true => lines.extend(difference(&mismatch(before, after))),
            false => lines.extend(otherwise(before, after, &compared.subject)),
        }
        lines
    }

    /// Returns what is live in place of the refused rules.
    fn not_live(&self, change: &Change<'_>) -> Vec<Line> {
        let mut lines = Vec::new();
        let several = change.refused().len() > 1 || !change.fresh().is_empty();
        for serves in [Serves::Same, Serves::Earlier, Serves::Nothing] {
            let refused = change.refused().iter().map(|(id, _)| id);
            let ids: Vec<&RuleId> = refused.filter(|id| change.serves(id) == serves).collect();
            if ids.is_empty() || (serves == Serves::Earlier && !change.returned().is_empty()) {
                continue;
            }
            let whose = match several {
                true => format!("{}: ", self.names(&ids)),
                false => String::new(),
            };
            let is_itself = change
                .refused()
                .iter()
                .all(|(_, refusal)| matches!(refusal, LoadRefusal::Tests { serves: true, .. }));
            let text = match (serves, change.generation()) {
                (Serves::Same, Some(generation)) if is_itself => {
                    format!("generation {generation} stays live, with this very rule")
                }
                (Serves::Same, Some(_)) if !change.fresh().is_empty() => {
                    "the previous versions stay live".to_owned()
                }
                (Serves::Same, Some(generation)) => {
                    format!("generation {generation} stays live")
                }
                (Serves::Same | Serves::Earlier, _) => {
                    "the last valid version stays live".to_owned()
                }
                (Serves::Nothing, _) => "no valid version: mail skips this rule".to_owned(),
            };
            lines.push(
                labelled(Ink::Red, "not live")
                    .with(Ink::Plain, whose + &text)
                    .wrapped(HANG),
            );
        }
        lines.extend(self.help(change));
        lines
    }

    /// Returns how to accept outcomes that tests refused, for an author who intended them.
    fn help(&self, change: &Change<'_>) -> Option<Line> {
        let refused = change.refused().iter();
        let by_tests = refused.filter(|(_, refusal)| matches!(refusal, LoadRefusal::Tests { .. }));
        let mut rules: Vec<&str> = by_tests.map(|(id, _)| id.name.as_str()).collect();
        rules.dedup();
        if rules.is_empty() {
            return None;
        }
        let command = format!("postroom rule test --update {}", rules.join(" "));
        Some(
            labelled(Ink::Plain, "help")
                .with(
                    Ink::Plain,
                    format!("if the rule is right, accept its new outcomes: {command}"),
                )
                .wrapped(HANG),
        )
    }

    /// Returns rules by their displayed names, each once.
    fn names(&self, ids: &[&RuleId]) -> String {
        let mut rules: Vec<(&str, Vec<&str>)> = Vec::new();
        for id in ids {
            match rules.iter_mut().find(|(name, _)| *name == id.name) {
                Some((_, tenants)) if tenants.contains(&id.tenant.as_str()) => {}
                Some((_, tenants)) => tenants.push(&id.tenant),
                None => rules.push((&id.name, vec![&id.tenant])),
            }
        }
        let named = rules.iter().map(|(name, tenants)| match self.tenants {
            true => format!("{name} ({})", listed(tenants)),
            false => (*name).to_owned(),
        });
        let named: Vec<String> = named.collect();
        let named: Vec<&str> = named.iter().map(String::as_str).collect();
        listed(&named)
    }
}

fn listed(names: &[&str]) -> String {
    match names.len() {
        n if n > NAMES => format!("{} and {} more", names[..NAMES].join(", "), n - NAMES),
        _ => names.join(", "),
    }
}

fn mails(count: u64) -> String {
    match count {
        1 => "mail".into(),
        several => format!("{several} mails"),
    }
}

fn of_mails(count: u64) -> String {
    format!("the last {}", mails(count))
}

/// Returns only the lines that differ.
fn difference(mismatch: &Mismatch) -> Vec<Line> {
    let all = mismatch.diff_within(0);
    let shown = all.iter().take(LINES);
    let mut lines: Vec<Line> = shown
        .map(|(mark, text)| {
            let ink = Ink::of_mark(*mark);
            below().with(ink, format!("  {mark} {}", text.trim()))
        })
        .collect();
    if all.len() > LINES {
        let left = all.len() - LINES;
        lines.push(below().with(Ink::Dim, format!("  … {} more", counted(left, "line"))));
    }
    lines
}

/// Returns the first mail of each kind of difference, failures first, then the second of each.
fn telling_most(differing: &[Replayed]) -> Vec<&Replayed> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut ranked: Vec<(usize, bool, &Replayed)> = Vec::new();
    for replayed in differing {
        if let End::Decided(compared) = &replayed.end {
            let kind = match &compared.verdict {
                Comparison::Changed(words) => words.as_str(),
                verdict => verdict.name(),
            };
            let rank = seen.entry(kind.to_owned()).or_default();
            ranked.push((*rank, compared.verdict != Comparison::Failed, replayed));
            *rank += 1;
        }
    }
    ranked.sort_by_key(|(rank, is_no_failure, _)| (*rank, *is_no_failure));
    let first = ranked.into_iter().take(MAILS);
    first.map(|(_, _, replayed)| replayed).collect()
}

/// Returns the kinds of the actions, in order.
fn kinds(decision: &Decision) -> Vec<ActionKind> {
    decision.actions.iter().map(Action::kind).collect()
}

/// Returns the lines for actions of other kinds: the old and the new ones, one per line.
fn otherwise(before: &Decision, after: &Decision, subject: &str) -> Vec<Line> {
    let side = |mark: char, decision: &Decision| -> Vec<Line> {
        let actions = decision.actions.iter();
        actions
            .map(|action| {
                below().with(
                    Ink::of_mark(mark),
                    format!("  {mark} {}", brief(action, subject)),
                )
            })
            .collect()
    };
    [side('-', before), side('+', after)].concat()
}

/// Returns an action on one line, without the parts that come from the mail.
fn brief(action: &Action, subject: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::to_value(action) else {
        return String::new();
    };
    let is_told = |key: &str, value: &Value| {
        let is_nothing_new = match value {
            Value::Null => true,
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::String(text) => text == subject,
            _ => false,
        };
        !is_nothing_new && !matches!(key, "kind" | "body" | "title" | "requester")
    };
    let told: Vec<String> = fields
        .iter()
        .filter(|(key, value)| is_told(key, value))
        .map(|(key, value)| format!("{key} {value}"))
        .collect();
    let kind = fields.get("kind").and_then(Value::as_str);
    format!("{}: {}", kind.unwrap_or_default(), told.join(", "))
}

/// Returns a subject in quotes, so that its end is visible.
fn quoted(subject: &str) -> String {
    const MOST: usize = 60;
    format!("\"{}\"", fit(subject, MOST))
}

/// Returns the line that an error names, with a mark below the position.
fn excerpt(source: &str, line: u32, column: u32) -> Vec<Line> {
    let number = line.to_string();
    let source: Vec<char> = source.chars().map(picture).collect();
    let indent = source.iter().take_while(|c| **c == ' ').count();
    let place = (column.saturating_sub(1) as usize).min(source.len());
    // Text far to the left of the position, and indentation, need not be shown.
    let from = indent.min(place).max(place.saturating_sub(AROUND));
    let before: String = source[from..place].iter().collect();
    let text: String = match source.len() {
        0 => "(the end of the file, or a blank line)".into(),
        _ => source[from..].iter().collect(),
    };
    let more = if from > indent { "…" } else { "" };
    let mut lines = vec![
        below()
            .with(Ink::Dim, format!("{number} │ "))
            .with(Ink::Plain, format!("{more}{text}")),
    ];
    if column > 0 {
        let blanks = " ".repeat(columns(more) + columns(&before));
        lines.push(
            below()
                .with(Ink::Dim, format!("{:1$} │ ", "", number.len()))
                .with(Ink::Red, format!("{blanks}^")),
        );
    }
    lines
}
