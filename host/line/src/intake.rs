//! Intake: one mailbox's loop of fetching, journalling, settling and acknowledging. It owns the mail session.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use postroom_core::backoff::backoff;
use postroom_core::{Cursor, MailboxState};
use postroom_mailbox::{
    Acknowledge, After, Batch, FetchLimits, InFlightPermit, Renumbering, Source, SourceError,
};
use postroom_store::{Ack, PendingMail, StoreError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::rate_limiter::RateLimiter;
use super::session_health::SessionHealth;
use super::{Line, Mailbox, REFUSED_PASSWORD};
use postroom_config::{Ready, Unavailable};
use postroom_rules::crash;

/// How many acknowledgements go to the server at a time.
const ACKNOWLEDGE_BATCH: usize = 512;
/// A mailbox that is in trouble is tried again at least this often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Pause of a mailbox whose account waits for a person. It contacts no server; news of the account wake it earlier.
const SIGN_IN_PAUSE: Duration = Duration::from_secs(5 * 60);
/// A full disk is looked at again at least this often.
const FULL_PAUSE: Duration = Duration::from_secs(10);
/// How many journalled mails are settled at a time after a restart.
const RECOVER_BATCH: usize = 64;
/// Held mail is looked at no more often.
const HELD_PAUSE: Duration = Duration::from_secs(1);

/// One mailbox's intake.
pub struct Intake {
    pub line: Arc<Line>,
    pub mailbox: Arc<Mailbox>,
    /// Where the mail comes from, or why nothing can be fetched until a restart.
    pub source: Ready<Box<dyn Source>>,
    /// The reconciling poll: the longest time between two looks at the server.
    pub every: Duration,
    pub fetch: FetchLimits,
    pub stop: CancellationToken,
    /// Changes when the mailbox's account, which could not sign in, works again; `None` where it has none.
    pub signed_in: Option<watch::Receiver<u64>>,
    /// Whether mail waits in the journal until the tenant's budget allows it, or its rules are loaded. Newer mail waits behind it.
    pub held: bool,
    /// Whether it waits because the tenant's share of the outbox is full, and whether that is recorded.
    pub crowded: bool,
    pub crowded_recorded: bool,
    /// The trouble that was last told of, while it lasts; [`MailboxState::Starting`] at first.
    pub said: Option<MailboxState>,
    /// How the sessions went since the last good one.
    pub streak: SessionHealth,
}

/// Why a session with a mailbox ended before its time.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its credential is unavailable. Mail in the journal is still decided.
    #[error("{}; help: {}, then restart postroom", .0.reason, .0.help)]
    Misconfigured(#[from] Unavailable),
    /// Nobody loads them again before the drain is over.
    #[error(
        "the tenant's rules are not loaded, the log has the reason; its mail stays in the journal"
    )]
    NotLoaded,
    #[error("a defect of Postroom ended the session; the log has its panic")]
    Defect,
}

