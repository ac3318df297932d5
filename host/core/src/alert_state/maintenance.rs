//! Maintenance windows: times at which some alerts are recorded and not delivered.

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

/// A time at which the alerts of some keys and hosts are held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// Patterns of keys; empty for all.
    pub keys: Vec<String>,
    /// Patterns of hosts; empty for all. An alert without a host matches no pattern.
    pub hosts: Vec<String>,
    pub time: MaintenanceTime,
}

/// When a maintenance takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaintenanceTime {
    Once {
        from_ms: i64,
        until_ms: i64,
    },
    /// Ends on the next day if `until` is not after `from`.
    Weekly {
        days: Vec<Weekday>,
        from: Time,
        until: Time,
        zone: TimeZone,
    },
}

impl MaintenanceWindow {
    pub(super) fn covers(&self, key: &str, host: Option<&str>) -> bool {
        let any = |patterns: &[String], value: &str| {
            patterns
                .iter()
                .any(|pattern| matches_pattern(pattern, value))
        };
        let is_key = self.keys.is_empty() || any(&self.keys, key);
        let is_host = self.hosts.is_empty() || host.is_some_and(|host| any(&self.hosts, host));
        is_key && is_host
    }
}

impl MaintenanceTime {
    /// Returns the end of the maintenance that takes place at this time, or `None` without maintenance.
    pub(super) fn end_ms(&self, at_ms: i64) -> Option<i64> {
        match self {
            Self::Once { from_ms, until_ms } => {
                (*from_ms <= at_ms && at_ms < *until_ms).then_some(*until_ms)
            }
            Self::Weekly {
                days,
                from,
                until,
                zone,
            } => {
                let at = Timestamp::from_millisecond(at_ms).ok()?;
                let today = at.to_zoned(zone.clone()).date();
                let yesterday = today.yesterday().ok();
                let begins = [Some(today), yesterday].into_iter().flatten();
                let ends = begins
                    .filter(|day| days.contains(&day.weekday()))
                    .filter_map(|day| {
                        let last = match until > from {
                            true => day,
                            false => day.checked_add(1.day()).ok()?,
                        };
                        let begin = day.to_datetime(*from).to_zoned(zone.clone()).ok()?;
                        let end = last.to_datetime(*until).to_zoned(zone.clone()).ok()?;
                        let is_now = begin.timestamp() <= at && at < end.timestamp();
                        is_now.then(|| end.timestamp().as_millisecond())
                    });
                ends.max()
            }
        }
    }
}

/// Returns whether a text matches a pattern, in which `*` stands for any characters. Upper and lower case are the same.
pub fn matches_pattern(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let Some((first, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let last = pieces.pop().unwrap_or_default();
    for piece in pieces {
        match left.find(piece) {
            Some(at) => left = &left[at + piece.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}
