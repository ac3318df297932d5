//! Sends the mail Postroom writes: one file a way out, so that a reply needs to know no protocol.

mod error;
mod line;
mod mail;
mod probe;
mod smtp;
mod tap;
#[cfg(test)]
mod tests;

pub use error::{EnhancedStatus, SendError, Step, Unreachable};
pub use mail::OutgoingMail;
pub use probe::ProbeStep;
pub use smtp::{Receipt, RefusedRecipient, Smtp, SmtpSettings, TlsMode};
