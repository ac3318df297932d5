//! Runs cases on a rule: one load for all of them, except for cases with their own settings.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use postroom_core::lookup::{self, Known, Query};
use postroom_core::{Action, parse};
use postroom_files::{Unread, read_within};
use postroom_sandbox::{Kv, KvError, Lookup, LookupError, Rule, Sandbox};
use serde_json::Value;

use super::compare::Mismatch;
use super::expected::{CaseOutcome, Expected, Given};
use super::{Case, Terms};
use crate::rulebook::load_now;
use postroom_config::RuleUse;

/// The largest mail of a case that is read.
const MAIL_BYTES: u64 = 50 << 20;
/// The time at which a mail without a readable Date is decided, so that a case has the same result every day.
const NO_DATE: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// A rule under its terms, loaded once for each settings of its cases.
pub struct Loaded<'s> {
    pub terms: Terms,
    sandbox: &'s Sandbox,
    rules: BTreeMap<String, Result<Rule, String>>,
}

/// A rule's result for a case's mail.
#[derive(Debug, Clone)]
pub struct RuleResult {
    pub outcome: CaseOutcome,
    pub actions: Vec<Action>,
    /// The rule's own result, before values were filled in from the mail; as JSON.
    pub said: Vec<Value>,
    pub refused: Vec<Value>,
    pub log: Vec<String>,
    pub repairs: Vec<String>,
    pub kv_writes: BTreeMap<String, Option<String>>,
    pub elapsed: Duration,
}

/// The result of a case.
#[derive(Debug)]
pub enum CaseVerdict {
    Ok(RuleResult),
    /// The result differs.
    Differs(Box<RuleResult>, Box<Expected>, Mismatch),
    /// It names a mailbox of another tenant.
    Foreign,
    /// There is no expected file.
    Unpinned(Box<RuleResult>),
    /// The case cannot be read, or the rule fails.
    Broken(String),
}

impl<'s> Loaded<'s> {
    pub fn new(sandbox: &'s Sandbox, terms: Terms) -> Self {
        Self {
            terms,
            sandbox,
            rules: BTreeMap::new(),
        }
    }

    /// Creates it from a rule that is already loaded under these terms.
    pub fn with(sandbox: &'s Sandbox, terms: Terms, rule: Rule) -> Self {
        let settings = terms.wanted.settings_json.clone();
        Self {
            terms,
            sandbox,
            rules: BTreeMap::from([(settings, Ok(rule))]),
        }
    }

    /// Returns the rule with its tenant's settings; the reason is text for people, and contains the position.
    pub fn rule(&mut self) -> Result<&Rule, String> {
        self.rule_with(None)
    }

    fn rule_with(&mut self, settings: Option<&Expected>) -> Result<&Rule, String> {
        let own = settings.and_then(|expected| expected.settings.clone());
        let settings_json = match own {
            Some(settings) => Value::Object(settings).to_string(),
            None => self.terms.wanted.settings_json.clone(),
        };
        let (sandbox, wanted) = (self.sandbox, &self.terms.wanted);
        let loaded = self.rules.entry(settings_json).or_insert_with_key(|json| {
            let wanted = RuleUse {
                settings_json: json.clone(),
                ..wanted.clone()
            };
            load_now(sandbox, &wanted)
        });
        loaded.as_ref().map_err(Clone::clone)
    }

    /// Runs the rule on a mail with the inputs of a case.
    pub fn ask(&mut self, mail: Bytes, expected: Option<&Expected>) -> Result<RuleResult, String> {
        let rule = self.rule_with(expected)?.clone();
        let message = Arc::new(parse(&mail, &self.terms.parse_limits, &self.terms.trusted));
        let sent = message.date.as_deref().and_then(|date| date.parse().ok());
        let usual = Given::default();
        let given = expected
            .and_then(|it| it.context.as_ref())
            .unwrap_or(&usual);
        let now = given.now.or(sent).unwrap_or(NO_DATE);
        let mut context = self.terms.context(&message, now);
        if let Some(client) = &given.client {
            context.client = client.clone();
        }
        if let Some(thread) = &given.thread {
            context.thread = thread.clone();
        }
        if let Some(mailbox) = &given.mailbox {
            context.mailbox = mailbox.clone();
        }
        let kv = expected.and_then(|it| it.kv.clone()).unwrap_or_default();
        let known = expected
            .and_then(|it| it.lookup.clone())
            .unwrap_or_default();
        let (kv, lookup) = (Arc::new(Remembered(kv)), Arc::new(Stated(known)));
        let asked = self.terms.ask(&rule, &message, context, kv, lookup);
        let answer = asked.map_err(|error| error.to_string())?;
        let said = match &answer.run.verdict {
            Ok(Some(actions)) => json_of(actions)?,
            _ => Vec::new(),
        };
        let decision = answer.result?;
        Ok(RuleResult {
            outcome: decision
                .as_ref()
                .map_or(CaseOutcome::Pass, |it| it.outcome.into()),
            refused: match &decision {
                Some(decision) => json_of(&decision.refused)?,
                None => Vec::new(),
            },
            repairs: match &decision {
                Some(decision) => decision.repairs.clone(),
                None => message.repairs.clone(),
            },
            actions: decision.map(|it| it.actions).unwrap_or_default(),
            said,
            log: answer.run.log,
            kv_writes: answer.run.kv_writes.into_iter().collect(),
            elapsed: answer.run.elapsed,
        })
    }
}

