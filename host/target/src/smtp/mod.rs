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

pub use client::{Receipt, RefusedRecipient, Smtp, SmtpSettings, TlsMode};
pub use error::{EnhancedStatus, SendError, Step, Unreachable};
pub use mail::OutgoingMail;
pub use probe::ProbeStep;
pub use session::SmtpTimeouts;
pub use target::SmtpTarget;
