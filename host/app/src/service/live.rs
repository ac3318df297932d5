//! The configuration in use: its files are watched, and a saved change is applied to the parts that it concerns.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_config::{Changes, Config, Problem, Problems, Snapshot, Unavailable, Update};
use postroom_line::bus::Publisher;
use postroom_line::deliver::Deliveries;
use postroom_line::event::{AppliedChanges, ConfigurationChanged, LineEvent};
use postroom_line::shadow::ShadowRunner;
use postroom_rules::directory::Directories;
use postroom_rules::rulebook::RuleBook;
use postroom_rules::watch::FolderWatch;
use postroom_store::{Journal, StoreError};
use serde_json::json;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use super::mailboxes::Mailboxes;
use super::means::Means;
use super::{report_left, report_misconfigured, report_unusable};
use crate::parts::Spawner;

/// The cause that is recorded with a configuration: a start of the service, or a save.
const START: &str = "start";
const SAVE: &str = "save";

/// How long a change waits for rules to load, before it counts as applied without them.
const LOAD_WAIT: Duration = Duration::from_secs(1);

/// Everything that a changed configuration concerns.
pub struct Live {
    pub config: watch::Sender<Arc<Config>>,
    pub keep_raw: watch::Sender<Duration>,
    pub means: Means,
    pub rules: Arc<RuleBook>,
    pub directories: Arc<Directories>,
    pub deliveries: Arc<Deliveries>,
    pub shadows: Arc<ShadowRunner>,
    pub mailboxes: Mailboxes,
    /// The sinks and outgoings that cannot be used, as they were reported.
    pub unusable: Vec<(String, Unavailable)>,
    pub events: Publisher,
    pub spawner: Spawner,
    /// Asks to read the configuration again, secrets included.
    pub reload: Option<Signal>,
    /// Loads of rules that changed configurations concern.
    pub loads: JoinSet<Result<Option<u64>, StoreError>>,
}

/// Why the files are looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// One may have been saved.
    Saved,
    /// Somebody asked: secrets are read again, too.
    Asked,
    /// A secret was missing, and may be there now.
    Missing,
}

/// The result of the last look, so that the same problem is not reported twice.
#[derive(Default)]
struct Seen {
    files: Option<Snapshot>,
    refused: Vec<Problem>,
    /// The changed settings that wait for the next start.
    at_restart: Vec<&'static str>,
}

impl Live {
    /// Applies saved changes until the service stops.
    pub async fn serve(mut self) {
        self.record(None).await;
        let stop = self.means.stop.clone();
        let mut folders = FolderWatch::default();
        let mut seen = Seen::default();
        // A save between the start and now caused no notification.
        folders.ring();
        loop {
            let current = self.config.borrow().clone();
            folders.watch(current.documents.folders());
            let reason = tokio::select! {
                () = stop.cancelled() => return,
                noticed = folders.changed() => match noticed {
                    None if !current.unavailable.is_empty() || self.lacks_tokens() => {
                        Reason::Missing
                    }
                    _ => Reason::Saved,
                },
                () = asked(&mut self.reload) => Reason::Asked,
                Some(loaded) = self.loads.join_next() => {
                    report_load(loaded);
                    continue;
                }
            };
            self.look(&mut seen, reason).await;
        }
    }

