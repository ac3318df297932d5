//! `postroom dev`: the service with a view for rule authors. A save is tested and rehearsed before it goes live.

mod log;
mod mail;
mod save;
mod view;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use postroom_core::counted;
use postroom_store::{Committed, StoreError};
use tokio_util::sync::CancellationToken;

use crate::cli::DevArgs;
use crate::commands::run::stop_on_signals;
use crate::commands::screen::{Ink, Line};
use crate::commands::{USUAL_CONFIG, load_config, no_mailbox, runtime};
use crate::logging;
use crate::service::{Service, Watchers};
use mail::Columns;
use postroom_config::Config;
use postroom_line::Mailbox;
use postroom_line::decide::Decided;
use postroom_line::replay::Rehearsal;
use postroom_rules::audience::Audience;
use postroom_rules::directory::Reread;
use postroom_rules::rulebook::{Change, Reloaded};
use save::Telling;
use view::{HANG, View, below, labelled, now};

/// Shows the results for mails and saves.
struct Dev {
    view: Arc<View>,
    rehearsal: Rehearsal,
    columns: Columns,
    tenants: bool,
    several_mailboxes: bool,
    config_option: String,
    bring_in: String,
    mails: usize,
    /// The live generation, 0 before the first.
    serving: AtomicU64,
    /// The mails decided since the start.
    decided: AtomicU64,
    saves: AtomicU64,
}

pub fn dev(config_file: &Path, args: &DevArgs) -> anyhow::Result<ExitCode> {
    let view = Arc::new(View::new()?);
    logging::start_in(log::InView(view.clone()));
    let ended = serve(&view, config_file, args);
    view.close();
    ended
}

fn serve(view: &Arc<View>, config_file: &Path, args: &DevArgs) -> anyhow::Result<ExitCode> {
    let config = Arc::new(load_config(config_file)?);
    for name in &args.mailbox {
        if config.mailbox(name).is_none() {
            return Err(no_mailbox(&config, name));
        }
    }
    let dev = Arc::new(Dev::new(view.clone(), config.clone(), config_file, args));
    let head = head(&config, config_file, args);
    dev.view.show(|_| head);
    let observer = {
        let dev = dev.clone();
        move |mailbox: &Mailbox, decided: &Decided, committed: &Committed| {
            dev.mail(mailbox, decided, committed);
        }
    };
    let watchers = Watchers {
        observer: Some(Box::new(observer)),
        audience: dev.clone(),
        instances: Rehearsal::instances(),
        start_anew: args.start_anew,
    };
    let ended = runtime()?.block_on(async {
        let stop = CancellationToken::new();
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        let built = Service::watched(config, watchers, stop).await;
        let ended = match built {
            Ok(service) => service.run().await,
            Err(error) if error.downcast_ref().is_some_and(StoreError::is_locked) => {
                Err(error.context(
                    "dev is a service, and another one uses the data folder: stop that first, or use `postroom replay` and `postroom rule test --watch`",
                ))
            }
            Err(error) => Err(error),
        };
        signals.abort();
        ended
    });
    dev.rehearsal.finish();
    ended?;
    dev.view.show(|_| vec![dev.sum()]);
    Ok(ExitCode::SUCCESS)
}

impl Dev {
    fn new(view: Arc<View>, config: Arc<Config>, config_file: &Path, args: &DevArgs) -> Self {
        let mailboxes = (!args.mailbox.is_empty()).then(|| args.mailbox.clone());
        Self {
            view,
            columns: Columns::of(&config),
            tenants: config.tenants.len() > 1,
            several_mailboxes: config.mailboxes.len() > 1,
            config_option: match config_file == Path::new(USUAL_CONFIG) {
                true => String::new(),
                false => format!(" --config {}", config_file.display()),
            },
            bring_in: bring_in(&config),
            mails: args.mails,
            rehearsal: Rehearsal::new(config, mailboxes, args.mails, args.within),
            serving: AtomicU64::new(0),
            decided: AtomicU64::new(0),
            saves: AtomicU64::new(0),
        }
    }

