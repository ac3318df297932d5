//! Where mail comes from: one trait for all sources, one folder a protocol, and the reading of mail files.

mod bearer;
mod error;
pub mod import;
mod in_flight;
mod source;
#[cfg(test)]
mod token_server;

mod imap;
mod pop3;
mod spool;

pub use error::SourceError;
#[doc(hidden)]
pub use imap::fuzz;
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, Import, imap};
pub use in_flight::{InFlight, Room};
pub use pop3::{Pop3Settings, Pop3Source, Pop3Timeouts, pop3};
pub use postroom_core::After;
pub use source::{
    Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, KnownPositions, Renumbering, Source,
};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
