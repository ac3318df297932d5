//! Fetching: loads the listed mails as MIME, four at a time, within the limits. A mail that the server does not deliver is
//! requested again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures::{StreamExt, stream};
use postroom_core::{Cursor, RawMessage};
use postroom_net::Step;
use reqwest::StatusCode;
use tokio::time::Instant;

use super::delta::{self, Listed, MAIL_BYTES_GUESS, NoPage, Page};
use super::progress::Progress;
use super::{Backlog, GraphSource, folders, position};
use crate::{BEGINNING_BYTES, Batch, FetchLimits, InFlightPermit, SourceError};
use postroom_exchange::graph::{Body, CONCURRENT_REQUESTS, Failure, GraphClient};

/// The number of pages without a wanted mail after which the place is stored.
const PAGES_PER_FETCH: usize = 20;
/// The most mails in one batch: the guesses at their sizes fit into the limits.
const BATCH_MAILS_MAX: usize = 64;
/// A mail that is refused while no other is delivered is given up at this fetch: the fault may well be the server's, and
/// temporary.
const REFUSALS_ALONE_MAX: u32 = 20;
const STEP: Step = Step::Fetch;

/// The result of loading one listed mail.
enum Loaded {
    Mail(RawMessage),
    Gone,
    /// There was no room for it yet; this many bytes are needed.
    Later(u64),
    /// The server does not deliver it.
    Refused(Failure),
    Failed(SourceError),
}

/// The memory of one batch.
struct Space<'l> {
    limits: &'l FetchLimits,
    room: Mutex<InFlightPermit>,
    /// The total size of its mails in bytes.
    bytes: AtomicU64,
}

