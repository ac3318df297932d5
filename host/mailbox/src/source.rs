//! The interface of every source of mail, whatever its protocol.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postroom_core::{After, Clock, Cursor, Position, RawMessage};
use postroom_net::{DialPermit, HostDials, ProbeStep, Trace};

use crate::{InFlight, InFlightPermit, SourceError};

/// A mailbox's mail. After an error the source remains usable: it reconnects by itself when needed.
#[async_trait]
pub trait Source: Send + Sync {
    /// Connects, signs in and opens the folder; does nothing if that is already done. The other calls do it themselves;
    /// this one only checks whether it works.
    async fn connect(&mut self) -> Result<(), SourceError>;

    /// Returns the next mails after the cursor, oldest first. With an older cursor, it returns the same mails again.
    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError>;

    /// Acknowledges each mail as its decision requires. Safe to repeat; a mail that is gone counts as acknowledged. If one
    /// of them fails, the others are tried nevertheless.
    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError>;

    /// Returns whether acknowledgements end the session, so that they wait until all known mail is fetched.
    fn acknowledges_last(&self) -> bool {
        false
    }

    /// Returns when there may be new mail, or after `timeout`. Cancel-safe: the future may be dropped at any time, and the
    /// connection stays in use.
    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError>;

    /// Checks whether the mailbox can be read, and reports each step as it ends; a failed step is the last one. Takes no
    /// mail.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send));

    /// Describes the parts of the mailbox that are not read, while the others are.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Records the conversation with the server from now on, without secrets and mails. A source without a server records
    /// nothing.
    fn set_trace(&mut self, _trace: Trace) {}

    /// Sets the journal's lookup of known positions. It is for a protocol whose server keeps no order, such as POP3, so
    /// that a cursor cannot record what was read. A source with a sufficient cursor ignores this.
    fn set_known(&mut self, _known: Arc<dyn KnownPositions>) {}

    /// Makes each connection attempt wait for a permit. A source without a server makes none.
    fn set_dials(&mut self, _dials: HostDials) {}

    /// Sets the wall clock. A source without one reads the machine's, if it needs any.
    fn set_clock(&mut self, _clock: Clock) {}

    /// Ends the session, with a short time limit.
    async fn close(&mut self);
}

/// The positions of a mailbox's journalled mail.
#[async_trait]
pub trait KnownPositions: Send + Sync {
    /// Returns those of the positions whose mail was journalled from a [`Batch`] with `remember` set. Mail of the last
    /// batches may be missing: the source itself knows what it returned since it was created.
    async fn known(&self, positions: Vec<Position>) -> Result<HashSet<Position>, SourceError>;

    /// Returns how many positions are known.
    async fn count(&self) -> Result<u64, SourceError>;

    /// Forgets all positions except these: the server no longer lists the other mails.
    async fn forget_all_but(&self, positions: Vec<Position>) -> Result<(), SourceError>;

    /// Forgets these positions: their mail was deleted.
    async fn forget(&self, positions: Vec<Position>) -> Result<(), SourceError>;
}

/// The result of one fetch.
#[derive(Debug, Default)]
pub struct Batch {
    pub messages: Vec<RawMessage>,
    /// The cursor to continue from once these mails are journalled; the given cursor if there was nothing new.
    pub cursor: Option<Cursor>,
    /// Whether more mail is known to be waiting.
    pub more: bool,
    /// Whether the positions of these mails are remembered, for a source that uses [`KnownPositions`].
    pub remember: bool,
    /// The positions of mails that are left out permanently; they are remembered too.
    pub passed: Vec<Position>,
    /// Set if the server gave the folder's mails new numbers, so that they are read again.
    pub renumbering: Option<Renumbering>,
    /// The share of these mails in the bytes in flight, returned on drop.
    pub room: InFlightPermit,
}

/// Why a folder is read again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Renumbering {
    #[error(
        "the server has renumbered the folder (UIDVALIDITY {was} became {is}): the folder is read again, and mail from before the first contact stays unchanged"
    )]
    UidValidity { was: u32, is: u32 },
    /// As after a restore of the server from a backup.
    #[error(
        "the folder's UIDs went back (read up to UID {read}, but the next one is {next}): the folder is read again, and mail from before the first contact stays unchanged"
    )]
    UidsWentBack { read: u32, next: u32 },
    #[error(
        "the server no longer takes the stored sync state: the folder is listed again, known mail stays known, and mail from before the first contact stays as it is"
    )]
    SyncStateLost,
}

/// Bounds on one batch.
#[derive(Debug, Clone)]
pub struct FetchLimits {
    pub batch_mails: usize,
    /// The sum of the mails' sizes; a single larger mail still makes a batch.
    pub batch_bytes: u64,
    /// The size above which only the first [`BEGINNING_BYTES`] of a mail are fetched.
    pub raw_bytes: u64,
    /// The bytes of mail that all mailboxes together hold in memory.
    pub in_flight: InFlight,
    /// Whether to wait for room in it. A caller that holds some must not wait, or all could wait for each other.
    pub wait_for_room: bool,
}

impl FetchLimits {
    /// Returns room for mails of this size, or `None` if none is free and the caller does not wait.
    pub(crate) async fn room(&self, bytes: u64) -> Option<InFlightPermit> {
        match self.wait_for_room {
            true => Some(self.in_flight.take(bytes).await),
            false => self.in_flight.try_take(bytes),
        }
    }
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            batch_mails: 128,
            batch_bytes: 8 * 1024 * 1024,
            raw_bytes: 256 * 1024 * 1024,
            in_flight: InFlight::default(),
            wait_for_room: true,
        }
    }
}

/// How much of a mail over the raw limit is kept.
pub const BEGINNING_BYTES: u64 = 64 * 1024;

/// One mail to acknowledge.
#[derive(Debug, Clone)]
pub struct Acknowledge {
    pub position: Position,
    pub after: After,
}

/// Waits until a connection attempt may begin, if attempts are limited. The permit is held until the attempt has ended.
pub(crate) async fn permit(dials: Option<&HostDials>) -> Option<DialPermit> {
    match dials {
        Some(dials) => Some(dials.permit().await),
        None => None,
    }
}
