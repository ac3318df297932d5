//! Listing: the number of mails, their unique ids and their sizes.

use std::collections::HashMap;
use std::sync::Arc;

use postroom_net::Step;

use super::session::{Session, protocol};
use crate::SourceError;

const STEP: Step = Step::List;
/// The most mails in a mailbox; a larger one is refused. Each mail takes about a hundred bytes of memory.
pub(super) const MAILS_MAX: usize = 250_000;
/// The longest unique id. RFC 1939 allows 70 characters.
const UID_BYTES: usize = 255;

/// A mail of the session's listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    /// The mail's number in this session.
    pub number: u32,
    /// In bytes as stated by the server; 0 if it states none.
    pub size: u64,
    /// Identifies the mail: its unique id, which contains no space. If several mails share one, their order and size are added.
    pub key: Arc<str>,
    /// Whether other mails have the same unique id, which makes it too uncertain to delete the mail by.
    pub is_shared: bool,
}

/// Lists the mailbox in the server's order.
pub(super) async fn list(session: &mut Session) -> Result<Vec<Listed>, SourceError> {
    let count = count(session).await?;
    if count == 0 {
        return Ok(Vec::new());
    }
    let mut uids: Vec<(u32, Arc<str>)> = Vec::new();
    let reply = session
        .lines(STEP, "UIDL", |line| {
            let (number, uid) = numbered(line)?;
            let sound = !uid.is_empty()
                && uid.len() <= UID_BYTES
                && uid.bytes().all(|byte| byte.is_ascii_graphic());
            if !sound {
                return Err(protocol(
                    STEP,
                    "a unique id with blanks or of no sound length",
                ));
            }
            uids.push((number, uid.into()));
            bounded(uids.len())
        })
        .await?;
    if !reply.is_ok {
        return match reply.code {
            None => Err(SourceError::NoUniqueIds { text: reply.text }),
            Some(_) => Err(reply.refusal(STEP)),
        };
    }
    if uids.len() < count {
        let listed = uids.len();
        return Err(protocol(
            STEP,
            &format!("{count} mails are there, and UIDL lists {listed}"),
        ));
    }
    let mut sizes = HashMap::with_capacity(uids.len());
    session
        .lines(STEP, "LIST", |line| {
            let (number, size) = numbered(line)?;
            let size = size.split(' ').next().unwrap_or_default();
            let size: u64 = size.parse().map_err(|_| protocol(STEP, "no size"))?;
            sizes.insert(number, size);
            bounded(sizes.len())
        })
        .await?
        .accepted(STEP)?;
    with_sizes(uids, &sizes)
}

/// Returns the number of mails.
pub(super) async fn count(session: &mut Session) -> Result<usize, SourceError> {
    let reply = session.command(STEP, "STAT").await?.accepted(STEP)?;
    let count = reply.text.split_ascii_whitespace().next();
    let count: usize = count
        .and_then(|count| count.parse().ok())
        .ok_or_else(|| protocol(STEP, "no number of mails"))?;
    bounded(count)?;
    Ok(count)
}

/// Fails if the server has no unique ids.
pub(super) async fn has_unique_ids(
    session: &mut Session,
    number: usize,
) -> Result<(), SourceError> {
    let reply = session.command(STEP, &format!("UIDL {number}")).await?;
    match (reply.is_ok, &reply.code) {
        (true, _) => Ok(()),
        (false, None) => Err(SourceError::NoUniqueIds { text: reply.text }),
        (false, Some(_)) => Err(reply.refusal(STEP)),
    }
}

fn with_sizes(
    uids: Vec<(u32, Arc<str>)>,
    sizes: &HashMap<u32, u64>,
) -> Result<Vec<Listed>, SourceError> {
    let mut carriers: HashMap<Arc<str>, u32> = HashMap::with_capacity(uids.len());
    for (_, uid) in &uids {
        *carriers.entry(uid.clone()).or_default() += 1;
    }
    let mut numbers = std::collections::HashSet::with_capacity(uids.len());
    let mut copies: HashMap<Arc<str>, u32> = HashMap::new();
    let mut listed = Vec::with_capacity(uids.len());
    for (number, uid) in uids {
        if !numbers.insert(number) {
            return Err(protocol(STEP, "two mails with one number"));
        }
        let size = sizes.get(&number).copied().unwrap_or_default();
        let is_shared = carriers.get(&uid).is_some_and(|carriers| *carriers > 1);
        let key = if is_shared {
            let copy = copies.entry(uid.clone()).or_default();
            *copy += 1;
            format!("{uid} {copy} {size}").into()
        } else {
            uid
        };
        listed.push(Listed {
            number,
            size,
            key,
            is_shared,
        });
    }
    Ok(listed)
}

/// Parses a line `number text`.
pub(super) fn numbered(line: &[u8]) -> Result<(u32, &str), SourceError> {
    let read = || {
        let (number, text) = std::str::from_utf8(line).ok()?.trim().split_once(' ')?;
        let number = number.parse().ok().filter(|number| *number > 0)?;
        Some((number, text.trim()))
    };
    read().ok_or_else(|| protocol(STEP, "a listing with another line than a mail's"))
}

fn bounded(mails: usize) -> Result<(), SourceError> {
    match mails <= MAILS_MAX {
        true => Ok(()),
        false => Err(SourceError::Unusable {
            step: STEP,
            reason: format!(
                "the mailbox holds more than {MAILS_MAX} mails; remove old ones, or read it by IMAP"
            ),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_that_share_a_unique_id_are_told_apart() {
        let uids = [(1, "a"), (2, "b"), (3, "a")];
        let uids = uids.map(|(number, uid)| (number, Arc::from(uid)));
        let sizes = HashMap::from([(1, 10), (2, 20), (3, 30)]);
        let listed = with_sizes(uids.to_vec(), &sizes).unwrap();
        let keys: Vec<(&str, bool)> = listed.iter().map(|it| (&*it.key, it.is_shared)).collect();
        assert_eq!(keys, [("a 1 10", true), ("b", false), ("a 2 30", true)]);
        let twice = vec![(1, Arc::from("a")), (1, Arc::from("b"))];
        assert!(with_sizes(twice, &sizes).is_err());
    }

    #[test]
    fn a_listing_has_a_number_and_a_text_a_line() {
        assert_eq!(numbered(b"12 x y").unwrap(), (12, "x y"));
        for line in ["", "12", "0 x", "-1 x", "x 1", "4294967296 x", "\u{ff} x"] {
            assert!(numbered(line.as_bytes()).is_err(), "{line}");
        }
        assert!(bounded(MAILS_MAX).is_ok() && bounded(MAILS_MAX + 1).is_err());
    }
}
