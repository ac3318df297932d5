//! Readers of a service's events: tasks that live as long as the service, and read what is left when it has ended.

use postroom_line::bus::{Bus, Heard};
use postroom_line::event_log;
use tokio::task::JoinSet;

/// Handles an event for a command. It runs on the runtime and must not wait.
pub type Read = Box<dyn FnMut(&Heard) + Send>;

/// Does the work of a service whose events go to each of `readers`. They have read all of them when this returns, however the work
/// ended.
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

/// The reader that logs.
pub fn log() -> Read {
    Box::new(event_log::log)
}
