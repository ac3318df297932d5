//! Rounds of loading: looks at the tenants' files in parallel, and puts live what is ready without waiting for slow ones.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use postroom_store::StoreError;
use tokio::sync::OwnedMutexGuard;

use super::change::Change;
use super::look::{LookError, Looked, Seen};
use super::pool::LoadEnded;
use super::refused::alert_key;
use super::wiring::Wiring;
use super::{Generation, LiveRule, Reloaded, RuleBook, RuleId};
use crate::directory::DirectoryReloaded;
use postroom_config::{DirectoryFile, RuleUse, Tenant};

/// A start waits this long for all rules, so that they go live as one generation. Then it continues with those that are loaded.
const START_WAIT: Duration = Duration::from_secs(5);
/// A save that touches the rules of several tenants goes live as one generation when they load within this time.
const SAVE_WAIT: Duration = Duration::from_secs(1);

/// The rules of one tenant, which are loaded together and in parallel with those of others.
pub struct TenantRules {
    pub name: String,
    uses: Vec<RuleUse>,
    /// Its contacts and assets, which are loaded with its rules.
    directory: [Option<DirectoryFile>; 2],
    /// Allows one look at a time. The last state of each rule.
    seen: Arc<tokio::sync::Mutex<HashMap<RuleId, Seen>>>,
    /// Whether a look was requested while another one was running.
    again: AtomicBool,
    /// Whether its rules and its directory were ever loaded. Before that no mail of the tenant is decided.
    loaded: AtomicBool,
    /// The folders of its rules' files and of the files that they import or search for, as of the last look.
    folders: Mutex<BTreeSet<PathBuf>>,
    /// Allows one rollback at a time.
    pub sending_back: tokio::sync::Mutex<()>,
}

/// The right to look at one tenant's files. If it is dropped before the result is live, the next look starts from scratch.
struct Claim {
    tenant: Arc<TenantRules>,
    seen: OwnedMutexGuard<HashMap<RuleId, Seen>>,
    is_live: bool,
}

/// The result of a look, with the claim that keeps others from looking until it is live.
struct Found {
    claim: Claim,
    looked: Looked,
    /// The changes of its contacts and assets at the first look, reported after its rules.
    reread: DirectoryReloaded,
}

impl TenantRules {
    pub fn new(tenant: &Tenant, uses: Vec<RuleUse>) -> Self {
        let files = uses
            .iter()
            .filter_map(|wanted| wanted.rule.path()?.parent());
        let folders = files.map(|folder| postroom_files::here(folder).to_owned());
        Self {
            name: tenant.name.clone(),
            directory: [tenant.contacts.clone(), tenant.assets.clone()],
            folders: Mutex::new(folders.filter(|it| it.is_dir()).collect()),
            uses,
            seen: Arc::default(),
            again: AtomicBool::new(false),
            loaded: AtomicBool::new(false),
            sending_back: tokio::sync::Mutex::default(),
        }
    }

    /// Returns whether the same files are loaded in the same way for both.
    pub fn is_for_the_same(&self, other: &Self) -> bool {
        (&self.uses, &self.directory) == (&other.uses, &other.directory)
    }

    pub fn is_loaded(&self) -> bool {
        self.loaded.load(Ordering::Acquire)
    }

    pub fn folders(&self) -> BTreeSet<PathBuf> {
        let folders = self.folders.lock();
        folders.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the right to look, unless it is taken; its holder then looks once more.
    fn claim(self: &Arc<Self>) -> Option<Claim> {
        let claim = || {
            let seen = self.seen.clone().try_lock_owned().ok()?;
            Some(Claim::new(self, seen))
        };
        claim().or_else(|| {
            self.again.store(true, Ordering::SeqCst);
            // The holder may have returned it before it could see the request.
            claim()
        })
    }
}

impl Claim {
    fn new(tenant: &Arc<TenantRules>, seen: OwnedMutexGuard<HashMap<RuleId, Seen>>) -> Self {
        tenant.again.store(false, Ordering::SeqCst);
        Self {
            tenant: tenant.clone(),
            seen,
            is_live: false,
        }
    }

    /// Records that the result is live.
    fn live(mut self) {
        let files = self.seen.values();
        let folders = files.flat_map(|seen| seen.files.folders()).collect();
        let mut place = self.tenant.folders.lock();
        *place.as_deref_mut().unwrap_or_else(|it| it.get_mut()) = folders;
        drop(place);
        self.tenant.loaded.store(true, Ordering::Release);
        self.is_live = true;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.is_live {
            self.seen.clear();
        }
    }
}

impl RuleBook {
    /// Loads all rules for the first time. Rules that are slow to load go live as later generations.
    pub async fn load_first(self: Arc<Self>) -> Result<(), StoreError> {
        let loaded = self.look_at_all(None, START_WAIT).await;
        self.first_load_over.store(true, Ordering::Release);
        self.publications.send_modify(|count| *count += 1);
        self.started.send_replace(true);
        loaded.map(|_| ())
    }

