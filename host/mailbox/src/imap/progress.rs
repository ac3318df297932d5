//! Progress in a mailbox's folders: the content of the cursor, and which mails are older than the first contact.

use postroom_core::Cursor;
use serde::{Deserialize, Serialize};

use super::folders::is_same;
use super::response::Arrived;
use super::{Import, Place};
use crate::SourceError;

/// How far the folders of a mailbox were read: the content of its cursor. Each folder is there once it was opened, or found
/// missing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct MailboxProgress {
    folders: Vec<Progress>,
}

/// The form of a cursor over several folders. A cursor over one folder is that folder's [`Progress`] itself.
#[derive(Serialize, Deserialize)]
struct SeveralFolders {
    version: u32,
    folders: Vec<Progress>,
}

/// How far a folder was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// The version of this cursor. The first version had no number and lacked the three fields that follow.
    #[serde(default = "first_version")]
    version: u32,
    pub folder: String,
    pub uid_validity: u32,
    /// The highest UID that was read.
    pub uid: u32,
    /// The time of the first contact with the mailbox, in seconds since 1970; unknown if a cursor of the first version
    /// meets a renumbered folder.
    #[serde(default)]
    contact: Option<i64>,
    /// UIDNEXT when these UIDs were first seen: mails below it were already there.
    #[serde(default)]
    there_below: u32,
    /// Whether the UIDs were first seen after the first contact, because the server had renumbered the folder: mail that
    /// was there may be old or not.
    #[serde(default)]
    renumbered: bool,
    /// The UID from which `seen` records which mails were read. Mails below it are not checked again.
    #[serde(default)]
    window: u32,
    /// The UIDs that were read, as ranges, ascending.
    #[serde(default)]
    seen: Vec<(u32, u32)>,
    /// Mails that the server did not return: they are requested again.
    #[serde(default)]
    again: Vec<Again>,
}

/// A mail that was given up and is requested again, at growing intervals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Again {
    uid: u32,
    tries: u32,
    /// In seconds since 1970.
    due: i64,
}

const VERSION: u32 = 2;
/// The version of a cursor over several folders.
const SEVERAL_VERSION: u32 = 3;
/// Stands for the UIDVALIDITY of a missing folder; a server never uses it (RFC 9051 section 9).
const NO_UID_VALIDITY: u32 = 0;
/// The number of UIDs below the highest one that are checked again for mail that became visible late.
pub(super) const WINDOW_UIDS: u32 = 512;
/// The most ranges of read UIDs in a cursor. Each takes about 20 bytes.
const RANGES: usize = 64;
/// The most mails that are requested again.
const AGAIN: usize = 32;
/// The first pause before a mail is requested again; each further pause is twice as long.
const AGAIN_SECS: i64 = 60;
/// The number of requests; with doubled pauses they take three days.
const AGAIN_TRIES: u32 = 12;
/// The time before the first contact within which an imported mail counts as new.
const DAY_SECS: i64 = 24 * 60 * 60;
/// The margin for clocks: an arriving mail counts as old only if its date is older than the first contact by more.
const CLOCK_SECS: i64 = 60 * 60;

/// The classification of a listed mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    New,
    /// Older than the first contact.
    Old,
    /// Older than what `import` includes.
    LeftOut,
}

impl MailboxProgress {
    /// Parses a cursor. Folders that are no longer read are left out: if one is read again, that is its first contact.
    pub fn read(text: &str, names: &[String]) -> Result<Self, SourceError> {
        let folders = match serde_json::from_str::<SeveralFolders>(text) {
            Ok(several) if several.version == SEVERAL_VERSION => several.folders,
            Ok(_) => return Err(unknown(text)),
            Err(_) => vec![Progress::read(text)?],
        };
        if folders.iter().any(|it| it.version > VERSION) {
            return Err(unknown(text));
        }
        let mut read = Self::default();
        for name in names {
            if let Some(known) = folders.iter().find(|it| is_same(&it.folder, name)) {
                read.set(Progress {
                    folder: name.clone(),
                    ..known.clone()
                });
            }
        }
        Ok(read)
    }

