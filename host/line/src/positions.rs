//! The known positions of a mailbox, for its source, from the journal.

use std::collections::HashSet;

use async_trait::async_trait;
use postroom_core::Position;
use postroom_mailbox::{KnownPositions, SourceError};
use postroom_net::Step;
use postroom_store::{Store, StoreError};

/// One mailbox's positions.
pub struct JournalPositions {
    pub store: Store,
    pub mailbox: String,
}

#[async_trait]
impl KnownPositions for JournalPositions {
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError> {
        self.read(move |store, mailbox| store.known_positions(mailbox, positions))
            .await
    }

    async fn count(&self) -> Result<u64, SourceError> {
        self.read(|store, mailbox| store.known_position_count(mailbox))
            .await
    }

    async fn forget_all_but(&self, positions: Vec<Position>) -> Result<(), SourceError> {
        let forgotten = self.store.forget_positions_but(&self.mailbox, &positions);
        forgotten.await.map_err(failed)
    }
}

impl JournalPositions {
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store, &str) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, SourceError> {
        let (store, mailbox) = (self.store.clone(), self.mailbox.clone());
        let reading = tokio::task::spawn_blocking(move || read(&store, &mailbox));
        reading.await.map_err(failed)?.map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> SourceError {
    SourceError::Transient {
        step: Step::Cursor,
        reason: error.to_string(),
    }
}
