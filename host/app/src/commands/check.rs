//! `postroom check`: reports every problem of the configuration and its rules before it affects a mail.

mod patterns;
pub mod wants;
mod whole;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use postroom_core::{Clock, counted};
use postroom_sandbox::{
    LoadError, Rule, Sandbox, SandboxError, component_settings, script_settings,
};
use postroom_store::{RefusedRule, StoreError};
use serde_json::json;

use crate::commands::config;
use crate::store;
use crate::{connections, expiry};
use postroom_config::{Config, Problem, RuleUse};
use postroom_rules::cases::{ReleaseGate, folder_of};
use postroom_rules::directory::Directory;
use postroom_rules::rulebook;

/// The number of problems, of warnings and of rules' needs that are shown.
const SHOWN: usize = 20;
/// The number of tenants that are named when several share a need; further ones are counted.
const NAMED_TENANTS: usize = 5;

/// The findings of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// The problems that must be fixed, in the order of the files.
    pub problems: Vec<Problem>,
    /// Problems that do not stop the service.
    pub warnings: Vec<Problem>,
    pub mailboxes: usize,
    pub tenants: usize,
    /// The rules that loaded, each counted once, however many tenants run it.
    pub rules: usize,
    /// The grants that each rule in a file needs, by file and tenant.
    pub wants: Vec<Wanted>,
}

/// The grants that one rule needs from one tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    pub rule: String,
    pub tenant: String,
    /// Grants first, then kinds of action.
    pub wants: Vec<&'static str>,
}

/// The findings on one rule.
#[derive(Debug, Default)]
pub struct Findings {
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub wants: Vec<&'static str>,
    /// The settings that it declares.
    pub declared: Option<Vec<String>>,
    /// Every file that it consists of.
    pub files: Vec<PathBuf>,
}

impl From<Problem> for Findings {
    fn from(problem: Problem) -> Self {
        Self {
            problems: vec![problem],
            ..Self::default()
        }
    }
}

