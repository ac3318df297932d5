//! The time that orders the mails of an alert: when the mail says that it was sent, if that is plausible.

use jiff::Timestamp;

use crate::message::Message;
use crate::parse::trailing_date;

/// How far ahead of our clock a sender's clock may be. A mail from further ahead is ordered by its arrival.
pub const FUTURE_SLACK_MS: i64 = 5 * 60 * 1000;
/// How long a mail may be under way. A sender whose clock is further behind the first server's has no clock that was set: its mail is
/// ordered by its arrival there.
pub const RELAY_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Returns when a mail was sent: its Date, or its topmost Received if that contradicts the Date; `None` if it states neither.
pub fn sent_ms(message: &Message) -> Option<i64> {
    let ms = |date: &str| Some(date.parse::<Timestamp>().ok()?.as_millisecond());
    let sent = message.date.as_deref().and_then(ms);
    let received = message.headers("Received").next();
    let arrived = received.and_then(|field| trailing_date(field.as_bytes()));
    let arrived = arrived.as_deref().and_then(ms);
    match (sent, arrived) {
        (Some(sent), Some(arrived)) if arrived.saturating_sub(sent) > RELAY_MS => Some(arrived),
        (sent, arrived) => sent.or(arrived),
    }
}

/// Returns the time that orders a mail: when it was sent, or when it was journalled if it states no time or a future one.
pub fn seen_ms(sent_ms: Option<i64>, received_ms: i64) -> i64 {
    let is_plausible = |sent: &i64| *sent <= received_ms.saturating_add(FUTURE_SLACK_MS);
    sent_ms.filter(is_plausible).unwrap_or(received_ms)
}
