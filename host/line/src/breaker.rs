//! A circuit breaker around one target: while the target as a whole accepts nothing, its entries wait without their attempts
//! being counted, and one at a time is sent as a probe.
//!
//! One failed attempt proves little: a receiver that is down, a proxy in front of it, and a single entry that it chokes on may
//! all produce 400 or 500. A failure therefore counts against an entry only if the target accepted others in the meantime, or if
//! the reply is about the entry itself and the entries before it were accepted.
//!
//! ```text
//!            failure of the target, or RUN entries refused in a row
//! closed ─────────────────────────────────────────────────────────→ open ─ pause ─→ probe ─┐
//!   ↑                                                                 ↑                     │
//!   └──────────────────────────── taken ──────────────────────────────┼─────────────────────┤
//!                                                                     └───── failed ────────┘
//! ```
//! The breaker reads no clock and logs nothing: the caller passes the time and logs the reported events.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use postroom_core::backoff::Backoff;
use postroom_target::{Fault, ProbeInterval, Scope, Severity};

use super::REFUSED_PASSWORD;

/// The pauses between probes.
const PROBES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
    spread_percent: 25,
};
/// The pause while there is no token. No server is contacted; news of the account ends the wait early.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);
/// This many consecutive refusals without a delivery count as the target's fault, since a proxy may be replying in its place.
const RUN: usize = 3;
/// The interval at which a lasting outage is reported again.
const SUMMARY_EVERY: Duration = Duration::from_secs(10 * 60);
/// The shortest interval between reports about a target that flaps.
const FLAPPING: Duration = Duration::from_secs(60);
/// The number of failed entries that are remembered.
const SUSPECTS: usize = 1_000;

/// The consequence of a failed attempt for its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The target is down: the entry waits, and no attempt is counted.
    Hold,
    /// The target refused this entry.
    Refused,
}

/// An event to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BreakerEvent {
    Down(Severity),
    StillDown(Severity),
    Recovered { problem: String },
}

/// The state of one target's circuit breaker.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    outage: Option<Outage>,
    /// Entries that failed, each with the number of others accepted before.
    suspects: HashMap<i64, u64>,
    taken: u64,
    /// Entries refused since one was last accepted.
    run: Vec<i64>,
    /// Entries that were sent as probes in this round, so that each waiting entry has its turn.
    probed: HashSet<i64>,
    last_reported: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    /// The number of failed probes.
    failures: u32,
    until: Instant,
    problem: String,
    reported: Option<Instant>,
}

impl CircuitBreaker {
    /// Returns how long attempts remain suspended.
    pub fn held_for(&self, now: Instant) -> Option<Duration> {
        let left = self.outage.as_ref()?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Returns how many attempts may run at once: none during a pause, one as a probe, otherwise the target's own limit.
    pub fn permits(&self, now: Instant, at_once: usize) -> usize {
        match (&self.outage, self.held_for(now)) {
            (_, Some(_)) => 0,
            (Some(_), None) => 1,
            (None, None) => at_once,
        }
    }

    /// Returns what currently keeps all entries waiting.
    pub fn holds(&self, now: Instant) -> Option<&str> {
        self.held_for(now)?;
        self.outage.as_ref().map(|outage| outage.problem.as_str())
    }

    /// Returns the entries that have already been a probe. They are skipped as long as there are others.
    pub fn probed(&self) -> Option<&HashSet<i64>> {
        (self.outage.is_some() && !self.probed.is_empty()).then_some(&self.probed)
    }

    /// Starts the next round of probes, once every waiting entry has had its turn.
    pub fn next_round(&mut self) {
        self.probed.clear();
    }

    /// Ends the pause, because the cause of the outage may be over.
    pub fn probe_now(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage {
            outage.until = now;
        }
    }

    /// Records that the target accepted an entry or gave a final reply about it, which shows that it works.
    pub fn taken(&mut self, entry: i64) -> Option<BreakerEvent> {
        self.taken += 1;
        self.suspects.remove(&entry);
        self.run.clear();
        self.probed.clear();
        let outage = self.outage.take()?;
        outage.reported?;
        Some(BreakerEvent::Recovered {
            problem: outage.problem,
        })
    }

    /// Judges a failed attempt. `seed` spreads the pauses of targets that fail together.
    pub fn failed(
        &mut self,
        entry: i64,
        fault: &Fault,
        now: Instant,
        seed: u64,
    ) -> (Consequence, Option<BreakerEvent>) {
        let others_taken = self.suspects.get(&entry).is_some_and(|at| *at < self.taken);
        if self.suspects.len() >= SUSPECTS {
            self.suspects.clear();
        }
        self.suspects.insert(entry, self.taken);
        if self.outage.is_none() {
            let is_the_entrys = match fault.scope {
                Scope::Target => false,
                Scope::Unclear => others_taken,
                Scope::Entry => others_taken || !self.completes_run(entry),
            };
            if is_the_entrys {
                return (Consequence::Refused, None);
            }
        }
        (Consequence::Hold, self.opens(entry, fault, now, seed))
    }

    /// Returns whether too many entries in a row were refused, including this one.
    fn completes_run(&mut self, entry: i64) -> bool {
        if !self.run.contains(&entry) {
            self.run.push(entry);
        }
        self.run.len() >= RUN
    }

    fn opens(
        &mut self,
        entry: i64,
        fault: &Fault,
        now: Instant,
        seed: u64,
    ) -> Option<BreakerEvent> {
        self.probed.insert(entry);
        let outage = self.outage.get_or_insert_with(|| Outage {
            failures: 0,
            until: now,
            problem: String::new(),
            reported: None,
        });
        outage.problem.clone_from(&fault.problem);
        // Attempts that began before the outage may end during it; they are not probes.
        if outage.until <= now {
            outage.failures += 1;
        }
        let until = now + pause(fault, outage.failures, seed);
        outage.until = outage.until.max(until);
        if fault.severity == Severity::ReportedElsewhere {
            return None;
        }
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        let report = match since(outage.reported) {
            Some(passed) if passed < SUMMARY_EVERY => return None,
            Some(_) => BreakerEvent::StillDown(fault.severity),
            None if since(self.last_reported).is_some_and(|passed| passed < FLAPPING) => {
                return None;
            }
            None => BreakerEvent::Down(fault.severity),
        };
        outage.reported = Some(now);
        self.last_reported = Some(now);
        Some(report)
    }
}

fn pause(fault: &Fault, failures: u32, seed: u64) -> Duration {
    let pause = match fault.probe_interval {
        ProbeInterval::Usual => PROBES.delay(failures, seed),
        ProbeInterval::Password => REFUSED_PASSWORD.delay(failures, seed),
        ProbeInterval::Token => TOKEN_PAUSE,
    };
    pause.max(fault.retry_after.unwrap_or_default())
}

#[cfg(test)]
mod tests;
