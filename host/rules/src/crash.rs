//! Crash points: named points of the line at which a test kills the process, to prove what happens after a crash there.

use std::sync::OnceLock;

/// A point of the line, named as in the environment variable's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    BeforeLoad,
    BeforeJournal,
    BeforeDecision,
    BeforeCommit,
    AfterCommit,
    BeforeAcknowledge,
    AfterAcknowledge,
    BeforeDeliveryRecord,
    BeforeTokenRequest,
    BeforeTokenStored,
    AfterTokenStored,
    BeforeShadowRecord,
    BeforePromotionRecord,
}

impl Point {
    fn name(self) -> &'static str {
        match self {
            Point::BeforeLoad => "before-load",
            Point::BeforeJournal => "before-journal",
            Point::BeforeDecision => "before-decision",
            Point::BeforeCommit => "before-commit",
            Point::AfterCommit => "after-commit",
            Point::BeforeAcknowledge => "before-acknowledge",
            Point::AfterAcknowledge => "after-acknowledge",
            Point::BeforeDeliveryRecord => "before-delivery-record",
            Point::BeforeTokenRequest => "before-token-request",
            Point::BeforeTokenStored => "before-token-stored",
            Point::AfterTokenStored => "after-token-stored",
            Point::BeforeShadowRecord => "before-shadow-record",
            Point::BeforePromotionRecord => "before-promotion-record",
        }
    }
}

/// Kills this process if `POSTROOM_CRASH_AT` is `mail:TEXT` and the mail that is about to be decided contains the text: a
/// mail that kills every process.
pub fn mail(bytes: &[u8]) {
    if let Some(text) = at().and_then(|at| at.strip_prefix("mail:"))
        && bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    {
        kill();
    }
}

/// Kills this process, as SIGKILL does, if `POSTROOM_CRASH_AT` names this point. Nothing is flushed, no destructor runs.
/// With `panic:` before the name it panics instead, as a bug would.
pub fn point(point: Point) {
    let Some(at) = at() else {
        return;
    };
    if at.strip_prefix("panic:") == Some(point.name()) {
        panic!("ordered at {}", point.name());
    }
    if at == point.name() {
        kill();
    }
}

fn at() -> Option<&'static str> {
    static AT: OnceLock<Option<String>> = OnceLock::new();
    AT.get_or_init(|| std::env::var("POSTROOM_CRASH_AT").ok())
        .as_deref()
}

fn kill() -> ! {
    let pid = rustix::process::getpid();
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    // The signal may take a moment; nothing after this point may run.
    loop {
        std::thread::park();
    }
}
