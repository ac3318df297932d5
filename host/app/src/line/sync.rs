//! The locks of the scheduler. `tests/interleavings` compiles the scheduler with a model checker's locks in their place.

pub use std::sync::{Mutex, MutexGuard};
