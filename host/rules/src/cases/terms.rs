//! The terms under which a rule is tried or tested: tenant, mailbox, settings, grants, limits, reply policy.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use postroom_core::attribution::NoContacts;
use postroom_core::{Context, Decision, MailboxPolicy, Message, ParseLimits, Threading};
use postroom_sandbox::{Grants, Kv, Lookup, Rule as LoadedRule, Run};
use postroom_store::StoreError;

use super::Given;
use crate::chain_run::{self, CapabilityProvider, Place};
use crate::rulebook::{Chain, LiveRule};
use crate::senders::Senders;
use postroom_config::{Config, MailboxConfig, OnFailure, RuleConfig, RuleUse};

/// The name of tenant and mailbox without a configuration.
const NOBODY: &str = "try";

/// The terms of one rule for one tenant.
#[derive(Debug, Clone)]
pub struct Terms {
    pub wanted: RuleUse,
    pub mailbox: String,
    /// Whether they come from a configuration.
    pub configured: bool,
    pub parse_limits: ParseLimits,
    /// The folder that must contain its cases, wherever symbolic links lead: the configuration's, or the rule's own.
    pub within: PathBuf,
    /// The servers whose Authentication-Results are believed.
    pub trusted: Vec<String>,
    senders: Arc<Senders>,
    own_addresses: Vec<String>,
    has_outgoing: bool,
    /// Mailboxes of other tenants.
    foreign: Vec<String>,
}

/// Why the configuration does not say whose rule it is.
#[derive(Debug, thiserror::Error)]
pub enum TermsError {
    #[error("the configuration has no mailbox {0}")]
    NoMailbox(String),
    #[error("the configuration has no tenant {0}")]
    NoTenant(String),
}

/// Why a rule returned nothing.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A defect of the chain.
    #[error("the rule was not run")]
    NotRun,
}

/// A rule's result, and what the chain made of it.
pub struct Answer {
    /// The decision, `None` if the rule passed, or the error.
    pub result: Result<Option<Decision>, String>,
    pub run: Run,
}

impl Terms {
    /// Returns the terms without a tenant. Everything that the rule uses exists and is empty; a reply is shown, not
    /// refused.
    pub fn of_nobody(rule: &Path) -> Self {
        Self {
            wanted: RuleUse {
                tenant: NOBODY.into(),
                rule: RuleConfig::of_argument(rule),
                settings_json: "{}".into(),
                grants: Grants::ALL,
                limits: Default::default(),
                tests: Default::default(),
                on_failure: Default::default(),
            },
            mailbox: NOBODY.into(),
            configured: false,
            parse_limits: ParseLimits::default(),
            within: beside(rule),
            trusted: Vec::new(),
            senders: Arc::new(Senders::of_nobody()),
            own_addresses: Vec::new(),
            has_outgoing: true,
            foreign: Vec::new(),
        }
    }

    /// Returns the terms of a mailbox's tenant, by the rule's name in the configuration if it is there.
    pub fn of_mailbox(config: &Config, mailbox: &str, rule: &Path) -> Result<Self, TermsError> {
        let mailbox = config
            .mailbox(mailbox)
            .ok_or_else(|| TermsError::NoMailbox(mailbox.to_owned()))?;
        let mut uses = config.rule_uses();
        uses.retain(|it| mailbox.is_of(&it.tenant));
        // In a shared mailbox, the tenant of the mail that fits no client comes first.
        uses.sort_by_key(|it| it.tenant != mailbox.tenant);
        let mut own = uses.into_iter();
        let argument = RuleConfig::of_argument(rule);
        let is_it = |wanted: &RuleUse| match argument.path() {
            Some(file) => is_file(wanted, file),
            None => wanted.rule == argument,
        };
        if let Some(wanted) = own.find(is_it) {
            return Ok(Self::new(config, mailbox, wanted));
        }
        let wanted = RuleUse {
            settings_json: "{}".into(),
            ..config
                .tenant(&mailbox.tenant)
                .ok_or_else(|| TermsError::NoTenant(mailbox.tenant.clone()))?
                .use_of(&argument)
        };
        Ok(Self {
            within: beside(rule),
            ..Self::new(config, mailbox, wanted)
        })
    }

    /// Returns the terms of every tenant whose mailboxes run this file, each with its first such mailbox.
    pub fn of_users(config: &Config, rule: &Path) -> Vec<Self> {
        let uses = config.rule_uses().into_iter();
        uses.filter(|wanted| is_file(wanted, rule))
            .filter_map(|wanted| Self::of_use(config, wanted))
            .collect()
    }

