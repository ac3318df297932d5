//! Intake: one mailbox's loop of fetching, journalling, settling and acknowledging. It owns the mail session.

mod error;
mod report;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use postroom_core::backoff::backoff;
use postroom_core::{Cursor, MailboxState};
use postroom_mailbox::{Acknowledge, After, Batch, FetchLimits, InFlight, InFlightPermit, Source};
use postroom_store::{Ack, PendingMail, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rate_limiter::RateLimiter;
use super::session_health::SessionHealth;
use super::{Line, Mailbox};
use postroom_config::Ready;
use postroom_rules::crash;

pub use error::IntakeError;

/// How many acknowledgements go to the server at a time.
const ACKNOWLEDGE_BATCH: usize = 512;
/// How many journalled mails are settled at a time after a restart.
const RECOVER_BATCH: usize = 64;
/// Held mail is looked at no more often.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// One mailbox's intake.
pub struct Intake {
    line: Arc<Line>,
    mailbox: Arc<Mailbox>,
    /// Where the mail comes from, or why nothing can be fetched until a restart.
    source: Ready<Box<dyn Source>>,
    /// The reconciling poll: the longest time between two looks at the server.
    every: Duration,
    fetch: FetchLimits,
    stop: CancellationToken,
    /// Changes when the mailbox's account, which could not sign in, works again; `None` where it has none.
    signed_in: Option<watch::Receiver<u64>>,
    /// Whether mail waits in the journal until the tenant's budget allows it, or its rules are loaded. Newer mail waits behind it.
    held: bool,
    /// Whether it waits because the tenant's share of the outbox is full, and whether that is recorded.
    crowded: bool,
    crowded_recorded: bool,
    /// The last state that was published, while it is not [`MailboxState::Serving`]; [`MailboxState::Starting`] at first.
    said: Option<MailboxState>,
    /// How the sessions went since the last good one.
    streak: SessionHealth,
}

impl Intake {
    /// `signed_in` changes when the mailbox's account, which could not sign in, works again; `None` where it has none.
    pub fn new(
        line: Arc<Line>,
        mailbox: Arc<Mailbox>,
        source: Ready<Box<dyn Source>>,
        every: Duration,
        in_flight: InFlight,
        signed_in: Option<watch::Receiver<u64>>,
    ) -> Self {
        let limits = &line.limits;
        Self {
            fetch: FetchLimits {
                batch_mails: limits.batch_mails,
                batch_bytes: limits.batch_bytes,
                raw_bytes: limits.raw_bytes,
                in_flight,
                wait_for_room: true,
            },
            stop: line.stop.clone(),
            line,
            mailbox,
            source,
            every,
            signed_in,
            held: false,
            crowded: false,
            crowded_recorded: false,
            said: Some(MailboxState::Starting),
            streak: SessionHealth::default(),
        }
    }

    pub fn line(&self) -> &Arc<Line> {
        &self.line
    }

    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Serves the mailbox until stopped. Trouble with the server or the disk pauses it, is reported once, and is tried again. The
    /// caller gives it the [mailbox's span](Mailbox::span).
    pub async fn serve(mut self) {
        while !self.stop.is_cancelled() {
            let session = AssertUnwindSafe(self.session(Until::Stopped));
            let ended = session.catch_unwind().await;
            match ended.unwrap_or_else(|_| Err(IntakeError::Defect)) {
                Ok(_) => break,
                Err(IntakeError::Store(StoreError::Closed)) => {
                    tracing::error!("the store is gone; the service ends");
                    self.stop.cancel();
                }
                Err(error) => self.pause(error).await,
            }
        }
        self.close().await;
    }

    async fn close(&mut self) {
        if let Ok(source) = &mut self.source {
            source.close().await;
        }
    }

    /// After a session that failed: says so, and waits until another is worth a try.
    async fn pause(&mut self, error: IntakeError) {
        let error = Arc::new(error);
        let by_connection = error.is_of_connection();
        let is_short = self.streak.failed(by_connection, Instant::now());
        let failures = self.streak.failures();
        let in_a_row = if is_short {
            self.streak.short()
        } else {
            failures
        };
        let pause = error.pause(failures, self.seed(), self.signed_in.is_some());
        if by_connection && in_a_row == 1 && self.said.is_none() {
            // Servers end sessions when they like, Exchange with each token: what a new connection mends is no trouble.
            tracing::info!("connection lost, connecting again: {error}");
        } else {
            let is_unsteady = is_short && in_a_row > 1;
            let state = if is_unsteady {
                MailboxState::Unsteady
            } else {
                error.state()
            };
            self.report_paused(&error, state, pause).await;
        }
        self.close().await;
        let (rules, tenant) = (self.line.rules.clone(), self.mailbox.tenant.clone());
        let is_held = self.held && !self.is_loaded();
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Waiting longer than the trouble lasts would be waiting for nothing.
            () = news(&mut self.signed_in), if error.is_of_sign_in() => self.streak.forgive(),
            // The journal's mail needs no server.
            () = rules.loaded(&tenant), if is_held => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Takes in everything that is there now, then returns how many mails were decided.
    pub async fn drain(mut self) -> Result<usize, Arc<IntakeError>> {
        let result = self.session(Until::Drained).await.map_err(Arc::new);
        if let Err(error) = &result {
            self.report_paused(error, error.state(), Duration::ZERO)
                .await;
        }
        self.close().await;
        result
    }

    async fn session(&mut self, until: Until) -> Result<usize, IntakeError> {
        self.streak.begin();
        if self.said == Some(MailboxState::DiskFull) {
            // Nothing is fetched that could not be kept.
            self.line
                .journal
                .set_mailbox_state(
                    &self.mailbox.name,
                    MailboxState::DiskFull,
                    "waiting for room",
                )
                .await?;
        }
        let mut decided = self.recover().await?;
        tokio::select! {
            connected = connect(&mut self.source) => connected?,
            () = self.stop.cancelled() => return Ok(decided),
        }
        let (line, mailbox) = (self.line.clone(), self.mailbox.clone());
        let mut cursor = line.journal.cursor(&mailbox.name).await?;
        let mut more = true;
        // The last fetch told of more mail.
        let mut told_more = false;
        let mut fetched: Option<Batch> = None;
        let mut journalled: Vec<PendingMail> = Vec::new();
        let mut journalled_room = InFlightPermit::default();
        loop {
            if self.held {
                // What was journalled lies behind those.
                journalled.clear();
            } else {
                let admitted = self.admit(journalled.len()).await?;
                journalled.truncate(admitted);
            }
            let mut resuming = false;
            if self.held
                && journalled.is_empty()
                && (self.crowded || self.until_admitted().is_zero())
                && let Round::BatchOutcome(mails) = self.settle_undecided().await?
            {
                (resuming, decided) = (true, decided + mails);
            }
            let working = fetched.is_some() || !journalled.is_empty() || resuming;
            let stopping = until == Until::Stopped && self.stop.is_cancelled();
            // Mails in hand take room: waiting for more of it with them would be waiting for others who do the same.
            self.fetch.wait_for_room = fetched.is_none() && journalled.is_empty();
            let deciding = std::mem::take(&mut journalled);
            let deciding_room = std::mem::take(&mut journalled_room);
            // Three batches are under way: one is decided and committed while the next is journalled and the server gives the one
            // behind. What came meanwhile is looked for once all else is done.
            let (settled, pending, told) = tokio::join!(
                async {
                    let settled = line.process_batch(&mailbox, deciding).await;
                    drop(deciding_room);
                    settled
                },
                journal(&line, &mailbox, fetched.take()),
                self.sync_with_server(
                    &mut cursor,
                    (more || !working) && !stopping,
                    told_more && !stopping
                ),
            );
            let settled = settled?;
            decided += settled.decided;
            (journalled, journalled_room) = pending?;
            let told = told?;
            fetched = told.fetched;
            more = told.more && !stopping;
            told_more = more;
            if settled.left > 0 {
                self.sync_with_server(&mut cursor, false, false).await?;
                return Ok(decided);
            }
            if settled.failed > 0 {
                // This settles what was just journalled, too.
                decided += self.recover().await?;
                journalled.clear();
            }
            let brought_mail = fetched.as_ref().is_some_and(|it| !it.messages.is_empty());
            self.streak.served(brought_mail, Instant::now());
            match fetched.as_ref().and_then(|it| it.renumbering.as_ref()) {
                Some(renumbering) => self.report_renumbered(renumbering).await,
                // What was read again is not decided before this.
                None if self.said == Some(MailboxState::Renumbered) && (more || working) => {}
                None => self.report_serving().await,
            }
            self.report_crowded().await;
            if working || more || told.acknowledged || fetched.is_some() {
                continue;
            }
            // A full outbox empties after the drain.
            let is_drained = until == Until::Drained && (!self.held || self.crowded);
            if self.stop.is_cancelled() || is_drained {
                return Ok(decided);
            }
            if until == Until::Drained {
                // Asked in this order: the rules may be loaded between the two.
                if self.line.rules.is_first_load_over() && !self.is_loaded() {
                    return Err(IntakeError::NotLoaded);
                }
                // Drained is what is decided.
                tokio::select! {
                    () = tokio::time::sleep(self.until_admitted()) => {}
                    () = self.stop.cancelled() => {}
                }
                continue;
            }
            let until_admitted = match self.held {
                true => self.until_admitted(),
                false => Duration::MAX,
            };
            let until_good = self.streak.until_good(Instant::now());
            let wait = self
                .until_next_acknowledgement()
                .await?
                .min(self.every)
                .min(until_admitted)
                .min(until_good.unwrap_or(Duration::MAX));
            tokio::select! {
                news = ready(&mut self.source)?.wait(wait) => news?,
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Settles what the journal holds undecided, as far as the tenant's budget goes: mails of a process that died, or whose batch
    /// the store could not take.
    pub async fn recover(&mut self) -> Result<usize, StoreError> {
        let mut decided = 0;
        while let Round::BatchOutcome(mails) = self.settle_undecided().await? {
            decided += mails;
        }
        Ok(decided)
    }

    /// Settles the oldest undecided mails of the journal. After crashes in a row the suspects among them were decided before
    /// ([`super::suspects`]).
    async fn settle_undecided(&mut self) -> Result<Round, StoreError> {
        let line = self.line.clone();
        if !self.has_room().await? {
            return Ok(Round::Held);
        }
        let room = self.budget().map_or(RECOVER_BATCH, RateLimiter::left);
        let mut mails = line
            .journal
            .pending(&self.mailbox.name, room.clamp(1, RECOVER_BATCH))
            .await?;
        if mails.is_empty() {
            self.held = false;
            if let Some(budget) = self.budget() {
                budget.release(&self.mailbox.name);
            }
            return Ok(Round::Done);
        }
        let was_held = self.held;
        mails.truncate(self.admit(mails.len()).await?);
        if mails.is_empty() || self.stop.is_cancelled() {
            return Ok(Round::Held);
        }
        if !was_held {
            tracing::info!(
                mails = mails.len(),
                "deciding undecided mail of the journal"
            );
        }
        let settled = line.process_batch(&self.mailbox, mails).await?;
        Ok(Round::BatchOutcome(settled.decided))
    }

    /// How many of these mails may be decided now; the others are held.
    pub async fn admit(&mut self, wanted: usize) -> Result<usize, StoreError> {
        if wanted > 0 && !self.is_loaded() {
            self.held = true;
            return Ok(0);
        }
        if wanted > 0 && !self.has_room().await? {
            return Ok(0);
        }
        let Some(budget) = self.line.budgets.get(&self.mailbox.tenant) else {
            return Ok(wanted);
        };
        let admitted = budget.admit(&self.mailbox.name, wanted);
        self.held |= admitted < wanted;
        Ok(admitted)
    }

    /// Whether the tenant's share of the outbox has room. Without it all mail is held.
    async fn has_room(&mut self) -> Result<bool, StoreError> {
        let line = &self.line;
        let has_room = line.room.has_room(&*line.commits, &self.mailbox.tenant);
        let has_room = has_room.await?;
        self.crowded = !has_room;
        self.held |= self.crowded;
        Ok(has_room)
    }

    /// Whether the tenant's rules are loaded. No mail is decided without them.
    fn is_loaded(&self) -> bool {
        self.line.rules.is_loaded(&self.mailbox.tenant)
    }

    fn budget(&self) -> Option<&RateLimiter> {
        self.line.budgets.get(&self.mailbox.tenant)
    }

    /// How long held mail waits: nothing when some of it may be decided now.
    fn until_admitted(&self) -> Duration {
        if self.crowded || !self.is_loaded() {
            return HELD_PAUSE;
        }
        let until = self
            .budget()
            .map_or(Duration::ZERO, RateLimiter::until_next);
        match until.is_zero() {
            true => until,
            false => until.max(HELD_PAUSE),
        }
    }

    /// The talk with the server: what is committed is acknowledged, then more is fetched when that is `wanted`. With `more` mail known
    /// to be waiting, a source that acknowledges last is not asked to.
    async fn sync_with_server(
        &mut self,
        cursor: &mut Option<Cursor>,
        wanted: bool,
        more: bool,
    ) -> Result<Told, IntakeError> {
        let journal = self.line.journal.clone();
        let done = match more && ready(&mut self.source)?.acknowledges_last() {
            true => None,
            false => self.acknowledge_due().await?,
        };
        let mut told = Told {
            acknowledged: done.is_some(),
            ..Told::default()
        };
        let source = ready(&mut self.source)?;
        // An acknowledgement may be repeated, so nothing waits for its record.
        let (recorded, fetched) = tokio::join!(
            async {
                match done {
                    Some(ids) if !ids.is_empty() => journal.acked(ids).await,
                    _ => Ok(()),
                }
            },
            async {
                if !wanted {
                    return Ok(None);
                }
                tokio::select! {
                    batch = source.fetch(cursor.as_ref(), &self.fetch) => batch.map(Some),
                    () = self.stop.cancelled() => Ok(None),
                }
            },
        );
        recorded?;
        if let Some(batch) = fetched? {
            told.more = batch.more;
            if !batch.messages.is_empty() || batch.cursor != *cursor {
                *cursor = batch.cursor.clone().or(cursor.take());
                told.fetched = Some(batch);
            }
        }
        Ok(told)
    }

    /// Step 5: what is committed is acknowledged on the server. Answers what is to be recorded as done; `None` when nothing was due.
    async fn acknowledge_due(&mut self) -> Result<Option<Vec<i64>>, IntakeError> {
        let now = self.line.clock.now_ms();
        let due = self
            .line
            .journal
            .due_acks(&self.mailbox.name, ACKNOWLEDGE_BATCH, now)
            .await?;
        if due.is_empty() {
            return Ok(None);
        }
        let acks: Vec<Acknowledge> = due
            .iter()
            .filter(|ack| !ack.position.is_imported())
            .map(|ack| Acknowledge {
                position: ack.position.clone(),
                after: self.after(ack),
            })
            .collect();
        let ids = due.iter().map(|ack| ack.id).collect();
        crash::point(crash::Point::BeforeAcknowledge);
        match ready(&mut self.source)?.acknowledge(&acks).await {
            Ok(()) => {
                crash::point(crash::Point::AfterAcknowledge);
                Ok(Some(ids))
            }
            Err(error) if error.is_transient() => Err(error.into()),
            Err(error) => {
                let attempts = due.iter().map(|ack| ack.attempts).max().unwrap_or(0) + 1;
                let pause = backoff(attempts, 0);
                tracing::warn!(mails = due.len(), %error, retry_secs = pause.as_secs(),
                    "the server refused an acknowledgement; the mail is decided and safe, the acknowledgement is tried again");
                let retry_at = now + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
                self.line
                    .journal
                    .ack_failed(ids, &error.to_string(), retry_at)
                    .await?;
                Ok(Some(Vec::new()))
            }
        }
    }

    /// An acknowledgement that was refused is due again some time.
    async fn until_next_acknowledgement(&self) -> Result<Duration, StoreError> {
        let due = self.line.journal.next_ack_due(&self.mailbox.name).await?;
        let now = self.line.clock.now_ms();
        Ok(due.map_or(Duration::MAX, |at| {
            Duration::from_millis(u64::try_from(at - now).unwrap_or(0))
        }))
    }

    /// Returns the mail's acknowledgement. The only copy of a mail is never deleted, whatever the configuration says.
    fn after(&self, ack: &Ack) -> After {
        let after = if ack.failed {
            &self.mailbox.after_failed
        } else {
            &self.mailbox.after_done
        };
        match after {
            After::Delete if !ack.whole => After::Keep,
            after => after.clone(),
        }
    }

    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.mailbox.name.hash(&mut hasher);
        hasher.finish() ^ u64::from(std::process::id())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    Drained,
    Stopped,
}

/// One look at what the journal holds undecided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There was nothing.
    Done,
    /// The number of decided mails; there may be more.
    BatchOutcome(usize),
    /// There is something, which waits.
    Held,
}

/// The result of one exchange with the server.
#[derive(Default)]
struct Told {
    /// Something was due for acknowledging, and more may be.
    acknowledged: bool,
    /// The mail after the cursor, if any.
    fetched: Option<Batch>,
    /// Whether more mail is known to be waiting.
    more: bool,
}

fn ready(source: &mut Ready<Box<dyn Source>>) -> Result<&mut dyn Source, IntakeError> {
    match source {
        Ok(source) => Ok(source.as_mut()),
        Err(why) => Err(why.clone().into()),
    }
}

async fn connect(source: &mut Ready<Box<dyn Source>>) -> Result<(), IntakeError> {
    Ok(ready(source)?.connect().await?)
}

/// Ends when the account works again.
async fn news(signed_in: &mut Option<watch::Receiver<u64>>) {
    if let Some(signed_in) = signed_in
        && signed_in.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

/// Makes a fetched batch durable together with the new cursor. Answers what is to be decided, and the room that it takes.
async fn journal(
    line: &Line,
    mailbox: &Mailbox,
    batch: Option<Batch>,
) -> Result<(Vec<PendingMail>, InFlightPermit), StoreError> {
    let Some(batch) = batch else {
        return Ok((Vec::new(), InFlightPermit::default()));
    };
    // Before the cursor, which says that they were passed.
    if !batch.passed.is_empty() {
        let journal = &line.journal;
        journal
            .remember_positions(&mailbox.name, batch.passed)
            .await?;
    }
    let positions = batch.remember.then(|| {
        let mails = batch.messages.iter();
        mails.map(|mail| mail.position.clone()).collect()
    });
    let pending = line.journal(mailbox, batch.messages, batch.cursor).await?;
    // After the mail itself: a crash in between lets it be fetched again, which the journal notices.
    if let Some(positions) = positions {
        let journal = &line.journal;
        journal.remember_positions(&mailbox.name, positions).await?;
    }
    Ok((pending, batch.room))
}
