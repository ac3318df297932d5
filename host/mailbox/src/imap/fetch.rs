//! Fetches listed mails in batches, within the limits; requests a mail again that the server did not return.

use std::collections::HashMap;

use postroom_core::{Cursor, RawMessage};

use super::connection::{Connection, ended_ok, protocol};
use super::list::{Backlog, Listed, list, search, take_up, uid_sets};
use super::progress::{MailboxProgress, Progress};
use super::response::{Code, Done, Status, Untagged};
use super::wire::Literal;
use super::{ImapSource, Place};
use crate::{BEGINNING_BYTES, Batch, FetchLimits, SourceError};
use postroom_net::Step;

/// The mail at the head of the line that the server lists but does not return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    uid_validity: u32,
    uid: u32,
    /// The number of fetches that it has stopped so far.
    fetches: u32,
}

/// The item of a whole mail, which leaves the mail unread.
const WHOLE: &str = "BODY.PEEK[]";
/// How far the mails of a batch may exceed their stated sizes, besides being twice as large.
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;
/// The number of the fetch at which a mail is given up that is refused while others are returned.
const REFUSALS_MAX: u32 = 5;
/// The same for a mail that is refused while no other is returned: the fault may be the server's, and temporary.
const REFUSALS_ALONE_MAX: u32 = 20;