    /// Looks at the files, and applies what changed.
    async fn look(&mut self, seen: &mut Seen, reason: Reason) {
        let noticed = Instant::now();
        let running = self.config.borrow().clone();
        let known = seen.files.take();
        // Hundreds of files may be read.
        let looked = tokio::task::spawn_blocking(move || {
            let files = Snapshot::read(&running)?;
            let is_news = known.as_ref() != Some(&files) && !files.is_of(&running);
            let was_refused = known.is_some_and(|it| it != files);
            if reason == Reason::Saved && !is_news && !was_refused {
                return Ok((files, None));
            }
            let update = files.update(&running, &|name| std::env::var_os(name));
            Ok((files, Some(update)))
        });
        let looked = looked
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let (files, update) = match looked {
            Ok(looked) => looked,
            Err(problems) => return self.refuse(seen, &problems, reason),
        };
        seen.files = Some(files);
        match update {
            None => {}
            Some(Err(problems)) => self.refuse(seen, &problems, reason),
            Some(Ok(update)) => {
                let changes = &update.changes;
                let is_same = !changes.is_of_parts()
                    && changes.at_restart == seen.at_restart
                    && !self.lacks_tokens();
                seen.at_restart.clone_from(&changes.at_restart);
                let refused = update.refused.clone();
                let applied = match is_same {
                    true => {
                        self.take_over_texts(update, seen, reason).await;
                        Ok(None)
                    }
                    false => self.apply(update, noticed).await.map(Some),
                };
                if reason == Reason::Asked {
                    // After SIGHUP, problems that are already known are reported again.
                    seen.refused.clear();
                }
                match applied {
                    Ok(applied) => self.publish(seen, applied, refused),
                    Err(error) => {
                        // The next look tries again.
                        seen.files = None;
                        tracing::error!("the configuration could not be applied: {error:#}");
                    }
                }
            }
        }
    }

    /// Reports that nothing of a save is applied; again for each save, because each is refused.
    fn refuse(&self, seen: &mut Seen, problems: &Problems, reason: Reason) {
        let refused: Vec<Problem> = problems.iter().cloned().collect();
        if reason == Reason::Missing && refused == seen.refused {
            return;
        }
        tracing::error!("nothing of the saved configuration is applied, because of these problems");
        seen.refused.clear();
        self.publish(seen, None, refused);
    }

    /// Reports a look, unless it only repeats the one before.
    fn publish(&self, seen: &mut Seen, applied: Option<AppliedChanges>, refused: Vec<Problem>) {
        let is_known = refused == seen.refused;
        seen.refused.clone_from(&refused);
        let refused = if is_known { Vec::new() } else { refused };
        if applied.is_none() && refused.is_empty() {
            return;
        }
        self.events.publish(|| {
            LineEvent::ConfigurationChanged(Arc::new(ConfigurationChanged { applied, refused }))
        });
    }

    /// Takes over files that changed in nothing that a part uses, such as comments.
    async fn take_over_texts(&mut self, update: Update, seen: &Seen, reason: Reason) {
        if update.refused.is_empty() {
            match reason {
                Reason::Asked => {
                    tracing::info!("the configuration is as it was: nothing to apply");
                }
                _ if !seen.refused.is_empty() => {
                    tracing::info!(
                        "the saved files have no problem any more, and nothing else changed"
                    );
                }
                _ => {}
            }
        }
        let before = self.config.borrow().clone();
        report_new_faults(&update.config, &before, &*self.means.store).await;
        self.means.line.configure(&update.config);
        self.config.send_replace(Arc::new(update.config));
        self.record(Some(&update.changes)).await;
    }

