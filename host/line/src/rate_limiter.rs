//! The rate limiter of a tenant's mails per minute: a token bucket. Mail over the limit waits in the journal.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A full bucket holds one minute's mails, so that many may be decided at once.
const MINUTE: Duration = Duration::from_secs(60);

/// The budget of one tenant, shared by its mailboxes.
pub struct RateLimiter {
    tenant: String,
    state: Mutex<State>,
}

struct State {
    bucket: Bucket,
    /// Mailboxes with mail that is held back.
    holding: BTreeSet<String>,
    hold_log: HoldLog,
}

/// The token bucket itself. The caller passes the time.
struct Bucket {
    per_minute: u32,
    /// The time it takes to earn one mail.
    interval: Duration,
    /// The time at which the bucket will be full again.
    full_at: Instant,
}

/// Limits "held back" messages, logged as start and end pairs: a tenant right at its budget would otherwise fill the log.
#[derive(Default)]
struct HoldLog {
    began: Option<Instant>,
    aloud: bool,
}

impl RateLimiter {
    pub fn new(tenant: &str, per_minute: u32) -> Self {
        Self {
            tenant: tenant.to_owned(),
            state: Mutex::new(State {
                bucket: Bucket::new(per_minute, Instant::now()),
                holding: BTreeSet::new(),
                hold_log: HoldLog::default(),
            }),
        }
    }

    pub fn per_minute(&self) -> u32 {
        self.lock().bucket.per_minute
    }

    /// Takes as many of the `wanted` mails as may be decided now. If that is not all, the mailbox counts as holding mail back.
    pub fn admit(&self, mailbox: &str, wanted: usize) -> usize {
        let now = Instant::now();
        let mut state = self.lock();
        let admitted = state.bucket.take(wanted, now);
        if admitted < wanted {
            let is_first = state.holding.is_empty();
            state.holding.insert(mailbox.to_owned());
            if is_first && state.hold_log.begin(now) {
                tracing::warn!(tenant = %self.tenant, mailbox, mails_per_minute = state.bucket.per_minute,
                    "mail is held back by the tenant's mails_per_minute: it is journalled and safe, and is decided as the budget allows");
            }
        }
        admitted
    }

    /// Records that no mail of the mailbox is held back any more.
    pub fn release(&self, mailbox: &str) {
        let mut state = self.lock();
        let is_last = state.holding.remove(mailbox) && state.holding.is_empty();
        if is_last && state.hold_log.aloud {
            tracing::info!(tenant = %self.tenant, "all mail that was held back by mails_per_minute is decided");
        }
    }

    /// Returns how many mails may be decided now.
    pub fn left(&self) -> usize {
        self.lock().bucket.left(Instant::now())
    }

    /// Returns the time until another mail may be decided.
    pub fn until_next(&self) -> Duration {
        self.lock().bucket.until_next(Instant::now())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bucket {
    fn new(per_minute: u32, now: Instant) -> Self {
        Self {
            per_minute,
            interval: MINUTE / per_minute.max(1),
            full_at: now,
        }
    }

    fn take(&mut self, wanted: usize, now: Instant) -> usize {
        let taken = wanted.min(self.left(now));
        let spent = self.interval * u32::try_from(taken).unwrap_or(u32::MAX);
        self.full_at = self.full_at.max(now) + spent;
        taken
    }

    fn left(&self, now: Instant) -> usize {
        let missing = self.full_at.saturating_duration_since(now);
        let earned = MINUTE.saturating_sub(missing).as_nanos() / self.interval.as_nanos().max(1);
        usize::try_from(earned.min(u128::from(self.per_minute))).unwrap_or(0)
    }

    fn until_next(&self, now: Instant) -> Duration {
        let missing = self.full_at.saturating_duration_since(now);
        (missing + self.interval).saturating_sub(MINUTE)
    }
}

impl HoldLog {
    fn begin(&mut self, now: Instant) -> bool {
        self.aloud = self.began.is_none_or(|began| now - began >= MINUTE);
        if self.aloud {
            self.began = Some(now);
        }
        self.aloud
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_minutes_mails_are_given_at_once_and_then_one_by_one() {
        let start = Instant::now();
        let mut bucket = Bucket::new(60, start);
        assert_eq!(bucket.take(50, start), 50);
        assert_eq!(bucket.until_next(start), Duration::ZERO);
        assert_eq!(bucket.take(50, start), 10);
        assert_eq!(bucket.take(50, start), 0);
        assert_eq!(bucket.until_next(start), SECOND);
        let later = start + SECOND / 2;
        assert_eq!(bucket.take(1, later), 0);
        assert_eq!(bucket.until_next(later), SECOND / 2);
        assert_eq!(bucket.take(50, start + 3 * SECOND), 3);
    }

    #[test]
    fn no_more_than_a_minutes_mails_are_saved_up() {
        let start = Instant::now();
        let mut bucket = Bucket::new(7, start);
        assert_eq!(bucket.take(100, start + 3600 * SECOND), 7);
    }

    #[test]
    fn over_an_hour_it_gives_what_it_holds_and_what_it_earned() {
        for per_minute in [1, 7, 600, 999_999] {
            let start = Instant::now();
            let mut bucket = Bucket::new(per_minute, start);
            let given: usize = (0..=360)
                .map(|step| bucket.take(usize::MAX, start + step * 10 * SECOND))
                .sum();
            let due = per_minute as usize * 61;
            assert!(given.abs_diff(due) <= due / 1000 + 1, "{given} of {due}");
        }
    }

    #[test]
    fn a_tenant_just_at_its_budget_is_told_of_once_a_minute() {
        let start = Instant::now();
        let mut hold_log = HoldLog::default();
        let told = [0, 1, 59, 60, 100, 119, 120].map(|secs| hold_log.begin(start + secs * SECOND));
        assert_eq!(told, [true, false, false, true, false, false, true]);
    }

    #[test]
    fn mailboxes_share_one_budget_and_the_last_one_ends_the_holding() {
        let budget = RateLimiter::new("acme", 2);
        assert_eq!(budget.admit("first", 2), 2);
        assert_eq!(budget.admit("first", 1), 0);
        assert_eq!(budget.admit("second", 1), 0);
        budget.release("first");
        assert_eq!(budget.lock().holding.len(), 1);
        budget.release("second");
        assert!(budget.lock().holding.is_empty());
        assert_eq!(budget.left(), 0);
        assert!(budget.until_next() > 29 * SECOND);
    }
}
