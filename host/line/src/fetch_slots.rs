//! The fetches of each tenant: a number at the same time, so that one client's mailboxes do not take all the memory for mail in
//! flight.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The fetches in progress, by tenant. Keeps one entry for each tenant that ever fetched.
#[derive(Debug)]
pub struct FetchSlots {
    per_tenant: usize,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// One fetch in progress.
#[derive(Debug)]
pub struct FetchSlot {
    _slot: OwnedSemaphorePermit,
}

impl FetchSlots {
    pub fn new(per_tenant: u32) -> Self {
        Self {
            per_tenant: per_tenant.max(1) as usize,
            tenants: Mutex::default(),
        }
    }

    /// Waits until the tenant may fetch. A caller that holds mail in memory does not wait, since those that fetch may wait for
    /// that memory: it gets `None` if the tenant's slots are taken.
    pub async fn take(&self, tenant: &str, may_wait: bool) -> Option<FetchSlot> {
        let slots = self.of(tenant);
        let slot = match may_wait {
            true => slots.acquire_owned().await.ok(),
            false => slots.try_acquire_owned().ok(),
        };
        slot.map(|slot| FetchSlot { _slot: slot })
    }

    fn of(&self, tenant: &str) -> Arc<Semaphore> {
        let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = tenants.get(tenant) {
            return slots.clone();
        }
        let slots = Arc::new(Semaphore::new(self.per_tenant));
        tenants.insert(tenant.to_owned(), slots.clone());
        slots
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn a_tenant_with_all_its_slots_taken_delays_no_other() {
        let slots = FetchSlots::new(2);
        let take = |tenant, may_wait| slots.take(tenant, may_wait).now_or_never();
        let held = (take("busy", true).unwrap(), take("busy", true).unwrap());
        assert!(held.0.is_some() && held.1.is_some());
        // A caller that may wait does so; one that holds mail gets nothing.
        assert!(take("busy", true).is_none());
        assert!(take("busy", false).unwrap().is_none());
        assert!(take("quiet", true).unwrap().is_some());
        drop(held);
        assert!(take("busy", false).unwrap().is_some());
    }
}
