//! Handles jumps of the wall clock: due times move with it, and nothing expires while the clock is in doubt.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use postroom_core::Clock;

/// The most by which a correct clock may differ from the last known time, and the time that a clock must run without a jump to be
/// trusted.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The smallest jump. A smaller difference is a correction by a time server and is ignored.
const LEAP_MIN: Duration = Duration::from_secs(60);

/// The wall clock, and how far it can be trusted.
#[derive(Debug)]
pub struct Timekeeper {
    clock: Clock,
    began: Instant,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    check: ClockCheck,
    /// The wall clock at the last check, and how long the process had been running then.
    looked: (i64, Duration),
}

/// A jump of the wall clock: it was set, or the machine slept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leap {
    /// The expected time, without the jump.
    pub expected_ms: i64,
    /// How far the clock jumped, forward or back.
    pub by_ms: i64,
}

impl Timekeeper {
    /// Creates a timekeeper. `known_ms` is the last time known from earlier runs, or `None` on the first run.
    pub fn new(clock: Clock, known_ms: Option<i64>) -> Self {
        let now_ms = clock.now_ms();
        Self {
            clock,
            began: Instant::now(),
            state: Mutex::new(State {
                check: ClockCheck::new(now_ms, known_ms, Duration::ZERO),
                looked: (now_ms, Duration::ZERO),
            }),
        }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// Returns whether ages can be trusted. See [`ClockCheck::is_confirmed`].
    pub fn is_confirmed(&self) -> bool {
        let (now_ms, running) = (self.clock.now_ms(), self.began.elapsed());
        self.state().check.is_confirmed(now_ms, running)
    }

    /// Returns the clock's jump since the last call, if any.
    pub fn leap(&self) -> Option<Leap> {
        let (now_ms, running) = (self.clock.now_ms(), self.began.elapsed());
        let (was_ms, was) = std::mem::replace(&mut self.state().looked, (now_ms, running));
        let expected_ms = was_ms.saturating_add(millis(running.saturating_sub(was)));
        let by_ms = now_ms.saturating_sub(expected_ms);
        (by_ms.unsigned_abs() >= millis(LEAP_MIN).unsigned_abs())
            .then_some(Leap { expected_ms, by_ms })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares the wall clock with a clock that never jumps.
#[derive(Debug)]
pub struct ClockCheck {
    /// The wall clock when it was first read, or after its last jump.
    anchor_ms: i64,
    /// How long the process had been running then.
    anchor: Duration,
    /// Whether the wall clock was within a day of the last known time.
    agrees: bool,
}

impl ClockCheck {
    /// Creates a check. `known_ms` is the last time known from earlier runs, or `None` on the first run.
    pub fn new(now_ms: i64, known_ms: Option<i64>, running: Duration) -> Self {
        Self {
            anchor_ms: now_ms,
            anchor: running,
            agrees: known_ms.is_none_or(|known| is_near(now_ms, known)),
        }
    }

    /// Returns whether the wall clock is within a day of the last known time, or has run for a day without a jump.
    pub fn is_confirmed(&mut self, now_ms: i64, running: Duration) -> bool {
        let since = running.saturating_sub(self.anchor);
        let expected = self.anchor_ms.saturating_add(millis(since));
        if !is_near(now_ms, expected) {
            *self = Self {
                anchor_ms: now_ms,
                anchor: running,
                agrees: false,
            };
            return false;
        }
        self.agrees || since >= DAY
    }
}

fn is_near(one_ms: i64, other_ms: i64) -> bool {
    one_ms.abs_diff(other_ms) <= millis(DAY).unsigned_abs()
}

fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(60 * 60);
    const NOW: i64 = 1_753_012_800_000;

    fn days(days: i64) -> i64 {
        days * millis(DAY)
    }

    #[test]
    fn a_clock_near_the_last_known_time_is_believed_at_once() {
        for known in [None, Some(NOW), Some(NOW - days(1)), Some(NOW + days(1))] {
            assert!(
                ClockCheck::new(NOW, known, HOUR).is_confirmed(NOW, HOUR),
                "{known:?}"
            );
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_believed_after_a_day() {
        for off in [days(400), days(-400), days(2)] {
            let mut check = ClockCheck::new(NOW + off, Some(NOW), HOUR);
            let at = |hours: u32| (NOW + off + millis(HOUR * hours), HOUR * (hours + 1));
            for (hours, expected) in [(0, false), (1, false), (23, false), (24, true), (25, true)] {
                let (now, running) = at(hours);
                assert_eq!(
                    check.is_confirmed(now, running),
                    expected,
                    "{off} after {hours} h"
                );
            }
        }
    }

    #[test]
    fn a_leap_while_running_is_believed_after_another_day() {
        let mut check = ClockCheck::new(NOW, Some(NOW), HOUR);
        assert!(check.is_confirmed(NOW + millis(HOUR), HOUR * 2));
        let leapt = NOW + days(400);
        assert!(!check.is_confirmed(leapt, HOUR * 3));
        assert!(!check.is_confirmed(leapt + millis(HOUR), HOUR * 4));
        // The clock is corrected, which is another jump.
        assert!(!check.is_confirmed(NOW + millis(HOUR * 4), HOUR * 5));
        assert!(check.is_confirmed(NOW + millis(HOUR * 28), HOUR * 29));
    }
}
