//! Model checking of code that threads share: compiled with shuttle's locks and a fixed clock, and run in many orders.
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

mod sync {
    use std::time::Duration;

    /// Returns a fixed time, so that a schedule can be repeated.
    pub fn thread_time() -> Duration {
        Duration::ZERO
    }

    pub use shuttle::sync::{Mutex, MutexGuard};
}
