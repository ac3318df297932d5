//! Parts of Postroom that threads share, compiled with shuttle's locks and threads and a clock that a model
//! moves: a model checker runs them in many orders.
//!
//! The files are the host's own, so that no build of Postroom needs a flag or a dependency for this.

// The tests inside the files belong to their own crates.
#![cfg(not(test))]

// Formatted with its own crate, which contains its tests.
#[rustfmt::skip]
#[path = "../../../host/line/src/fair.rs"]
pub mod fair;
#[path = "../../../host/line/src/slots.rs"]
pub mod slots;
#[path = "../../../host/auth/src/tokens/turn.rs"]
pub mod turn;

pub mod sync {
    //! Replaces the host's `sync`. Time passes only where a model calls [`pass`], so that a schedule can be replayed.

    use std::cell::Cell;
    use std::time::Duration;

    pub use shuttle::sync::{Mutex, MutexGuard};

    shuttle::thread_local! {
        static SPENT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    /// Lets this thread compute for so long.
    pub fn pass(time: Duration) {
        SPENT.with(|spent| spent.set(spent.get() + time));
    }

    pub fn thread_time() -> Duration {
        SPENT.with(Cell::get)
    }

    /// Nothing but computing takes time.
    pub struct Instant(Duration);

    impl Instant {
        pub fn now() -> Self {
            Self(thread_time())
        }

        pub fn elapsed(&self) -> Duration {
            thread_time().saturating_sub(self.0)
        }
    }

    /// Works on a thread of its own.
    pub fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> Option<T> {
        shuttle::thread::scope(|scope| scope.spawn(work).join().ok())
    }
}
