//! The binary's parts: configuration, rules, the line, the service and the command line.

#[macro_use]
pub mod output;

mod audience;
mod cases;
pub mod cli;
mod clock;
pub mod commands;
mod connections;
mod crash;
mod directory;
pub mod line;
pub mod logging;
mod replay;
pub mod rulebook;
mod runway;
mod service;
mod shadow;
mod tls;
mod watch;

#[doc(hidden)]
pub use directory::fuzz;
pub use postroom_config as config;
