//! Keeping tokens fresh: those in use are renewed ahead of their end, and sign-ins by other processes are noticed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::slot::{Next, Slot};
use super::{Tokens, blocking};
use crate::Account;

/// How many renewals are under way at a time.
const AT_A_TIME: usize = 8;
/// How often the files of accounts that failed are looked at.
const LOOK: Duration = Duration::from_secs(2);
/// What a request takes at the end besides its timeout.
const ENDING: Duration = Duration::from_secs(5);

/// An account and one of its sets of scopes.
type Work = (Account, Vec<String>);

impl Tokens {
    /// Renews the tokens in use ahead of their end and notices sign-ins by other processes, until stopped. Then waits for the
    /// requests under way, so that none of their answers is lost.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        let mut under_way: HashSet<Work> = HashSet::new();
        loop {
            let (due, look_again) = self.due().await;
            for (slot, scopes) in due {
                let work = (slot.used.account.clone(), scopes.clone());
                if running.len() < AT_A_TIME && under_way.insert(work.clone()) {
                    running.push(async move {
                        // Those who need the token are told, by their own request or the failure that this one leaves.
                        let _ = self.token(&slot, &scopes).await;
                        work
                    });
                }
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = running.next(), if !running.is_empty() => {
                    under_way.remove(&done);
                }
                () = tokio::time::sleep(look_again) => {}
            }
        }
        drop(running);
        self.finish().await;
    }

    /// Waits for the requests under way, so that none of their answers is lost: the last thing before the process ends.
    pub async fn finish(&self) {
        self.under_way.close();
        let longest = self.env.limits.timeout + ENDING;
        if tokio::time::timeout(longest, self.under_way.wait())
            .await
            .is_err()
        {
            tracing::warn!("a token request is still under way, and is given up");
        }
    }

    /// What has to be renewed now, and when to look again.
    async fn due(&self) -> (Vec<(Arc<Slot>, Vec<String>)>, Duration) {
        let now = Instant::now();
        let mut look_again = now + LOOK;
        let mut due = Vec::new();
        let mut paused = Vec::new();
        for slot in self.slots.values() {
            for track in slot.memory().tracks() {
                let scopes = || track.scopes.clone();
                match track.next() {
                    Next::Nothing => {}
                    Next::Now => due.push((slot.clone(), scopes())),
                    Next::At(at) => look_again = look_again.min(at),
                    Next::Paused(until, stamp) => {
                        look_again = until.map_or(look_again, |until| look_again.min(until));
                        paused.push((slot.clone(), scopes(), stamp));
                    }
                }
            }
        }
        if !paused.is_empty() {
            let vault = self.env.vault.clone();
            due.extend(
                blocking(move || {
                    paused.retain(|(slot, _, stamp)| vault.stamp(&slot.used.account) != *stamp);
                    paused
                })
                .await
                .into_iter()
                .map(|(slot, scopes, _)| (slot, scopes)),
            );
        }
        // Work that found no place is looked at when a place is free, or soon.
        let soon = if due.is_empty() { Duration::ZERO } else { SOON };
        (due, look_again.saturating_duration_since(now).max(soon))
    }
}

/// Between two looks at work that is under way or waits for a place.
const SOON: Duration = Duration::from_millis(200);
