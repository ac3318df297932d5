//! The state of an alert: how a report changes it, and which changes the targets receive.
//!
//! Reports are ordered by the time that their mails state, not by the order in which they arrive. The functions are pure: the
//! store keeps the [`AlertRecord`] of each key and the [`StormWindow`] of each tenant, and applies an [`AlertStep`].

mod expected;
mod maintenance;
mod order;
mod storm;
#[cfg(test)]
mod tests;

pub use expected::{arrived, overdue};
pub use maintenance::{MaintenanceTime, MaintenanceWindow, matches_pattern};
pub use order::{FUTURE_SLACK_MS, RELAY_MS, seen_ms, sent_ms};
pub use storm::{Admission, StormLimit, StormWindow, storm_key};

use crate::decision::AlertState;
use crate::event::EventKind;
use crate::named::named;

/// The most recent changes of an alert that are remembered.
pub const REMEMBERED_CHANGES: usize = 100;

/// How a tenant's alerts reach the targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertPolicy {
    /// Whether the targets receive a `resolved` of an alert that was not firing for them.
    pub resolved_without_firing: bool,
    /// `None` if flapping alerts are not damped.
    pub flapping: Option<FlappingLimit>,
    /// `None` if storms are not damped.
    pub storm: Option<StormLimit>,
    pub maintenance: Vec<MaintenanceWindow>,
}

/// An alert that changes its state this often within this time is flapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlappingLimit {
    pub changes: usize,
    pub within_ms: i64,
}

/// The record of an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertRecord {
    pub state: AlertState,
    /// The number of mails.
    pub count: u64,
    /// The earliest and the latest time that its mails state.
    pub first_seen_ms: i64,
    pub last_seen_ms: i64,
    /// Whether only old mail made it.
    pub old: bool,
    /// The state that the targets know; `None` if they never received it.
    pub announced: Option<AlertState>,
    /// The times of its last changes of state, oldest first.
    pub changes_ms: Vec<i64>,
    pub hold: Option<Hold>,
}

/// Why and until when the changes of an alert are recorded without being delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub reason: HoldReason,
    /// When the state is delivered if it differs from the one that the targets know; `None` for never.
    pub until_ms: Option<i64>,
}

named! {
    /// Why an alert is held.
    HoldReason {
        Maintenance = "maintenance",
        Flapping = "flapping",
        /// Too many alerts of its tenant began to fire at the same time.
        Storm = "storm",
    }
}

/// A report about an alert, by a mail or by Postroom itself.
#[derive(Debug, Clone, Copy)]
pub struct AlertReport<'a> {
    pub key: &'a str,
    /// The host, from the report or an earlier one.
    pub host: Option<&'a str>,
    pub state: AlertState,
    /// As [`seen_ms`] returns it.
    pub seen_ms: i64,
    /// The time of what it reports: that of the mail, or now if a mail is missing. Maintenance and flapping go by it.
    pub happened_ms: i64,
    pub now_ms: i64,
    pub old: bool,
    /// Whether the items of this mail are delivered at all.
    pub is_delivered: bool,
    /// Whether a mail is counted.
    pub is_mail: bool,
}

/// The effect of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertStep {
    pub record: AlertRecord,
    /// Whether a later mail was there first: the report is counted and changes nothing else.
    pub is_late: bool,
    /// The event that the targets receive.
    pub event: Option<EventKind>,
    /// The effect on the tenant's storm.
    pub storm: Option<Admission>,
}

impl Default for AlertPolicy {
    fn default() -> Self {
        Self {
            resolved_without_firing: false,
            flapping: Some(FlappingLimit::default()),
            storm: Some(StormLimit::default()),
            maintenance: Vec::new(),
        }
    }
}

impl AlertPolicy {
    /// The policy of alerts about Postroom itself: each change is delivered.
    pub fn of_postroom() -> Self {
        Self {
            resolved_without_firing: true,
            flapping: None,
            storm: None,
            maintenance: Vec::new(),
        }
    }

    /// Returns when the maintenance ends that covers this alert at this time; the latest end of several windows.
    pub fn maintenance_end_ms(&self, key: &str, host: Option<&str>, at_ms: i64) -> Option<i64> {
        let windows = self.maintenance.iter();
        let covering = windows.filter(|window| window.covers(key, host));
        covering
            .filter_map(|window| window.time.end_ms(at_ms))
            .max()
    }
}

impl Default for FlappingLimit {
    fn default() -> Self {
        Self {
            changes: 6,
            within_ms: 60 * 60 * 1000,
        }
    }
}

impl AlertRecord {
    fn new(report: &AlertReport<'_>) -> Self {
        Self {
            state: report.state,
            count: u64::from(report.is_mail),
            first_seen_ms: report.seen_ms,
            last_seen_ms: report.seen_ms,
            old: report.old,
            announced: None,
            changes_ms: match report.state {
                AlertState::Firing => vec![report.happened_ms],
                AlertState::Resolved => Vec::new(),
            },
            hold: None,
        }
    }

