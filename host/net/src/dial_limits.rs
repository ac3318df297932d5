//! Limits on connection attempts: a number at the same time to one host, and a number in a second to all hosts together.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// The connection attempts of one process.
#[derive(Debug)]
pub struct DialLimits {
    per_host: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// By the name that a configuration gives them.
    hosts: HashMap<String, Weak<Semaphore>>,
    pace: Pace,
}

/// When attempts may begin, whatever their hosts: evenly spaced, without a burst after a pause.
#[derive(Debug)]
struct Pace {
    interval: Duration,
    /// When the next attempt may begin.
    next: Instant,
}

/// The connection attempts to one host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostDials {
    limits: Arc<DialLimits>,
    host: Arc<Semaphore>,
}

/// One connection attempt in progress. Dropping it lets the next one begin.
#[derive(Debug)]
pub struct DialPermit {
    _host: OwnedSemaphorePermit,
}

impl DialLimits {
    pub fn new(per_host: u32, per_second: u32) -> Self {
        Self {
            per_host: per_host.max(1) as usize,
            state: Mutex::new(State {
                hosts: HashMap::new(),
                pace: Pace::new(per_second),
            }),
        }
    }

    /// Returns the attempts to a host, which all who name it share.
    pub fn to(self: &Arc<Self>, host: &str) -> HostDials {
        let mut state = self.state();
        let known = state.hosts.get(host).and_then(Weak::upgrade);
        let host = known.unwrap_or_else(|| {
            let made = Arc::new(Semaphore::new(self.per_host));
            state.hosts.retain(|_, it| it.strong_count() > 0);
            state.hosts.insert(host.to_owned(), Arc::downgrade(&made));
            made
        });
        drop(state);
        HostDials {
            limits: self.clone(),
            host,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self {
            interval: Duration::from_secs(1) / per_second.max(1),
            next: Instant::now(),
        }
    }

    /// Returns when an attempt that is wanted now may begin, and leaves the time after it to the next one.
    fn turn(&mut self, now: Instant) -> Instant {
        let at = self.next.max(now);
        self.next = at + self.interval;
        at
    }
}

impl HostDials {
    /// Waits until a connection attempt may begin. The permit is held until the attempt has ended, sign-in included. A host that
    /// does not answer holds up attempts to itself only.
    pub async fn permit(&self) -> DialPermit {
        // Nothing closes the semaphore.
        let Ok(host) = self.host.clone().acquire_owned().await else {
            return std::future::pending().await;
        };
        let turn = self.limits.state().pace.turn(Instant::now());
        sleep_until(turn).await;
        DialPermit { _host: host }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::task::JoinSet;

    use super::*;

    /// A rate at which the pace delays nothing.
    const ANY: u32 = 1_000_000;

    /// Returns when 2,000 attempts that are all wanted at the same time may begin.
    fn turns_of_2000(per_second: u32) -> Vec<Duration> {
        let mut pace = Pace::new(per_second);
        let start = pace.next;
        (0..2000).map(|_| pace.turn(start) - start).collect()
    }

    #[test]
    fn two_thousand_attempts_at_once_are_spread_over_time() {
        let turns = turns_of_2000(100);
        assert_eq!(turns[0], Duration::ZERO);
        assert_eq!(turns[1999], Duration::from_millis(19_990));
        for second in 0..20 {
            let second = Duration::from_secs(second)..Duration::from_secs(second + 1);
            let begun = turns.iter().filter(|at| second.contains(at)).count();
            assert_eq!(begun, 100, "{second:?}");
        }
        assert_eq!(turns_of_2000(100), turns);
    }

    #[test]
    fn a_pause_saves_up_no_turns() {
        let mut pace = Pace::new(100);
        let later = pace.next + Duration::from_secs(60);
        let turns = [(); 3].map(|()| pace.turn(later) - later);
        assert_eq!(turns, [0, 10, 20].map(Duration::from_millis));
    }

    #[tokio::test]
    async fn attempts_at_one_host_stay_within_their_number() {
        let limits = Arc::new(DialLimits::new(3, ANY));
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..200 {
            let (dials, now, most) = (limits.to("one.example"), now.clone(), most.clone());
            tasks.spawn(async move {
                let _permit = dials.permit().await;
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(1)).await;
                now.fetch_sub(1, Ordering::SeqCst);
            });
        }
        assert_eq!(tasks.join_all().await.len(), 200);
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn a_host_that_does_not_answer_holds_up_only_itself() {
        let limits = Arc::new(DialLimits::new(2, ANY));
        let dead = limits.to("dead.example");
        let held = (dead.permit().await, dead.permit().await);
        let waiting = tokio::spawn({
            let dead = limits.to("dead.example");
            async move { dead.permit().await }
        });
        let _other = limits.to("alive.example").permit().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_takes_no_turn_from_the_next() {
        let limits = Arc::new(DialLimits::new(1, ANY));
        let dials = limits.to("one.example");
        let first = dials.permit().await;
        tokio::select! {
            biased;
            _ = dials.permit() => panic!("there is one permit"),
            () = tokio::task::yield_now() => {}
        }
        drop(first);
        let _second = dials.permit().await;
    }
}
