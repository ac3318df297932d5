//! POP3 mailboxes: their server, sign-in and import.

use postroom_auth::{Need, Provider};
use postroom_core::After;

use super::imap::{self, INBOX};
use super::mail_server::read_at_server;
use super::{CheckedTarget, Identity, Place, Protocol, SourceConfig, spool};
use crate::reader::Section;
use crate::servers::{Ports, ServerProtocol};
use crate::{MailLogin, Server};

pub static PROTOCOL: Protocol = Protocol {
    name: "pop3",
    keys: &[
        "host", "port", "tls", "login", "profile", "password", "import",
    ],
    read,
    after: || (After::Keep, After::Keep),
    marks: false,
    moves: false,
    check_target,
    need: Some(Need::Pop),
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = ServerProtocol {
    name: "POP3",
    sign_in: "POP3",
    // RFC 8314 section 3.2.
    ports: Ports {
        default: 995,
        implicit: 995,
        start_tls: 110,
        plain: 110,
    },
    starttls: "pop3",
    url_key: None,
    permission: "POP.AccessAsUser.All",
    app_permission: "POP.AccessAsApp",
    exchange_switch: "-PopEnabled $true",
    takes_passwords: false,
};

fn read(section: &Section, place: &Place) -> Option<SourceConfig> {
    section.misplaced(
        spool::PROTOCOL.keys,
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    section.misplaced(
        &["folder", "folders"],
        "has no meaning for POP3, which reads the inbox alone",
        "remove it, or set protocol = \"imap\"",
    );
    let (server, login, import) = read_at_server(section, place, &SERVER, Provider::pop_host)?;
    Some(SourceConfig::Pop3 {
        server,
        login,
        import,
    })
}

fn check_target(_source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    Err((
        format!("\"move:{target}\" has no meaning for POP3, which has no folders"),
        "use \"keep\" or \"delete\", or set protocol = \"imap\"",
    ))
}

/// Returns the identity that no two mailboxes may share: the inbox of one user, whatever the protocol.
pub fn identity(server: &Server, login: &MailLogin) -> Identity {
    Identity {
        what: format!("the inbox of {} on {} is read", login.user, server.host),
        ..imap::identity(server, login, INBOX)
    }
}
