//! Fetching: list the UIDs after the cursor with their sizes, then load the bodies in batches.

use std::collections::{HashMap, VecDeque};

use jiff::civil::Date;
use postroom_core::{Cursor, RawMessage};

use super::connection::{Connection, Selected, ended_ok, protocol};
use super::response::{Status, Untagged};
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

/// A whole mail, left unread.
const WHOLE: &str = "BODY.PEEK[]";
/// How many UIDs are listed at once.
const LIST_UIDS: u32 = 16 * 1024;
/// The longest set of UIDs in one command, in bytes; servers limit their command lines.
const SET_BYTES: usize = 6000;
/// What the mails of a batch may exceed their stated sizes by, besides being twice as large.
const SIZE_SLACK_BYTES: u64 = 1024 * 1024;

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
            Some(cursor) => Some(Place::read(&cursor.0)?).filter(|place| place.folder == folder),
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
        let planned = backlog.plan(mails, limits);
        let reached = planned.last().map_or(after, |listed| listed.uid);
        let mut overrun = false;
        let outcome = bodies(connection, &planned, limits, &mut overrun).await;
        self.one_by_one |= overrun;
        let messages = outcome?
            .into_iter()
            .map(|(uid, bytes, size)| RawMessage {
                position: at(uid).position(),
                bytes,
                size,
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

/// Loads the mails' bodies. A mail that vanished meanwhile is left out; one that the server lists and cannot give
/// comes without bytes, so that it is seen and does not hold up those behind it.
async fn bodies(
    connection: &mut Connection,
    planned: &[Listed],
    limits: &FetchLimits,
    overrun: &mut bool,
) -> Result<Vec<Body>, SourceError> {
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
    for set in uid_sets(&missing) {
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
            load(connection, &single, item, limits, overrun, &mut found).await?;
            found.entry(uid).or_insert_with(|| {
                tracing::warn!(uid, "the server lists a mail that it does not give");
                Literal {
                    bytes: bytes::Bytes::new(),
                    len: 0,
                }
            });
        }
    }

    Ok(planned
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
        .collect())
}

async fn load(
    connection: &mut Connection,
    wanted: &[Listed],
    item: &str,
    limits: &FetchLimits,
    overrun: &mut bool,
    found: &mut HashMap<u32, Literal>,
) -> Result<(), SourceError> {
    const STEP: &str = "fetch";
    let uids: Vec<u32> = wanted.iter().map(|listed| listed.uid).collect();
    let stated: u64 = wanted.iter().map(|l| l.size.min(limits.raw_bytes)).sum();
    let allowed = match wanted.len() {
        1 => u64::MAX,
        _ => stated.saturating_mul(2).saturating_add(SIZE_SLACK_BYTES),
    };
    let mut loaded = 0u64;
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
                if uids.binary_search(&uid).is_err() {
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
        // A NO after some of the mails is how servers report the one that they cannot read.
        if done.status == Status::Bad {
            ended_ok(STEP, done)?;
        }
    }
    connection.wire.keep_literals(0);
    Ok(())
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
