//! Selects the rules of a `rule test`: files, folders of cases, single mails, folders of rules, or all of the
//! configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use postroom_config::Config;
use postroom_rules::cases::{Case, folder_of};

/// The default folder of rules.
const RULES: &str = "rules";
const KINDS: &[&str] = &["js", "ts", "wasm"];
/// The depth to which folders are searched.
const DEPTH: usize = 8;
/// The largest script that is searched for a `decide`.
const SCRIPT_BYTES: u64 = 4 << 20;

/// A rule with the cases to run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleUnderTest {
    pub rule: PathBuf,
    pub cases: Vec<Case>,
}

impl RuleUnderTest {
    fn whole(rule: &Path) -> anyhow::Result<Self> {
        let cases = Case::all(&folder_of(rule)).map_err(anyhow::Error::msg)?;
        Ok(Self {
            rule: rule.to_owned(),
            cases,
        })
    }

    /// Returns the folder for its cases.
    pub fn folder(&self) -> PathBuf {
        folder_of(&self.rule)
    }
}

/// Returns the targets, each rule once.
pub fn find(paths: &[PathBuf], config: Option<&Config>) -> anyhow::Result<Vec<RuleUnderTest>> {
    if !paths.is_empty() {
        let mut targets: Vec<RuleUnderTest> = Vec::new();
        for path in paths {
            for target in at(path)? {
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        return Ok(targets);
    }
    if let Some(config) = config {
        let uses = config.rule_uses();
        let files: BTreeSet<&Path> = uses.iter().filter_map(|it| it.rule.path()).collect();
        return files.into_iter().map(RuleUnderTest::whole).collect();
    }
    if !Path::new(RULES).is_dir() {
        bail!(
            "there is neither a configuration nor a folder {RULES} here; help: name a rule, a folder of its cases or a folder of rules, or the configuration with --config FILE"
        );
    }
    in_folder(Path::new(RULES))
}

fn at(path: &Path) -> anyhow::Result<Vec<RuleUnderTest>> {
    let facts = path
        .metadata()
        .with_context(|| path.display().to_string())?;
    if facts.is_dir() {
        return match path.extension().is_some_and(|it| it == "cases") {
            true => Ok(vec![RuleUnderTest::whole(&rule_of(path)?)?]),
            false => in_folder(path),
        };
    }
    if let (Some(case), Some(folder)) = (Case::of(path), path.parent()) {
        let rule = rule_of(folder)?;
        return Ok(vec![RuleUnderTest {
            rule,
            cases: vec![case],
        }]);
    }
    if !is_kind(path) {
        bail!(
            "{} is neither a rule (.js, .ts, .wasm), a mail (.eml) nor a folder",
            path.display()
        );
    }
    Ok(vec![RuleUnderTest::whole(path)?])
}

/// Returns the rule of a folder of cases.
fn rule_of(folder: &Path) -> anyhow::Result<PathBuf> {
    let beside = KINDS.iter().map(|kind| folder.with_extension(kind));
    let is_cases = folder.extension().is_some_and(|it| it == "cases");
    let found = beside.filter(|_| is_cases).find(|rule| rule.is_file());
    found.with_context(|| {
        let shown = folder.display();
        format!("there is no rule for {shown}: the cases of rules/mine.js are in rules/mine.cases")
    })
}

/// Returns every rule of a folder and its subfolders. A script without `decide` is a module of others.
fn in_folder(folder: &Path) -> anyhow::Result<Vec<RuleUnderTest>> {
    let mut targets = Vec::new();
    let mut folders = vec![(folder.to_owned(), DEPTH)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|it| it.to_str()).unwrap_or(".");
            if name.starts_with('.') || name == "node_modules" || name == "target" {
                continue;
            }
            if path.is_dir() {
                let is_cases = path.extension().is_some_and(|it| it == "cases");
                if !is_cases && depth > 0 {
                    folders.push((path, depth - 1));
                }
            } else if is_kind(&path) && (folder_of(&path).is_dir() || decides(&path)) {
                targets.push(RuleUnderTest::whole(&path)?);
            }
        }
    }
    targets.sort();
    Ok(targets)
}

fn is_kind(path: &Path) -> bool {
    let kind = path.extension().and_then(|it| it.to_str());
    let is_types = path.to_string_lossy().ends_with(".d.ts");
    kind.is_some_and(|kind| KINDS.contains(&kind)) && !is_types
}

fn decides(path: &Path) -> bool {
    if path.extension().is_some_and(|it| it == "wasm") {
        return true;
    }
    let text = postroom_files::read(path, SCRIPT_BYTES).ok();
    text.is_none_or(|text| String::from_utf8_lossy(&text).contains("decide"))
}
