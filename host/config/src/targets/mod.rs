//! Delivery targets: one file per kind, with its keys and what advice needs to know about it.

mod ews;
mod graph;
mod smtp;
mod webhook;

pub use ews::EwsOutgoing;
pub use graph::GraphOutgoing;
pub use smtp::{SERVER as SUBMISSION, SmtpConfig};
pub use webhook::WebhookConfig;

use postroom_auth::Need;
use postroom_core::Address;

use super::profiles::AllProfileFacts;
use super::reader::Section;
use super::servers::{ServerProtocol, SignIn};
use super::{MailLogin, Server};

/// Every kind of sink, in the order in which messages list them.
pub static SINK_KINDS: [&SinkKind; 1] = [&webhook::KIND];
/// Kinds of sinks that a later version will support.
pub const LATER_SINK_KINDS: &[&str] = &["http", "request-tracker", "alertmanager", "email"];
/// Every protocol for outgoing mail, in the order in which messages list them.
pub static OUTGOING_PROTOCOLS: [&OutgoingProtocol; 3] =
    [&smtp::PROTOCOL, &graph::PROTOCOL, &ews::PROTOCOL];

/// A kind of sink, as seen by the configuration.
#[derive(Debug)]
pub struct SinkKind {
    /// The value of `kind`.
    pub name: &'static str,
    /// The keys of a sink that are specific to the kind.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section) -> Option<SinkConfig>,
}

/// A protocol for outgoing mail, as seen by the configuration and by advice.
#[derive(Debug)]
pub struct OutgoingProtocol {
    /// The value of `protocol`.
    pub name: &'static str,
    /// The keys of an outgoing that are specific to the protocol.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section, &OutgoingPlace) -> Option<OutgoingConfig>,
    /// `None` for a protocol without a mail server.
    pub server: Option<&'static ServerProtocol>,
}

/// The parts of an outgoing that a protocol may need when it reads its keys.
pub(super) struct OutgoingPlace<'p> {
    /// Profile or password.
    pub sign_in: SignIn,
    /// `None` also for an address that has a problem.
    pub from: Option<&'p Address>,
    pub facts: &'p AllProfileFacts,
}

/// The kind-specific configuration of a sink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SinkConfig {
    Webhook(WebhookConfig),
}

/// The protocol-specific configuration of an outgoing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutgoingConfig {
    Smtp(SmtpConfig),
    Graph(GraphOutgoing),
    Ews(EwsOutgoing),
}

impl OutgoingConfig {
    pub fn protocol(&self) -> &'static OutgoingProtocol {
        match self {
            OutgoingConfig::Smtp(_) => &smtp::PROTOCOL,
            OutgoingConfig::Graph(_) => &graph::PROTOCOL,
            OutgoingConfig::Ews(_) => &ews::PROTOCOL,
        }
    }

    /// Returns the mail server, or `None` for a protocol without one.
    pub fn server(&self) -> Option<&Server> {
        match self {
            OutgoingConfig::Smtp(smtp) => Some(&smtp.server),
            OutgoingConfig::Graph(graph) => Some(&graph.server),
            OutgoingConfig::Ews(ews) => Some(&ews.address.server),
        }
    }

    /// Returns the login, or `None` without a sign-in.
    pub fn login(&self) -> Option<&MailLogin> {
        match self {
            OutgoingConfig::Smtp(smtp) => smtp.login.as_ref(),
            OutgoingConfig::Graph(graph) => Some(&graph.login),
            OutgoingConfig::Ews(ews) => Some(&ews.login),
        }
    }

    /// Returns the address of the mailbox that sends, for a protocol that sends from one.
    pub fn mailbox(&self) -> Option<&str> {
        match self {
            OutgoingConfig::Smtp(_) => None,
            OutgoingConfig::Graph(graph) => Some(&graph.login.user),
            OutgoingConfig::Ews(ews) => Some(&ews.mailbox),
        }
    }

    /// Returns the permissions that a token needs.
    pub fn needs(&self) -> Vec<Need> {
        match self {
            OutgoingConfig::Smtp(_) => vec![Need::Smtp],
            OutgoingConfig::Graph(graph) => graph.needs(),
            OutgoingConfig::Ews(_) => vec![Need::Ews],
        }
    }
}
