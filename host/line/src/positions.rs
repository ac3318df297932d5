//! The known positions of a mailbox's mails, read from the journal for its source.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::Position;
use postroom_mailbox::{KnownPositions, SourceError};
use postroom_net::Step;
use postroom_store::{Journal, StoreError};

/// One mailbox's positions.
pub struct JournalPositions {
    journal: Arc<dyn Journal>,
    mailbox: String,
}

impl JournalPositions {
    pub fn new(journal: Arc<dyn Journal>, mailbox: &str) -> Self {
        Self {
            journal,
            mailbox: mailbox.to_owned(),
        }
    }
}

#[async_trait]
impl KnownPositions for JournalPositions {
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError> {
        let known = self.journal.known_positions(&self.mailbox, positions);
        known.await.map_err(failed)
    }

    async fn count(&self) -> Result<u64, SourceError> {
        let count = self.journal.known_position_count(&self.mailbox);
        count.await.map_err(failed)
    }

    async fn forget(&self, positions: Vec<Position>) -> Result<(), SourceError> {
        let forgotten = self.journal.forget_positions(&self.mailbox, positions);
        forgotten.await.map_err(failed)
    }

    async fn forget_all_but(&self, positions: Vec<Position>) -> Result<(), SourceError> {
        let forgotten = self.journal.forget_positions_but(&self.mailbox, positions);
        forgotten.await.map_err(failed)
    }
}

fn failed(error: StoreError) -> SourceError {
    SourceError::Transient {
        step: Step::Cursor,
        reason: error.to_string(),
    }
}