impl GraphSource {
    pub(super) async fn fetch_batch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let mut backlog = self.take_up(cursor).await?;
        if backlog.waiting.is_empty() {
            let is_listed = self.list(&mut backlog).await?;
            if backlog.waiting.is_empty() {
                return Ok(self.without_mail(backlog, cursor, is_listed));
            }
        }
        let (client, _) = self.open_folder(Step::Select).await?;
        let planned = plan(&mut backlog.waiting, limits);
        let bytes = planned.iter().map(|it| it.bytes).sum();
        let Some(room) = limits.room(bytes).await else {
            put_back(&mut backlog.waiting, planned);
            backlog.cursor = cursor.cloned();
            self.backlog = Some(backlog);
            return Ok(Batch {
                cursor: cursor.cloned(),
                more: true,
                ..Batch::default()
            });
        };
        let space = Space {
            limits,
            room: Mutex::new(room),
            bytes: AtomicU64::new(0),
        };
        let loading = stream::iter(planned.into_iter().enumerate().map(|(at, listed)| {
            let (client, space) = (&client, &space);
            async move {
                let loaded = load(client, space, &listed, at == 0).await;
                (listed, loaded)
            }
        }));
        let loaded: Vec<(Listed, Loaded)> = loading.buffered(CONCURRENT_REQUESTS).collect().await;
        let room = space
            .room
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        let messages = self.sort_out(&client, &mut backlog, loaded)?;
        self.given(backlog, messages, room)
    }

    /// Returns the place to continue from, and what was listed there.
    async fn take_up(&mut self, cursor: Option<&Cursor>) -> Result<Backlog, SourceError> {
        if let Some(backlog) = self.backlog.take()
            && backlog.cursor.as_ref() == cursor
        {
            return Ok(backlog);
        }
        self.given.take_back();
        let (_, folder) = self.open_folder(Step::Select).await?;
        let name = &self.settings.folder;
        let known = match cursor {
            Some(cursor) if !Progress::is_foreign(&cursor.0) => Some(Progress::read(&cursor.0)?),
            _ => None,
        };
        let progress = match known {
            Some(progress) if folders::is_same(&progress.folder, name) => progress,
            // A different folder or protocol: this is a first contact.
            _ => {
                let now = self.date_secs.unwrap_or(self.clock.now().as_second());
                Progress::first(name, &folder.id, now)
            }
        };
        Ok(Backlog {
            cursor: cursor.cloned(),
            progress,
            waiting: VecDeque::new(),
            next: None,
        })
    }

    /// Lists until a mail is found, the listing is complete, or it is time to store the place. Returns whether it is complete.
    async fn list(&mut self, backlog: &mut Backlog) -> Result<bool, SourceError> {
        let now = self.clock.now().as_second();
        let due = backlog.progress.due(now);
        backlog
            .waiting
            .extend(due.into_iter().map(|(id, old)| Listed {
                id,
                old,
                bytes: MAIL_BYTES_GUESS,
            }));
        if !backlog.waiting.is_empty() {
            return Ok(false);
        }
        for _ in 0..PAGES_PER_FETCH {
            let page = self.page(&mut backlog.progress).await?;
            backlog.waiting.extend(page.wanted);
            backlog.next = Some(page.next);
            if !backlog.waiting.is_empty() {
                return Ok(false);
            }
            advance(backlog)?;
            if !backlog.progress.is_listing() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns the next page. If the server lost the place, lists the folder from the beginning once.
    async fn page(&mut self, progress: &mut Progress) -> Result<Page, SourceError> {
        let mut has_restarted = false;
        loop {
            let client = self.client()?;
            let (known, given) = (self.known.as_deref(), &self.given);
            let import = self.settings.import;
            let page = delta::page(&client, progress, import, known, |id| given.contains(id));
            let lost = match page.await {
                Ok(page) => return Ok(page),
                Err(NoPage::Failed(error)) => return Err(error),
                Err(lost) => lost,
            };
            if has_restarted {
                return Err(SourceError::Transient {
                    step: Step::List,
                    reason: "the server loses its place in a listing that has just begun".into(),
                });
            }
            has_restarted = true;
            if let NoPage::Gone = lost {
                self.folder = None;
            }
            let (_, folder) = self.open_folder(Step::Select).await?;
            let (mailbox, folder_name) = (&self.settings.name, &self.settings.folder);
            tracing::info!(
                mailbox,
                folder = folder_name,
                "Graph lost its place in the folder; listing it again, known mail is skipped"
            );
            progress.restart(&folder.id);
        }
    }

    /// Returns the result when no mail is wanted. A cursor without news stays as it is, or the caller would never come to rest;
    /// it is renewed from time to time.
    fn without_mail(
        &mut self,
        mut backlog: Backlog,
        cursor: Option<&Cursor>,
        is_listed: bool,
    ) -> Batch {
        let now = Instant::now();
        let is_fresh = self
            .refreshed
            .is_some_and(|at| now.duration_since(at) < self.settings.timeouts.refresh);
        let cursor = match cursor {
            Some(cursor) if is_listed && is_fresh => cursor.clone(),
            _ => {
                self.refreshed = Some(now);
                backlog.progress.cursor()
            }
        };
        backlog.cursor = Some(cursor.clone());
        self.backlog = Some(backlog);
        Batch {
            cursor: Some(cursor),
            more: !is_listed,
            remember: true,
            ..Batch::default()
        }
    }

    /// Sorts the listed mails by the result of loading them. Fails only if no mail was delivered.
    fn sort_out(
        &mut self,
        client: &GraphClient,
        backlog: &mut Backlog,
        loaded: Vec<(Listed, Loaded)>,
    ) -> Result<Vec<RawMessage>, SourceError> {
        let now = self.clock.now().as_second();
        let mut messages = Vec::new();
        let mut left = Vec::new();
        let mut refused = Vec::new();
        let mut failed = None;
        for (mut listed, loaded) in loaded {
            match loaded {
                Loaded::Mail(message) => {
                    backlog.progress.given(&listed.id);
                    messages.push(message);
                }
                Loaded::Gone => backlog.progress.given(&listed.id),
                Loaded::Later(bytes) => {
                    listed.bytes = bytes;
                    left.push(listed);
                }
                Loaded::Refused(failure) => refused.push((listed, failure)),
                Loaded::Failed(error) => {
                    failed.get_or_insert(error);
                    left.push(listed);
                }
            }
        }
        if messages.is_empty()
            && failed.is_none()
            && let Some((first, failure)) = refused.first()
            && self.may_be_server(&first.id, failure)
        {
            return Err(client.failed(STEP, refused.swap_remove(0).1).into());
        }
        for (listed, failure) in refused {
            let error = client.failed(STEP, failure);
            tracing::warn!(mailbox = self.settings.name, %error, "the server lists a mail and does not give it; it is asked for again later");
            backlog.progress.ask_again(&listed.id, listed.old, now);
        }
        put_back(&mut backlog.waiting, left);
        match failed {
            Some(error) if messages.is_empty() => Err(error),
            _ => Ok(messages),
        }
    }

    /// Returns whether the server may be at fault rather than the mail, since it delivers no other mail either.
    fn may_be_server(&mut self, id: &str, failure: &Failure) -> bool {
        let before = match &self.refused {
            Some((refused, fetches)) if refused == id => *fetches,
            _ => 0,
        };
        // Denied access must be restored by a person.
        let is_denied =
            matches!(failure, Failure::Refused(refusal) if refusal.status == StatusCode::FORBIDDEN);
        let may_be = is_denied || before + 1 < REFUSALS_ALONE_MAX;
        self.refused = may_be.then(|| (id.to_owned(), before + 1));
        may_be
    }

    /// Returns the mails, with the cursor after them.
    fn given(
        &mut self,
        mut backlog: Backlog,
        messages: Vec<RawMessage>,
        room: InFlightPermit,
    ) -> Result<Batch, SourceError> {
        if backlog.waiting.is_empty() && backlog.next.is_some() {
            advance(&mut backlog)?;
        }
        backlog.progress.batch_given();
        let ids = messages
            .iter()
            .filter_map(|message| super::id_at(&message.position));
        self.given.give(ids.collect());
        self.refreshed = Some(Instant::now());
        let cursor = backlog.progress.cursor();
        let more = !backlog.waiting.is_empty() || backlog.progress.is_listing();
        backlog.cursor = Some(cursor.clone());
        self.backlog = Some(backlog);
        Ok(Batch {
            messages,
            cursor: Some(cursor),
            more,
            remember: true,
            room,
            ..Batch::default()
        })
    }
}

/// Takes the next mails from those waiting: within the limits as far as sizes are known, but at least one.
fn plan(waiting: &mut VecDeque<Listed>, limits: &FetchLimits) -> Vec<Listed> {
    let mut planned = Vec::new();
    let mut bytes = 0u64;
    while let Some(next) = waiting.front() {
        bytes = bytes.saturating_add(next.bytes);
        let is_full = planned.len() >= limits.batch_mails.clamp(1, BATCH_MAILS_MAX)
            || bytes > limits.batch_bytes;
        if is_full && !planned.is_empty() {
            break;
        }
        planned.extend(waiting.pop_front());
    }
    planned
}

fn put_back(waiting: &mut VecDeque<Listed>, listed: Vec<Listed>) {
    for listed in listed.into_iter().rev() {
        waiting.push_front(listed);
    }
}

fn advance(backlog: &mut Backlog) -> Result<(), SourceError> {
    let Some(next) = backlog.next.take() else {
        return Ok(());
    };
    let advanced = backlog.progress.advance(next);
    advanced.map_err(|reason| SourceError::Protocol {
        step: Step::List,
        reason: reason.into(),
    })
}

/// Loads one mail. The first mail of a batch may exceed the batch's limit.
async fn load(client: &GraphClient, space: &Space<'_>, listed: &Listed, is_first: bool) -> Loaded {
    let url = client.url(["messages", &listed.id, "$value"]);
    let answer = match client.send(folders::get(STEP, url)).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_gone() => return Loaded::Gone,
        Err(Failure::Failed(error)) => return Loaded::Failed(error.into()),
        Err(refused) => return Loaded::Refused(refused),
    };
    let mut held = Held {
        space,
        room: listed.bytes,
        counted: 0,
    };
    let raw_bytes = space.limits.raw_bytes;
    let read = answer.mail(raw_bytes, |bytes| held.grow(bytes, is_first));
    let (bytes, size) = match read.await {
        Err(error) => return Loaded::Failed(error.into()),
        Ok(Body::NoRoom(bytes)) => {
            held.give_back();
            // Doubled, so that a large mail is not started many times.
            return Loaded::Later(bytes.saturating_mul(2).min(raw_bytes.max(bytes)));
        }
        Ok(Body::Whole(bytes)) => {
            let size = bytes.len() as u64;
            (bytes, size)
        }
        Ok(Body::Cut(mut bytes, stated)) => {
            let least = raw_bytes.saturating_add(1);
            bytes.truncate(usize::try_from(BEGINNING_BYTES).unwrap_or(usize::MAX));
            bytes.shrink_to_fit();
            (bytes, stated.unwrap_or(least).max(least))
        }
    };
    Loaded::Mail(RawMessage {
        position: position(&listed.id),
        bytes: Bytes::from(bytes),
        size,
        old: listed.old,
    })
}

