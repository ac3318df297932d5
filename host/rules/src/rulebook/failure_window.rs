//! Failure window: counts for how many senders a version of a rule failed among its last mails. If there are too many, the
//! version is rolled back.
//!
//! It counts senders rather than mails, since an outsider chooses how many mails to send: an outsider who finds a mail on
//! which a rule fails must not be able to switch the rule off with five of them.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, PoisonError};

use postroom_core::{ContentHash, Message, StrikeLimits, counted};
use postroom_store::{Mark, SenderKey};

/// Up to this many counts can be retracted; the window keeps that much extra history.
pub const MOST_TAKEN_BACK: usize = 64;

/// Returns what a mail's sender is counted by: the domain of From. All mails without one count as one sender.
pub fn sender_key(message: &Message) -> SenderKey {
    let domain = message.from.as_ref().map_or("", |from| from.domain());
    let hash = ContentHash::of(domain.to_ascii_lowercase().as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.0[..8]);
    SenderKey(u64::from_be_bytes(first))
}

/// The last mails of one version, while it is live.
#[derive(Debug)]
pub struct FailureWindow {
    limits: StrikeLimits,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// The results, newest last; of more mails than count.
    last: VecDeque<Mark>,
    is_out: bool,
    /// Whether the version has no predecessor, so that it stays whatever it does.
    stays: bool,
    /// Whether an alert reports that it stays although it fails.
    is_told: bool,
}

impl FailureWindow {
    pub fn new(limits: StrikeLimits) -> Self {
        Self {
            limits,
            window: Mutex::default(),
        }
    }

    /// The window of a version without a predecessor: it never trips, and [`FailureWindow::must_tell`] is true instead.
    pub fn staying(limits: StrikeLimits) -> Self {
        let strikes = Self::new(limits);
        strikes.stay();
        strikes
    }

    /// Makes the version stay from now on, because nothing can replace it.
    pub fn stay(&self) {
        self.window().stays = true;
    }

    /// Returns whether the version must not run any more.
    pub fn is_out(&self) -> bool {
        let window = self.window();
        self.limits.failures > 0 && window.is_out && !window.stays
    }

    /// Returns whether an alert is due: the version would have been rolled back, stays, and was not reported yet.
    pub fn must_tell(&self) -> bool {
        let window = self.window();
        self.limits.failures > 0 && window.is_out && window.stays && !window.is_told
    }

    /// Records that the alert was raised.
    pub fn told(&self) {
        self.window().is_told = true;
    }

    /// Returns whether an alert reports this version.
    pub fn is_told(&self) -> bool {
        self.window().is_told
    }

    /// Counts one mail.
    pub fn count(&self, mark: Mark) {
        if self.limits.failures == 0 {
            return;
        }
        let mut window = self.window();
        window.last.push_back(mark);
        if window.last.len() > self.limits.mails + MOST_TAKEN_BACK {
            window.last.pop_front();
        }
        window.is_out |= self.failures(&window) >= self.limits.failures;
    }

    /// Retracts a counted mail, one of the last [`MOST_TAKEN_BACK`].
    pub fn take_back(&self, mark: Mark) {
        if self.limits.failures == 0 {
            return;
        }
        let mut window = self.window();
        if let Some(at) = window.last.iter().rposition(|it| *it == mark) {
            window.last.remove(at);
        }
        window.is_out = self.failures(&window) >= self.limits.failures;
    }

    /// Returns its last mails, newest last, if it failed on one of them.
    pub fn failing(&self) -> Option<Vec<Mark>> {
        let window = self.window();
        let mut last: Vec<Mark> = self.counted(&window).collect();
        last.reverse();
        last.iter().any(|mark| *mark != Mark::Held).then_some(last)
    }

    /// Restores the window from stored marks, with what was reported then.
    pub fn resume(&self, last: &[Mark]) {
        for mark in last {
            self.count(*mark);
        }
        let mut window = self.window();
        window.is_told = window.is_out;
    }

    /// Returns text for people: `failed for 5 senders among its last 20 mails`.
    pub fn in_words(&self) -> String {
        let window = self.window();
        let senders = counted(self.failures(&window), "sender");
        match self.counted(&window).count() {
            1 => format!("failed for {senders} with its only mail"),
            mails => format!("failed for {senders} among its last {mails} mails"),
        }
    }

