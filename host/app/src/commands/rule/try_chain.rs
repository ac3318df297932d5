//! `postroom rule try --chain`: runs a mailbox's whole chain on mails, explains each step and stores nothing.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use postroom_core::attribution::{ContactMatch, Contacts};
use postroom_core::{
    AttributeBy, Clock, Decision, Message, RuleOutcome, Threading, Trouble, parse,
};
use postroom_sandbox::{Kv, Lookup, NoKv, Sandbox};
use postroom_store::StoreError;
use serde_json::json;

use super::try_rule::{Listed, directory, read_mail};
use crate::commands::{load_readable, print};
use postroom_config::{Config, MailboxConfig, RuleKind};
use postroom_rules::chain_run::{self, CapabilityProvider, Place};
use postroom_rules::directory::Directory;
use postroom_rules::rulebook::{self, Chain, LiveRule, load_now};
use postroom_rules::senders::{Sender, Senders, persons};

/// Runs the chain on each mail. The exit code is 1 if a rule failed.
pub fn try_chain(
    mails: &[PathBuf],
    config: &Path,
    mailbox: &str,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let config = load_readable(config)?;
    let mailbox = config
        .mailbox(mailbox)
        .with_context(|| format!("the configuration has no mailbox {mailbox}"))?;
    let tried = Tried {
        config: &config,
        mailbox,
        senders: Senders::of(&config),
        people: People::of(&config, mailbox)?,
        sandbox: rulebook::sandbox(Some(config.data_dir.as_path()), 1)?,
    };
    let mut all = true;
    for (number, mail) in mails.iter().enumerate() {
        let decision = tried.on(mail)?;
        all &= decision.troubles.is_empty();
        if json {
            print(facts(mail, &decision)?)?;
            continue;
        }
        if mails.len() > 1 {
            let gap = if number == 0 { "" } else { "\n" };
            print(format!("{gap}{}:", mail.display()))?;
        }
        print(for_people(&decision)?)?;
    }
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The mailbox whose chain is tried.
struct Tried<'a> {
    config: &'a Config,
    mailbox: &'a MailboxConfig,
    senders: Senders,
    people: People,
    sandbox: Sandbox,
}

impl Tried<'_> {
    fn on(&self, mail: &Path) -> anyhow::Result<Decision> {
        let limits = self.config.limits.parsing();
        let message = Arc::new(parse(&read_mail(mail)?, &limits, &self.mailbox.trusted));
        let (tenant, sender) = self.attributed(&message);
        let Some(of_tenant) = self.mailbox.of_tenant(&tenant) else {
            bail!("the mailbox has no rules for tenant {tenant}");
        };
        let Some(owner) = self.config.tenant(&tenant) else {
            bail!("the configuration has no tenant {tenant}");
        };
        let mut rules = Vec::new();
        let named = of_tenant.rules.iter();
        for rule in named.take_while(|rule| rule.kind != RuleKind::Fallback) {
            let wanted = owner.use_of(rule);
            let loaded = load_now(&self.sandbox, &wanted).map_err(anyhow::Error::msg)?;
            let rule = LiveRule::tried(&rule.name, loaded, wanted.on_failure);
            rules.push(Arc::new(rule));
        }
        let chain = Chain {
            generation: 0,
            rules,
        };
        let own: Vec<String> = self.config.own_addresses().into_iter().collect();
        let empty = Empty(Arc::new(Listed(directory(Some(self.config), &tenant)?)));
        let place = Place {
            chain: &chain,
            own_addresses: &own,
            has_outgoing: self.mailbox.outgoing.is_some(),
            policy: &of_tenant.policy_of(owner),
            released: false,
            capabilities: &empty,
        };
        let now_ms = Clock::system().now_ms();
        let threading = Threading::default();
        let context = chain_run::context(&tenant, &self.mailbox.name, sender, threading, now_ms);
        let outcome = chain_run::run_chain(place, &message, context)?;
        Ok(outcome.conclusion.decision.clone())
    }

    /// Returns the tenant of a mail and its sender, as the service attributes them, but for tickets that it may belong to.
    fn attributed(&self, message: &Message) -> (String, Sender) {
        let (senders, tenant) = (&self.senders, &self.mailbox.tenant);
        let Some(shared) = &self.mailbox.shared else {
            let sender = senders.of_tenant(tenant, message, &self.people);
            return (tenant.clone(), sender);
        };
        let sender = senders.without_client(message);
        let own = persons(self.mailbox.address.iter().chain(&self.mailbox.aliases));
        let found = senders.attribute(shared.by, message, &sender, &own, &self.people);
        let by_sender = shared.by == AttributeBy::Sender;
        let is_disowned = by_sender && message.authentication.disowns_sender();
        let client = found.and_then(|found| found.client(is_disowned));
        let tenant = match &client {
            Some(client) if client.sure => client.name.clone(),
            _ => tenant.clone(),
        };
        (tenant, Sender { client, ..sender })
    }
}

