//! Retention and clock jumps: drops raw mail after its retention period, and moves due times when the wall clock jumps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postroom_store::{StoreError, Upkeep};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Timekeeper;

/// The interval of clock checks. Entries that become due through a jump wait this long at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The interval of checks for raw mail past its retention period.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Watches the ages of stored mail and the due times of deliveries.
pub struct Retention {
    pub store: Arc<dyn Upkeep>,
    pub time: Arc<Timekeeper>,
    /// How long raw mail is kept.
    pub keep_raw: watch::Receiver<Duration>,
    /// The bell that is rung after due times moved.
    pub outbox_filled: watch::Sender<()>,
    pub stop: CancellationToken,
}

impl Retention {
    /// Runs until stopped.
    pub async fn serve(self) {
        let mut purged: Option<Instant> = None;
        let mut doubted = false;
        loop {
            self.follow_leap().await;
            if purged.is_none_or(|at| at.elapsed() >= PURGE_EVERY) {
                self.purge(&mut doubted).await;
                purged = Some(Instant::now());
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = self.stop.cancelled() => return,
            }
        }
    }

    /// Moves due times with the clock if it jumped: what was due in five minutes still is.
    pub async fn follow_leap(&self) {
        let Some(leap) = self.time.leap() else {
            return;
        };
        tracing::info!(
            by_secs = leap.by_ms / 1000,
            "the clock leapt, or the machine slept; due times move with it"
        );
        match self.store.shift_due(leap.expected_ms, leap.by_ms).await {
            Ok(()) => {
                self.outbox_filled.send_replace(());
            }
            Err(error) => tracing::warn!(%error, "due times could not be moved with the clock"),
        }
    }

    /// Drops raw mail past its retention period while the clock can be trusted, and makes entries due that a wrong clock
    /// scheduled for a distant day. `doubted` records whether the doubt about the clock has been logged.
    pub async fn purge(&self, doubted: &mut bool) {
        let now_ms = self.time.now_ms();
        if self.time.is_confirmed() {
            *doubted = false;
            self.drop_old(now_ms).await;
        } else if !std::mem::replace(doubted, true) {
            let known = self.store.known_time().await.ok().flatten();
            tracing::info!(
                known = %shown(known), now = %shown(Some(now_ms)),
                "the clock is more than a day from the last known time: no raw mail is dropped until it has run for a day"
            );
        }
        match self.store.bring_forward(now_ms).await {
            Ok(0) => {}
            Ok(entries) => {
                tracing::info!(
                    entries,
                    "scheduled more than a day ahead by another clock: due now"
                );
            }
            Err(error) => {
                tracing::warn!(%error, "what a wrong clock scheduled could not be looked for")
            }
        }
    }

    async fn drop_old(&self, now_ms: i64) {
        let keep_ms = i64::try_from(self.keep_raw.borrow().as_millis()).unwrap_or(i64::MAX);
        let dropped = match self.store.confirm_clock(now_ms).await {
            Ok(()) => self.store.purge(now_ms.saturating_sub(keep_ms)).await,
            Err(error) => Err(error),
        };
        match dropped {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "purged raw mail older than keep_raw"),
            Err(error) => {
                tracing::warn!(%error, "raw mail older than keep_raw could not be purged")
            }
        }
    }
}

/// Returns the last known time. If it cannot be read, returns a time long ago, so that the clock is in doubt.
pub async fn known_time(store: &dyn Upkeep) -> Option<i64> {
    let known = store.known_time().await;
    known.unwrap_or_else(|error: StoreError| {
        tracing::warn!(%error, "the last known time could not be read");
        Some(0)
    })
}

fn shown(ms: Option<i64>) -> Timestamp {
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}
