//! `postroom rule try`: runs one rule on mails and stores nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use postroom_core::lookup::{Query, QueryResult};
use postroom_core::{Clock, parse};
use postroom_sandbox::{Lookup, LookupError, NoKv, Rule, Run};
use serde_json::json;

use crate::commands::{load_readable, print};
use postroom_config::{Config, RuleKind, RuleUse};
use postroom_rules::cases::Terms;
use postroom_rules::directory::Directory;
use postroom_rules::rulebook::{self, load_now};

/// The largest mail that is tried: the largest that a mailbox takes in full by default.
const MAIL_BYTES: u64 = 256 << 20;

pub fn try_rule(
    targets: &[PathBuf],
    config: &Path,
    mailbox: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let [rule, mails @ ..] = targets else {
        bail!("no rule is named");
    };
    if mails.is_empty() {
        bail!(
            "no mail is named; help: postroom rule try {} MAIL.eml, or `-` for a mail from standard input",
            rule.display()
        );
    }
    let config = mailbox.map(|_| load_readable(config)).transpose()?;
    let terms = match config.as_ref().zip(mailbox) {
        Some((config, mailbox)) => Terms::of_mailbox(config, mailbox, rule)?,
        None => Terms::of_nobody(rule),
    };
    let wanted = &terms.wanted;
    if wanted.rule.kind == RuleKind::Fallback {
        bail!(
            "fallback cannot be tried: it makes a plain ticket of each mail that every rule of a mailbox passed"
        );
    }
    let sandbox = rulebook::sandbox(config.as_ref().map(|config| config.data_dir.as_path()), 1)?;
    let loaded = load_now(&sandbox, wanted).map_err(anyhow::Error::msg)?;
    let lookup = Arc::new(Listed(directory(config.as_ref(), &wanted.tenant)?));
    let tried = Tried {
        terms: &terms,
        loaded: &loaded,
        lookup,
    };
    let mut all = true;
    for (number, mail) in mails.iter().enumerate() {
        if !json && mails.len() > 1 {
            let gap = if number == 0 { "" } else { "\n" };
            print(format!("{gap}{}:", mail.display()))?;
        }
        all &= tried.on(mail, json)?;
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Reads a mail from a file, or from standard input for `-`.
pub fn read_mail(mail: &Path) -> anyhow::Result<Bytes> {
    if mail == Path::new("-") {
        let mut raw = Vec::new();
        let mut input = std::io::stdin().lock().take(MAIL_BYTES + 1);
        input.read_to_end(&mut raw).context("standard input")?;
        if raw.len() as u64 > MAIL_BYTES {
            bail!("the mail from standard input has more than {MAIL_BYTES} bytes");
        }
        return Ok(raw.into());
    }
    let raw = postroom_files::read_argument(mail, MAIL_BYTES);
    Ok(raw.with_context(|| mail.display().to_string())?.into())
}

/// The rule under the terms of its tenant.
struct Tried<'a> {
    terms: &'a Terms,
    loaded: &'a Rule,
    lookup: Arc<Listed>,
}

impl Tried<'_> {
    /// Runs the rule on one mail and prints the result. Returns whether the rule worked.
    fn on(&self, mail: &Path, json: bool) -> anyhow::Result<bool> {
        let (terms, loaded) = (self.terms, self.loaded);
        let wanted = &terms.wanted;
        let message = Arc::new(parse(
            &read_mail(mail)?,
            &terms.parse_limits,
            &terms.trusted,
        ));
        let context = terms.context(&message, Clock::system().now());
        let answer = terms.ask(
            loaded,
            &message,
            context,
            Arc::new(NoKv),
            self.lookup.clone(),
        )?;
        let (run, answer) = (answer.run, answer.result);
        let facts = json!({
            "mail": mail,
            "rule": wanted.rule.name,
            "rule_hash": loaded.hash().hex(),
            "outcome": answer.as_ref().ok().map(|done| done.as_ref().map_or("pass", |done| done.outcome.as_str())),
            "actions": answer.as_ref().ok().and_then(|done| done.as_ref().map(|done| &done.actions)),
            "refused": answer.as_ref().ok().and_then(|done| done.as_ref().map(|done| &done.refused)),
            "trouble": answer.as_ref().err(),
            "log": run.log,
            "repairs": message.repairs,
            "elapsed_us": u64::try_from(run.elapsed.as_micros()).unwrap_or(u64::MAX),
            "memory_bytes": run.memory_bytes,
            "decided_at": run.decided_at.as_ref().and_then(|path| path.first()),
            "called_from": run.decided_at.as_ref().and_then(|path| path.get(1..)).unwrap_or_default(),
        });
        if json {
            print(facts)?;
        } else {
            let origin = loaded.bundle().map(|_| origin(&run));
            print(for_people(&facts, &run, wanted, origin)?)?;
        }
        Ok(answer.is_ok())
    }
}

/// The tenant's contacts and assets from its files; there are no tickets and alerts.
pub struct Listed(pub Directory);

impl Lookup for Listed {
    fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError> {
        let found = self.0.answer(question, most).map_err(LookupError)?;
        Ok(found.unwrap_or_else(|| question.nothing()))
    }
}

pub fn directory(config: Option<&Config>, tenant: &str) -> anyhow::Result<Directory> {
    let configured = config.and_then(|config| Some((config, config.tenant(tenant)?)));
    let Some((config, tenant)) = configured else {
        return Ok(Directory::default());
    };
    Directory::read(config, tenant).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow::anyhow!(lines.join("\n"))
    })
}

/// Returns the line of a script that decided.
fn origin(run: &Run) -> String {
    match run.decided_at.as_deref() {
        Some([place, calls @ ..]) => {
            let calls = calls.iter().map(|call| format!("\n  called from {call}"));
            format!("  at {place}{}", calls.collect::<String>())
        }
        Some([]) => "  at a position that the script hides".to_owned(),
        None => "  decide returned nothing".to_owned(),
    }
}

/// Prints the result for people. `origin` is for scripts, since components have no lines.
fn for_people(
    facts: &serde_json::Value,
    run: &Run,
    wanted: &RuleUse,
    origin: Option<String>,
) -> Result<String, serde_json::Error> {
    let mut parts = Vec::new();
    parts.push(match facts["trouble"].as_str() {
        Some(trouble) => format!("trouble: {trouble}\nThe next rule decides the mail."),
        None => format!(
            "{} by {}",
            facts["outcome"].as_str().unwrap_or("pass"),
            wanted.rule.name
        ),
    });
    if facts["trouble"].is_null() {
        parts.extend(origin);
    }
    for key in ["actions", "refused"] {
        if facts[key].as_array().is_some_and(|list| !list.is_empty()) {
            let list = serde_json::to_string_pretty(&facts[key])?;
            parts.push(format!("\n{key}:\n{list}"));
        }
    }
    for key in ["log", "repairs"] {
        let lines = facts[key].as_array().map(Vec::as_slice).unwrap_or_default();
        if !lines.is_empty() {
            parts.push(format!("\n{key}:"));
        }
        let shown = lines.iter().filter_map(|line| line.as_str());
        parts.extend(shown.map(|line| format!("  {line}")));
    }
    parts.push(format!(
        "\ntime {:.3} ms of {} ms, memory {} KiB of {} KiB",
        run.elapsed.as_secs_f64() * 1e3,
        wanted.limits.time.as_millis(),
        run.memory_bytes / 1024,
        wanted.limits.memory_bytes / 1024
    ));
    Ok(parts.join("\n"))
}
