//! The cursor's content: how far a folder has been read, and which mail is older than the first contact.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postroom_core::Cursor;
use serde::{Deserialize, Serialize};

use crate::{Import, SourceError};

/// How far a folder has been read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The version of this cursor; the field's name distinguishes it from other protocols' cursors.
    graph: u32,
    /// As written in the configuration.
    pub folder: String,
    pub folder_id: String,
    /// When the mailbox was first read, by the server's clock, in seconds since 1970.
    contact: i64,
    round: Round,
    /// The page to request next, a `nextLink` or a `deltaLink`; `None` begins a listing of the whole folder.
    link: Option<String>,
    /// The number of pages of this listing so far.
    #[serde(default)]
    pages: u32,
    /// The number of this batch, so that no two batches end at the same cursor.
    #[serde(default)]
    batch: u64,
    /// Mails that the server did not deliver and that are requested again.
    #[serde(default)]
    again: Vec<Again>,
}

/// The listing in progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Round {
    /// The first listing of the folder.
    First,
    /// The whole folder once more, because the server lost the place (HTTP 410).
    Restarted,
    /// The changes since the previous listing.
    Later,
}

/// The link at the end of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    Page(String),
    /// The listing is complete; this link leads to later changes.
    Changes(String),
}

/// A mail that was given up and is requested again at growing intervals.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Again {
    id: String,
    old: bool,
    tries: u32,
    /// In seconds since 1970.
    due: i64,
}

/// The age of a listed mail, as far as it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    New,
    /// Older than the first contact.
    Old,
    /// Older than what `import` accepts.
    LeftOut,
}

const VERSION: u32 = 1;
/// The most pages in a listing; one with more would never end.
const PAGES_MAX: u32 = 100_000;
/// The number of mails that are requested again.
const AGAIN: usize = 32;
/// The first pause before a mail is requested again; it doubles.
const AGAIN_SECS: i64 = 60;
/// With doubling pauses, this makes three days.
const AGAIN_TRIES: u32 = 12;
/// Mail that arrived within this time before the first contact is treated as new if it is accepted at all.
const DAY_SECS: i64 = 24 * 60 * 60;
/// Mail that is moved into the folder later counts as old only if its date is before the first contact by more than this, which
/// allows for differing clocks.
const CLOCK_SECS: i64 = 60 * 60;
/// The first contact is dated back by this much: the clock of the web server may be ahead of the one that stamps mail, and mail
/// that arrives at that moment must not be mistaken for existing mail.
const CONTACT_SLACK_SECS: i64 = 60;

impl Progress {
    /// Returns the progress of an unread folder first contacted at `now`, by the server's clock.
    pub fn first(folder: &str, folder_id: &str, now: i64) -> Self {
        Self {
            graph: VERSION,
            folder: folder.to_owned(),
            folder_id: folder_id.to_owned(),
            contact: now.saturating_sub(CONTACT_SLACK_SECS),
            round: Round::First,
            link: None,
            pages: 0,
            batch: 0,
            again: Vec::new(),
        }
    }

    pub fn read(text: &str) -> Result<Self, SourceError> {
        let unknown = || SourceError::UnknownCursor {
            text: text.chars().take(200).collect(),
        };
        let read: Self = serde_json::from_str(text).map_err(|_| unknown())?;
        match read.graph {
            VERSION => Ok(read),
            _ => Err(unknown()),
        }
    }

    /// Returns whether a cursor was written by a source of another kind.
    pub fn is_foreign(text: &str) -> bool {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
            .is_ok_and(|fields| !fields.contains_key("graph"))
    }

    pub fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    pub fn link(&self) -> Option<&str> {
        self.link.as_deref()
    }

    /// Returns whether the listing in progress has more pages.
    pub fn is_listing(&self) -> bool {
        self.pages > 0 || self.link.is_none()
    }

    /// Begins the listing again: what is known stays known, through the journal's positions and this cursor's first contact.
    pub fn restart(&mut self, folder_id: &str) {
        folder_id.clone_into(&mut self.folder_id);
        self.round = Round::Restarted;
        self.link = None;
        self.pages = 0;
    }