    /// Returns the terms under which the configuration has a rule.
    pub fn of_use(config: &Config, wanted: RuleUse) -> Option<Self> {
        let runs_it = |mailbox: &&MailboxConfig| {
            let mut chains = mailbox.chains().into_iter();
            chains.any(|(tenant, rules)| {
                tenant == wanted.tenant && rules.iter().any(|it| it.name == wanted.rule.name)
            })
        };
        let mailbox = config.mailboxes.iter().find(runs_it)?;
        Some(Self::new(config, mailbox, wanted))
    }

    fn new(config: &Config, mailbox: &MailboxConfig, wanted: RuleUse) -> Self {
        Self {
            mailbox: mailbox.name.clone(),
            configured: true,
            parse_limits: config.limits.parsing(),
            within: config.dir.clone(),
            trusted: mailbox.trusted.clone(),
            senders: Arc::new(Senders::of(config)),
            own_addresses: config.own_addresses().into_iter().collect(),
            has_outgoing: mailbox.outgoing.is_some(),
            foreign: config
                .mailboxes
                .iter()
                .filter(|it| !it.is_of(&wanted.tenant))
                .map(|it| it.name.clone())
                .collect(),
            wanted,
        }
    }

    /// Returns the context that the line would give the rule for this mail if it were in no thread.
    pub fn context(&self, message: &Message, now: jiff::Timestamp) -> Context {
        let tenant = &self.wanted.tenant;
        let sender = self.senders.of_tenant(tenant, message, &NoContacts);
        let now_ms = now.as_millisecond();
        chain_run::context(tenant, &self.mailbox, sender, Threading::default(), now_ms)
    }

    /// Returns whether a case belongs to another tenant, by the mailbox it names.
    pub fn is_foreign(&self, given: Option<&Given>) -> bool {
        let mailbox = given.and_then(|given| given.mailbox.as_ref());
        mailbox.is_some_and(|mailbox| self.foreign.contains(mailbox))
    }

    /// Runs a chain of this one rule on a mail, with the code of the line.
    pub fn ask(
        &self,
        rule: &LoadedRule,
        message: &Arc<Message>,
        context: Context,
        kv: Arc<dyn Kv>,
        lookup: Arc<dyn Lookup>,
    ) -> Result<Answer, AskError> {
        let name = &self.wanted.rule.name;
        let chain = Chain {
            generation: 0,
            rules: vec![Arc::new(LiveRule::tried(
                name,
                rule.clone(),
                OnFailure::Pass,
            ))],
        };
        let stated = Stated {
            kv,
            lookup,
            run: Mutex::default(),
        };
        let place = Place {
            chain: &chain,
            own_addresses: &self.own_addresses,
            has_outgoing: self.has_outgoing,
            // The rule itself is tried, whatever its mailbox accepts.
            policy: &MailboxPolicy::default(),
            released: false,
            capabilities: &stated,
        };
        let outcome = chain_run::run_chain(place, message, context)?;
        let decision = outcome.conclusion.decision.clone();
        let run = stated.run.into_inner();
        let run = run.unwrap_or_else(PoisonError::into_inner);
        let result = match decision.troubles.first() {
            Some(trouble) => Err(format!(
                "{}{}: {}",
                trouble.kind,
                at(trouble.location.as_deref()),
                trouble.message
            )),
            // The rule passed.
            None if decision.rule != *name => Ok(None),
            None => Ok(Some(decision)),
        };
        Ok(Answer {
            result,
            run: run.ok_or(AskError::NotRun)?,
        })
    }
}

/// The capabilities that a case states. Every ticket exists.
struct Stated {
    kv: Arc<dyn Kv>,
    lookup: Arc<dyn Lookup>,
    /// The rule's result before it was completed.
    run: Mutex<Option<Run>>,
}

impl CapabilityProvider for Stated {
    fn kv(&self, _rule: &str) -> Arc<dyn Kv> {
        self.kv.clone()
    }

    fn lookup(&self, _rule: &str) -> Arc<dyn Lookup> {
        self.lookup.clone()
    }

    fn failure(&self) -> Option<StoreError> {
        None
    }

    fn ticket_exists(&self, _ticket: &str) -> Result<bool, StoreError> {
        Ok(true)
    }

    fn observe(&self, run: &Run) {
        *self.run.lock().unwrap_or_else(PoisonError::into_inner) = Some(run.clone());
    }
}

/// Returns ` at file:line:column`, if known.
fn at(place: Option<&str>) -> String {
    place
        .map(|place| format!(" at {place}"))
        .unwrap_or_default()
}

/// Returns the folder of a rule that no configuration names.
fn beside(rule: &Path) -> PathBuf {
    rule.parent().unwrap_or(Path::new("")).to_owned()
}

/// Returns whether this is the file that the configuration refers to.
fn is_file(wanted: &RuleUse, file: &Path) -> bool {
    let configured = wanted.rule.path().and_then(|path| path.canonicalize().ok());
    configured.is_some() && configured == file.canonicalize().ok()
}