    fn telling(&self) -> Telling<'_> {
        Telling {
            tenants: self.tenants,
            several_mailboxes: self.several_mailboxes,
            config: &self.config_option,
            bring_in: &self.bring_in,
            mails: self.mails,
        }
    }

    fn mail(&self, mailbox: &Mailbox, decided: &Decided, committed: &Committed) {
        self.decided.fetch_add(1, Ordering::Relaxed);
        self.view
            .show(|screen| self.columns.lines(screen, mailbox, decided, committed));
    }

    /// Returns the summary at the end.
    fn sum(&self) -> Line {
        let decided = self.decided.load(Ordering::Relaxed);
        let saves = self.saves.load(Ordering::Relaxed);
        now()
            .with(
                Ink::Plain,
                format!(
                    "ended: {} decided, {} went live",
                    counted(decided, "mail"),
                    counted(saves, "save")
                ),
            )
            .wrapped(HANG)
    }
}

impl Audience for Dev {
    fn wants_tests(&self) -> bool {
        true
    }

    fn rehearse(&self, change: &Change<'_>) {
        let rehearsed = (!change.fresh().is_empty()).then(|| self.rehearsal.run(change));
        let telling = self.telling();
        let mut lines = Vec::new();
        // At the start all rules are new, and the heading lists them.
        if change.generation().is_some() {
            lines.push(Line::new());
            lines.push(now().with(Ink::Bold, telling.title(change)).wrapped(HANG));
        }
        lines.extend(telling.change(change, rehearsed.as_ref()));
        self.view.show(|_| lines);
    }

    fn reloaded(&self, reloaded: &Reloaded) {
        let before = self.serving.load(Ordering::Relaxed);
        let mut lines: Vec<Line> = Vec::new();
        lines.extend(self.telling().ending(reloaded, before));
        if let Some(number) = reloaded.generation {
            self.serving.store(number, Ordering::Relaxed);
            if before == 0 {
                let text = "Save a rule: its tests, a replay, then it is live. Ctrl-C ends.";
                lines.push(below().with(Ink::Dim, text).wrapped(HANG));
            } else if !reloaded.live.is_empty() {
                self.saves.fetch_add(1, Ordering::Relaxed);
            }
        }
        lines.push(Line::new());
        self.view.show(|_| lines);
    }

    fn reread(&self, reread: &Reread) {
        let refused = reread.refused.iter().map(|(tenant, problem)| {
            let text = format!("not applied, of {tenant}: {problem}");
            now().with(Ink::Red, text).wrapped(HANG)
        });
        let live = reread.live.iter().map(|(tenant, file)| {
            let text = format!("{file} of {tenant} is live");
            now().with(Ink::Plain, text).wrapped(HANG)
        });
        let returned = reread.returned.iter().map(|(tenant, file)| {
            let text = format!("{file} of {tenant}: serving the last valid version");
            now().with(Ink::Yellow, text).wrapped(HANG)
        });
        let lines = refused.chain(live).chain(returned).collect();
        self.view.show(|_| lines);
    }
}

/// Returns the heading, before the service starts.
fn head(config: &Config, config_file: &Path, args: &DevArgs) -> Vec<Line> {
    let names = |names: &mut dyn Iterator<Item = &str>| names.collect::<Vec<_>>().join(", ");
    let mailboxes = names(&mut config.mailboxes.iter().map(|it| it.name.as_str()));
    let mut rules: Vec<String> = Vec::new();
    for wanted in config.rule_uses() {
        if !rules.contains(&wanted.rule.name) {
            rules.push(wanted.rule.name);
        }
    }
    let rules = names(&mut rules.iter().map(String::as_str));
    let mut lines = vec![
        labelled(Ink::Bold, "dev").with(Ink::Bold, config_file.display().to_string()),
        labelled(Ink::Dim, "mail")
            .with(Ink::Plain, mailboxes)
            .wrapped(HANG),
        labelled(Ink::Dim, "rules")
            .with(Ink::Plain, rules)
            .wrapped(HANG),
    ];
    if !args.mailbox.is_empty() {
        let text = format!("only mail of {}", args.mailbox.join(", "));
        lines.push(
            labelled(Ink::Dim, "replay")
                .with(Ink::Plain, text)
                .wrapped(HANG),
        );
    }
    lines
}

/// Describes how to get mail if there is none yet.
fn bring_in(config: &Config) -> String {
    let spool = config
        .mailboxes
        .iter()
        .find_map(|mailbox| mailbox.source.path());
    let mailbox = config
        .mailboxes
        .first()
        .map_or("NAME", |it| it.name.as_str());
    match spool {
        Some(path) => format!(
            "put .eml files into {}, or, before dev, `postroom mail import`",
            path.display()
        ),
        None => format!("before dev, `postroom mail import --mailbox {mailbox} FILE…`"),
    }
}
