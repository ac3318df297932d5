//! The straight line that one email takes: journal, parse, attribute, decide, commit, acknowledge, deliver.
//!
//! ```text
//! Source ─fetch→ journal ─→ parse ─→ attribute ─→ decide ─→ commit ─┬→ acknowledge on the server   (intake)
//!                                      └ tenant                     └→ deliver from the outbox     (deliver)
//! ```

mod again;
pub mod alert_watch;
mod attribute;
mod breaker;
pub mod bus;
pub mod clock;
pub mod decide;
pub mod deliver;
pub mod event;
pub mod event_log;
pub mod fair;
mod fetch_slots;
pub mod freshness;
pub mod intake;
mod known;
mod mailbox;
pub mod positions;
pub mod rate_limiter;
pub mod replay;
pub mod retention;
pub mod room;
pub mod session_health;
pub mod settings;
pub mod shadow;
pub mod slots;
mod speculation;
pub mod suspects;
mod sync;
pub mod target;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::backoff::Backoff;
use postroom_core::{Clock, Cursor, ForeignNumbers, MailFacts, RawMessage, TroubleKind, counted};
use postroom_net::DialLimits;
use postroom_store::{
    Commits, DecisionId, Facts, Journal, JournalBatch, JournalId, Journalled, PendingMail, Store,
    StoreError, Verdict,
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use again::Again;
use alert_watch::AlertWatch;
use arc_swap::ArcSwap;
use bus::Publisher;
use decide::{Decided, LineFailure, Parsed};
use event::{LineEvent, MailDecided};
use fetch_slots::FetchSlots;
use freshness::Freshness;
use postroom_config::Config;
use postroom_rules::crash;
use postroom_rules::directory::Directories;
use postroom_rules::rulebook::{Chain, LiveRule, RuleBook};
use room::OutboxRoom;
use settings::Settings;
use slots::Slots;
use speculation::SpeculativeBatch;

pub use mailbox::Mailbox;

/// The pauses after a refused password: directories lock an account after a few wrong passwords, and its owner with it.
const REFUSED_PASSWORD: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(15 * 60),
    spread_percent: 25,
};

/// How long a batch in progress may continue after the service is stopped.
const STOP_AFTER: Duration = Duration::from_secs(1);

/// The state shared by all mailboxes.
pub struct Line {
    journal: Arc<dyn Journal>,
    commits: Arc<dyn Commits>,
    facts: Arc<dyn Facts>,
    rules: Arc<RuleBook>,
    directories: Arc<Directories>,
    settings: ArcSwap<Settings>,
    /// The slots for parsing and running rules, which is all the computing there is.
    slots: Arc<Slots>,
    /// The bell that is rung after a commit that may have filled the outbox.
    outbox_filled: watch::Sender<()>,
    /// The fetches of each tenant.
    fetches: FetchSlots,
    dials: Arc<DialLimits>,
    freshness: Arc<Freshness>,
    again: Arc<Again>,
    alerts: Arc<AlertWatch>,
    /// How much of the outbox each tenant may fill.
    room: OutboxRoom,
    events: Publisher,
    clock: Clock,
    /// Cancelled on shutdown: the undecided mail of a slow batch stays in the journal.
    stop: CancellationToken,
}

/// The means of a running service that the line shares with its other parts.
pub struct Shared {
    pub slots: Arc<Slots>,
    pub clock: Clock,
    pub events: Publisher,
    pub stop: CancellationToken,
}

