//! Sources of mailboxes: one file per protocol, with its keys and the facts that advice needs.

pub(crate) mod ews;
pub(crate) mod graph;
mod imap;
mod mail_server;
mod pop3;
mod spool;

pub use ews::{EwsAddress, SERVER as EWS};
pub use graph::SERVER as GRAPH;
pub use imap::SERVER as IMAP;
pub use pop3::SERVER as POP3;

use std::path::{Path, PathBuf};

use postroom_auth::Need;
use postroom_core::{After, Import};
use url::Url;

use super::mailboxes::Surroundings;
use super::reader::Section;
use super::servers::ServerProtocol;
use super::{Credential, MailLogin, Server};

/// Every protocol, in the order in which messages list them.
pub static PROTOCOLS: [&Protocol; 5] = [
    &imap::PROTOCOL,
    &pop3::PROTOCOL,
    &graph::PROTOCOL,
    &ews::PROTOCOL,
    &spool::PROTOCOL,
];
/// Protocols that a later version will support.
pub const LATER: &[&str] = &[];
/// Failed mail stays unread, so that a person who looks into the mailbox notices it.
pub const AFTER_ON_SERVER: fn() -> (After, After) = || (After::Seen, After::Keep);

/// The facts about a protocol, for configuration and advice.
#[derive(Debug)]
pub struct Protocol {
    /// The value of `protocol`.
    pub name: &'static str,
    /// The keys of a mailbox that are specific to the protocol.
    pub keys: &'static [&'static str],
    /// Reads these keys.
    pub(super) read: fn(&Section, &Place) -> Option<SourceConfig>,
    /// The default handling of a decided and of a failed mail, without `after`.
    pub after: fn() -> (After, After),
    /// Whether mail can be marked as seen.
    pub marks: bool,
    /// Whether mail can be moved to another folder.
    pub moves: bool,
    /// Refuses a folder that mail cannot be moved to, with the problem and the help.
    pub check_target: fn(Option<&SourceConfig>, &str) -> CheckedTarget,
    /// The permission that its tokens need, or `None` without a sign-in.
    pub need: Option<Need>,
    /// `None` for a protocol without a server.
    pub server: Option<&'static ServerProtocol>,
}

/// The result of checking whether mail can be moved to a folder: otherwise the problem and the help.
pub type CheckedTarget = Result<(), (String, &'static str)>;

/// The settings of a mailbox that a protocol may need to read its own keys.
pub(super) struct Place<'p> {
    pub tenant: Option<&'p str>,
    pub has_address: bool,
    /// `None` also for an address that has a problem.
    pub address: Option<&'p str>,
    pub around: &'p Surroundings<'p>,
}

/// The source of a mailbox's mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceConfig {
    Imap {
        server: Server,
        login: MailLogin,
        /// At least one; the first is watched for new mail.
        folders: Vec<String>,
        import: Import,
    },
    Pop3 {
        server: Server,
        login: MailLogin,
        import: Import,
    },
    Graph {
        server: Server,
        /// Including the version.
        base: Url,
        login: MailLogin,
        folder: String,
        import: Import,
    },
    Spool {
        path: PathBuf,
    },
    Ews {
        address: EwsAddress,
        login: MailLogin,
        /// The address of the mailbox that is opened.
        mailbox: String,
        impersonation: bool,
        folder: String,
        import: Import,
    },
}

/// The identity that no two mailboxes may share, since they would decide each mail twice.
pub struct Identity {
    pub key: Vec<String>,
    /// The other mailbox's use of it, up to "by NAME".
    pub what: String,
    pub help: &'static str,
}

impl SourceConfig {
    pub fn protocol(&self) -> &'static Protocol {
        match self {
            SourceConfig::Imap { .. } => &imap::PROTOCOL,
            SourceConfig::Pop3 { .. } => &pop3::PROTOCOL,
            SourceConfig::Graph { .. } => &graph::PROTOCOL,
            SourceConfig::Spool { .. } => &spool::PROTOCOL,
            SourceConfig::Ews { .. } => &ews::PROTOCOL,
        }
    }

    /// Returns the mail server, or `None` for a folder on this machine.
    pub fn server(&self) -> Option<&Server> {
        match self {
            SourceConfig::Imap { server, .. }
            | SourceConfig::Pop3 { server, .. }
            | SourceConfig::Graph { server, .. } => Some(server),
            SourceConfig::Spool { .. } => None,
            SourceConfig::Ews { address, .. } => Some(&address.server),
        }
    }

    /// Returns the login, or `None` without a sign-in.
    pub fn login(&self) -> Option<&MailLogin> {
        match self {
            SourceConfig::Imap { login, .. }
            | SourceConfig::Pop3 { login, .. }
            | SourceConfig::Graph { login, .. } => Some(login),
            SourceConfig::Spool { .. } => None,
            SourceConfig::Ews { login, .. } => Some(login),
        }
    }

    /// Returns the permission that a token for this mailbox needs, or `None` without a sign-in.
    pub fn need(&self) -> Option<Need> {
        match self {
            SourceConfig::Graph { login, .. } => Some(graph::need(login)),
            SourceConfig::Imap { .. }
            | SourceConfig::Pop3 { .. }
            | SourceConfig::Ews { .. }
            | SourceConfig::Spool { .. } => self.protocol().need,
        }
    }

    /// Returns the same source for another mailbox, opened by the same account, or `None` without an account whose tokens may
    /// open several mailboxes.
    pub fn for_mailbox(&self, address: &str) -> Option<Self> {
        if let Credential::Password(_) = self.login()?.credential {
            return None;
        }
        let mut other = self.clone();
        let opened = match &mut other {
            SourceConfig::Imap { login, .. }
            | SourceConfig::Pop3 { login, .. }
            | SourceConfig::Graph { login, .. } => &mut login.user,
            SourceConfig::Ews { mailbox, .. } => mailbox,
            SourceConfig::Spool { .. } => return None,
        };
        address.clone_into(opened);
        Some(other)
    }

    /// Returns the folders on the server that are read.
    pub fn folders(&self) -> &[String] {
        match self {
            SourceConfig::Imap { folders, .. } => folders,
            SourceConfig::Graph { folder, .. } | SourceConfig::Ews { folder, .. } => {
                std::slice::from_ref(folder)
            }
            SourceConfig::Pop3 { .. } | SourceConfig::Spool { .. } => &[],
        }
    }

    /// Returns the folder on this machine that people may put mail files into.
    pub fn path(&self) -> Option<&Path> {
        match self {
            SourceConfig::Imap { .. } | SourceConfig::Pop3 { .. } | SourceConfig::Graph { .. } => {
                None
            }
            SourceConfig::Spool { path } => Some(path),
            SourceConfig::Ews { .. } => None,
        }
    }

    /// Returns what no other mailbox may read.
    pub fn identities(&self) -> Vec<Identity> {
        vec![match self {
            SourceConfig::Imap {
                server,
                login,
                folders,
                ..
            } => {
                let folders = folders.iter();
                return folders
                    .map(|folder| imap::identity(server, login, folder))
                    .collect();
            }
            SourceConfig::Graph {
                server,
                login,
                folder,
                ..
            } => graph::identity(server, login, folder),
            SourceConfig::Pop3 { server, login, .. } => pop3::identity(server, login),
            SourceConfig::Spool { path } => spool::identity(path),
            SourceConfig::Ews {
                address,
                mailbox,
                folder,
                ..
            } => ews::identity(address, mailbox, folder),
        }]
    }
}
