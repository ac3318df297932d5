//! The spool source: a folder of `.eml` files or a maildir on this machine, each file one mail.
//!
//! The files themselves show what was read: acknowledged ones are moved away or removed. The cursor only records which
//! batch was journalled, so that a batch that was not is fetched again.

mod files;
mod watch;

pub use files::file_identity;
pub(crate) use files::{is_mail_name, read_limited};

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use postroom_core::{Cursor, RawMessage, counted};
use postroom_net::{ProbeReporter, ProbeStep, Step};
use tokio::time::{Instant, timeout_at};

use crate::{Acknowledge, After, Batch, FetchLimits, InFlightPermit, Source, SourceError};
use files::{Found, Identity, Listing};
use watch::FolderWatch;

#[derive(Debug, Clone)]
pub struct SpoolSettings {
    /// The mailbox's name, for the log.
    pub name: String,
    /// Created if missing.
    pub path: PathBuf,
    /// The time for which a file directly in the folder must be unchanged before it is taken; files of a maildir are
    /// complete.
    pub settle: Duration,
    /// The interval of checks of the folder if the system sends no notifications.
    pub poll: Duration,
}

impl SpoolSettings {
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            settle: Duration::from_millis(200),
            poll: Duration::from_secs(2),
        }
    }
}

/// Returns a source for one folder. The folder is created and watched on first use.
pub fn spool(settings: SpoolSettings) -> SpoolSource {
    SpoolSource {
        settings,
        watch: None,
        waiting: VecDeque::new(),
        taken: HashMap::new(),
        unreadable: HashSet::new(),
        unsettled: false,
        last: Vec::new(),
        batches: 0,
        nonce: RandomState::new().hash_one(std::process::id()),
    }
}

/// The spool source. See [`spool`].
pub struct SpoolSource {
    settings: SpoolSettings,
    watch: Option<FolderWatch>,
    /// Found and not returned yet, oldest first.
    waiting: VecDeque<Found>,
    /// Returned and still there: mails whose acknowledgement is due, or that are kept.
    taken: HashMap<PathBuf, Identity>,
    /// Files that could not be read and still exist: retried at each check, with one warning.
    unreadable: HashSet<PathBuf>,
    /// Whether the last check found files that may still be growing.
    unsettled: bool,
    /// The last batch, until it is known to be journalled.
    last: Vec<PathBuf>,
    batches: u64,
    /// A random number that identifies this run of the source.
    nonce: u64,
}

#[async_trait]
impl Source for SpoolSource {
    async fn connect(&mut self) -> Result<(), SourceError> {
        if self.watch.is_none() {
            let path = self.settings.path.clone();
            blocking(move || files::create(&path)).await??;
            self.watch = Some(FolderWatch::new());
        }
        if let Some(watch) = &mut self.watch {
            for folder in files::folders(&self.settings.path) {
                watch.add(&folder);
            }
        }
        Ok(())
    }

    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        self.connect().await?;
        if !self.last.is_empty() && cursor != Some(&self.cursor()) {
            for path in std::mem::take(&mut self.last) {
                self.taken.remove(&path);
            }
            self.waiting.clear();
        }
        self.last.clear();
        if self.waiting.is_empty() {
            self.look().await?;
            if self.waiting.is_empty() && self.unsettled {
                tokio::time::sleep(self.settings.settle).await;
                self.look().await?;
            }
        }
        let (messages, room) = self.read(limits).await?;
        let more = !self.waiting.is_empty() || (self.unsettled && !messages.is_empty());
        if messages.is_empty() {
            return Ok(Batch {
                messages,
                cursor: cursor.cloned(),
                more,
                ..Batch::default()
            });
        }
        self.batches += 1;
        Ok(Batch {
            messages,
            cursor: Some(self.cursor()),
            more,
            room,
            ..Batch::default()
        })
    }

    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        self.connect().await?;
        let due = acks
            .iter()
            .filter(|ack| !matches!(ack.after, After::Keep | After::Seen));
        let mut mails = Vec::new();
        let mut foreign = 0u32;
        for ack in due {
            match Found::at(&ack.position) {
                Some(found) => mails.push((found, ack.after.clone())),
                None => foreign += 1,
            }
        }
        if foreign > 0 {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = foreign,
                "mails that were not read from this spool cannot be acknowledged"
            );
        }
        let root = self.settings.path.clone();
        let spare = format!("postroom-{:016x}.eml", self.nonce);
        let (gone, failure) = blocking(move || {
            let mut gone = Vec::new();
            let mut failure = None;
            for (found, after) in mails {
                match files::put_away(&root, &found, &after, &spare) {
                    Ok(()) => gone.push(found),
                    Err(error) => failure = Some(error),
                }
            }
            (gone, failure)
        })
        .await?;
        for found in gone {
            if self.taken.get(&found.path) == Some(&found.identity) {
                self.taken.remove(&found.path);
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        self.connect().await?;
        if !self.waiting.is_empty() {
            return Ok(());
        }
        let Some(watch) = &self.watch else {
            return Ok(());
        };
        let longest = if self.unsettled {
            self.settings.settle
        } else if !watch.gives_notice() || !self.unreadable.is_empty() {
            self.settings.poll
        } else {
            timeout
        };
        let end = Instant::now() + longest.min(timeout);
        // Early or late makes no difference: the caller checks again.
        let _ = timeout_at(end, watch.news()).await;
        Ok(())
    }

    /// The steps are `folder` (created if missing, as a service would), `write` and `list`.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        let mut probe = ProbeReporter::to(report);
        let (root, settle) = (self.settings.path.clone(), self.settings.settle);
        let path = root.clone();
        let made = blocking(move || files::create(&path).map(|()| path.display().to_string()));
        if !probe.ended(Step::Folder, made.await.flatten()) {
            return;
        }
        let (path, name) = (root.clone(), format!(".postroom-{:016x}", self.nonce));
        let written = blocking(move || files::try_to_write(&path, &name));
        let said = |()| "files can be created and removed".into();
        if !probe.ended(Step::Write, written.await.flatten().map(said)) {
            return;
        }
        let listed = blocking(move || files::list(&root, settle));
        let said = |listing: Listing| counted(listing.found.len(), "mail");
        probe.ended(Step::List, listed.await.flatten().map(said));
    }

    async fn close(&mut self) {
        self.watch = None;
    }
}

