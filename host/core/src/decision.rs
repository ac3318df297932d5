//! Decisions: the actions a rule may request, and the one outcome that the ledger counts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::context::{Provenance, Thread};
use crate::message::Classification;
use crate::named::named;

/// The value of a custom field of a ticket or an alert.
pub type Value = serde_json::Value;

/// A new ticket. Omitted fields are filled in from the mail.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Ticket {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requester: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// The ticket that the mail belongs to, if it could not be added there: its sender may not write to it, or it was closed too long
    /// ago. Set by Postroom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub related: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    #[default]
    Public,
    Internal,
}

/// A note on the named ticket, or on the context's thread if none is named.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    pub visibility: Visibility,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Firing,
    Resolved,
}

/// An alert, identified by its key within the tenant.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub key: String,
    pub state: AlertState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
}

/// A reply to the sender.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    /// Whether the sender gets it only once in a conversation, however often they write.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
}

/// An alert is due if no mail with this key arrives in time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    pub key: String,
    pub within_secs: u64,
}

/// A change of the named ticket, or of the context's thread if none is named. What is left out stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TicketUpdate {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// Replace all tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Replace the fields of the same names; others stay.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Value>,
    /// The name of a [`TicketStatus`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
}

/// Closes the named ticket, or the context's thread if none is named.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TicketClose {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

named! {
    /// The status of a ticket.
    TicketStatus {
        Open = "open",
        /// Waits for somebody else, and is found like an open one.
        Pending = "pending",
        Closed = "closed",
    }
}

/// One action that a rule requests. In JSON: `{"kind":"ticket","title":…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Action {
    Ticket(Ticket),
    Note(Note),
    Alert(Alert),
    Reply(Reply),
    Forward { to: Vec<String> },
    Ignore { reason: String },
    Quarantine { reason: String },
    Expect(Expect),
    Update(TicketUpdate),
    Close(TicketClose),
    Custom { name: String, payload: Value },
}

/// The outcome of a mail in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ticket,
    Note,
    Alert,
    Ignored,
    Quarantined,
}

impl Outcome {
    /// Returns the placeholder outcome of a decision that was read without one, until the outcome is filled in.
    fn of_no_decision() -> Self {
        Outcome::Ignored
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Ticket => "ticket",
            Outcome::Note => "note",
            Outcome::Alert => "alert",
            Outcome::Ignored => "ignored",
            Outcome::Quarantined => "quarantined",
        }
    }
}

/// A failure of one rule of the chain; the mail went on to the next rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// The rule's name as configured.
    pub rule: String,
    pub kind: TroubleKind,
    pub message: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
}

named! {
    /// Why a rule returned no decision.
    TroubleKind {
        Trap = "trap",
        Deadline = "deadline",
        Memory = "memory",
        /// Its output was over a limit.
        Output = "output",
        /// It threw, or a call of it failed.
        Failure = "failure",
        /// Its decision is invalid.
        InvalidDecision = "nonsense",
        NotGranted = "not-granted",
        NotLoaded = "not-loaded",
        /// It failed too often and is about to be rolled back.
        SentBack = "sent-back",
    }
}

/// The classification of a mail, with the mark that decided it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classified {
    pub kind: Classification,
    pub reason: String,
}

/// The part of one rule in a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleStep {
    /// The rule's name as configured.
    pub rule: String,
    pub result: RuleOutcome,
    pub elapsed_us: u64,
    /// The peak memory of its instance.
    pub memory_bytes: u64,
}

named! {
    /// The result of one rule.
    RuleOutcome {
        Passed = "passed",
        Decided = "decided",
        /// See the decision's troubles.
        Failed = "failed",
    }
}

/// An action that a rule requested and that was not carried out, with the reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    pub action: Action,
    pub reason: String,
    /// Its position among the actions, if the decision was valid and the circumstances of its commit held it back, such as
    /// a limit of automatic mail or the age of the mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_at: Option<usize>,
}

impl Decision {
    /// Returns the alerts of the decision, in the order of the actions.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> + Clone {
        self.actions.iter().filter_map(|action| match action {
            Action::Alert(alert) => Some(alert),
            _ => None,
        })
    }

    /// Returns the alert that stands for all of them: the first that is firing, or else the first.
    pub fn main_alert(&self) -> Option<&Alert> {
        let mut alerts = self.alerts();
        let firing = alerts.find(|alert| alert.state == AlertState::Firing);
        firing.or_else(|| self.alerts().next())
    }

    /// Returns the decision without the actions that its commit refuses, each given by its position and the reason.
    /// [`Decision::as_decided`] reverses this.
    pub fn held_back(&self, refused: Vec<(usize, String)>) -> Self {
        let mut decision = self.clone();
        for (at, reason) in refused.into_iter().rev() {
            let action = decision.actions.remove(at);
            decision.refused.push(Refusal {
                action,
                reason,
                held_at: Some(at),
            });
        }
        decision.refused[self.refused.len()..].reverse();
        decision
    }

    /// Returns the decision as it was made, before the circumstances of its commit held anything back.
    pub fn as_decided(mut self) -> Self {
        let held = self.refused.extract_if(.., |it| it.held_at.is_some());
        for refusal in held {
            let at = refusal.held_at.unwrap_or_default();
            self.actions
                .insert(at.min(self.actions.len()), refusal.action);
        }
        self
    }
}

/// The decision about one mail, with its reasons.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Records of earlier versions have the outcome only in its column, which overrides this one.
    #[serde(default = "Outcome::of_no_decision")]
    pub outcome: Outcome,
    /// The actions to carry out, completed from the mail (titles, bodies, requesters, tickets are filled in).
    pub actions: Vec<Action>,
    pub refused: Vec<Refusal>,
    /// The rule that decided: its name as configured, `standard` or `fallback`.
    pub rule: String,
    /// Hexadecimal content hash of that rule, or the program's version for a built-in one.
    pub rule_hash: String,
    pub generation: u64,
    pub thread: Option<Thread>,
    /// `None` for a mail that no rule was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub classified: Option<Classified>,
    /// The rules that ran, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleStep>,
    pub troubles: Vec<Trouble>,
    pub repairs: Vec<String>,
    /// The log lines of the rules, oldest first, capped.
    pub log: Vec<String>,
    /// From the parsed mail to the decision, all rules together.
    pub elapsed_us: u64,
    /// `file:line:column` at which a script made the action that decided; `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// The calls in the rule's own files that led there, innermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub called_from: Vec<String>,
    /// The facts about the sender and the thread.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_commit_holds_back_is_known_to_have_been_decided() {
        let ignore = |reason: &str| Action::Ignore {
            reason: reason.into(),
        };
        let decided = Decision {
            outcome: Outcome::Ignored,
            actions: ["a", "b", "c", "d"].map(ignore).to_vec(),
            refused: vec![Refusal {
                action: ignore("never"),
                reason: "nonsense".into(),
                held_at: None,
            }],
            rule: "r".into(),
            rule_hash: "h".into(),
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
            provenance: Provenance::default(),
        };
        let held = decided.held_back(vec![(0, "old".into()), (2, "brake".into())]);
        assert_eq!(held.actions, [ignore("b"), ignore("d")]);
        let reasons: Vec<_> = held.refused.iter().map(|it| it.reason.as_str()).collect();
        assert_eq!(reasons, ["nonsense", "old", "brake"]);
        assert_eq!(held.as_decided(), decided);
    }
}
