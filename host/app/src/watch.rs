//! Watches the folders of rules, contacts and assets, so that what is saved is live without anybody asking.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use crate::directory::{Directories, Reread};
use crate::rulebook::{Reloaded, RuleBook};

/// A save is over when nothing happened in the folder for so long. Editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// A folder in which something happens all the time is looked at all the same after so long.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Another process may have rolled rules back: looked for this often.
const NEWS: Duration = Duration::from_millis(250);
/// File systems that announce nothing (network shares) are looked at this often.
const RECHECK: Duration = Duration::from_secs(30);

/// Reloads rules and directories as their files change, until stopped.
pub async fn watch(rules: Arc<RuleBook>, directories: Arc<Directories>, stop: CancellationToken) {
    // One place is enough: a bell that rang and was not yet heard need not ring twice.
    let (ring, mut bell) = mpsc::channel::<()>(1);
    let held = ring.clone();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = held.try_send(());
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
    let _ = ring.try_send(());
    let mut recheck = tokio::time::interval(RECHECK);
    let mut news = tokio::time::interval(NEWS);
    news.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = bell.recv() => settle(&mut bell).await,
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
        say_directories(&directories.reread().await);
        match rules.reload().await {
            Ok(reloaded) => say(&reloaded),
            Err(error) => {
                tracing::error!(%error, "saved rules could not be stored; the live ones go on serving")
            }
        }
        if let Some(watcher) = &mut watcher {
            let mut folders = rules.folders().await;
            folders.extend(directories.folders());
            let fresh = keep_watching(watcher, &folders, &watched);
            watched = folders;
            if fresh {
                // What was saved there before rang no bell.
                let _ = ring.try_send(());
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

/// Says what a reload did, once.
pub fn say(reloaded: &Reloaded) {
    for (rule, reason) in &reloaded.refused {
        tracing::error!(tenant = %rule.tenant, rule = %rule.name, "rule not loaded: {reason}");
    }
    if let Some(generation) = reloaded.generation.filter(|_| !reloaded.live.is_empty()) {
        let names: Vec<String> = reloaded
            .live
            .iter()
            .map(|rule| format!("{}/{}", rule.tenant, rule.name))
            .collect();
        tracing::info!(generation, rules = %names.join(", "), "rules are live");
    }
    for rule in &reloaded.returned {
        let generation = reloaded.generation.unwrap_or_default();
        tracing::warn!(generation, tenant = %rule.tenant, rule = %rule.name, "what served before it serves again");
    }
}

/// Says what a look at the contacts and assets did, once.
pub fn say_directories(reread: &Reread) {
    for (tenant, problem) in &reread.refused {
        tracing::error!(%tenant, "not taken over: {problem}");
    }
    for (tenant, file) in &reread.live {
        tracing::info!(%tenant, file, "contacts or assets are live");
    }
    for (tenant, file) in &reread.returned {
        tracing::warn!(%tenant, file, "what it held when it last was good serves");
    }
}

async fn settle(bell: &mut mpsc::Receiver<()>) {
    let since = Instant::now();
    while since.elapsed() < LONGEST_WAIT {
        match timeout(QUIET, bell.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}
