//! The service's tasks, each with a name, so that the log says which one panicked and which one a stop waits for.

use std::collections::HashMap;
use std::future::{Future, pending};
use std::pin::Pin;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, interval_at, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// The number of tasks that may be ordered and not yet started.
const ORDERED: usize = 64;
/// The interval at which a drain logs what it waits for.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Tasks that run until the service stops. Dropping this aborts them all.
#[derive(Default)]
pub struct Parts {
    tasks: JoinSet<()>,
    names: HashMap<Id, String>,
    /// Descriptions of tasks that say more than their names.
    details: HashMap<String, Describe>,
    /// Tasks that other tasks start.
    ordered: Option<mpsc::Receiver<OrderedPart>>,
}

/// Starts tasks while the others run.
#[derive(Clone)]
pub struct Spawner(mpsc::Sender<OrderedPart>);

struct OrderedPart {
    span: Span,
    name: String,
    part: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Spawner {
    /// Starts a task in its own span, unless the service is stopping.
    pub async fn spawn_in(
        &self,
        span: Span,
        name: impl Into<String>,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let ordered = OrderedPart {
            span,
            name: name.into(),
            part: Box::pin(part),
        };
        // Nothing takes orders any more.
        let _ = self.0.send(ordered).await;
    }
}

/// Describes what a task waits for; empty if its name says it all.
type Describe = Box<dyn Fn() -> Vec<String> + Send>;

/// A task that panicked.
#[derive(Debug, thiserror::Error)]
#[error("task `{name}` panicked")]
pub struct Died {
    pub name: String,
    #[source]
    pub error: JoinError,
}

/// A stop that waits for tasks.
struct Drain {
    deadline: Instant,
    reports: Interval,
}

impl Parts {
    /// Starts a task in a span with its name.
    pub fn spawn(
        &mut self,
        name: impl Into<String>,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let name = name.into();
        // The highest level, so that every log line within it names the task.
        let span = tracing::error_span!("part", part = %name);
        self.spawn_in(span, name, part);
    }

    /// Starts a task in its own span.
    pub fn spawn_in(
        &mut self,
        span: Span,
        name: impl Into<String>,
        part: impl Future<Output = ()> + Send + 'static,
    ) {
        let handle = self.tasks.spawn(part.instrument(span));
        self.names.insert(handle.id(), name.into());
    }

    /// Returns the means to start tasks while the others run.
    pub fn spawner(&mut self) -> Spawner {
        let (orders, ordered) = mpsc::channel(ORDERED);
        self.ordered = Some(ordered);
        Spawner(orders)
    }

    /// Registers a description of what the task with this name waits for.
    pub fn describe(
        &mut self,
        name: impl Into<String>,
        detail: impl Fn() -> Vec<String> + Send + 'static,
    ) {
        self.details.insert(name.into(), Box::new(detail));
    }

    /// Runs the tasks until they end. If one panics, `stop` is cancelled. From then on they have as long as `limit`; tasks that
    /// have not ended by then are logged and aborted.
    pub async fn run(
        mut self,
        stop: &CancellationToken,
        limit: impl Fn() -> Duration,
    ) -> Result<(), Died> {
        let mut died = None;
        let mut ordered = self.ordered.take();
        let mut drain: Option<Drain> = None;
        loop {
            tokio::select! {
                ended = self.next() => match ended {
                    None => break,
                    Some(Ok(())) => {}
                    Some(Err(part)) => {
                        tracing::error!(error = %part.error, "{part}; shutting down");
                        stop.cancel();
                        died.get_or_insert(part);
                    }
                },
                Some(order) = next_order(&mut ordered), if drain.is_none() => {
                    self.spawn_in(order.span, order.name, order.part);
                }
                () = stop.cancelled(), if drain.is_none() => {
                    // A task that orders another part must not wait for it.
                    ordered = None;
                    let now = Instant::now();
                    drain = Some(Drain {
                        deadline: now + limit(),
                        reports: interval_at(now + REPORT_EVERY, REPORT_EVERY),
                    });
                }
                is_over = next_report(&mut drain) => {
                    let parts = self.waiting();
                    if is_over {
                        let limit_secs = limit().as_secs();
                        tracing::warn!(?parts, limit_secs, "drain limit reached; these parts are left, and the next start resumes their work");
                        break;
                    }
                    tracing::info!(?parts, "draining");
                }
            }
        }
        match died {
            Some(part) => Err(part),
            None => Ok(()),
        }
    }

