//! Where mail comes from: one trait for all sources, one folder a protocol, and the reading of mail files.

mod error;
pub mod import;
mod in_flight;
mod probe;
mod source;

mod imap;
mod spool;

pub use error::{SourceError, Unreachable};
pub use imap::{ImapSettings, ImapSource, ImapTimeouts, Import, TlsMode, imap};
pub use in_flight::{InFlight, Room};
pub use postroom_core::After;
pub use probe::ProbeStep;
pub use source::{Acknowledge, BEGINNING_BYTES, Batch, FetchLimits, Renumbering, Source};
pub use spool::{SpoolSettings, SpoolSource, file_identity, spool};