impl ImapSource {
    /// Reads the folders in turn, until one of them has mail or all of them are read.
    pub(super) async fn fetch_batch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let mut progress = self.known(cursor)?;
        loop {
            let at = self.rounds.next(self.settings.every);
            let mut batch = match self.fetch_folder(at, &mut progress, limits).await {
                Ok(batch) => {
                    self.rounds.note(at, None);
                    batch
                }
                Err(error @ SourceError::Folder { .. }) if self.rounds.are_several() => {
                    self.rounds.note(at, Some(&error));
                    self.rounds.finish(at);
                    if self.rounds.are_closed() && self.rounds.is_over() {
                        return Err(error);
                    }
                    self.note_absence(at, &error, &mut progress);
                    Batch::default()
                }
                Err(error) => return Err(error),
            };
            if !batch.more {
                self.rounds.finish(at);
            }
            let is_empty = batch.messages.is_empty() && !batch.more && batch.renumbering.is_none();
            if is_empty && !self.rounds.is_over() {
                continue;
            }
            batch.more |= !self.rounds.is_over();
            batch.cursor = progress.cursor().or_else(|| cursor.cloned());
            return Ok(batch);
        }
    }

    /// Records when a folder was missing, so that its mail is judged by its date if it appears.
    fn note_absence(&self, at: usize, error: &SourceError, progress: &mut MailboxProgress) {
        let Some(folder) = self.rounds.folders.get(at) else {
            return;
        };
        if matches!(error, SourceError::Folder { missing: true, .. })
            && progress.of(&folder.name).is_none()
        {
            progress.set(Progress::absent(&folder.name, self.clock.now().as_second()));
        }
    }

    /// Reads the next mails of one folder, and advances its progress. The batch has no cursor.
    async fn fetch_folder(
        &mut self,
        at: usize,
        mailbox: &mut MailboxProgress,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let import = self.settings.import;
        let now = self.clock.now().as_second();
        let Some(read) = self.rounds.folders.get_mut(at) else {
            return Ok(Batch::default());
        };
        let folder = read.name.clone();
        let before = mailbox.of(&folder);
        let backlog = read
            .backlog
            .take()
            .filter(|backlog| Some(&backlog.from) == before && !backlog.waiting.is_empty());
        let known = before.map(|it| it.clone().corrected(now));
        let reconcile_every = self.settings.timeouts.reconcile;
        let mails = if self.one_by_one {
            1
        } else {
            limits.batch_mails
        };
        let connection = self.ready().await?;
        let open = match &backlog {
            Some(_) => Some(connection.open_folder(&folder).await?.uid_validity),
            None => None,
        };
        let (mut progress, mut backlog) = match (known, backlog) {
            (Some(known), Some(backlog)) if open == Some(known.uid_validity) => (known, backlog),
            (known, _) => {
                let (progress, renumbering) =
                    take_up(connection, &folder, known, import, now).await?;
                let reconcile = connection
                    .reconciled
                    .get(&folder)
                    .is_none_or(|at| at.elapsed() >= reconcile_every);
                let mut backlog = list(connection, &progress, import, reconcile, now).await?;
                backlog.renumbering = renumbering;
                (progress, backlog)
            }
        };
        let mut planned = backlog.plan(mails, limits);
        let cost = match self.one_by_one {
            // The stated sizes are wrong.
            true if !planned.is_empty() => limits.raw_bytes,
            _ => planned.iter().map(|it| it.cost(limits)).sum(),
        };
        let Some(room) = limits.room(cost).await else {
            for listed in planned.drain(..).rev() {
                backlog.waiting.push_front(listed);
            }
            let renumbering = backlog.renumbering.clone();
            self.keep(at, backlog, progress, mailbox);
            return Ok(Batch {
                more: true,
                renumbering,
                ..Batch::default()
            });
        };
        let now = self.clock.now().as_second();
        let mut overrun = self.one_by_one;
        let connection = self.ready().await?;
        let uid_validity = progress.uid_validity;
        let outcome = bodies(connection, &planned, limits, &mut overrun).await;
        self.one_by_one = overrun;
        let Bodies {
            mut given,
            refused,
            still,
        } = outcome?;
        if let Some(trouble) = refused {
            // The mails before it are passed on now. Then it is at the head of the line, which stops until the mail is
            // returned or given up.
            let others = !given.is_empty();
            given.retain(|body| body.uid < trouble.uid);
            let mut kept = planned.partition_point(|listed| listed.uid < trouble.uid);
            if given.is_empty() {
                self.refuse_or_give_up(at, &trouble, uid_validity, others)?;
                let size = planned.get(kept).map_or(0, |listed| listed.size);
                given.push(stand_in(&trouble, &progress, size));
                kept += 1;
            }
            for listed in planned.drain(kept..).rev() {
                backlog.waiting.push_front(listed);
            }
        }
        for listed in &planned {
            match still.contains(&listed.uid) {
                true => progress.ask_again(listed.uid, now),
                false => progress.read_uid(listed.uid),
            }
        }
        let mut messages = Vec::with_capacity(given.len());
        for mut body in given {
            let listed = planned.iter().find(|listed| listed.uid == body.uid);
            if body.bytes.is_empty() {
                // A mail without a byte is not a mail: the server does not return it, and shows that by a size of 0.
                let trouble = Trouble {
                    uid: body.uid,
                    passing: false,
                    text: "an empty mail".into(),
                };
                body = stand_in(&trouble, &progress, body.size);
            }
            if body.is_stand_in {
                progress.ask_again(body.uid, now);
            }
            messages.push(RawMessage {
                position: progress.place(body.uid).position(),
                bytes: body.bytes,
                size: body.size,
                old: listed.is_some_and(|listed| listed.old),
            });
        }
        if backlog.waiting.is_empty() {
            progress.listed_to(backlog.end);
        }
        let more = !backlog.waiting.is_empty() || !backlog.complete;
        let renumbering = backlog.renumbering.clone();
        self.keep(at, backlog, progress, mailbox);
        Ok(Batch {
            messages,
            more,
            renumbering,
            room,
            ..Batch::default()
        })
    }

    /// Keeps a folder's backlog and its progress for the next fetch.
    fn keep(
        &mut self,
        at: usize,
        mut backlog: Backlog,
        progress: Progress,
        mailbox: &mut MailboxProgress,
    ) {
        backlog.from = progress.clone();
        if let Some(read) = self.rounds.folders.get_mut(at) {
            read.backlog = Some(backlog);
        }
        mailbox.set(progress);
    }

    /// Returns what the cursor contains about the folders; nothing about those that were never read.
    fn known(&self, cursor: Option<&Cursor>) -> Result<MailboxProgress, SourceError> {
        let Some(cursor) = cursor else {
            return Ok(MailboxProgress::default());
        };
        match MailboxProgress::read(&cursor.0, &self.settings.folders) {
            Err(_) if Place::is_foreign(&cursor.0) => {
                tracing::warn!(
                    mailbox = self.settings.name,
                    "the mailbox was read from another kind of source before; its folders count as never read"
                );
                Ok(MailboxProgress::default())
            }
            read => read,
        }
    }

    /// Returns an error as long as the mail at the head of the line should be tried again.
    fn refuse_or_give_up(
        &mut self,
        at: usize,
        trouble: &Trouble,
        uid_validity: u32,
        others: bool,
    ) -> Result<(), SourceError> {
        let uid = trouble.uid;
        let later = |reason: String| SourceError::Transient {
            step: Step::Fetch,
            reason,
        };
        if trouble.passing {
            return Err(later(format!("mail UID {uid}: {}", trouble.text)));
        }
        let Some(read) = self.rounds.folders.get_mut(at) else {
            return Ok(());
        };
        let before = read
            .refused
            .filter(|refused| (refused.uid_validity, refused.uid) == (uid_validity, uid));
        let fetches = before.map_or(1, |refused| refused.fetches + 1);
        read.refused = Some(Refused {
            uid_validity,
            uid,
            fetches,
        });
        let most = if others {
            REFUSALS_MAX
        } else {
            REFUSALS_ALONE_MAX
        };
        if fetches < most {
            return Err(later(format!(
                "mail UID {uid} is listed but not returned, try {fetches} of {most}: {}",
                trouble.text
            )));
        }
        tracing::error!(
            mailbox = self.settings.name,
            folder = read.name,
            uid,
            fetches,
            answer = trouble.text,
            "a mail was given up: the server lists it but does not return it"
        );
        Ok(())
    }
}

