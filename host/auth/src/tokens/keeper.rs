//! Token keeper: renews the tokens in use ahead of their expiry, and notices sign-ins by other processes.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use super::slot::{Next, Slot};
use super::{Tokens, blocking, renewal};
use crate::{Account, advice};

/// The most renewals at a time.
const AT_A_TIME: usize = 8;
/// How often the vault's files are checked.
const LOOK: Duration = Duration::from_secs(2);
/// The pause between tries, at shutdown, to store a token that the vault did not accept.
const SAVE_RETRY: Duration = Duration::from_millis(500);

/// An account and one of its sets of scopes.
type Work = (Account, Vec<String>);

impl Tokens {
    /// Renews the tokens in use ahead of their expiry and notices sign-ins by other processes, until stopped. Then waits
    /// for the running requests, so that none of their responses is lost.
    pub async fn keep(&self, stop: CancellationToken) {
        let mut running = FuturesUnordered::new();
        let mut under_way: HashSet<Work> = HashSet::new();
        let mut followed = Instant::now();
        loop {
            if followed.elapsed() >= LOOK {
                self.follow().await;
                followed = Instant::now();
            }
            let (due, look_again) = self.due().await;
            for (slot, scopes) in due {
                let work = (slot.used.account.clone(), scopes.clone());
                if running.len() < AT_A_TIME && under_way.insert(work.clone()) {
                    running.push(async move {
                        // Callers learn the outcome from their own request, or from the failure that this one records.
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

    /// Waits for the running requests and stores what could not be stored yet, so that no refresh token is lost. Requests of
    /// accounts that have none are abandoned. It is the last step before the process ends.
    pub async fn finish(&self) {
        self.ending.cancel();
        self.under_way.close();
        let longest = renewal::longest(&self.env);
        if tokio::time::timeout(longest, self.under_way.wait())
            .await
            .is_err()
        {
            tracing::warn!("a token request is still running and is abandoned");
        }
        let slots = self.slots();
        let saved = slots.iter().map(|slot| self.save(slot));
        futures::future::join_all(saved).await;
    }

    /// Stores a refresh token that is in memory only. The time limit is that of a request.
    async fn save(&self, slot: &Slot) {
        let deadline = Instant::now() + self.env.limits.timeout;
        while slot.has_unsaved_sign_in() {
            let account = &slot.used.account;
            let stored = match renewal::hold(&self.env, account).await {
                Ok(held) => renewal::current(&self.env, slot, &held).await.map(drop),
                Err(error) => Err(error),
            };
            match stored {
                Err(error) if Instant::now() >= deadline => {
                    let sign_in = advice::sign_in_command(account);
                    tracing::error!(%account, %error, sign_in, "the newest refresh token could not be stored and is lost; somebody has to sign in again");
                    return;
                }
                Err(_) => tokio::time::sleep(SAVE_RETRY).await,
                Ok(()) => {}
            }
        }
    }

    /// Adopts changes by other processes to the files of tokens in use; a sign-out there ends the tokens here.
    async fn follow(&self) {
        let mut watched = Vec::new();
        for slot in &self.slots() {
            let memory = slot.memory();
            if memory.is_watched()
                && let Some(turn) = slot.turn.try_take()
            {
                watched.push((slot.clone(), memory.stamp, turn));
            }
        }
        if watched.is_empty() {
            return;
        }
        let (vault, now) = (self.env.vault.clone(), self.env.clock.now());
        blocking(move || {
            for (slot, known, _turn) in watched {
                let account = &slot.used.account;
                let stamp = vault.stamp(account);
                if stamp == known {
                    continue;
                }
                // An unreadable record is not a sign-out.
                if let Ok(record) = vault.read(account) {
                    let record =
                        record.filter(|it| renewal::serves(it, &slot.registration.profile));
                    slot.memory().follow(record.as_ref(), now);
                }
                slot.memory().stamp = stamp;
            }
        })
        .await;
    }

    /// Returns the tokens that need renewal now, and the time until the next check.
    async fn due(&self) -> (Vec<(Arc<Slot>, Vec<String>)>, Duration) {
        let now = Instant::now();
        let mut look_again = now + LOOK;
        let mut due = Vec::new();
        let mut paused = Vec::new();
        for slot in &self.slots() {
            for track in slot.memory().tracks() {
                let scopes = || track.scopes.clone();
                match track.next(self.env.clock.now()) {
                    Next::Nothing => {}
                    Next::Now => due.push((slot.clone(), scopes())),
                    Next::At(at) => look_again = look_again.min(at),
                    Next::Paused(until, ends) => {
                        look_again = until.map_or(look_again, |until| look_again.min(until));
                        paused.push((slot.clone(), scopes(), ends));
                    }
                }
            }
        }
        if !paused.is_empty() {
            let vault = self.env.vault.clone();
            due.extend(
                blocking(move || {
                    paused.retain(|(slot, _, ends)| {
                        let stamp = vault.stamp(&slot.used.account);
                        !ends.is_not_yet(stamp, slot.registration.recoveries())
                    });
                    paused
                })
                .await
                .into_iter()
                .map(|(slot, scopes, _)| (slot, scopes)),
            );
        }
        // Work that found no free place is checked when a place becomes free, or soon.
        let soon = if due.is_empty() { Duration::ZERO } else { SOON };
        (due, look_again.saturating_duration_since(now).max(soon))
    }
}

/// The pause between two checks of work that is running or waits for a place.
const SOON: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ExchangeLimits;
    use crate::vault::{Vault, VaultKey};

    #[tokio::test]
    async fn the_end_waits_as_long_as_another_process_would() {
        let folder = tempfile::tempdir().unwrap();
        let vault = Vault::open(folder.path(), VaultKey::random().unwrap()).unwrap();
        // The client sends no request, but needs a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let timeout = Duration::from_millis(10);
        let limits = ExchangeLimits {
            timeout,
            ..ExchangeLimits::default()
        };
        let tokens = Tokens::new(http, Vec::new(), Vec::new(), vault).with_limits(limits);
        let within = renewal::longest(&tokens.env);
        assert!(within > 3 * timeout);
        tokens.under_way.spawn(tokio::time::sleep(within * 6 / 10));
        tokens.finish().await;
        assert!(tokens.under_way.is_empty());
    }
}
