//! The steps of a session with a server or a folder.

use std::fmt;

use serde::{Serialize, Serializer};

/// The current or failed part of a session. A probe reports one outcome per step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// Reading the settings, secrets included.
    Configuration,
    /// Opening the vault.
    Vault,
    /// Reaching the proxy, and its own connection to the server.
    Proxy,
    /// Resolving the host's name, and TCP.
    Connect,
    /// The TLS handshake, preceded by STARTTLS if required.
    Tls,
    /// The server's first line.
    Greeting,
    /// The client's introduction, such as EHLO.
    Hello,
    /// Obtaining an access token.
    Token,
    /// Signing in.
    Authenticate,
    /// Opening the folder.
    Select,
    /// Listing the contents of the mailbox.
    List,
    /// Reading mail.
    Fetch,
    /// Checking a folder that mail is moved to.
    Target,
    /// Marking, moving or deleting a mail after its decision.
    Acknowledge,
    /// Trying a mailbox that must not open.
    MustNotOpen,
    /// Waiting for new mail.
    Wait,
    /// Reading a stored cursor or position.
    Cursor,
    /// Reading a file of this machine.
    File,
    /// Making the folder on this machine.
    Folder,
    /// Making and removing a file in it.
    Write,
    /// Submitting a mail.
    Send,
    /// Ending the session.
    Close,
}

impl Step {
    /// Returns the step's name in errors, in listings and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Step::Configuration => "configuration",
            Step::Vault => "vault",
            Step::Proxy => "proxy",
            Step::Connect => "connect",
            Step::Tls => "tls",
            Step::Greeting => "greeting",
            Step::Hello => "hello",
            Step::Token => "token",
            Step::Authenticate => "authenticate",
            Step::Select => "select",
            Step::List => "list",
            Step::Fetch => "fetch",
            Step::Target => "target",
            Step::Acknowledge => "acknowledge",
            Step::MustNotOpen => "must-not-open",
            Step::Wait => "wait",
            Step::Cursor => "cursor",
            Step::File => "file",
            Step::Folder => "folder",
            Step::Write => "write",
            Step::Send => "send",
            Step::Close => "close",
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Step {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
