//! Rehearsal: the newest recorded mails run through the live chains and the changed ones, side by side and for a limited time, so
//! that saving a rule shows what it changes before it goes live.

use std::collections::{HashMap, VecDeque};
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use postroom_core::Decision;
use postroom_store::{DecisionId, Records, Selection, StoreError};
use tokio_util::sync::CancellationToken;

use super::{ChainKey, End, Replay, Replayed, Report, Unrecorded, compare};
use postroom_config::Config;
use postroom_rules::rulebook::{Chain, Change};

/// How long before the deadline no new mail is started, so that those in progress finish and are reported. At most half the time.
const LAST_MAILS: Duration = Duration::from_millis(300);

/// Opens the recorded mail of a data folder.
pub type OpenRecords = fn(&Path) -> Result<Arc<dyn Records>, StoreError>;

/// Replays the same few mails for each change.
pub struct Rehearsal {
    config: ArcSwap<Config>,
    records: OpenRecords,
    /// Restricts the rehearsal to the mails of these mailboxes.
    mailboxes: Option<Vec<String>>,
    mails: usize,
    time: Duration,
    /// Replays that ran out of time, each still on its last mail.
    ending: Mutex<Vec<JoinHandle<()>>>,
}

/// The result of a rehearsal.
#[derive(Debug)]
pub struct Rehearsed {
    /// The generation that the change is compared with; `None` for the recorded decisions.
    pub against: Option<u64>,
    /// The mailboxes that the change concerns.
    pub mailboxes: Vec<String>,
    /// The number of mails available for the replay.
    pub mails: u64,
    /// The counts for the mails that were compared in time.
    pub report: Report,
    /// The mails with differences, oldest first. `before` is the live version's decision, or the recorded one.
    pub differing: Vec<Replayed>,
}

/// A message from one of the two replays.
enum Said {
    Serving(Box<Replayed>),
    Fresh(Box<Replayed>),
    Failed(StoreError),
}

impl Rehearsal {
    pub fn new(
        config: Arc<Config>,
        records: OpenRecords,
        mailboxes: Option<Vec<String>>,
        mails: usize,
        time: Duration,
    ) -> Self {
        Self {
            config: ArcSwap::new(config),
            records,
            mailboxes,
            mails,
            time,
            ending: Mutex::default(),
        }
    }

    /// Takes over a changed configuration.
    pub fn configure(&self, config: Arc<Config>) {
        self.config.store(config);
    }

    /// Returns the most rule instances in use at a time.
    pub fn instances() -> usize {
        2 * std::thread::available_parallelism().map_or(1, usize::from)
    }

    /// Replays the newest mails of the mailboxes that the change concerns, with the live version and the saved one. Ends at the
    /// deadline, whatever a rule does. At the start, when nothing is live, the recorded decisions are used for comparison.
    pub fn run(&self, change: &Change<'_>) -> Result<Rehearsed, StoreError> {
        let until = Instant::now() + self.time;
        self.finish();
        let wanted = |(name, _): &(&str, &str)| {
            let meant = self.mailboxes.as_ref();
            meant.is_none_or(|names| names.iter().any(|it| it == name))
        };
        let concerned: Vec<(&str, &str)> = change.mailboxes().into_iter().filter(wanted).collect();
        let mut names: Vec<String> = concerned
            .iter()
            .map(|(name, _)| (*name).to_owned())
            .collect();
        names.dedup();
        let mut tenants: Vec<String> = concerned.iter().map(|(_, it)| (*it).to_owned()).collect();
        tenants.sort();
        tenants.dedup();
        let mut rehearsed = Rehearsed {
            against: change.generation(),
            mailboxes: names.clone(),
            mails: 0,
            report: Report::default(),
            differing: Vec::new(),
        };
        if names.is_empty() {
            return Ok(rehearsed);
        }
        let config = self.config.load_full();
        let records = (self.records)(&config.data_dir)?;
        let mut selection = Selection {
            mailboxes: Some(names.clone()),
            tenants: Some(tenants),
            limit: Some(self.mails),
            ..Selection::default()
        };
        let recorded = records.recorded(&selection)?;
        // Both replays must see the same mails.
        selection.upto = Some(recorded.upto());
        rehearsed.mails = recorded.remaining()?;

        let stop = CancellationToken::new();
        // The channel holds every message, so that a replay never has to wait for the receiver.
        let (say, heard) = sync_channel(2 * self.mails + 2);
        let chains = |chain: &dyn Fn(&str, &str) -> Option<Chain>| -> HashMap<ChainKey, Chain> {
            let keys = concerned.iter();
            keys.filter_map(|(name, tenant)| {
                let key = ((*name).to_owned(), (*tenant).to_owned());
                Some((key, chain(name, tenant)?))
            })
            .collect()
        };
        let start = |chains, say: &SyncSender<Said>, wrap: fn(Box<Replayed>) -> Said| {
            let replay = Replay::new(&config, records.clone(), chains);
            spawn(replay, selection.clone(), stop.clone(), say.clone(), wrap)
        };
        let mut under_way = vec![start(
            chains(&|name, tenant| Some(change.fresh_chain(name, tenant))),
            &say,
            Said::Fresh,
        )?];
        if change.generation().is_some() {
            under_way.push(start(
                chains(&|name, tenant| change.serving_chain(name, tenant)),
                &say,
                Said::Serving,
            )?);
        }
        drop(say);
        let outcome = rehearsed.hear(&heard, until, LAST_MAILS.min(self.time / 2), &stop);
        stop.cancel();
        self.lock().extend(under_way);
        outcome.map(|()| rehearsed)
    }

