//! The bytes of mail that all mailboxes together may hold in memory between the server and their decision.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A budget of bytes, shared by its clones. First come, first served: a large mail waits for its room, and later small mails
/// cannot delay it forever.
#[derive(Debug, Clone)]
pub struct InFlight {
    room: Arc<Semaphore>,
    total: u32,
}

/// A part of the budget, returned when dropped.
#[derive(Debug, Default)]
pub struct InFlightPermit(Option<OwnedSemaphorePermit>);

/// The unit of the budget, needed because a semaphore counts to at most 2^32.
const UNIT_BYTES: u64 = 1024;
const DEFAULT_BYTES: u64 = 512 * 1024 * 1024;

impl InFlight {
    pub fn new(bytes: u64) -> Self {
        let total = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self {
            room: Arc::new(Semaphore::new(total as usize)),
            total,
        }
    }

    /// Waits for room. A mail larger than the whole budget takes all of it.
    pub async fn take(&self, bytes: u64) -> InFlightPermit {
        let units = self.units(bytes);
        // It is never closed.
        InFlightPermit(self.room.clone().acquire_many_owned(units).await.ok())
    }

    /// Returns room if some is free now and nobody is waiting for it.
    pub fn try_take(&self, bytes: u64) -> Option<InFlightPermit> {
        let units = self.units(bytes);
        let room = self.room.clone().try_acquire_many_owned(units).ok()?;
        Some(InFlightPermit(Some(room)))
    }

    fn units(&self, bytes: u64) -> u32 {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        units.min(self.total)
    }
}

impl Default for InFlight {
    fn default() -> Self {
        Self::new(DEFAULT_BYTES)
    }
}

impl InFlightPermit {
    /// Merges other room into this one.
    pub fn join(&mut self, other: InFlightPermit) {
        match (&mut self.0, other.0) {
            (Some(held), Some(more)) => held.merge(more),
            (held @ None, more) => *held = more,
            (Some(_), None) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_mail_over_the_budget_is_let_through_alone() {
        let budget = InFlight::new(1024 * 1024);
        let small = budget.take(10).await;
        assert!(budget.try_take(100 * 1024 * 1024).is_none());
        drop(small);
        let large = budget.take(100 * 1024 * 1024).await;
        assert!(budget.try_take(1).is_none());
        drop(large);
        assert!(budget.try_take(1).is_some());
    }

    #[tokio::test]
    async fn a_large_mail_is_not_kept_waiting_by_small_ones() {
        let budget = InFlight::new(10 * 1024);
        let held = budget.take(5 * 1024).await;
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(8 * 1024).await }
        });
        tokio::task::yield_now().await;
        assert!(budget.try_take(1024).is_none());
        drop(held);
        let large = waiting.await.unwrap();
        assert!(budget.try_take(2 * 1024).is_some());
        assert!(budget.try_take(3 * 1024).is_none());
        drop(large);
    }

    #[test]
    fn joined_room_is_given_back_together() {
        let budget = InFlight::new(4 * 1024);
        let mut room = budget.try_take(1024).unwrap();
        room.join(budget.try_take(1024).unwrap());
        room.join(InFlightPermit::default());
        assert!(budget.try_take(3 * 1024).is_none());
        drop(room);
        assert!(budget.try_take(4 * 1024).is_some());
    }
}
