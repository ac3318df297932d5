//! Deletes committed mail: DELE for each mail, then QUIT, whose reply confirms the deletions.

use std::collections::HashSet;
use std::sync::Arc;

use postroom_net::Step;

use super::Pop3Source;
use super::list::list;
use super::progress::key;
use crate::{Acknowledge, After, SourceError};

const STEP: Step = Step::Acknowledge;

impl Pop3Source {
    /// Returns once the server has confirmed the end of the session, and with it the deletions. After a lost reply, all of them
    /// are repeated; mail that is already gone counts as deleted.
    pub(super) async fn delete_all(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        let mut keys = HashSet::new();
        let (mut foreign, mut impossible) = (0u32, 0u32);
        for ack in acks.iter().filter(|ack| ack.after != After::Keep) {
            match (&ack.after, key(&self.mailbox, &ack.position)) {
                (After::Delete, Some(key)) => drop(keys.insert(key)),
                (After::Delete, None) => foreign += 1,
                _ => impossible += 1,
            }
        }
        if foreign > 0 || impossible > 0 {
            // Trying again will not make them possible.
            tracing::warn!(
                mailbox = self.settings.name,
                foreign,
                impossible,
                "mails cannot be acknowledged: they were read from another server, or POP3 can neither mark nor move them"
            );
        }
        if keys.is_empty() {
            return Ok(());
        }
        self.ready().await?;
        let session = self.session.as_mut();
        let (Some(session), listing) = (session, &mut self.listing) else {
            return Ok(());
        };
        let listing = match listing {
            Some(listing) => listing,
            None => listing.insert(list(session).await?),
        };
        let (shared, certain): (Vec<_>, Vec<_>) = listing
            .iter()
            .filter(|it| keys.contains(&*it.key))
            .partition(|it| it.is_shared);
        if !shared.is_empty() {
            tracing::warn!(
                mailbox = self.settings.name,
                mails = shared.len(),
                "mails are not deleted: the server gives several mails one unique id"
            );
        }
        if certain.is_empty() {
            return Ok(());
        }
        let mut failure = None;
        let mut deleted: Vec<Arc<str>> = Vec::with_capacity(certain.len());
        for listed in certain {
            let command = format!("DELE {}", listed.number);
            match session.command(STEP, &command).await?.accepted(STEP) {
                Ok(_) => deleted.push(listed.key.clone()),
                Err(error) => failure = Some(error),
            }
        }
        let ending = session.quit(STEP).await;
        self.session = None;
        self.left_session();
        ending?;
        // A restart must not take a mailbox that was emptied here for one that the server renumbered.
        if let Some(journal) = &self.journal {
            journal.forget(self.positions(&deleted)).await?;
        }
        self.deleted.extend(deleted);
        failure.map_or(Ok(()), Err)
    }
}