    pub fn of(&self, folder: &str) -> Option<&Progress> {
        self.folders.iter().find(|it| it.folder == folder)
    }

    pub fn set(&mut self, progress: Progress) {
        match self
            .folders
            .iter_mut()
            .find(|it| it.folder == progress.folder)
        {
            Some(held) => *held = progress,
            None => self.folders.push(progress),
        }
    }

    /// Returns the cursor; `None` if no folder was read.
    pub fn cursor(&self) -> Option<Cursor> {
        match &self.folders[..] {
            [] => None,
            [one] => Some(one.cursor()),
            several => {
                let folders = several.to_vec();
                let version = SEVERAL_VERSION;
                let several = serde_json::to_string(&SeveralFolders { version, folders });
                Some(Cursor(several.unwrap_or_default()))
            }
        }
    }
}

impl Progress {
    /// Returns the progress of a folder that did not exist at `now`. What it contains when it appears is judged by its date.
    pub fn absent(folder: &str, now: i64) -> Self {
        Self {
            version: VERSION,
            folder: folder.to_owned(),
            uid_validity: NO_UID_VALIDITY,
            uid: 0,
            contact: Some(now),
            there_below: 0,
            renumbered: false,
            window: 0,
            seen: Vec::new(),
            again: Vec::new(),
        }
    }

    /// Returns whether the folder was missing whenever it was looked for.
    pub fn is_absent(&self) -> bool {
        self.uid_validity == NO_UID_VALIDITY
    }

    /// Returns the progress of a folder of which nothing was read, first seen at `now`. `from` is the UID after which
    /// reading begins.
    pub fn first(at: &Place, next: u32, import: Import, now: i64) -> Self {
        Self {
            version: VERSION,
            folder: at.folder.clone(),
            uid_validity: at.uid_validity,
            uid: at.uid,
            contact: Some(now),
            there_below: next,
            renumbered: false,
            window: match import {
                Import::New => next,
                Import::All | Import::Since(_) => at.uid.saturating_add(1),
            },
            seen: Vec::new(),
            again: Vec::new(),
        }
    }

    pub fn read(text: &str) -> Result<Self, SourceError> {
        let read: Self = serde_json::from_str(text).map_err(|_| unknown(text))?;
        match read.version {
            1 | VERSION => Ok(read),
            _ => Err(unknown(text)),
        }
    }

    /// Upgrades a cursor of the first version: mails read so far count as older than the first contact.
    pub fn upgraded(mut self, next: u32, now: i64) -> Self {
        if self.version != VERSION {
            self.version = VERSION;
            self.contact = Some(now);
            self.there_below = self.uid.saturating_add(1).min(next);
            self.window = self.uid.saturating_add(1);
        }
        self
    }

    /// Returns the progress of the same folder under new UIDs: all of it is read again, and mail that was journalled before
    /// is recognised by its content.
    pub fn renumbered(self, uid_validity: u32, next: u32) -> Self {
        Self {
            version: VERSION,
            uid_validity,
            uid: 0,
            there_below: next,
            renumbered: true,
            window: 1,
            seen: Vec::new(),
            again: Vec::new(),
            ..self
        }
    }

    /// Corrects what a clock wrote that was ahead: a first contact in the future would make all mail old that comes, and a mail
    /// that is due again then would not be asked for.
    pub fn corrected(mut self, now: i64) -> Self {
        self.contact = self
            .contact
            .map(|at| match at > now.saturating_add(CLOCK_SECS) {
                true => now,
                false => at,
            });
        for again in &mut self.again {
            again.due = again.due.min(now.saturating_add(AGAIN_SECS << again.tries));
        }
        self
    }

    pub fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    pub fn place(&self, uid: u32) -> Place {
        Place {
            folder: self.folder.clone(),
            uid_validity: self.uid_validity,
            uid,
        }
    }

