//! `postroom check`: every problem of the configuration and its rules, before it costs a mail.

mod patterns;

use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::ExitCode;

use jiff::Timestamp;
use postroom_sandbox::{LoadError, Sandbox, SandboxError};
use serde_json::json;

use crate::config::{self, Config, Problem, RuleKind, RuleUse};
use crate::{rulebook, runway};

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// Whatever must be cured first, in the order of the files.
    pub problems: Vec<Problem>,
    /// What still works.
    pub warnings: Vec<Problem>,
    pub mailboxes: usize,
    pub tenants: usize,
    /// Rules that loaded, each counted once, however many tenants run it.
    pub rules: usize,
}

pub fn check(file: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let loader = Loader::new(file);
    let report = survey(file, &|wanted| loader.load(wanted));
    if let Some(Err(error)) = loader.sandbox.into_inner() {
        return Err(error.into());
    }
    for (level, found) in [("problem", &report.problems), ("warning", &report.warnings)] {
        for problem in found {
            if json {
                println!("{}", json_line(level, problem));
            } else if level == "warning" {
                println!("{problem} (a warning)");
            } else {
                println!("{problem}");
            }
        }
    }
    let file = file.display();
    match report.problems.len() {
        0 => eprintln!(
            "{file}: all good: {}, {}, {}",
            count(report.mailboxes, "mailbox", "mailboxes"),
            count(report.tenants, "tenant", "tenants"),
            count(report.rules, "rule", "rules"),
        ),
        n => eprintln!("{file}: {}", count(n, "problem", "problems")),
    }
    Ok(if report.problems.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads the configuration and gives every rule that could be made out to `load`, which answers what is wrong with it.
pub fn survey(file: &Path, load: &dyn Fn(&RuleUse) -> Vec<Problem>) -> Report {
    let (config, uses) = Config::survey(file, &|name| std::env::var_os(name));
    let mut report = Report::default();
    match &config {
        Ok(config) => {
            report.mailboxes = config.mailboxes.len();
            report.tenants = config.tenants.len();
            report.warnings = config.warnings.clone();
            report.warnings.extend(expiring(config, file));
        }
        Err(problems) => report.problems.extend(problems.iter().cloned()),
    }
    let mut sound = BTreeSet::new();
    for wanted in &uses {
        let problems = load(wanted);
        if problems.is_empty() {
            sound.insert(&wanted.rule.name);
        }
        for problem in problems {
            // Two tenants may run the same broken file.
            if !report.problems.contains(&problem) {
                report.problems.push(problem);
            }
        }
    }
    report.rules = sound.len();
    report
}

/// Loads rules into a sandbox, which is made when the first rule asks for it.
struct Loader<'c> {
    config: &'c Path,
    /// An error is the machine's fault and not a rule's.
    sandbox: OnceCell<Result<Sandbox, SandboxError>>,
}

impl<'c> Loader<'c> {
    fn new(config: &'c Path) -> Self {
        Self {
            config,
            sandbox: OnceCell::new(),
        }
    }

    fn load(&self, wanted: &RuleUse) -> Vec<Problem> {
        let Some(sandbox) = self.sandbox() else {
            return Vec::new();
        };
        let Some(path) = wanted.rule.path() else {
            let loaded =
                sandbox.load_standard(&wanted.settings_json, &wanted.grants, &wanted.limits);
            let error = loaded.err();
            return error
                .map(|error| refused(error, &wanted.rule.name))
                .into_iter()
                .collect();
        };
        let shown = path.strip_prefix(".").unwrap_or(path);
        let shown = shown.display().to_string();
        let bytes = match rulebook::read_rule(path) {
            Ok(bytes) => bytes,
            Err(reason) => {
                let cure = "make the file readable for postroom";
                return vec![of_file(&shown, reason, cure)];
            }
        };
        if let Err(error) = rulebook::load_bytes(sandbox, wanted, &bytes) {
            return vec![refused(error, &shown)];
        }
        match wanted.rule.kind {
            RuleKind::Script(_) => {
                patterns::refused(&shown, &String::from_utf8_lossy(&bytes), &wanted.limits)
            }
            _ => Vec::new(),
        }
    }

    fn sandbox(&self) -> Option<&Sandbox> {
        let made = self.sandbox.get_or_init(|| {
            // A check leaves nothing behind: the data folder serves only where a service made one.
            let data_dir = config::data_dir(self.config).ok();
            rulebook::sandbox(data_dir.as_deref().filter(|dir| dir.is_dir()), 1)
        });
        made.as_ref().ok()
    }
}

/// Why a rule was refused, at its place in the rule's own file.
fn refused(error: LoadError, file: &str) -> Problem {
    match error {
        LoadError::Script {
            line,
            column,
            message,
            ..
        } => Problem {
            file: file.into(),
            line,
            column,
            key: String::new(),
            message,
            cure: "correct the script; until then its last good version serves".into(),
        },
        error => {
            // The sandbox says fault and cure in one sentence that begins with the rule's name.
            let sentence = error.to_string();
            let sentence = sentence
                .split_once(": ")
                .map_or(sentence.as_str(), |(_, rest)| rest);
            let (message, cure) = sentence
                .split_once("; ")
                .unwrap_or((sentence, "correct the rule and build it again"));
            of_file(file, message.into(), cure)
        }
    }
}

fn of_file(file: &str, message: String, cure: &str) -> Problem {
    Problem {
        file: file.into(),
        line: 0,
        column: 0,
        key: String::new(),
        message,
        cure: cure.into(),
    }
}

/// What ends soon, or has ended.
fn expiring(config: &Config, file: &Path) -> Vec<Problem> {
    runway::notices(config, Timestamp::now())
        .into_iter()
        .map(|notice| Problem {
            file: file.display().to_string(),
            line: 0,
            column: 0,
            key: notice.key,
            message: notice.message,
            cure: notice.cure,
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

fn count(n: usize, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}
