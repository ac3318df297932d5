//! The straight line one email walks: journal, decide, commit, acknowledge, deliver.
//!
//! ```text
//! Source ─fetch→ journal ─→ parse ─→ decide ─→ commit ─┬→ acknowledge on the server   (intake)
//!                                                      └→ deliver from the outbox     (deliver)
//! ```

mod breaker;
pub mod budget;
pub mod clock;
pub mod decide;
pub mod deliver;
pub mod fair;
pub mod intake;
mod known;
pub mod positions;
pub mod replay;
pub mod room;
pub mod shadow;
pub mod slots;
mod speculation;
pub mod streak;
pub mod suspects;
mod sync;
pub mod target;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use postroom_core::After;
use postroom_core::backoff::Backoff;
use postroom_core::parse::ParseLimits;
use postroom_core::{Cursor, MailFacts, Outlets, RawMessage, TroubleKind, counted};
use postroom_store::{
    Committed, DecisionId, JournalBatch, JournalId, Journalled, PendingMail, Store, StoreError,
    Verdict,
};
use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use budget::Budget;
use decide::{Decided, Failure, Parsed};
use postroom_config::LineLimits;
use postroom_rules::crash;
use postroom_rules::directory::Directories;
use postroom_rules::rulebook::{Chain, LiveRule, RuleBook};
use room::OutboxRoom;
use slots::Slots;
use speculation::SpeculativeBatch;

/// The pauses after a refused password: directories lock who tries a wrong one often, and with it the person whose it is.
const REFUSED_PASSWORD: Backoff = Backoff {
    first: Duration::from_secs(60),
    longest: Duration::from_secs(15 * 60),
    spread_percent: 25,
};

/// A batch under way when the service is stopped may go on for so long.
const STOP_AFTER: Duration = Duration::from_secs(1);

/// Repeated mails of a batch that are logged by name; the rest is counted.
const REPEATS_NAMED: usize = 5;

/// One mailbox as the line knows it, whatever protocol feeds it.
pub struct Mailbox {
    pub name: String,
    pub tenant: String,
    /// The tenant's domains: a sender of one of them is this client.
    pub domains: Vec<String>,
    /// The authserv-ids whose Authentication-Results are believed.
    pub trusted: Vec<String>,
    pub after_done: After,
    pub after_failed: After,
    pub outlets: Arc<Outlets>,
}

/// Told of every committed decision, as it happens.
pub type Observer = Box<dyn Fn(&Mailbox, &Decided, &Committed) + Send + Sync>;

/// The state shared by all mailboxes.
pub struct Line {
    pub store: Store,
    pub rules: Arc<RuleBook>,
    pub directories: Arc<Directories>,
    pub limits: LineLimits,
    pub parse_limits: ParseLimits,
    /// Every address mail leaves or arrives by: none of them is ever answered.
    pub own_addresses: Vec<String>,
    /// Parsing and rules are all the computing there is.
    pub slots: Arc<Slots>,
    /// Rung after a commit that may have filled the outbox.
    pub outbox_filled: watch::Sender<()>,
    /// One lock for each tenant whose rules are granted what earlier decisions change: a memory, or looking up tickets and alerts.
    pub memories: HashMap<String, Mutex<()>>,
    /// The budgets of tenants with `mails_per_minute`.
    pub budgets: HashMap<String, Budget>,
    /// How much of the outbox each tenant may fill.
    pub room: OutboxRoom,
    /// On shutdown, mail of a slow batch stays undecided in the journal.
    pub stop: CancellationToken,
    pub observer: Option<Observer>,
}

