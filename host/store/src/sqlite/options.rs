//! The settings of the SQLite store, each with a name and a default.

use std::path::PathBuf;

use postroom_core::Clock;

use crate::StoreLimits;

/// Limits for memory, disk and lock waits.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// The number of jobs that may wait for the writer. When the queue is full, callers wait.
    pub queue_jobs: usize,
    /// The most jobs that share one transaction and one fsync.
    pub group_jobs: usize,
    /// The most bytes of mail that share one transaction.
    pub group_bytes: usize,
    /// The most read-only connections.
    pub readers: usize,
    /// The page size of a new database; SQLite allows powers of two from 512 to 65536.
    pub page_bytes: u32,
    /// The size of the write-ahead log, in pages, at which it is moved into the database.
    pub checkpoint_pages: u32,
    pub writer_cache_kib: u32,
    pub reader_cache_kib: u32,
    pub cached_statements: usize,
    /// How long a connection waits for another connection's lock.
    pub busy_timeout_ms: u64,
    /// How long a start waits for the data folder's lock: the kernel may take a moment to end a killed process.
    pub lock_wait_ms: u64,
    pub limits: StoreLimits,
    /// A quota on the database file; none by default.
    pub database_bytes: Option<u64>,
    /// The folder for the file with the installation's identity and ticket mark, outside the data folder. By default, no such
    /// file is kept.
    pub installations: Option<PathBuf>,
    /// Whether an empty database may replace one that is gone.
    pub start_anew: bool,
    /// The clock that gives the time of everything recorded.
    pub clock: Clock,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            queue_jobs: 256,
            group_jobs: 64,
            group_bytes: 16 * 1024 * 1024,
            readers: 4,
            page_bytes: 8192,
            checkpoint_pages: 4096,
            writer_cache_kib: 16 * 1024,
            reader_cache_kib: 2 * 1024,
            cached_statements: 128,
            busy_timeout_ms: 5_000,
            lock_wait_ms: 2_000,
            limits: StoreLimits::default(),
            database_bytes: None,
            installations: None,
            start_anew: false,
            clock: Clock::system(),
        }
    }
}
