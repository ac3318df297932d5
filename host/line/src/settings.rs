//! The line's settings: what it takes from the configuration, replaced as a whole when a changed configuration is applied.

use std::collections::HashMap;
use std::sync::Arc;

use postroom_config::{Config, LineLimits, Tenant};
use postroom_core::effects::is_own_address;
use postroom_core::parse::ParseLimits;
use postroom_rules::senders::Senders;
use postroom_sandbox::Grants;
use tokio::sync::Mutex;

use crate::rate_limiter::RateLimiter;

/// The settings of one configuration that all mailboxes share. They never change: a batch uses the same ones to its end.
pub struct Settings {
    pub limits: LineLimits,
    pub parse_limits: ParseLimits,
    /// Every address that mail leaves from or arrives at: none of them is ever replied to.
    pub own_addresses: Vec<String>,
    /// The senders that the configuration names.
    pub senders: Senders,
    /// One lock for each tenant whose rules see the effects of earlier decisions, through a memory or through ticket and alert
    /// lookups.
    tenant_locks: HashMap<String, Arc<Mutex<()>>>,
    /// The budgets of tenants with `mails_per_minute`.
    budgets: HashMap<String, Arc<RateLimiter>>,
}

impl Settings {
    /// Returns the settings of a configuration. Locks and budgets that stay are those of `before`.
    pub fn of(config: &Config, before: Option<&Settings>) -> Self {
        let sees = |grants: &Grants| grants.kv || grants.lookup;
        let lock = |tenant: &Tenant| {
            let same = before.and_then(|it| it.tenant_locks.get(&tenant.name));
            (tenant.name.clone(), same.cloned().unwrap_or_default())
        };
        let budget = |tenant: &Tenant| {
            let (name, rate) = (&tenant.name, tenant.mails_per_minute?);
            let same = before.and_then(|it| it.budgets.get(name));
            let same = same.filter(|it| it.per_minute() == rate).cloned();
            let budget = same.unwrap_or_else(|| Arc::new(RateLimiter::new(name, rate)));
            Some((name.clone(), budget))
        };
        let tenants = config.tenants.iter();
        Self {
            limits: config.limits.clone(),
            parse_limits: config.limits.parsing(),
            own_addresses: config.own_addresses().into_iter().collect(),
            senders: Senders::of(config),
            // A tenant that had a lock keeps it: a batch may hold it.
            tenant_locks: tenants
                .clone()
                .filter(|it| sees(&it.grants) || before.is_some_and(|b| b.has_lock(&it.name)))
                .map(lock)
                .collect(),
            budgets: tenants.filter_map(budget).collect(),
        }
    }

    pub fn tenant_lock(&self, tenant: &str) -> Option<&Mutex<()>> {
        self.tenant_locks.get(tenant).map(|lock| &**lock)
    }

    pub fn budget(&self, tenant: &str) -> Option<Arc<RateLimiter>> {
        self.budgets.get(tenant).cloned()
    }

    pub fn is_own(&self, email: &str) -> bool {
        is_own_address(&self.own_addresses, email)
    }

    fn has_lock(&self, tenant: &str) -> bool {
        self.tenant_locks.contains_key(tenant)
    }
}
