//! The alerts about mails that were expected: raised when the mail does not come in time, resolved when it does.

use std::collections::BTreeMap;

use crate::decision::{Alert, AlertState};

const DAY_SECS: i64 = 24 * 60 * 60;

/// Returns the alert about an expected mail that did not come.
pub fn overdue(key: &str, within_ms: i64) -> Alert {
    let within = shown(within_ms);
    let fields = BTreeMap::from([("within".to_owned(), within.as_str().into())]);
    Alert {
        fields,
        ..alert(
            key,
            AlertState::Firing,
            format!("no mail with key {key} within {within}"),
        )
    }
}

/// Returns what resolves it.
pub fn arrived(key: &str) -> Alert {
    let summary = format!("a mail with key {key} came again");
    alert(key, AlertState::Resolved, summary)
}

fn alert(key: &str, state: AlertState, summary: String) -> Alert {
    Alert {
        key: key.to_owned(),
        state,
        severity: None,
        host: None,
        service: None,
        summary: Some(summary),
        fields: BTreeMap::new(),
    }
}

/// Returns a duration in its largest whole unit; hours up to three days, as people write them.
fn shown(time_ms: i64) -> String {
    let secs = time_ms / 1000;
    match secs {
        0 => format!("{time_ms}ms"),
        _ if secs % DAY_SECS == 0 && secs > 3 * DAY_SECS => format!("{}d", secs / DAY_SECS),
        _ if secs % 3_600 == 0 => format!("{}h", secs / 3_600),
        _ if secs % 60 == 0 => format!("{}m", secs / 60),
        _ => format!("{secs}s"),
    }
}
