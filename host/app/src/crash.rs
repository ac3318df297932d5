//! Named points of the line at which a test kills the process, so that what happens after a crash there is proved and not hoped.

use std::sync::OnceLock;

/// A point of the straight line. The names are those of the environment variable's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    BeforeJournal,
    BeforeDecision,
    BeforeCommit,
    AfterCommit,
    BeforeAcknowledge,
    AfterAcknowledge,
    BeforeDeliveryRecord,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Point::BeforeJournal => "before-journal",
            Point::BeforeDecision => "before-decision",
            Point::BeforeCommit => "before-commit",
            Point::AfterCommit => "after-commit",
            Point::BeforeAcknowledge => "before-acknowledge",
            Point::AfterAcknowledge => "after-acknowledge",
            Point::BeforeDeliveryRecord => "before-delivery-record",
        }
    }
}

/// Kills this process, as SIGKILL does, when `POSTROOM_CRASH_AT` names this point. Nothing is flushed, no destructor runs.
pub fn point(point: Point) {
    static AT: OnceLock<Option<String>> = OnceLock::new();
    let at = AT.get_or_init(|| std::env::var("POSTROOM_CRASH_AT").ok());
    if at.as_deref() == Some(point.name()) {
        let pid = rustix::process::getpid();
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        // The signal may take a moment; nothing past this point may run.
        loop {
            std::thread::park();
        }
    }
}
