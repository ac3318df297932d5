//! Parts of Postroom that threads share, compiled with shuttle's locks and a clock that stands still: a model checker runs them in many orders.
//!
//! The files are the host's own, so that no build of Postroom needs a flag or a dependency for this.

// The tests inside the files belong to their own crates.
#![cfg(not(test))]

// Formatted with its own crate, where its tests are found.
#[rustfmt::skip]
#[path = "../../../host/line/src/fair.rs"]
pub mod fair;
#[path = "../../../host/line/src/slots.rs"]
pub mod slots;
#[path = "../../../host/auth/src/tokens/turn.rs"]
pub mod turn;

mod sync {
    use std::time::Duration;

    /// Stands still, so that a schedule runs the same way again.
    pub fn thread_time() -> Duration {
        Duration::ZERO
    }

    pub use shuttle::sync::{Mutex, MutexGuard};
}
