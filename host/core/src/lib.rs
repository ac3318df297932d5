//! Postroom's domain: what a mail, a rule's context and a decision are, and the judgement that needs no I/O.

pub mod backoff;
pub mod classify;
pub mod complete;
pub mod context;
pub mod decision;
mod fold;
#[doc(hidden)]
pub mod fuzz;
pub mod grants;
pub mod identity;
pub mod lookup;
pub mod message;
pub mod parse;
pub mod raw;
pub mod redact;
pub mod reply;
pub mod thread;

pub use backoff::{Backoff, backoff};
pub use complete::{Completed, DecisionLimits, Manners, Nonsense, complete, fallback};
pub use context::{Client, Context, Thread};
pub use decision::{
    Action, Alert, AlertState, Decision, Expect, Note, Outcome, Refusal, Reply, Ticket, Trouble,
    Value, Visibility,
};
pub use grants::{ActionKind, ActionKinds};
pub use identity::{InstallationSecret, MailIdentity};
pub use message::{Address, Attachment, Authentication, Classification, Header, Message, Verdict};
pub use parse::{ParseLimits, message_id, parse, stated_times_ms, synthetic_message_id};
pub use raw::{ContentHash, Cursor, Position, RawMessage};
pub use redact::Redactor;
pub use thread::ticket_numbers;
