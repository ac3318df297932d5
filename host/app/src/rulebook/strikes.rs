//! Counts on how many of its last mails a version of a rule failed: one that fails on too many does not go on.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// So many of the last mails may be taken back, and those that they pushed out of the window are back in it.
pub const MOST_TAKEN_BACK: usize = 64;

/// When a version is out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StrikeLimits {
    /// So many failures; 0 for never.
    pub failures: usize,
    /// Among so many mails, the last ones that it was asked about.
    pub mails: usize,
}

impl Default for StrikeLimits {
    fn default() -> Self {
        Self {
            failures: 5,
            mails: 20,
        }
    }
}

impl StrikeLimits {
    /// For rules that are never out.
    pub const NEVER: Self = Self {
        failures: 0,
        mails: 0,
    };
}

/// The last mails of one version, as long as it serves.
#[derive(Debug)]
pub struct Strikes {
    limits: StrikeLimits,
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    /// Whether the rule failed, the newest last; of more mails than count.
    last: VecDeque<bool>,
    is_out: bool,
}

impl Strikes {
    pub fn new(limits: StrikeLimits) -> Self {
        Self {
            limits,
            window: Mutex::default(),
        }
    }

    /// Whether the version is not to be asked any more.
    pub fn is_out(&self) -> bool {
        self.limits.failures > 0 && self.window().is_out
    }

    /// Takes note of one mail.
    pub fn count(&self, failed: bool) {
        if self.limits.failures == 0 {
            return;
        }
        let mut window = self.window();
        window.last.push_back(failed);
        if window.last.len() > self.limits.mails + MOST_TAKEN_BACK {
            window.last.pop_front();
        }
        window.is_out |= self.failures(&window) >= self.limits.failures;
    }

    /// Takes a mail back that was counted, one of the last [`MOST_TAKEN_BACK`].
    pub fn take_back(&self, failed: bool) {
        if self.limits.failures == 0 {
            return;
        }
        let mut window = self.window();
        if let Some(at) = window.last.iter().rposition(|it| *it == failed) {
            window.last.remove(at);
        }
        window.is_out = self.failures(&window) >= self.limits.failures;
    }

    /// Its last mails, the newest last, where it failed on one of them.
    pub fn failing(&self) -> Option<Vec<bool>> {
        let window = self.window();
        let mut last: Vec<bool> = self.counted(&window).collect();
        last.reverse();
        last.contains(&true).then_some(last)
    }

    /// Begins with mails that it had before.
    pub fn resume(&self, last: &[bool]) {
        for failed in last {
            self.count(*failed);
        }
    }

    /// `failed on 5 of its last 20 mails`, for people.
    pub fn in_words(&self) -> String {
        let window = self.window();
        let mails = self.counted(&window).count();
        format!(
            "failed on {} of its last {mails} mails",
            self.failures(&window)
        )
    }

    /// The mails that count, the newest first.
    fn counted<'w>(&self, window: &'w Window) -> impl Iterator<Item = bool> + 'w {
        window.last.iter().rev().copied().take(self.limits.mails)
    }

    fn failures(&self, window: &Window) -> usize {
        self.counted(window).filter(|failed| *failed).count()
    }

    fn window(&self) -> std::sync::MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is out after each mail; `x` is a failure.
    fn outs(failures: usize, mails: usize, run: &str) -> String {
        let strikes = Strikes::new(StrikeLimits { failures, mails });
        run.chars()
            .map(|mail| {
                strikes.count(mail == 'x');
                if strikes.is_out() { 'o' } else { '-' }
            })
            .collect()
    }

    #[test]
    fn so_many_failures_among_the_last_mails_are_too_many() {
        assert_eq!(outs(3, 5, "xx...xx"), "-------");
        assert_eq!(outs(3, 5, "xx..x"), "----o");
        assert_eq!(outs(3, 5, "x.x.x......"), "----ooooooo");
        assert_eq!(outs(1, 1, ".x"), "-o");
        assert_eq!(outs(0, 5, "xxxxxxxx"), "--------");
    }

    #[test]
    fn what_is_taken_back_was_not_counted() {
        let strikes = Strikes::new(StrikeLimits {
            failures: 2,
            mails: 5,
        });
        for failed in [true, false, true] {
            strikes.count(failed);
        }
        assert!(strikes.is_out());
        strikes.take_back(true);
        assert!(!strikes.is_out());
        strikes.take_back(false);
        assert_eq!(strikes.failing(), Some(vec![true]));
        strikes.count(true);
        assert!(strikes.is_out());
    }

    #[test]
    fn what_is_taken_back_pushed_nothing_out() {
        let strikes = Strikes::new(StrikeLimits {
            failures: 3,
            mails: 4,
        });
        for failed in [true, false, true] {
            strikes.count(failed);
        }
        for _ in 0..MOST_TAKEN_BACK {
            strikes.count(false);
        }
        assert_eq!(strikes.failing(), None);
        for _ in 0..MOST_TAKEN_BACK {
            strikes.take_back(false);
        }
        assert_eq!(strikes.failing(), Some(vec![true, false, true]));
        strikes.count(true);
        assert!(strikes.is_out());
        assert_eq!(strikes.in_words(), "failed on 3 of its last 4 mails");
    }

    #[test]
    fn it_goes_on_where_another_ended() {
        let limits = StrikeLimits {
            failures: 3,
            mails: 5,
        };
        // One process after the other, each with these mails.
        for (runs, is_out) in [
            (&["x", "x", "x"][..], true),
            (&["x", "...", "x", "x"], false),
            (&["x..", "x", "x"], true),
            (&["xx", ".....", "x"], false),
        ] {
            let mut kept: Option<Vec<bool>> = None;
            let mut out = false;
            for run in runs {
                let strikes = Strikes::new(limits);
                strikes.resume(&kept.take().unwrap_or_default());
                run.chars().for_each(|mail| strikes.count(mail == 'x'));
                (kept, out) = (strikes.failing(), strikes.is_out());
            }
            assert_eq!(out, is_out, "{runs:?}");
        }
    }

    #[test]
    fn it_says_how_many() {
        let strikes = Strikes::new(StrikeLimits {
            failures: 2,
            mails: 3,
        });
        for failed in [true, false, false, true] {
            strikes.count(failed);
        }
        assert_eq!(strikes.in_words(), "failed on 1 of its last 3 mails");
        assert!(!strikes.is_out());
    }
}
