//! Sends the mail Postroom writes: one file a way out, so that a reply needs to know no protocol.

mod error;
mod mail;
mod smtp;
#[cfg(test)]
mod tests;

pub use error::{SendError, Step};
pub use mail::OutgoingMail;
pub use smtp::{Receipt, RefusedRecipient, Smtp, SmtpSettings, TlsMode};
