//! Fetching: list the UIDs after the cursor with their sizes, then load the bodies in batches.

use std::collections::{HashMap, VecDeque};

use jiff::civil::Date;
use postroom_core::{Cursor, RawMessage};

use super::connection::{Connection, Selected, ended_ok, protocol};
use super::response::{Code, Done, Status, Untagged};
use super::wire::Literal;
use super::{ImapSource, Import, Place};
use crate::{BEGINNING_BYTES, Batch, FetchLimits, SourceError};

/// Mails that were listed and not fetched yet.
pub(super) struct Backlog {
    uid_validity: u32,
    /// The cursor it goes on from: it serves only whoever asks for exactly that.
    after: u32,
    waiting: VecDeque<Listed>,
    /// Whether the listing reached the folder's end.
    complete: bool,
}

#[derive(Debug, Clone, Copy)]
struct Listed {
    uid: u32,
    /// As the server states it, in bytes; not every server is exact.
    size: u64,
}

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
/// How many UIDs are listed at once.
const LIST_UIDS: u32 = 16 * 1024;
/// The longest set of UIDs in one command, in bytes; servers limit their command lines.
const SET_BYTES: usize = 6000;
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
        let folder = self.settings.folder.clone();
        let backlog = self.backlog.take();
        let known = match cursor {
            Some(cursor) => match Place::read(&cursor.0) {
                Ok(place) => Some(place).filter(|place| place.folder == folder),
                Err(_) if Place::is_foreign(&cursor.0) => {
                    tracing::warn!(
                        mailbox = self.settings.name,
                        folder,
                        "the mailbox was read from another kind of source before: the folder counts as never read"
                    );
                    None
                }
                Err(error) => return Err(error),
            },
            None => None,
        };
        let mails = if self.one_by_one {
            1
        } else {
            limits.batch_mails
        };
        let connection = self.ready().await?;
        let selected = connection.select(&folder).await?;
        let at = |uid| Place {
            folder: folder.clone(),
            uid_validity: selected.uid_validity,
            uid,
        };
        let after = match &known {
            Some(place) if place.uid_validity == selected.uid_validity => place.uid,
            Some(place) => {
                tracing::warn!(
                    folder,
                    before = place.uid_validity,
                    now = selected.uid_validity,
                    "the server has renumbered the folder: reading it from the beginning"
                );
                0
            }
            None => first_contact(connection, &selected, import).await?,
        };
        if known.is_none() && import == Import::New {
            return Ok(Batch {
                cursor: Some(at(after).cursor()),
                ..Batch::default()
            });
        }
        let mut backlog = match backlog {
            Some(backlog)
                if backlog.after == after
                    && backlog.uid_validity == selected.uid_validity
                    && !backlog.waiting.is_empty() =>
            {
                backlog
            }
            _ => list(connection, &selected, after).await?,
        };
        let mut planned = backlog.plan(mails, limits);
        let mut overrun = false;
        let outcome = bodies(connection, &planned, limits, &mut overrun).await;
        self.one_by_one |= overrun;
        let (mut bodies, trouble) = outcome?;
        if let Some(trouble) = trouble {
            // What lies before it is given now. Then it heads the line, which stops until it is given or given up.
            let others = !bodies.is_empty();
            bodies.retain(|(uid, ..)| *uid < trouble.uid);
            let mut kept = planned.partition_point(|listed| listed.uid < trouble.uid);
            if bodies.is_empty() {
                self.refuse_or_give_up(&trouble, selected.uid_validity, others)?;
                let size = planned.get(kept).map_or(0, |listed| listed.size);
                bodies.push(stand_in(&trouble, &selected, size));
                kept += 1;
            }
            for listed in planned.drain(kept..).rev() {
                backlog.waiting.push_front(listed);
            }
        }
        let reached = planned.last().map_or(after, |listed| listed.uid);
        let messages = bodies
            .into_iter()
            .map(|(uid, bytes, size)| RawMessage {
                position: at(uid).position(),
                bytes,
                size,
                old: false,
            })
            .collect();
        let more = !backlog.waiting.is_empty() || !backlog.complete;
        backlog.after = reached;
        self.backlog = Some(backlog);
        Ok(Batch {
            messages,
            cursor: Some(at(reached).cursor()),
            more,
        })
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
            step: "fetch",
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

