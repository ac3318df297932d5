//! IMAP mailboxes: their server, sign-in, folder and import.

use postroom_auth::{Need, Provider};
use postroom_core::Import;

use super::{AFTER_ON_SERVER, CheckedTarget, Identity, Place, Protocol, SourceConfig, spool};
use crate::mailboxes::{refuse_foreign, sound_folder};
use crate::reader::{Item, Section};
use crate::servers::{self, Ports, ServerProtocol, SignInService};
use crate::{MailLogin, Server};

const INBOX: &str = "INBOX";

pub static PROTOCOL: Protocol = Protocol {
    name: "imap",
    keys: &[
        "host", "port", "tls", "login", "profile", "password", "folder", "import",
    ],
    read,
    after: AFTER_ON_SERVER,
    marks: true,
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
    permission: "IMAP.AccessAsUser.All",
    app_permission: "IMAP.AccessAsApp",
    exchange_switch: "-ImapEnabled $true",
    takes_passwords: false,
};

fn read(section: &Section, place: &Place) -> Option<SourceConfig> {
    let around = place.around;
    section.misplaced(
        spool::PROTOCOL.keys,
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    if !place.has_address {
        section.missing(
            "address",
            "add address = \"support@acme.example\", by which its mail arrives",
        );
    }
    let sign_in = servers::read_sign_in(section, around.names);
    if let (Some(Some(_)) | None, Some(profile), Some(tenant)) =
        (&sign_in.way, &sign_in.profile, place.tenant)
        && let Some(item) = section.item("profile")
    {
        refuse_foreign(&item, profile, tenant, around);
    }
    if let Some(None) = sign_in.way {
        section.problem(
            "has neither profile nor password",
            "add profile = \"NAME\", or password = { env = \"NAME\" } where the server still allows it",
        );
    }
    let server = servers::read_server(
        section,
        &SERVER.ports,
        &sign_in,
        around.facts,
        Provider::imap_host,
    );
    let login = match sign_in.way {
        Some(Some(way)) => servers::read_login(
            section,
            way,
            SignInService::Mailbox,
            place.address,
            around.facts,
        ),
        // Known, but without meaning until there is a way to sign in.
        _ => {
            section.item("login");
            None
        }
    };
    let folder = match section.item("folder") {
        Some(item) => item.text().and_then(|text| sound_folder(&item, text)),
        None => Some(INBOX.into()),
    };
    let import = match section.item("import") {
        Some(item) => read_import(&item),
        None => Some(Import::New),
    };
    Some(SourceConfig::Imap {
        server: server?,
        login: login?,
        folder: folder?,
        import: import?,
    })
}

fn read_import(item: &Item) -> Option<Import> {
    let text = item.text()?;
    match text {
        "new" => return Some(Import::New),
        "all" => return Some(Import::All),
        _ => {}
    }
    let since = text
        .strip_prefix("since:")
        .and_then(|date| date.parse().ok());
    if since.is_none() {
        item.problem(
            format!("\"{text}\" is not known"),
            "use \"new\", \"all\" or \"since:2026-01-31\"",
        );
    }
    since.map(Import::Since)
}

fn check_target(source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    match source.and_then(SourceConfig::folder) {
        Some(folder) if folder == target || (is_inbox(folder) && is_inbox(target)) => Err((
            format!("moves mail to \"{target}\", the folder it is read from"),
            "name another folder, or use \"keep\"",
        )),
        _ => Ok(()),
    }
}

/// Returns what no two mailboxes may share: one folder of one user.
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

/// INBOX is one folder in any case (RFC 9051 section 5.1).
fn is_inbox(folder: &str) -> bool {
    folder.eq_ignore_ascii_case(INBOX)
}
