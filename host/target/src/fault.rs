//! Why a try failed, and what its failure speaks of.

use std::time::Duration;

/// What a failed try speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The target: no entry would have got further.
    Target,
    /// The target or the entry: only other entries can tell.
    Unclear,
    /// The entry, unless others are refused as well.
    Entry,
}

/// How soon a target is probed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeInterval {
    Usual,
    /// A password was refused: directories lock an account that is tried often.
    Password,
    /// There is no token.
    Token,
}

/// How loudly an outage is reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// It may pass.
    Warning,
    /// Somebody must act.
    Error,
    /// The account's trouble is reported once elsewhere, with the cure.
    ReportedElsewhere,
}

/// Why a try failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub scope: Scope,
    pub problem: String,
    pub probe_interval: ProbeInterval,
    pub severity: Severity,
    /// How long the target wants to be left alone.
    pub retry_after: Option<Duration>,
    /// The delivery was sent whole and its answer was lost: the target may have taken it.
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
