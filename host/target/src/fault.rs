//! Why an attempt failed, and what its failure is about.

use std::time::Duration;

/// The subject of a failed attempt: the target or the entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The target: no other entry would have got further.
    Target,
    /// The target or the entry: only other entries can show which.
    Unclear,
    /// The entry, unless others are refused as well.
    Entry,
}

/// How soon a target is probed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeInterval {
    Usual,
    /// A password was refused: directories lock an account after repeated attempts.
    Password,
    /// There is no token.
    Token,
}

/// The severity at which an outage is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It may pass by itself.
    Warning,
    /// Somebody must act.
    Error,
    /// The account's problem is reported once elsewhere, with help.
    ReportedElsewhere,
}

/// Why an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub scope: Scope,
    pub problem: String,
    pub probe_interval: ProbeInterval,
    pub severity: Severity,
    /// How long the target asks not to be contacted.
    pub retry_after: Option<Duration>,
    /// The delivery was sent completely and its reply was lost: the target may have accepted it.
    pub may_have_arrived: bool,
}

impl Fault {
    pub fn new(scope: Scope, problem: impl Into<String>) -> Self {
        Self {
            scope,
            problem: problem.into(),
            probe_interval: ProbeInterval::Usual,
            severity: Severity::Warning,
            retry_after: None,
            may_have_arrived: false,
        }
    }
}