impl Intake {
    /// Serves the mailbox until stopped. Trouble with the server or the disk pauses it, says so once, and is tried again.
    pub async fn serve(mut self) {
        while !self.stop.is_cancelled() {
            let session = AssertUnwindSafe(self.session(Until::Stopped));
            let ended = session.catch_unwind().await;
            match ended.unwrap_or_else(|_| Err(IntakeError::Defect)) {
                Ok(_) => break,
                Err(IntakeError::Store(StoreError::Closed)) => {
                    tracing::error!(mailbox = %self.mailbox.name, "the store is gone; the service ends");
                    self.stop.cancel();
                }
                Err(error) => self.pause(&error).await,
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
    async fn pause(&mut self, error: &IntakeError) {
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
            tracing::info!(mailbox = %self.mailbox.name, "connection lost, connecting again: {error}");
        } else {
            let is_unsteady = is_short && in_a_row > 1;
            let state = if is_unsteady {
                MailboxState::Unsteady
            } else {
                error.state()
            };
            self.say_paused(error, state, pause).await;
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
    pub async fn drain(mut self) -> Result<usize, IntakeError> {
        let result = self.session(Until::Drained).await;
        if let Err(error) = &result {
            self.say_paused(error, error.state(), Duration::ZERO).await;
        }
        self.close().await;
        result
    }

    async fn session(&mut self, until: Until) -> Result<usize, IntakeError> {
        self.streak.begin();
        if self.said == Some(MailboxState::DiskFull) {
            // Nothing is fetched that could not be kept.
            self.line
                .store
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
        let mut cursor = line.store.cursor(&mailbox.name)?;
        let mut more = true;
        let mut fetched: Option<Batch> = None;
        let mut journalled: Vec<PendingMail> = Vec::new();
        let mut journalled_room = InFlightPermit::default();
        loop {
            if self.held {
                // What was journalled lies behind those.
                journalled.clear();
            } else {
                let admitted = self.admit(journalled.len())?;
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
                self.sync_with_server(&mut cursor, (more || !working) && !stopping),
            );
            let settled = settled?;
            decided += settled.decided;
            (journalled, journalled_room) = pending?;
            let told = told?;
            fetched = told.fetched;
            more = told.more && !stopping;
            if settled.left > 0 {
                self.sync_with_server(&mut cursor, false).await?;
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
                Some(renumbering) => self.say_renumbered(renumbering).await,
                // What was read again is not decided before this.
                None if self.said == Some(MailboxState::Renumbered) && (more || working) => {}
                None => self.say_serving().await,
            }
            self.record_crowded().await;
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
                .until_next_acknowledgement()?
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
        if !self.has_room()? {
            return Ok(Round::Held);
        }
        let room = self.budget().map_or(RECOVER_BATCH, RateLimiter::left);
        let mut mails = line
            .store
            .pending(&self.mailbox.name, room.clamp(1, RECOVER_BATCH))?;
        if mails.is_empty() {
            self.held = false;
            if let Some(budget) = self.budget() {
                budget.release(&self.mailbox.name);
            }
            return Ok(Round::Done);
        }
        let was_held = self.held;
        mails.truncate(self.admit(mails.len())?);
        if mails.is_empty() || self.stop.is_cancelled() {
            return Ok(Round::Held);
        }
        if !was_held {
            tracing::info!(mailbox = %self.mailbox.name, mails = mails.len(), "deciding undecided mail of the journal");
        }
        let settled = line.process_batch(&self.mailbox, mails).await?;
        Ok(Round::BatchOutcome(settled.decided))
    }

    /// How many of these mails may be decided now; the others are held.
    pub fn admit(&mut self, wanted: usize) -> Result<usize, StoreError> {
        if wanted > 0 && !self.is_loaded() {
            self.held = true;
            return Ok(0);
        }
        if wanted > 0 && !self.has_room()? {
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
    fn has_room(&mut self) -> Result<bool, StoreError> {
        let line = &self.line;
        let has_room = line.room.has_room(&line.store, &self.mailbox.tenant)?;
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

    /// The talk with the server: what is committed is acknowledged, then more is fetched when that is `wanted`.
    async fn sync_with_server(
        &mut self,
        cursor: &mut Option<Cursor>,
        wanted: bool,
    ) -> Result<Told, IntakeError> {
        let store = self.line.store.clone();
        let done = self.acknowledge_due().await?;
        let mut told = Told {
            acknowledged: done.is_some(),
            ..Told::default()
        };
        let source = ready(&mut self.source)?;
        // An acknowledgement may be repeated, so nothing waits for its record.
        let (recorded, fetched) = tokio::join!(
            async {
                match done {
                    Some(ids) if !ids.is_empty() => store.acked(ids).await,
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
            .store
            .due_acks(&self.mailbox.name, ACKNOWLEDGE_BATCH, now)?;
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
                tracing::warn!(mailbox = %self.mailbox.name, mails = due.len(), %error, retry_secs = pause.as_secs(),
                    "the server refused an acknowledgement; the mail is decided and safe, the acknowledgement is tried again");
                let retry_at = now + i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
                self.line
                    .store
                    .ack_failed(ids, &error.to_string(), retry_at)
                    .await?;
                Ok(Some(Vec::new()))
            }
        }
    }

    /// An acknowledgement that was refused is due again some time.
    fn until_next_acknowledgement(&self) -> Result<Duration, StoreError> {
        let due = self.line.store.next_ack_due(&self.mailbox.name)?;
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

    /// Reports that the failure is over; at the start, records that there is none.
    async fn say_serving(&mut self) {
        if self.said == Some(MailboxState::Unsteady) && self.streak.short() > 0 {
            return;
        }
        let Some(before) = self.said.take() else {
            return;
        };
        if before != MailboxState::Starting {
            tracing::info!(mailbox = %self.mailbox.name, "serving again");
        }
        self.record_state(MailboxState::Serving, "").await;
    }

    /// Records that mail waits for room in the outbox, and that it no longer does.
    async fn record_crowded(&mut self) {
        if self.crowded_recorded != self.crowded {
            self.crowded_recorded = self.crowded;
            match self.crowded {
                true => {
                    let detail = "the tenant's share of the outbox is full";
                    self.record_state(MailboxState::OutboxFull, detail).await;
                }
                false => self.record_state(MailboxState::Serving, "").await,
            }
        }
    }

    /// Says it once for each time, and again when it is another one.
    async fn say_renumbered(&mut self, renumbering: &Renumbering) {
        if self.said.replace(MailboxState::Renumbered) != Some(MailboxState::Renumbered) {
            tracing::error!(mailbox = %self.mailbox.name, state = %MailboxState::Renumbered, "{renumbering}");
            self.record_state(MailboxState::Renumbered, &renumbering.to_string())
                .await;
        }
    }

    /// Says it once: the same trouble again is no news.
    async fn say_paused(&mut self, error: &IntakeError, state: MailboxState, pause: Duration) {
        let retry_secs = pause.as_secs();
        if self.said.replace(state) == Some(state) {
            tracing::debug!(mailbox = %self.mailbox.name, %state, retry_secs, "still paused: {error}");
            return;
        }
        if let IntakeError::Misconfigured(why) = error {
            let help = format!("{}; then restart postroom", why.help);
            tracing::error!(mailbox = %self.mailbox.name, %state, help, "the mailbox is misconfigured, its mail stays on the server: {why}");
        } else if error.is_of_sign_in() {
            // Hundreds of mailboxes may share the account, whose failure was logged once, with help.
            tracing::debug!(mailbox = %self.mailbox.name, %state, retry_secs, "mailbox paused: {error}");
        } else {
            tracing::error!(mailbox = %self.mailbox.name, %state, retry_secs, "mailbox paused: {error}");
        }
        self.record_state(state, &error.to_string()).await;
    }

    fn seed(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.mailbox.name.hash(&mut hasher);
        hasher.finish() ^ u64::from(std::process::id())
    }

    /// For people who ask; a disk too full to note it must not become a second trouble.
    async fn record_state(&self, state: MailboxState, detail: &str) {
        if let Err(error) = self
            .line
            .store
            .set_mailbox_state(&self.mailbox.name, state, detail)
            .await
        {
            tracing::debug!(mailbox = %self.mailbox.name, %error, "the mailbox's state could not be stored");
        }
    }
}

impl IntakeError {
    /// Returns what stops the mailbox.
    fn state(&self) -> MailboxState {
        match self {
            IntakeError::Store(StoreError::Full) => MailboxState::DiskFull,
            IntakeError::Store(_) => MailboxState::StoreFailed,
            IntakeError::Source(error) if error.is_transient() => MailboxState::Unreachable,
            IntakeError::Source(SourceError::Auth(_)) => MailboxState::SignIn,
            IntakeError::Source(_) => MailboxState::Refused,
            IntakeError::Misconfigured(_) => MailboxState::Misconfigured,
            IntakeError::NotLoaded => MailboxState::NotLoaded,
            IntakeError::Defect => MailboxState::Defect,
        }
    }

    /// Whether no token could be had: the trouble is the account's, not the mailbox's own.
    fn is_of_sign_in(&self) -> bool {
        matches!(self, IntakeError::Source(SourceError::Auth(_)))
    }

    /// Whether a new connection may be all that is needed.
    fn is_of_connection(&self) -> bool {
        matches!(self, IntakeError::Source(error) if error.is_transient())
    }

    /// `seed` differs between mailboxes, so that those that failed together do not come back together.
    fn pause(&self, failures: u32, seed: u64, has_account: bool) -> Duration {
        match self {
            IntakeError::Source(SourceError::Auth(error)) if error.is_transient() => {
                let asked = error.retry_after().unwrap_or_default();
                backoff(failures, seed).min(LONGEST_PAUSE).max(asked)
            }
            IntakeError::Source(SourceError::Auth(_)) => SIGN_IN_PAUSE,
            IntakeError::Source(SourceError::RefusedLogin { .. }) if !has_account => {
                REFUSED_PASSWORD.delay(failures, seed)
            }
            // Room may be made at any moment.
            IntakeError::Store(StoreError::Full) => backoff(failures, 0).min(FULL_PAUSE),
            _ => backoff(failures, seed).min(LONGEST_PAUSE),
        }
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
    let positions = batch.remember.then(|| {
        let mails = batch.messages.iter();
        mails.map(|mail| mail.position.clone()).collect()
    });
    let pending = line.journal(mailbox, batch.messages, batch.cursor).await?;
    // After the mail itself: a crash in between lets it be fetched again, which the journal notices.
    if let Some(positions) = positions {
        let store = &line.store;
        store.remember_positions(&mailbox.name, positions).await?;
    }
    Ok((pending, batch.room))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_password_is_tried_ever_more_seldom_and_a_refused_token_each_minute() {
        let refused = IntakeError::Source(SourceError::RefusedLogin {
            user: "support@acme.example".into(),
            challenge: None,
            code: None,
            text: "no".into(),
        });
        for (failures, has_account, from_secs, to_secs) in [
            (1, false, 45, 60),
            (3, false, 180, 240),
            (20, false, 675, 900),
            (1, true, 0, 1),
            (20, true, 60, 60),
        ] {
            let pause = refused.pause(failures, 7, has_account).as_secs();
            assert!(
                (from_secs..=to_secs).contains(&pause),
                "{failures} {has_account}: {pause}"
            );
        }
    }
}
