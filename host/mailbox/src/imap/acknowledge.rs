//! Acknowledges mail: flags, moves and deletions by UID, with one command per kind if possible.

use std::collections::BTreeMap;

use super::connection::Connection;
use super::copy::{self, Copied, Origin, Way};
use super::list::uid_sets;
use super::{ImapSource, Place};
use crate::{Acknowledge, After, SourceError};
use postroom_net::Step;

const STEP: Step = Step::Acknowledge;

impl ImapSource {
    pub(super) async fn acknowledge_all(
        &mut self,
        acks: &[Acknowledge],
    ) -> Result<(), SourceError> {
        let mut failure = None;
        let mut foreign = 0u32;
        let mut folders: BTreeMap<String, BTreeMap<&After, Vec<Place>>> = BTreeMap::new();
        for ack in acks.iter().filter(|ack| ack.after != After::Keep) {
            match Place::at(&ack.position) {
                Ok(place) => folders
                    .entry(place.folder.clone())
                    .or_default()
                    .entry(&ack.after)
                    .or_default()
                    .push(place),
                // Retrying will not make it ours.
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
        let mut copied = std::mem::take(&mut self.copied);
        let read = self.settings.folders.clone();
        let connection = self.ready().await?;
        for (folder, kinds) in folders {
            // Checked even after a short wait: a recreated folder has other mails under the same UIDs.
            let (uid_validity, next) = match connection.look(&folder).await {
                Ok(selected) => (selected.uid_validity, selected.uid_next.unwrap_or(u32::MAX)),
                Err(SourceError::Folder { missing: true, .. }) => {
                    tracing::warn!(
                        folder,
                        "the folder is gone, and the mails to acknowledge with it"
                    );
                    continue;
                }
                // The mails of the other folders are acknowledged nevertheless.
                Err(error @ SourceError::Folder { .. }) => {
                    failure = Some(error);
                    continue;
                }
                Err(error) => {
                    self.copied = copied;
                    return Err(error);
                }
            };
            for (after, places) in kinds {
                let given = places.len();
                let mut uids: Vec<u32> = places
                    .into_iter()
                    .filter(|place| place.uid_validity == uid_validity && place.uid < next)
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
                let from = Origin {
                    folder: &folder,
                    uid_validity,
                    read: &read,
                };
                match apply(connection, &mut copied, after, &uids, &from).await {
                    Ok(()) => {}
                    Err(
                        error @ (SourceError::Refused { .. }
                        | SourceError::OverQuota { .. }
                        | SourceError::Unusable { .. }),
                    ) => failure = Some(error),
                    Err(error) => {
                        self.copied = copied;
                        return Err(error);
                    }
                }
            }
        }
        self.copied = copied;
        failure.map_or(Ok(()), Err)
    }
}

async fn apply(
    connection: &mut Connection,
    copied: &mut Copied,
    after: &After,
    uids: &[u32],
    from: &Origin<'_>,
) -> Result<(), SourceError> {
    match after {
        After::Keep => Ok(()),
        After::Seen => {
            for set in uid_sets(uids) {
                let store = format!("UID STORE {set} +FLAGS.SILENT (\\Seen)");
                connection.accepted(STEP, &store).await?;
            }
            Ok(())
        }
        After::Delete => copy::remove(connection, uids).await,
        After::Move(target) => {
            copy::move_all(connection, copied, &Way { from, target }, uids).await
        }
    }
}
