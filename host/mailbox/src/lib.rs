//! Sources of mail: one trait for all of them, one folder per protocol, and the reading of mail files.

mod error;
pub mod import;
mod in_flight;
mod source;

mod imap;
mod spool;

pub use error::SourceError;
#[doc(hidden)]
pub use imap::fuzz;
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, Import, imap};
pub use in_flight::{InFlight, InFlightPermit};
pub use postroom_core::After;
pub use source::{
    Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, KnownPositions, Renumbering, Source,
};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
