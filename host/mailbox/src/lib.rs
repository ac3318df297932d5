//! Where mail comes from: one trait for all sources, one folder a protocol, and the reading of mail files.

mod error;
pub mod import;
mod in_flight;
mod probe;
mod source;

mod imap;
mod spool;

pub use error::{SourceError, Unreachable};
#[doc(hidden)]
pub use imap::fuzz;
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, Import, TlsMode, imap};
pub use in_flight::{InFlight, Room};
pub use probe::ProbeStep;
pub use source::{Acknowledge, After, BEGINNING_BYTES, Batch, FetchLimits, Renumbering, Source};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