/// The memory of one mail while it is loaded.
struct Held<'s, 'l> {
    space: &'s Space<'l>,
    /// The room reserved for it.
    room: u64,
    /// Its bytes in the batch's total.
    counted: u64,
}

impl Held<'_, '_> {
    /// Makes room for this many bytes. A holder of room never waits for more: otherwise everybody could wait for everybody else.
    fn grow(&mut self, bytes: u64, is_first: bool) -> bool {
        let limits = self.space.limits;
        let more = bytes.saturating_sub(self.counted);
        let before = self.space.bytes.fetch_add(more, Ordering::Relaxed);
        self.counted = self.counted.max(bytes);
        if !is_first && before.saturating_add(more) > limits.batch_bytes {
            return false;
        }
        if bytes <= self.room {
            return true;
        }
        let wanted = self.room.saturating_mul(2).max(bytes);
        let Some(room) = limits.in_flight.try_take(wanted - self.room) else {
            return false;
        };
        self.room = wanted;
        let mut held = self.space.room.lock();
        held.as_mut()
            .unwrap_or_else(|poisoned| poisoned.get_mut())
            .join(room);
        true
    }

    fn give_back(&mut self) {
        self.space.bytes.fetch_sub(self.counted, Ordering::Relaxed);
        self.counted = 0;
    }
}
