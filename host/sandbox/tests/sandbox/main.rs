//! The sandbox as a whole: rules of each kind decide, and every limit holds when it is broken.
// A test may stop at what it did not expect, its helpers too.
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
mod wasi;