    /// Records that a page was read to its end. Fails if the listing never ends.
    pub fn advance(&mut self, next: Next) -> Result<(), &'static str> {
        match next {
            Next::Changes(link) => {
                self.round = Round::Later;
                self.link = Some(link);
                self.pages = 0;
            }
            Next::Page(link) if self.link.as_deref() == Some(&link) => {
                return Err("a page whose next page is itself");
            }
            Next::Page(link) => {
                self.link = Some(link);
                self.pages = self.pages.saturating_add(1);
                if self.pages > PAGES_MAX {
                    return Err("a listing without an end");
                }
            }
        }
        Ok(())
    }

    pub fn batch_given(&mut self) {
        self.batch = self.batch.wrapping_add(1);
    }

    /// Returns the age of a mail from when it was received, in seconds since 1970.
    pub fn age(&self, received: Option<i64>, import: Import) -> Age {
        let is_old = match (self.round, received) {
            (Round::Later, Some(received)) => received.saturating_add(CLOCK_SECS) < self.contact,
            (Round::Later, None) => false,
            (Round::First | Round::Restarted, received) => {
                received.is_none_or(|received| received < self.contact)
            }
        };
        if !is_old {
            return Age::New;
        }
        let is_listed = self.round != Round::Later;
        let left_out = match (import, received) {
            // Mail without a date is not left out: it is decided, and nobody gets a reply.
            (_, None) => false,
            (Import::New, Some(_)) => is_listed,
            (Import::Since(day), Some(received)) => {
                let arrived = Timestamp::from_second(received);
                is_listed && arrived.is_ok_and(|at| at.to_zoned(TimeZone::UTC).date() < day)
            }
            (Import::All, Some(_)) => false,
        };
        let is_recent =
            received.is_some_and(|received| received.saturating_add(DAY_SECS) >= self.contact);
        match left_out {
            true => Age::LeftOut,
            false if is_recent => Age::New,
            false => Age::Old,
        }
    }

    /// Records that the server did not deliver a mail, which is requested again unless it was requested often enough.
    pub fn ask_again(&mut self, id: &str, old: bool, now: i64) {
        let tries = self
            .again
            .iter()
            .find(|it| it.id == id)
            .map_or(0, |it| it.tries);
        self.given(id);
        if tries < AGAIN_TRIES {
            self.again.push(Again {
                id: id.to_owned(),
                old,
                tries: tries + 1,
                due: now.saturating_add(AGAIN_SECS << tries),
            });
        }
        let over = self.again.len().saturating_sub(AGAIN);
        self.again.drain(..over);
    }

    /// Records that a mail was read or is gone.
    pub fn given(&mut self, id: &str) {
        self.again.retain(|it| it.id != id);
    }

    /// Returns the mails that are due to be requested again, and whether each is old.
    pub fn due(&self, now: i64) -> Vec<(String, bool)> {
        let due = self.again.iter().filter(|it| it.due <= now);
        due.map(|it| (it.id.clone(), it.old)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: i64 = 1_000_000;

    fn first() -> Progress {
        Progress::first("INBOX", "AQ", CONTACT + CONTACT_SLACK_SECS)
    }

    fn later() -> Progress {
        let mut progress = first();
        progress.advance(Next::Changes("d1".into())).unwrap();
        progress
    }

    #[test]
    fn what_was_there_is_old_and_what_comes_is_new() {
        let week = CONTACT - 7 * DAY_SECS;
        let day = Import::Since(jiff::civil::date(1970, 1, 10));
        for (progress, received, import, expected) in [
            (first(), Some(week), Import::New, Age::LeftOut),
            (first(), Some(CONTACT - 1), Import::New, Age::LeftOut),
            (first(), Some(CONTACT), Import::New, Age::New),
            (first(), None, Import::New, Age::Old),
            (first(), Some(week), Import::All, Age::Old),
            (first(), Some(CONTACT - 1), Import::All, Age::New),
            (first(), Some(0), day, Age::LeftOut),
            (first(), Some(9 * DAY_SECS), day, Age::Old),
            // Moved into the folder later, with its date unchanged.
            (later(), Some(week), Import::New, Age::Old),
            (later(), Some(CONTACT - 60), Import::New, Age::New),
            (later(), None, Import::New, Age::New),
        ] {
            assert_eq!(progress.age(received, import), expected, "{received:?}");
        }
        let mut restarted = later();
        restarted.restart("AQ");
        assert_eq!(restarted.age(Some(week), Import::New), Age::LeftOut);
        assert_eq!(restarted.age(Some(CONTACT + 5), Import::New), Age::New);
        assert!(restarted.is_listing() && restarted.link().is_none());
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let mut progress = later();
        progress.ask_again("A", true, 5);
        let text = progress.cursor().0;
        assert_eq!(Progress::read(&text).unwrap(), progress);
        assert!(!Progress::is_foreign(&text) && Progress::is_foreign(r#"{"uid_validity":1}"#));
        assert!(Progress::read(&text.replace("\"graph\":1", "\"graph\":2")).is_err());
        assert!(Progress::read("{}").is_err());
    }

    #[test]
    fn a_listing_that_never_ends_is_noticed() {
        let mut progress = first();
        progress.advance(Next::Page("a".into())).unwrap();
        assert!(progress.advance(Next::Page("a".into())).is_err());
        for page in 1..PAGES_MAX {
            progress.advance(Next::Page(page.to_string())).unwrap();
        }
        assert!(progress.advance(Next::Page("end".into())).is_err());
    }

    #[test]
    fn a_mail_is_asked_for_again_a_bounded_number_of_times() {
        let mut progress = later();
        let (mut now, mut asked) = (0, 0);
        progress.ask_again("A", false, now);
        while now < 30 * DAY_SECS {
            now += 30;
            if !progress.due(now).is_empty() {
                asked += 1;
                progress.ask_again("A", false, now);
            }
        }
        assert_eq!(asked, AGAIN_TRIES);
        for number in 0..200 {
            progress.ask_again(&number.to_string(), false, now);
        }
        assert_eq!(progress.again.len(), AGAIN);
    }
}
