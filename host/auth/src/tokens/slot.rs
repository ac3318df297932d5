//! One account in memory: its tokens, its pauses after failures, and the turn to make a request.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

use super::registration::Registration;
use super::turn::Turn;
use crate::vault::{Record, Stamp};
use crate::{AccessToken, AccountUse, AuthError, Resource};

pub(super) struct Slot {
    pub(super) registration: Arc<Registration>,
    pub(super) used: AccountUse,
    /// The holder makes the account's next request.
    pub(super) turn: Turn,
    /// Counts the recoveries from failures.
    pub(super) recovered: watch::Sender<u64>,
    memory: Mutex<Memory>,
}

#[derive(Default)]
pub(super) struct Memory {
    /// One per set of scopes.
    tracks: Vec<Track>,
    /// A record that was received but is not durable yet, because the vault could not be written.
    pub(super) unsaved: Option<Record>,
    /// The vault's file when it was last read or written here.
    pub(super) stamp: Stamp,
    /// The times of the last two refusals of a token by servers.
    rejections: [Option<Instant>; 2],
}

/// One set of scopes of an account.
#[derive(Default)]
pub(super) struct Track {
    pub(super) scopes: Vec<String>,
    /// Whether a caller in this process wants these tokens.
    pub(super) is_used: bool,
    kept: Option<Kept>,
    /// A token of the vault that a server refused.
    rejected: Option<AccessToken>,
    pause: Option<Pause>,
    /// Failures in a row.
    pub(super) attempts: u32,
    /// The failure that was logged.
    pub(super) told: Option<AuthError>,
}

struct Kept {
    token: AccessToken,
    /// The time at which it is renewed.
    due: Moment,
    expires: Moment,
}

/// A moment to come, by the wall clock and by one that never leaps: it is there when either says so. A wall clock that is set back
/// would prolong a token; the other one stands still while the machine sleeps.
#[derive(Clone, Copy)]
struct Moment {
    wall: Timestamp,
    steady: Instant,
}

/// The pause after a failure: no request until then, or until the vault's file has changed.
struct Pause {
    error: AuthError,
    at: Instant,
    /// `None` means never.
    until: Option<Instant>,
    ends: Ends,
}

/// The events that end a pause early: a changed file, or the recovery of a refused application.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) stamp: Stamp,
    pub(super) recoveries: Option<u64>,
}

/// The keeper's next step for a set of scopes.
pub(super) enum Next {
    /// Nothing: it is unused, or the next caller makes the request.
    Nothing,
    Now,
    At(Instant),
    /// A pause that ends at a given time, if at all, or early by an event.
    Paused(Option<Instant>, Ends),
}

/// The longest lifetime that is believed.
pub(super) const LIFETIME_MAX: Duration = Duration::from_secs(48 * 60 * 60);
/// How far in the future another process may have received a token. The clock was set back since a later one.
const SKEW: Duration = Duration::from_secs(5 * 60);

impl Slot {
    pub(super) fn new(registration: Arc<Registration>, used: AccountUse) -> Self {
        Self {
            registration,
            used,
            turn: Turn::default(),
            recovered: watch::Sender::default(),
            memory: Mutex::default(),
        }
    }

    pub(super) fn scopes(&self, resource: Resource) -> Vec<String> {
        self.registration
            .profile
            .scopes_for(resource, &self.used.needs)
    }

    /// Returns whether a refresh token is in memory only.
    pub(super) fn has_unsaved_sign_in(&self) -> bool {
        let memory = self.memory();
        let unsaved = memory.unsaved.as_ref();
        unsaved.is_some_and(|record| record.refresh_token.is_some())
    }

    /// Returns the account's memory. The lock is never held while waiting for anything.
    pub(super) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Moment {
    fn of(wall: Timestamp, now: Timestamp) -> Self {
        let left = Duration::try_from(wall.duration_since(now)).unwrap_or_default();
        Self {
            wall,
            steady: Instant::now() + left.min(LIFETIME_MAX),
        }
    }

    fn left(self, now: Timestamp) -> Duration {
        let by_wall = Duration::try_from(self.wall.duration_since(now)).unwrap_or_default();
        by_wall.min(self.steady.saturating_duration_since(Instant::now()))
    }
}

impl Ends {
    pub(super) fn is_not_yet(self, stamp: Stamp, recoveries: u64) -> bool {
        self.stamp == stamp && self.recoveries.is_none_or(|it| it == recoveries)
    }
}

impl Memory {
    pub(super) fn track(&mut self, scopes: &[String]) -> &mut Track {
        let at = self.tracks.iter().position(|it| it.scopes == scopes);
        let at = at.unwrap_or_else(|| {
            self.tracks.push(Track {
                scopes: scopes.to_vec(),
                ..Track::default()
            });
            self.tracks.len() - 1
        });
        &mut self.tracks[at]
    }

    pub(super) fn tracks(&mut self) -> &mut [Track] {
        &mut self.tracks
    }

    /// Discards a refused token. Returns false if it is kept because two were refused within `apart`; returns true as well
    /// if it is not the newest.
    pub(super) fn reject(&mut self, token: &AccessToken, apart: Duration) -> bool {
        let [last, before] = self.rejections;
        let is_newest =
            |track: &&mut Track| track.kept.as_ref().is_some_and(|it| it.token == *token);
        let Some(track) = self.tracks.iter_mut().find(is_newest) else {
            return true;
        };
        if before.is_some_and(|at| at.elapsed() < apart) {
            return false;
        }
        track.kept = None;
        track.rejected = Some(token.clone());
        self.rejections = [Some(Instant::now()), last];
        true
    }

