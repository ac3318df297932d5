//! `postroom replay`: runs changed rules on recorded mail and reports every decision that would differ, for people and for
//! CI.

mod json;
pub mod text;

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use postroom_store::{Listings, Selection};
use tokio_util::sync::CancellationToken;

use crate::cli::{CandidateArgs, Filter};
use crate::commands::listings::since;
use crate::commands::run::stop_on_signals;
use crate::commands::{
    BROKEN_PIPE, INTERRUPTED, load_with_warnings, no_mailbox, open_listings, runtime,
};
use postroom_config::suggest::no_such;
use postroom_config::{Config, MailboxConfig};
use postroom_line::replay::{Candidate, ChainKey, Replay, Replayed, Report, prepare};
use postroom_rules::rulebook;

pub(super) use json::{Lines, summary};
pub(super) use text::{Text, counts};

/// The options of the command line.
#[derive(Debug)]
pub struct Options {
    pub filter: Filter,
    pub candidate: CandidateArgs,
    /// Whether to show every mail that differs.
    pub all: bool,
    pub json: bool,
}

/// Writes mails and counts as they are produced.
pub(super) trait Printer {
    /// Returns whether a mail is written where the progress bar may be.
    fn shows(&self, mail: &Replayed) -> bool;
    fn mail(&mut self, mail: &Replayed) -> std::io::Result<()>;
    fn end(&mut self, report: &Report) -> std::io::Result<()>;
}

pub fn replay(config_file: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let config = load_with_warnings(config_file)?;
    let reader = open_listings(config_file)?;
    let filter = &options.filter;
    let mailboxes = mailboxes(&config, filter)?;
    let all: usize = config.mailboxes.iter().map(|it| it.chains().len()).sum();
    let meant: Vec<&MailboxConfig> = mailboxes.iter().collect();
    let candidate = candidate(&*reader, &options.candidate)?;
    let mut selection = Selection {
        mailboxes: None,
        tenants: None,
        since_ms: filter.since.as_deref().map(since).transpose()?,
        limit: filter.limit,
        upto: None,
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let sandbox = rulebook::configured_sandbox(&config, cores)?;
    let prepared = prepare(&config, &sandbox, &meant, &candidate)?;
    for note in &prepared.notes {
        eprintln!("{note}");
    }
    let is_narrowed =
        prepared.chains.len() < all || filter.mailbox.is_some() || filter.tenant.is_some();
    if is_narrowed {
        let of = |name: fn(&ChainKey) -> &String| -> BTreeSet<String> {
            prepared
                .chains
                .keys()
                .map(|key| name(key).clone())
                .collect()
        };
        let (names, tenants) = (of(|(name, _)| name), of(|(_, tenant)| tenant));
        selection.mailboxes = Some(names.into_iter().collect());
        let shared: Vec<&MailboxConfig> =
            mailboxes.iter().filter(|it| it.shared.is_some()).collect();
        // A dedicated mailbox may have been another tenant's, whose mails are named as skipped.
        selection.tenants = (!shared.is_empty()).then(|| tenants.into_iter().collect());
    }
    let replay = Replay::new(&config, reader.clone(), prepared.chains);

    let runtime = runtime()?;
    let stop = CancellationToken::new();
    runtime.spawn(stop_on_signals(stop.clone()));
    let progress = progress(&*reader, &selection, options.json)?;
    let mut printer: Box<dyn Printer> = match options.json {
        true => Box::new(Lines::new()),
        false => Box::new(Text::new(options.all)),
    };
    let mut printed = Ok(());
    let report = replay.run(&selection, &stop, |mail| {
        progress.inc(1);
        if printed.is_ok() {
            // The bar is removed only if something is written in its place.
            printed = match printer.shows(mail) {
                true => progress.suspend(|| printer.mail(mail)),
                false => printer.mail(mail),
            };
        }
        if printed.is_err() {
            stop.cancel();
        }
    })?;
    progress.finish_and_clear();
    match printed.and_then(|()| printer.end(&report)) {
        // The reader is gone.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            return Ok(ExitCode::from(BROKEN_PIPE));
        }
        printed => printed?,
    }
    if report.interrupted {
        return Ok(ExitCode::from(INTERRUPTED));
    }
    if report.replayed() == 0 {
        let why = match report.skipped.is_empty() {
            true => "no recorded mail matches; `postroom decisions` lists the recorded mails",
            false => "each for the reason given above",
        };
        bail!("no recorded mail was replayed: {why}");
    }
    Ok(match report.is_all_same() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// Returns the selected mailboxes, a shared one once for each tenant.
fn mailboxes(config: &Config, filter: &Filter) -> anyhow::Result<Vec<MailboxConfig>> {
    if let Some(name) = &filter.tenant
        && config.tenant(name).is_none()
    {
        let all: Vec<&str> = config.tenants.iter().map(|it| it.name.as_str()).collect();
        bail!(no_such("tenant", name, &all));
    }
    if let Some(name) = &filter.mailbox
        && config.mailbox(name).is_none()
    {
        return Err(no_mailbox(config, name));
    }
    let is_meant = |mailbox: &MailboxConfig| {
        let is =
            |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|it| it == name);
        is(&filter.mailbox, &mailbox.name) && is(&filter.tenant, &mailbox.tenant)
    };
    let all = config.mailboxes.iter().flat_map(MailboxConfig::by_tenant);
    let meant: Vec<MailboxConfig> = all.filter(is_meant).collect();
    if meant.is_empty() {
        bail!("no mailbox in the configuration belongs to that tenant");
    }
    Ok(meant)
}

fn candidate(reader: &dyn Listings, asked: &CandidateArgs) -> anyhow::Result<Candidate> {
    if let Some(file) = &asked.rule {
        return Ok(Candidate::File {
            file: file.clone(),
            in_place_of: asked.in_place_of.clone(),
        });
    }
    let Some(number) = asked.generation else {
        return Ok(Candidate::Files);
    };
    let rules = reader.generation_rules(number)?.with_context(|| {
        format!("--generation {number}: the store does not keep it; the newest ones are kept, and each decision names its own")
    })?;
    Ok(Candidate::Generation { number, rules })
}

/// Returns a progress bar on stderr, if there is a terminal and the output is not JSON.
fn progress(
    reader: &dyn Listings,
    selection: &Selection,
    json: bool,
) -> anyhow::Result<ProgressBar> {
    if !std::io::stderr().is_terminal() || (json && std::io::stdout().is_terminal()) {
        return Ok(ProgressBar::hidden());
    }
    let mails = reader.recorded(selection)?.remaining()?;
    let style =
        ProgressStyle::with_template("{bar:30} {pos} of {len} mails, {per_sec}, {eta} to go");
    Ok(ProgressBar::new(mails).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
}
