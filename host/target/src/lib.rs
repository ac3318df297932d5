//! Delivery targets: one folder per kind, and the [`Target`] trait through which the line delivers to any of them.

mod exchange;
mod fault;
mod mail;
pub mod smtp;
mod test_mail;
mod unanswered;
pub mod webhook;

use async_trait::async_trait;
use postroom_core::{Address, Event, ExternalRef, OutgoingMail, Receipt};
use postroom_exchange::ExchangeError;
use postroom_net::{FailedStep, ProbeStep, Step, Trace};

pub use exchange::{EwsTarget, EwsTargetSettings, GraphTarget, GraphTargetSettings};
pub use fault::{Fault, ProbeInterval, Scope, Severity};
pub use mail::MailAttachment;
pub use postroom_exchange::ews::EwsLimits;
pub use postroom_exchange::graph::GraphLimits;
use smtp::SendError;
use webhook::WebhookError;

/// A system that receives deliveries. Attempts for different entries may run concurrently.
#[async_trait]
pub trait Target: Send + Sync {
    /// Makes one attempt. A target that accepted the delivery in an earlier attempt recognises it by its idempotency key.
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt;

    /// Returns whether deliveries are sequential, as over a single connection.
    fn is_serial(&self) -> bool {
        false
    }

    /// Checks whether the target can be reached, and delivers nothing except `test`. Reports each step as it ends; a failed step
    /// is the last, unless there is another server to test.
    async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    );

    /// Records the conversation with the target from now on, without secrets and contents.
    fn set_trace(&mut self, _trace: Trace) {}

    /// Closes what is kept open.
    async fn close(&self) {}
}

/// One attempt to deliver an entry.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// The same on every attempt.
    pub idempotency_key: &'a str,
    pub content: Content<'a>,
    /// Whether an earlier attempt may have been accepted, perhaps by a process that has ended since.
    pub is_repeat: bool,
    /// The target's own reference for the ticket or alert that the delivery is about, if it gave one earlier.
    pub reference: Option<&'a ExternalRef>,
}

/// The content of a delivery.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    Event(&'a Event),
    Mail {
        mail: &'a OutgoingMail,
        /// Files sent with the mail, such as a forwarded mail.
        attachments: Vec<MailAttachment>,
    },
}

/// A probe's test delivery, which a person can see arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestDelivery {
    /// A short mail to this address.
    Mail(Address),
    /// An event of its own type, which concerns no item.
    Event,
}

/// The result of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    Delivered(Receipt),
    /// Delivered to some recipients, and still pending for the others.
    Partly {
        rest: Box<OutgoingMail>,
        receipt: String,
        problem: String,
    },
    Failed(Fault),
    /// No further attempt can succeed.
    Final(String),
}

/// Why a step of a probe failed: the target's own error, so that advice can distinguish the cases.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Smtp(#[from] SendError),
    /// The same for the alternate server, while the first one works.
    #[error("alternate host {host}: {error}")]
    Alternate { host: String, error: SendError },
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// The target does not support a test of this kind.
    #[error("{0}")]
    NoSuchTest(&'static str),
}

impl FailedStep for TargetError {
    fn failed_step(&self) -> Step {
        match self {
            TargetError::Smtp(error) | TargetError::Alternate { error, .. } => error.step(),
            TargetError::Exchange(error) => error.failed_step(),
            TargetError::Webhook(error) => error.failed_step(),
            TargetError::NoSuchTest(_) => Step::Send,
        }
    }
}
