//! The only thread that writes: it takes all queued jobs, runs them in one transaction, and replies once that is on disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

use super::installation::Installation;
use super::options::StoreOptions;
use super::run;
use super::schema::Lock;
use crate::StoreError;

/// The queue to the writer thread.
pub(crate) struct Writer {
    queue: mpsc::Sender<Order>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Order {
    Job(Box<dyn Job>),
    Stop,
}

/// A unit of work whose caller waits for it.
trait Job: Send {
    /// Returns roughly how many bytes it will write.
    fn weight_bytes(&self) -> usize;
    fn run(&mut self, conn: &Connection) -> Result<(), StoreError>;
    /// Informs the caller, given the result of the group.
    fn answer(self: Box<Self>, group: Result<(), StoreError>);
}

struct Task<T, F> {
    weight_bytes: usize,
    work: Option<F>,
    outcome: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl Writer {
    /// Starts the thread. It owns the lock too, so that the lock is released after the connection.
    pub(crate) fn start(
        conn: Connection,
        lock: Lock,
        installation: Arc<Installation>,
        options: &StoreOptions,
    ) -> Result<Self, StoreError> {
        let (queue, orders) = mpsc::channel(options.queue_jobs.max(1));
        let (jobs, bytes) = (options.group_jobs.max(1), options.group_bytes);
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || {
                serve(&conn, orders, jobs, bytes);
                run::end(&conn, &installation);
                drop(conn);
                drop(lock);
            })
            .map_err(|e| StoreError::io("store-writer", e))?;
        Ok(Self {
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Queues work and waits until it is durable. Once queued, it is done even if the caller goes away.
    pub(crate) async fn submit<T, F>(&self, weight_bytes: usize, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let task = Task {
            weight_bytes,
            work: Some(work),
            outcome: None,
            reply,
        };
        self.queue
            .send(Order::Job(Box::new(task)))
            .await
            .map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Does what is queued, then ends the thread and waits for it. A second call does nothing.
    pub(crate) fn close(&self) {
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(thread) = thread else { return };
        let mut stop = Order::Stop;
        // Blocking is not strictly allowed in async code, but the thread empties the queue, so there will soon be room.
        while let Err(TrySendError::Full(order)) = self.queue.try_send(stop) {
            stop = order;
            std::thread::sleep(Duration::from_millis(1));
        }
        if thread.join().is_err() {
            tracing::error!("the store's writer thread ended by a panic");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.close();
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
{
    fn weight_bytes(&self) -> usize {
        self.weight_bytes
    }

    fn run(&mut self, conn: &Connection) -> Result<(), StoreError> {
        let Some(work) = self.work.take() else {
            return Ok(());
        };
        let outcome = work(conn);
        let told = outcome.as_ref().map(|_| ()).map_err(Clone::clone);
        self.outcome = Some(outcome);
        told
    }

    fn answer(self: Box<Self>, group: Result<(), StoreError>) {
        let answer = match group {
            Err(e) => Err(e),
            Ok(()) => self.outcome.unwrap_or(Err(StoreError::Closed)),
        };
        // A caller that has gone away needs no reply.
        let _ = self.reply.send(answer);
    }
}

fn serve(conn: &Connection, mut orders: mpsc::Receiver<Order>, max_jobs: usize, max_bytes: usize) {
    while let Some(first) = orders.blocking_recv() {
        let mut group = Vec::new();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Stop => orders.close(),
                Order::Job(job) => {
                    bytes += job.weight_bytes();
                    group.push(job);
                }
            }
            next = (group.len() < max_jobs && bytes < max_bytes)
                .then(|| orders.try_recv().ok())
                .flatten();
        }
        if group.is_empty() {
            continue;
        }
        let outcome = run_group(conn, &mut group);
        if let Err(error) = &outcome {
            tracing::debug!(jobs = group.len(), %error, "a group of writes was rolled back");
        }
        for job in group {
            job.answer(outcome.clone());
        }
    }
}

fn run_group(conn: &Connection, group: &mut [Box<dyn Job>]) -> Result<(), StoreError> {
    execute(conn, "BEGIN IMMEDIATE")?;
    let outcome = group
        .iter_mut()
        .try_for_each(|job| run_job(conn, job.as_mut()))
        .and_then(|()| execute(conn, "COMMIT"));
    // SQLite may have rolled back by itself, as it does on a full disk.
    if outcome.is_err() && !conn.is_autocommit() {
        execute(conn, "ROLLBACK")?;
    }
    outcome
}

/// Runs one job. A returned error aborts the group; an error of the job alone only rolls the job back and is kept for its caller.
fn run_job(conn: &Connection, job: &mut dyn Job) -> Result<(), StoreError> {
    execute(conn, "SAVEPOINT job")?;
    match job.run(conn) {
        Ok(()) => execute(conn, "RELEASE job"),
        Err(error) if error.aborts_transaction() || conn.is_autocommit() => Err(error),
        Err(_) => {
            execute(conn, "ROLLBACK TO job")?;
            execute(conn, "RELEASE job")
        }
    }
}

fn execute(conn: &Connection, sql: &str) -> Result<(), StoreError> {
    conn.prepare_cached(sql)?.execute([])?;
    Ok(())
}
