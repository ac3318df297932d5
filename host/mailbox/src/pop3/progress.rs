//! How far a mailbox has been read: the cursor's content, and the handling of mail that is older than the first contact.
//!
//! The journal knows by their positions which mails were read. The cursor names the mailbox, counts the batches, and remembers a
//! listing of old mail until it has been read to its end.

use jiff::Timestamp;
use jiff::civil::Date;
use postroom_core::{Cursor, Position};
use serde::{Deserialize, Serialize};

use crate::Import;

/// How far a mailbox has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// User and host, since unique ids are unique within one mailbox.
    pub pop3: String,
    /// The number of the last batch.
    pub batch: u64,
    /// When the mailbox was first read, in seconds since 1970.
    contact: i64,
    /// The listing that may hold old mail, until it has been read to its end.
    pub old: Option<OldListing>,
}

/// A listing that may hold mail from before the first contact.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OldListing {
    /// The unique id of its last mail: mail that the server lists after it arrived later.
    pub last: String,
    /// Whether the listing was found after the first contact, because the server changed its mails' unique ids.
    pub renumbered: bool,
    /// Whether a mail from it that is recent enough for `import` was accepted: all mail after it is then recent enough too.
    #[serde(default)]
    pub reached: bool,
}

/// The location of one mail: the position's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    pop3: String,
    uid: String,
}

/// The age of a listed mail, which determines how the mail is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    New,
    /// Older than the first contact.
    Old,
    /// Older than what `import` accepts.
    LeftOut,
}

/// Mail that arrived within this time before the first contact is recent enough to reply to.
const DAY_SECS: i64 = 24 * 60 * 60;

impl Progress {
    /// Returns the progress of an unread mailbox first contacted at `now`, whose last mail is `last`.
    pub fn first(mailbox: String, last: Option<&str>, now: i64) -> Self {
        Self {
            pop3: mailbox,
            batch: 0,
            contact: now,
            old: last.map(|last| OldListing {
                last: last.to_owned(),
                renumbered: false,
                reached: false,
            }),
        }
    }

    /// Parses a cursor. Returns `None` if it belongs to another kind of source or another mailbox.
    pub fn read(cursor: &Cursor, mailbox: &str) -> Option<Self> {
        let found: Option<Self> = serde_json::from_str(&cursor.0).ok();
        found.filter(|found| found.pop3 == mailbox)
    }

    pub fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    /// Records that the server changed its mails' unique ids: all mail up to `last` is then judged by its date.
    pub fn renumbered(&mut self, last: &str) {
        self.old = Some(OldListing {
            last: last.to_owned(),
            renumbered: true,
            reached: false,
        });
    }

    /// Returns whether the age of mail in the old listing depends on its arrival date.
    pub fn needs_dates(&self, import: Import) -> bool {
        match (&self.old, import) {
            (Some(old), Import::Since(_)) => old.renumbered || !old.reached,
            (Some(old), Import::New) => old.renumbered,
            (Some(_), Import::All) | (None, _) => false,
        }
    }

    /// Returns the age of a mail in the old listing. `arrived_ms` is in milliseconds since 1970.
    pub fn age(&self, arrived_ms: Option<i64>, import: Import) -> Age {
        let Some(old) = &self.old else {
            return Age::New;
        };
        let arrived = arrived_ms.map(|ms| ms.div_euclid(1000));
        // Mail without a date is not left out: it is decided, and nobody gets a reply.
        if old.renumbered && arrived.is_some_and(|at| at >= self.contact) {
            return Age::New;
        }
        let left_out = match import {
            Import::New => !old.renumbered || arrived.is_some(),
            Import::Since(day) => {
                (old.renumbered || !old.reached) && arrived.is_some_and(|at| is_before(at, day))
            }
            Import::All => false,
        };
        let is_recent = arrived.is_some_and(|at| at.saturating_add(DAY_SECS) >= self.contact);
        match left_out {
            true => Age::LeftOut,
            false if is_recent => Age::New,
            false => Age::Old,
        }
    }
}

/// Returns the position of the mail with this key.
pub(super) fn position(mailbox: &str, key: &str) -> Position {
    Position::OnServer(serde_json::json!({ "pop3": mailbox, "uid": key }).to_string())
}

/// Returns the key of the mail at a position, or `None` for a mail of another mailbox or protocol.
pub(super) fn key(mailbox: &str, position: &Position) -> Option<String> {
    let place: Place = serde_json::from_str(position.on_server()?).ok()?;
    (place.pop3 == mailbox).then_some(place.uid)
}

/// Returns whether a time is before a day, which begins at midnight UTC.
fn is_before(secs: i64, day: Date) -> bool {
    Timestamp::from_second(secs).is_ok_and(|at| at.to_zoned(jiff::tz::TimeZone::UTC).date() < day)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: i64 = 1_790_000_000;

    fn ms(before_contact_secs: i64) -> Option<i64> {
        Some((CONTACT - before_contact_secs) * 1000)
    }

    #[test]
    fn what_was_there_at_the_first_contact_is_old() {
        let mut progress = Progress::first("u@h".into(), Some("c"), CONTACT);
        for (arrived, import, age) in [
            (ms(10), Import::New, Age::LeftOut),
            (None, Import::New, Age::LeftOut),
            (None, Import::All, Age::Old),
            (ms(10), Import::All, Age::New),
            (ms(DAY_SECS * 2), Import::All, Age::Old),
        ] {
            assert_eq!(progress.age(arrived, import), age, "{arrived:?} {import:?}");
        }
        let day = Timestamp::from_second(CONTACT)
            .unwrap()
            .to_zoned(jiff::tz::TimeZone::UTC);
        let since = Import::Since(day.date());
        assert_eq!(progress.age(ms(DAY_SECS * 2), since), Age::LeftOut);
        assert_eq!(progress.age(None, since), Age::Old);
        if let Some(old) = &mut progress.old {
            old.reached = true;
        }
        assert_eq!(progress.age(ms(DAY_SECS * 2), since), Age::Old);
        progress.old = None;
        assert_eq!(progress.age(ms(DAY_SECS * 2), Import::New), Age::New);
    }

    #[test]
    fn renumbered_mail_is_judged_by_its_date() {
        let mut progress = Progress::first("u@h".into(), None, CONTACT);
        progress.renumbered("c");
        for (arrived, age) in [
            (ms(10), Age::LeftOut),
            (ms(-10), Age::New),
            (None, Age::Old),
        ] {
            assert_eq!(progress.age(arrived, Import::New), age, "{arrived:?}");
        }
        assert_eq!(progress.age(ms(DAY_SECS * 2), Import::All), Age::Old);
    }

    #[test]
    fn a_position_belongs_to_one_mailbox() {
        let at = position("u@h", "a\"b");
        assert_eq!(key("u@h", &at).as_deref(), Some("a\"b"));
        assert_eq!(key("u@other", &at), None);
        for foreign in ["", "x", r#"{"folder":"INBOX","uid_validity":1,"uid":7}"#] {
            assert_eq!(key("u@h", &Position::OnServer(foreign.into())), None);
        }
        assert_eq!(key("u@h", &Position::Imported("a".into())), None);
    }
}
