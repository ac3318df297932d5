//! Where mail comes from: one trait for all sources, one folder a protocol, and the reading of mail files.

mod error;
pub mod import;
mod in_flight;
mod source;

mod ews;
mod imap;
mod spool;

pub use error::SourceError;
pub use ews::{EwsSettings, EwsSource, EwsTimeouts, ews};
#[doc(hidden)]
pub use imap::fuzz;
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, Import, imap};
pub use in_flight::{InFlight, Room};
pub use postroom_core::After;
pub use source::{
    Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, KnownPositions, Renumbering, Source,
};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