    /// Looks at the files of all tenants and puts the changes live; those that load within a second go live together. A
    /// rule that does not load changes nothing. The observer sees the changes before they are live, and gets the result
    /// afterwards; `noticed` is the time at which a change was noticed. For a tenant that is being loaded already, the
    /// running load looks once more.
    pub async fn reload(
        self: &Arc<Self>,
        noticed: Option<Instant>,
    ) -> Result<Option<u64>, StoreError> {
        self.look_at_all(noticed, SAVE_WAIT).await
    }

    async fn look_at_all(
        self: &Arc<Self>,
        noticed: Option<Instant>,
        patience: Duration,
    ) -> Result<Option<u64>, StoreError> {
        // Read before the looks, so that each of them sees what was refused with it.
        let newest = self.versions.newest_generation().await?;
        self.followed.fetch_max(newest, Ordering::SeqCst);
        let wiring = self.wiring.load_full();
        let claims = wiring.tenants.iter().filter_map(TenantRules::claim);
        let claims = claims.collect();
        self.round(claims, noticed, patience).await
    }

    /// Loads the rules of the tenants that a changed configuration concerns. What is slow to load goes live later.
    pub async fn load_new(self: Arc<Self>) -> Result<Option<u64>, StoreError> {
        let wiring = self.wiring.load_full();
        let new = wiring.tenants.iter().filter(|it| !it.is_loaded());
        let claims = new.filter_map(TenantRules::claim).collect();
        let loaded = self.round(claims, None, SAVE_WAIT).await;
        self.publications.send_modify(|count| *count += 1);
        loaded
    }

    /// Looks at one tenant's files, once no other look at them is running. Returns early when the service stops.
    pub(super) async fn reload_tenant(
        self: &Arc<Self>,
        tenant: &Arc<TenantRules>,
    ) -> Result<(), StoreError> {
        let claim = tokio::select! {
            () = self.stop.cancelled() => return Ok(()),
            seen = tenant.seen.clone().lock_owned() => Claim::new(tenant, seen),
        };
        let looked = self.round(vec![claim], None, Duration::ZERO).await;
        looked.map(|_| ())
    }

    /// Looks at the files of these tenants in parallel. What is ready after `patience` goes live, and each of the others
    /// when it is ready. Returns the last generation that it made.
    async fn round(
        self: &Arc<Self>,
        claims: Vec<Claim>,
        noticed: Option<Instant>,
        patience: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let mut generation = None;
        let mut looks: FuturesUnordered<_> = claims
            .into_iter()
            .map(|claim| self.look_at(claim))
            .collect();
        let mut found: Vec<Found> = Vec::new();
        let mut is_due = false;
        let due = tokio::time::sleep(patience);
        tokio::pin!(due);
        while !looks.is_empty() {
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(one) = looks.next() => found.extend(one?),
                () = &mut due, if !is_due => {
                    is_due = true;
                    self.started.send_replace(true);
                }
            }
            if found.is_empty() || !(is_due || looks.is_empty()) {
                continue;
            }
            let tenants: Vec<_> = found.iter().map(|it| it.claim.tenant.clone()).collect();
            let published = self.publish(std::mem::take(&mut found), noticed).await?;
            generation = published.or(generation);
            is_due = false;
            due.as_mut().reset(tokio::time::Instant::now() + SAVE_WAIT);
            for tenant in tenants {
                // Another look was requested meanwhile.
                if tenant.again.load(Ordering::SeqCst)
                    && let Some(claim) = tenant.claim()
                {
                    looks.push(self.look_at(claim));
                }
            }
        }
        Ok(generation)
    }

    /// Looks at a tenant's contacts and assets, which go live at once, and at its rules. Returns `None` if the look ended
    /// early.
    async fn look_at(self: &Arc<Self>, mut claim: Claim) -> Result<Option<Found>, StoreError> {
        let tenant = claim.tenant.clone();
        let looked = async {
            let mut first_reread = DirectoryReloaded::default();
            if self.directories.has_files(&tenant.name) {
                let (directories, name) = (self.directories.clone(), tenant.name.clone());
                let looked = self.pool.run(move |_| directories.look(&name)).await?;
                let reread = self.directories.keep(looked).await;
                if !tenant.is_loaded() {
                    first_reread = reread;
                } else if reread.is_news() {
                    self.watch.directory_reloaded(reread);
                }
            }
            let (book, uses) = (self.clone(), tenant.clone());
            let look = self.pool.run(move |pace| {
                let is_first = !uses.is_loaded();
                let looked = book.look((&uses.uses, is_first), &mut claim.seen, pace);
                looked.map(|looked| Found {
                    claim,
                    looked,
                    reread: first_reread,
                })
            });
            look.await?
        };
        match looked.await {
            Ok(found) => Ok(Some(found)),
            Err(LookError::Store(error)) => Err(error),
            Err(LookError::Ended(LoadEnded::Stopped)) => Ok(None),
            Err(LookError::Ended(ended)) => {
                tracing::error!(tenant = %tenant.name, "loading rules failed: {ended}");
                Ok(None)
            }
        }
    }

