//! `postroom rule try`: one rule, one mail, no trace left anywhere.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use postroom_core::{
    Client, Context, DecisionLimits, Manners, Message, ParseLimits, complete, parse,
};
use postroom_sandbox::{Grants, NoKv, Run};
use serde_json::json;

use crate::commands::{load_config, print};
use crate::config::{Config, Mailbox, Rule, RuleUse};
use crate::rulebook::{self, load_bytes, read_rule};

pub fn try_rule(
    rule: &Path,
    mail: &Path,
    config: &Path,
    mailbox: Option<&str>,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let config = mailbox.map(|_| load_config(config)).transpose()?;
    let setting = Setting::of(config.as_ref(), mailbox)?;
    let wanted = setting.rule_use(rule);
    let bytes = read_rule(rule).map_err(|e| anyhow::anyhow!("{}: {e}", rule.display()))?;
    let raw = std::fs::read(mail).with_context(|| mail.display().to_string())?;

    let sandbox = rulebook::sandbox(config.as_ref().map(|config| config.data_dir.as_path()), 1)?;
    let loaded = load_bytes(&sandbox, &wanted, &bytes)?;
    let message = Arc::new(parse(&Bytes::from(raw), &ParseLimits::default(), &[]));
    let context = setting.context(&message);
    let run = loaded.decide(&message, &context, Arc::new(NoKv));
    let manners = Manners {
        own_addresses: &setting.own_addresses,
        has_outgoing: setting.has_outgoing,
        limits: &DecisionLimits::default(),
    };
    let answer = match &run.verdict {
        Err(trouble) => {
            let place = trouble.location().map(|place| format!(" at {place}"));
            let place = place.unwrap_or_default();
            Err(format!("{}{place}: {trouble}", trouble.kind()))
        }
        Ok(None) => Ok(None),
        Ok(Some(actions)) => complete(actions.clone(), &message, &context, &manners)
            .map(Some)
            .map_err(|nonsense| format!("nonsense: {nonsense}")),
    };
    let facts = json!({
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
    });
    if json {
        print(facts)?;
    } else {
        print(for_people(&facts, &run, &wanted)?)?;
    }
    Ok(if answer.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn for_people(
    facts: &serde_json::Value,
    run: &Run,
    wanted: &RuleUse,
) -> Result<String, serde_json::Error> {
    let mut parts = Vec::new();
    parts.push(match facts["trouble"].as_str() {
        Some(trouble) => format!("trouble: {trouble}\nThe mail goes on to the next rule."),
        None => format!(
            "{} by {}",
            facts["outcome"].as_str().unwrap_or("pass"),
            wanted.rule.name
        ),
    });
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

/// Whose rule it is taken to be.
struct Setting<'a> {
    config: Option<&'a Config>,
    mailbox: Option<&'a Mailbox>,
    own_addresses: Vec<String>,
    has_outgoing: bool,
}

impl<'a> Setting<'a> {
    fn of(config: Option<&'a Config>, mailbox: Option<&str>) -> anyhow::Result<Self> {
        let mailbox = match (config, mailbox) {
            (Some(config), Some(name)) => Some(
                config
                    .mailbox(name)
                    .with_context(|| format!("the configuration has no mailbox {name}"))?,
            ),
            _ => None,
        };
        Ok(Self {
            config,
            mailbox,
            own_addresses: config
                .map(|config| config.own_addresses().into_iter().collect())
                .unwrap_or_default(),
            // Without a configuration a reply is shown, not refused.
            has_outgoing: mailbox.is_none_or(|mailbox| mailbox.outgoing.is_some()),
        })
    }

    /// The rule under the terms its tenant has for it, by its name in the configuration where it stands there.
    fn rule_use(&self, file: &Path) -> RuleUse {
        let configured = self.config.zip(self.mailbox).and_then(|(config, mailbox)| {
            let same = |candidate: &RuleUse| {
                candidate.tenant == mailbox.tenant
                    && candidate
                        .rule
                        .path()
                        .and_then(|path| path.canonicalize().ok())
                        == file.canonicalize().ok()
            };
            config.rule_uses().into_iter().find(same)
        });
        configured.unwrap_or_else(|| {
            let tenant = self
                .config
                .zip(self.mailbox)
                .and_then(|(config, mailbox)| config.tenant(&mailbox.tenant));
            RuleUse {
                tenant: tenant.map_or("try", |tenant| &tenant.name).to_owned(),
                rule: Rule::of_file(file),
                settings_json: "{}".into(),
                // Without a configuration there is nobody to grant: what the rule asks for is there, and empty.
                grants: tenant.map_or(Grants { kv: true }, |t| t.grants),
                limits: tenant.map(|t| t.limits.clone()).unwrap_or_default(),
            }
        })
    }

    fn context(&self, message: &Message) -> Context {
        let tenant = self
            .config
            .zip(self.mailbox)
            .and_then(|(config, mailbox)| config.tenant(&mailbox.tenant));
        let client = tenant
            .filter(|tenant| {
                let from = message.from.as_ref();
                from.is_some_and(|from| tenant.domains.iter().any(|d| d == from.domain()))
            })
            .map(|tenant| Client {
                name: tenant.name.clone(),
                sure: true,
            });
        Context {
            tenant: tenant.map_or("try", |tenant| &tenant.name).to_owned(),
            mailbox: self.mailbox.map_or("try", |m| &m.name).to_owned(),
            client,
            thread: None,
            now: format!("{:.3}", jiff::Timestamp::now()),
        }
    }
}