    /// Waits for the next task to end. Returns `None` when all have ended.
    async fn next(&mut self) -> Option<Result<(), Died>> {
        let ended = self.tasks.join_next_with_id().await?;
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        let name = self.names.remove(&id).unwrap_or_default();
        Some(match ended {
            Ok(_) => Ok(()),
            Err(error) => Err(Died { name, error }),
        })
    }

    /// Returns the names of the running tasks, with more detail where there is any.
    fn waiting(&self) -> Vec<String> {
        let names = self.names.values();
        let mut waiting: Vec<String> = names
            .flat_map(|name| {
                let detail = self.details.get(name).map(|detail| detail());
                match detail.filter(|it| !it.is_empty()) {
                    Some(detail) => detail,
                    None => vec![name.clone()],
                }
            })
            .collect();
        waiting.sort();
        waiting
    }
}

async fn next_order(ordered: &mut Option<mpsc::Receiver<OrderedPart>>) -> Option<OrderedPart> {
    ordered.as_mut()?.recv().await
}

/// Waits until the drain is due for a report or has reached its limit. Returns whether it has reached its limit.
async fn next_report(drain: &mut Option<Drain>) -> bool {
    match drain {
        None => pending().await,
        Some(drain) => tokio::select! {
            biased;
            () = sleep_until(drain.deadline) => true,
            _ = drain.reports.tick() => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Longer than any test waits.
    const LIMIT: Duration = Duration::from_secs(600);

    /// Records that it is dropped.
    struct Noted(Arc<AtomicBool>);

    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn a_part_that_dies_is_named_and_stops_the_others() {
        let stop = CancellationToken::new();
        let mut parts = Parts::default();
        parts.spawn("quiet", stop.clone().cancelled_owned());
        parts.spawn("mailbox support", async { panic!("a defect") });
        let died = parts.run(&stop, || LIMIT).await.unwrap_err();
        assert_eq!(died.to_string(), "task `mailbox support` panicked");
    }

    #[tokio::test]
    async fn a_drain_waits_for_a_part_that_ends_within_its_limit() {
        let (stop, ended) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let mut parts = Parts::default();
        let (stopped, noted) = (stop.clone(), ended.clone());
        parts.spawn("deliveries", async move {
            stopped.cancelled().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            noted.store(true, Ordering::Relaxed);
        });
        stop.cancel();
        parts.run(&stop, || LIMIT).await.unwrap();
        assert!(ended.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_part_that_hangs_is_left_at_the_limit() {
        let (stop, dropped) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
        let mut parts = Parts::default();
        let noted = Noted(dropped.clone());
        parts.spawn("mailbox support", async move {
            let _noted = noted;
            pending().await
        });
        stop.cancel();
        parts
            .run(&stop, || Duration::from_millis(20))
            .await
            .unwrap();
        // Aborted tasks are dropped by their threads.
        while !dropped.load(Ordering::Relaxed) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_drain_waits_for_is_named() {
        let mut parts = Parts::default();
        for name in ["shadows", "mailbox support", "deliveries"] {
            parts.spawn(name, pending());
        }
        parts.describe("deliveries", || {
            vec!["deliveries psa".into(), "deliveries backup".into()]
        });
        parts.describe("shadows", Vec::new);
        let named = [
            "deliveries backup",
            "deliveries psa",
            "mailbox support",
            "shadows",
        ];
        assert_eq!(parts.waiting(), named);
    }
}
