//! Reads a mailbox's rule chain: built-in names, and files, which must be in the configuration's folder.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::reader::Item;
use super::{RuleConfig, RuleKind, RuleUse, Tenant};
use crate::suggest::{closest, did_you_mean, hint};
use postroom_files::{ConfinedPath, EscapesRoot};

const BUILT_IN: &[&str] = &["standard", "fallback", OWN];
/// Stands for the tenant's own rules in a mailbox's chain.
const OWN: &str = "tenant";

/// One mailbox's chain for one tenant, as far as it could be read.
pub struct ChainConfig {
    pub tenant: String,
    /// Every name in it.
    pub names: Vec<String>,
    /// The rules that exist.
    pub rules: Vec<RuleConfig>,
    /// Whether the tenant's own rules are part of it.
    pub has_own: bool,
}

/// A list of rules as it is written, with the place of the tenant's own rules.
pub struct OwnChain {
    names: Vec<String>,
    rules: Vec<RuleConfig>,
    /// The number of rules before `"tenant"`.
    own_at: Option<usize>,
    /// Whether all of it is valid.
    pub is_sound: bool,
}

impl OwnChain {
    /// Returns the chain with a tenant's own rules in their place. A rule that stands in it already stays where it is.
    pub fn of_tenant(&self, tenant: &str, own: &[RuleConfig]) -> ChainConfig {
        let mut rules = self.rules.clone();
        let mut names = self.names.clone();
        if let Some(at) = self.own_at {
            let known = |rule: &&RuleConfig| self.rules.iter().all(|it| it.name != rule.name);
            let own: Vec<RuleConfig> = own.iter().filter(known).cloned().collect();
            names.extend(own.iter().map(|it| it.name.clone()));
            rules.splice(at..at, own);
        }
        ChainConfig {
            tenant: tenant.to_owned(),
            names,
            rules,
            has_own: self.own_at.is_some(),
        }
    }

    /// Returns the rules of a list without a place for others.
    pub fn into_rules(self) -> Option<Vec<RuleConfig>> {
        self.is_sound.then_some(self.rules)
    }
}

impl Tenant {
    /// Returns a rule with this tenant's settings for it, its grants and its limits.
    pub fn use_of(&self, rule: &RuleConfig) -> RuleUse {
        RuleUse {
            tenant: self.name.clone(),
            rule: rule.clone(),
            settings_json: self.settings_json(&rule.name),
            grants: self.grants,
            limits: self.limits.clone(),
            tests: self.test_limits,
            on_failure: self.on_failure.get(&rule.name).copied().unwrap_or_default(),
        }
    }

    /// Returns this tenant's settings for a rule as one JSON object, `{}` by default.
    pub fn settings_json(&self, rule: &str) -> String {
        self.settings
            .get(rule)
            .map_or_else(|| "{}".into(), ToString::to_string)
    }
}

/// Returns a mailbox's chain of rules. Without the key, it is the standard rule.
pub fn read(item: Option<Item>) -> OwnChain {
    let Some(item) = item else {
        let standard = RuleConfig {
            name: "standard".into(),
            kind: RuleKind::Standard,
        };
        return OwnChain {
            names: vec![standard.name.clone()],
            rules: vec![standard],
            own_at: None,
            is_sound: true,
        };
    };
    read_list(&item, true)
}

/// Returns a tenant's own rules, which take the place of `"tenant"` in a mailbox's chain.
pub fn read_own(item: &Item) -> Option<Vec<RuleConfig>> {
    read_list(item, false).into_rules()
}

fn read_list(item: &Item, is_chain: bool) -> OwnChain {
    let mut own_at = None;
    let Some(items) = item.list() else {
        return OwnChain {
            names: Vec::new(),
            rules: Vec::new(),
            own_at,
            is_sound: false,
        };
    };
    let mut names: Vec<String> = Vec::new();
    let mut rules: Vec<RuleConfig> = Vec::new();
    let mut sound = true;
    for item in &items {
        if rules.last().is_some_and(|r| r.kind == RuleKind::Fallback) {
            item.problem(
                "never runs: \"fallback\" decides every mail that reaches it",
                "move \"fallback\" to the end, or leave it out: it ends every chain in any case",
            );
            sound = false;
        }
        let Some(name) = item.text().map(tidy) else {
            sound = false;
            continue;
        };
        if names.contains(&name) {
            item.problem("stands in this chain twice", "remove one of the two");
            sound = false;
            continue;
        }
        if name == OWN && is_chain {
            own_at = Some(rules.len());
            names.push(name);
            continue;
        }
        if !is_chain && matches!(name.as_str(), OWN | "fallback") {
            item.problem(
                format!("\"{name}\" cannot stand among a tenant's own rules"),
                "remove it: the mailbox's chain continues after them",
            );
            sound = false;
            continue;
        }
        match read_one(item, &name) {
            Some(kind) => rules.push(RuleConfig {
                name: name.clone(),
                kind,
            }),
            None => sound = false,
        }
        names.push(name);
    }
    // The place is not a rule.
    names.retain(|name| name != OWN);
    OwnChain {
        names,
        rules,
        own_at,
        is_sound: sound,
    }
}