    /// Returns whether a later mail was there first. Old mail never comes after other mail, whatever time it states.
    fn is_before_last(&self, report: &AlertReport<'_>) -> bool {
        match (report.old, self.old) {
            (true, false) => true,
            (false, true) => false,
            _ => report.seen_ms < self.last_seen_ms,
        }
    }

    /// Returns whether the alert changed its state too often, counting back from its last change.
    fn is_flapping(&self, limit: FlappingLimit) -> bool {
        let last = self.changes_ms.last().copied().unwrap_or_default();
        let since = last.saturating_sub(limit.within_ms);
        let lately = self.changes_ms.iter().filter(|at| **at > since);
        lately.count() >= limit.changes
    }
}

/// Applies a report to what is known about its alert.
pub fn advance(
    before: Option<AlertRecord>,
    report: &AlertReport<'_>,
    policy: &AlertPolicy,
    storm: &mut StormWindow,
) -> AlertStep {
    let (record, is_change) = match before {
        None => (AlertRecord::new(report), report.state == AlertState::Firing),
        Some(mut record) => {
            let is_late = record.is_before_last(report);
            record.count += u64::from(report.is_mail);
            record.first_seen_ms = record.first_seen_ms.min(report.seen_ms);
            if is_late {
                return AlertStep {
                    record,
                    is_late,
                    event: None,
                    storm: None,
                };
            }
            let is_change = record.state != report.state;
            if is_change {
                record.changes_ms.push(report.happened_ms);
                let surplus = record.changes_ms.len().saturating_sub(REMEMBERED_CHANGES);
                record.changes_ms.drain(..surplus);
            }
            record.state = report.state;
            record.last_seen_ms = match record.old && !report.old {
                true => report.seen_ms,
                false => record.last_seen_ms.max(report.seen_ms),
            };
            record.old = report.old;
            (record, is_change)
        }
    };
    let mut step = AlertStep {
        record,
        is_late: false,
        event: None,
        storm: None,
    };
    if report.is_delivered {
        step.deliver(report, is_change, policy, storm);
    }
    step
}

/// Ends the hold of an alert, if it is over. Returns `None` while it is not.
pub fn release(mut record: AlertRecord, now_ms: i64) -> Option<AlertStep> {
    let hold = record.hold?;
    if hold.until_ms.is_none_or(|until| until > now_ms) {
        return None;
    }
    record.hold = None;
    let is_known = record.announced.unwrap_or(AlertState::Resolved) == record.state;
    // The targets know a flapping alert as firing and flapping.
    let is_said =
        is_known && (hold.reason != HoldReason::Flapping || record.state == AlertState::Resolved);
    if !is_said {
        record.announced = Some(record.state);
    }
    Some(AlertStep {
        event: (!is_said).then(|| EventKind::of(record.state)),
        is_late: false,
        storm: None,
        record,
    })
}

impl AlertStep {
    fn deliver(
        &mut self,
        report: &AlertReport<'_>,
        is_change: bool,
        policy: &AlertPolicy,
        storm: &mut StormWindow,
    ) {
        if let Some(end_ms) = policy.maintenance_end_ms(report.key, report.host, report.happened_ms)
        {
            self.hold(HoldReason::Maintenance, Some(end_ms));
            return;
        }
        // The watch may not have released it yet.
        let is_over = |hold: &Hold| hold.until_ms.is_some_and(|until| until <= report.now_ms);
        let hold = self.record.hold.filter(|hold| !is_over(hold));
        let held = hold.map(|hold| hold.reason);
        if held == Some(HoldReason::Maintenance) {
            return;
        }
        if let Some(limit) = policy.flapping {
            let until_ms = report.now_ms.saturating_add(limit.within_ms);
            if held == Some(HoldReason::Flapping) {
                if is_change {
                    self.hold(HoldReason::Flapping, Some(until_ms));
                }
                return;
            }
            if is_change && self.record.is_flapping(limit) {
                self.hold(HoldReason::Flapping, Some(until_ms));
                self.announce(AlertState::Firing);
                return;
            }
        }
        self.record.hold = None;
        let is_firing = self.record.announced == Some(AlertState::Firing);
        match report.state {
            AlertState::Firing if is_firing => self.announce(AlertState::Firing),
            AlertState::Firing => {
                let admission = policy.storm.map(|limit| storm.admit(limit, report.now_ms));
                self.storm = admission;
                match admission {
                    Some(admission) if admission.is_held => self.hold(HoldReason::Storm, None),
                    _ => self.announce(AlertState::Firing),
                }
            }
            AlertState::Resolved if is_firing || policy.resolved_without_firing => {
                self.announce(AlertState::Resolved);
            }
            AlertState::Resolved => {}
        }
    }

    fn hold(&mut self, reason: HoldReason, until_ms: Option<i64>) {
        self.record.hold = Some(Hold { reason, until_ms });
    }

    fn announce(&mut self, state: AlertState) {
        self.record.announced = Some(state);
        self.event = Some(EventKind::of(state));
    }
}
