//! Freshness objectives: `fresh` of `[limits]` and of a mailbox.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::Item;
use super::{Config, MailboxConfig};

/// Allowed freshness objectives. Anything longer is noticed by the people who write.
const FRESH: RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 60 * 60);
/// The number of checks for which the default freshness objective leaves time, so that one failed check raises no alert.
const CHECKS_WITHIN_FRESH: u32 = 3;

/// The age of a mailbox's last successful check at which an alert is raised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FreshnessObjective {
    /// No alert is raised.
    Off,
    Within(Duration),
}

impl FreshnessObjective {
    /// Returns the age, or `None` if no alert is raised.
    pub fn within(self) -> Option<Duration> {
        match self {
            Self::Off => None,
            Self::Within(age) => Some(age),
        }
    }
}

impl Config {
    /// Returns the age of a mailbox's last successful check at which an alert is raised, or `None` for no alert. The default gives
    /// a mailbox that is seldom checked the time for three checks.
    pub fn freshness_objective(&self, mailbox: &MailboxConfig) -> Option<Duration> {
        match mailbox.fresh {
            Some(own) => own.within(),
            None => {
                let default = self.limits.fresh.within()?;
                Some(default.max(mailbox.every * CHECKS_WITHIN_FRESH))
            }
        }
    }
}

/// Reads a freshness objective: a duration or `"off"`.
pub fn read(item: &Item) -> Option<FreshnessObjective> {
    if item.value().as_str() == Some("off") {
        return Some(FreshnessObjective::Off);
    }
    item.duration(FRESH).map(FreshnessObjective::Within)
}

/// Reads a mailbox's freshness objective. One that a mailbox exceeds between two checks would always raise an alert.
pub fn read_of_mailbox(item: &Item, every: Option<Duration>) -> Option<FreshnessObjective> {
    let fresh = read(item)?;
    if let (Some(within), Some(every)) = (fresh.within(), every)
        && within <= every
    {
        item.problem(
            "is not longer than the time between two checks (`every`)",
            "write a longer duration, at least three times `every`, or check more often",
        );
        return None;
    }
    Some(fresh)
}
