//! Flap detection for a mailbox's sessions: sessions that end soon after a sign-in are not repeated without a pause.

use std::time::{Duration, Instant};

/// A session that lasts this long, or that brings mail, is a good one.
const GOOD: Duration = Duration::from_secs(60);

/// The failed sessions since the last good one.
#[derive(Debug, Default)]
pub struct SessionHealth {
    failed: u32,
    /// Those among them that were served and lost the connection soon after.
    short: u32,
    /// When the current session was first served.
    served: Option<Instant>,
    is_good: bool,
}

impl SessionHealth {
    /// Begins a session.
    pub fn begin(&mut self) {
        self.served = None;
        self.is_good = false;
    }

    /// Records that the current session was served again.
    pub fn served(&mut self, brought_mail: bool, now: Instant) {
        self.served.get_or_insert(now);
        self.is_good |= brought_mail || self.left(now).is_zero();
        if self.is_good {
            self.failed = 0;
            self.short = 0;
        }
    }

    /// Records that the current session failed. Returns true for a short session: one that was served and then lost the
    /// connection.
    pub fn failed(&mut self, by_connection: bool, now: Instant) -> bool {
        if self.served.is_some() {
            self.served(false, now);
        }
        let is_short = by_connection && self.served.is_some() && !self.is_good;
        self.failed = self.failed.saturating_add(1);
        self.short = self.short.saturating_add(u32::from(is_short));
        is_short
    }

    /// Clears the failures, because the cause of the last one is over.
    pub fn forgive(&mut self) {
        self.failed = 0;
    }

    /// Returns the number of failed sessions.
    pub fn failures(&self) -> u32 {
        self.failed
    }

    /// Returns how many of them were short.
    pub fn short(&self) -> u32 {
        self.short
    }

    /// Returns the time until the current session counts as good, or `None` if no session failed before it.
    pub fn until_good(&self, now: Instant) -> Option<Duration> {
        (self.failed > 0).then(|| self.left(now))
    }

    fn left(&self, now: Instant) -> Duration {
        let lasted = self.served.map(|at| now.saturating_duration_since(at));
        GOOD.saturating_sub(lasted.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_short_until_one_lasts_or_brings_mail() {
        let start = Instant::now();
        let mut streak = SessionHealth::default();
        for failures in 1..=3 {
            streak.begin();
            streak.served(false, start);
            assert!(streak.failed(true, start + GOOD / 2));
            assert_eq!((streak.failures(), streak.short()), (failures, failures));
        }
        // A session that was never served is not short, nor is one that another failure ended.
        streak.begin();
        assert!(!streak.failed(true, start));
        streak.begin();
        streak.served(false, start);
        assert_eq!(streak.until_good(start + GOOD / 4), Some(GOOD / 4 * 3));
        assert!(!streak.failed(false, start));
        assert_eq!((streak.failures(), streak.short()), (5, 3));

        streak.begin();
        streak.served(true, start);
        assert_eq!((streak.failures(), streak.short()), (0, 0));
        assert_eq!(streak.until_good(start), None);
        assert!(!streak.failed(true, start));
        assert_eq!((streak.failures(), streak.short()), (1, 0));

        streak.begin();
        streak.served(false, start);
        assert!(!streak.failed(true, start + GOOD));
        assert_eq!((streak.failures(), streak.short()), (1, 0));
    }
}
