//! Copies and moves mail to another folder: finds the folder's true name, uses small sets, and makes no second copy if the
//! response to the first was lost.

use std::collections::{BTreeSet, HashMap};

use super::connection::{Connection, ended_ok, quoted, refusal};
use super::list::{search, uid_sets};
use super::response::{Code, Status, Untagged};
use super::{folders, utf7};
use crate::SourceError;
use postroom_net::Step;

const STEP: Step = Step::Acknowledge;
/// The mails copied by one command: this many may have to be searched for if its response is lost.
const COPY_MAILS: usize = 50;
/// The mails moved by one command. Repeating a move does no harm.
const MOVE_MAILS: usize = 500;
/// The number of a folder's newest mails that are searched for copies. Recent copies are at its end.
const NEWEST: u32 = 1000;

/// The mails that may already be in their new folder.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Mails that were copied without a response, or that are not removed yet: UIDVALIDITY and UID.
    doubtful: BTreeSet<(u32, u32)>,
    /// Whether copies left behind by an earlier process were searched for.
    has_looked: bool,
}

/// The open folder of the mails to acknowledge.
pub(super) struct Origin<'o> {
    pub folder: &'o str,
    pub uid_validity: u32,
    /// All folders that are read.
    pub read: &'o [String],
}

/// The route of moved mails: from an open folder to a folder named in the configuration.
pub(super) struct Way<'w> {
    pub from: &'w Origin<'w>,
    pub target: &'w str,
}

impl Way<'_> {
    /// Refuses to move mail into a folder that is read, where it would become new mail again. `name` is the target's name on
    /// the server.
    fn check(&self, name: &str) -> Result<(), SourceError> {
        let Origin { folder, read, .. } = self.from;
        let is_target = |it: &str| folders::is_same(self.target, it) || name == utf7::encode(it);
        let reason = match read.iter().find(|it| is_target(it)) {
            _ if is_target(folder) => "it is the same folder",
            Some(_) => "mail is read from that folder, too",
            None => return Ok(()),
        };
        Err(SourceError::Unusable {
            step: STEP,
            reason: format!(
                "mail read from {folder} cannot be moved to {}: {reason}",
                self.target
            ),
        })
    }
}

/// Moves mails. A refusal of one of them does not stop the others.
pub(super) async fn move_all(
    connection: &mut Connection,
    copied: &mut Copied,
    way: &Way<'_>,
    uids: &[u32],
) -> Result<(), SourceError> {
    way.check("")?;
    let mut failure = None;
    if connection.can("MOVE") {
        for chunk in uids.chunks(MOVE_MAILS) {
            failure = put(connection, "UID MOVE", way, chunk).await?.1.or(failure);
        }
        return failure.map_or(Ok(()), Err);
    }
    let mut uncopied = Vec::new();
    for set in uid_sets(uids) {
        // Mails marked \Deleted were copied by an attempt that did not finish.
        uncopied.extend(search(connection, STEP, &format!("UID {set} UNDELETED"), uids).await?);
    }
    uncopied.sort_unstable();
    let marked = uids.iter().copied();
    let marked: Vec<u32> = marked
        .filter(|uid| uncopied.binary_search(uid).is_err())
        .collect();
    remove(connection, &marked).await?;
    let doubtful: Vec<u32> = match copied.has_looked {
        true => uncopied
            .iter()
            .copied()
            .filter(|uid| copied.doubtful.contains(&(way.from.uid_validity, *uid)))
            .collect(),
        false => uncopied.clone(),
    };
    let there = already_there(connection, way, &doubtful).await?;
    copied.has_looked = true;
    remove(connection, &there).await?;
    uncopied.retain(|uid| there.binary_search(uid).is_err());
    for chunk in uncopied.chunks(COPY_MAILS) {
        let doubt = |uid: &u32| (way.from.uid_validity, *uid);
        copied.doubtful.extend(chunk.iter().map(doubt));
        let (put, refused) = put(connection, "UID COPY", way, chunk).await?;
        for uid in chunk.iter().filter(|uid| !put.contains(uid)) {
            copied.doubtful.remove(&doubt(uid));
        }
        remove(connection, &put).await?;
        for uid in &put {
            copied.doubtful.remove(&doubt(uid));
        }
        failure = refused.or(failure);
    }
    failure.map_or(Ok(()), Err)
}

