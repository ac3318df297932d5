//! Where things go: one file or folder a kind of target, and [`Target`], by which the line delivers to any of them.

mod fault;
pub mod smtp;
pub mod webhook;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{Event, ExternalRef, OutgoingMail, Receipt};
use postroom_net::ProbeStep;

pub use fault::{Fault, Pace, Scope, Severity};

/// A system that deliveries go to. Tries of different entries may run side by side.
#[async_trait]
pub trait Target: Send + Sync {
    /// Tries once. A target that took the delivery in an earlier try recognises it by its idempotency key.
    async fn deliver(&self, delivery: Delivery<'_>) -> Attempt;

    /// Whether deliveries go one after the other, as over one connection.
    fn is_serial(&self) -> bool {
        false
    }

    /// Finds out whether the target can be reached, and delivers nothing. Each step is reported as it ends; a failed one is the
    /// last.
    async fn probe(&self, report: &mut (dyn FnMut(ProbeStep<Fault>) + Send));

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
        /// The mail that is forwarded.
        original: Option<Bytes>,
    },
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
