//! `postroom rules diff`: the changes between two generations, file by file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::ExitCode;

use anyhow::bail;
use postroom_store::RuleRecord;
use serde_json::{Value, json};
use similar::TextDiff;

use super::{newest_unless, not_kept, report_not_kept, rules_of, texts};
use crate::cli::RuleFilter;
use crate::commands::{open_listings, print};

/// Equal lines shown around a difference.
const AROUND: usize = 3;

/// Compares two generations, by default the newest and the one before.
pub fn diff(
    config: &Path,
    from: Option<u64>,
    to: Option<u64>,
    filter: &RuleFilter,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let reader = open_listings(config)?;
    let to = newest_unless(&*reader, to)?;
    let from = from.unwrap_or(to.saturating_sub(1));
    if from == 0 && to == 1 {
        bail!("generation 1 is the first: there is nothing before it to compare with");
    }
    let (old, new) = (rules_of(&*reader, from)?, rules_of(&*reader, to)?);
    let not_kept = not_kept(&*reader, from.min(to), filter)?;
    for tenant in &not_kept {
        report_not_kept(from.min(to), tenant, json)?;
    }
    let by_rule = |rules: &[RuleRecord]| -> BTreeMap<(String, String), RuleRecord> {
        let is_kept = |rule: &&RuleRecord| !not_kept.contains(&rule.tenant);
        let wanted = rules.iter().filter(|rule| filter.takes(rule));
        let wanted = wanted.filter(is_kept).cloned();
        wanted
            .map(|rule| ((rule.tenant.clone(), rule.name.clone()), rule))
            .collect()
    };
    let (old, new) = (by_rule(&old), by_rule(&new));
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let mut equal = true;
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        equal = false;
        let parts = parts(before, after)?;
        if json {
            let files: BTreeMap<&str, &str> = parts
                .iter()
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            print(json!({
                "from": from,
                "to": to,
                "tenant": key.0,
                "rule": key.1,
                "before": before.map(|rule| rule.hash.hex()),
                "after": after.map(|rule| rule.hash.hex()),
                "diff": files,
            }))?;
            continue;
        }
        let what = match (before, after) {
            (None, _) => format!("new in generation {to}"),
            (_, None) => format!("gone in generation {to}"),
            _ => format!("generation {from} -> {to}"),
        };
        print(format!("{}/{}: {what}", key.0, key.1))?;
        for (_, text) in parts {
            print(text.trim_end())?;
        }
    }
    if equal && !json {
        let which = match not_kept.is_empty() {
            true => "the same rules",
            false => "otherwise the same rules",
        };
        print(format!("generations {from} and {to} have {which}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns the unified difference of each file, then of settings and grants, without equal parts.
fn parts(
    before: Option<&RuleRecord>,
    after: Option<&RuleRecord>,
) -> anyhow::Result<Vec<(String, String)>> {
    let (old, new) = (all_of(before)?, all_of(after)?);
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = String::new();
    Ok(names
        .into_iter()
        .filter_map(|name| {
            let (old, new) = (
                old.get(name).unwrap_or(&none),
                new.get(name).unwrap_or(&none),
            );
            let diff = TextDiff::from_lines(old.as_str(), new.as_str());
            let text = diff
                .unified_diff()
                .context_radius(AROUND)
                .header(name, name)
                .to_string();
            (old != new).then(|| (name.clone(), text))
        })
        .collect())
}

fn all_of(rule: Option<&RuleRecord>) -> anyhow::Result<BTreeMap<String, String>> {
    let Some(rule) = rule else {
        return Ok(BTreeMap::new());
    };
    let mut all = texts(rule)?;
    for (name, json) in [
        ("settings", &rule.settings_json),
        ("grants", &rule.grants_json),
    ] {
        let value: Value = serde_json::from_str(json)?;
        all.insert(name.into(), format!("{value:#}\n"));
    }
    Ok(all)
}
