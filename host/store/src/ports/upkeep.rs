//! Upkeep: retention, the clock that retention trusts, and the end of a run.

use async_trait::async_trait;

use crate::StoreError;

/// The store as a whole, for the service that runs it.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Drops the bytes of mail journalled before the time given, in milliseconds since 1970 in UTC, and returns of how many. Rows,
    /// quarantined mail, and mail not decided or not delivered yet are kept, for however long that takes.
    async fn purge(&self, before_ms: i64) -> Result<u64, StoreError>;

    /// Returns the last time that the clock was confirmed at, or else when the newest mail was journalled; `None` in a new store.
    async fn known_time(&self) -> Result<Option<i64>, StoreError>;

    /// Records a time that the clock was confirmed at, in milliseconds since 1970 in UTC.
    async fn confirm_clock(&self, now_ms: i64) -> Result<(), StoreError>;

    /// Moves due times, and the ages that are counted from them, with a clock that leapt by so much when it should have shown
    /// `expected_ms`. What lies further ahead or in the future was computed with another clock, and stays.
    async fn shift_due(&self, expected_ms: i64, by_ms: i64) -> Result<(), StoreError>;

    /// Makes due what is scheduled more than a day ahead. No pause is that long: such a time was computed with a wrong clock. Returns
    /// how many deliveries and acknowledgements there were.
    async fn bring_forward(&self, now_ms: i64) -> Result<u64, StoreError>;

    /// Returns how many acknowledgements each mailbox owes its server, for those that owe any.
    async fn unacknowledged(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Writes what is queued and ends the run. Later writes return [`StoreError::Closed`].
    async fn close(&self);
}
