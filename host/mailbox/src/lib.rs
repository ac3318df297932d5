//! Sources of mail: one trait for all of them, one folder per protocol, and the reading of mail files.

mod bearer;
mod error;
pub mod import;
mod in_flight;
#[cfg(test)]
mod memory_journal;
mod sent;
mod source;
#[cfg(test)]
mod token_server;

mod ews;
mod graph;
mod imap;
mod pop3;
mod spool;

/// Entry points of the fuzz targets.
pub use ews::{EwsSettings, EwsSource, EwsTimeouts, ews};
#[doc(hidden)]
pub mod fuzz {
    pub use crate::imap::fuzz as imap;
    pub use crate::pop3::fuzz as pop3;
}

pub use error::SourceError;
pub use graph::{GraphSettings, GraphSource, GraphTimeouts, graph};
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, imap};
pub use in_flight::{InFlight, InFlightPermit};
pub use pop3::{Pop3Settings, Pop3Source, Pop3Timeouts, pop3};
pub use postroom_core::{After, Import};
pub use source::{
    Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, KnownPositions, Renumbering, Source,
};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
