//! What a mailbox takes in when it is read for the first time.

use jiff::civil::Date;

/// The mail that the first contact with a mailbox takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// Only what arrives from then on.
    New,
    All,
    /// What arrived on that day or later.
    Since(Date),
}
