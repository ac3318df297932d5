//! Where things go: one folder a kind of target, and [`Target`], by which the line delivers to any of them.

mod fault;
mod mail;
pub mod smtp;
pub mod webhook;

use async_trait::async_trait;
use postroom_core::{Address, Event, ExternalRef, OutgoingMail, Receipt};
use postroom_net::{FailedStep, ProbeStep, Step, Trace};

pub use fault::{Fault, ProbeInterval, Scope, Severity};
pub use mail::MailAttachment;
use smtp::SendError;
use webhook::WebhookError;

/// A system that deliveries go to. Tries of different entries may run side by side.
#[async_trait]
pub trait Target: Send + Sync {
    /// Tries once. A target that took the delivery in an earlier try recognises it by its idempotency key.
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt;

    /// Whether deliveries go one after the other, as over one connection.
    fn is_serial(&self) -> bool {
        false
    }

    /// Finds out whether the target can be reached, and delivers nothing but `test`. Each step is reported as it ends; a failed one
    /// is the last.
    async fn probe(
        &self,
        test: Option<&TestDelivery>,
        report: &mut (dyn FnMut(ProbeStep<TargetError>) + Send),
    );

    /// Records the conversation with the target from now on, without secrets and contents.
    fn set_trace(&mut self, _trace: Trace) {}

    /// Ends what is kept open.
    async fn close(&self) {}
}

/// One try of one entry.
#[derive(Debug, Clone)]
pub struct Delivery<'a> {
    /// The same on every try.
    pub idempotency_key: &'a str,
    pub content: Content<'a>,
    /// What this target calls the ticket or alert that the delivery is about, if it said so earlier.
    pub reference: Option<&'a ExternalRef>,
}

/// What is delivered.
#[derive(Debug, Clone)]
pub enum Content<'a> {
    Event(&'a Event),
    Mail {
        mail: &'a OutgoingMail,
        /// Such as the mail that is forwarded.
        attachments: Vec<MailAttachment>,
    },
}

/// A delivery of a probe, so that a person sees it arrive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TestDelivery {
    /// A short mail to this address.
    Mail(Address),
    /// An event of a type of its own, which is about no item.
    Event,
}

/// How one try ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Attempt {
    Delivered(Receipt),
    /// Delivered to some recipients, and owed to the others still.
    Partly {
        rest: Box<OutgoingMail>,
        receipt: String,
        problem: String,
    },
    Failed(Fault),
    /// No other try can help.
    Final(String),
}

/// Why a step of a probe failed: the error of the target itself, so that advice can tell the cases apart.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Smtp(#[from] SendError),
    /// The same of the alternate server, while the first one works.
    #[error("alternate host {host}: {error}")]
    Alternate { host: String, error: SendError },
    #[error(transparent)]
    Webhook(#[from] WebhookError),
    /// A test of this kind is for other targets.
    #[error("{0}")]
    NoSuchTest(&'static str),
}

impl FailedStep for TargetError {
    fn failed_step(&self) -> Step {
        match self {
            TargetError::Smtp(error) | TargetError::Alternate { error, .. } => error.step(),
            TargetError::Webhook(error) => error.failed_step(),
            TargetError::NoSuchTest(_) => Step::Send,
        }
    }
}