/// Returns every rule of every tenant that has to be loaded, each once, with what it is loaded with.
pub fn uses<'r>(
    tenants: &[Tenant],
    chains: impl Iterator<Item = (&'r str, &'r [RuleConfig])>,
) -> Vec<RuleUse> {
    let mut uses = BTreeMap::new();
    for (tenant, rules) in chains {
        let Some(tenant) = tenants.iter().find(|t| t.name == tenant) else {
            continue;
        };
        for rule in rules.iter().filter(|r| r.kind != RuleKind::Fallback) {
            uses.entry((&tenant.name, &rule.name))
                .or_insert_with(|| tenant.use_of(rule));
        }
    }
    uses.into_values().collect()
}

fn read_one(item: &Item, name: &str) -> Option<RuleKind> {
    match name {
        "standard" => return Some(RuleKind::Standard),
        "fallback" => return Some(RuleKind::Fallback),
        _ => {}
    }
    let path = Path::new(name);
    let kind: fn(PathBuf) -> RuleKind = match path.extension().and_then(|e| e.to_str()) {
        Some("js" | "ts") => RuleKind::Script,
        Some("wasm") => RuleKind::Component,
        _ => {
            let hint = hint(name, BUILT_IN.iter().copied());
            item.problem(
                format!(
                    "\"{name}\" is neither a .js, .ts nor .wasm file nor a built-in rule{hint}"
                ),
                "name a script (.js, .ts), a component (.wasm), \"standard\" or \"fallback\"",
            );
            return None;
        }
    };
    Some(kind(file_inside(item, name, "rule")?))
}

/// Returns the full path of a file that must be in the configuration's folder, symbolic links resolved. `what` is `rule` or
/// similar.
///
/// A name that leads out of the folder refuses the configuration. A path that is missing or not a file affects only its
/// client: it is recorded as unavailable, and its last valid version stays in use.
pub fn file_inside(item: &Item, name: &str, what: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let inside = path
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if !inside {
        item.problem(
            format!("{name} leads out of the configuration's folder"),
            format!(
                "put the {what} below the folder of the configuration and write its path from there"
            ),
        );
        return None;
    }
    let full = item.reader.dir.join(path);
    match ConfinedPath::find(item.reader.dir, &full) {
        Ok(found) if found.is_file() => return Some(full),
        Ok(_) => item.unavailable(format!("{name} is not a file"), "name the file itself"),
        Err(EscapesRoot::Out) => item.unavailable(
            format!("{name} leads out of the configuration's folder by a symbolic link"),
            "put the file itself there",
        ),
        Err(EscapesRoot::Nowhere(_)) => {
            let near = neighbour(item.reader.dir, path);
            let (hint, cure) = match near {
                Some(near) => (
                    format!("; {}", did_you_mean(&near)),
                    format!("write \"{near}\", or make the file"),
                ),
                None => (
                    String::new(),
                    "make the file, or correct the path: it starts at the configuration's folder"
                        .into(),
                ),
            };
            item.unavailable(format!("{name} does not exist{hint}"), cure)
        }
    };
    Some(full)
}

/// Returns the path without `./` and double slashes, so that one file has one name.
pub fn tidy(text: &str) -> String {
    let path = text.trim_start_matches("./");
    let parts: Vec<&str> = path
        .split('/')
        .enumerate()
        .filter(|(n, part)| *part != "." && (*n == 0 || !part.is_empty()))
        .map(|(_, part)| part)
        .collect();
    parts.join("/")
}

/// Returns a file in the same folder whose name is close to the missing one.
fn neighbour(dir: &Path, missing: &Path) -> Option<String> {
    let folder = missing.parent()?;
    let wanted = missing.file_name()?.to_str()?;
    let names: Vec<String> = std::fs::read_dir(dir.join(folder))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| Path::new(name).extension() == missing.extension())
        .collect();
    let near = closest(wanted, names.iter().map(String::as_str))?;
    Some(folder.join(near).to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_one_name() {
        for text in [
            "rules/a.js",
            "./rules/a.js",
            "rules//a.js",
            "././rules/./a.js",
        ] {
            assert_eq!(tidy(text), "rules/a.js", "{text}");
        }
        assert_eq!(tidy("/etc/a.js"), "/etc/a.js");
        assert_eq!(tidy("../a.js"), "../a.js");
    }
}
