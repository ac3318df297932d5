//! The wall clock, passed to what decides by time of day.
//!
//! Two clocks serve the house:
//! - This one gives the time of day: due times, retention, token expiry, signatures, whatever is stored or shown. It may leap, because
//!   people and time servers set it. The composition root makes one [`Clock`] and passes it on; tests pass one that they set.
//! - `std::time::Instant` and tokio's timers measure how long something takes: timeouts of connections, rate limiters, circuit breakers,
//!   computing time of rules, session health. No leap reaches them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// Gives the time of day. Cheap to clone; every clone is the same clock.
#[derive(Clone)]
pub struct Clock {
    read: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// The hand that sets a clock of [`Clock::settable`].
#[derive(Debug, Clone)]
pub struct ClockHand(Arc<AtomicI64>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self {
            read: Arc::new(Timestamp::now),
        }
    }

    /// A clock for tests: it stands still at `start` until its hand is moved.
    pub fn settable(start: Timestamp) -> (Self, ClockHand) {
        let hand = ClockHand(Arc::new(AtomicI64::new(start.as_millisecond())));
        let read = hand.clone();
        let clock = Self {
            read: Arc::new(move || read.now()),
        };
        (clock, hand)
    }

    pub fn now(&self) -> Timestamp {
        (self.read)()
    }

    /// Milliseconds since 1970 in UTC.
    pub fn now_ms(&self) -> i64 {
        self.now().as_millisecond()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl ClockHand {
    /// Moves the clock to a time, forward or back.
    pub fn set(&self, to: Timestamp) {
        self.0.store(to.as_millisecond(), Ordering::SeqCst);
    }

    /// Moves the clock by seconds, which may be negative.
    pub fn leap(&self, secs: i64) {
        self.0.fetch_add(secs * 1000, Ordering::SeqCst);
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_clone_is_the_same_clock_and_leaps_with_it() {
        let start: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
        let (clock, hand) = Clock::settable(start);
        let other = clock.clone();
        assert_eq!(other.now(), start);
        hand.leap(-24 * 60 * 60);
        assert_eq!(other.now().to_string(), "2026-11-29T12:00:00Z");
        hand.set(Timestamp::UNIX_EPOCH);
        assert_eq!((clock.now_ms(), other.now_ms()), (0, 0));
    }
}