pub fn check(file: &Path, diff: bool, json: bool) -> anyhow::Result<ExitCode> {
    let loader = Loader::new(file);
    let mut report = survey(file, &|wanted, gate| loader.load(wanted, gate));
    if let Some(Err(problem)) = loader.refused.into_inner() {
        report.warnings.push(problem);
    }
    if let Some(Err(error)) = loader.sandbox.into_inner() {
        return Err(error.into());
    }
    for (level, found) in [("problem", &report.problems), ("warning", &report.warnings)] {
        let most = if json { usize::MAX } else { SHOWN };
        for problem in found.iter().take(most) {
            if json {
                println!("{}", json_line(level, problem));
            } else if level == "warning" {
                println!("{}\n", problem.as_warning());
            } else {
                println!("{}\n", problem.as_error());
            }
        }
        if let Some(more) = found.len().checked_sub(most).filter(|more| *more > 0) {
            let more = counted(more, &format!("more {level}"));
            println!("and {more}: `postroom check --json` prints all of them\n");
        }
    }
    if json {
        for wanted in &report.wants {
            println!("{}", wants_line(wanted));
        }
    } else {
        print_wants(&report.wants);
    }
    if diff && let Err(error) = config::diff(file, json) {
        eprintln!("cannot be compared: {error:#}");
    }
    let file = file.display();
    match report.problems.len() {
        0 => eprintln!(
            "{file}: all good: {}, {}, {}",
            counted(report.mailboxes, "mailbox"),
            counted(report.tenants, "tenant"),
            counted(report.rules, "rule"),
        ),
        n => eprintln!("{file}: {}", counted(n, "problem")),
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints the needs of rules, tenants with the same need together.
fn print_wants(wants: &[Wanted]) {
    let mut tenants: BTreeMap<(&str, String), Vec<&str>> = BTreeMap::new();
    for wanted in wants {
        let need = (wanted.rule.as_str(), wanted.wants.join(", "));
        tenants.entry(need).or_default().push(&wanted.tenant);
    }
    let most = tenants.len().saturating_sub(SHOWN);
    for ((rule, wants), tenants) in tenants.into_iter().take(SHOWN) {
        let who = match tenants[..] {
            [tenant] => format!("tenant {tenant}"),
            _ if tenants.len() <= NAMED_TENANTS => format!("tenants {}", tenants.join(", ")),
            _ => counted(tenants.len(), "tenant"),
        };
        eprintln!("{rule} needs {wants} ({who})");
    }
    if most > 0 {
        let more = counted(most, "more rule");
        eprintln!("and {more}: `postroom check --json` prints all of them");
    }
}

/// Reads the configuration and passes every readable rule to `load`, which returns its findings. The gate does not apply
/// while the configuration has problems.
pub fn survey(file: &Path, load: &dyn Fn(&RuleUse, &ReleaseGate) -> Findings) -> Report {
    let (config, uses) = Config::survey(file, &|name| std::env::var_os(name));
    let mut report = Report::default();
    let mut gate = ReleaseGate::default();
    match &config {
        Ok(config) => {
            gate = ReleaseGate::of(config);
            report.mailboxes = config.mailboxes.len();
            report.tenants = config.tenants.len();
            report.problems.extend(config.unavailable.iter().cloned());
            let key = connections::missing_key(config);
            report.problems.extend(key.map(|why| Problem {
                file: file.display().to_string(),
                line: 0,
                column: 0,
                key: "vault.key".into(),
                message: why.reason,
                cure: why.help,
                source: None,
            }));
            report.warnings = config.warnings.clone();
            report.warnings.extend(expiring(config, file));
            for tenant in &config.tenants {
                let problems = Directory::read(config, tenant).err();
                report.add(problems.unwrap_or_default());
            }
        }
        Err(problems) => report.problems.extend(problems.iter().cloned()),
    }
    let mut sound = BTreeSet::new();
    let (mut files, mut declared) = (BTreeSet::new(), BTreeMap::new());
    for wanted in &uses {
        // A missing file is already reported above.
        if wanted.rule.path().is_some_and(|path| !path.is_file()) {
            continue;
        }
        if gate.is_untested(wanted) {
            report.warnings.push(untested(wanted));
        }
        let findings = load(wanted, &gate);
        if findings.problems.is_empty() {
            sound.insert(&wanted.rule.name);
        }
        report.add(findings.problems);
        report.warnings.extend(findings.warnings);
        files.extend(findings.files);
        declared.extend(findings.declared.map(|it| (wanted.rule.name.clone(), it)));
        if !findings.wants.is_empty() {
            report.wants.push(Wanted {
                rule: wanted.rule.name.clone(),
                tenant: wanted.tenant.clone(),
                wants: findings.wants,
            });
        }
    }
    report.rules = sound.len();
    if let Ok(config) = &config {
        report.add(whole::unknown_settings(config, &uses, &declared));
        let warnings = &mut report.warnings;
        warnings.extend(whole::mute(config, &report.wants));
        warnings.extend(whole::signed_out(config, Clock::system().now()));
        // The files of a rule that does not load are unknown.
        if report.problems.is_empty() {
            warnings.extend(whole::unused(&uses, &files));
        }
    }
    report
}

impl Report {
    /// Adds problems once, since two tenants may have the same broken file.
    fn add(&mut self, problems: Vec<Problem>) {
        for problem in problems {
            if !self.problems.contains(&problem) {
                self.problems.push(problem);
            }
        }
    }
}

/// Loads rules into a sandbox, which is created when the first rule is loaded.
struct Loader<'c> {
    config: &'c Path,
    /// An error here is the machine's fault, not a rule's.
    sandbox: OnceCell<Result<Sandbox, SandboxError>>,
    /// The refused versions, if there is a store that has any.
    refused: OnceCell<Result<Vec<RefusedRule>, Problem>>,
}

impl<'c> Loader<'c> {
    fn new(config: &'c Path) -> Self {
        Self {
            config,
            sandbox: OnceCell::new(),
            refused: OnceCell::new(),
        }
    }

    fn load(&self, wanted: &RuleUse, gate: &ReleaseGate) -> Findings {
        let Some(sandbox) = self.sandbox() else {
            return Findings::default();
        };
        if wanted.rule.path().is_none() {
            let loaded =
                sandbox.load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits);
            let error = loaded.err();
            return error
                .map(|error| refused(error, &wanted.rule.name, wanted).into())
                .unwrap_or_default();
        }
        // Names are relative to the folder that the rule's own name is relative to.
        let path_of = |name: &str| {
            let path = wanted.rule.base().join(name);
            path.strip_prefix(".")
                .unwrap_or(&path)
                .display()
                .to_string()
        };
        let shown = path_of(&wanted.rule.name);
        let bytes = match rulebook::read_configured(&wanted.rule) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let cure = "make the file readable for postroom";
                return of_file(&shown, reason, cure).into();
            }
        };
        let rule = match rulebook::load_bytes(sandbox, wanted, &bytes) {
            Ok(rule) => rule,
            Err(LoadError::Script {
                file,
                line,
                column,
                message,
            }) => return in_script(path_of(&file), line, column, message).into(),
            Err(error) => return refused(error, &shown, wanted).into(),
        };
        let tested = gate.test(sandbox, wanted, &rule);
        if let Some(reason) = tested.and_then(|tested| tested.refusal()) {
            return failing(&shown, wanted, reason).into();
        }
        let mut findings = Findings::default();
        findings.warnings.extend(self.out(&shown, wanted, &rule));
        let Some(bundle) = rule.bundle() else {
            findings.wants = wants::of_component(&bytes);
            findings.declared = component_settings(&bytes);
            return findings;
        };
        findings.declared = str::from_utf8(&bytes).ok().and_then(script_settings);
        for module in bundle.modules() {
            findings.files.push(wanted.rule.base().join(&module.name));
            let file = path_of(&module.name);
            let bad = patterns::refused(&file, &module.text, &wanted.limits);
            findings.problems.extend(bad);
            let found = wants::of_script(&module.text);
            let missing = wants::missing(&file, &found, wanted);
            findings.warnings.extend(missing);
            for name in wants::names(&found) {
                if !findings.wants.contains(&name) {
                    findings.wants.push(name);
                }
            }
        }
        findings
    }

    /// Returns the warning on a version that was rolled back: it is in the file but not live.
    fn out(&self, file: &str, wanted: &RuleUse, rule: &Rule) -> Option<Problem> {
        let refused = self.refused.get_or_init(|| self.read_refused());
        let mut refused = refused.iter().flatten();
        let hash = rule.hash();
        let out = refused.find(|it| {
            it.hash == hash && it.tenant == wanted.tenant && it.name == wanted.rule.name
        })?;
        let message = format!(
            "was {} for {}, and is refused until the file changes",
            out.reason, wanted.tenant
        );
        let cure = "correct the rule and save it; or roll back to a generation with this version: `postroom rules rollback GENERATION`, see `postroom rules list`";
        Some(of_file(file, message, cure))
    }

    /// Reads the refused versions from the store, also while a service runs. A store that does not exist, or that the next
    /// start upgrades, refuses none.
    fn read_refused(&self) -> Result<Vec<RefusedRule>, Problem> {
        let Ok(data_dir) = postroom_config::data_dir(self.config) else {
            return Ok(Vec::new());
        };
        match store::listings(&data_dir).and_then(|reader| reader.refused_rules()) {
            Err(StoreError::Missing { .. } | StoreError::OlderSchema { .. }) => Ok(Vec::new()),
            Err(error) => Err(of_file(
                &data_dir.display().to_string(),
                format!("cannot determine which versions of rules are refused: {error}"),
                "run the check as the user that postroom runs as",
            )),
            Ok(refused) => Ok(refused),
        }
    }

    fn sandbox(&self) -> Option<&Sandbox> {
        let made = self.sandbox.get_or_init(|| {
            // A check creates nothing: the data folder is used only if a service created one.
            let data_dir = postroom_config::data_dir(self.config).ok();
            rulebook::sandbox(data_dir.as_deref().filter(|dir| dir.is_dir()), 1)
        });
        made.as_ref().ok()
    }
}

