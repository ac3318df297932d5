//! A tenant's share of the outbox. The mail of a tenant that has filled it stays undecided and safe in the journal until some of
//! its entries have left.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use postroom_store::{Commits, StoreError};

/// A full share has room again at this percentage, so that a tenant at its limit does not change state with each entry.
const ROOM_AGAIN_PERCENT: u64 = 90;

/// The outbox shares of all tenants.
#[derive(Default)]
pub struct OutboxRoom {
    full: Mutex<HashSet<String>>,
}

impl OutboxRoom {
    /// Returns whether more mail of the tenant may be decided, of which `limit` entries may wait. A batch that begins with room may
    /// exceed the limit by the entries it adds.
    pub async fn has_room(
        &self,
        commits: &dyn Commits,
        tenant: &str,
        limit: u64,
    ) -> Result<bool, StoreError> {
        let waiting = commits.outbox_waiting_of(tenant).await?;
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let was_full = full.contains(tenant);
        let is_full = is_full(waiting, limit, was_full);
        match (was_full, is_full) {
            (false, true) => {
                full.insert(tenant.to_owned());
                tracing::warn!(
                    tenant,
                    waiting,
                    "outbox share full; the tenant's mail waits undecided in the journal until entries leave: see `postroom outbox`, or raise limits.outbox_entries"
                );
            }
            (true, false) => {
                full.remove(tenant);
                tracing::info!(tenant, waiting, "outbox share has room again");
            }
            _ => {}
        }
        Ok(!is_full)
    }
}

fn is_full(waiting: u64, limit: u64, was_full: bool) -> bool {
    match was_full {
        true => waiting * 100 > limit * ROOM_AGAIN_PERCENT,
        false => waiting >= limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_share_stays_full_until_a_tenth_of_it_left() {
        assert!(!is_full(99, 100, false));
        assert!(is_full(100, 100, false));
        assert!(is_full(91, 100, true));
        assert!(!is_full(90, 100, true));
        assert!(is_full(1, 1, true) && !is_full(0, 1, true));
    }
}
