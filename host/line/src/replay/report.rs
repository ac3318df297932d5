//! The summary of a replay: counts, and the cost of each rule. Its size does not depend on the number of mails.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_sandbox::Limits;

use super::{Compared, Comparison, End, Replayed, Skip};
use postroom_rules::rulebook::RuleId;

/// The number of kinds of change that are counted separately; all others are counted together.
const CHANGES: usize = 100;
const OTHER_CHANGES: &str = "other changes";

/// The counts of a replay.
#[derive(Debug, Default)]
pub struct Report {
    pub same: u64,
    pub changed: u64,
    /// Mails on which a rule fails that did not fail then.
    pub failed: u64,
    /// Mails on which a rule failed then and no longer fails.
    pub mended: u64,
    /// How many mails changed in which way: `ticket → alert`, `queue`.
    pub changes: BTreeMap<String, u64>,
    /// Mails for which the candidate made queries that were not made then.
    pub unrecorded: u64,
    pub skipped: BTreeMap<Skip, u64>,
    /// The rules of the candidate's chains.
    pub rules: Vec<RuleReport>,
    /// Zero if the counts do not come from a single run.
    pub elapsed: Duration,
    /// Whether the replay was interrupted.
    pub interrupted: bool,
}

/// The cost of one rule.
#[derive(Debug)]
pub struct RuleReport {
    pub id: RuleId,
    pub hash: String,
    /// Mails that it ran on.
    pub asked: u64,
    /// How often it failed, by kind of failure.
    pub troubles: BTreeMap<&'static str, u64>,
    pub times: Times,
    /// The most memory that an instance held.
    pub memory_bytes: usize,
    /// The limits that it ran under.
    pub limits: Limits,
}

/// A histogram of times in microseconds, each accurate to within three percent.
#[derive(Debug, Clone, Default)]
pub struct Times {
    counts: Vec<u64>,
    total: u64,
}

/// Buckets per power of two.
const STEPS: u64 = 32;

impl Report {
    /// Returns how many mails were decided again.
    pub fn replayed(&self) -> u64 {
        self.same + self.changed + self.failed + self.mended
    }

    /// Returns whether all mails were decided as before, and there was at least one.
    pub fn is_all_same(&self) -> bool {
        let is_sound = !self.skipped.keys().any(|skip| skip.is_wrong());
        self.same > 0 && self.same == self.replayed() && is_sound && !self.interrupted
    }

    /// Adds a replayed mail. `slots` are the positions of the chain's rules in `rules`.
    pub(super) fn add(&mut self, replayed: &Replayed, slots: &[usize]) {
        let compared = match &replayed.end {
            End::Decided(compared) => compared,
            End::Skipped(skip) => {
                *self.skipped.entry(*skip).or_default() += 1;
                return;
            }
        };
        self.count(&compared.verdict);
        self.unrecorded += u64::from(!compared.unrecorded.is_empty());
        self.add_spent(compared, slots);
    }

    /// Counts one mail that was decided again.
    pub fn count(&mut self, verdict: &Comparison) {
        match verdict {
            Comparison::Same => self.same += 1,
            Comparison::Failed => self.failed += 1,
            Comparison::Fixed => self.mended += 1,
            Comparison::Changed(words) => {
                self.changed += 1;
                let is_told_apart =
                    self.changes.len() < CHANGES || self.changes.contains_key(words);
                let words = if is_told_apart { words } else { OTHER_CHANGES };
                *self.changes.entry(words.to_owned()).or_default() += 1;
            }
        }
    }

    fn add_spent(&mut self, compared: &Compared, slots: &[usize]) {
        for spent in &compared.spent {
            let slot = slots.get(spent.rule);
            if let Some(rule) = slot.and_then(|slot| self.rules.get_mut(*slot)) {
                rule.add(spent.elapsed, spent.memory_bytes);
            }
        }
        for trouble in &compared.after.troubles {
            let mut rules = slots.iter().copied();
            let slot = rules.find(|slot| {
                let rule = self.rules.get(*slot);
                rule.is_some_and(|rule| rule.id.name == trouble.rule)
            });
            if let Some(rule) = slot.and_then(|slot| self.rules.get_mut(slot)) {
                *rule.troubles.entry(trouble.kind.name()).or_default() += 1;
            }
        }
    }
}

impl RuleReport {
    /// Creates the report of a rule that has not run yet.
    pub fn new(id: RuleId, hash: String, limits: Limits) -> Self {
        Self {
            id,
            hash,
            asked: 0,
            troubles: BTreeMap::new(),
            times: Times::default(),
            memory_bytes: 0,
            limits,
        }
    }

    /// Counts one mail that the rule ran on.
    pub fn add(&mut self, elapsed: Duration, memory_bytes: usize) {
        self.asked += 1;
        self.times.add(elapsed);
        self.memory_bytes = self.memory_bytes.max(memory_bytes);
    }
}

impl Times {
    pub fn add(&mut self, time: Duration) {
        let bucket = bucket(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// Returns the percentile `share` (0 to 1) of the times by nearest rank, or zero without times.
    pub fn percentile(&self, share: f64) -> Duration {
        let rank = ((self.total as f64 * share).ceil() as u64).clamp(1, self.total.max(1));
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        Duration::from_micros(found.map_or(0, longest))
    }
}

/// Returns a time's bucket. Below `STEPS` there is one bucket per microsecond, above it `STEPS` buckets per power of two.
fn bucket(micros: u64) -> usize {
    let shift = (micros | STEPS).ilog2() - STEPS.ilog2();
    (u64::from(shift) * STEPS + (micros >> shift)) as usize
}

/// Returns the longest time in a bucket, in microseconds.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    ((bucket - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_kept_to_within_three_percent() {
        for micros in (0..5000).chain([9_999, 123_456, 250_000, 60_000_000, 3_600_000_000]) {
            let kept = longest(bucket(micros));
            let most = micros + micros / 32;
            assert!((micros..=most).contains(&kept), "{micros} became {kept}");
        }
        let mut times = Times::default();
        assert_eq!(times.percentile(0.5), Duration::ZERO);
        (1..=100).for_each(|ms| times.add(Duration::from_millis(ms)));
        let near = |share: f64, ms: u64| {
            let found = times.percentile(share).as_micros() as f64;
            let wanted = ms as f64 * 1000.0;
            assert!((wanted..wanted * 1.04).contains(&found), "{share}: {found}");
        };
        near(0.5, 50);
        near(0.99, 99);
        near(1.0, 100);
    }
}
