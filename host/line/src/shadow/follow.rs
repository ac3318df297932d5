//! Follows one shadow: each mail that its mailbox decides is decided again with the candidate in the rule's place.

use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::counted;
use postroom_store::{RecordedMail, Shadow, ShadowId, ShadowMail, ShadowState, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Configured, LOOK, ShadowRunner, kept, promote};
use crate::fair::Work;
use crate::replay::{End, MailboxUnderTest, Skip};
use postroom_config::{MailboxConfig, Tenant};
use postroom_rules::crash;
use postroom_rules::rulebook::{Chain, LiveRule, load_bytes};

/// The most mails recorded in one transaction.
const BATCH: u64 = 32;
/// The time after which the results of slow mails are recorded, without waiting for the end of their batch.
const RECORD_AFTER: Duration = Duration::from_secs(1);

/// A shadow's loaded candidate and its progress.
struct Follower<'a> {
    shadows: &'a ShadowRunner,
    /// The configuration that it was made for.
    configured: Arc<Configured>,
    mailbox: MailboxConfig,
    tenant: Tenant,
    candidate: Arc<LiveRule>,
    /// The account charged for its computing time. Each tenant has one for its shadows, as if they were one more client: a slow
    /// candidate is held back like a slow client's rule, and no mail waits for it, not even its own client's.
    account: String,
    /// Every mail up to this one has been dealt with.
    reached: i64,
}

