//! Follows the folder: pages of changes after a sync state, the rule for mail from before the first contact, and batches.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use postroom_core::{Cursor, RawMessage};
use postroom_exchange::ews::{Element, Kind, Refusal, escaped, protocol};
use postroom_net::Step;
use serde::{Deserialize, Serialize};

use super::folders::folder_id;
use super::items::{Listed, Loaded, Refused, stand_in};
use super::refusal::OfFolder;
use super::{EwsSource, Session, parsed, position};
use crate::{Batch, FetchLimits, Import, Renumbering, SourceError};

const STEP: Step = Step::List;
/// The most changes that the server returns (learn.microsoft.com, "MaxChangesReturned").
const PAGE_CHANGES: usize = 512;
/// The longest sync state; a longer one is refused. It grows with the folder, by about 50 bytes per mail.
const STATE_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The number of fetches after which a refused mail is given up.
const REFUSALS_MAX: u32 = 5;
/// Items of a folder that are not mail.
const NO_MAIL: [&str; 4] = ["CalendarItem", "Contact", "DistributionList", "Task"];

/// The progress in the folder: the stored cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    folder: String,
    /// The server's time at the first contact, in seconds since 1970. Mail that arrived before is old.
    first_contact: i64,
    /// The server's own text, or `None` before the first page.
    sync_state: Option<String>,
    /// Whether the folder has been read to its end since the first contact, or since the last sync state was lost. Until then,
    /// the date decides what is old; afterwards everything that arrives is new, whatever its date.
    is_complete: bool,
    /// The number of returned mails from the page after the sync state. It only grows while the sync state stays the same, so
    /// that no two batches have the same cursor.
    given: u32,
}

impl Progress {
    fn cursor(&self) -> Cursor {
        Cursor(serde_json::to_string(self).unwrap_or_default())
    }

