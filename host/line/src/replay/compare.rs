//! Compares two decisions about one mail by their effects, not by the rule version that decided.

use std::collections::BTreeSet;

use postroom_core::{Action, Decision};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use postroom_rules::cases::Mismatch;

/// How a candidate's decision compares with the recorded one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Comparison {
    Same,
    /// Decided differently. The text says what changed, in two or three words: `ticket → alert`, `queue`.
    Changed(String),
    /// A rule fails that did not fail then.
    Failed,
    /// A rule that failed then no longer fails, and no other rule fails instead.
    Fixed,
}

impl Comparison {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed(_) => "changed",
            Self::Failed => "failed",
            Self::Fixed => "mended",
        }
    }
}

/// Compares outcome, actions, refusals, and which rules failed.
pub fn compare(before: &Decision, after: &Decision) -> Comparison {
    let (was, is) = (troubled(before), troubled(after));
    if is.difference(&was).next().is_some() {
        return Comparison::Failed;
    }
    if was.difference(&is).next().is_some() {
        return Comparison::Fixed;
    }
    let is_same = before.outcome == after.outcome
        && is_same(&before.actions, &after.actions)
        && is_same(&before.refused, &after.refused);
    match is_same {
        true => Comparison::Same,
        false => Comparison::Changed(change(before, after)),
    }
}

/// Returns the compared parts of both decisions, for display.
pub fn mismatch(before: &Decision, after: &Decision) -> Mismatch {
    let refuses = !before.refused.is_empty() || !after.refused.is_empty();
    let shown = |decision: &Decision| {
        let mut value = json!({ "outcome": decision.outcome, "actions": decision.actions });
        if refuses {
            value["refused"] = json!(decision.refused);
        }
        value
    };
    Mismatch {
        expected: shown(before),
        found: shown(after),
    }
}

fn troubled(decision: &Decision) -> BTreeSet<&str> {
    let troubles = decision.troubles.iter();
    troubles.map(|trouble| trouble.rule.as_str()).collect()
}

/// Compares values. A number that went through JSON may come back as its neighbour, so values that differ are compared again
/// after both have been through JSON.
fn is_same<T: PartialEq + Serialize + DeserializeOwned>(before: &[T], after: &[T]) -> bool {
    if before == after {
        return true;
    }
    let stored = serde_json::to_string(after).and_then(|text| serde_json::from_str(&text));
    stored.is_ok_and(|stored: Vec<T>| stored == before)
}

fn change(before: &Decision, after: &Decision) -> String {
    if before.outcome != after.outcome {
        return format!("{} → {}", before.outcome.as_str(), after.outcome.as_str());
    }
    if before.actions.len() != after.actions.len() {
        return "actions".into();
    }
    let pairs = before.actions.iter().zip(&after.actions);
    let field = pairs.filter(|(old, new)| old != new).find_map(field);
    field.unwrap_or_else(|| "refused".into())
}

/// Returns the first field in which two actions differ.
fn field((old, new): (&Action, &Action)) -> Option<String> {
    let (Value::Object(old), Value::Object(new)) = (json!(old), json!(new)) else {
        return None;
    };
    if old.get("kind") != new.get("kind") {
        return Some("actions".into());
    }
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .find(|key| old.get(*key) != new.get(*key))
        .cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use postroom_core::{Alert, AlertState, Outcome, Refusal, Ticket, Trouble};

    fn ticket(queue: &str, fields: Value) -> Decision {
        let fields = serde_json::from_value(fields).unwrap();
        decision(
            Outcome::Ticket,
            vec![Action::Ticket(Ticket {
                queue: Some(queue.into()),
                fields,
                ..Ticket::default()
            })],
        )
    }

    fn decision(outcome: Outcome, actions: Vec<Action>) -> Decision {
        Decision {
            outcome,
            actions,
            refused: Vec::new(),
            rule: "rules/a.js".into(),
            rule_hash: "ab".into(),
            generation: 1,
            thread: None,
            classified: None,
            rules: Vec::new(),
            troubles: Vec::new(),
            repairs: Vec::new(),
            log: Vec::new(),
            elapsed_us: 1,
            decided_at: None,
            called_from: Vec::new(),
            provenance: Default::default(),
        }
    }

    fn in_trouble(mut decision: Decision, rules: &[&str]) -> Decision {
        decision.troubles = rules
            .iter()
            .map(|rule| Trouble {
                rule: (*rule).into(),
                kind: postroom_core::TroubleKind::Failure,
                message: "boom".into(),
                location: None,
            })
            .collect();
        decision
    }

    #[test]
    fn what_is_carried_out_counts() {
        let plain = ticket("a", json!({}));
        let mut by_another = plain.clone();
        by_another.rule_hash = "cd".into();
        by_another.rule = "rules/b.js".into();
        by_another.log = vec!["hm".into()];
        assert_eq!(compare(&plain, &by_another), Comparison::Same);

        let changed = |words: &str| Comparison::Changed(words.into());
        assert_eq!(compare(&plain, &ticket("b", json!({}))), changed("queue"));
        assert_eq!(
            compare(&plain, &ticket("a", json!({"site": "x"}))),
            changed("fields")
        );
        let mut two = plain.clone();
        two.actions.extend(plain.actions.clone());
        assert_eq!(compare(&plain, &two), changed("actions"));
        let alert = decision(
            Outcome::Alert,
            vec![Action::Alert(Alert {
                key: "k".into(),
                state: AlertState::Firing,
                severity: None,
                host: None,
                service: None,
                summary: None,
                fields: Default::default(),
            })],
        );
        assert_eq!(compare(&plain, &alert), changed("ticket → alert"));
        let mut refusing = plain.clone();
        refusing.refused.push(Refusal {
            held_at: None,
            action: Action::Forward { to: Vec::new() },
            reason: "nobody".into(),
        });
        assert_eq!(compare(&plain, &refusing), changed("refused"));
    }

    #[test]
    fn a_number_that_went_through_the_store_is_the_same() {
        // Many numbers change when they are read back from text.
        for n in 1..2000_i32 {
            let number = f64::from(n).powi(7) / 3.0e19;
            let fresh = ticket("a", json!({ "n": number }));
            let stored = serde_json::from_str(&serde_json::to_string(&fresh).unwrap()).unwrap();
            assert_eq!(compare(&stored, &fresh), Comparison::Same, "{number}");
        }
    }

    #[test]
    fn a_rule_newly_in_trouble_is_a_failure_whatever_is_decided() {
        let plain = ticket("a", json!({}));
        let troubled = |rules: &[&str]| in_trouble(plain.clone(), rules);
        assert_eq!(compare(&plain, &troubled(&["x"])), Comparison::Failed);
        assert_eq!(compare(&troubled(&["x"]), &plain), Comparison::Fixed);
        assert_eq!(
            compare(&troubled(&["x"]), &troubled(&["x"])),
            Comparison::Same
        );
        assert_eq!(
            compare(&troubled(&["x"]), &troubled(&["y"])),
            Comparison::Failed
        );
        assert_eq!(
            compare(&troubled(&["x", "y"]), &troubled(&["y"])),
            Comparison::Fixed
        );
    }
}
