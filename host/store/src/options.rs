//! The store's limits, each with a name and a default.

use std::path::PathBuf;

use postroom_core::{Clock, KEPT_GENERATION_BYTES, KEPT_GENERATIONS};

/// How much the store takes: memory, disk and patience.
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
    /// Generations of each tenant's rules that are kept.
    pub generations: u64,
    /// Bytes of each tenant's rules that are kept besides those that serve.
    pub generation_bytes: u64,
    /// Mails that a shadow decides at most.
    pub shadow_mails: u64,
    /// Differences of a shadow that are kept to be shown; further ones are counted.
    pub shadow_differences: u64,
    /// All of them together.
    pub shadow_difference_bytes: u64,
    /// Shadows that ended and are kept.
    pub shadows: u64,
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
            generations: KEPT_GENERATIONS,
            generation_bytes: KEPT_GENERATION_BYTES,
            shadow_mails: 10_000,
            shadow_differences: 500,
            shadow_difference_bytes: 8 * 1024 * 1024,
            shadows: 100,
            database_bytes: None,
            installations: None,
            start_anew: false,
            clock: Clock::system(),
        }
    }
}
