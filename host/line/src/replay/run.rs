//! The replay run: one thread reads the mails, others decide and compare them in batches, and the caller receives them in order.

use std::collections::{BTreeMap, HashMap};
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, Scope, ScopedJoinHandle};
use std::time::Instant;

use postroom_sandbox::Limits;
use postroom_store::{Evidence, RecordedMail, Records, Selection, StoreError};
use tokio_util::sync::CancellationToken;

use super::Replayed;
use super::decider::{MailboxUnderTest, ReplayDecider};
use super::report::{Report, RuleReport};
use postroom_config::{Config, MailboxConfig};
use postroom_rules::rulebook::{Chain, LiveRule, RuleId};

/// The mails in a batch, fewer if they are large. Batches are small so that the effect of a slow rule shows soon.
const BATCH_MAILS: usize = 8;
const BATCH_BYTES: usize = 2 << 20;
/// The number of batches read ahead per deciding thread.
const AHEAD: usize = 4;

/// A mailbox, and one of its tenants.
pub type ChainKey = (String, String);

/// Everything needed to decide recorded mail again. Reads the store and writes nothing.
pub struct Replay {
    desk: ReplayDecider,
    /// By mailbox and tenant, with the positions of the chain's rules in `rules`.
    rooms: HashMap<ChainKey, (MailboxUnderTest, Vec<usize>)>,
    /// Every rule in the chains, once per tenant.
    rules: Vec<(RuleId, String, Limits)>,
    cores: usize,
}

struct Batch {
    mails: Vec<(RecordedMail, Option<Evidence>)>,
    done: SyncSender<Result<Vec<Replayed>, StoreError>>,
}

type Done = Receiver<Result<Vec<Replayed>, StoreError>>;

impl Replay {
    /// Creates a replay. `chains` holds the candidate's chains by mailbox and tenant: from files, from a generation, or the live ones of a
    /// rule book.
    pub fn new(
        config: &Config,
        records: Arc<dyn Records>,
        mut chains: HashMap<ChainKey, Chain>,
    ) -> Self {
        let mut slots = BTreeMap::new();
        let mut rules = Vec::new();
        let mut rooms = HashMap::new();
        for mailbox in config.mailboxes.iter().flat_map(MailboxConfig::by_tenant) {
            let tenant = config.tenant(&mailbox.tenant);
            let key = (mailbox.name.clone(), mailbox.tenant.clone());
            let (Some(chain), Some(tenant)) = (chains.remove(&key), tenant) else {
                continue;
            };
            let mut slot_of = |rule: &LiveRule| {
                let id = RuleId {
                    tenant: tenant.name.clone(),
                    name: rule.name.clone(),
                };
                *slots.entry(id.clone()).or_insert_with(|| {
                    rules.push((id, rule.hash.clone(), tenant.limits.clone()));
                    rules.len() - 1
                })
            };
            let slots = chain.rules.iter().map(|rule| slot_of(rule)).collect();
            let room = MailboxUnderTest::new(tenant, &mailbox, chain);
            rooms.insert(key, (room, slots));
        }
        Self {
            desk: ReplayDecider::new(config, records),
            rooms,
            rules,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
        }
    }

    /// Decides the selected mails again and passes each to `each`, oldest first. Blocks; ends early once stopped.
    pub fn run(
        &self,
        selection: &Selection,
        stop: &CancellationToken,
        mut each: impl FnMut(&Replayed),
    ) -> Result<Report, StoreError> {
        let started = Instant::now();
        let mut report = Report {
            rules: self.rule_reports(),
            ..Report::default()
        };
        let mails = self.desk.records.recorded(selection)?;
        let ahead = self.cores * AHEAD;
        let (work, to_do) = sync_channel::<Batch>(ahead);
        // This capacity bounds the batches in progress: the reader waits while this many have not been passed on.
        let (order, in_order) = sync_channel::<Done>(ahead);
        let to_do = Arc::new(Mutex::new(to_do));
        let read = std::thread::scope(|scope| {
            for number in 0..self.cores {
                let to_do = to_do.clone();
                spawn(scope, format!("replay-{number}"), move || {
                    self.work(&to_do, stop);
                })?;
            }
            // Only the threads keep the receiver: once they are all gone, the reader must not wait forever.
            drop(to_do);
            let reading = spawn(scope, "replay-reader".into(), move || {
                self.read(mails, &work, &order, stop)
            })?;
            let mut outcome = Ok(());
            // An error does not break this loop: the reader ends through its token, and batches in progress come back.
            for done in in_order {
                let Ok(batch) = done.recv() else {
                    continue;
                };
                match batch {
                    Ok(batch) if outcome.is_ok() => {
                        for replayed in &batch {
                            let room = self.rooms.get(&key_of(&replayed.mail));
                            report.add(replayed, room.map_or(&[], |(_, slots)| slots));
                            each(replayed);
                        }
                    }
                    Ok(_) => {}
                    Err(error) => {
                        outcome = outcome.and(Err(error));
                        stop.cancel();
                    }
                }
            }
            let read = reading.join().unwrap_or_else(|panic| resume_unwind(panic));
            outcome.and(read)
        });
        read?;
        report.elapsed = started.elapsed();
        report.interrupted = stop.is_cancelled();
        Ok(report)
    }

    /// Reads the mails with their records and hands them out in batches.
    fn read(
        &self,
        mails: impl Iterator<Item = Result<RecordedMail, StoreError>>,
        work: &SyncSender<Batch>,
        order: &SyncSender<Done>,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        let hand_out = |mails: Vec<_>| {
            let (done, comes_back) = sync_channel(1);
            let batch = Batch { mails, done };
            order.send(comes_back).is_ok() && work.send(batch).is_ok()
        };
        for mail in mails {
            if stop.is_cancelled() {
                return Ok(());
            }
            let mail = mail?;
            let evidence = match self.rooms.contains_key(&key_of(&mail)) {
                true => self.desk.records.evidence(mail.id)?,
                false => None,
            };
            bytes += evidence.as_ref().map_or(0, Evidence::size);
            batch.push((mail, evidence));
            if batch.len() == BATCH_MAILS || bytes >= BATCH_BYTES {
                bytes = 0;
                if !hand_out(std::mem::take(&mut batch)) {
                    return Ok(());
                }
            }
        }
        if !batch.is_empty() {
            hand_out(batch);
        }
        Ok(())
    }

    fn work(&self, to_do: &Mutex<Receiver<Batch>>, stop: &CancellationToken) {
        loop {
            let next = to_do.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(Batch { mails, done }) = next else {
                return;
            };
            let replayed =
                mails
                    .into_iter()
                    .take_while(|_| !stop.is_cancelled())
                    .map(|(mail, evidence)| {
                        let room = self.rooms.get(&key_of(&mail)).map(|(room, _)| room);
                        let end = self.desk.decide(room, &mail, evidence)?;
                        Ok(Replayed { mail, end })
                    });
            // Nobody waits for the result once the run was broken off.
            let _ = done.send(replayed.collect());
        }
    }

    fn rule_reports(&self) -> Vec<RuleReport> {
        let rules = self.rules.iter();
        rules
            .map(|(id, hash, limits)| RuleReport::new(id.clone(), hash.clone(), limits.clone()))
            .collect()
    }
}

fn key_of(mail: &RecordedMail) -> ChainKey {
    (mail.mailbox.clone(), mail.tenant.clone())
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: String,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>, StoreError> {
    Builder::new()
        .name(name)
        .spawn_scoped(scope, work)
        .map_err(|error| StoreError::Io {
            path: "a thread".into(),
            source: Arc::new(error),
        })
}