    /// Puts the results live, all at once, and reports them.
    async fn publish(
        self: &Arc<Self>,
        mut found: Vec<Found>,
        noticed: Option<Instant>,
    ) -> Result<Option<u64>, StoreError> {
        let _one_at_a_time = self.publishing.lock().await;
        let wiring = self.wiring.load_full();
        // The configuration may have changed since the look.
        found.retain(|one| wiring.has(&one.claim.tenant));
        if found.is_empty() {
            return Ok(None);
        }
        let mut looked = Looked::default();
        let mut claims = Vec::with_capacity(found.len());
        let mut rereads = Vec::new();
        // In any order of completion.
        found.sort_by(|a, b| a.claim.tenant.name.cmp(&b.claim.tenant.name));
        for one in found {
            looked.add(one.looked);
            claims.push(one.claim);
            rereads.push(one.reread);
        }
        let book = self.clone();
        let wired = wiring.clone();
        let rehearsed = tokio::task::spawn_blocking(move || {
            let (serving, chains) = (book.live.load_full(), &wired.chains);
            let change = Change::new(&serving, &looked, chains);
            if change.is_news() {
                book.watch.before_publish(&change);
            }
            looked
        });
        let looked = rehearsed
            .await
            .unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        let reloaded = Reloaded {
            noticed,
            ..self.put_live(looked, &claims, &wiring).await?
        };
        claims.into_iter().for_each(Claim::live);
        self.publications.send_modify(|count| *count += 1);
        let generation = reloaded.generation;
        if reloaded.is_news() {
            self.watch.reloaded(reloaded);
        }
        for reread in rereads.into_iter().filter(|it| it.is_news()) {
            self.watch.directory_reloaded(reread);
        }
        Ok(generation)
    }

    async fn put_live(
        &self,
        looked: Looked,
        claims: &[Claim],
        wiring: &Wiring,
    ) -> Result<Reloaded, StoreError> {
        let cause = looked.cause();
        let mut reloaded = Reloaded {
            refused: looked.refused,
            passed: looked.passed,
            ..Reloaded::default()
        };
        let newest = self.versions.newest_generation().await?;
        let live = self.live.load_full();
        if !looked.changed.is_empty() || newest > live.number {
            let ours: BTreeSet<&str> = claims.iter().map(|it| it.tenant.name.as_str()).collect();
            let others = wiring.tenants.iter().map(|it| it.name.clone());
            let others: BTreeSet<String> = others
                .filter(|name| !ours.contains(name.as_str()))
                .collect();
            self.resume_strikes(&looked.rules, claims).await?;
            let records = looked.rules.values().filter_map(|rule| rule.record.clone());
            let number = self
                .versions
                .save_generation(records.collect(), others.clone(), cause)
                .await?;
            if newest <= self.followed.load(Ordering::SeqCst) && number <= newest + 1 {
                // It is ours, and no other came before it.
                self.followed.fetch_max(number, Ordering::SeqCst);
            }
            let mut rules = live.rules.clone();
            rules.retain(|id, _| others.contains(&id.tenant));
            rules.extend(looked.rules);
            self.live.store(Arc::new(Generation { number, rules }));
            reloaded.generation = Some(number);
            reloaded.live = looked.sound;
            reloaded.returned = looked.returned;
        }
        for id in looked.forgiven {
            let (key, sinks) = (alert_key(&id.name), wiring.alert_sinks(&id.tenant));
            self.versions
                .forgive(&id.tenant, &id.name, &key, sinks)
                .await?;
        }
        Ok(reloaded)
    }

    /// Continues the counts of an earlier process, for the tenants that are loaded for the first time.
    async fn resume_strikes(
        &self,
        rules: &BTreeMap<RuleId, Arc<LiveRule>>,
        claims: &[Claim],
    ) -> Result<(), StoreError> {
        let is_new = |tenant: &str| {
            let mut claims = claims.iter().map(|it| &it.tenant);
            claims.any(|it| it.name == tenant && !it.is_loaded())
        };
        if claims.iter().all(|it| it.tenant.is_loaded()) {
            return Ok(());
        }
        for record in self.versions.strikes().await? {
            let id = RuleId {
                tenant: record.tenant,
                name: record.name,
            };
            let rule = rules.get(&id).filter(|_| is_new(&id.tenant));
            if let Some(rule) = rule.filter(|rule| rule.hash == record.hash.hex()) {
                rule.strikes.resume(&record.last);
            }
        }
        Ok(())
    }
}