/// Removes mails. Without UIDPLUS (RFC 4315) they stay marked as deleted: a plain EXPUNGE would also remove other people's
/// mails.
pub(super) async fn remove(connection: &mut Connection, uids: &[u32]) -> Result<(), SourceError> {
    for set in uid_sets(uids) {
        let store = format!("UID STORE {set} +FLAGS.SILENT (\\Deleted)");
        connection.accepted(STEP, &store).await?;
        if connection.can("UIDPLUS") {
            connection
                .accepted(STEP, &format!("UID EXPUNGE {set}"))
                .await?;
        }
    }
    Ok(())
}

/// Copies or moves mails. Returns those that the server accepted, and its refusal of one of the others. A refused set is
/// halved, so that one mail, or the last free space, does not affect them all.
async fn put(
    connection: &mut Connection,
    verb: &str,
    way: &Way<'_>,
    uids: &[u32],
) -> Result<(Vec<u32>, Option<SourceError>), SourceError> {
    let mut name = match connection.targets.get(way.target) {
        Some(name) => name.clone(),
        None => utf7::encode(way.target),
    };
    let (mut taken, mut failure) = (Vec::new(), None);
    let mut is_resolved = false;
    let mut sets = vec![uids];
    while let Some(set) = sets.pop() {
        let Some(range) = uid_sets(set).into_iter().next() else {
            continue;
        };
        let command = format!("{verb} {range} {}", quoted(&name, STEP)?);
        let done = connection.patiently(STEP, &command).await?;
        if done.status == Status::Ok {
            taken.extend(set);
            continue;
        }
        if done.code == Some(Code::Passing) {
            return Err(refusal(STEP, done));
        }
        if !std::mem::replace(&mut is_resolved, true) {
            // Few servers report a missing folder in a recognisable way.
            let (resolved, is_new) = there(connection, way).await?;
            if is_new || resolved != name {
                connection
                    .targets
                    .insert(way.target.to_owned(), resolved.clone());
                name = resolved;
                sets.push(set);
                continue;
            }
        }
        match set.split_at(set.len() / 2) {
            ([], _) => failure = Some(refused(done)),
            (first, second) => sets.extend([second, first]),
        }
    }
    Ok((taken, failure))
}

/// Returns the error of a refused copy. A limit that an acknowledgement reaches must not stop fetching: the copy is retried
/// like any refusal.
fn refused(done: super::response::Done) -> SourceError {
    match done.code {
        Some(Code::Limit) => SourceError::Refused {
            step: STEP,
            code: Some("LIMIT".into()),
            text: format!("the server's limit is reached: {}", done.text),
        },
        _ => refusal(STEP, done),
    }
}

/// Finds the folder's true name and creates the folder if it is missing. Returns whether it was created.
async fn there(connection: &mut Connection, way: &Way<'_>) -> Result<(String, bool), SourceError> {
    let target = folders::resolve(connection, STEP, way.target).await?;
    way.check(&target.name)?;
    if target.exists {
        return Ok((target.name, false));
    }
    let refused = match folders::create(connection, STEP, &target.name).await {
        Ok(()) => return Ok((target.name, true)),
        Err(error @ SourceError::Refused { .. }) => error,
        Err(error) => return Err(error),
    };
    // Servers without NAMESPACE may require all folders below INBOX nevertheless.
    let Some(separator) = target.namespace.separator else {
        return Err(refused);
    };
    let below = format!("INBOX{separator}{}", target.name);
    match folders::create(connection, STEP, &below).await {
        Ok(()) => Ok((below, true)),
        Err(SourceError::Refused { .. }) => Err(refused),
        Err(error) => Err(error),
    }
}