/// The contacts of the mailbox's clients.
struct People(Vec<(String, Directory)>);

impl People {
    fn of(config: &Config, mailbox: &MailboxConfig) -> anyhow::Result<Self> {
        let tenants = mailbox.chains().into_iter();
        let each = tenants.map(|(name, _)| Ok((name.to_owned(), directory(Some(config), name)?)));
        Ok(Self(each.collect::<anyhow::Result<_>>()?))
    }
}

impl Contacts for People {
    fn find(&self, client: &str, email: &str) -> Option<ContactMatch> {
        let (_, directory) = self.0.iter().find(|(name, _)| name == client)?;
        directory.contact_match(email)
    }
}

/// An empty store, and the tenant's contacts and assets. Every ticket exists.
struct Empty(Arc<Listed>);

impl CapabilityProvider for Empty {
    fn kv(&self, _rule: &str) -> Arc<dyn Kv> {
        Arc::new(NoKv)
    }

    fn lookup(&self, _rule: &str) -> Arc<dyn Lookup> {
        self.0.clone()
    }

    fn failure(&self) -> Option<StoreError> {
        None
    }

    fn ticket_exists(&self, _ticket: &str) -> Result<bool, StoreError> {
        Ok(true)
    }
}

fn facts(mail: &Path, decision: &Decision) -> anyhow::Result<serde_json::Value> {
    let mut facts = serde_json::to_value(decision)?;
    facts["mail"] = json!(mail);
    Ok(facts)
}

fn for_people(decision: &Decision) -> anyhow::Result<String> {
    let mut lines = vec![format!(
        "{} by {}",
        decision.outcome.as_str(),
        decision.rule
    )];
    if let Some(place) = &decision.decided_at {
        lines.push(format!("  at {place}"));
    }
    for call in &decision.called_from {
        lines.push(format!("  called from {call}"));
    }
    lines.push("\nsteps:".into());
    if let Some(classified) = &decision.classified {
        let kind = crate::commands::listings::name_of(&classified.kind);
        lines.push(format!("  classified as {kind}: {}", classified.reason));
    }
    lines.push(match &decision.provenance.client {
        Some(client) => {
            let sure = if client.sure { "sure" } else { "unsure" };
            format!("  client {} by {}, {sure}", client.name, client.evidence)
        }
        None => "  no client".into(),
    });
    if decision.provenance.staff {
        lines.push("  the sender is one of the MSP's own people".into());
    }
    for step in &decision.rules {
        let trouble = decision.troubles.iter().find(|it| it.rule == step.rule);
        let (millis, kib) = (step.elapsed_us as f64 / 1e3, step.memory_bytes / 1024);
        let how = match (step.result, trouble) {
            (RuleOutcome::Failed, Some(trouble)) => failed(trouble),
            (result, _) => result.to_string(),
        };
        lines.push(format!("  {} {how} ({millis:.3} ms, {kib} KiB)", step.rule));
    }
    for (name, list) in [
        ("actions", serde_json::to_value(&decision.actions)?),
        ("refused", serde_json::to_value(&decision.refused)?),
    ] {
        if list.as_array().is_some_and(|list| !list.is_empty()) {
            lines.push(format!(
                "\n{name}:\n{}",
                serde_json::to_string_pretty(&list)?
            ));
        }
    }
    for (name, list) in [("log", &decision.log), ("repairs", &decision.repairs)] {
        if !list.is_empty() {
            lines.push(format!("\n{name}:"));
            lines.extend(list.iter().map(|line| format!("  {line}")));
        }
    }
    Ok(lines.join("\n"))
}

fn failed(trouble: &Trouble) -> String {
    let place = trouble.location.as_deref();
    let place = place.map_or_else(String::new, |place| format!(" at {place}"));
    format!("failed{place}: {}: {}", trouble.kind, trouble.message)
}
