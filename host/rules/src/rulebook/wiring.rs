//! The part of a configuration that the rule book needs: the rules of each mailbox in order, and the tests that they must pass.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use postroom_core::StrikeLimits;

use super::RuleId;
use super::refused::alert_sinks;
use super::rounds::TenantRules;
use crate::cases::ReleaseGate;
use postroom_config::{Config, RuleConfig, RuleKind, RuleUse};

/// The rules of mailboxes, by mailbox and tenant.
pub type Chains = HashMap<String, HashMap<String, Vec<RuleId>>>;

/// The rules of all mailboxes and tenants of one configuration. It never changes; a changed configuration has another one.
pub struct Wiring {
    /// The rules of each mailbox for each of its tenants, in order.
    pub chains: Chains,
    pub tenants: Vec<Arc<TenantRules>>,
    /// The tests that a rule must pass before it goes live.
    pub gate: ReleaseGate,
    /// When a version has failed too often.
    pub strikes: StrikeLimits,
    /// The sinks that take a tenant's alerts.
    alert_sinks: HashMap<String, Vec<String>>,
}

impl Wiring {
    /// Returns the wiring of a configuration. The rules of a tenant that stay the same are those of `before`, loaded as they are.
    pub fn of(config: &Config, gate: ReleaseGate, before: Option<&Wiring>) -> Self {
        let chains = config.mailboxes.iter().map(|mailbox| {
            let of_tenant = |(tenant, rules): (&str, &[RuleConfig])| {
                let rules = rules.iter();
                let ids = rules
                    .take_while(|rule| rule.kind != RuleKind::Fallback)
                    .map(|rule| RuleId {
                        tenant: tenant.to_owned(),
                        name: rule.name.clone(),
                    });
                (tenant.to_owned(), ids.collect())
            };
            let chains = mailbox.chains().into_iter().map(of_tenant);
            (mailbox.name.clone(), chains.collect())
        });
        let mut uses: HashMap<String, Vec<RuleUse>> = HashMap::new();
        for wanted in config.rule_uses() {
            uses.entry(wanted.tenant.clone()).or_default().push(wanted);
        }
        let known: HashMap<&str, &Arc<TenantRules>> = before
            .iter()
            .flat_map(|it| &it.tenants)
            .map(|it| (it.name.as_str(), it))
            .collect();
        let tenants: Vec<Arc<TenantRules>> = config
            .tenants
            .iter()
            .map(|tenant| {
                let uses = uses.remove(&tenant.name).unwrap_or_default();
                let fresh = TenantRules::new(tenant, uses);
                let same = known.get(tenant.name.as_str());
                let same = same.filter(|it| it.is_for_the_same(&fresh));
                same.map_or_else(|| Arc::new(fresh), |it| Arc::clone(it))
            })
            .collect();
        Self {
            chains: chains.collect(),
            gate,
            strikes: config.limits.strikes,
            alert_sinks: alert_sinks(config),
            tenants,
        }
    }

    pub fn tenant(&self, name: &str) -> Option<&Arc<TenantRules>> {
        self.tenants.iter().find(|it| it.name == name)
    }

    /// Returns whether these are a tenant's rules in this configuration, and not those of an earlier one.
    pub fn has(&self, rules: &Arc<TenantRules>) -> bool {
        self.tenants.iter().any(|it| Arc::ptr_eq(it, rules))
    }

    /// Returns the folders of the rules' files and of their imports, also missing ones, as of the last look.
    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let files = self.tenants.iter().flat_map(|it| it.folders());
        files.chain(self.gate.folders()).collect()
    }

    pub fn alert_sinks(&self, tenant: &str) -> Vec<String> {
        self.alert_sinks.get(tenant).cloned().unwrap_or_default()
    }
}
