//! IMAP mailboxes: their server, sign-in, folder and import.

use postroom_auth::{Need, Provider};

use super::mail_server::{read_at_server, read_folder};
use super::{AFTER_ON_SERVER, CheckedTarget, Identity, Place, Protocol, SourceConfig, spool};
use crate::reader::Section;
use crate::servers::{Ports, ServerProtocol};
use crate::{MailLogin, Server};

pub(super) const INBOX: &str = "INBOX";

pub static PROTOCOL: Protocol = Protocol {
    name: "imap",
    keys: &[
        "host", "port", "tls", "login", "profile", "password", "folder", "import",
    ],
    read,
    after: AFTER_ON_SERVER,
    marks: true,
    moves: true,
    check_target,
    need: Some(Need::Imap),
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = ServerProtocol {
    name: "IMAP",
    sign_in: "IMAP",
    // RFC 8314 section 3.2.
    ports: Ports {
        default: 993,
        implicit: 993,
        start_tls: 143,
        plain: 143,
    },
    starttls: "imap",
    url_key: None,
    permission: "IMAP.AccessAsUser.All",
    app_permission: "IMAP.AccessAsApp",
    exchange_switch: "-ImapEnabled $true",
    takes_passwords: false,
};

fn read(section: &Section, place: &Place) -> Option<SourceConfig> {
    section.misplaced(
        spool::PROTOCOL.keys,
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    section.misplaced(
        &["base_url"],
        "is a key of graph mailboxes",
        "remove it, or set protocol = \"graph\"",
    );
    let at_server = read_at_server(section, place, &SERVER, Provider::imap_host);
    let folder = read_folder(section, INBOX);
    let (server, login, import) = at_server?;
    Some(SourceConfig::Imap {
        server,
        login,
        folder: folder?,
        import,
    })
}

pub(super) fn check_target(source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    match source.and_then(SourceConfig::folder) {
        Some(folder) if folder == target || (is_inbox(folder) && is_inbox(target)) => Err((
            format!("moves mail to \"{target}\", the folder it is read from"),
            "name another folder, or use \"keep\"",
        )),
        _ => Ok(()),
    }
}

/// Returns the identity that no two mailboxes may share: one folder of one user.
pub fn identity(server: &Server, login: &MailLogin, folder: &str) -> Identity {
    let unique = if is_inbox(folder) { INBOX } else { folder };
    Identity {
        key: vec![
            server.host.clone(),
            login.user.to_lowercase(),
            unique.to_owned(),
        ],
        what: format!(
            "folder {folder} of {} on {} is read",
            login.user, server.host
        ),
        help: "read each folder by one mailbox only, or its mail is decided twice",
    }
}

/// Returns whether the folder is INBOX, in any case (RFC 9051 section 5.1).
fn is_inbox(folder: &str) -> bool {
    folder.eq_ignore_ascii_case(INBOX)
}
