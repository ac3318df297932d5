//! The file `NAME.expected.json`: the expected result of a rule for a mail, and the inputs of the rule.

use std::collections::BTreeMap;
use std::path::Path;

use postroom_core::lookup::Known;
use postroom_core::{Action, Client, Thread};
use postroom_files::{Unread, read_within};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// The largest file that is read.
const FILE_BYTES: u64 = 4 << 20;

/// The expected result, and its inputs. Of the first six keys, those that are present are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expected {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// In the form of `rule try --json`. Values filled in from the mail may be left out of an action; values set by the
    /// rule may not.
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
    /// The values that the rule writes into its `kv`; null for a deleted key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_writes: Option<BTreeMap<String, Option<String>>>,
    /// `ctx.settings`, in place of the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settings: Option<serde_json::Map<String, Value>>,
    /// The parts of `ctx` that differ from the default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<Given>,
    /// The rule's `kv` before the mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<BTreeMap<String, String>>,
    /// The tenant's records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lookup: Option<Known>,
}

/// The outcome of the mail, or pass.
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
    /// A mailbox of the configuration: the case then runs for its tenant only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mailbox: Option<String>,
}

impl Expected {
    /// Reads the file, which must be in the folder; returns `None` if it is missing. The reason begins with file, line and
    /// column.
    pub fn read(within: &Path, file: &Path) -> Result<Option<Self>, String> {
        let shown = file.display();
        let bytes = match read_within(within, file, FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(Unread::Missing) => return Ok(None),
            Err(unread) => return Err(super::unread(file, unread, FILE_BYTES)),
        };
        let text = String::from_utf8(bytes).map_err(|_| format!("{shown}: is not UTF-8 text"))?;
        // Some editors begin a text with it.
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

    /// Returns the text of the file.
    pub fn to_text(&self) -> String {
        let text = serde_json::to_string_pretty(self);
        text.unwrap_or_else(|error| format!("\"{error}\"")) + "\n"
    }
}

/// Writes the kind first, then the keys in the order of the manual.
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
