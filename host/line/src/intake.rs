//! Intake: one mailbox's loop of fetching, journalling, processing and acknowledging. It owns the mail session.

mod error;
mod failure_class;
mod journal;
mod report;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use postroom_core::backoff::backoff;
use postroom_core::{Cursor, MailboxState};
use postroom_mailbox::{
    Acknowledge, After, Batch, FetchLimits, InFlight, InFlightPermit, Source, SourceError,
};
use postroom_store::{Ack, PendingMail, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rate_limiter::RateLimiter;
use super::session_health::SessionHealth;
use super::{Line, Mailbox};
use postroom_config::{Ready, SessionUse};
use postroom_rules::crash;

pub use error::IntakeError;
pub use failure_class::FailureClass;

/// The number of acknowledgements sent to the server at a time.
const ACKNOWLEDGE_BATCH: usize = 512;
/// The number of journalled mails processed at a time after a restart.
const RECOVER_BATCH: usize = 64;
/// The shortest pause between checks of held mail.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// One mailbox's intake.
pub struct Intake {
    line: Arc<Line>,
    mailbox: Arc<Mailbox>,
    /// The mailbox of the configuration in use, which may change while a session is open.
    configured: watch::Receiver<Arc<Mailbox>>,
    /// The mail source, or why nothing can be fetched until a restart.
    source: Ready<Box<dyn Source>>,
    /// The interval of the reconciling poll: the longest time between two checks of the server.
    every: Duration,
    fetch: FetchLimits,
    stop: CancellationToken,
    /// Changes when the mailbox's account works again after it could not sign in; `None` if it has no account.
    signed_in: Option<watch::Receiver<u64>>,
    /// Changes when a person has mail decided again, perhaps this mailbox's.
    again: watch::Receiver<()>,
    /// Whether mail waits in the journal until the tenant's budget allows it or its rules are loaded. Newer mail waits behind it.
    held: bool,
    /// Whether mail waits because the tenant's share of the outbox is full, and whether that has been recorded.
    crowded: bool,
    crowded_recorded: bool,
    /// Whether undecided mail is known to be of the mailbox's tenant.
    adopted: bool,
    /// The last reported reasons that folders cannot be opened.
    unread: Option<String>,
    /// The last published state unless it is [`MailboxState::Serving`]; initially [`MailboxState::Starting`].
    said: Option<MailboxState>,
    /// The sessions since the last good one.
    streak: SessionHealth,
}

impl Intake {
    /// Creates the intake, which serves until `stop`. `signed_in` changes when the mailbox's account works again after it could not
    /// sign in; `None` if it has no account.
    pub fn new(
        line: Arc<Line>,
        configured: watch::Receiver<Arc<Mailbox>>,
        source: Ready<Box<dyn Source>>,
        every: Duration,
        in_flight: InFlight,
        signed_in: Option<watch::Receiver<u64>>,
        stop: CancellationToken,
    ) -> Self {
        let settings = line.settings();
        let limits = &settings.limits;
        let mailbox = configured.borrow().clone();
        Self {
            fetch: FetchLimits {
                batch_mails: limits.batch_mails,
                batch_bytes: limits.batch_bytes,
                raw_bytes: mailbox.size.raw_bytes,
                in_flight,
                wait_for_room: true,
            },
            stop,
            again: line.again.subscribe(),
            line,
            mailbox,
            configured,
            source,
            every,
            signed_in,
            held: false,
            crowded: false,
            crowded_recorded: false,
            adopted: false,
            unread: None,
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

    /// Serves the mailbox until stopped. A problem with the server or the disk pauses it, is reported once, and is retried. A panic
    /// counts as a problem of this mailbox alone, wherever it happens. The caller provides the [mailbox's span](Mailbox::span).
    pub async fn serve(mut self) {
        let mut panics = 0;
        while !self.stop.is_cancelled() {
            let attempt = AssertUnwindSafe(self.attempt()).catch_unwind().await;
            if attempt.is_ok() {
                panics = 0;
                continue;
            }
            // Reporting or ending the session panicked, so this one neither reports nor ends it.
            panics += 1;
            let pause = FailureClass::Defect.pause(panics, self.seed(), None);
            tracing::error!(
                retry_secs = pause.as_secs(),
                "mailbox task panicked; restarting it"
            );
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
        if AssertUnwindSafe(self.close()).catch_unwind().await.is_err() {
            tracing::error!("ending the session panicked");
        }
    }

    /// Runs one session, and waits after a failure until another one is worthwhile.
    async fn attempt(&mut self) {
        let session = AssertUnwindSafe(self.session(Until::Stopped));
        let ended = session.catch_unwind().await;
        match ended.unwrap_or_else(|_| Err(IntakeError::Defect)) {
            // A session ends without a failure when it is stopped, or when its rules are no longer loaded.
            Ok(_) => tokio::select! {
                () = tokio::time::sleep(HELD_PAUSE) => {}
                () = self.stop.cancelled() => {}
            },
            Err(IntakeError::Store(StoreError::Closed)) => {
                tracing::error!("the store is gone; the service ends");
                self.line.stop.cancel();
            }
            Err(error) => self.pause(error).await,
        }
    }

    async fn close(&mut self) {
        if let Ok(source) = &mut self.source {
            source.close().await;
        }
    }

    /// Reports a failed session and waits until another attempt is worthwhile.
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
        let serves = matches!(self.said, None | Some(MailboxState::PartlyRead));
        if by_connection && in_a_row == 1 && serves {
            // Servers end sessions at any time, Exchange with each token: a failure that a new connection cures is not worth an
            // error.
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
            // There is no point in waiting longer than the problem lasts.
            () = news(&mut self.signed_in), if error.is_of_sign_in() => self.streak.forgive(),
            // Mail in the journal needs no server.
            () = rules.loaded(&tenant), if is_held => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Processes everything that is there now, then returns the number of decided mails.
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
        self.follow_configuration();
        if self.said == Some(MailboxState::DiskFull) {
            // Nothing is fetched that could not be stored.
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
        let line = self.line.clone();
        let mut cursor = line.journal.cursor(&self.mailbox.name).await?;
        let mut more = true;
        // Whether the last fetch reported more mail.
        let mut told_more = false;
        let mut fetched: Option<Batch> = None;
        let mut journalled: Vec<PendingMail> = Vec::new();
        let mut journalled_room = InFlightPermit::default();
        loop {
            self.follow_configuration();
            let mailbox = self.mailbox.clone();
            if self.held {
                // Mail that was already journalled follows those.
                journalled.clear();
            } else {
                let admitted = self.admit(journalled.len()).await?;
                journalled.truncate(admitted);
            }
            let mut resuming = false;
            self.adopt().await?;
            if self.held
                && journalled.is_empty()
                && (self.crowded
                    || self.mailbox.shared.is_some()
                    || self.until_admitted().is_zero())
                && let Round::BatchOutcome(mails) = self.settle_undecided().await?
            {
                (resuming, decided) = (true, decided + mails);
            }
            let working = fetched.is_some() || !journalled.is_empty() || resuming;
            let stopping = until == Until::Stopped && self.stop.is_cancelled();
            // Mails in hand occupy room: if this mailbox waited for more while holding them, it could wait for others that do the
            // same.
            self.fetch.wait_for_room = fetched.is_none() && journalled.is_empty();
            let deciding = std::mem::take(&mut journalled);
            let deciding_room = std::mem::take(&mut journalled_room);
            // Three batches are in progress: one is decided and committed while the next is journalled and the server sends the
            // third. New arrivals are checked for once everything else is done.
            let (settled, pending, told) = tokio::join!(
                async {
                    let settled = line.process_batch(&mailbox, deciding).await;
                    drop(deciding_room);
                    settled
                },
                journal::journal(&line, &mailbox, fetched.take()),
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
                if self.stop.is_cancelled() {
                    self.sync_with_server(&mut cursor, false, false).await?;
                    return Ok(decided);
                }
                // The rules are being loaded again for a changed configuration.
                self.held = true;
                journalled.clear();
            }
            if settled.failed > 0 {
                // This also processes what was just journalled.
                decided += self.recover().await?;
                journalled.clear();
            }
            let brought_mail = fetched.as_ref().is_some_and(|it| !it.messages.is_empty());
            self.streak.served(brought_mail, Instant::now());
            match fetched.as_ref().and_then(|it| it.renumbering.as_ref()) {
                Some(renumbering) => self.report_renumbered(renumbering).await,
                // The mailbox stays renumbered until the mail that is being read again is decided.
                None if self.said == Some(MailboxState::Renumbered) && (more || working) => {}
                None => match ready(&mut self.source)?.trouble() {
                    Some(reasons) => self.report_partly_read(reasons).await,
                    None => self.report_serving().await,
                },
            }
            self.report_crowded().await;
            // A mailbox whose mail must wait for more than its tenant's rate is not fresh, however often it is checked.
            if !self.crowded && self.is_loaded() {
                line.freshness.checked(&mailbox.name);
                line.alerts.checked(&mailbox.name);
            }
            if working || more || told.acknowledged || fetched.is_some() {
                continue;
            }
            // A full outbox is emptied after the drain.
            let is_drained = until == Until::Drained && (!self.held || self.crowded);
            if self.stop.is_cancelled() || is_drained {
                return match ready(&mut self.source)?.trouble() {
                    Some(reasons) if is_drained => {
                        Err(IntakeError::PartlyRead { reasons, decided })
                    }
                    _ => Ok(decided),
                };
            }
            if until == Until::Drained {
                // The order of these checks matters: the rules may be loaded between the two.
                if self.line.rules.is_first_load_over() && !self.are_all_loaded() {
                    return Err(IntakeError::NotLoaded);
                }
                // A drain is complete when everything is decided.
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
            let source = ready(&mut self.source)?;
            tokio::select! {
                news = wait_for_news(source, mailbox.session, wait) => news?,
                // The mail may be from a time when the mailbox was another tenant's.
                changed = self.again.changed() => (self.held, self.adopted) = (changed.is_ok(), false),
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Processes undecided mail from the journal, as far as the tenant's budget allows: mails left by a process that died, or
    /// whose batch the store could not commit.
    pub async fn recover(&mut self) -> Result<usize, StoreError> {
        self.adopt().await?;
        let mut decided = 0;
        while let Round::BatchOutcome(mails) = self.settle_undecided().await? {
            decided += mails;
        }
        Ok(decided)
    }

    /// Makes the mailbox's undecided mail the mail of its present tenant, once.
    pub async fn adopt(&mut self) -> Result<(), StoreError> {
        // The mail of a shared mailbox is attributed after it is parsed.
        if self.adopted || self.mailbox.shared.is_some() {
            return Ok(());
        }
        let (mailbox, tenant) = (&self.mailbox.name, &self.mailbox.tenant);
        let mails = self.line.journal.adopt(mailbox, tenant).await?;
        self.adopted = true;
        if mails > 0 {
            tracing::warn!(
                mails,
                "the mailbox was another tenant's: its undecided mail is decided as this tenant's"
            );
        }
        Ok(())
    }

    /// Processes the oldest undecided mails of the journal. After consecutive crashes, the suspects among them were already
    /// decided ([`super::suspects`]).
    async fn settle_undecided(&mut self) -> Result<Round, StoreError> {
        let line = self.line.clone();
        if !self.has_room().await? {
            return Ok(Round::Held);
        }
        let room = self.budget().map_or(RECOVER_BATCH, |it| it.left());
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
        if settled.left > 0 && settled.decided == 0 {
            self.held = true;
            return Ok(Round::Held);
        }
        Ok(Round::BatchOutcome(settled.decided))
    }

    /// Returns how many of these mails may be decided now; the others are held.
    pub async fn admit(&mut self, wanted: usize) -> Result<usize, StoreError> {
        if wanted > 0 && !self.is_loaded() {
            self.held = true;
            return Ok(0);
        }
        if wanted > 0 && !self.has_room().await? {
            return Ok(0);
        }
        let Some(budget) = self.budget() else {
            return Ok(wanted);
        };
        let admitted = budget.admit(&self.mailbox.name, wanted);
        self.held |= admitted < wanted;
        Ok(admitted)
    }

    /// Returns whether the tenant's share of the outbox has room. Without room, all mail is held.
    async fn has_room(&mut self) -> Result<bool, StoreError> {
        let line = &self.line;
        let (tenant, limit) = (&self.mailbox.tenant, line.settings().limits.outbox_entries);
        let has_room = line.room.has_room(&*line.commits, tenant, limit).await?;
        self.crowded = !has_room;
        self.held |= self.crowded;
        Ok(has_room)
    }

    /// Returns whether the tenant's rules are loaded. No mail is decided without them.
    fn is_loaded(&self) -> bool {
        self.line.rules.is_loaded(&self.mailbox.tenant)
    }

    /// Returns whether the rules of every tenant are loaded whose mail arrives here.
    fn are_all_loaded(&self) -> bool {
        let tenants = self.mailbox.tenants();
        tenants.iter().all(|it| self.line.rules.is_loaded(it))
    }

    fn budget(&self) -> Option<Arc<RateLimiter>> {
        self.line.settings().budget(&self.mailbox.tenant)
    }

    /// Takes over a changed configuration as far as it needs no new session.
    fn follow_configuration(&mut self) {
        let settings = self.line.settings();
        let limits = &settings.limits;
        self.fetch.batch_mails = limits.batch_mails;
        self.fetch.batch_bytes = limits.batch_bytes;
        self.mailbox = self.configured.borrow_and_update().clone();
        self.fetch.raw_bytes = self.mailbox.size.raw_bytes;
    }

    /// Returns how long held mail waits: zero if some of it may be decided now.
    fn until_admitted(&self) -> Duration {
        // What a shared mailbox holds may be another tenant's, whose outbox is full.
        if self.crowded || self.mailbox.shared.is_some() || !self.is_loaded() {
            return HELD_PAUSE;
        }
        let until = self.budget().map_or(Duration::ZERO, |it| it.until_next());
        match until.is_zero() {
            true => until,
            false => until.max(HELD_PAUSE),
        }
    }

    /// Talks to the server: acknowledges committed mail, then fetches more if `wanted`. While `more` mail is known to be waiting,
    /// a source that acknowledges last is not asked to acknowledge.
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
        // An acknowledgement may be repeated, so nothing waits until it is recorded.
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
                let fetching = async {
                    let (slots, may_wait) = (&self.line.fetches, self.fetch.wait_for_room);
                    match slots.take(&self.mailbox.tenant, may_wait).await {
                        Some(_slot) => source.fetch(cursor.as_ref(), &self.fetch).await.map(Some),
                        None => {
                            told.more = true;
                            Ok(None)
                        }
                    }
                };
                tokio::select! {
                    batch = fetching => batch,
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

    /// Step 5: acknowledges committed mail on the server. Returns the mails to record as acknowledged, or `None` if none were
    /// due.
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

    /// Returns the time until the next acknowledgement is due. A refused acknowledgement becomes due again later.
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

/// The result of one pass over the undecided mail in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    /// There was none.
    Done,
    /// The number of decided mails; there may be more.
    BatchOutcome(usize),
    /// There is some, and it waits.
    Held,
}

/// The result of one exchange with the server.
#[derive(Default)]
struct Told {
    /// Whether acknowledgements were due. There may be more.
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

/// Waits for new mail, or until the next check is due if no session is kept for notifications.
async fn wait_for_news(
    source: &mut dyn Source,
    session: SessionUse,
    wait: Duration,
) -> Result<(), SourceError> {
    match session {
        SessionUse::Kept => source.wait(wait).await,
        SessionUse::PerCheck => {
            source.close().await;
            tokio::time::sleep(wait).await;
            Ok(())
        }
    }
}

/// Waits until the account works again.
async fn news(signed_in: &mut Option<watch::Receiver<u64>>) {
    if let Some(signed_in) = signed_in
        && signed_in.changed().await.is_ok()
    {
        return;
    }
    std::future::pending().await
}
