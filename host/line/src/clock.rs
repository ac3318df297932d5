//! Whether the machine's clock can be believed. Mail is dropped for its age only while it can.

use std::time::Duration;

/// As far as a right clock may be from the last known time, and as long as a clock must run to be believed.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The wall clock beside a clock that never leaps.
#[derive(Debug)]
pub struct ClockCheck {
    /// The wall clock when it was first looked at, or after it last leapt.
    anchor_ms: i64,
    /// How long the process had run then.
    anchor: Duration,
    /// Whether the wall clock was within a day of the last known time.
    agrees: bool,
}

impl ClockCheck {
    /// `known_ms` is the last time that is known from earlier runs; none when there were none.
    pub fn new(now_ms: i64, known_ms: Option<i64>, running: Duration) -> Self {
        Self {
            anchor_ms: now_ms,
            anchor: running,
            agrees: known_ms.is_none_or(|known| is_near(now_ms, known)),
        }
    }

    /// Returns whether the wall clock agrees with the last known time within a day, or has run for a day without a leap.
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
        // It was set right again: another leap.
        assert!(!check.is_confirmed(NOW + millis(HOUR * 4), HOUR * 5));
        assert!(check.is_confirmed(NOW + millis(HOUR * 28), HOUR * 29));
    }
}