    /// Adopts the vault's tokens, whichever process stored them.
    pub(super) fn adopt(&mut self, record: &Record, now: Timestamp) {
        for access in &record.access {
            let track = self.track(&access.scopes);
            let known = track.kept.as_ref().map(|kept| &kept.token);
            if known == Some(&access.token) || track.rejected.as_ref() == Some(&access.token) {
                continue;
            }
            let received = record.last_refresh.unwrap_or(now);
            // An end too far ahead, or a beginning in the future, is one of a clock that went wrong.
            let is_believed = access.expires.duration_since(now) <= signed(LIFETIME_MAX)
                && received.duration_since(now) <= signed(SKEW);
            track.kept = is_believed.then(|| Kept {
                token: access.token.clone(),
                due: Moment::of(due(received, access.expires), now),
                expires: Moment::of(access.expires, now),
            });
        }
    }

    /// Adopts what another process wrote; tokens that the vault no longer has are no longer used.
    pub(super) fn follow(&mut self, record: Option<&Record>, now: Timestamp) {
        if self.unsaved.is_some() {
            return;
        }
        let access = record.map_or(&[][..], |record| &record.access);
        for track in &mut self.tracks {
            track.kept = track
                .kept
                .take()
                .filter(|kept| access.iter().any(|it| it.token == kept.token));
        }
        if let Some(record) = record {
            self.adopt(record, now);
        }
    }

    /// Records a new stamp after a failure was stored in the file, since that alone ends no pause of the account's other
    /// scopes.
    pub(super) fn restamp(&mut self, before: Stamp, after: Stamp) {
        let pauses = self.tracks.iter_mut().filter_map(|it| it.pause.as_mut());
        for pause in pauses.filter(|pause| pause.ends.stamp == before) {
            pause.ends.stamp = after;
        }
    }

    /// Returns whether tokens are kept here that a sign-out by another process should end.
    pub(super) fn is_watched(&self) -> bool {
        let mut tracks = self.tracks.iter();
        tracks.any(|it| it.is_used && it.kept.is_some() && it.pause.is_none())
    }

    /// Discards every token; failures stay until a request succeeds.
    pub(super) fn forget_tokens(&mut self) {
        self.unsaved = None;
        for track in &mut self.tracks {
            track.kept = None;
            track.rejected = None;
        }
    }
}

impl Track {
    /// Returns a token that is not due for renewal.
    pub(super) fn fresh(&self, now: Timestamp) -> Option<AccessToken> {
        self.before(now, |kept| kept.due)
    }

    /// Returns a token that has not expired.
    pub(super) fn good(&self, now: Timestamp) -> Option<AccessToken> {
        self.before(now, |kept| kept.expires)
    }

    fn before(&self, now: Timestamp, end: impl Fn(&Kept) -> Moment) -> Option<AccessToken> {
        let kept = self.kept.as_ref()?;
        (!end(kept).left(now).is_zero()).then(|| kept.token.clone())
    }

    /// Returns the failure for a caller that started waiting at `asked`: during the pause, or if the request failed while
    /// it waited.
    pub(super) fn paused(
        &self,
        asked: Instant,
        stamp: Stamp,
        recoveries: u64,
    ) -> Option<AuthError> {
        let holds = |pause: &&Pause| pause.ends.is_not_yet(stamp, recoveries);
        let pause = self.pause.as_ref().filter(holds)?;
        let now = Instant::now();
        let lasts = pause.until.is_none_or(|until| now < until);
        if !lasts && pause.at < asked {
            return None;
        }
        let mut error = pause.error.clone();
        if let AuthError::Transient {
            retry_after: Some(left),
            ..
        } = &mut error
        {
            *left = pause
                .until
                .map_or(*left, |until| until.saturating_duration_since(now));
        }
        Some(error)
    }

    pub(super) fn pause(&mut self, error: AuthError, pause: Option<Duration>, ends: Ends) {
        let at = Instant::now();
        self.pause = Some(Pause {
            error,
            at,
            until: pause.and_then(|pause| at.checked_add(pause)),
            ends,
        });
    }

    /// Ends the pause. Returns true if there was one.
    pub(super) fn end_pause(&mut self) -> bool {
        self.attempts = 0;
        self.pause.take().is_some()
    }

    pub(super) fn next(&self, now: Timestamp) -> Next {
        if !self.is_used {
            return Next::Nothing;
        }
        if let Some(pause) = &self.pause {
            return match pause.until {
                Some(until) if until <= Instant::now() => Next::Now,
                until => Next::Paused(until, pause.ends),
            };
        }
        let Some(kept) = &self.kept else {
            return Next::Nothing;
        };
        match kept.due.left(now) {
            Duration::ZERO => Next::Now,
            left => Next::At(Instant::now() + left),
        }
    }
}

/// Returns when a token is renewed: at a random point between 70 and 85 per cent of its life, so that tokens received
/// together are not renewed together.
fn due(received: Timestamp, expires: Timestamp) -> Timestamp {
    let lifetime = expires.duration_since(received);
    let chance = RandomState::new().hash_one(()) % 1_500;
    let share = (7_000 + chance) as f64 / 10_000.0;
    received
        .checked_add(lifetime.mul_f64(share))
        .unwrap_or(received)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
