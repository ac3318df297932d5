//! Acknowledgements: marks, moves and deletes mails by their ids, many at a time. Repeating them is safe.

use std::collections::BTreeMap;

use postroom_exchange::ews::{Kind, Refusal, escaped, item_ids};
use postroom_net::Step;

use super::folders::{folder_id, is_same};
use super::refusal::OfFolder;
use super::{Session, item_of, parsed};
use crate::{Acknowledge, After, SourceError};

const STEP: Step = Step::Acknowledge;
/// The number of mails in one request.
const TOGETHER: usize = 100;
/// The number of attempts to mark a mail, each with a fresh change key, while others keep changing it.
const CONFLICTS_MAX: u32 = 3;

impl Session {
    pub async fn acknowledge_all(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        let mut foreign = 0u32;
        let mut kinds: BTreeMap<&After, Vec<String>> = BTreeMap::new();
        for ack in acks.iter().filter(|ack| ack.after != After::Keep) {
            match item_of(&ack.position) {
                Some(id) => kinds.entry(&ack.after).or_default().push(id),
                // Trying again will not make it ours.
                None => foreign += 1,
            }
        }
        if foreign > 0 {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = foreign,
                "mails that were read by another protocol cannot be acknowledged"
            );
        }
        let mut failure = None;
        for (after, ids) in kinds {
            for chunk in ids.chunks(TOGETHER) {
                let done = match after {
                    After::Keep => Ok(()),
                    After::Seen => self.mark_seen(chunk).await,
                    After::Delete => self.delete(chunk).await,
                    After::Move(target) => self.move_to(target, chunk).await,
                };
                match done {
                    Ok(()) => {}
                    // The refusal of one mail does not stop the others.
                    Err(
                        error @ (SourceError::Refused { .. }
                        | SourceError::OverQuota { .. }
                        | SourceError::Unusable { .. }),
                    ) => failure = Some(error),
                    Err(error) => return Err(error),
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Marks mails as read without sending read receipts. A change key that somebody else's change made stale is fetched again.
    async fn mark_seen(&mut self, ids: &[String]) -> Result<(), SourceError> {
        let mut unread = ids.to_vec();
        for attempt in 1.. {
            let keys = self.unread_keys(&unread).await?;
            if keys.is_empty() {
                return Ok(());
            }
            let changes: String = keys
                .iter()
                .map(|(id, key)| {
                    format!(
                        "<t:ItemChange><t:ItemId Id=\"{}\" ChangeKey=\"{}\"/><t:Updates><t:SetItemField>\
                         <t:FieldURI FieldURI=\"message:IsRead\"/><t:Message><t:IsRead>true</t:IsRead></t:Message>\
                         </t:SetItemField></t:Updates></t:ItemChange>",
                        escaped(id),
                        escaped(key)
                    )
                })
                .collect();
            let body = format!(
                "<m:UpdateItem MessageDisposition=\"SaveOnly\" ConflictResolution=\"AutoResolve\" SuppressReadReceipts=\"true\">\
                 <m:ItemChanges>{changes}</m:ItemChanges></m:UpdateItem>"
            );
            let refusals = self.refusals("UpdateItem", body, keys.len()).await?;
            let (conflicts, others): (Vec<_>, Vec<_>) = refusals
                .into_iter()
                .partition(|(_, refusal)| refusal.kind() == Kind::Conflict);
            if attempt >= CONFLICTS_MAX || conflicts.is_empty() {
                return first_of(others.into_iter().chain(conflicts));
            }
            if !others.is_empty() {
                first_of(others)?;
            }
            let again = conflicts.iter().filter_map(|(n, _)| keys.get(*n));
            unread = again.map(|(id, _)| id.clone()).collect();
        }
        Ok(())
    }

    /// Returns the ids and change keys of those mails that exist and are unread.
    async fn unread_keys(&mut self, ids: &[String]) -> Result<Vec<(String, String)>, SourceError> {
        let body = format!(
            "<m:GetItem><m:ItemShape><t:BaseShape>IdOnly</t:BaseShape><t:AdditionalProperties>\
             <t:FieldURI FieldURI=\"message:IsRead\"/></t:AdditionalProperties></m:ItemShape><m:ItemIds>{}</m:ItemIds></m:GetItem>",
            item_ids(ids)
        );
        let answer = self.call(STEP, "GetItem", body).await?;
        let root = parsed(STEP, &answer.body)?;
        let mut keys = Vec::new();
        for message in self.each(STEP, &root, ids.len())? {
            let message = match message {
                Ok(message) => message,
                Err(refusal) if refusal.kind() == Kind::ItemGone => continue,
                Err(refusal) => return Err(refusal.for_folder(STEP, "")),
            };
            let item = message.child("Items").and_then(|it| it.children.first());
            let Some(item) = item.filter(|item| item.text_of("IsRead") != "true") else {
                continue;
            };
            let id = item.child("ItemId");
            if let Some((id, key)) =
                id.and_then(|it| Some((it.attribute("Id")?, it.attribute("ChangeKey")?)))
            {
                keys.push((id.to_owned(), key.to_owned()));
            }
        }
        Ok(keys)
    }

    /// Deletes mails as IMAP does: an administrator can still recover them.
    async fn delete(&mut self, ids: &[String]) -> Result<(), SourceError> {
        let body = format!(
            "<m:DeleteItem DeleteType=\"SoftDelete\" SuppressReadReceipts=\"true\"><m:ItemIds>{}</m:ItemIds></m:DeleteItem>",
            item_ids(ids)
        );
        first_of(self.refusals("DeleteItem", body, ids.len()).await?)
    }

    /// Moves mails. They have different ids in their new folder.
    async fn move_to(&mut self, target: &str, ids: &[String]) -> Result<(), SourceError> {
        let own = self.ready().await?.id.clone();
        let folder = self.target(STEP, target).await?;
        if folder == own || is_same(target, &self.settings.folder) {
            // It would be new mail again.
            return Err(SourceError::Unusable {
                step: STEP,
                reason: format!(
                    "mail read from {} cannot be moved to {target}: it is the same folder",
                    self.settings.folder
                ),
            });
        }
        let body = format!(
            "<m:MoveItem><m:ToFolderId>{}</m:ToFolderId><m:ItemIds>{}</m:ItemIds>\
             <m:ReturnNewItemIds>false</m:ReturnNewItemIds></m:MoveItem>",
            folder_id(&folder),
            item_ids(ids)
        );
        let refusals = self.refusals("MoveItem", body, ids.len()).await?;
        if refusals
            .iter()
            .any(|(_, refusal)| refusal.kind() == Kind::FolderMissing)
        {
            // Somebody removed it since it was looked up: the next attempt creates it again.
            self.folders.remove(target);
        }
        first_of(refusals)
    }

    /// Sends an operation on mails, and returns the refusals, by the mail's index. A mail that is gone counts as acknowledged.
    async fn refusals(
        &mut self,
        operation: &'static str,
        body: String,
        mails: usize,
    ) -> Result<Vec<(usize, Refusal)>, SourceError> {
        let answer = self.call(STEP, operation, body).await?;
        let root = parsed(STEP, &answer.body)?;
        let outcomes = self.each(STEP, &root, mails)?;
        let refused = outcomes
            .into_iter()
            .enumerate()
            .filter_map(|(n, outcome)| Some((n, outcome.err()?)));
        Ok(refused
            .filter(|(_, refusal)| refusal.kind() != Kind::ItemGone)
            .collect())
    }
}

fn first_of(refusals: impl IntoIterator<Item = (usize, Refusal)>) -> Result<(), SourceError> {
    match refusals.into_iter().next() {
        Some((_, refusal)) => Err(refusal.for_folder(STEP, "")),
        None => Ok(()),
    }
}
