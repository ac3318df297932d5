//! The event bus: bounded, with any number of readers. Publishing never waits; a lagging reader receives the number of events it
//! missed.

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::event::LineEvent;

/// The number of events that a reader may fall behind; the mails of one commit are one event. Events hold decisions, whose size
/// `limits.output` bounds, and no mail.
const CAPACITY: usize = 256;

/// The bus, held by the command that starts a service. When it is dropped, readers read the remaining events and then end.
pub struct Bus(broadcast::Sender<LineEvent>);

/// The publishing end of the bus, held by the line. It does not keep the bus open.
#[derive(Clone)]
pub struct Publisher(broadcast::WeakSender<LineEvent>);

/// A reader of all events published after its creation.
pub struct Reader(broadcast::Receiver<LineEvent>);

/// An item received by a reader.
pub enum Heard {
    Event(LineEvent),
    /// The reader was too slow and lost this many events.
    Lagged(u64),
}

impl Default for Bus {
    fn default() -> Self {
        Self(broadcast::Sender::new(CAPACITY))
    }
}

impl Bus {
    pub fn publisher(&self) -> Publisher {
        Publisher(self.0.downgrade())
    }

    pub fn reader(&self) -> Reader {
        Reader(self.0.subscribe())
    }
}

impl Publisher {
    /// Publishes what `build` returns. Without readers, `build` is not called.
    pub fn publish(&self, build: impl FnOnce() -> LineEvent) {
        if let Some(bus) = self.0.upgrade()
            && bus.receiver_count() > 0
        {
            // The last reader may have gone since the check.
            let _ = bus.send(build());
        }
    }

    /// Returns a reader for a task of the service itself, or `None` when the bus is closed.
    pub fn reader(&self) -> Option<Reader> {
        Some(Reader(self.0.upgrade()?.subscribe()))
    }
}

impl Reader {
    /// Waits for the next event. Returns `None` when the bus is closed and every event has been read.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(events)) => Some(Heard::Lagged(events)),
            Err(RecvError::Closed) => None,
        }
    }

    /// Returns the next event if there already is one.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.0.try_recv() {
            Ok(event) => Some(Heard::Event(event)),
            Err(TryRecvError::Lagged(events)) => Some(Heard::Lagged(events)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use postroom_rules::directory::DirectoryReloaded;
    use std::sync::Arc;

    fn event() -> LineEvent {
        LineEvent::DirectoryReloaded(Arc::new(DirectoryReloaded::default()))
    }

    #[tokio::test]
    async fn a_slow_reader_stalls_nobody_and_learns_how_much_it_missed() {
        let bus = Bus::default();
        let publisher = bus.publisher();
        let (mut slow, mut quick) = (bus.reader(), bus.reader());
        let mut read = 0;
        // Publishing never suspends.
        for _ in 0..CAPACITY + 7 {
            publisher.publish(event);
            read += usize::from(matches!(quick.try_next(), Some(Heard::Event(_))));
        }
        drop(bus);
        assert_eq!(read, CAPACITY + 7);
        assert!(matches!(slow.next().await, Some(Heard::Lagged(7))));
        let mut left = 0;
        while let Some(heard) = slow.next().await {
            assert!(matches!(heard, Heard::Event(_)));
            left += 1;
        }
        assert_eq!(left, CAPACITY);
    }

    #[tokio::test]
    async fn a_reader_within_the_bound_misses_nothing() {
        let bus = Bus::default();
        let mut reader = bus.reader();
        for _ in 0..CAPACITY {
            bus.publisher().publish(event);
        }
        drop(bus);
        for _ in 0..CAPACITY {
            assert!(matches!(reader.next().await, Some(Heard::Event(_))));
        }
        assert!(reader.next().await.is_none());
    }

    #[test]
    fn nothing_is_built_where_nobody_reads() {
        let bus = Bus::default();
        let publisher = bus.publisher();
        publisher.publish(|| unreachable!("nobody reads"));
        let reader = bus.reader();
        drop(bus);
        publisher.publish(|| unreachable!("the bus is closed"));
        assert!(publisher.reader().is_none());
        drop(reader);
    }
}
