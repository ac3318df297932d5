//! Where mail comes from: one trait for all sources, one folder a protocol, and the reading of mail files.

mod error;
pub mod import;
mod in_flight;
mod source;

mod imap;
mod spool;

pub use error::SourceError;
#[doc(hidden)]
pub use imap::fuzz;
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, imap};
pub use in_flight::{InFlight, InFlightPermit};
pub use postroom_core::{After, Import};
pub use source::{
    Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, KnownPositions, Renumbering, Source,
};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
