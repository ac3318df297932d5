//! Logs go to stderr, so that stdout stays a listing others can read.

use std::io::IsTerminal;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

/// Starts logging. `RUST_LOG` chooses; without it, this program's own words from `info` up.
pub fn start() {
    tracing_subscriber::fmt()
        .with_env_filter(filter("warn,postroom=info"))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
}

/// Starts logging to a view that tells of saves and mails itself. What the store does on its first day is no news there, nor that
/// a watched folder went away.
pub fn start_in(layer: impl Layer<Registry> + Send + Sync) {
    let layer = layer.with_filter(filter(
        "warn,notify=error,postroom=info,postroom_store=warn",
    ));
    tracing_subscriber::registry().with(layer).init();
}

/// What `RUST_LOG` says, else the usual.
fn filter(usual: &str) -> EnvFilter {
    EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(usual))
}
