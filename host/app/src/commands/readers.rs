//! Readers of a service's events: tasks that live as long as the service, and read the remaining events after it has ended.

use postroom_line::bus::{Bus, Heard};
use postroom_line::event_log;
use tokio::task::JoinSet;

/// Handles an event for a command. It runs on the runtime and must not wait.
pub type Read = Box<dyn FnMut(&Heard) + Send>;

/// Runs a service whose events go to each of `readers`. When this returns, they have read all events, however the service ended.
pub async fn with_readers<T>(
    bus: Bus,
    readers: impl IntoIterator<Item = Read>,
    work: impl AsyncFnOnce(&Bus) -> T,
) -> T {
    let mut tasks = JoinSet::new();
    for mut read in readers {
        let mut events = bus.reader();
        tasks.spawn(async move {
            while let Some(heard) = events.next().await {
                read(&heard);
            }
        });
    }
    let done = work(&bus).await;
    drop(bus);
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
    done
}

/// Returns the reader that logs.
pub fn log() -> Read {
    Box::new(event_log::log)
}
