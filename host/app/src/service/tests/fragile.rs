//! A spool whose client has a defect, or whose server does not answer.

use std::future::pending;
use std::path::Path;
use std::time::Duration;

use async_trait::async_trait;
use postroom_core::Cursor;
use postroom_mailbox::{
    Acknowledge, Batch, FetchLimits, Source, SourceError, SpoolSettings, spool,
};
use postroom_net::ProbeStep;

/// The fault of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weakness {
    /// The first fetch panics.
    PanicsInFetch,
    /// The first fetch panics, and the end of the session after it panics too.
    PanicsInFetchAndClose,
    /// No fetch ever ends.
    Hangs,
}

/// The source.
pub struct Fragile {
    weakness: Weakness,
    spool: Box<dyn Source>,
    fetches: usize,
    closes: usize,
}

impl Fragile {
    pub fn new(weakness: Weakness, path: &Path) -> Self {
        Self {
            weakness,
            spool: Box::new(spool(SpoolSettings::new("m0", path))),
            fetches: 0,
            closes: 0,
        }
    }
}

#[async_trait]
impl Source for Fragile {
    async fn connect(&mut self) -> Result<(), SourceError> {
        self.spool.connect().await
    }

    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        self.fetches += 1;
        match self.weakness {
            Weakness::Hangs => pending().await,
            _ => assert!(self.fetches > 1, "a defect"),
        }
        self.spool.fetch(cursor, limits).await
    }

    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        self.spool.acknowledge(acks).await
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        self.spool.wait(timeout).await
    }

    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        self.spool.probe(report).await;
    }

    async fn close(&mut self) {
        self.closes += 1;
        if self.weakness == Weakness::PanicsInFetchAndClose {
            assert!(self.closes > 1, "another defect");
        }
        self.spool.close().await;
    }
}
