//! Shadows: a candidate also decides a mailbox's next mails, and its differences from the live rule are recorded. A shadow is a
//! replay that waits for the next mail: it reads the line's decisions, and the line does not know about it.
//!
//! ```text
//! line ─commit→ store ─bell→ follower (a task a shadow) ─ a slot a mail ─→ decide again, compare ─→ record, one transaction a batch
//! ```

mod begin;
mod error;
mod follow;
mod kept;
mod promote;

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures::FutureExt;
use postroom_sandbox::Sandbox;
use postroom_store::{self as store, Listings, Shadow, ShadowId, ShadowState, StoreError};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::bus::{Heard, Reader};
use crate::event::LineEvent;
use crate::replay::ReplayDecider;
use crate::slots::Slots;
use postroom_config::Config;
use postroom_rules::rulebook::RuleBook;

pub use begin::{Asked, begin, others};
pub use error::{BeginError, PromoteError, ShadowGone, VersionRefused};
pub use kept::replayed;
pub use promote::{Put, put};

/// The interval of checks for shadows that another process started or stopped.
const LOOK: Duration = Duration::from_millis(250);
/// The pause before a full or busy store is tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// Everything that the service needs to follow shadows.
pub struct ShadowRunner {
    configured: ArcSwap<Configured>,
    store: Arc<dyn store::Shadows>,
    listings: Arc<dyn Listings>,
    rules: Arc<RuleBook>,
    sandbox: Arc<Sandbox>,
    slots: Arc<Slots>,
    stop: CancellationToken,
}

/// The configuration in use, with what decides by it.
struct Configured {
    config: Arc<Config>,
    desk: Arc<ReplayDecider>,
}

impl ShadowRunner {
    pub fn new(
        config: &Arc<Config>,
        store: Arc<dyn store::Shadows>,
        listings: Arc<dyn Listings>,
        rules: Arc<RuleBook>,
        sandbox: Arc<Sandbox>,
        slots: Arc<Slots>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            configured: ArcSwap::from_pointee(Configured::new(config, &listings)),
            store,
            rules,
            sandbox,
            slots,
            listings,
            stop,
        }
    }

    /// Takes over a changed configuration. A shadow continues by it, or fails if its mailbox or rule is gone.
    pub fn configure(&self, config: &Arc<Config>) {
        let configured = Configured::new(config, &self.listings);
        self.configured.store(Arc::new(configured));
    }

    /// Follows every shadow, including new ones, until stopped. A shadow looks for mail whenever one is decided.
    pub async fn serve(self: Arc<Self>, mut events: Reader) {
        let (bell, decided) = watch::channel(());
        let mut followed = HashSet::new();
        let mut tasks = JoinSet::new();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let publications = self.rules.publications();
        let mut noted = None;
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                Some(ended) = tasks.join_next() => {
                    // A shadow whose end could not even be recorded is left alone until the next start.
                    if let Ok((id, true)) = ended {
                        followed.remove(&id);
                    }
                    continue;
                }
                Some(heard) = events.next() => {
                    // A missed event may have been a decision.
                    if matches!(heard, Heard::Event(LineEvent::Decided(_)) | Heard::Lagged(_)) {
                        bell.send_replace(());
                    }
                    continue;
                }
                _ = looks.tick() => {}
            }
            let now = *publications.borrow();
            if noted != Some(now) {
                match self.note_live().await {
                    Ok(()) => noted = Some(now),
                    Err(error) => tracing::debug!(%error, "shadows cannot be read"),
                }
            }
            let active = self.store.active_shadows().await.unwrap_or_else(|error| {
                tracing::debug!(%error, "shadows cannot be read");
                Vec::new()
            });
            for shadow in active {
                if followed.insert(shadow.id) {
                    let bell = Some(decided.clone());
                    tasks.spawn(self.clone().keep(shadow, bell, self.stop.clone()));
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Lets every shadow decide the mail that is ready for it, for at most this long.
    pub async fn catch_up(self: &Arc<Self>, within: Duration) -> Result<(), StoreError> {
        let stop = self.stop.child_token();
        self.note_live().await?;
        let mut tasks = JoinSet::new();
        for shadow in self.store.active_shadows().await? {
            tasks.spawn(self.clone().keep(shadow, None, stop.clone()));
        }
        let all = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(within, all).await.is_err() {
            stop.cancel();
            while tasks.join_next().await.is_some() {}
        }
        Ok(())
    }

    /// Follows one shadow to its end or, without a bell, as far as there is mail. A failure ends only this shadow. Returns
    /// whether its end is recorded.
    async fn keep(
        self: Arc<Self>,
        shadow: Shadow,
        mut bell: Option<watch::Receiver<()>>,
        stop: CancellationToken,
    ) -> (ShadowId, bool) {
        let id = shadow.id;
        loop {
            let followed = AssertUnwindSafe(self.follow(id, bell.as_mut(), &stop));
            let reason = match followed.catch_unwind().await {
                Ok(Ok(())) | Ok(Err(StoreError::Closed)) => return (id, true),
                Ok(Err(error @ (StoreError::Full | StoreError::Busy))) => {
                    tracing::warn!(mailbox = %shadow.mailbox, "a shadow waits: {error}");
                    if bell.is_none() {
                        return (id, true);
                    }
                    tokio::select! {
                        () = tokio::time::sleep(PAUSE) => continue,
                        () = stop.cancelled() => return (id, true),
                    }
                }
                Ok(Err(error)) => error.to_string(),
                Err(_) => "a defect of Postroom ended it; the log has its panic".to_owned(),
            };
            return (id, self.fail(&shadow, reason).await.is_ok());
        }
    }

    async fn fail(&self, shadow: &Shadow, reason: String) -> Result<(), StoreError> {
        tracing::warn!(mailbox = %shadow.mailbox, rule = %shadow.rule, "a shadow failed: {reason}");
        let ended = self
            .store
            .end_shadow(shadow.id, ShadowState::Failed, Some(reason));
        ended.await.map(|_| ())
    }

    /// Marks a live candidate as promoted, whoever saved it: possibly a process that died before recording the promotion.
    async fn note_live(&self) -> Result<(), StoreError> {
        let mut newest = HashMap::new();
        for shadow in self.store.shadows().await? {
            newest.entry(shadow.mailbox.clone()).or_insert(shadow);
        }
        let may_be = |shadow: &Shadow| shadow.is_active() || shadow.state == ShadowState::Finished;
        for shadow in newest.into_values().filter(may_be) {
            let Some(chain) = self.rules.chain(&shadow.mailbox, &shadow.tenant) else {
                continue;
            };
            let mut rules = chain.rules.iter();
            let serves = rules.any(|it| it.name == shadow.rule && it.hash == shadow.hash.hex());
            if serves {
                let reason = format!("it serves since generation {} or before", chain.generation);
                self.promoted(&shadow, reason).await?;
            }
        }
        Ok(())
    }

    async fn promoted(&self, shadow: &Shadow, reason: String) -> Result<(), StoreError> {
        tracing::info!(mailbox = %shadow.mailbox, rule = %shadow.rule, "a shadow's candidate is promoted: {reason}");
        let ended = self
            .store
            .end_shadow(shadow.id, ShadowState::Promoted, Some(reason));
        ended.await.map(|_| ())
    }
}

impl Configured {
    fn new(config: &Arc<Config>, listings: &Arc<dyn Listings>) -> Self {
        Self {
            config: config.clone(),
            desk: Arc::new(ReplayDecider::new(config, listings.clone())),
        }
    }
}
