//! Tests the circuit breaker against a simulated clock.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// A breaker with its own clock.
struct Bench {
    breaker: CircuitBreaker,
    now: Instant,
    reports: Vec<BreakerEvent>,
}

impl Bench {
    fn new() -> Self {
        Self {
            breaker: CircuitBreaker::default(),
            now: Instant::now(),
            reports: Vec::new(),
        }
    }

    fn fails(&mut self, entry: i64, fault: &Fault) -> Consequence {
        let (verdict, report) = self.breaker.failed(entry, fault, self.now, 7);
        self.reports.extend(report);
        verdict
    }

    fn takes(&mut self, entry: i64) {
        self.reports.extend(self.breaker.taken(entry));
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
    }

    /// Returns the time until the next probe is allowed.
    fn waits(&mut self) -> Duration {
        let left = self.breaker.held_for(self.now).unwrap_or_default();
        self.passes(left);
        left
    }

    fn permits(&self) -> usize {
        self.breaker.permits(self.now, 4)
    }
}

fn fault(scope: Scope) -> Fault {
    Fault::new(scope, "503 away")
}

#[test]
fn a_weekend_without_the_target_counts_against_no_entry() {
    let mut bench = Bench::new();
    let away = fault(Scope::Unclear);
    let weekend = bench.now + Duration::from_secs(62 * 60 * 60);
    let mut probes = 0;
    while bench.now < weekend {
        assert_eq!(bench.fails(probes % 30, &away), Consequence::Hold);
        assert_eq!(bench.permits(), 0);
        let pause = bench.waits();
        assert!(pause <= PROBES.longest, "{pause:?}");
        assert_eq!(bench.permits(), 1);
        probes += 1;
    }
    assert!(probes < 6_000, "{probes}");
    // One line at the beginning, one after ten minutes, one at the end.
    assert_eq!(bench.reports[0], BreakerEvent::Down(Severity::Warning));
    assert!(bench.reports.len() < 62 * 6 + 2, "{}", bench.reports.len());
    bench.takes(5);
    assert!(
        matches!(bench.reports.last(), Some(BreakerEvent::Recovered { problem }) if problem == "503 away")
    );
    assert_eq!(bench.permits(), 4, "at full speed");
}

#[test]
fn tries_that_began_before_the_outage_do_not_lengthen_it() {
    let mut bench = Bench::new();
    for entry in 0..4 {
        assert_eq!(bench.fails(entry, &fault(Scope::Target)), Consequence::Hold);
    }
    assert!(bench.waits() <= SECOND);
}

#[test]
fn a_proxy_that_refuses_everything_is_an_outage() {
    let mut bench = Bench::new();
    let bad = Fault::new(Scope::Entry, "400 bad request");
    assert_eq!(bench.fails(1, &bad), Consequence::Refused);
    assert_eq!(bench.fails(2, &bad), Consequence::Refused);
    assert_eq!(bench.fails(3, &bad), Consequence::Hold);
    assert_eq!(bench.permits(), 0);
    bench.waits();
    assert_eq!(bench.fails(4, &bad), Consequence::Hold);
    assert_eq!(bench.reports.len(), 1);
    bench.waits();
    bench.takes(5);
    assert_eq!(bench.permits(), 4);
}

#[test]
fn one_refused_entry_does_not_hold_up_the_others() {
    let mut bench = Bench::new();
    let bad = fault(Scope::Entry);
    for round in 0..50 {
        assert_eq!(bench.fails(1, &bad), Consequence::Refused);
        bench.takes(100 + round);
        assert_eq!(bench.permits(), 4);
    }
    assert!(bench.reports.is_empty());
    // Entry 1 alone continues to be refused.
    for _ in 0..50 {
        assert_eq!(bench.fails(1, &bad), Consequence::Refused);
    }
}

#[test]
fn an_entry_that_the_target_chokes_on_is_found_out_by_the_others() {
    let mut bench = Bench::new();
    let crash = Fault::new(Scope::Unclear, "500 oops");
    assert_eq!(bench.fails(1, &crash), Consequence::Hold);
    bench.waits();
    // The probe is a different entry.
    assert!(bench.breaker.probed().unwrap().contains(&1));
    bench.takes(2);
    assert_eq!(bench.fails(1, &crash), Consequence::Refused);
    assert_eq!(bench.permits(), 4);
    // Without other entries in between, the cause cannot be determined.
    assert_eq!(bench.fails(1, &crash), Consequence::Hold);
    bench.waits();
    bench.breaker.next_round();
    assert!(bench.breaker.probed().is_none());
}

#[test]
fn the_target_names_its_own_pause() {
    let mut bench = Bench::new();
    let busy = Fault {
        retry_after: Some(SECOND * 120),
        ..fault(Scope::Unclear)
    };
    bench.fails(1, &busy);
    assert_eq!(bench.breaker.held_for(bench.now), Some(SECOND * 120));
    bench.breaker.probe_now(bench.now);
    assert_eq!(bench.permits(), 1);
}

#[test]
fn a_refused_password_is_tried_ever_more_seldom_and_a_missing_token_is_not_reported() {
    let mut bench = Bench::new();
    let refused = Fault {
        probe_interval: ProbeInterval::Password,
        severity: Severity::Error,
        ..fault(Scope::Target)
    };
    bench.fails(1, &refused);
    assert!(bench.waits() >= SECOND * 45);
    bench.fails(1, &refused);
    assert!(bench.waits() >= SECOND * 90);
    assert_eq!(bench.reports, [BreakerEvent::Down(Severity::Error)]);

    let mut bench = Bench::new();
    let signed_out = Fault {
        probe_interval: ProbeInterval::Token,
        severity: Severity::ReportedElsewhere,
        ..fault(Scope::Target)
    };
    bench.fails(1, &signed_out);
    assert_eq!(bench.waits(), TOKEN_PAUSE);
    bench.takes(1);
    assert!(bench.reports.is_empty());
}

#[test]
fn a_target_that_flaps_fills_no_log() {
    let mut bench = Bench::new();
    for entry in 0..10_000 {
        bench.fails(entry, &fault(Scope::Target));
        bench.waits();
        bench.takes(entry);
        bench.passes(SECOND / 100);
    }
    let minutes = 10_000 / 60;
    assert!(
        bench.reports.len() < 2 * minutes + 20,
        "{}",
        bench.reports.len()
    );
}