impl Line {
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        rules: Arc<RuleBook>,
        directories: Arc<Directories>,
        shared: Shared,
    ) -> Self {
        let Shared {
            slots,
            clock,
            events,
            stop,
        } = shared;
        let outbox_filled = watch::Sender::new(());
        let limits = &config.limits;
        let freshness = Freshness::new(config, store.clone(), outbox_filled.clone());
        let alerts = AlertWatch::new(config, store.clone(), clock.clone(), outbox_filled.clone());
        Self {
            alerts: Arc::new(alerts),
            fetches: FetchSlots::new(limits.fetches_per_tenant),
            dials: Arc::new(DialLimits::new(
                limits.dials_per_host,
                limits.dials_per_second,
            )),
            freshness: Arc::new(freshness),
            again: Arc::new(Again::new(store.clone())),
            journal: store.clone(),
            facts: store.listings(),
            commits: store,
            rules,
            directories,
            settings: ArcSwap::from_pointee(Settings::of(config, None)),
            slots,
            outbox_filled,
            room: OutboxRoom::default(),
            clock,
            events,
            stop,
        }
    }

    /// Takes over the settings of a changed configuration. The next batch uses them.
    pub fn configure(&self, config: &Config) {
        let before = self.settings.load();
        let after = Settings::of(config, Some(&before));
        self.settings.store(Arc::new(after));
        self.freshness.configure(config, Instant::now());
        self.alerts.configure(config);
    }

    /// Returns the current settings. The returned ones stay the same, whatever is applied meanwhile.
    pub fn settings(&self) -> Arc<Settings> {
        self.settings.load_full()
    }

    /// Returns the watch over the age of each mailbox's last check.
    /// Returns the bell of mails to be decided again, for its task.
    pub fn again(&self) -> Arc<Again> {
        self.again.clone()
    }

    pub fn freshness(&self) -> Arc<Freshness> {
        self.freshness.clone()
    }

    /// Returns the watch over what becomes due without a mail.
    pub fn alerts(&self) -> Arc<AlertWatch> {
        self.alerts.clone()
    }

    /// Returns the limits on connection attempts of all mailboxes.
    pub fn dials(&self) -> &Arc<DialLimits> {
        &self.dials
    }

    /// Returns the bell to ring when outbox entries may have become due.
    pub fn outbox_bell(&self) -> watch::Sender<()> {
        self.outbox_filled.clone()
    }

    /// Returns a receiver that changes after a commit that may have filled the outbox.
    pub fn outbox_filled(&self) -> watch::Receiver<()> {
        self.outbox_filled.subscribe()
    }

    /// Steps 1 and 7: makes the raw mails and the cursor durable together. Returns the mails that are not decided yet.
    pub async fn journal(
        &self,
        mailbox: &Mailbox,
        messages: Vec<RawMessage>,
        cursor: Option<Cursor>,
    ) -> Result<Vec<PendingMail>, StoreError> {
        let received_ms = self.clock.now_ms();
        let mails = messages.into_iter().map(decide::identify).collect();
        crash::point(crash::Point::BeforeJournal);
        let journalled = self
            .journal
            .journal(JournalBatch {
                tenant: mailbox.tenant.clone(),
                shared: mailbox.shared.is_some(),
                mailbox: mailbox.name.clone(),
                received_ms,
                mails,
                cursor,
            })
            .await?;
        let mut repeats = Repeats::default();
        let new = journalled.into_iter().filter_map(|mail| match mail {
            Journalled::New(mail) => Some(mail),
            Journalled::Known {
                id,
                message_id,
                repeated,
            } => {
                if repeated {
                    repeats.add(id, message_id);
                }
                None
            }
        });
        let new = new.collect();
        repeats.report();
        Ok(new)
    }

    /// Steps 2 to 5 for journalled mails: parse, attribute, decide, commit. A mail that replies to another mail of the batch is
    /// decided after that one is committed, so that it finds its ticket.
    pub async fn process_batch(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        mails: Vec<PendingMail>,
    ) -> Result<BatchOutcome, StoreError> {
        let mut settled = BatchOutcome::default();
        if mails.is_empty() {
            return Ok(settled);
        }
        crash::point(crash::Point::BeforeDecision);
        let parsed = decide::parse_all(self, mailbox, mails).await;
        if mailbox.shared.is_none() {
            return self.decide_batch(mailbox, parsed).await;
        }
        // An answer belongs to the client of the mail that it answers, which must be committed by then.
        for wave in waves(parsed, &self.settings().senders.foreign_numbers) {
            for (of_tenant, mails) in attribute::attribute(self, mailbox, wave).await? {
                let limit = self.settings().limits.outbox_entries;
                let tenant = &of_tenant.tenant;
                match self.room.has_room(&*self.commits, tenant, limit).await? {
                    true => settled.add(self.decide_batch(&of_tenant, mails).await?),
                    false => settled.left += mails.len(),
                }
            }
        }
        Ok(settled)
    }

    /// Steps 4 and 5 for the parsed mails of one tenant.
    async fn decide_batch(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        parsed: Vec<Parsed>,
    ) -> Result<BatchOutcome, StoreError> {
        let mut settled = BatchOutcome::default();
        // A reload in the meantime applies to the next batch.
        let Some(chain) = self.rules.chain(&mailbox.name, &mailbox.tenant) else {
            settled.left = parsed.len();
            return Ok(settled);
        };
        let mut chain = Arc::new(chain);
        let directory = self.directories.of(&mailbox.tenant);
        // Rules with a memory or lookups must see what was written for the previous mail, across the whole tenant.
        let settings = self.settings();
        let mut batch = match settings.tenant_lock(&mailbox.tenant) {
            Some(memory) => Some((memory.lock().await, SpeculativeBatch::default())),
            None => None,
        };
        let mut waves = waves(parsed, &settings.senders.foreign_numbers);
        let began = Instant::now();
        while let Some(mut wave) = waves.pop_front() {
            if let Some((_, batch)) = &batch {
                put_first(&mut waves, batch.cut(&mut wave));
            }
            if self.stop.is_cancelled() && began.elapsed() >= STOP_AFTER {
                settled.left = wave.len() + waves.iter().map(Vec::len).sum::<usize>();
                break;
            }
            let (mut decided, rest) =
                decide::decide_some(self, mailbox, &chain, &directory, wave).await;
            put_first(&mut waves, rest);
            if let Some((_, batch)) = &mut batch {
                put_first(&mut waves, batch.roll_back_conflicts(&chain, &mut decided));
            }
            let mut answered = Vec::with_capacity(decided.len());
            for mail in decided {
                match mail.result {
                    Ok(_) => answered.push(mail),
                    Err(LineFailure::Store(error)) => return Err(error),
                    Err(LineFailure::Defect(reason)) => {
                        self.failed(mail.mail.id, &reason).await?;
                        settled.failed += 1;
                    }
                }
            }
            crash::point(crash::Point::BeforeCommit);
            match self.commit(mailbox, &answered).await {
                Ok(()) => settled.decided += answered.len(),
                Err(error) if error.affects_single_mail() => {
                    for one in &answered {
                        settled.add(self.commit_alone(mailbox, one).await?);
                    }
                }
                Err(error) => return Err(error),
            }
            crash::point(crash::Point::AfterCommit);
            self.outbox_filled.send_replace(());
            if self.send_back(mailbox, &chain, &answered).await?
                && let Some(fresh) = self.rules.chain(&mailbox.name, &mailbox.tenant)
            {
                // The rest of the batch already uses the new chain.
                chain = Arc::new(fresh);
            }
        }
        Ok(settled)
    }

    /// Step 5: commits all of them in one transaction.
    async fn commit(&self, mailbox: &Arc<Mailbox>, decided: &[Decided]) -> Result<(), StoreError> {
        if decided.is_empty() {
            return Ok(());
        }
        let verdicts = decided
            .iter()
            .filter_map(|mail| verdict(self, mailbox, mail))
            .collect();
        let committed = self.commits.commit(verdicts).await?;
        self.events.publish(|| {
            let mails = decided.iter().zip(committed);
            let mails = mails.filter_map(|(mail, committed)| {
                let answer = mail.result.as_ref().ok()?;
                Some(MailDecided {
                    mailbox: mailbox.clone(),
                    mail: mail.mail.id,
                    message_id: mail.mail.message_id.clone(),
                    subject: mail.message().map(|it| it.subject.clone()),
                    conclusion: match &committed.instead {
                        Some(instead) => instead.clone(),
                        None => answer.conclusion.clone(),
                    },
                    committed,
                })
            });
            LineEvent::Decided(mails.collect())
        });
        Ok(())
    }

    /// Rolls back rules that failed for too many senders, on these mails among others, to their previous version. Returns whether
    /// one was rolled back.
    async fn send_back(
        &self,
        mailbox: &Mailbox,
        chain: &Chain,
        decided: &[Decided],
    ) -> Result<bool, StoreError> {
        let mut any = false;
        let failing = |rule: &&Arc<LiveRule>| rule.strikes.is_out() || rule.strikes.must_tell();
        for rule in chain.rules.iter().filter(failing) {
            let troubles = decided.iter().filter_map(|mail| {
                let answer = mail.result.as_ref().ok()?;
                let mut troubles = answer.decision.troubles.iter();
                Some((mail.mail.id, troubles.find(|it| it.rule == rule.name)?))
            });
            // Names the failure itself, not the mails after it for which the rule was not run.
            let Some((mail, trouble)) =
                troubles.max_by_key(|(_, it)| it.kind != TroubleKind::SentBack)
            else {
                continue;
            };
            let decision = DecisionId(mail.0);
            let done = self
                .rules
                .send_back(&mailbox.tenant, rule, decision, &trouble.message)
                .await;
            match done {
                Ok(done) => any |= done,
                // The mail whose decision was to be named has none: the next failure triggers it again.
                Err(error) if error.affects_single_mail() => {
                    tracing::error!(%error, rule = %rule.name, "a rule that fails too often could not be rolled back yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// Commits one mail of a batch that the store refused, so that one mail's problem does not affect the others.
    async fn commit_alone(
        &self,
        mailbox: &Arc<Mailbox>,
        decided: &Decided,
    ) -> Result<BatchOutcome, StoreError> {
        let mut settled = BatchOutcome::default();
        match self.commit(mailbox, std::slice::from_ref(decided)).await {
            Ok(()) => settled.decided = 1,
            Err(StoreError::AlreadyDecided { journal }) => {
                tracing::debug!(mail = journal.0, "decided already");
            }
            Err(error) if error.affects_single_mail() => {
                self.failed(decided.mail.id, &format!("committing: {error}"))
                    .await?;
                settled.failed = 1;
            }
            Err(error) => return Err(error),
        }
        Ok(settled)
    }

    /// Closes the line: nothing more is decided, and the next run continues counting failures.
    pub async fn close(&self) {
        if let Err(error) = self.rules.keep_strikes().await {
            tracing::warn!(%error, "failure counters could not be saved; they restart at zero");
        }
    }

    async fn failed(&self, journal: JournalId, reason: &str) -> Result<(), StoreError> {
        let attempts = self.commits.failed_attempt(journal, reason).await?;
        tracing::error!(mail = journal.0, attempts, %reason, "the line failed on a mail; it is tried again, and set aside after {}", counted(self.settings().limits.attempts, "attempt"));
        Ok(())
    }
}

/// The result of a batch.
#[derive(Debug, Default, Clone, Copy)]
pub struct BatchOutcome {
    pub decided: usize,
    /// Mails on which the line itself failed; they stay in the journal.
    pub failed: usize,
    /// Mails that were not examined, because the service is stopping or their rules are not loaded, as after a change of the
    /// configuration; they also stay in the journal.
    pub left: usize,
}

impl BatchOutcome {
    fn add(&mut self, other: BatchOutcome) {
        self.decided += other.decided;
        self.failed += other.failed;
        self.left += other.left;
    }
}

/// Logs the mails of a batch that arrived again and are not decided again, in one line: a POP3 server that renames the mails that
/// it keeps shows all of them again in each session.
#[derive(Default)]
struct Repeats {
    first: Option<(JournalId, String)>,
    mails: usize,
}

impl Repeats {
    fn add(&mut self, id: JournalId, message_id: String) {
        self.mails += 1;
        self.first.get_or_insert((id, message_id));
    }

    fn report(self) {
        match self.first {
            None => {}
            Some((id, message_id)) if self.mails == 1 => {
                tracing::info!(%message_id, mail = id.0,
                    "a mail arrived again, byte for byte, and is not decided again");
            }
            Some((id, message_id)) => {
                tracing::info!(mails = self.mails, first_message_id = %message_id, first_mail = id.0,
                    "mails arrived again, byte for byte, and are not decided again; `postroom ledger --repeated` lists them");
            }
        }
    }
}

/// Splits a batch into waves so that no mail shares a wave with the mail it replies to, with a copy of itself, or with one that has
/// the same number of another system.
fn waves(mails: Vec<Parsed>, patterns: &ForeignNumbers) -> VecDeque<Vec<Parsed>> {
    let mut waves = VecDeque::new();
    let mut wave = Vec::new();
    let mut ids: HashSet<String> = HashSet::new();
    for parsed in mails {
        let message = parsed.message();
        let numbers = message.map_or(Vec::new(), |mail| patterns.of(&mail.subject));
        let references = message.into_iter().flat_map(|mail| &mail.references);
        let is_related = references
            .chain(&numbers)
            .chain([&parsed.mail.message_id])
            .any(|id| ids.contains(id));
        if is_related {
            waves.push_back(std::mem::take(&mut wave));
            ids.clear();
        }
        ids.extend(numbers);
        ids.insert(parsed.mail.message_id.clone());
        wave.push(parsed);
    }
    waves.push_back(wave);
    waves
}

/// Puts mails at the front, to be decided next.
fn put_first(waves: &mut VecDeque<Vec<Parsed>>, mails: Vec<Parsed>) {
    if !mails.is_empty() {
        waves.push_front(mails);
    }
}

fn verdict(line: &Line, mailbox: &Mailbox, decided: &Decided) -> Option<Verdict> {
    let answer = decided.result.as_ref().ok()?;
    let message = decided.message().map(|message| &**message);
    let message_id = decided.mail.message_id.clone();
    let settings = line.settings();
    let patterns = &settings.senders.foreign_numbers;
    let facts = MailFacts::of(
        message_id,
        message,
        |email| settings.is_own(email),
        patterns,
    );
    let mail = MailFacts {
        copy_marks: decided.copy_marks.clone(),
        ..facts
    };
    Some(Verdict {
        journal: decided.mail.id,
        conclusion: answer.conclusion.clone(),
        mail,
        outlets: mailbox.outlets.clone(),
    })
}
