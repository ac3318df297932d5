//! The store in a single SQLite file, with one thread that writes and a few connections that read.

mod acks;
mod again;
mod alert_watch;
mod alerts;
mod brakes;
mod commit;
mod configurations;
mod control;
mod conversations;
mod copies;
mod directory;
mod error;
mod expectations;
mod generations;
mod history;
mod ids;
mod installation;
mod items;
mod journal;
mod ledger;
mod listing;
mod lookup;
mod options;
mod outbox;
mod outbox_control;
mod ports;
mod positions;
mod questions;
mod reader;
mod recorded;
mod refusals;
mod retention;
mod run;
mod schema;
mod service_alerts;
mod shadow;
mod strikes;
mod threads;
mod writer;

use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use postroom_core::Clock;
use tokio::sync::Semaphore;

pub use control::SqliteControl;
pub use options::StoreOptions;
pub use reader::SqliteReader;

use crate::StoreError;
use history::Keep;
use installation::Installation;
use schema::Lock;
use writer::Writer;

/// The store of the one service that runs on a data_dir.
pub struct SqliteStore {
    // Declared before the writer and so dropped first: the connection that closes last does the cleanup.
    reader: SqliteReader,
    writer: Arc<Writer>,
    /// Limits the queries in progress.
    questions: Arc<Semaphore>,
    installation: Arc<Installation>,
    /// Consecutive runs before this one that did not stop cleanly.
    crashes: u32,
    keep: Keep,
    /// The limit on the number and size of one shadow's differences.
    shadow_differences: u64,
    shadow_difference_bytes: u64,
    clock: Clock,
}

impl SqliteStore {
    /// Takes the lock, creates or upgrades the database and starts the writer thread. Blocks.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &StoreOptions::default())
    }

    /// Opens the store like [`SqliteStore::open`], with custom limits.
    pub fn open_with(data_dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let lock = Lock::take(data_dir, Duration::from_millis(options.lock_wait_ms))?;
        let folder = options.installations.as_deref();
        let of_folder = folder.and_then(|folder| installation::of_folder(folder, data_dir));
        let is_gone = schema::is_missing_from_used_folder(data_dir)
            || (schema::is_new(data_dir) && of_folder.is_some());
        if is_gone && !options.start_anew {
            return Err(StoreError::Emptied {
                path: data_dir.to_owned(),
                last_ticket: of_folder.and_then(|file| file.last_ticket()),
            });
        }
        if is_gone {
            schema::set_log_aside(data_dir)?;
        }
        let conn = schema::open_writer(data_dir, options)?;
        let installation =
            Installation::establish(&conn, data_dir, folder, of_folder, options.start_anew)?;
        let installation = Arc::new(installation);
        let crashes = run::begin(&conn)?;
        lock.name_holder(data_dir);
        let reader = SqliteReader::open_with(data_dir, options)?;
        let writer = Arc::new(Writer::start(conn, lock, installation.clone(), options)?);
        Ok(Self {
            reader,
            writer,
            questions: Arc::new(Semaphore::new(options.readers.max(1))),
            installation,
            crashes,
            keep: Keep {
                generations: options.limits.generations,
                bytes: options.limits.generation_bytes,
            },
            shadow_differences: options.limits.shadow_differences,
            shadow_difference_bytes: options.limits.shadow_difference_bytes,
            clock: options.clock.clone(),
        })
    }

    /// Runs a query on a thread for blocking work. At most as many queries run at once as there are readers, so none holds a
    /// thread while it waits for a connection. A caller that goes away frees its place when its query ends.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&SqliteReader) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let place = self.questions.clone().acquire_owned().await;
        let place = place.map_err(|_| StoreError::Closed)?;
        let reader = self.reader.clone();
        let asked = tokio::task::spawn_blocking(move || {
            let _until_answered = place;
            question(&reader)
        });
        match asked.await {
            Ok(answer) => answer,
            Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
            // The runtime is shutting down.
            Err(_) => Err(StoreError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::mpsc::sync_channel;

    use bytes::Bytes;
    use postroom_core::ContentHash;

    use super::*;
    use crate::ports::{Commits, Control, Journal, Outbox, Shadows, Upkeep, Versions};
    use crate::{JournalId, NewShadow, OutboxKind, RoundRobin};

    /// A connection that is lent for longer was not returned because the runtime's only thread was blocked.
    const PATIENCE: Duration = Duration::from_secs(20);

    type Question<'a> = Pin<Box<dyn Future<Output = Result<(), StoreError>> + 'a>>;

    fn one_reader(dir: &Path) -> SqliteStore {
        let options = StoreOptions {
            readers: 1,
            ..StoreOptions::default()
        };
        SqliteStore::open_with(dir, &options).unwrap()
    }

    macro_rules! questions {
        ($($store:ident.$name:ident($($argument:expr),*);)*) => {
            [$((stringify!($name), Box::pin(async { $store.$name($($argument),*).await.map(drop) }) as Question<'_>)),*]
        };
    }

    #[tokio::test]
    async fn no_question_of_a_task_blocks_its_thread() {
        let dir = tempfile::tempdir().unwrap();
        let store = one_reader(dir.path());
        let new = NewShadow {
            tenant: "t".into(),
            mailbox: "m".into(),
            rule: "r".into(),
            hash: ContentHash::of(b"new"),
            bytes: Bytes::from_static(b"new"),
            replaces: ContentHash::of(b"old"),
            limit_us: 1,
            limit_memory_bytes: 1,
            wanted: 1,
            promote: false,
        };
        let control = SqliteControl::new(dir.path(), &StoreOptions::default());
        let shadow = control.start_shadow(&new).unwrap();
        let (mail, hash, sink) = (JournalId(1), ContentHash::of(b""), OutboxKind::Sink);
        let questions = questions! {
            store.cursor("m");
            store.pending("m", 1);
            store.pending_mail(mail);
            store.suspects(1);
            store.due_acks("m", 1, 0);
            store.next_ack_due("m");
            store.known_positions("m", Vec::new());
            store.outbox_waiting_of("t");
            store.due_outbox(sink, "s", 0, 1, RoundRobin::default());
            store.next_outbox_due(sink, "s", 0);
            store.outbox_changes();
            store.outbox_waiting();
            store.outbox_waiting_by_target();
            store.forwarded(mail);
            store.newest_generation();
            store.good_before("t", "r", &hash);
            store.strikes();
            store.shadows();
            store.active_shadows();
            store.shadow(shadow.id);
            store.shadow_bytes(shadow.id);
            store.shadow_page(&shadow, 0, 1);
            store.known_time();
            store.unacknowledged();
        };
        for (name, question) in questions {
            let (lent, is_lent) = sync_channel(1);
            let (give_back, back) = sync_channel(1);
            let reader = store.reader.clone();
            let holder = std::thread::spawn(move || {
                reader.with(|_| {
                    lent.send(()).unwrap();
                    Ok(back.recv_timeout(PATIENCE).is_ok())
                })
            });
            is_lent.recv().unwrap();
            let (answer, ()) = tokio::join!(question, async { give_back.send(()).unwrap() });
            answer.unwrap();
            assert!(holder.join().unwrap().unwrap(), "{name} blocked the thread");
        }
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_leaves_its_place_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = one_reader(dir.path());
        for _ in 0..3 {
            let never = std::future::ready(());
            tokio::select! {
                biased;
                _ = store.cursor("m") => {}
                () = never => {}
            }
        }
        assert_eq!(store.outbox_waiting().await.unwrap(), 0);
    }
}