impl Line {
    /// Steps 1 and 6: the raw mails and the cursor become durable together. Answers those not yet decided.
    pub async fn journal(
        &self,
        mailbox: &Mailbox,
        messages: Vec<RawMessage>,
        cursor: Option<Cursor>,
    ) -> Result<Vec<PendingMail>, StoreError> {
        let received_ms = jiff::Timestamp::now().as_millisecond();
        let mails = messages.into_iter().map(decide::recognise).collect();
        crash::point(crash::Point::BeforeJournal);
        let journalled = self
            .store
            .journal(JournalBatch {
                tenant: mailbox.tenant.clone(),
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
                    repeats.report(mailbox, id, &message_id);
                }
                None
            }
        });
        let new = new.collect();
        repeats.report_rest(mailbox);
        Ok(new)
    }

    /// Steps 2 to 4 for journalled mails: parse, decide, commit. A mail that answers another one of the batch is decided
    /// after that one is committed, so that it finds its ticket.
    pub async fn settle(
        self: &Arc<Self>,
        mailbox: &Arc<Mailbox>,
        mails: Vec<PendingMail>,
    ) -> Result<Settled, StoreError> {
        let mut settled = Settled::default();
        if mails.is_empty() {
            return Ok(settled);
        }
        crash::point(crash::Point::BeforeDecision);
        let parsed = decide::parse_all(self, mailbox, mails).await;
        // A reload meanwhile concerns the next batch.
        let Some(chain) = self.rules.chain(&mailbox.name) else {
            settled.left = parsed.len();
            return Ok(settled);
        };
        let mut chain = Arc::new(chain);
        let directory = self.directories.of(&mailbox.tenant);
        // Rules that remember or look up must see what was written for the mail before, in the whole tenant.
        let mut batch = match self.memories.get(&mailbox.tenant) {
            Some(memory) => Some((memory.lock().await, SpeculativeBatch::default())),
            None => None,
        };
        let mut waves = waves(parsed);
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
                    Err(Failure::Store(error)) => return Err(error),
                    Err(Failure::Defect(reason)) => {
                        self.failed(mail.mail.id, &reason).await?;
                        settled.failed += 1;
                    }
                }
            }
            crash::point(crash::Point::BeforeCommit);
            match self.commit(mailbox, &answered).await {
                Ok(()) => settled.decided += answered.len(),
                Err(error) if error.is_of_one_mail() => {
                    for one in &answered {
                        settled.add(self.commit_alone(mailbox, one).await?);
                    }
                }
                Err(error) => return Err(error),
            }
            crash::point(crash::Point::AfterCommit);
            self.outbox_filled.send_replace(());
            if self.send_back(mailbox, &chain, &answered).await?
                && let Some(fresh) = self.rules.chain(&mailbox.name)
            {
                // The rest of the batch need not do without.
                chain = Arc::new(fresh);
            }
        }
        Ok(settled)
    }

    /// Step 4: one transaction for all of them.
    async fn commit(&self, mailbox: &Mailbox, decided: &[Decided]) -> Result<(), StoreError> {
        if decided.is_empty() {
            return Ok(());
        }
        let verdicts = decided
            .iter()
            .filter_map(|mail| verdict(self, mailbox, mail))
            .collect();
        let committed = self.store.commit(verdicts).await?;
        if let Some(observer) = &self.observer {
            for (decided, committed) in decided.iter().zip(&committed) {
                observer(mailbox, decided, committed);
            }
        }
        Ok(())
    }

    /// Rules that failed for too many senders, on these mails among others, go back to what served before. Answers whether one did.
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
            // The failure itself, rather than the mails after it that were not asked.
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
                // The mail whose decision was to be named has none: the next one tells.
                Err(error) if error.is_of_one_mail() => {
                    tracing::error!(%error, rule = %rule.name, "a rule that fails too often could not be rolled back yet");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(any)
    }

    /// One mail of a batch that the store refused: its own trouble must not be the others'.
    async fn commit_alone(
        &self,
        mailbox: &Mailbox,
        decided: &Decided,
    ) -> Result<Settled, StoreError> {
        let mut settled = Settled::default();
        match self.commit(mailbox, std::slice::from_ref(decided)).await {
            Ok(()) => settled.decided = 1,
            Err(StoreError::AlreadyDecided { journal }) => {
                tracing::debug!(mail = journal.0, "decided already");
            }
            Err(error) if error.is_of_one_mail() => {
                self.failed(decided.mail.id, &format!("committing: {error}"))
                    .await?;
                settled.failed = 1;
            }
            Err(error) => return Err(error),
        }
        Ok(settled)
    }

    /// Ends it: nothing is decided any more.
    pub async fn close(&self) {
        if let Err(error) = self.rules.keep_strikes().await {
            tracing::warn!(%error, "failure counters could not be saved; they restart at zero");
        }
        self.store.close();
    }

    fn is_own(&self, email: &str) -> bool {
        self.own_addresses
            .iter()
            .any(|own| own.eq_ignore_ascii_case(email))
    }

    async fn failed(&self, journal: JournalId, reason: &str) -> Result<(), StoreError> {
        let attempts = self.store.failed_attempt(journal, reason).await?;
        tracing::error!(mail = journal.0, attempts, %reason, "the line failed on a mail; it is tried again, and set aside after {}", counted(self.limits.attempts, "attempt"));
        Ok(())
    }
}

