//! The memory of loaded rules, by tenant and in total: script images, which are files in memory and not part of any
//! process's RSS, and compiled code.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{LoadError, LoadedScope};

/// The factor by which all versions together may exceed the limit while versions replace each other.
const VERSIONS: usize = 2;

/// The totals of a process.
pub(crate) struct LoadedTotals {
    /// The limit of all tenants together.
    limit: usize,
    held: Mutex<Held>,
}

/// The memory of one version of a rule, returned when dropped.
pub(crate) struct Share {
    totals: Arc<LoadedTotals>,
    tenant: String,
    rule: String,
    bytes: usize,
}

#[derive(Default)]
struct Held {
    sums: Sums,
    tenants: HashMap<String, Tenant>,
}

#[derive(Default)]
struct Tenant {
    sums: Sums,
    /// The sizes of the loaded versions of each rule.
    rules: HashMap<String, Vec<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    /// The sum of the largest version of each rule: what stays loaded once the batches in progress have ended.
    rules: usize,
    /// The sum of all versions.
    versions: usize,
}

impl LoadedTotals {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            held: Mutex::default(),
        }
    }

    /// Takes a share for a version of a tenant's rule. `limit` is that of the tenant.
    ///
    /// # Errors
    /// Fails if the version does not fit together with the tenant's other rules, or with those of all tenants.
    pub(crate) fn take(
        self: &Arc<Self>,
        tenant: &str,
        rule: &str,
        bytes: usize,
        limit: usize,
    ) -> Result<Share, LoadError> {
        let mut held = self.lock();
        let of_tenant = held.tenants.get(tenant);
        let largest = of_tenant
            .and_then(|it| it.rules.get(rule))
            .map_or(0, |versions| largest(versions));
        let sums = of_tenant.map(|it| it.sums).unwrap_or_default();
        for (sums, limit, budget) in [
            (sums, limit, LoadedScope::Tenant),
            (held.sums, self.limit, LoadedScope::Total),
        ] {
            let others = sums.rules - largest;
            if others.saturating_add(bytes.max(largest)) > limit {
                return Err(LoadError::Loaded {
                    name: rule.to_owned(),
                    bytes,
                    others,
                    limit,
                    budget,
                });
            }
            if sums.versions.saturating_add(bytes) > limit.saturating_mul(VERSIONS) {
                return Err(LoadError::LoadedVersions {
                    name: rule.to_owned(),
                    bytes,
                    held: sums.versions,
                    limit,
                    budget,
                });
            }
        }
        let growth = bytes.saturating_sub(largest);
        held.sums.add(growth, bytes);
        let of_tenant = held.tenants.entry(tenant.to_owned()).or_default();
        of_tenant.sums.add(growth, bytes);
        let versions = of_tenant.rules.entry(rule.to_owned()).or_default();
        versions.push(bytes);
        Ok(Share {
            totals: self.clone(),
            tenant: tenant.to_owned(),
            rule: rule.to_owned(),
            bytes,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.totals.lock();
        let Some(of_tenant) = held.tenants.get_mut(&self.tenant) else {
            return;
        };
        let Some(versions) = of_tenant.rules.get_mut(&self.rule) else {
            return;
        };
        let before = largest(versions);
        if let Some(index) = versions.iter().position(|bytes| *bytes == self.bytes) {
            versions.swap_remove(index);
        }
        let shrunk = before - largest(versions);
        if versions.is_empty() {
            of_tenant.rules.remove(&self.rule);
        }
        of_tenant.sums.remove(shrunk, self.bytes);
        if of_tenant.rules.is_empty() {
            held.tenants.remove(&self.tenant);
        }
        held.sums.remove(shrunk, self.bytes);
    }
}

impl Sums {
    fn add(&mut self, rules: usize, versions: usize) {
        self.rules += rules;
        self.versions += versions;
    }

    fn remove(&mut self, rules: usize, versions: usize) {
        self.rules -= rules;
        self.versions -= versions;
    }
}

fn largest(versions: &[usize]) -> usize {
    versions.iter().copied().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(totals: &LoadedTotals) -> (usize, usize) {
        let sums = totals.lock().sums;
        (sums.rules, sums.versions)
    }

    #[test]
    fn shares_are_limited_by_tenant_and_in_total_and_returned() {
        let totals = Arc::new(LoadedTotals::new(25));
        let take = |tenant: &str, rule: &str, bytes| totals.take(tenant, rule, bytes, 10);
        let first = take("a", "1.js", 6).unwrap();
        assert!(matches!(
            take("a", "2.js", 5),
            Err(LoadError::Loaded {
                others: 6,
                bytes: 5,
                limit: 10,
                budget: LoadedScope::Tenant,
                ..
            })
        ));
        let second = take("a", "2.js", 4).unwrap();
        let _others = [
            take("b", "1.js", 10).unwrap(),
            take("c", "1.js", 5).unwrap(),
        ];
        assert!(matches!(
            take("c", "2.js", 1),
            Err(LoadError::Loaded {
                others: 25,
                bytes: 1,
                limit: 25,
                budget: LoadedScope::Total,
                ..
            })
        ));
        drop((first, second));
        take("a", "3.js", 10).unwrap();
        assert!(!totals.lock().tenants.contains_key("a"));
        assert_eq!(held(&totals), (15, 15));
    }

    #[test]
    fn a_version_takes_the_place_of_the_one_it_replaces() {
        let totals = Arc::new(LoadedTotals::new(100));
        let take = |rule: &str, bytes| totals.take("a", rule, bytes, 10);
        let _other = take("other.js", 2).unwrap();
        let old = take("a.js", 7).unwrap();
        let new = take("a.js", 8).unwrap();
        assert_eq!(held(&totals), (10, 17));
        // Both are in memory: a third one has to wait until a batch ends.
        assert!(matches!(
            take("a.js", 8),
            Err(LoadError::LoadedVersions { held: 17, .. })
        ));
        drop(old);
        assert_eq!(held(&totals), (10, 10));
        let small = take("a.js", 1).unwrap();
        assert_eq!(held(&totals), (10, 11));
        drop(new);
        assert_eq!(held(&totals), (3, 3));
        drop(small);
        assert_eq!(held(&totals), (2, 2));
        assert!(take("a.js", 9).is_err());
    }
}
