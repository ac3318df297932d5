//! Postroom's domain: what a mail, a rule's context and a decision are, and the judgement that needs no I/O.

pub mod backoff;
pub mod context;
pub mod decision;
pub mod message;
pub mod raw;

pub use backoff::{Backoff, backoff};
pub use context::{Client, Context, Thread};
pub use decision::{
    Action, Alert, AlertState, Decision, Expect, Note, Outcome, Reply, Ticket, Value, Visibility,
};
pub use message::{Address, Attachment, Authentication, Classification, Message, Verdict};
pub use raw::{ContentHash, Cursor, Position, RawMessage};
