//! Upkeep: retention, the clock that retention relies on, and the end of a run.

use async_trait::async_trait;

use crate::StoreError;

/// The store as a whole, for the service that runs it.
#[async_trait]
pub trait Upkeep: Send + Sync {
    /// Drops the bytes of mail journalled before the given time, in milliseconds since 1970 in UTC, and returns of how many
    /// mails. Keeps the rows, quarantined mail, and mail that is not yet decided or delivered, for however long that takes.
    async fn purge(&self, before_ms: i64) -> Result<u64, StoreError>;

    /// Returns the last time at which the clock was confirmed, otherwise the time at which the newest mail was journalled, or
    /// `None` in a new store.
    async fn known_time(&self) -> Result<Option<i64>, StoreError>;

    /// Records a time at which the clock was confirmed, in milliseconds since 1970 in UTC.
    async fn confirm_clock(&self, now_ms: i64) -> Result<(), StoreError>;

    /// Moves due times, and the start of the ages counted from them, with a clock that jumped by `by_ms` when it should have
    /// shown `expected_ms`. Times further ahead or in the future were computed with another clock and stay.
    async fn shift_due(&self, expected_ms: i64, by_ms: i64) -> Result<(), StoreError>;

    /// Makes entries due that are scheduled more than a day ahead. No pause is that long, so such a time was computed with a
    /// wrong clock. Returns the number of deliveries and acknowledgements affected.
    async fn bring_forward(&self, now_ms: i64) -> Result<u64, StoreError>;

    /// Returns how many undecided mails each mailbox has, for mailboxes that have any.
    async fn undecided(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Returns how many acknowledgements each mailbox owes its server, for mailboxes that owe any.
    async fn unacknowledged(&self) -> Result<Vec<(String, u64)>, StoreError>;

    /// Writes what is queued and ends the run. Later writes return [`StoreError::Closed`].
    async fn close(&self);
}
