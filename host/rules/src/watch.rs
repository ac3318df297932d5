//! Watches the folders of rules, contacts and assets, so that saved files go live.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use postroom_store::StoreError;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::directory::Directories;
use crate::rulebook::RuleBook;

/// The pause that ends a save: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// The longest wait for quiet in a folder that changes all the time.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// The interval of checks whether another process rolled rules back.
const NEWS: Duration = Duration::from_millis(250);
/// The interval of checks of file systems that send no notifications (network shares).
const RECHECK: Duration = Duration::from_secs(30);

/// Watches folders for saves, by notifications where the system has them.
pub struct FolderWatch {
    ring: mpsc::Sender<Instant>,
    bell: mpsc::Receiver<Instant>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
    recheck: Interval,
    /// When the save was noticed whose end is waited for.
    noticed: Option<Instant>,
}

impl Default for FolderWatch {
    fn default() -> Self {
        // Contains the time of the notification. One slot is enough: a notification that was not handled yet need not be
        // repeated.
        let (ring, bell) = mpsc::channel::<Instant>(1);
        let held = ring.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                let _ = held.try_send(Instant::now());
            }
        });
        let watcher = match watcher {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(%error, "saves are noticed only every {} s: the system's file watching does not work here", RECHECK.as_secs());
                None
            }
        };
        Self {
            ring,
            bell,
            watcher,
            watched: BTreeSet::new(),
            recheck: tokio::time::interval_at(tokio::time::Instant::now() + RECHECK, RECHECK),
            noticed: None,
        }
    }
}

impl FolderWatch {
    /// Watches these folders from now on, including those that were removed and recreated.
    pub fn watch(&mut self, folders: BTreeSet<PathBuf>) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        for folder in self.watched.difference(&folders) {
            // Possibly gone with its folder.
            let _ = watcher.unwatch(folder);
        }
        let mut fresh = false;
        for folder in &folders {
            let is_new = !self.watched.contains(folder);
            match watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => fresh |= is_new,
                Err(error) if is_new => {
                    tracing::warn!(folder = %folder.display(), %error, "saves in this folder are noticed only every {} s", RECHECK.as_secs());
                }
                Err(_) => {}
            }
        }
        self.watched = folders;
        if fresh {
            // Files saved there before caused no notification.
            self.ring();
        }
    }

    /// Makes [`FolderWatch::changed`] return.
    pub fn ring(&self) {
        let _ = self.ring.try_send(Instant::now());
    }

    /// Waits for a save and its end. Returns when it was noticed; `None` from time to time, for file systems that send no
    /// notifications. Dropping this future loses no save.
    pub async fn changed(&mut self) -> Option<Instant> {
        if self.noticed.is_none() {
            tokio::select! {
                rung = self.bell.recv() => self.noticed = rung,
                _ = self.recheck.tick() => return None,
            }
        }
        settle(&mut self.bell, self.noticed?).await;
        self.noticed.take()
    }
}

/// Reloads rules and directories as their files change, until stopped. A long reload does not delay the detection of the
/// next change.
pub async fn watch(rules: Arc<RuleBook>, directories: Arc<Directories>, stop: CancellationToken) {
    let mut folders = FolderWatch::default();
    // At most one per tenant: a tenant that is being loaded is not loaded twice.
    let mut reloads: JoinSet<Result<Option<u64>, StoreError>> = JoinSet::new();
    let mut publications = rules.publications();
    // Imports found since the first loads are watched from now on.
    publications.mark_changed();
    // Files saved between the first load of the rules and now caused no notification.
    folders.ring();
    let mut news = tokio::time::interval(NEWS);
    news.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let noticed = tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = reloads.join_next() => {
                match ended {
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => {
                        tracing::error!(%error, "saved rules could not be stored; the previous ones stay live");
                    }
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                }
                continue;
            }
            changed = publications.changed() => match changed {
                Ok(()) => {
                    let mut watched = rules.folders();
                    watched.extend(directories.folders());
                    folders.watch(watched);
                    continue;
                }
                Err(_) => return,
            },
            noticed = folders.changed() => noticed,
            _ = news.tick() => match rules.is_behind().await {
                Ok(true) => None,
                Ok(false) => continue,
                Err(error) => {
                    tracing::debug!(%error, "whether rules were rolled back cannot be read");
                    continue;
                }
            },
        };
        let rules = rules.clone();
        reloads.spawn(async move { rules.reload(noticed).await });
    }
}

async fn settle(bell: &mut mpsc::Receiver<Instant>, since: Instant) {
    while since.elapsed() < LONGEST_WAIT {
        match timeout(QUIET, bell.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_save_is_not_lost_when_something_else_comes_first() {
        let mut folders = FolderWatch::default();
        folders.ring();
        // The end of the save is waited for, and meanwhile something else happens.
        let early = timeout(QUIET / 10, folders.changed()).await;
        assert!(early.is_err());
        assert!(folders.changed().await.is_some());
    }
}
