//! Fuzz targets: code that reads untrusted bytes must not panic, hang or exceed its limits, whatever the bytes.
//!
//! `tests/fuzz/engine` runs them guided by coverage (`make fuzz`); `tests/fuzz/tests` runs them over their seeds.

mod seeds;
mod targets;

pub use seeds::seeds;
pub use targets::{TARGETS, Target};
