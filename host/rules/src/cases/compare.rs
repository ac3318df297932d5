//! Compares a rule's result for a mail with the expected one, and formats the difference for people.

use serde_json::{Map, Value, json};
use similar::{ChangeTag, TextDiff};

use super::expected::{CaseOutcome, Expected};
use super::run::RuleResult;

/// Equal lines shown around a difference.
const AROUND: usize = 3;
/// The length at which a value is cut in a one-line reason, in characters.
const SHOWN_CHARS: usize = 60;

/// The difference between expected and found result: the compared parts of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    pub expected: Value,
    pub found: Value,
}

impl Expected {
    /// Returns the difference; `None` if the case passes.
    pub fn mismatch(&self, found: &RuleResult) -> Option<Mismatch> {
        mismatch(self, found)
    }
}

fn mismatch(expected: &Expected, found: &RuleResult) -> Option<Mismatch> {
    let (mut left, mut right) = (Map::new(), Map::new());
    let mut put = |key: &str, expected: Value, found: Value| {
        left.insert(key.to_owned(), expected);
        right.insert(key.to_owned(), found);
    };
    // Without it, the actions suffice.
    if let Some(outcome) = expected.outcome {
        put("outcome", json!(outcome), json!(found.outcome));
    }
    let passes = expected.outcome == Some(CaseOutcome::Pass);
    let actions = expected.actions.clone().or(passes.then(Vec::new));
    if let Some(mut actions) = actions {
        let found_actions = json!(found.actions);
        fill_in(&mut actions, &found_actions, &found.said);
        put("actions", Value::Array(actions), found_actions);
    }
    if let Some(refused) = &expected.refused {
        put("refused", json!(refused), json!(found.refused));
    }
    if let Some(log) = &expected.log {
        put("log", json!(log), json!(found.log));
    }
    if let Some(repairs) = &expected.repairs {
        put("repairs", json!(repairs), json!(found.repairs));
    }
    if let Some(writes) = &expected.kv_writes {
        put("kv_writes", json!(writes), json!(found.kv_writes));
    }
    (left != right).then_some(Mismatch {
        expected: Value::Object(left),
        found: Value::Object(right),
    })
}

/// Fills in expected values that the rule left to the mail: they need not be repeated in the case.
fn fill_in(expected: &mut [Value], found: &Value, said: &[Value]) {
    let is_disposition = |action: &&Value| {
        let kind = action["kind"].as_str();
        matches!(kind, Some("ticket" | "note" | "alert"))
    };
    // These are never refused or added, so they are in the same order.
    let found = found.as_array().map(Vec::as_slice).unwrap_or_default();
    let pairs = found
        .iter()
        .enumerate()
        .filter(|(_, action)| is_disposition(action))
        .zip(said.iter().filter(is_disposition));
    for ((index, found), said) in pairs {
        let (Some(found), Some(expected)) = (
            found.as_object(),
            expected.get_mut(index).and_then(Value::as_object_mut),
        ) else {
            continue;
        };
        for (key, value) in found {
            let usual = key == "visibility" && value == "public";
            if (said.get(key).is_none() || usual) && !expected.contains_key(key) {
                expected.insert(key.clone(), value.clone());
            }
        }
    }
}

impl Mismatch {
    /// Returns the lines that differ, marked `-` for expected and `+` for found, with some context.
    pub fn diff(&self) -> Vec<(char, String)> {
        self.diff_within(AROUND)
    }

    /// Returns the same with this many equal lines around each difference; with zero, gaps are not marked.
    pub fn diff_within(&self, around: usize) -> Vec<(char, String)> {
        let (old, new) = (shown(&self.expected), shown(&self.found));
        let diff = TextDiff::from_lines(&old, &new);
        let mut lines = Vec::new();
        for (number, group) in diff.grouped_ops(around).iter().enumerate() {
            if number > 0 && around > 0 {
                lines.push((' ', "…".to_owned()));
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                let mark = match change.tag() {
                    ChangeTag::Equal => ' ',
                    ChangeTag::Delete => '-',
                    ChangeTag::Insert => '+',
                };
                lines.push((mark, change.value().trim_end_matches('\n').to_owned()));
            }
        }
        lines
    }

    /// Returns the first difference in one line.
    pub fn summary(&self) -> String {
        first_difference("", &self.expected, &self.found).unwrap_or_default()
    }
}

/// Returns where two values first differ, by its path: `actions[0].queue is "b", expected "a"`.
pub fn first_difference(path: &str, expected: &Value, found: &Value) -> Option<String> {
    match (expected, found) {
        (Value::Object(left), Value::Object(right)) => {
            let join = |key: &str| match path {
                "" => key.to_owned(),
                _ => format!("{path}.{key}"),
            };
            // The outcome is the most informative.
            let first = left.keys().filter(|key| *key == "outcome");
            let keys = first.chain(left.keys());
            let changed = keys.clone().find_map(|key| match right.get(key) {
                Some(found) => first_difference(&join(key), &left[key], found),
                None => Some(format!(
                    "{} is missing, expected {}",
                    join(key),
                    brief(&left[key])
                )),
            });
            changed.or_else(|| {
                let extra = right.iter().find(|(key, _)| !left.contains_key(*key));
                extra.map(|(key, value)| format!("{} is {}, not expected", join(key), brief(value)))
            })
        }
        (Value::Array(left), Value::Array(right)) => {
            let pairs = left.iter().zip(right).enumerate();
            let changed = pairs
                .map(|(n, (left, right))| first_difference(&format!("{path}[{n}]"), left, right))
                .find_map(|difference| difference);
            changed.or_else(|| {
                (left.len() != right.len())
                    .then(|| format!("{path} has {}, expected {}", right.len(), left.len()))
            })
        }
        _ => (expected != found)
            .then(|| format!("{path} is {}, expected {}", brief(found), brief(expected))),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Returns a value line by line, with multi-line strings as several lines.
fn shown(value: &Value) -> String {
    let mut out = String::new();
    write(value, "", 0, &mut out);
    out
}

fn write(value: &Value, lead: &str, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            let is_first = |key: &&String| matches!(key.as_str(), "kind" | "outcome");
            let first = entries.keys().filter(is_first);
            let rest = entries.keys().filter(|key| !is_first(key));
            let mut lead = lead;
            for key in first.chain(rest) {
                let value = &entries[key];
                let nested = match value {
                    Value::Object(entries) => !entries.is_empty(),
                    Value::Array(list) => !list.is_empty(),
                    Value::String(text) => text.contains('\n'),
                    _ => false,
                };
                if nested {
                    out.push_str(&format!("{indent}{lead}{key}:\n"));
                    let below = depth + 1 + usize::from(!lead.is_empty());
                    write(value, "", below, out);
                } else {
                    out.push_str(&format!("{indent}{lead}{key}: {value}\n"));
                }
                // The entries after the first are aligned with it, not with the dash.
                if lead == DASH {
                    lead = NEXT;
                }
            }
        }
        Value::Array(list) if !list.is_empty() => {
            for item in list {
                write(item, DASH, depth, out);
            }
        }
        Value::String(text) if text.contains('\n') => {
            for line in text.split('\n') {
                out.push_str(&format!("{indent}{lead}| {line}\n"));
            }
        }
        value => out.push_str(&format!("{indent}{lead}{value}\n")),
    }
}

const DASH: &str = "- ";
const NEXT: &str = "  ";
