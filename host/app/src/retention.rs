//! Retention: raw mail past its keeping time is dropped, but only while the clock can be believed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use postroom_line::clock::ClockCheck;
use postroom_store::Upkeep;
use tokio_util::sync::CancellationToken;

/// Raw mail past its keeping time is looked for this often.
const PURGE_EVERY: Duration = Duration::from_secs(60 * 60);

/// Drops raw mail past its keeping time, now and then, while the clock can be believed; and makes due what a wrong clock scheduled
/// for a day that is far away.
pub async fn purge(store: Arc<dyn Upkeep>, keep: Duration, stop: CancellationToken) {
    let began = Instant::now();
    let now_ms = || Timestamp::now().as_millisecond();
    let known_ms = store.known_time().await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the last known time could not be read");
        Some(0)
    });
    let mut check = ClockCheck::new(now_ms(), known_ms, began.elapsed());
    let mut reported = false;
    loop {
        let now = now_ms();
        if check.is_confirmed(now, began.elapsed()) {
            reported = false;
            drop_old(&*store, keep, now).await;
        } else if !std::mem::replace(&mut reported, true) {
            tracing::info!(
                known = %shown(known_ms), now = %shown(Some(now)),
                "the clock is more than a day from the last known time: no raw mail is dropped until it has run for a day"
            );
        }
        match store.bring_forward(now).await {
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
        tokio::select! {
            () = tokio::time::sleep(PURGE_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn drop_old(store: &dyn Upkeep, keep: Duration, now_ms: i64) {
    let keep_ms = i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
    let dropped = match store.confirm_clock(now_ms).await {
        Ok(()) => store.purge(now_ms.saturating_sub(keep_ms)).await,
        Err(error) => Err(error),
    };
    match dropped {
        Ok(0) => {}
        Ok(dropped) => tracing::info!(dropped, "purged raw mail older than keep_raw"),
        Err(error) => tracing::warn!(%error, "raw mail older than keep_raw could not be purged"),
    }
}

fn shown(ms: Option<i64>) -> Timestamp {
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok())
        .unwrap_or_default()
}