    /// Returns the UID above which mail that became visible late is listed.
    pub fn reconciled_from(&self) -> u32 {
        self.window.saturating_sub(1).min(self.uid)
    }

    /// Returns whether a listed mail is to be fetched: it is above all that was read, or was skipped, or is due to be
    /// requested again.
    pub fn wants(&self, uid: u32, now: i64) -> bool {
        match self.again.iter().find(|it| it.uid == uid) {
            Some(again) => again.due <= now,
            None => uid > self.uid || (uid >= self.window && !self.has_seen(uid)),
        }
    }

    /// Returns whether a mail was given up and is requested once more.
    pub fn is_again(&self, uid: u32) -> bool {
        self.again.iter().any(|it| it.uid == uid)
    }

    fn has_seen(&self, uid: u32) -> bool {
        let at = self.seen.partition_point(|(_, last)| *last < uid);
        self.seen.get(at).is_some_and(|(first, _)| *first <= uid)
    }

    pub fn age(&self, uid: u32, arrived: Option<Arrived>, import: Import) -> Age {
        let contact = self.contact.unwrap_or(i64::MAX);
        let was_there = uid < self.there_below;
        let is_old = match arrived {
            _ if was_there && !self.renumbered => true,
            Some(arrived) if was_there => arrived.secs < contact,
            Some(arrived) => arrived.secs.saturating_add(CLOCK_SECS) < self.contact.unwrap_or(0),
            None => was_there,
        };
        if !is_old {
            return Age::New;
        }
        // Without a date, or a first contact to compare it with, no mail is left out: it is decided, and not answered. A
        // recreated folder may take hours to fill: mail in it is judged by its date, however late it arrives.
        let is_certain = match self.renumbered {
            true => arrived.is_some() && self.contact.is_some(),
            false => was_there,
        };
        let left_out = match import {
            Import::New => is_certain,
            Import::Since(day) => is_certain && arrived.is_some_and(|it| it.day < day),
            Import::All => false,
        };
        // Mail of the last day is not too old to answer, as in an import of files.
        let is_recent = arrived.is_some_and(|it| it.secs.saturating_add(DAY_SECS) >= contact);
        match left_out {
            true => Age::LeftOut,
            false if is_recent && self.contact.is_some() => Age::New,
            false => Age::Old,
        }
    }

    /// Records that a mail was read, or given up for now.
    pub fn read_uid(&mut self, uid: u32) {
        self.uid = self.uid.max(uid);
        self.again.retain(|it| it.uid != uid);
        if uid < self.window || self.has_seen(uid) {
            return;
        }
        let at = self.seen.partition_point(|(_, last)| *last < uid);
        self.seen.insert(at, (uid, uid));
        self.join_ranges();
        self.forget_oldest();
    }

    /// Records that all UIDs up to this one were listed.
    pub fn listed_to(&mut self, uid: u32) {
        self.uid = self.uid.max(uid);
        self.forget_oldest();
    }

    /// Records that the server did not return a mail: it is requested again, unless it was requested often enough.
    pub fn ask_again(&mut self, uid: u32, now: i64) {
        let tries = self
            .again
            .iter()
            .find(|it| it.uid == uid)
            .map_or(0, |it| it.tries);
        self.read_uid(uid);
        if tries < AGAIN_TRIES {
            self.again.push(Again {
                uid,
                tries: tries + 1,
                due: now.saturating_add(AGAIN_SECS << tries),
            });
        }
        let over = self.again.len().saturating_sub(AGAIN);
        self.again.drain(..over);
    }

    fn join_ranges(&mut self) {
        self.seen.dedup_by(|next, held| {
            let touches = held.1.checked_add(1) == Some(next.0);
            if touches {
                held.1 = next.1;
            }
            touches
        });
    }

