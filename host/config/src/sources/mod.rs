//! Where mailboxes get their mail: one file per protocol, with its keys and what advice must know of it.

mod imap;
mod spool;

pub use imap::SERVER as IMAP;

use std::path::{Path, PathBuf};

use postroom_auth::Need;
use postroom_core::{After, Import};

use super::mailboxes::Surroundings;
use super::reader::Section;
use super::servers::ServerProtocol;
use super::{MailLogin, Server};

/// Every protocol, in the order in which messages list them.
pub static PROTOCOLS: [&Protocol; 2] = [&imap::PROTOCOL, &spool::PROTOCOL];
/// Protocols that a later version will read.
pub const LATER: &[&str] = &["pop3", "graph", "ews"];
/// A person who looks into the mailbox finds unread what failed.
pub const AFTER_ON_SERVER: fn() -> (After, After) = || (After::Seen, After::Keep);

/// What the configuration and advice know about a protocol.
#[derive(Debug)]
pub struct Protocol {
    /// As `protocol` names it.
    pub name: &'static str,
    /// The keys of a mailbox that belong to the protocol.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section, &Place) -> Option<SourceConfig>,
    /// What becomes of a decided and of a failed mail unless `after` says otherwise.
    pub after: fn() -> (After, After),
    /// Whether mail can be marked as seen.
    pub marks: bool,
    /// Refuses a folder that mail cannot be moved to, with the problem and the help.
    pub check_target: fn(Option<&SourceConfig>, &str) -> CheckedTarget,
    /// What a token must allow; `None` without a sign-in.
    pub need: Option<Need>,
    /// `None` without a server.
    pub server: Option<&'static ServerProtocol>,
}

/// Whether mail can be moved to a folder; otherwise the problem and the help.
pub type CheckedTarget = Result<(), (String, &'static str)>;

/// What a protocol may need of the mailbox whose keys it reads.
pub(super) struct Place<'p> {
    pub tenant: Option<&'p str>,
    pub has_address: bool,
    /// `None` also for an address with a problem.
    pub address: Option<&'p str>,
    pub around: &'p Surroundings<'p>,
}

/// Where a mailbox's mail comes from.
#[derive(Debug, Clone)]
pub enum SourceConfig {
    Imap {
        server: Server,
        login: MailLogin,
        folder: String,
        import: Import,
    },
    Spool {
        path: PathBuf,
    },
}

/// What no two mailboxes may share: they would decide each mail twice.
pub struct Identity {
    pub key: Vec<String>,
    /// What the other mailbox does with it, up to "by NAME".
    pub what: String,
    pub help: &'static str,
}

impl SourceConfig {
    pub fn protocol(&self) -> &'static Protocol {
        match self {
            SourceConfig::Imap { .. } => &imap::PROTOCOL,
            SourceConfig::Spool { .. } => &spool::PROTOCOL,
        }
    }

    /// Returns the mail server; `None` for a folder of this machine.
    pub fn server(&self) -> Option<&Server> {
        match self {
            SourceConfig::Imap { server, .. } => Some(server),
            SourceConfig::Spool { .. } => None,
        }
    }

    /// Returns who signs in; `None` if nobody does.
    pub fn login(&self) -> Option<&MailLogin> {
        match self {
            SourceConfig::Imap { login, .. } => Some(login),
            SourceConfig::Spool { .. } => None,
        }
    }

    /// Returns the folder on the server.
    pub fn folder(&self) -> Option<&str> {
        match self {
            SourceConfig::Imap { folder, .. } => Some(folder),
            SourceConfig::Spool { .. } => None,
        }
    }

    /// Returns the folder of this machine that people may put mail files into.
    pub fn path(&self) -> Option<&Path> {
        match self {
            SourceConfig::Imap { .. } => None,
            SourceConfig::Spool { path } => Some(path),
        }
    }

    pub fn identity(&self) -> Identity {
        match self {
            SourceConfig::Imap {
                server,
                login,
                folder,
                ..
            } => imap::identity(server, login, folder),
            SourceConfig::Spool { path } => spool::identity(path),
        }
    }
}