/// The properties compared between a mail and its copy.
type Likeness = (Vec<u8>, u64);

/// Returns which of these mails are already in the target. Leaves the mails' own folder open, which must still be the same.
async fn already_there(
    connection: &mut Connection,
    way: &Way<'_>,
    uids: &[u32],
) -> Result<Vec<u32>, SourceError> {
    let mut wanted: HashMap<Likeness, Vec<u32>> = HashMap::new();
    for set in uid_sets(uids) {
        likenesses(connection, &format!("UID FETCH {set}"), |uid, likeness| {
            if uids.binary_search(&uid).is_ok() {
                let alike = wanted.entry(likeness).or_default();
                if !alike.contains(&uid) {
                    alike.push(uid);
                }
            }
        })
        .await?;
    }
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let name = match connection.targets.get(way.target) {
        Some(name) => name.clone(),
        None => folders::resolve(connection, STEP, way.target).await?.name,
    };
    let mut exists = 0;
    connection.selected = None;
    let done = connection
        .command_with(
            STEP,
            &format!("EXAMINE {}", quoted(&name, STEP)?),
            0,
            |untagged| {
                if let Untagged::Exists(n) = untagged {
                    exists = n;
                }
                Ok(())
            },
        )
        .await?;
    let mut there = Vec::new();
    if done.status == Status::Ok && exists > 0 {
        let first = exists.saturating_sub(NEWEST).max(1);
        likenesses(connection, &format!("FETCH {first}:*"), |_, likeness| {
            there.extend(wanted.get_mut(&likeness).and_then(Vec::pop));
        })
        .await?;
    }
    let selected = connection.select(way.from.folder).await?;
    if selected.uid_validity != way.from.uid_validity {
        return Err(SourceError::Transient {
            step: STEP,
            reason: "the folder was renumbered meanwhile".into(),
        });
    }
    there.sort_unstable();
    Ok(there)
}

/// Returns the UID and the likeness of each mail that has a Message-ID.
async fn likenesses(
    connection: &mut Connection,
    fetch: &str,
    mut each: impl FnMut(u32, Likeness),
) -> Result<(), SourceError> {
    let command = format!("{fetch} (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])");
    let done = connection
        .command_with(STEP, &command, 0, |untagged| {
            if let Untagged::Fetch(fetched) = untagged
                && let (Some(uid), Some(size), Some(header)) =
                    (fetched.uid, fetched.size, fetched.header)
                && !header.bytes.trim_ascii().is_empty()
            {
                each(uid, (header.bytes.trim_ascii().to_vec(), size));
            }
            Ok(())
        })
        .await?;
    ended_ok(STEP, done)
}

/// Describes the effect of moving mail to a folder. Changes nothing.
pub(super) async fn target_in_words(
    connection: &mut Connection,
    read: &[String],
    target: &str,
) -> Result<String, SourceError> {
    const STEP: Step = Step::Target;
    let found = folders::resolve(connection, STEP, target).await?;
    let is_target = |it: &String| folders::is_same(target, it) || found.name == utf7::encode(it);
    if read.iter().any(is_target) {
        return Err(SourceError::Unusable {
            step: STEP,
            reason: format!("{target} is a folder that mail is read from"),
        });
    }
    let name = match found.name == utf7::encode(target) {
        true => target,
        false => &found.name,
    };
    if found.exists {
        return Ok(match name == target {
            true => format!("{target} is there"),
            false => format!("{target} is there, as {name}"),
        });
    }
    let separator = found.namespace.separator;
    let separator = separator.map_or_else(String::new, |it| format!(", separator \"{it}\""));
    Ok(format!(
        "{target} is missing, and would be created as {name} (prefix \"{}\"{separator})",
        found.namespace.prefix
    ))
}
