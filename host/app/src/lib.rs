//! The binary's parts: configuration, rules, the line, the service and the command line.

#[macro_use]
pub mod output;

pub mod cli;
pub mod commands;
mod connections;
mod expiry;
pub mod logging;
mod parts;
mod protocol_log;
mod service;
mod store;
mod tls;
