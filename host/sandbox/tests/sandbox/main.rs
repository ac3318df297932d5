//! The sandbox as a whole: rules of each kind decide, and every limit holds when it is exceeded.
// A test may stop at anything unexpected, and so may its helpers.
#![allow(clippy::unwrap_used)]

#[path = "../../../../tests/hostile/bombs.rs"]
mod bombs;
mod cache;
mod compiling;
mod components;
mod contracts;
mod guests;
mod inspection;
mod lookups;
mod modules;
mod patterns;
mod scripts;
mod support;
mod times;
mod wasi;
