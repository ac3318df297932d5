//! Sends the mail Postroom writes: one file a way out, so that a reply needs to know no protocol.

mod error;
mod extensions;
mod line;
mod login;
mod mail;
mod probe;
mod reply;
mod session;
mod smtp;
mod submit;
mod tap;
#[cfg(test)]
mod tests;

pub use error::{EnhancedStatus, SendError, Step};
pub use mail::OutgoingMail;
pub use session::SmtpTimeouts;
pub use smtp::{Receipt, RefusedRecipient, Smtp, SmtpSettings};
