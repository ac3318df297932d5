//! `postroom rule pin`: makes a case of a rule from a decided mail, with stand-ins for all private data.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use bytes::Bytes;
use postroom_core::lookup::Known;
use postroom_core::{Outcome, Redactor, parse};
use postroom_files::{make_private_folder, write_private};
use postroom_store::{DecisionId, DecisionRow, JournalId};
use serde_json::{Value, json};

use crate::commands::{load_with_warnings, open_listings, print};
use postroom_config::Config;
use postroom_rules::cases::{
    Case, Expected, Given, Loaded, RuleResult, Terms, first_difference, folder_of,
};
use postroom_rules::rulebook;

/// The longest name made from the subject, in characters.
const NAME_CHARS: usize = 40;
/// The built-in rules, which have no cases.
const BUILT_IN: &[&str] = &["standard", "fallback"];

/// The request to pin a mail.
#[derive(Debug, Default)]
pub struct Pin {
    /// The decision's number.
    pub decision: String,
    /// The rule, if it is not the one that decided.
    pub rule: Option<PathBuf>,
    /// The case's name; by default made from the subject.
    pub name: Option<String>,
    /// Domains that are not redacted.
    pub keep: Vec<String>,
    /// Write the case even if the rule now decides differently.
    pub force: bool,
}

pub fn pin(config_file: &Path, wanted: &Pin) -> anyhow::Result<ExitCode> {
    let id = wanted.decision.parse().map(DecisionId);
    let id =
        id.with_context(|| format!("{} is not an id of `postroom decisions`", wanted.decision))?;
    let config = load_with_warnings(config_file)?;
    let reader = open_listings(config_file)?;
    let row = reader
        .decision(id)?
        .with_context(|| format!("there is no decision {id}; `postroom decisions` shows them"))?;
    if row.outcome == Outcome::Quarantined && BUILT_IN.contains(&row.rule.as_str()) {
        bail!("no rule ever saw the mail of decision {id}: it was quarantined before");
    }
    let raw = reader.raw(JournalId(id.0))?.with_context(|| {
        format!("the mail of decision {id} is gone: it was older than keep_raw")
    })?;
    let rule = rule_file(&config, &row, wanted.rule.as_deref())?;
    let terms = Terms::of_mailbox(&config, &row.mailbox, &rule)?;
    let decided_by_it = terms.wanted.rule.name == row.rule;

    let sandbox = rulebook::sandbox(Some(&config.data_dir), 1)?;
    let mut redactor = Redactor::keeping(&wanted.keep);
    let redacted = Bytes::from(redactor.mail(&raw));
    let told = told(&row, &terms, &raw)?;
    let told_redacted = redacted_circumstances(&told, &mut redactor);
    let mut loaded = Loaded::new(&sandbox, terms);
    let asked = |loaded: &mut Loaded<'_>, mail: &Bytes, told: &Expected| {
        let found = loaded.ask(mail.clone(), Some(told));
        found.map_err(|reason| anyhow::anyhow!("the rule is in trouble: {reason}"))
    };
    let on_mail = asked(&mut loaded, &raw, &told)?;
    let found = asked(&mut loaded, &redacted, &told_redacted)?;

    let mut objections = Vec::new();
    if decided_by_it && let Some(difference) = against_recorded(&row, &on_mail) {
        objections.push(format!(
            "the rule decides this mail differently than when it arrived: {difference}. The rule, its settings or its kv has changed since"
        ));
    }
    if let Some(difference) = against_own(&on_mail, &found, &mut redactor) {
        objections.push(format!(
            "the rule decides the redacted mail differently than the mail itself: {difference}. The text it looks for got a stand-in: --keep DOMAIN leaves a domain unchanged"
        ));
    }
    for objection in &objections {
        eprintln!("{objection}");
    }
    if !objections.is_empty() && !wanted.force {
        eprintln!("Nothing was written; --force writes the case as the rule decides it now.");
        return Ok(ExitCode::FAILURE);
    }
    let case = free_case(&rule, wanted, &redacted, &row)?;
    let expected = found
        .pinned(Some(&told_redacted))
        .map_err(anyhow::Error::msg)?;
    let folder = folder_of(&rule);
    make_private_folder(&folder).with_context(|| folder.display().to_string())?;
    write(&case.mail, &redacted)?;
    write(&case.expected, expected.to_text().as_bytes())?;
    eprintln!(
        "Read it before you share it: names that occur in no address header, and details that only people recognise, remain."
    );
    Ok(ExitCode::SUCCESS)
}

