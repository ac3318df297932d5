//! Where things go: one file per kind of target, with its keys and what advice must know of it.

mod smtp;
mod webhook;

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
/// Kinds of sinks that a later version will read.
pub const LATER_SINK_KINDS: &[&str] = &["http", "request-tracker", "alertmanager", "email"];
/// Every protocol that mail leaves by, in the order in which messages list them.
pub static OUTGOING_PROTOCOLS: [&OutgoingProtocol; 1] = [&smtp::PROTOCOL];
/// Protocols of outgoings that a later version will read.
pub const LATER_OUTGOING_PROTOCOLS: &[&str] = &["graph", "ews"];

/// A kind of sink, as the configuration knows it.
#[derive(Debug)]
pub struct SinkKind {
    /// As `kind` names it.
    pub name: &'static str,
    /// The keys of a sink that belong to the kind.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section) -> Option<SinkConfig>,
}

/// A protocol that mail leaves by, as the configuration and advice know it.
#[derive(Debug)]
pub struct OutgoingProtocol {
    /// As `protocol` names it.
    pub name: &'static str,
    /// The keys of an outgoing that belong to the protocol.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section, &OutgoingPlace) -> Option<OutgoingConfig>,
    /// The permission that a token needs; `None` without a sign-in.
    pub need: Option<Need>,
    /// `None` without a mail server.
    pub server: Option<&'static ServerProtocol>,
}

/// The part of an outgoing that a protocol may need when it reads its keys.
pub(super) struct OutgoingPlace<'p> {
    /// Profile or password.
    pub sign_in: SignIn,
    /// `None` also for an address with a problem.
    pub from: Option<&'p Address>,
    pub facts: &'p AllProfileFacts,
}

/// How a sink is delivered to.
#[derive(Debug, Clone)]
pub enum SinkConfig {
    Webhook(WebhookConfig),
}

/// How the mail of an outgoing leaves.
#[derive(Debug, Clone)]
pub enum OutgoingConfig {
    Smtp(SmtpConfig),
}

impl OutgoingConfig {
    pub fn protocol(&self) -> &'static OutgoingProtocol {
        match self {
            OutgoingConfig::Smtp(_) => &smtp::PROTOCOL,
        }
    }

    /// Returns the mail server; `None` for a protocol without one.
    pub fn server(&self) -> Option<&Server> {
        match self {
            OutgoingConfig::Smtp(smtp) => Some(&smtp.server),
        }
    }

    /// Returns who signs in; `None` if nobody does.
    pub fn login(&self) -> Option<&MailLogin> {
        match self {
            OutgoingConfig::Smtp(smtp) => smtp.login.as_ref(),
        }
    }
}
