//! Read-only connections alongside the writer, shared by a few threads. Listing commands open them too.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::options::StoreOptions;
use super::schema;
use crate::StoreError;

/// Runs blocking queries on the database. Cheap to clone. It sees what is committed, and nothing of an unfinished group.
#[derive(Clone)]
pub struct SqliteReader {
    pool: Arc<Pool>,
}

struct Pool {
    data_dir: PathBuf,
    options: StoreOptions,
    state: Mutex<State>,
    returned: Condvar,
}

struct State {
    idle: Vec<Connection>,
    /// The number of existing connections, idle or lent.
    open: usize,
}

impl SqliteReader {
    /// Opens the database alongside anything else that runs on this data_dir. Fails if nothing was ever recorded there.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &StoreOptions::default())
    }

    /// Opens the database like [`SqliteReader::open`], with custom limits.
    pub fn open_with(data_dir: &Path, options: &StoreOptions) -> Result<Self, StoreError> {
        let first = schema::open_reader(data_dir, options)?;
        Ok(Self {
            pool: Arc::new(Pool {
                data_dir: data_dir.to_owned(),
                options: options.clone(),
                state: Mutex::new(State {
                    idle: vec![first],
                    open: 1,
                }),
                returned: Condvar::new(),
            }),
        })
    }

    /// Runs a few statements on one connection. Must not be called from within itself.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let lent = Lent {
            pool: &self.pool,
            conn: Some(self.pool.lend()?),
        };
        match &lent.conn {
            Some(conn) => work(conn),
            None => Err(StoreError::Closed),
        }
    }

    /// Closes the idle connections, so that the writer's is the last one. A later query opens one again.
    pub(crate) fn release(&self) {
        let mut state = self.pool.lock();
        state.open -= state.idle.len();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        self.pool.returned.notify_all();
    }
}

/// A lent connection. It is returned however the work ends, even by a panic.
struct Lent<'a> {
    pool: &'a Pool,
    conn: Option<Connection>,
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.pool.give_back(conn);
        }
    }
}

impl Pool {
    fn lend(&self) -> Result<Connection, StoreError> {
        let mut state = self.lock();
        loop {
            if let Some(conn) = state.idle.pop() {
                return Ok(conn);
            }
            if state.open < self.options.readers.max(1) {
                break;
            }
            state = self
                .returned
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        state.open += 1;
        drop(state);
        schema::open_reader(&self.data_dir, &self.options).inspect_err(|_| {
            self.lock().open -= 1;
            self.returned.notify_one();
        })
    }

    fn give_back(&self, conn: Connection) {
        self.lock().idle.push(conn);
        self.returned.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;
    use crate::sqlite::SqliteStore;

    #[test]
    fn a_panic_in_a_read_loses_no_connection() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions {
            readers: 1,
            ..StoreOptions::default()
        };
        let store = SqliteStore::open_with(dir.path(), &options).unwrap();
        for _ in 0..3 {
            let read = AssertUnwindSafe(|| {
                store
                    .reader
                    .with(|_| -> Result<(), StoreError> { panic!() })
            });
            assert!(catch_unwind(read).is_err());
            assert_eq!(
                store.reader.pool.lock().idle.len(),
                1,
                "the connection is gone"
            );
        }
        assert_eq!(store.reader.outbox_waiting().unwrap(), 0);
    }
}