    fn forget_oldest(&mut self) {
        self.window = self.window.max(self.uid.saturating_sub(WINDOW_UIDS));
        let over = self.seen.len().saturating_sub(RANGES);
        if let Some((_, last)) = over.checked_sub(1).and_then(|at| self.seen.get(at)) {
            self.window = self.window.max(last.saturating_add(1));
        }
        self.seen.retain(|(_, last)| *last >= self.window);
        self.again.retain(|it| it.uid >= self.window);
    }
}

fn first_version() -> u32 {
    1
}

fn unknown(text: &str) -> SourceError {
    SourceError::UnknownCursor {
        text: text.chars().take(200).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(import: Import) -> Progress {
        let at = Place {
            folder: "INBOX".into(),
            uid_validity: 7,
            uid: if import == Import::New { 49 } else { 0 },
        };
        Progress::first(&at, 50, import, 1_000_000)
    }

    fn arrived(secs: i64) -> Option<Arrived> {
        let at = jiff::Timestamp::from_second(secs).unwrap();
        let day = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        Some(Arrived { secs, day })
    }

    #[test]
    fn what_was_there_is_old_and_what_comes_is_new() {
        let all = progress(Import::All);
        assert_eq!(all.age(49, arrived(900_000), Import::All), Age::Old);
        assert_eq!(all.age(49, None, Import::All), Age::Old);
        // From the day before the first contact.
        assert_eq!(all.age(49, arrived(920_000), Import::All), Age::New);
        assert_eq!(all.age(50, arrived(999_000), Import::All), Age::New);
        // Copied in later, with its original date.
        assert_eq!(all.age(50, arrived(900_000), Import::All), Age::Old);
        assert_eq!(all.age(50, None, Import::All), Age::New);
        let new = progress(Import::New);
        assert_eq!(new.age(50, arrived(900_000), Import::New), Age::Old);
        assert!(!new.wants(49, 0) && new.wants(50, 0));
    }

    #[test]
    fn a_first_contact_in_the_future_makes_new_mail_neither_old_nor_unwanted() {
        const YEAR_2100: i64 = 4_102_444_800;
        let at = progress(Import::All).place(0);
        let mut met = Progress::first(&at, 50, Import::All, YEAR_2100);
        met.ask_again(49, YEAR_2100);
        // The clock was put right.
        let now = 1_000_000;
        let met = met.corrected(now);
        assert_eq!(met.age(50, arrived(now + 5), Import::All), Age::New);
        assert_eq!(met.age(49, arrived(900_000), Import::All), Age::Old);
        assert!(!met.wants(49, now) && met.wants(49, now + 2 * AGAIN_SECS));
        let untouched = progress(Import::All);
        assert_eq!(untouched.clone().corrected(2_000_000), untouched);
    }

    #[test]
    fn after_a_renumbering_the_date_decides() {
        let new = progress(Import::New).renumbered(8, 20);
        assert_eq!(new.age(3, arrived(999_999), Import::New), Age::LeftOut);
        assert_eq!(new.age(3, arrived(1_000_000), Import::New), Age::New);
        assert_eq!(new.age(3, None, Import::New), Age::Old);
        // A restore that is still running.
        assert_eq!(new.age(30, arrived(900_000), Import::New), Age::LeftOut);
        assert_eq!(new.age(30, arrived(999_999), Import::New), Age::New);
        assert_eq!(new.age(3, arrived(900_000), Import::All), Age::Old);
        let day = Import::Since(jiff::civil::date(1970, 1, 10));
        assert_eq!(new.age(3, arrived(0), day), Age::LeftOut);
        assert_eq!(new.age(3, arrived(9 * 86_400), day), Age::Old);
        // The time of the first contact is unknown.
        let first = r#"{"folder":"INBOX","uid_validity":7,"uid":9}"#;
        let first = Progress::read(first).unwrap().renumbered(8, 20);
        assert_eq!(first.age(3, arrived(1), Import::New), Age::Old);
    }

    #[test]
    fn a_cursor_of_the_first_form_goes_on() {
        let first = r#"{"folder":"INBOX","uid_validity":7,"uid":9}"#;
        let now = Progress::read(first).unwrap().upgraded(12, 500);
        assert_eq!((now.uid, now.contact), (9, Some(500)));
        assert!(!now.wants(9, 0) && now.wants(10, 0));
        assert_eq!(Progress::read(&now.cursor().0).unwrap(), now);
        assert!(Progress::read(&now.cursor().0.replace(":2,", ":3,")).is_err());
    }

    #[test]
    fn cursors_of_each_version_are_read_and_one_folder_keeps_its_own() {
        let names =
            |names: &[&str]| -> Vec<String> { names.iter().map(|it| (*it).to_owned()).collect() };
        let first = r#"{"folder":"INBOX","uid_validity":7,"uid":9}"#;
        // As version 2 was released.
        let second = r#"{"version":2,"folder":"INBOX","uid_validity":7,"uid":9,"contact":500,"there_below":10,"renumbered":false,"window":10,"seen":[],"again":[]}"#;
        let both = names(&["INBOX", "Junk"]);
        for released in [first, second] {
            let mut read = MailboxProgress::read(released, &both).unwrap();
            assert_eq!(read.of("INBOX").unwrap().uid, 9);
            assert!(read.of("Junk").is_none());
            read.set(Progress::absent("Junk", 600));
            let several = read.cursor().unwrap().0;
            assert_eq!(MailboxProgress::read(&several, &both).unwrap(), read);
            // A folder that is no longer read, and the spelling of INBOX.
            let inbox = MailboxProgress::read(&several, &names(&["Inbox"])).unwrap();
            assert_eq!(inbox.of("Inbox").unwrap().uid, 9);
            assert!(inbox.cursor().unwrap().0.starts_with(r#"{"version":"#));
            let newer = several.replacen("{\"version\":3", "{\"version\":4", 1);
            assert!(MailboxProgress::read(&newer, &both).is_err());
        }
        let kept = MailboxProgress::read(second, &names(&["INBOX"])).unwrap();
        assert_eq!(kept.cursor().unwrap().0, second);
        let other = MailboxProgress::read(second, &names(&["Tickets"])).unwrap();
        assert!(other.cursor().is_none());
    }

    #[test]
    fn a_folder_that_appears_later_is_judged_by_the_dates_of_its_mail() {
        let appeared = Progress::absent("Junk", 1_000_000).renumbered(7, 3);
        assert_eq!(appeared.age(1, arrived(900_000), Import::New), Age::LeftOut);
        assert_eq!(appeared.age(2, arrived(1_000_001), Import::New), Age::New);
    }

    #[test]
    fn passed_over_mail_is_wanted_within_the_window() {
        let mut all = progress(Import::All);
        for uid in (2..=2000).filter(|uid| uid % 500 != 0) {
            all.read_uid(uid);
        }
        assert!(all.wants(1500, 0) && !all.wants(1499, 0) && all.wants(2001, 0));
        assert!(!all.wants(1, 0) && !all.wants(500, 0));
        for uid in (2001..4000).filter(|uid| uid % 2 == 0) {
            all.read_uid(uid);
        }
        assert!(all.seen.len() <= RANGES && all.cursor().0.len() < 2500);
    }

    #[test]
    fn a_mail_is_asked_for_again_a_bounded_number_of_times() {
        let mut all = progress(Import::All);
        let (mut now, mut asked) = (0, 0);
        all.ask_again(5, now);
        while all.is_again(5) {
            now += 30;
            if all.wants(5, now) {
                asked += 1;
                all.ask_again(5, now);
            }
        }
        assert_eq!(asked, AGAIN_TRIES);
        assert!(now > 2 * 86_400);
        for uid in 1..200 {
            all.ask_again(uid, now);
        }
        assert_eq!(all.again.len(), AGAIN);
    }
}