    /// Applies a changed configuration to the parts that it concerns.
    async fn apply(&mut self, update: Update, noticed: Instant) -> anyhow::Result<AppliedChanges> {
        let Update {
            config, changes, ..
        } = update;
        let before = self.config.borrow().clone();
        let after = Arc::new(config);
        let means = &self.means;
        let new_tokens = means
            .tokens
            .configure(&before, &after, &means.tls, &means.clock)?;
        let made = means.targets(&after, Some((&before, &self.deliveries)))?;
        // From here on nothing refuses the configuration.
        self.mailboxes.stop_changed(&after, new_tokens);
        self.directories.configure(&after);
        self.rules.configure(&after).await;
        means.line.configure(&after);
        self.shadows.configure(&after);
        self.deliveries.configure(made.targets).await;
        let unusable = std::mem::replace(&mut self.unusable, made.misconfigured);
        report_unusable(self.unusable.iter().filter(|it| !unusable.contains(it)));
        report_new_faults(&after, &before, &*means.store).await;
        let starting = self.mailboxes.configure(&after, means);
        self.keep_raw.send_replace(after.keep_raw);
        self.config.send_replace(after.clone());
        if new_tokens && let Ok(tokens) = self.means.tokens.current() {
            let (span, stop) = (
                tracing::error_span!("part", part = "tokens"),
                &self.means.stop,
            );
            let stop = stop.clone();
            let keep = async move { tokens.keep(stop).await };
            self.spawner.spawn_in(span, "tokens", keep).await;
        }
        for mailbox in starting {
            mailbox.order(&self.spawner).await;
        }
        if !changes.removed.is_empty() {
            report_left(&*self.means.store, &after).await;
        }
        self.loads.spawn(self.rules.clone().load_new());
        // A rule that is slow to load keeps its client's mail waiting, and nobody else's changes.
        let loading = tokio::time::timeout(LOAD_WAIT, self.loads.join_next());
        if let Ok(Some(loaded)) = loading.await {
            report_load(loaded);
        }
        let number = self.record(Some(&changes)).await;
        Ok(AppliedChanges {
            number,
            config: after,
            changes,
            took: noticed.elapsed(),
        })
    }

    /// Returns whether the vault's key is missing or wrong, and somebody may correct that.
    fn lacks_tokens(&self) -> bool {
        !self.config.borrow().accounts.is_empty() && self.means.tokens.current().is_err()
    }

    /// Records the configuration in use. Returns its number, or `None` if it is not recorded.
    async fn record(&self, changes: Option<&Changes>) -> Option<u64> {
        let config = self.config.borrow().clone();
        let description = match changes {
            None => json!({ "cause": START }),
            Some(changes) => json!({ "cause": SAVE, "changes": changes }),
        };
        let files = files_of(&config)?;
        let store = &self.means.store;
        let saved = store.save_configuration(files, description.to_string());
        saved.await.map_or_else(
            |error| {
                tracing::error!(%error, "the configuration is in use, and could not be recorded");
                None
            },
            Some,
        )
    }
}

/// Logs and records the mailboxes that a configuration disables and the one before did not.
async fn report_new_faults(after: &Config, before: &Config, journal: &dyn Journal) {
    let reported = report_misconfigured(after, &before.misconfigured, journal).await;
    if let Err(error) = reported {
        tracing::error!(%error, "the states of misconfigured mailboxes could not be recorded");
    }
}

/// Returns the texts of a configuration's files, by names relative to its folder. A file with a problem is left out, because
/// somebody may have written a secret there; `None` if that is the main file.
fn files_of(config: &Config) -> Option<BTreeMap<String, String>> {
    let problems = config.misconfigured.iter().flat_map(|it| &it.problems);
    let broken: BTreeSet<&Path> = problems.map(|it| Path::new(&it.file)).collect();
    if broken.contains(&*config.file) {
        return None;
    }
    let documents = config.documents.iter();
    let sound = documents.filter(|(file, _)| !broken.contains(file));
    let files = sound.map(|(file, text)| (name_of(config, file), text.to_owned()));
    Some(files.collect())
}

fn name_of(config: &Config, file: &Path) -> String {
    let dir = config.dir.strip_prefix(".").unwrap_or(&config.dir);
    let file = file.strip_prefix(dir).unwrap_or(file);
    file.to_string_lossy().into_owned()
}

fn report_load(loaded: Result<Result<Option<u64>, StoreError>, JoinError>) {
    match loaded {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => {
            tracing::error!(%error, "rules of a changed configuration could not be stored; they are loaded again soon");
        }
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    }
}

async fn asked(reload: &mut Option<Signal>) {
    if let Some(reload) = reload
        && reload.recv().await.is_some()
    {
        return;
    }
    std::future::pending().await
}