/// Returns why a rule was refused. The sandbox gives fault and fix in one sentence that begins with the rule's name.
fn refused(error: LoadError, file: &str, wanted: &RuleUse) -> Problem {
    if let LoadError::NotGranted { import, .. } = &error {
        let tenant = &wanted.tenant;
        return of_file(
            file,
            format!("needs {import}, which tenant \"{tenant}\" is not granted"),
            &format!(
                "add \"{import}\" to grants of [tenants.{tenant}], or build the rule without it"
            ),
        );
    }
    let sentence = error.to_string();
    let sentence = sentence
        .split_once(": ")
        .map_or(sentence.as_str(), |(_, rest)| rest);
    let (message, cure) = sentence
        .split_once("; ")
        .unwrap_or((sentence, "correct the rule and build it again"));
    of_file(file, message.into(), cure)
}

fn in_script(file: String, line: u32, column: u32, message: String) -> Problem {
    Problem {
        file,
        line,
        column,
        key: String::new(),
        message,
        cure: "correct the script; until then the last valid version stays live".into(),
        source: None,
    }
}

/// Returns the problem of a rule that loads but does not go live.
fn failing(file: &str, wanted: &RuleUse, reason: String) -> Problem {
    let tenant = &wanted.tenant;
    let cure = format!(
        "`postroom rule test {file}` shows more; until it passes, the last valid version stays live for {tenant}"
    );
    of_file(file, reason, &cure)
}

fn untested(wanted: &RuleUse) -> Problem {
    let folder = folder_of(wanted.rule.path().unwrap_or(Path::new("")));
    let folder = folder.strip_prefix(".").unwrap_or(&folder).display();
    let tenant = &wanted.tenant;
    of_file(
        &wanted.rule.name,
        format!("has no tests, although tenant \"{tenant}\" has rule_tests"),
        &format!("put a mail into {folder}, then `postroom rule test --update`"),
    )
}

fn of_file(file: &str, message: String, cure: &str) -> Problem {
    Problem {
        file: file.into(),
        line: 0,
        column: 0,
        key: String::new(),
        message,
        cure: cure.into(),
        source: None,
    }
}

/// Returns what expires soon, or has expired.
fn expiring(config: &Config, file: &Path) -> Vec<Problem> {
    expiry::notices(config, Clock::system().now())
        .into_iter()
        .map(|notice| Problem {
            file: file.display().to_string(),
            line: 0,
            column: 0,
            key: notice.key,
            message: notice.message,
            cure: notice.cure,
            source: None,
        })
        .collect()
}

fn json_line(level: &str, problem: &Problem) -> serde_json::Value {
    json!({
        "level": level,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "key": problem.key,
        "message": problem.message,
        "cure": problem.cure,
    })
}

fn wants_line(wanted: &Wanted) -> serde_json::Value {
    json!({
        "level": "wants",
        "file": wanted.rule,
        "tenant": wanted.tenant,
        "wants": wanted.wants,
    })
}