/// Runs one case.
pub fn run(case: &Case, loaded: &mut Loaded<'_>) -> CaseVerdict {
    let expected = match Expected::read(&loaded.terms.within, &case.expected) {
        Ok(expected) => expected,
        Err(reason) => return CaseVerdict::Broken(reason),
    };
    let given = expected.as_ref().and_then(|it| it.context.as_ref());
    if loaded.terms.is_foreign(given) {
        return CaseVerdict::Foreign;
    }
    let asked =
        read_mail(&loaded.terms.within, case).and_then(|mail| loaded.ask(mail, expected.as_ref()));
    match (asked, expected) {
        (Err(reason), _) => CaseVerdict::Broken(reason),
        (Ok(found), None) => CaseVerdict::Unpinned(Box::new(found)),
        (Ok(found), Some(expected)) => match expected.mismatch(&found) {
            None => CaseVerdict::Ok(found),
            Some(mismatch) => CaseVerdict::Differs(Box::new(found), Box::new(expected), mismatch),
        },
    }
}

impl RuleResult {
    /// Returns the content that the expected file needs for this result; inputs and the choice of compared keys stay.
    pub fn pinned(&self, before: Option<&Expected>) -> Result<Expected, String> {
        let before = before.cloned().unwrap_or_default();
        Ok(Expected {
            outcome: Some(self.outcome),
            actions: match self.outcome {
                CaseOutcome::Pass => None,
                _ => Some(json_of(&self.actions)?),
            },
            refused: before.refused.map(|_| self.refused.clone()),
            log: before.log.map(|_| self.log.clone()),
            repairs: before.repairs.map(|_| self.repairs.clone()),
            kv_writes: before.kv_writes.map(|_| self.kv_writes.clone()),
            ..before
        })
    }
}

impl From<postroom_core::Outcome> for CaseOutcome {
    fn from(outcome: postroom_core::Outcome) -> Self {
        match outcome {
            postroom_core::Outcome::Ticket => Self::Ticket,
            postroom_core::Outcome::Note => Self::Note,
            postroom_core::Outcome::Alert => Self::Alert,
            postroom_core::Outcome::Ignored => Self::Ignored,
            postroom_core::Outcome::Quarantined => Self::Quarantined,
        }
    }
}

/// The `kv` that a case states.
struct Remembered(BTreeMap<String, String>);

impl Kv for Remembered {
    fn get(&self, key: &str) -> Result<Option<String>, KvError> {
        Ok(self.0.get(key).cloned())
    }

    fn usage(&self) -> Result<(u64, u64), KvError> {
        let bytes: usize = self
            .0
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        Ok((self.0.len() as u64, bytes as u64))
    }
}

/// The records of the tenant that a case states.
struct Stated(Known);

impl Lookup for Stated {
    fn ask(&self, question: &Query, most: usize) -> Result<lookup::QueryResult, LookupError> {
        Ok(self.0.answer(question, most))
    }
}

fn read_mail(within: &Path, case: &Case) -> Result<Bytes, String> {
    match read_within(within, &case.mail, MAIL_BYTES) {
        Ok(bytes) => Ok(bytes.into()),
        Err(Unread::Missing) => Err(format!(
            "{} does not exist, only {}; remove that, or restore the mail",
            case.mail.display(),
            case.expected.display()
        )),
        Err(unread) => Err(super::unread(&case.mail, unread, MAIL_BYTES)),
    }
}

fn json_of<T: serde::Serialize>(list: &[T]) -> Result<Vec<Value>, String> {
    let values = list.iter().map(serde_json::to_value);
    values.collect::<Result<_, _>>().map_err(|e| e.to_string())
}