/// A fetched mail.
struct Body {
    uid: u32,
    bytes: bytes::Bytes,
    size: u64,
    /// Whether it is a note in place of a mail that was not returned.
    is_stand_in: bool,
}

/// The result of a batch.
#[derive(Default)]
struct Bodies {
    given: Vec<Body>,
    /// The first mail that the server lists but does not return.
    refused: Option<Trouble>,
    /// Mails that were given up before and were not returned this time either.
    still: Vec<u32>,
}

/// A mail that the server lists but does not return.
struct Trouble {
    uid: u32,
    /// Whether the server itself indicates that the mail may be available later.
    passing: bool,
    text: String,
}

/// Loads the mails' bodies. A mail that has vanished is left out; loading stops at the first mail that the server lists but
/// does not return.
async fn bodies(
    connection: &mut Connection,
    planned: &[Listed],
    limits: &FetchLimits,
    overrun: &mut bool,
) -> Result<Bodies, SourceError> {
    let (whole, large): (Vec<Listed>, Vec<Listed>) = planned
        .iter()
        .partition(|listed| listed.size <= limits.raw_bytes);
    let mut found = HashMap::with_capacity(planned.len());
    load(connection, &whole, WHOLE, limits, overrun, &mut found).await?;
    let beginning = format!("BODY.PEEK[]<0.{BEGINNING_BYTES}>");
    load(connection, &large, &beginning, limits, overrun, &mut found).await?;

    let missing: Vec<u32> = planned
        .iter()
        .map(|listed| listed.uid)
        .filter(|uid| !found.contains_key(uid))
        .collect();
    let mut trouble = None;
    let mut still = Vec::new();
    'missing: for set in uid_sets(&missing) {
        for uid in search(connection, Step::Fetch, &format!("UID {set}"), &missing).await? {
            // One unreadable mail can make a command fail for the others, so each is requested separately.
            let single: Vec<Listed> = planned.iter().copied().filter(|l| l.uid == uid).collect();
            if single.iter().any(|listed| listed.again) {
                still.push(uid);
                continue;
            }
            let item = match single.first() {
                Some(listed) if listed.size > limits.raw_bytes => &beginning,
                _ => WHOLE,
            };
            let refusal = load(connection, &single, item, limits, overrun, &mut found).await?;
            if !found.contains_key(&uid) {
                trouble = Some(Trouble {
                    uid,
                    passing: matches!(&refusal, Some(done) if done.code == Some(Code::Passing)),
                    text: refusal.map_or_else(|| "a response without it".into(), |done| done.text),
                });
                break 'missing;
            }
        }
    }

    let given = planned
        .iter()
        .filter_map(|listed| {
            let body = found.remove(&listed.uid)?;
            let got = body.bytes.len() as u64;
            let cut = got < body.len
                || got == 0
                || (listed.size > limits.raw_bytes && got >= BEGINNING_BYTES);
            // Stated sizes are not always exact: for a mail that arrived complete, its true size is used.
            let size = if cut {
                body.len.max(listed.size).max(1)
            } else {
                got
            };
            Some(Body {
                uid: listed.uid,
                bytes: body.bytes,
                size,
                is_stand_in: false,
            })
        })
        .collect();
    Ok(Bodies {
        given,
        refused: trouble,
        still,
    })
}

