//! Coalesces requests: callers that arrive during a request share its outcome, and a caller that leaves does not stop
//! it. `tests/interleavings` compiles this file by itself.

use std::future::Future;
use std::sync::Arc;

use tokio::sync::{Mutex, OwnedMutexGuard};

/// The right to make the next request, granted in the order of waiting.
#[derive(Default)]
pub struct Turn(Arc<Mutex<()>>);

/// The turn, until it is dropped.
pub struct Holding {
    _guard: OwnedMutexGuard<()>,
}

/// Results of earlier requests in memory, looked up when needed.
pub struct KnownOutcomes<Fresh, Good, Failed> {
    /// A result that need not be renewed yet.
    pub fresh: Fresh,
    /// A result that can be used, although it is due for renewal.
    pub good: Good,
    /// The failure of a request that ended while the caller waited, or that began a pause.
    pub failed: Failed,
}

impl Turn {
    pub async fn take(&self) -> Holding {
        let guard = self.0.clone().lock_owned().await;
        Holding { _guard: guard }
    }

    pub fn try_take(&self) -> Option<Holding> {
        let guard = self.0.clone().try_lock_owned().ok()?;
        Some(Holding { _guard: guard })
    }

    /// Returns what is known, or the outcome of `request`. Callers with a usable result do not wait. `request` drops its
    /// argument when its outcome is known; it must run to its end even if its future is dropped.
    pub async fn share<T, E, R>(
        &self,
        known: KnownOutcomes<
            impl Fn() -> Option<T>,
            impl Fn() -> Option<T>,
            impl Fn() -> Option<E>,
        >,
        request: impl FnOnce(Holding) -> R,
    ) -> Result<T, E>
    where
        R: Future<Output = Result<T, E>>,
    {
        if let Some(fresh) = (known.fresh)() {
            return Ok(fresh);
        }
        let holding = match (self.try_take(), (known.good)()) {
            (Some(holding), _) => holding,
            (None, Some(good)) => return Ok(good),
            (None, None) => self.take().await,
        };
        if let Some(fresh) = (known.fresh)() {
            return Ok(fresh);
        }
        if let Some(error) = (known.failed)() {
            return (known.good)().ok_or(error);
        }
        request(holding).await
    }
}
