//! The locks and the clock of the scheduler. `tests/interleavings` compiles the scheduler with those of a model checker.

pub use std::sync::{Mutex, MutexGuard};

pub use postroom_sandbox::thread_time;
