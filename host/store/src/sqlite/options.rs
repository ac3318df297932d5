//! The settings of the SQLite store, each with a name and a default.

use std::path::PathBuf;

use postroom_core::Clock;

use crate::StoreLimits;

/// Limits for memory, disk and lock waits.
#[derive(Debug, Clone)]
pub struct StoreOptions {
    /// Jobs that may wait for the writer; a caller beyond it waits.
    pub queue_jobs: usize,
    /// Jobs that share one transaction and one fsync at most.
    pub group_jobs: usize,
    /// Bytes of mail that share one transaction at most.
    pub group_bytes: usize,
    /// Read-only connections at most.
    pub readers: usize,
    /// Page size of a new database; SQLite allows powers of two from 512 to 65536.
    pub page_bytes: u32,
    /// Pages of the write-ahead log after which they are moved into the database.
    pub checkpoint_pages: u32,
    pub writer_cache_kib: u32,
    pub reader_cache_kib: u32,
    pub cached_statements: usize,
    /// How long a connection waits for another's lock.
    pub busy_timeout_ms: u64,
    /// How long a start waits for the data folder's lock: the kernel may take a moment to end a process that was killed.
    pub lock_wait_ms: u64,
    pub limits: StoreLimits,
    /// A quota on the database file; none by default.
    pub database_bytes: Option<u64>,
    /// The folder, outside the data folder, of the file with the installation's identity and its ticket mark; by default none is kept.
    pub installations: Option<PathBuf>,
    /// Whether an empty database may take the place of one that is gone.
    pub start_anew: bool,
    /// The time of day of everything that is recorded.
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
