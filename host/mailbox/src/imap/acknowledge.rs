//! Acknowledging: flags, moves and deletions by UID, in as few commands as there are kinds.

use std::collections::BTreeMap;

use super::connection::{Connection, ended_ok, quoted};
use super::fetch::{search, uid_sets};
use super::response::{Code, Status};
use super::{ImapSource, Place, utf7};
use crate::{Acknowledge, After, SourceError};

const STEP: &str = "acknowledge";

impl ImapSource {
    pub(super) async fn acknowledge_all(
        &mut self,
        acks: &[Acknowledge],
    ) -> Result<(), SourceError> {
        let mut failure = None;
        let mut foreign = 0u32;
        let mut folders: BTreeMap<String, BTreeMap<&After, Vec<Place>>> = BTreeMap::new();
        for ack in acks.iter().filter(|ack| ack.after != After::Keep) {
            match Place::read(&ack.position.0) {
                Ok(place) => folders
                    .entry(place.folder.clone())
                    .or_default()
                    .entry(&ack.after)
                    .or_default()
                    .push(place),
                // It will not become ours by trying again.
                Err(_) => foreign += 1,
            }
        }
        if foreign > 0 {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = foreign,
                "mails that were not read from this folder's server cannot be acknowledged there"
            );
        }
        if folders.is_empty() {
            return Ok(());
        }
        let connection = self.ready().await?;
        for (folder, kinds) in folders {
            let uid_validity = match connection.select(&folder).await {
                Ok(selected) => selected.uid_validity,
                Err(SourceError::Folder { missing: true, .. }) => {
                    tracing::warn!(
                        folder,
                        "the folder is gone, and the mails to acknowledge with it"
                    );
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (after, places) in kinds {
                let given = places.len();
                let mut uids: Vec<u32> = places
                    .into_iter()
                    .filter(|place| place.uid_validity == uid_validity)
                    .map(|place| place.uid)
                    .collect();
                if uids.len() < given {
                    tracing::warn!(
                        folder,
                        mails = given - uids.len(),
                        "the server has renumbered the folder: mails read before can no longer be acknowledged"
                    );
                }
                uids.sort_unstable();
                uids.dedup();
                for set in uid_sets(&uids) {
                    match apply(connection, &folder, after, &set).await {
                        Ok(()) => {}
                        Err(
                            error @ (SourceError::Refused { .. } | SourceError::Unusable { .. }),
                        ) => {
                            failure = Some(error);
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }
}

async fn apply(
    connection: &mut Connection,
    folder: &str,
    after: &After,
    set: &str,
) -> Result<(), SourceError> {
    match after {
        After::Keep => Ok(()),
        After::Seen => store(connection, set, "\\Seen").await,
        After::Delete => delete(connection, set).await,
        After::Move(target) if target == folder => Ok(()),
        After::Move(target) if connection.can("MOVE") => {
            into_folder(connection, &format!("UID MOVE {set}"), target).await
        }
        After::Move(target) => {
            // Mails that carry \Deleted were copied by an attempt that did not get to its end.
            let uncopied = search(connection, STEP, &format!("UID {set} UNDELETED")).await?;
            for set in uid_sets(&uncopied) {
                into_folder(connection, &format!("UID COPY {set}"), target).await?;
            }
            delete(connection, set).await
        }
    }
}

async fn store(connection: &mut Connection, set: &str, flag: &str) -> Result<(), SourceError> {
    connection
        .accepted(STEP, &format!("UID STORE {set} +FLAGS.SILENT ({flag})"))
        .await
}

/// Removes mails. Without UIDPLUS (RFC 4315) they stay marked as deleted: a plain EXPUNGE would remove other people's too.
async fn delete(connection: &mut Connection, set: &str) -> Result<(), SourceError> {
    store(connection, set, "\\Deleted").await?;
    if connection.can("UIDPLUS") {
        connection
            .accepted(STEP, &format!("UID EXPUNGE {set}"))
            .await?;
    }
    Ok(())
}

/// Runs a command that puts mails into a folder, which is created when the server says that it is missing.
async fn into_folder(
    connection: &mut Connection,
    command: &str,
    target: &str,
) -> Result<(), SourceError> {
    let target = quoted(&utf7::encode(target), STEP)?;
    let command = format!("{command} {target}");
    let done = connection.command(STEP, &command).await?;
    if !matches!(done.code, Some(Code::TryCreate | Code::NonExistent)) {
        return ended_ok(STEP, done);
    }
    let created = connection
        .command(STEP, &format!("CREATE {target}"))
        .await?;
    if created.status == Status::Ok {
        // Mail programs show subscribed folders only; that it fails somewhere is no harm.
        connection
            .command(STEP, &format!("SUBSCRIBE {target}"))
            .await?;
    } else if created.code != Some(Code::AlreadyExists) {
        return ended_ok(STEP, created);
    }
    connection.accepted(STEP, &command).await
}
