//! Fetching: a check lists the mailbox, and mail that the journal does not know is loaded in batches, within the limits.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use postroom_core::{Cursor, Position, RawMessage, arrived_ms};
use postroom_net::Step;
use tokio::time::Instant;

use super::Pop3Source;
use super::list::{Listed, list};
use super::progress::{Age, Progress, position};
use super::reply::{Code, Reply};
use super::session::{Given, Session, protocol};
use super::wire::Body;
use crate::{BEGINNING_BYTES, Batch, FetchLimits, Import, SourceError};

/// Mails that were listed and not read yet.
#[derive(Default)]
pub(super) struct Backlog {
    waiting: VecDeque<Waiting>,
    /// Whether the server did not deliver a mail, which is requested again at the next check.
    skipped: bool,
}

struct Waiting {
    listed: Listed,
    /// Whether it may be older than the first contact.
    may_be_old: bool,
}

/// The result of reading a listed mail.
enum Taken {
    Mail(RawMessage),
    /// Older than what `import` accepts.
    LeftOut,
    /// The server did not deliver it.
    Skipped,
}

/// A mail may have twice its stated size plus this much.
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;
/// The number of body lines requested of a mail over the limit.
const BEGINNING_LINES: u64 = BEGINNING_BYTES / 64;
/// How much the server may send for a mail's beginning, of which less is kept, before we hang up.
const BEGINNING_SENT_BYTES: u64 = 4 * BEGINNING_BYTES;
/// The attempt at which a mail that the server lists and does not deliver is given up. No other mail waits for it.
pub(super) const TRIES_MAX: u32 = 20;
/// One more than the number of batches that may be between the server and the journal at a time.
const UNDER_WAY: u64 = 4;
/// The number of positions looked up at a time.
const LOOKUP: usize = 4096;

impl Backlog {
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Takes the next batch: within the limits, but at least one mail.
    fn plan(&mut self, mails: usize, limits: &FetchLimits) -> Vec<Waiting> {
        let mut planned = Vec::new();
        let mut bytes = 0u64;
        while let Some(next) = self.waiting.front() {
            bytes = bytes.saturating_add(next.cost(limits));
            let full = planned.len() >= mails.max(1) || bytes > limits.batch_bytes;
            if full && !planned.is_empty() {
                break;
            }
            planned.extend(self.waiting.pop_front());
        }
        planned
    }
}

impl Waiting {
    /// Returns the number of bytes that fetching it requires.
    fn cost(&self, limits: &FetchLimits) -> u64 {
        match self.listed.size > limits.raw_bytes {
            true => BEGINNING_BYTES,
            false => self.listed.size,
        }
    }
}

impl Pop3Source {
    pub(super) async fn fetch_batch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let progress = cursor.and_then(|cursor| Progress::read(cursor, &self.mailbox));
        self.go_on_from(progress.as_ref().map_or(0, |progress| progress.batch));
        if self.session.as_ref().is_none_or(|open| open.busy) {
            self.left_session();
        }
        let is_due = self.session.is_some() || Instant::now() >= self.check_at;
        let (mut progress, mut passed) = match progress {
            Some(progress) if self.backlog.is_some() => (progress, Vec::new()),
            Some(_) if !is_due => {
                return Ok(Batch {
                    cursor: cursor.cloned(),
                    ..Batch::default()
                });
            }
            progress => {
                if progress.is_none() && cursor.is_some() {
                    tracing::warn!(
                        mailbox = self.settings.name,
                        "the mailbox was read from another server, user or protocol before; it counts as never read"
                    );
                }
                self.take_stock(progress).await?
            }
        };
        let before = progress.clone();
        let mut backlog = self.backlog.take().unwrap_or_default();
        let mails = if self.sizes_lie {
            1
        } else {
            limits.batch_mails
        };
        let mut planned = backlog.plan(mails, limits);
        let cost = match self.sizes_lie {
            true if !planned.is_empty() => limits.raw_bytes,
            _ => planned.iter().map(|it| it.cost(limits)).sum(),
        };
        let Some(room) = limits.room(cost).await else {
            for waiting in planned.drain(..).rev() {
                backlog.waiting.push_front(waiting);
            }
            self.backlog = Some(backlog);
            return Ok(Batch {
                cursor: Some(progress.cursor()),
                more: true,
                ..Batch::default()
            });
        };