/// How a batch ended.
#[derive(Debug, Default, Clone, Copy)]
pub struct Settled {
    pub decided: usize,
    /// Mails on which the line itself failed; they stay in the journal.
    pub failed: usize,
    /// Mails that nobody looked at, because the service is stopping or their rules are not loaded; they stay in the journal too.
    pub left: usize,
}

impl Settled {
    fn add(&mut self, other: Settled) {
        self.decided += other.decided;
        self.failed += other.failed;
        self.left += other.left;
    }
}

/// Logs mails that came again and are not decided again; a flood of them is counted.
#[derive(Default)]
struct Repeats(usize);

impl Repeats {
    fn report(&mut self, mailbox: &Mailbox, id: JournalId, message_id: &str) {
        self.0 += 1;
        if self.0 <= REPEATS_NAMED {
            tracing::info!(mailbox = %mailbox.name, %message_id, mail = id.0,
                "a mail arrived again, byte for byte, and is not decided again");
        }
    }

    fn report_rest(self, mailbox: &Mailbox) {
        let others = self.0.saturating_sub(REPEATS_NAMED);
        if others > 0 {
            tracing::info!(mailbox = %mailbox.name, mails = others,
                "more mails arrived again and are not decided again; `postroom ledger --repeated` lists them");
        }
    }
}

/// Splits a batch so that no mail stands in one wave with the mail it answers.
fn waves(mails: Vec<Parsed>) -> VecDeque<Vec<Parsed>> {
    let mut waves = VecDeque::new();
    let mut wave = Vec::new();
    let mut ids: HashSet<String> = HashSet::new();
    for parsed in mails {
        let answers = parsed
            .message()
            .is_some_and(|mail| mail.references.iter().any(|id| ids.contains(id)));
        if answers {
            waves.push_back(std::mem::take(&mut wave));
            ids.clear();
        }
        ids.insert(parsed.mail.message_id.clone());
        wave.push(parsed);
    }
    waves.push_back(wave);
    waves
}

/// Mails that are the next ones to be decided.
fn put_first(waves: &mut VecDeque<Vec<Parsed>>, mails: Vec<Parsed>) {
    if !mails.is_empty() {
        waves.push_front(mails);
    }
}

fn verdict(line: &Line, mailbox: &Mailbox, decided: &Decided) -> Option<Verdict> {
    let answer = decided.result.as_ref().ok()?;
    let message = decided.message().map(|message| &**message);
    let message_id = decided.mail.message_id.clone();
    let mail = MailFacts::of(message_id, message, |email| line.is_own(email));
    Some(Verdict {
        journal: decided.mail.id,
        conclusion: answer.conclusion.clone(),
        mail,
        outlets: mailbox.outlets.clone(),
    })
}
