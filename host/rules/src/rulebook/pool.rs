//! The threads that load rules, contacts and assets: a tenant with a slow load yields to the others.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

/// The time after which a load is slow, and gives its place to the next tenant.
const QUICK: Duration = Duration::from_secs(1);
/// The nice value of a thread with a slow load: in competition with a busy thread it gets a tenth of a core.
#[cfg(target_os = "linux")]
const GIVES_WAY: i32 = 10;

/// Runs loads, each on its own thread. As many quick ones as there are cores run at a time, and as many slow ones in
/// addition. The threads are not those of the runtime, which waits for its own when it ends.
pub struct LoadPool {
    quick: Arc<Semaphore>,
    slow: Arc<Semaphore>,
    stop: CancellationToken,
}

/// The pace of one load.
pub struct LoadPace {
    slow: Arc<Semaphore>,
    stop: CancellationToken,
    state: Mutex<State>,
}

struct State {
    /// Its place among the quick loads, later among the slow ones.
    _place: Option<OwnedSemaphorePermit>,
    turn: Turn,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Quick,
    /// It took too long, and finishes its current step without a place.
    Overdue,
    Slow,
}

/// Why a load has no result.
#[derive(Debug, thiserror::Error)]
pub enum LoadEnded {
    #[error("the service is stopping")]
    Stopped,
    #[error("this is a bug in Postroom, the log has its panic; please report it")]
    Panicked,
    #[error("no thread could be started for it: {0}")]
    NoThread(#[from] std::io::Error),
}

impl LoadPool {
    pub fn new(cores: usize, stop: CancellationToken) -> Self {
        Self {
            quick: Arc::new(Semaphore::new(cores)),
            slow: Arc::new(Semaphore::new(cores)),
            stop,
        }
    }

    /// Returns the number of instances of rules that loads run at a time, for this many cores.
    pub fn instances(cores: usize) -> usize {
        2 * cores
    }

    /// Runs one load. When the service stops, its thread ends after its current step, and nothing waits for it.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&LoadPace) -> T + Send + 'static,
    ) -> Result<T, LoadEnded> {
        let load = async {
            let place = self.quick.clone().acquire_owned().await.ok();
            let pace = Arc::new(LoadPace {
                slow: self.slow.clone(),
                stop: self.stop.clone(),
                state: Mutex::new(State {
                    _place: place,
                    turn: Turn::Quick,
                }),
            });
            let (ended, mut end) = oneshot::channel();
            let of_thread = pace.clone();
            let thread = std::thread::Builder::new().name("load".into());
            thread.spawn(move || {
                let result = catch_unwind(AssertUnwindSafe(|| work(&of_thread)));
                drop(of_thread);
                // The receiver is gone when the service stops.
                let _ = ended.send(result);
            })?;
            let ended = match tokio::time::timeout(QUICK, &mut end).await {
                Ok(ended) => ended,
                Err(_) => {
                    pace.set(Turn::Overdue, None);
                    end.await
                }
            };
            ended
                .map_err(|_| LoadEnded::Panicked)?
                .map_err(|_| LoadEnded::Panicked)
        };
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Err(LoadEnded::Stopped),
            result = load => result,
        }
    }
}

impl LoadPace {
    /// Called before each step of a load. A slow load waits here for its turn. Fails when the service stops.
    pub fn step(&self) -> Result<(), LoadEnded> {
        if self.stop.is_cancelled() {
            return Err(LoadEnded::Stopped);
        }
        if self.lock().turn != Turn::Overdue {
            return Ok(());
        }
        // Elsewhere this would affect the whole process.
        #[cfg(target_os = "linux")]
        if let Err(error) = rustix::process::nice(GIVES_WAY) {
            tracing::debug!(%error, "the thread of a slow load keeps its priority");
        }
        let place = futures::executor::block_on(async {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                place = self.slow.clone().acquire_owned() => place.ok(),
            }
        });
        let place = place.ok_or(LoadEnded::Stopped)?;
        self.set(Turn::Slow, Some(place));
        Ok(())
    }

    fn set(&self, turn: Turn, place: Option<OwnedSemaphorePermit>) {
        *self.lock() = State {
            _place: place,
            turn,
        };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn on_runtime<T>(work: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().build().unwrap().block_on(work)
    }

    #[test]
    fn slow_loads_hold_up_no_quick_one() {
        on_runtime(async {
            let pool = LoadPool::new(1, CancellationToken::new());
            let (release, released) = mpsc::sync_channel::<()>(1);
            let released = Mutex::new(released);
            let first = pool.run(move |pace| {
                let _ = released.lock().unwrap().recv();
                pace.step().is_ok()
            });
            let (release_second, released) = mpsc::sync_channel::<()>(1);
            let second = pool.run(move |_| released.recv().is_ok());
            let others = async {
                for number in 0..3 {
                    assert_eq!(pool.run(move |_| number).await.unwrap(), number);
                }
                release_second.send(()).unwrap();
                release.send(()).unwrap();
            };
            let (first, second, ()) = tokio::join!(first, second, others);
            assert!(first.unwrap() && second.unwrap());
        });
    }

    #[test]
    fn a_panic_ends_one_load_and_nothing_else() {
        on_runtime(async {
            let pool = LoadPool::new(1, CancellationToken::new());
            let ended = pool.run(|_| panic!("ordered")).await;
            assert!(matches!(ended, Err(LoadEnded::Panicked)));
            assert_eq!(pool.run(|_| 1).await.unwrap(), 1);
        });
    }

    #[test]
    fn a_stop_waits_for_no_load() {
        on_runtime(async {
            let stop = CancellationToken::new();
            let pool = LoadPool::new(1, stop.clone());
            let (release, released) = mpsc::sync_channel::<()>(1);
            let (told, steps) = mpsc::sync_channel(1);
            let load = pool.run(move |pace| {
                let _ = released.recv();
                let _ = told.send(pace.step().is_err());
            });
            let (ended, ()) = tokio::join!(load, async { stop.cancel() });
            assert!(matches!(ended, Err(LoadEnded::Stopped)));
            // Its thread notices at its next step.
            release.send(()).unwrap();
            assert!(steps.recv().unwrap());
            assert!(matches!(pool.run(|_| ()).await, Err(LoadEnded::Stopped)));
        });
    }
}