impl SpoolSource {
    fn cursor(&self) -> Cursor {
        // The run is named, so that another run's cursor is never mistaken for one of ours.
        let run = format!("{:016x}", self.nonce);
        Cursor(serde_json::json!({"spool": run, "batch": self.batches}).to_string())
    }

    /// Lists the folder for files that were not returned yet.
    async fn look(&mut self) -> Result<(), SourceError> {
        let (root, settle) = (self.settings.path.clone(), self.settings.settle);
        let Listing { found, unsettled } = blocking(move || files::list(&root, settle)).await??;
        self.unsettled = unsettled;
        let there: HashMap<&PathBuf, Identity> = found
            .iter()
            .map(|found| (&found.path, found.identity))
            .collect();
        self.taken
            .retain(|path, identity| there.get(path) == Some(identity));
        self.unreadable.retain(|path| there.contains_key(path));
        self.waiting = found
            .into_iter()
            .filter(|found| !self.taken.contains_key(&found.path))
            .collect();
        Ok(())
    }

    /// Reads the next batch of the waiting files.
    async fn read(
        &mut self,
        limits: &FetchLimits,
    ) -> Result<(Vec<RawMessage>, InFlightPermit), SourceError> {
        let mut planned: Vec<Found> = Vec::new();
        let mut bytes = 0u64;
        while let Some(next) = self.waiting.front() {
            let more = bytes.saturating_add(next.identity.size.min(limits.raw_bytes));
            let full = planned.len() >= limits.batch_mails.max(1) || more > limits.batch_bytes;
            if full && !planned.is_empty() {
                break;
            }
            bytes = more;
            planned.extend(self.waiting.pop_front());
        }
        let Some(room) = limits.room(bytes).await else {
            for found in planned.into_iter().rev() {
                self.waiting.push_front(found);
            }
            return Ok((Vec::new(), InFlightPermit::default()));
        };
        let (root, raw_bytes) = (self.settings.path.clone(), limits.raw_bytes);
        let read = blocking(move || {
            planned
                .into_iter()
                .map(|found| {
                    let outcome = files::read(&root, &found, raw_bytes);
                    (found, outcome)
                })
                .collect::<Vec<_>>()
        })
        .await?;
        let mut messages = Vec::with_capacity(read.len());
        for (found, outcome) in read {
            match outcome {
                Ok(Some(message)) => {
                    messages.push(message);
                    self.unreadable.remove(&found.path);
                    self.last.push(found.path.clone());
                    self.taken.insert(found.path, found.identity);
                }
                // Gone, or changed during the check: then the next check finds it.
                Ok(None) => self.unsettled = true,
                Err(error) => {
                    // One file without permission must not stop the others, and may become readable later.
                    if self.unreadable.insert(found.path) {
                        tracing::warn!(mailbox = self.settings.name, %error, "a mail file cannot be read; it stays in place and is retried");
                    }
                }
            }
        }
        Ok((messages, room))
    }
}

/// Runs file work on a thread for blocking work.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, SourceError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| SourceError::Transient {
            step: Step::File,
            reason: "the reading of files was interrupted".into(),
        })
}

#[cfg(test)]
mod tests;
