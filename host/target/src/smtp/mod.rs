//! The target of kind `smtp`: replies and forwards, by submission. The conversation is our own; lettre writes the mail.

mod client;
mod error;
mod extensions;
mod line;
mod login;
mod mail;
mod probe;
mod reply;
mod session;
mod submit;
mod tap;
mod target;
#[cfg(test)]
mod tests;

pub use client::{Receipt, RefusedRecipient, Smtp, SmtpSettings};
pub use error::{EnhancedStatus, SendError, Step};
pub use mail::OutgoingMail;
pub use session::SmtpTimeouts;
pub use target::SmtpTarget;
