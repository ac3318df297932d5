//! The store from outside: what is promised to the line holds, also across kills and full disks.

// A test may stop at what it did not expect; clippy.toml says so only for the functions marked as tests.
#![allow(clippy::unwrap_used)]

mod authority;
mod crash;
mod decisions;
mod generations;
mod intake;
mod kit;
mod leaving;
mod lookup;
mod operation;
mod outbox;
mod positions;
mod recorded;
mod shadow;
mod sqlite;
