//! Notifications of new files in spool folders. All spools of the process share one watcher: the kernel limits them per
//! user (Debian: 128 inotify instances).

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use notify::event::{ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// The watcher of the process, as long as a spool uses it.
static SHARED: Mutex<Weak<SharedWatcher>> = Mutex::new(Weak::new());
/// Whether missing notifications were already reported: once is enough, however many spools there are.
static REPORTED: AtomicBool = AtomicBool::new(false);

/// The spools to wake, by watched folder.
type Listeners = Arc<Mutex<HashMap<PathBuf, Vec<Arc<Notify>>>>>;

struct SharedWatcher {
    watcher: Mutex<RecommendedWatcher>,
    listeners: Listeners,
}

/// The watch of one spool on its folders. Ends when dropped.
pub(super) struct FolderWatch {
    /// `None` if the system sends no notifications.
    shared: Option<Arc<SharedWatcher>>,
    /// The folders as named, with their real paths: folders that are the same on disk share a watch.
    folders: HashMap<PathBuf, PathBuf>,
    news: Arc<Notify>,
}

impl FolderWatch {
    pub(super) fn new() -> Self {
        let shared = SharedWatcher::of_process();
        Self {
            shared: shared.inspect_err(report).ok(),
            folders: HashMap::new(),
            news: Arc::new(Notify::new()),
        }
    }

    pub(super) fn gives_notice(&self) -> bool {
        self.shared.is_some()
    }

    /// Waits for a notification that mail may have arrived.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    pub(super) fn add(&mut self, folder: &Path) {
        let Some(shared) = &self.shared else {
            return;
        };
        if self.folders.contains_key(folder) {
            return;
        }
        let real = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        match shared.add(&real, &self.news) {
            Ok(()) => {
                self.folders.insert(folder.to_owned(), real);
            }
            Err(error) => {
                report(&error);
                self.leave();
            }
        }
    }

    fn leave(&mut self) {
        if let Some(shared) = self.shared.take() {
            for (_, real) in self.folders.drain() {
                shared.remove(&real, &self.news);
            }
        }
    }
}

impl Drop for FolderWatch {
    fn drop(&mut self) {
        self.leave();
    }
}

impl SharedWatcher {
    fn of_process() -> notify::Result<Arc<Self>> {
        let mut shared = locked(&SHARED);
        if let Some(running) = shared.upgrade() {
            return Ok(running);
        }
        let listeners = Listeners::default();
        let heard = listeners.clone();
        let watcher = notify::recommended_watcher(move |event| wake(&heard, event))?;
        let started = Arc::new(Self {
            watcher: Mutex::new(watcher),
            listeners,
        });
        *shared = Arc::downgrade(&started);
        Ok(started)
    }

    fn add(&self, folder: &Path, news: &Arc<Notify>) -> notify::Result<()> {
        let mut watcher = locked(&self.watcher);
        // Repeated even if it is already watched: it may have been removed and recreated.
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        let mut listeners = locked(&self.listeners);
        listeners
            .entry(folder.to_owned())
            .or_default()
            .push(news.clone());
        Ok(())
    }

    fn remove(&self, folder: &Path, news: &Arc<Notify>) {
        let mut watcher = locked(&self.watcher);
        let mut listeners = locked(&self.listeners);
        let Some(of_folder) = listeners.get_mut(folder) else {
            return;
        };
        of_folder.retain(|it| !Arc::ptr_eq(it, news));
        if of_folder.is_empty() {
            listeners.remove(folder);
            // The watcher's thread may be waiting for it.
            drop(listeners);
            // Possibly gone with its folder.
            let _ = watcher.unwatch(folder);
        }
    }
}

/// Wakes the spools whose folders an event concerns; all of them if it names none, as when events were lost.
fn wake(listeners: &Listeners, event: notify::Result<Event>) {
    let listeners = locked(listeners);
    let all = || listeners.values().flatten().for_each(|it| it.notify_one());
    let Ok(event) = event else {
        return all();
    };
    if !may_bring_mail(event.kind) {
        return;
    }
    if event.paths.is_empty() {
        return all();
    }
    for path in &event.paths {
        let of_folder = path.parent().and_then(|folder| listeners.get(folder));
        for news in of_folder
            .or_else(|| listeners.get(path))
            .into_iter()
            .flatten()
        {
            news.notify_one();
        }
    }
}

fn may_bring_mail(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(_) | EventKind::Remove(_) => false,
        EventKind::Modify(ModifyKind::Name(RenameMode::From)) => false,
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => true,
    }
}

fn report(error: &notify::Error) {
    if !REPORTED.swap(true, Ordering::Relaxed) {
        tracing::warn!(%error, help = "raise fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl)", "file watching unavailable; polling spool folders every few seconds");
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
