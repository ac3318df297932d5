//! Deadlines of instances: their own computing time counts, not the time that a busy machine gives to others meanwhile.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The wall-clock limit as a multiple of the CPU limit. The low-priority thread of a slow tenant gets a seventieth of a
/// core in competition with eight busy threads on two cores.
const MOST_WAIT: u32 = 100;

/// The deadline of one instance. It belongs to the thread that created it, where the instance has to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// The thread's CPU time at the deadline.
    computed: Duration,
    /// The earliest time at which the deadline can pass.
    earliest: Instant,
    latest: Instant,
}

impl Deadline {
    /// Creates a deadline that counts from now.
    pub(crate) fn after(time: Duration) -> Self {
        let now = Instant::now();
        Self {
            computed: thread_time() + time,
            earliest: now + time,
            latest: now + time * MOST_WAIT,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        let now = Instant::now();
        // The thread's time is checked last, since it takes a system call.
        now >= self.earliest && (now >= self.latest || self.left().is_zero())
    }

    /// Returns the CPU time that is left.
    pub(crate) fn left(&self) -> Duration {
        self.computed.saturating_sub(thread_time())
    }
}

/// Returns the computing time of this thread so far, which excludes the time of other programs on a busy machine.
pub fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_millis(20);

    #[test]
    fn who_computes_uses_it_up() {
        let (started, deadline) = (Instant::now(), Deadline::after(TIME));
        assert!(!deadline.is_over());
        while !deadline.is_over() {
            assert!(started.elapsed() < TIME * MOST_WAIT * 2);
        }
        assert!(started.elapsed() >= TIME);
    }

    #[test]
    fn who_waits_for_a_processor_has_its_time_left_up_to_a_point() {
        let deadline = Deadline::after(TIME);
        // For the thread, sleeping is like having no processor.
        std::thread::sleep(TIME * 2);
        assert!(!deadline.is_over());
        assert!(deadline.left() > TIME / 2);
        std::thread::sleep(TIME * (MOST_WAIT - 1));
        assert!(deadline.is_over());
    }

    #[test]
    fn a_thread_that_gives_way_to_eight_busy_ones_has_its_time() {
        // It gets a seventieth of a core, as measured on two cores.
        let deadline = Deadline::after(TIME / 10);
        std::thread::sleep(TIME / 10 * 71);
        assert!(!deadline.is_over());
    }

    #[test]
    fn no_time_is_over_at_once() {
        assert!(Deadline::after(Duration::ZERO).is_over());
    }
}