impl Backlog {
    /// Takes the next batch: within the limits, but at least one mail.
    fn plan(&mut self, mails: usize, limits: &FetchLimits) -> Vec<Listed> {
        let mut planned = Vec::new();
        let mut bytes = 0u64;
        while let Some(next) = self.waiting.front() {
            let cost = if next.size > limits.raw_bytes {
                BEGINNING_BYTES
            } else {
                next.size
            };
            bytes = bytes.saturating_add(cost);
            let full = planned.len() >= mails.max(1) || bytes > limits.batch_bytes;
            if full && !planned.is_empty() {
                break;
            }
            planned.extend(self.waiting.pop_front());
        }
        planned
    }
}

/// A sequence set (RFC 9051 section 9) in commands' portions, from ascending UIDs.
pub(super) fn uid_sets(uids: &[u32]) -> Vec<String> {
    let mut sets: Vec<String> = Vec::new();
    let mut rest = uids;
    while let Some(first) = rest.first() {
        let run = rest
            .windows(2)
            .take_while(|pair| pair[0].checked_add(1) == Some(pair[1]))
            .count();
        let range = match run {
            0 => first.to_string(),
            _ => format!("{first}:{}", rest[run]),
        };
        match sets.last_mut() {
            Some(set) if set.len() + range.len() < SET_BYTES => {
                set.push(',');
                set.push_str(&range);
            }
            _ => sets.push(range),
        }
        rest = &rest[run + 1..];
    }
    sets
}

/// UIDs that match a search, ascending.
pub(super) async fn search(
    connection: &mut Connection,
    step: &'static str,
    criteria: &str,
) -> Result<Vec<u32>, SourceError> {
    let mut uids = Vec::new();
    let done = connection
        .command_with(step, &format!("UID SEARCH {criteria}"), 0, |untagged| {
            if let Untagged::Search(found) = untagged {
                uids.extend(found);
            }
            Ok(())
        })
        .await?;
    ended_ok(step, done)?;
    uids.sort_unstable();
    uids.dedup();
    Ok(uids)
}

/// The UID after which reading begins in a folder that was never read.
async fn first_contact(
    connection: &mut Connection,
    selected: &Selected,
    import: Import,
) -> Result<u32, SourceError> {
    if let Import::Since(date) = import {
        let found = search(connection, "list", &format!("SINCE {}", imap_date(date))).await?;
        if let Some(first) = found.first() {
            return Ok(first.saturating_sub(1));
        }
    }
    if import == Import::All {
        return Ok(0);
    }
    match selected.uid_next {
        Some(next) => Ok(next.saturating_sub(1)),
        // Servers of RFC 2060 do not tell: the last mail's UID serves.
        None if selected.exists == 0 => Ok(0),
        None => Ok(search(connection, "list", "UID *")
            .await?
            .pop()
            .unwrap_or(0)),
    }
}

/// `date` in IMAP's form, such as `01-Feb-2026`.
fn imap_date(date: Date) -> String {
    date.strftime("%d-%b-%Y").to_string()
}

/// Lists mails after a UID. The listing goes to the folder's end, or so far that it holds at least one mail.
async fn list(
    connection: &mut Connection,
    selected: &Selected,
    after: u32,
) -> Result<Backlog, SourceError> {
    const STEP: &str = "list";
    // Servers may show a session no new mail before a command that they refresh their view at.
    connection.accepted(STEP, "NOOP").await?;
    connection.news = false;
    let mut backlog = Backlog {
        uid_validity: selected.uid_validity,
        after,
        waiting: VecDeque::new(),
        complete: true,
    };
    let mut from = after;
    let mut width = LIST_UIDS;
    loop {
        let Some(first) = from.checked_add(1) else {
            return Ok(backlog);
        };
        let small = connection
            .selected
            .as_ref()
            .is_none_or(|s| s.exists <= LIST_UIDS);
        let last = first.saturating_add(width);
        let to_end =
            small || selected.uid_next.is_some_and(|next| last >= next) || last == u32::MAX;
        // `n:*` names the folder's last mail even when its UID is below n.
        let last_named = if to_end { u32::MAX } else { last };
        let command = if to_end {
            format!("UID FETCH {first}:* (UID RFC822.SIZE)")
        } else {
            format!("UID FETCH {first}:{last} (UID RFC822.SIZE)")
        };
        let mut found: HashMap<u32, u64> = HashMap::new();
        let done = connection
            .command_with(STEP, &command, 0, |untagged| {
                if let Untagged::Fetch(fetched) = untagged
                    && let Some(uid) = fetched.uid.filter(|uid| (first..=last_named).contains(uid))
                {
                    let size = found.entry(uid).or_default();
                    *size = fetched.size.unwrap_or(0).max(*size);
                }
                Ok(())
            })
            .await?;
        ended_ok(STEP, done)?;
        if to_end || !found.is_empty() {
            let mut listed: Vec<Listed> = found
                .into_iter()
                .map(|(uid, size)| Listed { uid, size })
                .collect();
            listed.sort_unstable_by_key(|listed| listed.uid);
            let held = LIST_UIDS as usize * 2;
            backlog.complete = to_end && listed.len() <= held;
            listed.truncate(held);
            backlog.waiting = listed.into();
            return Ok(backlog);
        }
        from = last;
        width = width.saturating_mul(2);
    }
}

