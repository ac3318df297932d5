//! `postroom rules`: lists, shows, compares and rolls back rule generations.

mod diff;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use postroom_core::ContentHash;
use postroom_sandbox::Bundle;
use postroom_store::{Control, Generation, Listings, Rollback, RuleChange, RuleRecord, StoreError};
use serde_json::{Value, json};

use crate::cli::RuleFilter;
use crate::commands::{open_listings, print, table};
use crate::store;

pub use diff::diff;

/// The default limit of a listing for people; `--limit` and `--json` exceed it.
const SCREENFUL: usize = 50;
/// The length of a hash that suffices to distinguish versions.
const SHORT: usize = 12;

pub fn list(config: &Path, limit: Option<usize>, json: bool) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let newest = reader.newest_generation()?;
    let generations = reader.generations(limit.or((!json).then_some(SCREENFUL)))?;
    if json {
        for generation in &generations {
            print(listed(generation, newest))?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = generations.iter().map(|it| {
        let mark = if it.number == newest { " (newest)" } else { "" };
        vec![
            format!("{}{mark}", it.number),
            it.saved.clone(),
            it.cause.to_string(),
            it.changes
                .iter()
                .map(in_words)
                .collect::<Vec<_>>()
                .join("\n"),
        ]
    });
    table::print(&["generation", "saved", "why", "changed"], rows)?;
    for refused in reader.refused_rules()? {
        print(format!(
            "refused: {}/{} {}: {}",
            refused.tenant,
            refused.name,
            short(&refused.hash),
            refused.reason
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints every rule of a generation, or the text of one of them.
pub fn show(
    config: &Path,
    generation: Option<u64>,
    filter: &RuleFilter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let number = newest_unless(&*reader, generation)?;
    let rules = rules_of(&*reader, number)?;
    let mut wanted: Vec<&RuleRecord> = rules.iter().filter(|rule| filter.takes(rule)).collect();
    let not_kept = not_kept(&*reader, number, filter)?;
    for tenant in &not_kept {
        report_not_kept(number, tenant, json)?;
    }
    if wanted.is_empty() && !not_kept.is_empty() {
        return Ok(ExitCode::FAILURE);
    }
    if wanted.is_empty() {
        bail!("generation {number} {}", lacks(filter, &rules));
    }
    if json {
        for rule in wanted {
            print(shown(number, rule, filter.rule.is_some())?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if filter.rule.is_some() {
        // Tenants with the same version share one copy.
        wanted.dedup_by_key(|rule| rule.hash);
        for rule in wanted {
            for (name, text) in texts(rule)? {
                print(format!("// {}: {name}\n{}", rule.tenant, text.trim_end()))?;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    let rows = wanted.iter().map(|rule| {
        vec![
            rule.tenant.clone(),
            rule.name.clone(),
            short(&rule.hash),
            rule.bytes.len().to_string(),
            rule.settings_json.clone(),
            rule.grants_json.clone(),
        ]
    });
    table::print(
        &["tenant", "rule", "hash", "bytes", "settings", "grants"],
        rows,
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Rolls back, with or without a running service, which follows within a second.
pub fn rollback(
    config: &Path,
    generation: Option<u64>,
    filter: &RuleFilter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let data_dir: PathBuf =
        postroom_config::data_dir(config).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    let reader = open_listings(config)?;
    let newest = reader.newest_generation()?;
    let rules = rules_of(&*reader, newest)?;
    if !rules.iter().any(|rule| filter.takes(rule)) {
        bail!("generation {newest} {}", lacks(filter, &rules));
    }
    let wanted = Rollback {
        to: generation,
        tenant: filter.tenant.clone(),
        name: filter.rule.clone(),
    };
    let done = store::control(&data_dir)
        .roll_back(&wanted)
        .map_err(|error| match error {
            StoreError::NoSuchGeneration { number: 0 } => {
                anyhow::anyhow!("there is no generation before the first")
            }
            error @ (StoreError::NoSuchGeneration { .. } | StoreError::RulesNotKept { .. }) => {
                anyhow::anyhow!("{error}; `postroom rules list` shows the kept ones")
            }
            error => error.into(),
        })?;
    if json {
        let rules: Vec<Value> = done
            .rules
            .iter()
            .map(|(tenant, rule)| json!({ "tenant": tenant, "rule": rule }))
            .collect();
        print(
            json!({ "to": done.to, "generation": done.generation, "rules": rules, "not_kept": done.not_kept }),
        )?;
        return Ok(ExitCode::SUCCESS);
    }
    for tenant in &done.not_kept {
        report_not_kept(done.to, tenant, false)?;
    }
    match done.generation {
        None => print(format!(
            "nothing to do: these rules are as in generation {}",
            done.to
        ))?,
        Some(number) => {
            let names: Vec<String> = done
                .rules
                .iter()
                .map(|(tenant, name)| format!("{tenant}/{name}"))
                .collect();
            print(format!(
                "generation {number}: as in generation {} are {}\nThe replaced versions are refused until their files change. A running service follows within a second.",
                done.to,
                names.join(", ")
            ))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl RuleFilter {
    fn takes(&self, rule: &RuleRecord) -> bool {
        self.tenant.as_ref().is_none_or(|it| *it == rule.tenant)
            && self.rule.as_ref().is_none_or(|it| *it == rule.name)
    }
}

fn newest_unless(reader: &dyn Listings, generation: Option<u64>) -> anyhow::Result<u64> {
    Ok(match generation {
        Some(number) => number,
        None => reader.newest_generation()?,
    })
}

fn rules_of(reader: &dyn Listings, number: u64) -> anyhow::Result<Vec<RuleRecord>> {
    if number == 0 {
        bail!("no rule ever went live here: `postroom run` loads them");
    }
    reader.generation_rules(number)?.with_context(|| {
        format!("generation {number} is not kept; `postroom rules list` shows the kept ones")
    })
}

/// Returns the tenants that match the filter and whose rules of a generation are no longer kept.
fn not_kept(
    reader: &dyn Listings,
    number: u64,
    filter: &RuleFilter,
) -> anyhow::Result<Vec<String>> {
    let mut tenants = reader.partly_kept(number)?;
    tenants.retain(|tenant| filter.tenant.as_ref().is_none_or(|it| it == tenant));
    Ok(tenants)
}

fn report_not_kept(number: u64, tenant: &str, json: bool) -> anyhow::Result<()> {
    if json {
        return Ok(print(
            json!({ "generation": number, "tenant": tenant, "kept": false }),
        )?);
    }
    Ok(print(format!(
        "{tenant}: its rules of generation {number} are no longer kept"
    ))?)
}

/// Returns why a filter matches nothing.
fn lacks(filter: &RuleFilter, rules: &[RuleRecord]) -> String {
    if rules.is_empty() {
        return "has no rules but built-in ones".into();
    }
    let names: Vec<String> = rules
        .iter()
        .map(|rule| format!("{}/{}", rule.tenant, rule.name))
        .collect();
    let tenant = filter.tenant.as_deref().unwrap_or("*");
    let rule = filter.rule.as_deref().unwrap_or("*");
    format!("has no {tenant}/{rule}; it has {}", names.join(", "))
}

fn listed(generation: &Generation, newest: u64) -> Value {
    let changes: Vec<Value> = generation
        .changes
        .iter()
        .map(|change| {
            json!({
                "tenant": change.tenant,
                "rule": change.name,
                "change": kind_of(change),
                "before": change.before.map(|hash| hash.hex()),
                "after": change.after.map(|hash| hash.hex()),
            })
        })
        .collect();
    json!({
        "generation": generation.number,
        "saved": generation.saved,
        "why": generation.cause,
        "hash": generation.hash.map(|hash| hash.hex()),
        "newest": generation.number == newest,
        "changes": changes,
    })
}

fn shown(number: u64, rule: &RuleRecord, with_text: bool) -> anyhow::Result<Value> {
    let json = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    let mut shown = json!({
        "generation": number,
        "tenant": rule.tenant,
        "rule": rule.name,
        "hash": rule.hash.hex(),
        "bytes": rule.bytes.len(),
        "settings": json(&rule.settings_json),
        "grants": json(&rule.grants_json),
    });
    if with_text {
        shown["files"] = texts(rule)?.into_iter().collect();
    }
    Ok(shown)
}

fn kind_of(change: &RuleChange) -> &'static str {
    match (change.before, change.after) {
        (None, _) => "added",
        (_, None) => "removed",
        (before, after) if before == after => "settings",
        _ => "changed",
    }
}

fn in_words(change: &RuleChange) -> String {
    let rule = format!("{}/{}", change.tenant, change.name);
    let hash = |hash: Option<ContentHash>| hash.map(|it| short(&it)).unwrap_or_default();
    match kind_of(change) {
        "added" => format!("+ {rule} {}", hash(change.after)),
        "removed" => format!("- {rule}"),
        "settings" => format!("~ {rule} (settings or grants)"),
        _ => format!("~ {rule} {} -> {}", hash(change.before), hash(change.after)),
    }
}

fn short(hash: &ContentHash) -> String {
    hash.hex().chars().take(SHORT).collect()
}

/// Returns a rule's files by name; a component is one line.
fn texts(rule: &RuleRecord) -> anyhow::Result<BTreeMap<String, String>> {
    if rule.name.ends_with(".wasm") {
        let told = format!("a component of {} bytes, {}\n", rule.bytes.len(), rule.hash);
        return Ok(BTreeMap::from([(rule.name.clone(), told)]));
    }
    let bundle = Bundle::unpack(&rule.name, &rule.bytes)
        .with_context(|| format!("the stored copy of {} is damaged", rule.name))?;
    let modules = bundle.modules().iter();
    Ok(modules
        .map(|module| (module.name.clone(), module.text.clone()))
        .collect())
}
