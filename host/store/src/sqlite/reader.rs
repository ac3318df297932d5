//! Read-only connections beside the writer, shared by a few threads; also what the listing commands open.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rusqlite::Connection;

use super::options::StoreOptions;
use super::schema;
use crate::StoreError;

/// Blocking questions to the database; cheap to clone. It sees what is committed, and nothing of a group still in the making.
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
    /// Connections in existence, idle or lent.
    open: usize,
}

impl SqliteReader {
    /// Opens beside whatever else runs on this data_dir. Refused when nothing was ever recorded there.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(data_dir, &StoreOptions::default())
    }

    /// As [`SqliteReader::open`], with limits of one's own.
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

    /// Runs a few statements on one connection. Never call it from within itself.
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

    /// Closes the idle connections, so that the writer's is the last one. A later question opens one again.
    pub(crate) fn release(&self) {
        let mut state = self.pool.lock();
        state.open -= state.idle.len();
        let idle = std::mem::take(&mut state.idle);
        drop(state);
        drop(idle);
        self.pool.returned.notify_all();
    }
}

/// A lent connection. It goes back however the work ends, also by a panic.
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
