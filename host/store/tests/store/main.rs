//! Tests the store from outside: its promises to the line hold, even across kills and full disks.

// A test may panic on anything unexpected; clippy.toml allows that only in functions marked as tests.
#![allow(clippy::unwrap_used)]

mod again;
mod alerts;
mod authority;
mod configurations;
mod copies;
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
mod service_alerts;
mod shadow;
mod sqlite;
mod threads;
mod tickets;
