//! The file `NAME.expected.json`: what a rule is to make of a mail, and what it is told while it does.

use std::collections::BTreeMap;
use std::path::Path;

use postroom_core::lookup::Known;
use postroom_core::{Action, Client, Thread};
use postroom_files::{Unread, read_within};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The largest file that is read.
const FILE_BYTES: u64 = 4 << 20;

/// What is expected, and under which circumstances. Of the first six, those that are there are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expected {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// As `rule try --json` shows them. What the mail filled in may be left out of an action; what the rule said may not.
    #[serde(
        skip_serializing_if = "Option::is_none",
        serialize_with = "in_usual_order"
    )]
    pub actions: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<Vec<Value>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repairs: Option<Vec<String>>,
    /// What the rule writes into its `kv`; null for what it deletes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_writes: Option<BTreeMap<String, Option<String>>>,
    /// `ctx.settings`, instead of the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Map<String, Value>>,
    /// What of `ctx` is not as usual.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Given>,
    /// What the rule remembers from before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<BTreeMap<String, String>>,
    /// What is known of the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Known>,
}

/// What becomes of the mail, or that the next rule is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ticket,
    Note,
    Alert,
    Ignored,
    Quarantined,
    Pass,
}

/// The parts of a context that a case states. An inner `None` is a stated null.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Given {
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "stated")]
    pub client: Option<Option<Client>>,
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "stated")]
    pub thread: Option<Option<Thread>>,
    /// RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub now: Option<jiff::Timestamp>,
    /// A mailbox of the configuration: then the case is its tenant's alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
}

impl Expected {
    /// Reads the file, which must lie in the folder; none when it is missing. The reason begins with file, line and column.
    pub fn read(within: &Path, file: &Path) -> Result<Option<Self>, String> {
        let shown = file.display();
        let bytes = match read_within(within, file, FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(Unread::Missing) => return Ok(None),
            Err(unread) => return Err(super::unread(file, unread, FILE_BYTES)),
        };
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown}: is not UTF-8 text"))?;
        // What some editors begin a text with.
        let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
        // `null` is short for a mail that passes.
        let expected: Option<Self> = serde_json::from_str(text).map_err(|error| {
            let what = error.to_string();
            let place = format!(" at line {} column {}", error.line(), error.column());
            let what = what.strip_suffix(&place).unwrap_or(&what);
            format!("{shown}:{}:{}: {what}", error.line(), error.column())
        })?;
        let expected = expected.unwrap_or(Self {
            outcome: Some(Outcome::Pass),
            ..Self::default()
        });
        if expected.outcome.is_none() && expected.actions.is_none() {
            return Err(format!(
                "{shown}: has no expectation: it has neither \"outcome\" nor \"actions\"; `--update` writes both"
            ));
        }
        Ok(Some(expected))
    }

    /// As the file holds it.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.unwrap_or_else(|error| format!("\"{error}\"")) + "\n"
    }
}

/// The kind first, then as the manual has the keys.
fn in_usual_order<S: Serializer>(
    actions: &Option<Vec<Value>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let known: Option<Vec<Action>> = actions
        .iter()
        .flatten()
        .map(|action| Action::deserialize(action).ok())
        .collect();
    match known {
        Some(known) => known.serialize(serializer),
        None => actions.serialize(serializer),
    }
}

fn stated<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}
