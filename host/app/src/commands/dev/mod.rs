//! `postroom dev`: the service with a view for rule authors. A save is tested and rehearsed before it goes live.

mod log;
mod mail;
mod save;
mod view;

use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use postroom_core::counted;
use postroom_store::StoreError;
use tokio_util::sync::CancellationToken;

use crate::cli::DevArgs;
use crate::commands::readers::{Read, with_readers};
use crate::commands::run::stop_on_signals;
use crate::commands::screen::{Ink, Line};
use crate::commands::{USUAL_CONFIG, load_config, no_mailbox, runtime};
use crate::logging;
use crate::service::{Options, Service};
use crate::store;
use mail::Columns;
use postroom_config::Config;
use postroom_line::bus::{Bus, Heard, Reader};
use postroom_line::event::LineEvent;
use postroom_line::event_log;
use postroom_line::replay::Rehearsal;
use postroom_rules::directory::DirectoryReloaded;
use postroom_rules::publication::PublishHook;
use postroom_rules::rulebook::{Change, Reloaded};
use save::SaveReport;
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
    shown: Mutex<Shown>,
}

/// The number of events shown since the start, and the reader of further ones.
struct Shown {
    /// Read before anything is shown: a save comes after all events that were published before it.
    events: Reader,
    /// The live generation, 0 before the first.
    serving: u64,
    decided: usize,
    saves: u64,
    /// Events that arrived too fast.
    missed: u64,
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
    let bus = Bus::default();
    let dev = Arc::new(Dev::new(
        view.clone(),
        config.clone(),
        config_file,
        args,
        bus.reader(),
    ));
    let head = head(&config, config_file, args);
    dev.view.show(|_| head);
    let show: Read = {
        let dev = dev.clone();
        Box::new(move |_| dev.show_events())
    };
    let work = async |bus: &Bus| {
        let stop = CancellationToken::new();
        let signals = tokio::spawn(stop_on_signals(stop.clone()));
        let options = Options {
            hook: Some(dev.clone()),
            hook_instances: Rehearsal::instances(),
            ..Options::new(bus.publisher(), args.start_anew)
        };
        let built = Service::build(config, options, stop).await;
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
    };
    let ended = runtime()?.block_on(with_readers(bus, [show], work));
    dev.rehearsal.finish();
    ended?;
    dev.view.show(|_| vec![dev.sum()]);
    Ok(ExitCode::SUCCESS)
}

impl Dev {
    fn new(
        view: Arc<View>,
        config: Arc<Config>,
        config_file: &Path,
        args: &DevArgs,
        events: Reader,
    ) -> Self {
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
            rehearsal: Rehearsal::new(config, store::records, mailboxes, args.mails, args.within),
            shown: Mutex::new(Shown {
                events,
                serving: 0,
                decided: 0,
                saves: 0,
                missed: 0,
            }),
        }
    }

    fn save_report(&self) -> SaveReport<'_> {
        SaveReport {
            tenants: self.tenants,
            several_mailboxes: self.several_mailboxes,
            config: &self.config_option,
            bring_in: &self.bring_in,
            mails: self.mails,
        }
    }

    /// Shows the pending events.
    fn show_events(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.show_waiting(&mut shown);
    }

    fn show_waiting(&self, shown: &mut Shown) {
        while let Some(heard) = shown.events.try_next() {
            match &heard {
                Heard::Event(LineEvent::Decided(mails)) => {
                    shown.decided += mails.len();
                    for mail in mails.iter() {
                        self.view.show(|screen| self.columns.lines(screen, mail));
                    }
                }
                Heard::Event(LineEvent::RulesReloaded(reloaded)) => {
                    self.show_reloaded(shown, reloaded)
                }
                Heard::Event(LineEvent::DirectoryReloaded(reloaded)) => {
                    self.show_directory(reloaded)
                }
                Heard::Lagged(events) => {
                    shown.missed += events;
                    let text = format!("… {events} not shown, as they came too fast");
                    self.view.show(|_| vec![now().with(Ink::Dim, text)]);
                }
                // The view shows the log.
                Heard::Event(
                    LineEvent::Delivered(_)
                    | LineEvent::DeliveryFailed(_)
                    | LineEvent::MailboxChanged(_),
                ) => event_log::log(&heard),
                Heard::Event(LineEvent::ConfigurationChanged(changed)) => {
                    if let Some(applied) = &changed.applied {
                        self.rehearsal.configure(applied.config.clone());
                    }
                    event_log::log(&heard);
                }
            }
        }
    }

    /// Shows the result of a change.
    fn show_reloaded(&self, shown: &mut Shown, reloaded: &Reloaded) {
        let before = shown.serving;
        let mut lines: Vec<Line> = Vec::new();
        lines.extend(self.save_report().ending(reloaded, before));
        if let Some(number) = reloaded.generation {
            shown.serving = number;
            if before == 0 {
                let text = "Save a rule: its tests, a replay, then it is live. Ctrl-C ends.";
                lines.push(below().with(Ink::Dim, text).wrapped(HANG));
            } else if !reloaded.live.is_empty() {
                shown.saves += 1;
            }
        }
        lines.push(Line::new());
        self.view.show(|_| lines);
    }

    fn show_directory(&self, reloaded: &DirectoryReloaded) {
        let refused = reloaded.refused.iter().map(|(tenant, problem)| {
            let text = format!("not applied, of {tenant}: {problem}");
            now().with(Ink::Red, text).wrapped(HANG)
        });
        let live = reloaded.live.iter().map(|(tenant, file)| {
            let text = format!("{file} of {tenant} is live");
            now().with(Ink::Plain, text).wrapped(HANG)
        });
        let returned = reloaded.returned.iter().map(|(tenant, file)| {
            let text = format!("{file} of {tenant}: serving the last valid version");
            now().with(Ink::Yellow, text).wrapped(HANG)
        });
        let lines = refused.chain(live).chain(returned).collect();
        self.view.show(|_| lines);
    }

    /// Returns the summary at the end.
    fn sum(&self) -> Line {
        let shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = format!(
            "ended: {} decided, {} went live",
            counted(shown.decided, "mail"),
            counted(shown.saves, "save")
        );
        if shown.missed > 0 {
            let missed = counted(shown.missed, "event");
            text.push_str(&format!(", without {missed} that came too fast"));
        }
        now().with(Ink::Plain, text).wrapped(HANG)
    }
}

impl PublishHook for Dev {
    fn wants_tests(&self) -> bool {
        true
    }

    fn before_publish(&self, change: &Change<'_>) {
        let rehearsed = (!change.fresh().is_empty()).then(|| self.rehearsal.run(change));
        let save_report = self.save_report();
        let mut lines = Vec::new();
        // At the start, all rules are new and the heading lists them.
        if change.generation().is_some() {
            lines.push(Line::new());
            lines.push(
                now()
                    .with(Ink::Bold, save_report.title(change))
                    .wrapped(HANG),
            );
        }
        lines.extend(save_report.change(change, rehearsed.as_ref()));
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        self.show_waiting(&mut shown);
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
