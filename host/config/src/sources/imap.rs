//! IMAP mailboxes: their server, sign-in, folder and import.

use postroom_auth::{Need, Provider};

use super::mail_server::{read_at_server, read_folder};
use super::{AFTER_ON_SERVER, CheckedTarget, Identity, Place, Protocol, SourceConfig, spool};
use crate::mailboxes::sound_folder;
use crate::reader::Section;
use crate::servers::{Ports, ServerProtocol};
use crate::{MailLogin, Server};

pub(super) const INBOX: &str = "INBOX";

pub static PROTOCOL: Protocol = Protocol {
    name: "imap",
    keys: &[
        "host", "port", "tls", "login", "profile", "password", "folder", "folders", "import",
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
    let folders = read_folders(section);
    let (server, login, import) = at_server?;
    Some(SourceConfig::Imap {
        server,
        login,
        folders: folders?,
        import,
    })
}

/// The most folders of a mailbox. One session reads them in turn, and the cursor may hold 2.5 KB for each.
const FOLDERS_MAX: usize = 32;

/// Reads the folders from `folders`, or the one of `folder`; without either it is INBOX.
fn read_folders(section: &Section) -> Option<Vec<String>> {
    let Some(item) = section.item("folders") else {
        return read_folder(section, INBOX).map(|folder| vec![folder]);
    };
    if section.item("folder").is_some() {
        item.problem(
            "cannot be used together with folder",
            "name all folders in folders, and remove folder",
        );
        return None;
    }
    let folders = item.each(|item| sound_folder(item, item.text()?))?;
    let inboxes = folders.iter().filter(|folder| is_inbox(folder)).count();
    let problem = match folders.len() {
        _ if inboxes > 1 => "names INBOX twice: it is the same folder in any case".into(),
        count if count > FOLDERS_MAX => format!("names {count} folders, more than {FOLDERS_MAX}"),
        _ => return Some(folders),
    };
    item.problem(problem, "name the folders that customers' mail reaches");
    None
}

pub(super) fn check_target(source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    let folders = source.map_or(&[][..], SourceConfig::folders);
    let is_target = |it: &String| it == target || (is_inbox(it) && is_inbox(target));
    if !folders.iter().any(is_target) {
        return Ok(());
    }
    let problem = match folders.len() {
        1 => format!("moves mail to \"{target}\", the folder it is read from"),
        _ => format!("moves mail to \"{target}\", one of the folders that are read"),
    };
    Err((problem, "name another folder, or use \"keep\""))
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