/// Returns the rule's file, for the tenant of the mail.
fn rule_file(config: &Config, row: &DecisionRow, named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    if BUILT_IN.contains(&row.rule.as_str()) {
        bail!(
            "decision {} was made by the built-in rule {}, which has no cases; help: name the rule the case is for, with --rule FILE",
            row.id,
            row.rule
        );
    }
    let uses = config.rule_uses();
    let found = uses
        .iter()
        .find(|it| it.tenant == row.tenant && it.rule.name == row.rule);
    let path = found.and_then(|it| it.rule.path()).with_context(|| {
        format!(
            "decision {} was made by {}, which is no longer in the configuration; help: name the rule the case is for, with --rule FILE",
            row.id, row.rule
        )
    })?;
    Ok(path.strip_prefix(".").unwrap_or(path).to_owned())
}

/// Returns the context of the decision that the rule received.
fn told(row: &DecisionRow, terms: &Terms, raw: &Bytes) -> anyhow::Result<Expected> {
    let now: jiff::Timestamp = row.received.parse().context("the decision's time")?;
    let message = parse(raw, &terms.parse_limits, &terms.trusted);
    let reads = row.kv_reads.iter();
    let kv: BTreeMap<String, String> = reads
        .filter(|read| read.rule == terms.wanted.rule.name)
        .filter_map(|read| Some((read.key.clone(), read.value.clone()?)))
        .collect();
    let mut known = Known::default();
    for read in &row.lookups {
        if read.rule == terms.wanted.rule.name {
            known.add(read.found.clone());
        }
    }
    Ok(Expected {
        context: Some(Given {
            // The sender's domain gets a stand-in, which no longer identifies the client.
            client: Some(terms.context(&message, now).client),
            thread: Some(row.thread.clone()),
            now: Some(now),
            mailbox: Some(row.mailbox.clone()),
        }),
        kv: (!kv.is_empty()).then_some(kv),
        lookup: (!known.is_empty()).then_some(known),
        ..Expected::default()
    })
}

fn redacted_circumstances(told: &Expected, redactor: &mut Redactor) -> Expected {
    let kv = told.kv.as_ref().map(|kv| {
        kv.iter()
            .map(|(key, value)| (redactor.text(key), redactor.text(value)))
            .collect()
    });
    let lookup = told.lookup.as_ref().and_then(|known| {
        let redacted = redacted_texts(json!(known), redactor);
        serde_json::from_value(redacted).ok()
    });
    Expected {
        kv,
        lookup,
        ..told.clone()
    }
}

fn redacted_texts(value: Value, redactor: &mut Redactor) -> Value {
    match value {
        Value::String(text) => redactor.text(&text).into(),
        Value::Array(list) => list
            .into_iter()
            .map(|value| redacted_texts(value, redactor))
            .collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(key, value)| (key, redacted_texts(value, redactor)))
            .collect(),
        other => other,
    }
}

/// Returns how the rule's current result differs from the recorded one: in outcome and kinds of action.
fn against_recorded(row: &DecisionRow, found: &RuleResult) -> Option<String> {
    let recorded = json!({
        "outcome": row.outcome,
        "actions": kinds(&json!(row.actions)),
    });
    let now = json!({
        "outcome": found.outcome,
        "actions": kinds(&json!(found.actions)),
    });
    first_difference("", &recorded, &now)
}

