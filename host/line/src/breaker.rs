//! A circuit breaker around one target: while the target as a whole takes nothing, its entries wait uncounted and one at a time
//! probes it.
//!
//! A failure of one try says little: a receiver that is down, a proxy before it and one entry that it chokes on may all answer 400
//! or 500. So a failure counts against an entry only when the target took others meanwhile, or when it speaks of the entry and the
//! entries before it were taken.
//!
//! ```text
//!            failure of the target, or RUN entries refused in a row
//! closed ─────────────────────────────────────────────────────────→ open ─ pause ─→ probe ─┐
//!   ↑                                                                 ↑                     │
//!   └──────────────────────────── taken ──────────────────────────────┼─────────────────────┤
//!                                                                     └───── failed ────────┘
//! ```
//! It reads no clock and logs nothing: the caller passes the time, and logs what is reported.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use postroom_core::backoff::Backoff;
use postroom_target::{Fault, ProbeInterval, Scope, Severity};

use super::REFUSED_PASSWORD;

/// Pauses between probes.
const PROBES: Backoff = Backoff {
    first: Duration::from_secs(1),
    longest: Duration::from_secs(60),
    spread_percent: 25,
};
/// Without a token no server is asked: news of the account end the wait.
const TOKEN_PAUSE: Duration = Duration::from_secs(30);
/// Consecutive refusals without a delivery that count as the target's fault, since a proxy may answer for it.
const RUN: usize = 3;
/// An outage that lasts is reported again this often.
const SUMMARY_EVERY: Duration = Duration::from_secs(10 * 60);
/// Outages of a target that flaps are reported no more often.
const FLAPPING: Duration = Duration::from_secs(60);
/// Failed entries that are remembered.
const SUSPECTS: usize = 1_000;

/// The consequence of a failed try for its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consequence {
    /// The target is down: the entry waits, and no try is counted.
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

/// The state of one target.
#[derive(Debug, Default)]
pub struct CircuitBreaker {
    outage: Option<Outage>,
    /// Entries that failed, with how many others were taken before.
    suspects: HashMap<i64, u64>,
    taken: u64,
    /// Entries refused since the last one was taken.
    run: Vec<i64>,
    /// Entries that probed in this round: each waiting one has its turn.
    probed: HashSet<i64>,
    last_reported: Option<Instant>,
}

#[derive(Debug)]
struct Outage {
    /// Probes that failed.
    failures: u32,
    until: Instant,
    problem: String,
    reported: Option<Instant>,
}

impl CircuitBreaker {
    /// Returns how long nothing is tried.
    pub fn held_for(&self, now: Instant) -> Option<Duration> {
        let left = self.outage.as_ref()?.until.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// Returns how many tries may be under way: none in a pause, one as a probe, else as many as the target has.
    pub fn permits(&self, now: Instant, at_once: usize) -> usize {
        match (&self.outage, self.held_for(now)) {
            (_, Some(_)) => 0,
            (Some(_), None) => 1,
            (None, None) => at_once,
        }
    }

    /// Returns what keeps everything waiting now.
    pub fn holds(&self, now: Instant) -> Option<&str> {
        self.held_for(now)?;
        self.outage.as_ref().map(|outage| outage.problem.as_str())
    }

    /// Returns the entries that a probe leaves to others, if there are others.
    pub fn probed(&self) -> Option<&HashSet<i64>> {
        (self.outage.is_some() && !self.probed.is_empty()).then_some(&self.probed)
    }

    /// Starts the next round of probes: every waiting entry had its turn.
    pub fn next_round(&mut self) {
        self.probed.clear();
    }

    /// Ends the pause: what caused the outage may be over.
    pub fn probe_now(&mut self, now: Instant) {
        if let Some(outage) = &mut self.outage {
            outage.until = now;
        }
    }

    /// Notes that the target took an entry, or spoke a final word on it: it works.
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

    /// Judges a failed try. `seed` spreads the pauses of targets that fail together.
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

    /// Whether too many entries in a row were refused, this one among them.
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
        // Tries that began before the outage end after it: they are no probes.
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