    /// Waits for replays that are still running.
    pub fn finish(&self) {
        let ending = std::mem::take(&mut *self.lock());
        for thread in ending {
            thread.join().unwrap_or_else(|panic| resume_unwind(panic));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rehearsed {
    /// Returns how many mails were neither compared nor skipped, because time ran out.
    pub fn left(&self) -> u64 {
        let skipped: u64 = self.report.skipped.values().sum();
        self.mails.saturating_sub(self.report.replayed() + skipped)
    }

    /// Receives the messages of the replays until both have ended or time is up, and stops them shortly before the deadline.
    fn hear(
        &mut self,
        heard: &Receiver<Said>,
        until: Instant,
        last_mails: Duration,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let mut serving: HashMap<DecisionId, (Decision, Vec<Unrecorded>)> = HashMap::new();
        let mut fresh: VecDeque<Replayed> = VecDeque::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = match stop.is_cancelled() {
                true => left,
                false => left.saturating_sub(last_mails),
            };
            match heard.recv_timeout(wait) {
                Ok(Said::Serving(replayed)) => {
                    if let End::Decided(compared) = replayed.end {
                        let said = (compared.after, compared.unrecorded);
                        serving.insert(replayed.mail.id, said);
                    }
                }
                Ok(Said::Fresh(replayed)) => fresh.push_back(*replayed),
                Ok(Said::Failed(error)) => return Err(error),
                Err(RecvTimeoutError::Timeout) if !stop.is_cancelled() => stop.cancel(),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => break,
            }
        }
        for mut replayed in fresh {
            if let (End::Decided(compared), Some(_)) = (&mut replayed.end, self.against) {
                let Some((before, unrecorded)) = serving.remove(&replayed.mail.id) else {
                    continue;
                };
                // The live version may lack recorded results as well.
                compared.unrecorded.extend(unrecorded);
                compared.verdict = compare(&before, &compared.after);
                compared.before = before;
            }
            self.report.add(&replayed, &[]);
            if replayed.differs() {
                self.differing.push(replayed);
            }
        }
        Ok(())
    }
}

fn spawn(
    replay: Replay,
    selection: Selection,
    stop: CancellationToken,
    say: SyncSender<Said>,
    wrap: fn(Box<Replayed>) -> Said,
) -> Result<JoinHandle<()>, StoreError> {
    let run = move || {
        // Once time is up, nobody receives any more.
        let ended = replay.run(&selection, &stop, |replayed| {
            let _ = say.try_send(wrap(Box::new(replayed.clone())));
        });
        if let Err(error) = ended {
            let _ = say.try_send(Said::Failed(error));
        }
    };
    Builder::new()
        .name("rehearsal".into())
        .spawn(run)
        .map_err(|error| StoreError::Io {
            path: "a thread".into(),
            source: Arc::new(error),
        })
}