        let mut messages = Vec::with_capacity(planned.len());
        let mut keys: Vec<Arc<str>> = passed.clone();
        let mut failure = None;
        for waiting in planned {
            let key = waiting.listed.key.clone();
            match self.take(&waiting, &mut progress, limits).await {
                Ok(Taken::Mail(mail)) => {
                    messages.push(mail);
                    keys.push(key);
                }
                Ok(Taken::LeftOut) => {
                    passed.push(key.clone());
                    keys.push(key);
                }
                Ok(Taken::Skipped) => backlog.skipped = true,
                Err(error) => {
                    failure = Some(error);
                    break;
                }
            }
            if self.session.is_none() {
                break;
            }
        }
        let is_lost = failure.is_some() || self.session.is_none();
        match failure {
            Some(error) if keys.is_empty() => return Err(error),
            // The mails before it are kept; if the error persists, the next fetch fails by itself.
            Some(error) => drop(self.judged::<()>(Err(error))),
            None => {}
        }
        let more = is_lost || !backlog.is_empty();
        if is_lost {
            self.session = None;
            self.left_session();
            self.check_at = Instant::now();
        } else {
            if !more && !backlog.skipped && progress.old.take().is_some() {
                self.forgets = true;
            }
            self.backlog = Some(backlog);
        }
        if !keys.is_empty() || progress != before || cursor.is_none() {
            progress.batch += 1;
            self.given.insert(progress.batch, keys);
        }
        Ok(Batch {
            messages,
            cursor: Some(progress.cursor()),
            more,
            remember: true,
            passed: self.positions(&passed),
            room,
            ..Batch::default()
        })
    }

    /// Rewinds to this batch: mails of later batches are returned again. The last batches before it may still be on their way
    /// into the journal.
    fn go_on_from(&mut self, batch: u64) {
        let lost = self.given.split_off(&batch.saturating_add(1));
        if !lost.is_empty() {
            self.backlog = None;
        }
        let under_way = self
            .given
            .split_off(&batch.saturating_sub(UNDER_WAY).saturating_add(1));
        let journalled = std::mem::replace(&mut self.given, under_way);
        self.known.extend(journalled.into_values().flatten());
    }

    /// Lists the mailbox and finds the mails to read. Also returns the mails that are passed over unread.
    async fn take_stock(
        &mut self,
        progress: Option<Progress>,
    ) -> Result<(Progress, Vec<Arc<str>>), SourceError> {
        let session = self.ready().await?;
        let listed = list(session).await?;
        self.check_at = Instant::now() + self.settings.every;
        let last = listed.last().map(|last| last.key.clone());
        let import = self.settings.import;
        let is_first = progress.is_none();
        let now = self.clock.now().as_second();
        let mut progress = progress.unwrap_or_else(|| {
            let last = last.as_deref().filter(|_| import != Import::New);
            Progress::first(self.mailbox.clone(), last, now)
        });
        let known = self.known_of(&listed).await?;
        let mut before = std::mem::replace(&mut self.known, known);
        before.extend(self.given.values().flatten().cloned());
        let deleted = std::mem::take(&mut self.deleted);
        let keys: HashSet<&str> = listed.iter().map(|it| &*it.key).collect();
        let is_kept = |key: &Arc<str>| keys.contains(&**key);
        for given in self.given.values_mut() {
            given.retain(is_kept);
        }
        let still = deleted.iter().filter(|key| is_kept(key)).count();
        if still > 0 {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = still,
                "the server still lists mails whose deletion it confirmed; they are not read again"
            );
        }
        self.tries.retain(|key, _| keys.contains(&**key));
        if is_first && import == Import::New {
            let passed = listed.iter().map(|it| it.key.clone()).collect();
            self.listing = Some(listed);
            self.backlog = Some(Backlog::default());
            return Ok((progress, passed));
        }
        if let Some(last) = &last
            && progress.old.is_none()
            && !is_first
            && self.known.is_empty()
            && self.given.values().all(Vec::is_empty)
            && self.journal_has_any().await?
        {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = listed.len(),
                "no listed mail has a known unique id, the server may have renumbered the mailbox; mail from before the first contact stays as it is"
            );
            progress.renumbered(last);
        }
        // A listing without mail may be a server's mistake, unless we emptied the mailbox.
        let gone = before.iter().any(|key| !is_kept(key));
        let forgets = match listed.is_empty() {
            true => gone && before.iter().all(|key| deleted.contains(key)),
            false => gone || self.forgets,
        };
        if forgets && progress.old.is_none() {
            self.forget_all_but(&listed).await?;
            self.forgets = false;
        }
        self.backlog = Some(self.unread(&listed, &progress));
        self.listing = Some(listed);
        Ok((progress, Vec::new()))
    }

    /// Returns the listed mails that are not known. Mails that failed before come last.
    fn unread(&self, listed: &[Listed], progress: &Progress) -> Backlog {
        let old_to = progress.old.as_ref().map(|old| {
            let last = listed.iter().position(|it| *it.key == *old.last);
            // If its last mail is gone, the old listing may extend to the end.
            last.map_or(listed.len(), |at| at + 1)
        });
        let given: HashSet<&Arc<str>> = self.given.values().flatten().collect();
        let waiting = listed.iter().zip(1..);
        let mut waiting: Vec<Waiting> = waiting
            .filter(|(it, _)| !self.known.contains(&it.key) && !given.contains(&it.key))
            .map(|(it, place)| Waiting {
                listed: it.clone(),
                may_be_old: old_to.is_some_and(|old_to| place <= old_to),
            })
            .collect();
        waiting.sort_by_key(|it| self.tries.get(&it.listed.key).copied().unwrap_or_default());
        Backlog {
            waiting: waiting.into(),
            skipped: false,
        }
    }

    /// Returns those of the listed mails that are in the journal.
    async fn known_of(&self, listed: &[Listed]) -> Result<HashSet<Arc<str>>, SourceError> {
        let keys = listed.iter().map(|it| it.key.clone());
        let (known, asked): (Vec<_>, Vec<_>) = keys.partition(|key| self.known.contains(key));
        let mut known: HashSet<Arc<str>> = known.into_iter().collect();
        let Some(journal) = &self.journal else {
            return Ok(known);
        };
        for asked in asked.chunks(LOOKUP) {
            let found = journal.known(self.positions(asked)).await?;
            let found = asked
                .iter()
                .filter(|key| found.contains(&position(&self.mailbox, key)));
            known.extend(found.cloned());
        }
        Ok(known)
    }

    async fn journal_has_any(&self) -> Result<bool, SourceError> {
        match &self.journal {
            Some(journal) => Ok(journal.count().await? > 0),
            None => Ok(false),
        }
    }

    async fn forget_all_but(&self, listed: &[Listed]) -> Result<(), SourceError> {
        let Some(journal) = &self.journal else {
            return Ok(());
        };
        let keys: Vec<Arc<str>> = listed.iter().map(|it| it.key.clone()).collect();
        journal.forget_all_but(self.positions(&keys)).await
    }

    pub(super) fn positions(&self, keys: &[Arc<str>]) -> Vec<Position> {
        keys.iter()
            .map(|key| position(&self.mailbox, key))
            .collect()
    }

    /// Loads one mail and determines its age.
    async fn take(
        &mut self,
        waiting: &Waiting,
        progress: &mut Progress,
        limits: &FetchLimits,
    ) -> Result<Taken, SourceError> {
        let listed = &waiting.listed;
        let import = self.settings.import;
        let tries = self.tries.get(&listed.key).copied().unwrap_or_default();
        if tries >= TRIES_MAX {
            return Ok(Taken::Mail(self.stand_in(listed)));
        }
        // Counted before the request, because the caller may drop this future.
        self.tries.insert(listed.key.clone(), tries + 1);
        if waiting.may_be_old && progress.needs_dates(import) {
            let arrived = self.arrival(listed).await?;
            if arrived.is_some() && progress.age(arrived, import) == Age::LeftOut {
                self.tries.remove(&listed.key);
                return Ok(Taken::LeftOut);
            }
            if let (Some(old), Some(_)) = (&mut progress.old, arrived) {
                old.reached = true;
            }
        }
        let Some((bytes, size)) = self.retrieve(listed, limits).await? else {
            return Ok(Taken::Skipped);
        };
        self.tries.remove(&listed.key);
        let age = match waiting.may_be_old {
            true => progress.age(arrived_ms(&bytes), import),
            false => Age::New,
        };
        if age == Age::LeftOut {
            return Ok(Taken::LeftOut);
        }
        Ok(Taken::Mail(RawMessage {
            position: position(&self.mailbox, &listed.key),
            size,
            bytes: bytes.into(),
            old: age == Age::Old,
        }))
    }

    /// Returns when a mail arrived, from its header, or `None`, also if the server cannot send a header alone.
    async fn arrival(&mut self, listed: &Listed) -> Result<Option<i64>, SourceError> {
        let session = self.open_session()?;
        if session.has_no_top {
            return Ok(None);
        }
        let body = Body::new(0, BEGINNING_BYTES, BEGINNING_SENT_BYTES);
        let command = format!("TOP {} 0", listed.number);
        match session.mail(&command, BEGINNING_BYTES, body).await? {
            Given::Whole(body) => Ok(arrived_ms(&body.bytes)),
            Given::Overrun(_) => Err(protocol(Step::Fetch, "a header without end")),
            Given::Refused(reply) => {
                session.has_no_top = reply.code.is_none();
                self.passing(listed, reply).map_or(Ok(None), Err)
            }
        }
    }

    /// Returns the mail's bytes and size; for a mail over the limit, its beginning. Returns `None` if the server does not deliver
    /// it.
    async fn retrieve(
        &mut self,
        listed: &Listed,
        limits: &FetchLimits,
    ) -> Result<Option<(Vec<u8>, u64)>, SourceError> {
        let is_large = listed.size > limits.raw_bytes;
        if is_large && let Some(beginning) = self.beginning(listed).await? {
            return Ok(Some(beginning));
        }
        let sizes_lie = self.sizes_lie;
        let session = self.open_session()?;
        let by_size = listed
            .size
            .saturating_mul(2)
            .saturating_add(SIZE_SLACK_BYTES);
        let allowed = match is_large {
            true => BEGINNING_BYTES,
            false if sizes_lie => limits.raw_bytes,
            false => by_size.min(limits.raw_bytes),
        };
        let body = Body::new(listed.size, allowed, allowed);
        let command = format!("RETR {}", listed.number);
        match session
            .mail(&command, listed.size.min(allowed), body)
            .await?
        {
            Given::Whole(body) if body.len > 0 => Ok(Some((body.bytes, body.len))),
            Given::Whole(_) => {
                self.warn_skipped(listed, "an empty mail");
                Ok(None)
            }
            Given::Refused(reply) => {
                let text = reply.text.clone();
                if let Some(error) = self.passing(listed, reply) {
                    return Err(error);
                }
                self.warn_skipped(listed, &text);
                Ok(None)
            }
            Given::Overrun(_) if !is_large && allowed < limits.raw_bytes => {
                self.sizes_lie = true;
                self.tries.remove(&listed.key);
                Err(protocol(
                    Step::Fetch,
                    "a mail far larger than its stated size",
                ))
            }
            Given::Overrun(body) => {
                self.session = None;
                Ok(Some(cut(body, listed)))
            }
        }
    }

    /// Returns the beginning of a mail without the rest, or `None` if the server does not support TOP.
    async fn beginning(&mut self, listed: &Listed) -> Result<Option<(Vec<u8>, u64)>, SourceError> {
        let session = self.open_session()?;
        if session.has_no_top {
            return Ok(None);
        }
        let body = Body::new(BEGINNING_BYTES, BEGINNING_BYTES, BEGINNING_SENT_BYTES);
        let command = format!("TOP {} {BEGINNING_LINES}", listed.number);
        match session.mail(&command, BEGINNING_BYTES, body).await? {
            Given::Whole(body) if body.len > 0 => Ok(Some(cut(body, listed))),
            Given::Whole(_) => Ok(None),
            Given::Overrun(body) => {
                self.session = None;
                Ok(Some(cut(body, listed)))
            }
            Given::Refused(reply) => {
                session.has_no_top = reply.code.is_none();
                self.passing(listed, reply).map_or(Ok(None), Err)
            }
        }
    }

    /// Returns the session that was listed. A new one would number the mails differently.
    fn open_session(&mut self) -> Result<&mut Session, SourceError> {
        let open = self.session.as_mut().filter(|open| !open.busy);
        open.ok_or_else(|| SourceError::Transient {
            step: Step::Fetch,
            reason: "the session has ended".into(),
        })
    }

    /// Returns the error of a refusal that declares itself temporary. It does not count against the mail.
    fn passing(&mut self, listed: &Listed, reply: Reply) -> Option<SourceError> {
        let passes = matches!(
            reply.code,
            Some(Code::Temporary | Code::InUse | Code::LoginDelay)
        );
        if passes && let Some(tries) = self.tries.get_mut(&listed.key) {
            *tries = tries.saturating_sub(1);
        }
        passes.then(|| reply.refusal(Step::Fetch))
    }

    /// Logs the first refusal of a mail.
    fn warn_skipped(&self, listed: &Listed, answer: &str) {
        if self.tries.get(&listed.key) == Some(&1) {
            tracing::warn!(
                mailbox = self.settings.name,
                uid = &*listed.key,
                answer,
                "the server lists a mail and does not give it; it is asked for again at each check"
            );
        }
    }

    /// Returns a note in place of a mail that is given up, so that a person sees it. The note states a size larger than its own,
    /// so it is quarantined like an incomplete mail. It contains the mail's key, so that no two notes count as the same mail.
    fn stand_in(&self, listed: &Listed) -> RawMessage {
        let (uid, size) = (&listed.key, listed.size);
        tracing::error!(
            mailbox = self.settings.name,
            uid = &**uid,
            tries = TRIES_MAX,
            "a mail is given up: the server lists it and does not give it"
        );
        let note = format!(
            "Subject: Mail {uid} could not be fetched\r\n\
             MIME-Version: 1.0\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             \r\n\
             Postroom wrote this note. The server listed the mail and did not give it in {TRIES_MAX} tries.\r\n\
             The mail is still on the server.\r\n\
             \r\n\
             Mailbox: {}\r\n\
             Unique id: {uid}\r\n\
             Size: {size} bytes\r\n",
            self.mailbox
        );
        RawMessage {
            position: position(&self.mailbox, uid),
            size: size.max(note.len() as u64 + 1),
            bytes: note.into(),
            old: false,
        }
    }
}

/// Returns the beginning of a mail, with a size that shows that there is more.
fn cut(mut body: Body, listed: &Listed) -> (Vec<u8>, u64) {
    body.bytes
        .truncate(usize::try_from(BEGINNING_BYTES).unwrap_or(usize::MAX));
    body.bytes.shrink_to_fit();
    let more = body.bytes.len() as u64 + 1;
    let size = listed.size.max(body.len).max(more);
    (body.bytes, size)
}
