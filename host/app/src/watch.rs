//! Watches the folders of rules, contacts and assets, so that what is saved is live without anybody asking.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::audience::Audience;
use crate::directory::Directories;
use crate::rulebook::RuleBook;

/// A save is over when nothing happened in the folder for so long. Editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// A folder in which something happens all the time is looked at all the same after so long.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Another process may have rolled rules back: looked for this often.
const NEWS: Duration = Duration::from_millis(250);
/// File systems that announce nothing (network shares) are looked at this often.
const RECHECK: Duration = Duration::from_secs(30);

/// Reloads rules and directories as their files change, until stopped.
pub async fn watch(
    rules: Arc<RuleBook>,
    directories: Arc<Directories>,
    audience: Arc<dyn Audience>,
    stop: CancellationToken,
) {
    // Carries when it rang. One place is enough: a bell that rang and was not yet heard need not ring twice.
    let (ring, mut bell) = mpsc::channel::<Instant>(1);
    let held = ring.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = held.try_send(Instant::now());
        }
    });
    let mut watcher = match watcher {
        Ok(watcher) => Some(watcher),
        Err(error) => {
            tracing::warn!(%error, "saves are noticed only every {} s: the system's file watching does not work here", RECHECK.as_secs());
            None
        }
    };
    let mut watched = BTreeSet::new();
    // What was saved between the rules' first loading and this moment rang no bell.
    let _ = ring.try_send(Instant::now());
    let mut recheck = tokio::time::interval(RECHECK);
    let mut news = tokio::time::interval(NEWS);
    news.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut noticed = None;
        tokio::select! {
            () = stop.cancelled() => return,
            rung = bell.recv() => {
                noticed = rung;
                settle(&mut bell).await;
            }
            _ = recheck.tick() => {}
            _ = news.tick() => match rules.is_behind() {
                Ok(true) => {}
                Ok(false) => continue,
                Err(error) => {
                    tracing::debug!(%error, "whether rules were rolled back cannot be read");
                    continue;
                }
            },
        }
        let look = async {
            audience.reread(&directories.reread().await);
            if let Err(error) = rules.reload(noticed).await {
                tracing::error!(%error, "saved rules could not be stored; the live ones go on serving");
            }
        };
        // A load may take long, and a stop does not wait for it.
        tokio::select! {
            () = stop.cancelled() => return,
            () = look => {}
        }
        if let Some(watcher) = &mut watcher {
            let mut folders = rules.folders().await;
            folders.extend(directories.folders());
            let fresh = keep_watching(watcher, &folders, &watched);
            watched = folders;
            if fresh {
                // What was saved there before rang no bell.
                let _ = ring.try_send(Instant::now());
            }
        }
    }
}

/// Watches these folders, also those that were removed and made again since. Answers whether one is new.
fn keep_watching(
    watcher: &mut RecommendedWatcher,
    folders: &BTreeSet<PathBuf>,
    before: &BTreeSet<PathBuf>,
) -> bool {
    for folder in before.difference(folders) {
        // Gone with its folder, perhaps.
        let _ = watcher.unwatch(folder);
    }
    let mut fresh = false;
    for folder in folders {
        let is_new = !before.contains(folder);
        match watcher.watch(folder, RecursiveMode::NonRecursive) {
            Ok(()) => fresh |= is_new,
            Err(error) if is_new => {
                tracing::warn!(folder = %folder.display(), %error, "saves in this folder are noticed only every {} s", RECHECK.as_secs());
            }
            Err(_) => {}
        }
    }
    fresh
}

async fn settle(bell: &mut mpsc::Receiver<Instant>) {
    let since = Instant::now();
    while since.elapsed() < LONGEST_WAIT {
        match timeout(QUIET, bell.recv()).await {
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