/// A fetched mail: its UID, its bytes, its size.
type Body = (u32, bytes::Bytes, u64);

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
) -> Result<(Vec<Body>, Option<Trouble>), SourceError> {
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
    'missing: for set in uid_sets(&missing) {
        let there = search(connection, "fetch", &format!("UID {set}")).await?;
        for uid in there
            .into_iter()
            .filter(|uid| missing.binary_search(uid).is_ok())
        {
            // One unreadable mail can spoil a command for the others, so each is asked for alone.
            let single: Vec<Listed> = planned.iter().copied().filter(|l| l.uid == uid).collect();
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

    let bodies = planned
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
            Some((listed.uid, body.bytes, size))
        })
        .collect();
    Ok((bodies, trouble))
}

/// What is handed on for a mail that was given up, so that somebody sees it: a note that is larger than what there is of
/// it, like a mail of which only the beginning is here. It names the mail, so that no two notes are the same mail.
fn stand_in(trouble: &Trouble, selected: &Selected, size: u64) -> Body {
    let (uid, uid_validity) = (trouble.uid, selected.uid_validity);
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
        selected.folder, trouble.text
    );
    let size = size.max(note.len() as u64 + 1);
    (uid, note.into(), size)
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
    const STEP: &str = "fetch";
    let uids: Vec<u32> = wanted.iter().map(|listed| listed.uid).collect();
    let stated: u64 = wanted.iter().map(|l| l.size.min(limits.raw_bytes)).sum();
    let allowed = match wanted.len() {
        1 => u64::MAX,
        _ => stated.saturating_mul(2).saturating_add(SIZE_SLACK_BYTES),
    };
    let mut loaded = 0u64;
    let mut refusal = None;
    connection.wire.keep_literals(limits.raw_bytes);
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
                // Some servers give nothing (NIL, or no bytes) where they should say NO.
                if body.len == 0 && wanted[at].size > 0 {
                    return Ok(());
                }
                loaded = loaded.saturating_add(body.bytes.len() as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_ranges_in_portions() {
        assert_eq!(uid_sets(&[]), Vec::<String>::new());
        assert_eq!(uid_sets(&[1, 2, 3, 5, 7, 8]), ["1:3,5,7:8"]);
        assert_eq!(
            uid_sets(&[u32::MAX - 1, u32::MAX]),
            ["4294967294:4294967295"]
        );
        let sparse: Vec<u32> = (1..5000).map(|n| n * 2).collect();
        let sets = uid_sets(&sparse);
        assert!(sets.len() > 1 && sets.iter().all(|set| set.len() <= SET_BYTES));
        let count: usize = sets.iter().map(|set| set.split(',').count()).sum();
        assert_eq!(count, sparse.len());
    }

    #[test]
    fn dates() {
        assert_eq!(imap_date(jiff::civil::date(2026, 2, 1)), "01-Feb-2026");
    }

    #[test]
    fn batches_keep_to_their_limits() {
        let limits = FetchLimits {
            batch_mails: 3,
            batch_bytes: 100,
            raw_bytes: 1000,
        };
        let sizes = [10, 10, 10, 90, 20, 500, 5000, 1];
        let mut backlog = Backlog {
            uid_validity: 1,
            after: 0,
            waiting: (1..)
                .zip(sizes)
                .map(|(uid, size)| Listed { uid, size })
                .collect(),
            complete: true,
        };
        let mut batches = Vec::new();
        while !backlog.waiting.is_empty() {
            let batch = backlog.plan(limits.batch_mails, &limits);
            batches.push(batch.iter().map(|l| l.uid).collect::<Vec<_>>());
        }
        assert_eq!(
            batches,
            [vec![1, 2, 3], vec![4], vec![5], vec![6], vec![7], vec![8]]
        );
    }
}
