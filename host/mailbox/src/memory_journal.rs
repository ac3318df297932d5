//! A journal in memory, for tests of sources that ask which positions are known.

use std::collections::HashSet;
use std::sync::Mutex;

use async_trait::async_trait;
use postroom_core::{Cursor, Position};

use crate::{Batch, KnownPositions, SourceError};

/// The positions of the mails that were journalled.
#[derive(Default)]
pub struct MemoryJournal(Mutex<HashSet<Position>>);

impl MemoryJournal {
    /// Adds a batch, and returns its cursor.
    pub fn take(&self, batch: &Batch) -> Option<Cursor> {
        let mut held = self.0.lock().unwrap();
        held.extend(batch.passed.iter().cloned());
        held.extend(batch.messages.iter().map(|mail| mail.position.clone()));
        batch.cursor.clone()
    }

    pub fn positions(&self) -> HashSet<Position> {
        self.0.lock().unwrap().clone()
    }
}

#[async_trait]
impl KnownPositions for MemoryJournal {
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError> {
        let held = self.0.lock().unwrap();
        Ok(positions
            .into_iter()
            .filter(|it| held.contains(it))
            .collect())
    }

    async fn count(&self) -> Result<u64, SourceError> {
        Ok(self.0.lock().unwrap().len() as u64)
    }

    async fn forget(&self, positions: Vec<Position>) -> Result<(), SourceError> {
        self.0.lock().unwrap().retain(|it| !positions.contains(it));
        Ok(())
    }

    async fn forget_all_but(&self, positions: Vec<Position>) -> Result<(), SourceError> {
        self.0.lock().unwrap().retain(|it| positions.contains(it));
        Ok(())
    }
}
