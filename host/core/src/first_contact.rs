//! The first contact with a mailbox.

use jiff::civil::Date;

/// The mail that the first contact with a mailbox takes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Import {
    /// Only what arrives from then on.
    New,
    All,
    /// Mail that arrived on that day or later.
    Since(Date),
}
