//! Lists mails: where to continue in a folder, and the UIDs, sizes and dates of its mails, whatever the server sends.

use std::collections::{BTreeMap, VecDeque};

use jiff::civil::Date;
use tokio::time::Instant;

use super::connection::{Connection, Selected, ended_ok, protocol, quoted};
use super::progress::{Age, Progress};
use super::response::{Arrived, Untagged};
use super::{Import, Place, utf7};
use crate::{BEGINNING_BYTES, FetchLimits, Renumbering, SourceError};
use postroom_net::Step;

/// Mails that were listed and not fetched yet.
pub(super) struct Backlog {
    /// Valid only for a fetch from exactly this progress of the folder.
    pub from: Progress,
    pub waiting: VecDeque<Listed>,
    /// The highest UID that the listing covered.
    pub end: u32,
    /// Whether the listing reached the end of the folder.
    pub complete: bool,
    pub renumbering: Option<Renumbering>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Listed {
    pub uid: u32,
    /// The size that the server states, in bytes; not every server is exact.
    pub size: u64,
    pub old: bool,
    /// Whether it was given up before, and is requested once more.
    pub again: bool,
}

/// The number of UIDs listed at once.
const LIST_UIDS: u32 = 16 * 1024;
/// The most listed mails that are kept.
const LISTED: usize = LIST_UIDS as usize * 2;
/// The longest set of UIDs in one command, in bytes; servers limit their command lines.
const SET_BYTES: usize = 6000;

impl Backlog {
    /// Takes the next batch: within the limits, but at least one mail.
    pub fn plan(&mut self, mails: usize, limits: &FetchLimits) -> Vec<Listed> {
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

impl Listed {
    /// Returns the number of bytes needed to fetch it.
    pub fn cost(&self, limits: &FetchLimits) -> u64 {
        match self.size > limits.raw_bytes {
            true => BEGINNING_BYTES,
            false => self.size,
        }
    }
}

/// Returns sequence sets (RFC 9051 section 9), split to fit into commands, from ascending UIDs.
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

/// Returns which of these mails match a search. `asked` is ascending.
pub(super) async fn search(
    connection: &mut Connection,
    step: Step,
    criteria: &str,
    asked: &[u32],
) -> Result<Vec<u32>, SourceError> {
    let mut matches = vec![false; asked.len()];
    each_found(connection, step, criteria, |uid| {
        if let Ok(at) = asked.binary_search(&uid) {
            matches[at] = true;
        }
    })
    .await?;
    let matching = asked.iter().zip(matches).filter(|(_, matches)| *matches);
    Ok(matching.map(|(uid, _)| *uid).collect())
}

/// Passes on each UID that a search finds. The server determines how many there are.
pub(super) async fn each_found(
    connection: &mut Connection,
    step: Step,
    criteria: &str,
    mut each: impl FnMut(u32),
) -> Result<(), SourceError> {
    let done = connection
        .command_with(step, &format!("UID SEARCH {criteria}"), 0, |untagged| {
            if let Untagged::Search(found) = untagged {
                found.iter().for_each(&mut each);
            }
            Ok(())
        })
        .await?;
    ended_ok(step, done)
}

/// Determines where to continue in the folder, and whether its UIDs are still the ones that were read.
pub(super) async fn take_up(
    connection: &mut Connection,
    folder: &str,
    known: Option<Progress>,
    import: Import,
    now: i64,
) -> Result<(Progress, Option<Renumbering>), SourceError> {
    let selected = connection.look(folder).await?;
    let next = uid_next(connection, &selected).await?.max(1);
    if let Some(open) = &mut connection.selected {
        open.uid_next = Some(next);
    }
    let Some(known) = known else {
        return Ok((
            first_contact(connection, &selected, next, import, now).await?,
            None,
        ));
    };
    let (was, is) = (known.uid_validity, selected.uid_validity);
    if known.is_absent() {
        return Ok((known.renumbered(is, next), None));
    }
    let renumbering = if was != is {
        Renumbering::UidValidity { was, is }
    } else if known.uid >= next {
        Renumbering::UidsWentBack {
            read: known.uid,
            next,
        }
    } else {
        return Ok((known.upgraded(next, now), None));
    };
    // A session that saw the old UIDs may hold more of them.
    connection.reconciled.remove(folder);
    // DavMail's UIDNEXT is 1 whenever the folder is empty. Then there is nothing to read again.
    let is_empty = connection
        .selected
        .as_ref()
        .is_some_and(|open| open.exists == 0);
    let renumbering = match renumbering {
        Renumbering::UidsWentBack { .. } if is_empty => None,
        renumbering => Some(renumbering),
    };
    Ok((known.renumbered(is, next), renumbering))
}

/// Returns the UID that the next mail will get. Not every SELECT reports it; STATUS does, and the last mail's UID is close.
async fn uid_next(connection: &mut Connection, selected: &Selected) -> Result<u32, SourceError> {
    const STEP: Step = Step::List;
    if let Some(next) = selected.uid_next.filter(|next| *next > 0) {
        return Ok(next);
    }
    let mut found = None;
    let folder = quoted(&utf7::encode(&selected.folder), STEP)?;
    connection
        .command_with(STEP, &format!("STATUS {folder} (UIDNEXT)"), 0, |untagged| {
            if let Untagged::UidNext(next) = untagged {
                found = Some(next);
            }
            Ok(())
        })
        .await?;
    let exists = connection.selected.as_ref().map_or(0, |open| open.exists);
    match found {
        Some(next) if next > 0 => return Ok(next),
        _ if exists == 0 => return Ok(1),
        _ => found = None,
    }
    let done = connection
        .command_with(STEP, &format!("FETCH {exists} (UID)"), 0, |untagged| {
            if let Untagged::Fetch(fetched) = untagged {
                found = fetched.uid.max(found);
            }
            Ok(())
        })
        .await?;
    ended_ok(STEP, done)?;
    let last = found.ok_or_else(|| protocol(STEP, "no UIDNEXT, and no UID of the last mail"))?;
    Ok(last.saturating_add(1))
}

/// Determines where reading begins in a folder that was never read.
async fn first_contact(
    connection: &mut Connection,
    selected: &Selected,
    next: u32,
    import: Import,
    now: i64,
) -> Result<Progress, SourceError> {
    let newest = next.saturating_sub(1);
    let after = match import {
        Import::New => newest,
        Import::All => 0,
        Import::Since(date) => {
            let mut first = u32::MAX;
            let criteria = format!("SINCE {}", imap_date(date));
            match each_found(connection, Step::List, &criteria, |uid| {
                first = first.min(uid)
            })
            .await
            {
                Ok(()) => first.saturating_sub(1).min(newest),
                // The listing contains the dates as well.
                Err(SourceError::Refused { .. }) => 0,
                Err(error) => return Err(error),
            }
        }
    };
    let at = Place {
        folder: selected.folder.clone(),
        uid_validity: selected.uid_validity,
        uid: after,
    };
    Ok(Progress::first(&at, next, import, now))
}

/// Returns `date` in IMAP's form, such as `01-Feb-2026`.
fn imap_date(date: Date) -> String {
    date.strftime("%d-%b-%Y").to_string()
}

/// Lists the mails to read. The listing extends to the end of the folder, or at least until it contains a mail.
pub(super) async fn list(
    connection: &mut Connection,
    progress: &Progress,
    import: Import,
    reconcile: bool,
    now: i64,
) -> Result<Backlog, SourceError> {
    const STEP: Step = Step::List;
    let selected = connection.selected.clone();
    let (exists, uid_next) = selected.map_or((0, None), |open| (open.exists, open.uid_next));
    let mut backlog = Backlog {
        from: progress.clone(),
        waiting: VecDeque::new(),
        end: progress.uid,
        complete: true,
        renumbering: None,
    };
    let mut from = match reconcile {
        true => progress.reconciled_from(),
        false => progress.uid,
    };
    let mut width = LIST_UIDS;
    loop {
        let Some(first) = from.checked_add(1) else {
            return Ok(backlog);
        };
        let last = first.saturating_add(width);
        let to_end =
            exists <= LIST_UIDS || uid_next.is_some_and(|next| last >= next) || last == u32::MAX;
        // `n:*` includes the folder's last mail even if its UID is below n. No honest server lists mail at or above its
        // UIDNEXT, except mail that has just arrived, which is found when it is announced.
        let end = uid_next.map_or(u32::MAX, |next| next.saturating_sub(1));
        let last_named = if to_end { end } else { last.min(end) };
        let command = if to_end {
            format!("UID FETCH {first}:* (UID RFC822.SIZE INTERNALDATE)")
        } else {
            format!("UID FETCH {first}:{last} (UID RFC822.SIZE INTERNALDATE)")
        };
        let mut found: BTreeMap<u32, (u64, Option<Arrived>)> = BTreeMap::new();
        let mut is_cut = false;
        let done = connection
            .command_with(STEP, &command, 0, |untagged| {
                let Untagged::Fetch(fetched) = untagged else {
                    return Ok(());
                };
                let Some(uid) = fetched.uid.filter(|uid| (first..=last_named).contains(uid)) else {
                    return Ok(());
                };
                // Flags of other mails may be reported at any time (RFC 9051 section 7).
                if fetched.size.is_none() && fetched.arrived.is_none() {
                    return Ok(());
                }
                let (size, arrived) = found.entry(uid).or_default();
                *size = fetched.size.unwrap_or(0).max(*size);
                *arrived = fetched.arrived.or(*arrived);
                if found.len() > LISTED {
                    found.pop_last();
                    is_cut = true;
                }
                Ok(())
            })
            .await?;
        ended_ok(STEP, done)?;
        let highest = found.last_key_value().map_or(from, |(uid, _)| *uid);
        backlog.end = backlog.end.max(highest);
        for (uid, (size, arrived)) in found {
            let old = match progress.age(uid, arrived, import) {
                Age::LeftOut => continue,
                age => age == Age::Old,
            };
            if progress.wants(uid, now) {
                backlog.waiting.push_back(Listed {
                    uid,
                    size,
                    old,
                    again: progress.is_again(uid),
                });
            }
        }
        if to_end || !backlog.waiting.is_empty() {
            backlog.complete = to_end && !is_cut;
            if reconcile && backlog.complete {
                let folder = progress.folder.clone();
                connection.reconciled.insert(folder, Instant::now());
            }
            return Ok(backlog);
        }
        from = if is_cut { highest } else { last };
        width = width.saturating_mul(2);
    }
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
            ..FetchLimits::default()
        };
        let sizes = [10, 10, 10, 90, 20, 500, 5000, 1];
        let mut backlog = Backlog {
            from: Progress::absent("INBOX", 0),
            end: 0,
            renumbering: None,
            waiting: (1..)
                .zip(sizes)
                .map(|(uid, size)| Listed {
                    uid,
                    size,
                    old: false,
                    again: false,
                })
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
