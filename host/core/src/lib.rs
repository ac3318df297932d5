//! Postroom's domain: mails, the context of a rule, decisions, and the logic that needs no I/O.

pub mod acknowledgement;
pub mod alert_state;
pub mod attribution;
pub mod backoff;
pub mod classify;
pub mod clean;
pub mod clock;
pub mod complete;
pub mod connector;
pub mod context;
mod copies;
mod counted;
pub mod decision;
pub mod effects;
pub mod event;
mod first_contact;
mod fold;
mod forwarded;
#[doc(hidden)]
pub mod fuzz;
pub mod grants;
pub mod harmless;
pub mod hours;
pub mod identity;
pub mod limits;
pub mod links;
pub mod lookup;
pub mod mailbox;
pub mod mailbox_policy;
pub mod message;
mod named;
pub mod outgoing;
pub mod pairs;
pub mod parse;
mod position;
pub mod raw;
pub mod receipt;
pub mod redact;
pub mod reply;
pub mod reply_token;
pub mod thread;
pub mod thread_policy;
mod touches;

pub use acknowledgement::After;
pub use alert_state::AlertPolicy;
pub use attribution::{AttributeBy, Clients, Contacts, Staff};
pub use backoff::{Backoff, backoff};
pub use clean::{MAX_CLEAN_BYTES, MAX_CLEAN_ELEMENTS, clean_html};
pub use clock::{Clock, ClockHand};
pub use complete::{Completed, DecisionLimits, InvalidDecision, ReplyPolicy, complete, fallback};
pub use connector::{
    ConnectorAnswer, ConnectorRequest, ConnectorStep, ConnectorTask, Exchange, ExternalReceipt,
    ExternalState, ExternalStatus, PartContent, RequestBody, RequestMethod, RequestPart,
};
pub use context::{
    Client, ClientEvidence, Context, Provenance, StepResult, Thread, ThreadMethod, ThreadStep,
};
pub use copies::{COPIES_RULE, COPY_WINDOW_MS, copy_decision, copy_marks, hides_copies};
pub use counted::counted;
pub use decision::{
    Action, Alert, AlertState, Classified, Decision, Expect, Note, Outcome, Refusal, Reply,
    RuleOutcome, RuleStep, Ticket, TicketClose, TicketStatus, TicketUpdate, Trouble, TroubleKind,
    Value, Visibility,
};
pub use effects::{AutomaticLimits, MailFacts, OutgoingRoute, Outlets, Routes};
pub use event::{Event, EventKind, ItemDetail, ItemKind, ItemSnapshot};
pub use first_contact::Import;
pub use forwarded::forwarded;
pub use grants::{ActionKind, ActionKinds};
pub use identity::{InstallationSecret, MailIdentity, ServiceAlertIdentity};
pub use limits::{
    Grants, KEPT_GENERATION_BYTES, KEPT_GENERATIONS, LOADED_BYTES, Limits, StrikeLimits, TestLimits,
};
pub use links::{MAX_LINKS, links};
pub use mailbox::MailboxState;
pub use mailbox_policy::{
    MAILBOX_RULE, MailboxPolicy, NewTickets, RefusedSender, SenderPattern, SenderPolicy,
};
pub use message::{
    Address, Attachment, Attendee, AuthVerdict, Authentication, Calendar, Classification,
    DeliveryReport, FailedRecipient, Header, Link, Message, OverLimit,
};
pub use outgoing::{MailKind, OutgoingMail, bare_address};
pub use pairs::{MAX_PAIRS, pairs};
pub use parse::{
    NO_AUTHSERV_ID, ParseLimits, arrived_ms, attached_mail, message_id, parse, stated_times_ms,
    synthetic_message_id,
};
pub use position::Position;
pub use raw::{ContentHash, Cursor, RawMessage};
pub use receipt::{ExternalRef, Receipt};
pub use redact::Redactor;
pub use reply::{new_words, new_words_knowing, new_words_of_text, reply_html};
pub use thread::{
    ForeignNumbers, ReopenPolicy, ThreadQuery, Threading, ticket_name, ticket_number,
    ticket_numbers,
};
pub use thread_policy::{OutsiderPolicy, ThreadPolicy, UnverifiedPolicy};
pub use touches::Touches;