    /// Returns the mails that count, newest first.
    fn counted<'w>(&self, window: &'w Window) -> impl Iterator<Item = Mark> + 'w {
        window.last.iter().rev().copied().take(self.limits.mails)
    }

    /// Returns the number of senders for whom it failed.
    fn failures(&self, window: &Window) -> usize {
        let senders: HashSet<SenderKey> = self
            .counted(window)
            .filter_map(|mark| match mark {
                Mark::Failed(sender) => Some(sender),
                Mark::Held => None,
            })
            .collect();
        senders.len()
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a mark: `.` is a mail on which the rule succeeded; a letter is the sender of one on which it failed.
    fn mark(letter: char) -> Mark {
        match letter {
            '.' => Mark::Held,
            sender => Mark::Failed(SenderKey(u64::from(sender))),
        }
    }

    /// Returns whether it is out after each mail.
    fn outs(failures: usize, mails: usize, run: &str) -> String {
        let strikes = FailureWindow::new(StrikeLimits { failures, mails });
        run.chars()
            .map(|mail| {
                strikes.count(mark(mail));
                if strikes.is_out() { 'o' } else { '-' }
            })
            .collect()
    }

    #[test]
    fn so_many_failures_among_the_last_mails_are_too_many() {
        assert_eq!(outs(3, 5, "ab...cd"), "-------");
        assert_eq!(outs(3, 5, "ab..c"), "----o");
        assert_eq!(outs(3, 5, "a.b.c......"), "----ooooooo");
        assert_eq!(outs(1, 1, ".a"), "-o");
        assert_eq!(outs(0, 5, "abcdefgh"), "--------");
    }

    #[test]
    fn one_sender_is_one_failure_however_many_mails() {
        assert_eq!(outs(2, 5, "aaaaaaaaaa"), "----------");
        assert_eq!(outs(2, 5, "aaaab"), "----o");
    }

    #[test]
    fn what_nothing_served_before_stays_and_is_told_once() {
        let strikes = FailureWindow::staying(StrikeLimits {
            failures: 2,
            mails: 5,
        });
        strikes.count(mark('a'));
        assert!(!strikes.must_tell());
        strikes.count(mark('b'));
        assert!(strikes.must_tell());
        assert!(!strikes.is_out());
        strikes.told();
        strikes.count(mark('c'));
        assert!(!strikes.must_tell());
        assert!(!strikes.is_out());
    }

    #[test]
    fn the_sender_is_the_domain_of_from() {
        let key = |from: &str| {
            let mail = format!("{from}Subject: a\r\n\r\nb\r\n");
            sender_key(&postroom_core::parse(
                &bytes::Bytes::from(mail),
                &postroom_core::parse::ParseLimits::default(),
                &[],
            ))
        };
        assert_eq!(
            key("From: a@evil.example\r\n"),
            key("From: B <b@EVIL.example>\r\n")
        );
        assert_ne!(
            key("From: a@evil.example\r\n"),
            key("From: a@acme.example\r\n")
        );
        assert_eq!(key(""), key("From: nobody at all\r\n"));
    }
    #[test]
    fn what_is_taken_back_was_not_counted() {
        let strikes = FailureWindow::new(StrikeLimits {
            failures: 2,
            mails: 5,
        });
        for letter in ['a', '.', 'b'] {
            strikes.count(mark(letter));
        }
        assert!(strikes.is_out());
        strikes.take_back(mark('b'));
        assert!(!strikes.is_out());
        strikes.take_back(Mark::Held);
        assert_eq!(strikes.failing(), Some(vec![mark('a')]));
        strikes.count(mark('c'));
        assert!(strikes.is_out());
    }

    #[test]
    fn what_is_taken_back_pushed_nothing_out() {
        let strikes = FailureWindow::new(StrikeLimits {
            failures: 3,
            mails: 4,
        });
        for letter in ['a', '.', 'b'] {
            strikes.count(mark(letter));
        }
        for _ in 0..MOST_TAKEN_BACK {
            strikes.count(Mark::Held);
        }
        assert_eq!(strikes.failing(), None);
        for _ in 0..MOST_TAKEN_BACK {
            strikes.take_back(Mark::Held);
        }
        assert_eq!(
            strikes.failing(),
            Some(vec![mark('a'), Mark::Held, mark('b')])
        );
        strikes.count(mark('c'));
        assert!(strikes.is_out());
        assert_eq!(
            strikes.in_words(),
            "failed for 3 senders among its last 4 mails"
        );
    }

    #[test]
    fn it_goes_on_where_another_ended() {
        let limits = StrikeLimits {
            failures: 3,
            mails: 5,
        };
        // One process after the other, each with these mails.
        for (runs, is_out) in [
            (&["a", "b", "c"][..], true),
            (&["a", "...", "b", "c"], false),
            (&["a..", "b", "c"], true),
            (&["ab", ".....", "c"], false),
        ] {
            let mut kept: Option<Vec<Mark>> = None;
            let mut out = false;
            for run in runs {
                let strikes = FailureWindow::new(limits);
                strikes.resume(&kept.take().unwrap_or_default());
                run.chars().for_each(|mail| strikes.count(mark(mail)));
                (kept, out) = (strikes.failing(), strikes.is_out());
            }
            assert_eq!(out, is_out, "{runs:?}");
        }
    }

    #[test]
    fn it_says_how_many() {
        let strikes = FailureWindow::new(StrikeLimits {
            failures: 2,
            mails: 3,
        });
        for letter in ['a', '.', '.', 'a'] {
            strikes.count(mark(letter));
        }
        assert_eq!(
            strikes.in_words(),
            "failed for 1 sender among its last 3 mails"
        );
        assert!(!strikes.is_out());
    }
}
