//! `postroom rule test`: runs the cases of rules, and shows the differences.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use postroom_core::counted;
use postroom_core::harmless::visible;
use postroom_files::write_within;
use postroom_sandbox::Sandbox;
use serde_json::{Value, json};

use super::targets::{self, RuleUnderTest};
use super::watch;
use crate::commands::screen::{Ink, Screen, wants_colour};
use crate::commands::{USUAL_CONFIG, load_with_warnings, print};
use crate::output::coloured_line;
use postroom_config::Config;
use postroom_rules::cases::{
    Case, CaseVerdict, Expected, Loaded, Mismatch, RuleResult, Terms, run,
};
use postroom_rules::rulebook;

/// The selection of cases, and the form of the report.
#[derive(Debug, Default)]
pub struct Options {
    /// Rules, folders of cases, mails, folders of rules; empty for all rules of the configuration.
    pub paths: Vec<PathBuf>,
    /// Only with the settings of this mailbox's tenant.
    pub mailbox: Option<String>,
    /// Overwrite the expected results.
    pub update: bool,
    /// Whether to run again at every save.
    pub watch: bool,
    pub json: bool,
}

/// The result of one case.
struct Row<'a> {
    rule: &'a str,
    tenant: Option<&'a str>,
    case: Option<&'a str>,
    state: State,
    reason: Option<String>,
    mismatch: Option<Mismatch>,
    elapsed_us: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Updated,
    Failed,
    NoCases,
}

/// The result of one round.
#[derive(Debug, Default)]
struct Tally {
    rules: usize,
    ok: usize,
    updated: usize,
    failed: usize,
    /// Rules without a case.
    untested: usize,
    /// Rules that did not load.
    unloaded: usize,
}