    /// Returns whether a mail is new, old or left out.
    fn age(&self, received: Option<i64>, import: Import) -> Age {
        if self.is_complete || received.is_some_and(|at| at >= self.first_contact) {
            return Age::New;
        }
        match (import, received) {
            (Import::All, _) | (_, None) => Age::Old,
            (Import::New, Some(_)) => Age::LeftOut,
            (Import::Since(day), Some(at)) => {
                let begins = day.to_zoned(TimeZone::UTC).map(|day| day.timestamp());
                match begins {
                    Ok(begins) if at < begins.as_second() => Age::LeftOut,
                    _ => Age::Old,
                }
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    New,
    /// From before the first contact.
    Old,
    /// From before the first contact, and not imported.
    LeftOut,
}

/// A page of changes, with the mails that have not been returned yet.
pub(super) struct Page {
    /// The cursor of the last batch.
    cursor: Option<Cursor>,
    before: Progress,
    after: Progress,
    waiting: VecDeque<Listed>,
    /// Whether there are further pages.
    more: bool,
    renumbering: Option<Renumbering>,
}

impl Page {
    /// Returns the next mails within the limits: at least one, if any is waiting.
    fn plan(&mut self, limits: &FetchLimits) -> Vec<Listed> {
        let mut planned = Vec::new();
        let mut bytes = 0u64;
        while let Some(listed) = self.waiting.front() {
            bytes = bytes.saturating_add(listed.size.min(limits.raw_bytes));
            let is_full = planned.len() >= limits.batch_mails.max(1) || bytes > limits.batch_bytes;
            if is_full && !planned.is_empty() {
                break;
            }
            planned.extend(self.waiting.pop_front());
        }
        planned
    }

    fn put_back(&mut self, planned: impl DoubleEndedIterator<Item = Listed>) {
        for listed in planned.rev() {
            self.waiting.push_front(listed);
        }
    }

    /// Returns the cursor after the mails returned so far.
    fn reached(&self) -> Cursor {
        match self.waiting.is_empty() {
            true => self.after.cursor(),
            false => self.before.cursor(),
        }
    }
}

impl EwsSource {
    pub(super) async fn fetch_batch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let stored = self.session.stored(cursor)?;
        // A batch whose cursor does not come back was not journalled.
        let page = self.page.take();
        let page = page.filter(|page| page.cursor.as_ref() == cursor && !page.waiting.is_empty());
        let mut page = match page {
            Some(page) => page,
            None => self.next_page(stored, cursor).await?,
        };
        loop {
            let planned = page.plan(limits);
            let cost = planned.iter().map(|listed| listed.cost(limits.raw_bytes));
            let Some(room) = limits.room(cost.sum()).await else {
                page.put_back(planned.into_iter());
                let batch = Batch {
                    cursor: Some(page.reached()),
                    more: true,
                    renumbering: page.renumbering.clone(),
                    ..Batch::default()
                };
                page.cursor = batch.cursor.clone();
                self.page = Some(page);
                return Ok(batch);
            };
            let loaded = self.session.load(&planned, limits.raw_bytes).await?;
            let mut messages = Vec::with_capacity(loaded.len());
            let mut planned = VecDeque::from(planned);
            for outcome in loaded {
                let Some(mut listed) = planned.pop_front() else {
                    break;
                };
                let (bytes, size) = match outcome {
                    Loaded::Gone => {
                        page.before.given += 1;
                        continue;
                    }
                    Loaded::Mail {
                        bytes,
                        is_whole: true,
                    } => {
                        let size = bytes.len() as u64;
                        (bytes, size)
                    }
                    Loaded::Mail { bytes, .. } => {
                        let size = listed.size.max(bytes.len() as u64 + 1);
                        (bytes, size)
                    }
                    Loaded::Longer => {
                        listed.is_longer = true;
                        planned.push_front(listed);
                        break;
                    }
                    // The mails before it are returned first.
                    Loaded::Refused(_) if !messages.is_empty() => {
                        planned.push_front(listed);
                        break;
                    }
                    Loaded::Refused(refusal) => {
                        self.refuse_or_give_up(&listed, &refusal)?;
                        stand_in(&listed, &self.session.settings.folder, &refusal)
                    }
                };
                page.before.given += 1;
                messages.push(RawMessage {
                    position: position(&listed.id),
                    bytes,
                    size,
                    old: listed.old,
                });
            }
            let is_stuck = messages.is_empty() && !planned.is_empty();
            page.put_back(planned.into_iter());
            if is_stuck {
                // The mail at the head of the queue takes more room than was reserved.
                drop(room);
                continue;
            }
            let reached = page.reached();
            let batch = Batch {
                messages,
                cursor: Some(reached.clone()),
                more: page.more || !page.waiting.is_empty(),
                remember: true,
                passed: Vec::new(),
                renumbering: page.renumbering.clone(),
                room,
            };
            page.cursor = Some(reached);
            self.page = Some(page);
            return Ok(batch);
        }
    }

    /// Requests the changes after a sync state, and leaves out known mail.
    async fn next_page(
        &mut self,
        stored: Option<Progress>,
        cursor: Option<&Cursor>,
    ) -> Result<Page, SourceError> {
        let opened = self.session.ready().await?;
        let mut before = match stored {
            Some(stored) => stored,
            None => Progress {
                folder: String::new(),
                first_contact: opened.date.as_second(),
                sync_state: None,
                is_complete: false,
                given: 0,
            },
        };
        before.folder = self.session.settings.folder.clone();
        let mut renumbering = None;
        let changes = match self.session.changes(before.sync_state.as_deref()).await? {
            Ok(changes) => changes,
            Err(refusal)
                if refusal.kind() == Kind::SyncStateInvalid && before.sync_state.is_some() =>
            {
                renumbering = Some(Renumbering::SyncStateLost);
                before = Progress {
                    sync_state: None,
                    is_complete: false,
                    ..before
                };
                let again = self.session.changes(None).await?;
                again.map_err(|refusal| self.session.refused_list(refusal))?
            }
            Err(refusal) => return Err(self.session.refused_list(refusal)),
        };
        let is_unchanged = changes.is_last && changes.count == 0 && before.is_complete;
        let after = Progress {
            sync_state: Some(changes.sync_state),
            is_complete: before.is_complete || changes.is_last,
            given: 0,
            ..before.clone()
        };
        let import = self.session.settings.import;
        let mut waiting: Vec<Listed> = changes
            .created
            .into_iter()
            .filter_map(|mut listed| {
                let age = before.age(listed.received, import);
                listed.old = age == Age::Old;
                (age != Age::LeftOut).then_some(listed)
            })
            .collect();
        if let Some(known) = &self.known
            && !waiting.is_empty()
        {
            let positions = waiting.iter().map(|listed| position(&listed.id)).collect();
            let known = known.known(positions).await?;
            waiting.retain(|listed| !known.contains(&position(&listed.id)));
        }
        waiting.sort_by_key(|listed| listed.received);
        // Exchange encodes the same state differently each time: without changes, the previous one is kept.
        let after = if is_unchanged { before.clone() } else { after };
        Ok(Page {
            cursor: cursor.cloned(),
            before,
            after,
            waiting: waiting.into(),
            more: !changes.is_last,
            renumbering,
        })
    }

    /// Returns an error as long as another attempt is worthwhile for the mail at the head of the queue.
    fn refuse_or_give_up(&mut self, listed: &Listed, refusal: &Refusal) -> Result<(), SourceError> {
        let before = self.refused.take().filter(|it| it.id == listed.id);
        let fetches = before.map_or(1, |it| it.fetches + 1);
        self.refused = Some(Refused {
            id: listed.id.clone(),
            fetches,
        });
        if fetches < REFUSALS_MAX {
            return Err(SourceError::Transient {
                step: Step::Fetch,
                reason: format!(
                    "a mail is listed and not given, try {fetches} of {REFUSALS_MAX}: {} {}",
                    refusal.code, refusal.text
                ),
            });
        }
        tracing::error!(
            mailbox = self.session.settings.name,
            item = listed.id,
            fetches,
            code = refusal.code,
            answer = refusal.text,
            "giving up a mail: the server lists it and does not give it"
        );
        Ok(())
    }
}

/// A page of changes, parsed.
struct Changes {
    created: Vec<Listed>,
    /// The number of changes of all kinds.
    count: usize,
    sync_state: String,
    is_last: bool,
}

impl Session {
    /// Returns the progress that a cursor holds for this folder, or `None` if the folder was never read.
    fn stored(&self, cursor: Option<&Cursor>) -> Result<Option<Progress>, SourceError> {
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        match serde_json::from_str::<Progress>(&cursor.0) {
            Ok(progress) => Ok(Some(progress).filter(|it| it.folder == self.settings.folder)),
            // Another protocol's cursor is an object too, with different fields.
            Err(_) if is_object(&cursor.0) => {
                tracing::warn!(
                    mailbox = self.settings.name,
                    folder = self.settings.folder,
                    "the mailbox was read by another protocol before: the folder counts as never read"
                );
                Ok(None)
            }
            Err(_) => Err(SourceError::UnknownCursor {
                text: cursor.0.chars().take(200).collect(),
            }),
        }
    }

    async fn changes(
        &mut self,
        sync_state: Option<&str>,
    ) -> Result<Result<Changes, Refusal>, SourceError> {
        let folder = self.ready().await?.id.clone();
        let state = sync_state.map_or_else(String::new, |state| {
            format!("<m:SyncState>{}</m:SyncState>", escaped(state))
        });
        let body = format!(
            "<m:SyncFolderItems><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
             <t:FieldURI FieldURI=\"item:Size\"/><t:FieldURI FieldURI=\"item:DateTimeReceived\"/>\
             </t:AdditionalProperties></m:ItemShape><m:SyncFolderId>{}</m:SyncFolderId>{state}\
             <m:MaxChangesReturned>{PAGE_CHANGES}</m:MaxChangesReturned><m:SyncScope>NormalItems</m:SyncScope></m:SyncFolderItems>",
            folder_id(&folder)
        );
        let answer = self.call(STEP, "SyncFolderItems", body).await?;
        let root = parsed(STEP, &answer.body)?;
        let message = match self.outcome(STEP, &root)? {
            Ok(message) => message,
            Err(refusal) => return Ok(Err(refusal)),
        };
        read_changes(message).map(Ok)
    }

    /// The folder itself may be gone.
    fn refused_list(&self, refusal: Refusal) -> SourceError {
        let step = match refusal.code.as_str() {
            "ErrorSyncFolderNotFound" | "ErrorFolderNotFound" | "ErrorItemNotFound" => Step::Select,
            _ => STEP,
        };
        refusal.for_folder(step, &self.settings.folder)
    }
}

fn read_changes(message: &Element<'_>) -> Result<Changes, SourceError> {
    let sync_state = message.text_of("SyncState");
    if sync_state.is_empty() {
        return Err(protocol(STEP, "a page of changes without a sync state").into());
    }
    if sync_state.len() > STATE_BYTES_MAX {
        let reason = format!("a sync state of more than {STATE_BYTES_MAX} bytes");
        return Err(protocol(STEP, &reason).into());
    }
    let is_last = match message.text_of("IncludesLastItemInRange") {
        "true" | "1" => true,
        "false" | "0" => false,
        _ => {
            let reason = "a page of changes that does not say whether it is the last";
            return Err(protocol(STEP, reason).into());
        }
    };
    let changes = message
        .child("Changes")
        .map_or(&[][..], |changes| &changes.children);
    if changes.len() > PAGE_CHANGES {
        let reason = format!("more than {PAGE_CHANGES} changes on a page");
        return Err(protocol(STEP, &reason).into());
    }
    if changes.is_empty() && !is_last {
        return Err(protocol(STEP, "an empty page that is not the last").into());
    }
    let created = changes
        .iter()
        .filter(|change| change.name == "Create")
        .filter_map(|change| change.children.first())
        .filter(|item| !NO_MAIL.contains(&item.name.as_str()))
        .map(|item| {
            let id = item.child("ItemId").and_then(|id| id.attribute("Id"));
            let id = id.ok_or_else(|| protocol(STEP, "a new item without an id"))?;
            let received: Option<Timestamp> = item.text_of("DateTimeReceived").parse().ok();
            Ok(Listed {
                id: id.to_owned(),
                size: item.text_of("Size").parse().unwrap_or(0),
                received: received.map(Timestamp::as_second),
                old: false,
                is_longer: false,
            })
        });
    Ok(Changes {
        created: created.collect::<Result<_, SourceError>>()?,
        count: changes.len(),
        sync_state: sync_state.to_owned(),
        is_last,
    })
}

fn is_object(text: &str) -> bool {
    serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text)
        .is_ok_and(|fields| !fields.contains_key("sync_state"))
}
