//! The commands of the command line, one file each.

mod again;
pub mod auth;
pub mod check;
pub mod config;
pub mod decisions;
pub mod demo;
pub mod dev;
pub mod import;
pub mod init;
pub mod listings;
pub mod mail;
mod mail_line;
pub mod mailbox;
pub mod outbox;
pub mod plugin;
pub mod quarantine;
mod readers;
pub mod replay;
pub mod rule;
pub mod rules;
pub mod run;
mod screen;
pub mod send;
pub mod shadow;
mod table;
pub mod target;

use std::fmt::Display;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use postroom_auth::Tokens;
use postroom_core::harmless::visible;
use postroom_store::Listings;

use crate::output::write_line;
use crate::store;
use postroom_config::suggest::no_such;
use postroom_config::{Config, Problem};

/// The exit code of a process that a signal ended (128 + SIGINT).
const INTERRUPTED: u8 = 130;
/// The exit code of a process that SIGPIPE ended (128 + SIGPIPE): the reader of the output closed it early.
const BROKEN_PIPE: u8 = 141;

/// The default configuration file.
const USUAL_CONFIG: &str = "postroom.toml";

/// Returns the user who runs the command, for the record.
fn operator() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|it| !it.is_empty()));
    named.unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}

/// Returns the whole configuration, or every problem of it.
fn load_config(file: &Path) -> anyhow::Result<Config> {
    Config::load(file).map_err(|problems| anyhow::anyhow!("invalid configuration\n\n{problems}"))
}

/// The usable part of the configuration, for the service: the parts of other clients run.
fn load_in_part(file: &Path) -> anyhow::Result<Config> {
    Config::load_in_part(file)
        .map_err(|problems| anyhow::anyhow!("invalid configuration\n\n{problems}"))
}

/// The usable part of the configuration, for a command about one part. Prints the problems of the others to stderr.
fn load_with_warnings(file: &Path) -> anyhow::Result<Config> {
    let config = load_in_part(file)?;
    let problems = config.misconfigured.iter().flat_map(|it| &it.problems);
    let mut printed: Vec<&Problem> = Vec::new();
    for problem in problems.chain(&config.unavailable) {
        if !printed.contains(&problem) {
            eprintln!("{}\n", problem.as_warning());
            printed.push(problem);
        }
    }
    Ok(config)
}

/// The store, opened beside a running service. Needs only `data_dir` of the configuration: no secret, no rule.
fn open_listings(config: &Path) -> anyhow::Result<Arc<dyn Listings>> {
    let data_dir: PathBuf =
        postroom_config::data_dir(config).map_err(|problems| anyhow::anyhow!("{problems}"))?;
    store::listings(&data_dir).with_context(|| format!("the data folder {}", data_dir.display()))
}

/// Everything that could be read of the configuration, for a command that needs little of it. Prints the problems to stderr.
fn load_readable(file: &Path) -> anyhow::Result<Config> {
    let (config, problems) = Config::load_readable(file)
        .map_err(|problems| anyhow::anyhow!("invalid configuration\n\n{problems}"))?;
    for problem in problems {
        eprintln!("{}\n", problem.as_warning());
    }
    Ok(config)
}

/// Returns the error for a mailbox that the configuration does not have.
fn no_mailbox(config: &Config, name: &str) -> anyhow::Error {
    let mut misconfigured = config.misconfigured.iter();
    if let Some(it) = misconfigured.find(|it| it.mailbox.as_deref() == Some(name)) {
        let problems: Vec<String> = it.problems.iter().map(ToString::to_string).collect();
        return anyhow::anyhow!("mailbox {name} is misconfigured: {}", problems.join("; "));
    }
    let known: Vec<&str> = config.mailboxes.iter().map(|it| it.name.as_str()).collect();
    anyhow::anyhow!(no_such("mailbox", name, &known))
}

/// Prints a line to standard output; a closed pipe (`| head`) is not an error.
fn print(text: impl Display) -> std::io::Result<()> {
    write_line(&mut std::io::stdout().lock(), &visible(&text.to_string()))
}

/// Returns a counter on stderr for long work, if there is a terminal.
fn progress(what: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{spinner} {pos} {msg}, {per_sec}, {elapsed}");
    ProgressBar::new_spinner()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
        .with_message(what)
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")
}

/// Does a command's work that may request tokens. At its end, and at the first signal, it waits for running requests: the
/// response to one may contain the only refresh token. A second signal quits at once.
async fn with_tokens(
    tokens: &Tokens,
    work: impl Future<Output = anyhow::Result<ExitCode>>,
) -> anyhow::Result<ExitCode> {
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = signal() => {
            eprintln!("waiting for a token request to finish; press Ctrl-C again to quit immediately");
            Ok(ExitCode::from(INTERRUPTED))
        }
    };
    tokio::select! {
        () = tokens.finish() => outcome,
        () = signal() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// Waits for Ctrl-C or SIGTERM.
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}