/// Returns the note that replaces a mail that was given up, so that somebody sees it. The note states a larger size than it
/// has, like a mail of which only the beginning was fetched. It names the mail, so that no two notes are the same mail.
fn stand_in(trouble: &Trouble, progress: &Progress, size: u64) -> Body {
    let (uid, uid_validity) = (trouble.uid, progress.uid_validity);
    let note = format!(
        "Subject: Mail UID {uid} could not be fetched\r\n\
         MIME-Version: 1.0\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         \r\n\
         Postroom wrote this note. The server lists the mail and did not give it, time after time.\r\n\
         The mail is still on the server.\r\n\
         \r\n\
         Folder: {}\r\n\
         UID: {uid} (UIDVALIDITY {uid_validity})\r\n\
         Size: {size} bytes\r\n\
         Last answer: {}\r\n",
        progress.folder, trouble.text
    );
    Body {
        uid,
        size: size.max(note.len() as u64 + 1),
        bytes: note.into(),
        is_stand_in: true,
    }
}

/// Loads some mails and adds the results to `found`. Returns the server's refusal of the others, if there was one.
async fn load(
    connection: &mut Connection,
    wanted: &[Listed],
    item: &str,
    limits: &FetchLimits,
    overrun: &mut bool,
    found: &mut HashMap<u32, Literal>,
) -> Result<Option<Done>, SourceError> {
    const STEP: Step = Step::Fetch;
    let uids: Vec<u32> = wanted.iter().map(|listed| listed.uid).collect();
    let stated: u64 = wanted.iter().map(|l| l.size.min(limits.raw_bytes)).sum();
    // Loaded one by one, a mail may have any size.
    let allowed = match *overrun {
        true => u64::MAX,
        false => stated.saturating_mul(2).saturating_add(SIZE_SLACK_BYTES),
    };
    let mut loaded = 0u64;
    let mut refusal = None;
    connection.wire.keep_literals(limits.raw_bytes.min(allowed));
    for set in uid_sets(&uids) {
        let command = format!("UID FETCH {set} (UID {item})");
        let done = connection
            .command_with(STEP, &command, stated, |untagged| {
                let Untagged::Fetch(fetched) = untagged else {
                    return Ok(());
                };
                let (Some(uid), Some(body)) = (fetched.uid, fetched.body) else {
                    return Ok(());
                };
                let Ok(at) = uids.binary_search(&uid) else {
                    return Ok(());
                };
                if found.get(&uid).is_some_and(|held| held.len > 0) {
                    return Ok(());
                }
                // Some servers return nothing (NIL, or no bytes) where they should respond NO.
                if body.len == 0 && wanted[at].size > 0 {
                    return Ok(());
                }
                loaded = loaded.saturating_add(body.len.min(limits.raw_bytes));
                if loaded > allowed {
                    *overrun = true;
                    return Err(protocol(STEP, "mails far larger than their stated sizes"));
                }
                found.insert(uid, body);
                Ok(())
            })
            .await?;
        match done.status {
            Status::Ok => {}
            // A NO after some of the mails is how servers report a mail that they cannot read.
            Status::No => refusal = Some(done),
            _ => {
                connection.wire.keep_literals(0);
                ended_ok(STEP, done)?;
            }
        }
    }
    connection.wire.keep_literals(0);
    Ok(refusal)
}
