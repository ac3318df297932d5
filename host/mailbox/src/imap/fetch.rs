//! Fetching: what was listed is loaded in batches, within the limits; a mail that is not given is asked for again.

use std::collections::HashMap;

use postroom_core::{Cursor, RawMessage};

use super::connection::{Connection, ended_ok, protocol};
use super::list::{Listed, list, search, take_up, uid_sets};
use super::progress::Progress;
use super::response::{Code, Done, Status, Untagged};
use super::wire::Literal;
use super::{ImapSource, Place};
use crate::{BEGINNING_BYTES, Batch, FetchLimits, SourceError};
use postroom_net::Step;

/// The mail at the head of the line that the server lists and does not give.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refused {
    uid_validity: u32,
    uid: u32,
    /// How many fetches it has stopped so far.
    fetches: u32,
}

/// A whole mail, left unread.
const WHOLE: &str = "BODY.PEEK[]";
/// What the mails of a batch may exceed their stated sizes by, besides being twice as large.
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;
/// A mail that is refused while others are given is given up at this fetch.
const REFUSALS_MAX: u32 = 5;
/// A mail that is refused while no other is given: the fault may well be the server's, and pass.
const REFUSALS_ALONE_MAX: u32 = 20;

impl ImapSource {
    pub(super) async fn fetch_batch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let import = self.settings.import;
        let now = self.clock.now().as_second();
        let known = self.known(cursor)?.map(|it| it.corrected(now));
        let backlog = self
            .backlog
            .take()
            .filter(|backlog| Some(&backlog.cursor) == cursor && !backlog.waiting.is_empty());
        let reconcile_every = self.settings.timeouts.reconcile;
        let folder = self.settings.folder.clone();
        let mails = if self.one_by_one {
            1
        } else {
            limits.batch_mails
        };
        let connection = self.ready().await?;
        let open = connection.selected.as_ref().map(|it| it.uid_validity);
        let (mut progress, mut backlog) = match (known, backlog) {
            (Some(known), Some(backlog)) if open == Some(known.uid_validity) => (known, backlog),
            (known, _) => {
                let (progress, renumbering) =
                    take_up(connection, &folder, known, import, now).await?;
                let reconcile = connection
                    .reconciled
                    .is_none_or(|at| at.elapsed() >= reconcile_every);
                let mut backlog = list(connection, &progress, import, reconcile, now).await?;
                backlog.renumbering = renumbering;
                (progress, backlog)
            }
        };
        let mut planned = backlog.plan(mails, limits);
        let cost = match self.one_by_one {
            // Stated sizes are lies.
            true if !planned.is_empty() => limits.raw_bytes,
            _ => planned.iter().map(|it| it.cost(limits)).sum(),
        };
        let Some(room) = limits.room(cost).await else {
            for listed in planned.drain(..).rev() {
                backlog.waiting.push_front(listed);
            }
            let cursor = progress.cursor();
            let renumbering = backlog.renumbering.clone();
            backlog.cursor = cursor.clone();
            self.backlog = Some(backlog);
            return Ok(Batch {
                cursor: Some(cursor),
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
            // What lies before it is given now. Then it heads the line, which stops until it is given or given up.
            let others = !given.is_empty();
            given.retain(|body| body.uid < trouble.uid);
            let mut kept = planned.partition_point(|listed| listed.uid < trouble.uid);
            if given.is_empty() {
                self.refuse_or_give_up(&trouble, uid_validity, others)?;
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
                // A mail without a byte is none: the server does not give it, and says so by a size of 0.
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
        let cursor = progress.cursor();
        let renumbering = backlog.renumbering.clone();
        backlog.cursor = cursor.clone();
        self.backlog = Some(backlog);
        Ok(Batch {
            messages,
            cursor: Some(cursor),
            more,
            renumbering,
            room,
            ..Batch::default()
        })
    }

    /// What the cursor says of this folder; `None` when it was never read.
    fn known(&self, cursor: Option<&Cursor>) -> Result<Option<Progress>, SourceError> {
        let Some(cursor) = cursor else {
            return Ok(None);
        };
        match Progress::read(&cursor.0) {
            Ok(progress) => Ok(Some(progress).filter(|it| it.folder == self.settings.folder)),
            Err(_) if Place::is_foreign(&cursor.0) => {
                tracing::warn!(
                    mailbox = self.settings.name,
                    folder = self.settings.folder,
                    "the mailbox was read from another kind of source before: the folder counts as never read"
                );
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// An error as long as the mail at the head of the line is worth another try.
    fn refuse_or_give_up(
        &mut self,
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
        let before = self
            .refused
            .filter(|refused| (refused.uid_validity, refused.uid) == (uid_validity, uid));
        let fetches = before.map_or(1, |refused| refused.fetches + 1);
        self.refused = Some(Refused {
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
                "mail UID {uid} is listed and not given, try {fetches} of {most}: {}",
                trouble.text
            )));
        }
        tracing::error!(
            mailbox = self.settings.name,
            folder = self.settings.folder,
            uid,
            fetches,
            answer = trouble.text,
            "a mail is given up: the server lists it and does not give it"
        );
        Ok(())
    }
}

/// A fetched mail.
struct Body {
    uid: u32,
    bytes: bytes::Bytes,
    size: u64,
    /// A note in place of a mail that was not given.
    is_stand_in: bool,
}

/// What came of a batch.
#[derive(Default)]
struct Bodies {
    given: Vec<Body>,
    /// The first mail that the server lists and does not give.
    refused: Option<Trouble>,
    /// Mails that were given up before, and are not given now either.
    still: Vec<u32>,
}

/// A mail that the server lists and does not give.
struct Trouble {
    uid: u32,
    /// The server says itself that it may be had later.
    passing: bool,
    text: String,
}

/// Loads the mails' bodies. A mail that vanished meanwhile is left out; at the first that the server lists and does not
/// give the loading stops.
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
            // One unreadable mail can spoil a command for the others, so each is asked for alone.
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
                    text: refusal.map_or_else(|| "an answer without it".into(), |done| done.text),
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
            // Stated sizes are not always exact: a mail that came whole is as large as it is.
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

/// What is handed on for a mail that was given up, so that somebody sees it: a note that is larger than what there is of
/// it, like a mail of which only the beginning is here. It names the mail, so that no two notes are the same mail.
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

/// Loads some mails and puts what comes into `found`. Answers how the server refused the others, if it did.
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
    // One by one, a mail may be as large as any.
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
                // Some servers give nothing (NIL, or no bytes) where they should say NO.
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
            // A NO after some of the mails is how servers report the one that they cannot read.
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
