//! The known positions of a mailbox, for its source, from the journal.

use std::collections::HashSet;

use async_trait::async_trait;
use postroom_core::Position;
use postroom_mailbox::{KnownPositions, SourceError};
use postroom_net::Step;
use postroom_store::Store;

/// One mailbox's positions.
pub struct JournalPositions {
    store: Store,
    mailbox: String,
}

impl JournalPositions {
    pub fn new(store: Store, mailbox: &str) -> Self {
        Self {
            store,
            mailbox: mailbox.to_owned(),
        }
    }
}

#[async_trait]
impl KnownPositions for JournalPositions {
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError> {
        let (store, mailbox) = (self.store.clone(), self.mailbox.clone());
        let asked =
            tokio::task::spawn_blocking(move || store.known_positions(&mailbox, positions)).await;
        let failed = |reason| SourceError::Transient {
            step: Step::Cursor,
            reason,
        };
        asked
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))
    }
}
