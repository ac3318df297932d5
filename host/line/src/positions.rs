//! The known positions of a mailbox, for its source, from the journal.

use std::collections::HashSet;
use std::sync::Arc;

use async_trait::async_trait;
use postroom_core::Position;
use postroom_mailbox::{KnownPositions, SourceError};
use postroom_net::Step;
use postroom_store::Journal;

/// One mailbox's positions.
pub struct JournalPositions {
    pub journal: Arc<dyn Journal>,
    pub mailbox: String,
}

#[async_trait]
impl KnownPositions for JournalPositions {
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError> {
        let known = self.journal.known_positions(&self.mailbox, positions).await;
        known.map_err(|error| SourceError::Transient {
            step: Step::Cursor,
            reason: error.to_string(),
        })
    }
}