impl ShadowRunner {
    /// Follows a shadow until it ends or everything is stopped; without a bell, until there is no mail left for it.
    pub(super) async fn follow(
        &self,
        id: ShadowId,
        mut bell: Option<&mut watch::Receiver<()>>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut follower: Option<Follower> = None;
        while let Some(shadow) = self.store.shadow(id).await? {
            match shadow.state {
                ShadowState::Running => {}
                ShadowState::Promoting => return self.promote(&shadow).await,
                _ => return Ok(()),
            }
            if stop.is_cancelled() {
                return Ok(());
            }
            let made = follower.take().filter(Follower::is_current);
            let follower = match made {
                Some(made) => follower.insert(made),
                None => match self.follower(&shadow).await? {
                    Ok(loaded) => follower.insert(loaded),
                    Err(reason) => return self.fail(&shadow, reason).await,
                },
            };
            if follower.advance(&shadow, stop).await? {
                continue;
            }
            let Some(bell) = &mut bell else {
                return Ok(());
            };
            tokio::select! {
                // The line is gone, and the service will soon be too.
                rung = bell.changed() => if rung.is_err() { return Ok(()) },
                () = tokio::time::sleep(LOOK) => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    /// Loads the candidate. The inner error says why it cannot continue.
    async fn follower(&self, shadow: &Shadow) -> Result<Result<Follower<'_>, String>, StoreError> {
        let configured = self.configured.load_full();
        let (mailbox, tenant, wanted) = match promote::stands_at(&configured.config, shadow) {
            Ok((mailbox, tenant, wanted)) => (mailbox.clone(), tenant.clone(), wanted),
            Err(reason) => return Ok(Err(reason.to_string())),
        };
        let Some(bytes) = self.store.shadow_bytes(shadow.id).await? else {
            return Ok(Err("its candidate is not kept".into()));
        };
        let on_failure = wanted.on_failure;
        let sandbox = self.sandbox.clone();
        let loading = tokio::task::spawn_blocking(move || load_bytes(&sandbox, &wanted, &bytes));
        let loaded = loading
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        Ok(match loaded {
            Ok(rule) => Ok(Follower {
                shadows: self,
                candidate: Arc::new(LiveRule::tried(&shadow.rule, rule, on_failure)),
                account: format!("{} (shadow)", tenant.name),
                configured,
                mailbox,
                tenant,
                reached: 0,
            }),
            Err(error) => Err(format!("the candidate does not load any more: {error}")),
        })
    }

    /// Promotes a candidate that decided everything as the rule did. If that is impossible, the shadow ends as finished, with the
    /// reason.
    async fn promote(&self, shadow: &Shadow) -> Result<(), StoreError> {
        let config = self.configured.load().config.clone();
        let sandbox = self.sandbox.clone();
        let (listings, promoted) = (self.listings.clone(), shadow.clone());
        let putting = tokio::task::spawn_blocking(move || {
            promote::put(&config, &sandbox, &*listings, &promoted, false)
        });
        let put = putting
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        match put {
            Ok(_) => {
                crash::point(crash::Point::BeforePromotionRecord);
                let reason = format!("{} decided the same", counted(shadow.decided(), "mail"));
                self.promoted(shadow, reason).await
            }
            Err(error) => {
                let reason = format!("all mails were decided the same; not promoted: {error:#}");
                tracing::warn!(mailbox = %shadow.mailbox, rule = %shadow.rule, "a shadow has finished: {reason}");
                let ended = self
                    .store
                    .end_shadow(shadow.id, ShadowState::Finished, Some(reason));
                ended.await.map(|_| ())
            }
        }
    }
}

impl Follower<'_> {
    /// Returns whether the configuration is the one that it was made for.
    fn is_current(&self) -> bool {
        Arc::ptr_eq(&self.configured, &self.shadows.configured.load())
    }

    /// Decides the next batch of mails and records it. Returns whether more mail may be ready.
    async fn advance(
        &mut self,
        shadow: &Shadow,
        stop: &CancellationToken,
    ) -> Result<bool, StoreError> {
        let Some(chain) = self.chain() else {
            return Ok(false);
        };
        let wanted = shadow.wanted.saturating_sub(shadow.decided());
        let store = &self.shadows.store;
        let limit = wanted.min(BATCH) as usize;
        let page = store.shadow_page(shadow, self.reached, limit).await?;
        let room = Arc::new(MailboxUnderTest::new(&self.tenant, &self.mailbox, chain));
        let began = Instant::now();
        let mut done: Vec<ShadowMail> = Vec::new();
        for mail in &page.mails {
            if began.elapsed() >= RECORD_AFTER {
                break;
            }
            let Some(end) = self.decide(&room, mail, stop).await? else {
                break;
            };
            done.push(kept::shadow_mail(mail, &end, &shadow.rule, &room)?);
        }
        self.reached = page.reached(done.len());
        if done.is_empty() {
            return Ok(false);
        }
        crash::point(crash::Point::BeforeShadowRecord);
        let recorded = store.record_shadow(shadow.id, done, self.reached, outcome);
        let now = recorded.await?;
        if let Some(now) = now.filter(|now| now.state == ShadowState::Finished) {
            let why = now.reason.as_deref().unwrap_or("all mails are decided");
            tracing::info!(mailbox = %now.mailbox, rule = %now.rule, same = now.same, of = now.decided(), "a shadow has finished: {why}");
        }
        Ok(true)
    }

    /// Returns the live chain with the candidate in its rule's place, or `None` while the chain is not loaded.
    fn chain(&self) -> Option<Chain> {
        let (mailbox, tenant) = (&self.mailbox.name, &self.tenant.name);
        let live = self.shadows.rules.chain(mailbox, tenant)?;
        let rules = live.rules.iter().map(|rule| {
            let is_its_place = rule.name == self.candidate.name;
            match is_its_place {
                true => self.candidate.clone(),
                false => Arc::new(rule.beside()),
            }
        });
        Some(Chain {
            generation: live.generation,
            rules: rules.collect(),
        })
    }

    /// Decides one mail in a slot. Returns `None` if stopped before a slot is free.
    async fn decide(
        &self,
        room: &Arc<MailboxUnderTest>,
        mail: &RecordedMail,
        stop: &CancellationToken,
    ) -> Result<Option<End>, StoreError> {
        let mut slot = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(None),
            slot = self.shadows.slots.slot(&self.account, Work::Decide) => slot,
        };
        let desk = self.configured.desk.clone();
        let (room, mail) = (room.clone(), mail.clone());
        let deciding = tokio::task::spawn_blocking(move || {
            let mut end = None;
            slot.work(|| {
                let is_first = end.is_none();
                if is_first {
                    let evidence = desk.records.evidence(mail.id);
                    end = Some(evidence.and_then(|it| desk.decide(Some(&room), &mail, it)));
                }
                is_first
            });
            end.transpose()
        });
        deciding
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

/// Returns the final state of a shadow that decided all its mails.
fn outcome(shadow: &Shadow) -> (ShadowState, Option<String>) {
    if !shadow.promote {
        return (ShadowState::Finished, None);
    }
    match unequal(shadow) {
        None => (ShadowState::Promoting, None),
        Some(why) => (ShadowState::Finished, Some(format!("not promoted: {why}"))),
    }
}

/// Returns why the candidate is not known to do the same as the rule.
fn unequal(shadow: &Shadow) -> Option<String> {
    let differ = shadow.decided() - shadow.same;
    if differ > 0 {
        return Some(format!(
            "{differ} of {} came out otherwise",
            counted(shadow.decided(), "mail")
        ));
    }
    if shadow.unrecorded > 0 {
        return Some(format!(
            "for {} of {} it asked for what the rule had not asked, and the answer is not known",
            shadow.unrecorded,
            counted(shadow.decided(), "mail")
        ));
    }
    let wrong = [Skip::Unreadable, Skip::Defect];
    let wrong = wrong
        .iter()
        .find(|it| shadow.skipped.contains_key(it.name()));
    wrong.map(|skip| format!("there were mails {}", skip.words()))
}