pub fn test(config: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let data_dir = match read_config(config) {
        Ok(found) => found.map(|config| config.data_dir),
        Err(error) if options.watch => {
            eprintln!("{error:#}");
            None
        }
        Err(error) => return Err(error),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sandbox = rulebook::sandbox(data_dir.as_deref().filter(|dir| dir.is_dir()), cores)?;
    if !options.watch {
        return round(config, options, &sandbox);
    }
    let mut watch = watch::Watch::new()?;
    loop {
        if let Err(error) = round(config, options, &sandbox) {
            eprintln!("{error:#}");
        }
        let found = read_config(config).unwrap_or_default();
        let targets = targets::find(&options.paths, found.as_ref()).unwrap_or_default();
        let rules = targets.iter().map(|target| target.rule.as_path());
        let named = options.paths.iter().map(PathBuf::as_path);
        watch.add(rules.chain(named).chain([config]));
        eprintln!("\nwaiting for a save; Ctrl-C ends");
        watch.wait();
    }
}

/// Reads the configuration; `None` if none is named and the default does not exist.
fn read_config(file: &Path) -> anyhow::Result<Option<Config>> {
    if file == Path::new(USUAL_CONFIG) && !file.exists() {
        return Ok(None);
    }
    load_with_warnings(file).map(Some)
}

fn round(config: &Path, options: &Options, sandbox: &Sandbox) -> anyhow::Result<ExitCode> {
    let config = read_config(config)?;
    if config.is_none() && options.mailbox.is_some() {
        bail!(
            "--mailbox names a mailbox of the configuration, and there is no {USUAL_CONFIG} here"
        );
    }
    let targets = targets::find(&options.paths, config.as_ref())?;
    let mut tally = Tally::default();
    let teller = Teller {
        json: options.json,
        screen: Screen {
            width: None,
            colour: wants_colour(&std::io::stdout()),
        },
    };
    for target in &targets {
        tally.rules += 1;
        let terms = terms(target, config.as_ref(), options.mailbox.as_deref())?;
        one_rule(target, terms, options.update, sandbox, &teller, &mut tally)?;
    }
    eprintln!("{}", tally.sentence());
    if tally.ok + tally.updated + tally.failed + tally.unloaded == 0 {
        let folder = targets.first().map_or_else(
            || "rules/mine.cases".into(),
            |target| target.folder().display().to_string(),
        );
        eprintln!(
            "Nothing was tested; help: put a mail into {folder}/NAME.eml, then `postroom rule test --update` writes what the rule makes of it; or `postroom rule pin DECISION`"
        );
        return Ok(ExitCode::FAILURE);
    }
    if tally.failed > 0 && !options.json {
        eprintln!(
            "help: if a rule is right, `postroom rule test --update` accepts its new outcomes"
        );
    }
    Ok(match tally.failed + tally.unloaded {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Returns each tenant that has the rule, or none.
fn terms(
    target: &RuleUnderTest,
    config: Option<&Config>,
    mailbox: Option<&str>,
) -> anyhow::Result<Vec<Terms>> {
    let Some(config) = config else {
        return Ok(vec![Terms::of_nobody(&target.rule)]);
    };
    if let Some(mailbox) = mailbox {
        return Ok(vec![Terms::of_mailbox(config, mailbox, &target.rule)?]);
    }
    let users = Terms::of_users(config, &target.rule);
    Ok(match users.is_empty() {
        true => vec![Terms::of_nobody(&target.rule)],
        false => users,
    })
}

fn one_rule(
    target: &RuleUnderTest,
    terms: Vec<Terms>,
    update: bool,
    sandbox: &Sandbox,
    teller: &Teller,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let mut loaded: Vec<Loaded<'_>> = Vec::new();
    for terms in terms {
        let mut one = Loaded::new(sandbox, terms);
        let (name, tenant) = names(&one.terms);
        if let Err(reason) = one.rule().map(|_| ()) {
            tally.unloaded += 1;
            teller.title(&name, tenant.as_deref())?;
            teller.tell(&Row {
                reason: Some(reason),
                ..Row::of(&name, tenant.as_deref(), None, State::Failed)
            })?;
            continue;
        }
        loaded.push(one);
    }
    if target.cases.is_empty() && !loaded.is_empty() {
        tally.untested += 1;
        let (name, _) = names(&loaded[0].terms);
        return teller.tell(&Row {
            reason: Some(format!(
                "no cases: put NAME.eml into {}, then --update",
                target.folder().display()
            )),
            ..Row::of(&name, None, None, State::NoCases)
        });
    }
    let mut updates = Vec::new();
    for case in &target.cases {
        updates.push(match update {
            true => update_case(case, &mut loaded)?,
            false => Update::None,
        });
    }
    for one in &mut loaded {
        let (name, tenant) = names(&one.terms);
        teller.title(&name, tenant.as_deref())?;
        for (case, update) in target.cases.iter().zip(&updates) {
            let verdict = run(case, one);
            let mut row = Row::of(&name, tenant.as_deref(), Some(&case.name), State::Failed);
            match verdict {
                CaseVerdict::Foreign => continue,
                CaseVerdict::Ok(found) => {
                    row.state = match update {
                        Update::Written => State::Updated,
                        _ => State::Ok,
                    };
                    row.elapsed_us = u64::try_from(found.elapsed.as_micros()).ok();
                }
                CaseVerdict::Differs(_, _, mismatch) => {
                    row.reason = Some(mismatch.summary());
                    row.mismatch = Some(mismatch);
                }
                CaseVerdict::Unpinned(_) => {
                    let file = case.expected.display();
                    row.reason = Some(format!("{file} is missing; --update writes it"));
                }
                CaseVerdict::Broken(reason) => row.reason = Some(reason),
            }
            if let (State::Failed, Update::Refused(reason)) = (row.state, update) {
                row.reason = Some(reason.clone());
            }
            match row.state {
                State::Ok => tally.ok += 1,
                State::Updated => tally.updated += 1,
                State::Failed | State::NoCases => tally.failed += 1,
            }
            teller.tell(&row)?;
        }
    }
    Ok(())
}

/// The effect of `--update` on a case.
enum Update {
    None,
    Written,
    Refused(String),
}

/// Writes the rule's current result, if it differs from the expected one and is the same for all tenants.
fn update_case(case: &Case, loaded: &mut [Loaded<'_>]) -> anyhow::Result<Update> {
    let mut found: Vec<(String, Box<RuleResult>)> = Vec::new();
    let mut pinned: Option<Expected> = None;
    let mut within = PathBuf::new();
    for one in loaded {
        within.clone_from(&one.terms.within);
        let tenant = one.terms.wanted.tenant.clone();
        match run(case, one) {
            CaseVerdict::Foreign => {}
            CaseVerdict::Ok(it) => found.push((tenant, Box::new(it))),
            CaseVerdict::Differs(it, before, _) => {
                pinned = Some(it.pinned(Some(&before)).map_err(anyhow::Error::msg)?);
                found.push((tenant, it));
            }
            CaseVerdict::Unpinned(it) => {
                pinned = Some(it.pinned(None).map_err(anyhow::Error::msg)?);
                found.push((tenant, it));
            }
            // Trouble is never an expected result.
            CaseVerdict::Broken(_) => return Ok(Update::None),
        }
    }
    let Some(pinned) = pinned else {
        return Ok(Update::None);
    };
    if let Some((tenant, _)) = found.iter().find(|(_, it)| pinned.mismatch(it).is_some()) {
        return Ok(Update::Refused(format!(
            "not updated: for {tenant} it is another than for the other tenants; give the case \"settings\" or a \"context\" with a \"mailbox\" of its own"
        )));
    }
    write_within(
        &within,
        &case.expected,
        pinned.to_text().as_bytes(),
        &case.mail,
    )
    .with_context(|| case.expected.display().to_string())?;
    Ok(Update::Written)
}

/// Returns the rule's name, and its tenant's if there is a configuration.
fn names(terms: &Terms) -> (String, Option<String>) {
    let tenant = terms.configured.then(|| terms.wanted.tenant.clone());
    (terms.wanted.rule.name.clone(), tenant)
}

impl<'a> Row<'a> {
    fn of(rule: &'a str, tenant: Option<&'a str>, case: Option<&'a str>, state: State) -> Self {
        Self {
            rule,
            tenant,
            case,
            state,
            reason: None,
            mismatch: None,
            elapsed_us: None,
        }
    }
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Updated => "updated",
            Self::Failed => "failed",
            Self::NoCases => "no-cases",
        }
    }
}

/// Prints rows for people, or one JSON object per line.
struct Teller {
    json: bool,
    screen: Screen,
}

impl Teller {
    fn title(&self, rule: &str, tenant: Option<&str>) -> std::io::Result<()> {
        match (self.json, tenant) {
            (true, _) => Ok(()),
            (false, Some(tenant)) => print(format!("{rule} ({tenant})")),
            (false, None) => print(rule),
        }
    }

    fn tell(&self, row: &Row<'_>) -> anyhow::Result<()> {
        if self.json {
            let sides = row.mismatch.as_ref();
            print(json!({
                "rule": row.rule,
                "tenant": row.tenant,
                "case": row.case,
                "state": row.state.as_str(),
                "reason": row.reason,
                "expected": sides.map_or(&Value::Null, |it| &it.expected),
                "found": sides.map_or(&Value::Null, |it| &it.found),
                "elapsed_us": row.elapsed_us,
            }))?;
            return Ok(());
        }
        let reason = row.reason.as_deref().unwrap_or_default();
        match (row.state, row.case) {
            (State::NoCases, _) => print(format!("{}: {reason}", row.rule))?,
            (_, None) => self.print(row.state, &format!("  {}", visible(reason)))?,
            (State::Failed, Some(case)) => {
                self.print(row.state, &visible(&format!("   {case}: {reason}")))?;
                for (mark, line) in row.mismatch.iter().flat_map(Mismatch::diff) {
                    coloured_line(&self.line(mark, &line))?;
                }
            }
            (_, Some(case)) => {
                coloured_line(&format!(
                    "  {:9}{}",
                    self.coloured(row.state),
                    visible(case)
                ))?;
            }
        }
        Ok(())
    }

    fn print(&self, state: State, rest: &str) -> std::io::Result<()> {
        coloured_line(&format!("  {}{rest}", self.coloured(state)))
    }

    fn coloured(&self, state: State) -> String {
        let word = state.as_str();
        match (self.screen.colour, state) {
            (false, _) | (_, State::NoCases) => word.to_owned(),
            (true, State::Failed) => self.screen.paint(Ink::Red, word),
            // Colour has no width, so the spaces are added here.
            (true, State::Ok | State::Updated) => {
                let blanks = 9 - word.len();
                format!("{}{:blanks$}", self.screen.paint(Ink::Green, word), "")
            }
        }
    }

    fn line(&self, mark: char, line: &str) -> String {
        let text = format!("    {mark} {}", visible(line));
        self.screen.paint(Ink::of_mark(mark), text.trim_end())
    }
}

impl Tally {
    fn sentence(&self) -> String {
        let cases = self.ok + self.updated + self.failed;
        let mut parts = vec![format!(
            "{}, {}: {} ok",
            counted(self.rules, "rule"),
            counted(cases, "case"),
            self.ok
        )];
        let others = [
            (self.updated, "updated"),
            (self.failed, "failed"),
            (self.unloaded, "not loaded"),
            (self.untested, "without cases"),
        ];
        let others = others.iter().filter(|(n, _)| *n > 0);
        parts.extend(others.map(|(n, what)| format!("{n} {what}")));
        parts.join(", ")
    }
}