/// Returns how redaction changed the rule's result, in the parts that are decided rather than copied.
fn against_own(
    on_mail: &RuleResult,
    found: &RuleResult,
    redactor: &mut Redactor,
) -> Option<String> {
    let mut shape = |found: &RuleResult, redacts: bool| {
        let mut actions = json!(found.actions);
        for action in actions.as_array_mut().into_iter().flatten() {
            let decided = [
                "kind",
                "state",
                "severity",
                "priority",
                "queue",
                "visibility",
            ];
            if let Some(action) = action.as_object_mut() {
                action.retain(|key, _| decided.contains(&key.as_str()));
            }
            for text in action.as_object_mut().into_iter().flatten().map(|it| it.1) {
                if let (true, Value::String(text)) = (redacts, text) {
                    *text = redactor.text(text);
                }
            }
        }
        json!({ "outcome": found.outcome, "actions": actions })
    };
    let (mail, redacted) = (shape(on_mail, true), shape(found, false));
    first_difference("", &mail, &redacted)
}

fn kinds(actions: &Value) -> Vec<Value> {
    let actions = actions.as_array().into_iter().flatten();
    actions.map(|action| action["kind"].clone()).collect()
}

/// Returns a case that does not exist yet.
fn free_case(
    rule: &Path,
    wanted: &Pin,
    redacted: &Bytes,
    row: &DecisionRow,
) -> anyhow::Result<Case> {
    let folder = folder_of(rule);
    let is_free = |case: &Case| !case.mail.exists() && !case.expected.exists();
    if let Some(name) = &wanted.name {
        let sound = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.starts_with('.') || name.is_empty() || !name.chars().all(sound) {
            bail!("\"{name}\" is not a valid name of a case: use letters, digits, - and _");
        }
        let case = Case::named(&folder, name);
        if !wanted.force && !is_free(&case) {
            bail!(
                "{} already exists; help: use another --name, or --force",
                case.mail.display()
            );
        }
        return Ok(case);
    }
    let subject = parse(redacted, &Default::default(), &[]).subject;
    let name = match case_name(&subject) {
        name if name.is_empty() => format!("decision-{}", row.id),
        name => name,
    };
    let numbered = (2_u32..).map(|number| Case::named(&folder, &format!("{name}-{number}")));
    let mut candidates = std::iter::once(Case::named(&folder, &name)).chain(numbered);
    candidates
        .find(is_free)
        .context("every name for the case is taken")
}

/// Returns a file name of a subject's words. A capitalised word inside it may be the name of a person, and is left out.
fn case_name(subject: &str) -> String {
    let words = subject.split(|c: char| !c.is_alphanumeric());
    let mut name = String::new();
    for word in words.filter(|word| !word.is_empty()) {
        let is_stand_in = word
            .strip_prefix("Name")
            .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()));
        let is_name = word.starts_with(char::is_uppercase) && !name.is_empty() && !is_stand_in;
        if is_name || name.chars().count() + word.chars().count() > NAME_CHARS {
            continue;
        }
        if !name.is_empty() {
            name.push('-');
        }
        name.extend(word.chars().flat_map(char::to_lowercase));
    }
    name
}

fn write(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_private(file, content).with_context(|| file.display().to_string())?;
    print(file.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::case_name;

    #[test]
    fn a_case_is_not_named_after_a_person() {
        for (subject, expected) in [
            ("Onboarding form: Jürgen O'Neil", "onboarding-form"),
            (
                "[Backup] nightly of srv-fin01 failed",
                "backup-nightly-of-srv-fin01-failed",
            ),
            ("Re: printer", "re-printer"),
            ("Printer of Name1", "printer-of-name1"),
            ("", ""),
            ("?!", ""),
        ] {
            assert_eq!(case_name(subject), expected, "{subject}");
        }
        assert!(case_name(&"word ".repeat(50)).chars().count() <= super::NAME_CHARS + 10);
    }
}
