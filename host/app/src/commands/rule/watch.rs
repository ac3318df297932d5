//! Waits for a save of a rule, a case or the configuration.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context;
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// The pause that ends a save: editors write in several steps.
const QUIET: Duration = Duration::from_millis(50);
/// The time after which a folder that changes all the time is checked nevertheless.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// The extensions that matter: a save of another file changes no test.
const KINDS: &[&str] = &["js", "ts", "mjs", "wasm", "eml", "json", "toml"];

/// Watches folders; a folder that was removed and recreated is watched again when it is added again.
pub struct Watch {
    watcher: RecommendedWatcher,
    bell: Receiver<()>,
    folders: BTreeSet<PathBuf>,
}

impl Watch {
    pub fn new() -> anyhow::Result<Self> {
        // One slot is enough: a notification that was not handled yet need not be repeated.
        let (ring, bell) = sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| {
                !event.kind.is_access() && event.paths.iter().any(|path| matters(path))
            }) {
                let _ = ring.try_send(());
            }
        });
        Ok(Self {
            watcher: watcher.context("watching files does not work here")?,
            bell,
            folders: BTreeSet::new(),
        })
    }

    /// Adds the folders of these files, and these folders with everything in them.
    pub fn add<'p>(&mut self, paths: impl Iterator<Item = &'p Path>) {
        for path in paths {
            let folder = match path.parent() {
                _ if path.is_dir() => path,
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            if self.folders.contains(folder) {
                continue;
            }
            match self.watcher.watch(folder, RecursiveMode::Recursive) {
                Ok(()) => {
                    self.folders.insert(folder.to_owned());
                }
                Err(error) => eprintln!("{}: {error}", folder.display()),
            }
        }
    }

    /// Returns after the next save.
    pub fn wait(&self) {
        if self.bell.recv().is_err() {
            return;
        }
        let since = Instant::now();
        while since.elapsed() < LONGEST_WAIT {
            match self.bell.recv_timeout(QUIET) {
                Ok(()) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn matters(path: &Path) -> bool {
    let kind = path.extension().and_then(|it| it.to_str());
    // A created or removed folder may have contained cases.
    kind.is_none_or(|kind| KINDS.contains(&kind) || kind == "cases")
}
