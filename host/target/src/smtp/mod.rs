//! The `smtp` target: replies and forwards by submission. The conversation is our own; lettre composes the mail.

mod client;
mod draft;
mod error;
mod extensions;
mod line;
mod login;
mod probe;
mod reply;
mod session;
mod submit;
mod tap;
mod target;
#[cfg(test)]
mod tests;

pub use client::{RefusedRecipient, Smtp, SmtpReceipt, SmtpSettings};
pub use error::{EnhancedStatus, SendError, SmtpStep};
pub use session::SmtpTimeouts;
pub use target::SmtpTarget;
