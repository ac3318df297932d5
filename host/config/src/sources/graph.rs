//! Microsoft Graph mailboxes: their cloud or URL, sign-in, folder and import.

use postroom_auth::{Need, Provider};
use postroom_net::TlsMode;
use url::Url;

use super::{AFTER_ON_SERVER, CheckedTarget, Identity, Place, Protocol, SourceConfig, mail_server};
use crate::mailboxes::refuse_foreign;
use crate::profiles::AllProfileFacts;
use crate::reader::{Item, Section};
use crate::servers::{self, CredentialKind, Ports, ServerProtocol, SignInService};
use crate::{Credential, MailLogin, Server};

const INBOX: &str = "INBOX";
const HTTPS: u16 = 443;

pub static PROTOCOL: Protocol = Protocol {
    name: "graph",
    keys: &["base_url", "login", "profile", "folder", "import"],
    read,
    after: AFTER_ON_SERVER,
    marks: true,
    moves: true,
    check_target,
    need: Some(Need::Graph),
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = with_permission("Mail.ReadWrite");

/// Returns Graph as a server, for a purpose that needs this permission, delegated or of the application.
pub(crate) const fn with_permission(permission: &'static str) -> ServerProtocol {
    ServerProtocol {
        name: "Graph",
        sign_in: "Microsoft Graph",
        ports: Ports {
            default: HTTPS,
            implicit: HTTPS,
            start_tls: HTTPS,
            plain: 80,
        },
        starttls: "",
        url_key: Some("base_url"),
        permission,
        app_permission: permission,
        exchange_switch: "",
        takes_passwords: false,
    }
}

fn read(section: &Section, place: &Place) -> Option<SourceConfig> {
    let around = place.around;
    section.misplaced(
        &["host", "port", "tls"],
        "has no meaning for a graph mailbox",
        "remove it; the profile's cloud has one address, and base_url names another",
    );
    section.misplaced(
        &["path"],
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    mail_server::refuse_folders(section);
    section.misplaced(
        &["password"],
        "is not how Graph is signed in to",
        "remove it, and add profile = \"NAME\"",
    );
    if !place.has_address {
        section.missing(
            "address",
            "add address = \"support@acme.example\", the mailbox that is opened",
        );
    }
    let profile_item = section.required(
        "profile",
        "add profile = \"NAME\"; Graph is signed in to by OAuth only",
    );
    let profile = profile_item
        .as_ref()
        .and_then(|item| item.reference("profile", "profiles", &around.names.profiles));
    if let (Some(item), Some(profile), Some(tenant)) = (&profile_item, &profile, place.tenant) {
        refuse_foreign(item, profile, tenant, around);
    }
    let base = read_base(
        section,
        profile_item.as_ref(),
        profile.as_deref(),
        around.facts,
        "imap",
    );
    let resolved = profile_item
        .as_ref()
        .zip(profile)
        .and_then(|(item, profile)| around.names.directories.resolve(section, item, profile));
    let login = match resolved {
        Some(profile) => servers::read_login(
            section,
            CredentialKind::Profile(profile),
            SignInService::Graph,
            place.address,
            around.facts,
        ),
        // Known, but without effect until there is a way to sign in.
        None => {
            section.item("login");
            None
        }
    };
    let folder = mail_server::read_folder(section, INBOX);
    let import = mail_server::read_import(section);
    let base = base?;
    Some(SourceConfig::Graph {
        server: server(&base)?,
        base,
        login: login?,
        folder: folder?,
        import: import?,
    })
}

/// Returns the URL of the service, including its version: the configured one, or that of the profile's cloud. `at_google` is the
/// protocol that a Google profile needs in its place.
pub(crate) fn read_base(
    section: &Section,
    profile_item: Option<&Item>,
    profile: Option<&str>,
    facts: &AllProfileFacts,
    at_google: &str,
) -> Option<Url> {
    let written = section.item("base_url").map(|item| item.url());
    let profile = profile?;
    // A profile with problems is already reported.
    let provider = facts.get(profile)?.provider?;
    match (written, provider) {
        (_, Provider::Google) => {
            if let Some(item) = profile_item {
                item.problem(
                    format!("profile \"{profile}\" is of google, and Graph is Microsoft's"),
                    format!("name a profile with provider = \"microsoft\", or set protocol = \"{at_google}\""),
                );
            }
            None
        }
        (Some(written), _) => written,
        (None, Provider::Microsoft(cloud)) => {
            Url::parse(&format!("https://{}/v1.0", cloud.graph_host)).ok()
        }
        (None, Provider::Custom) => {
            section.missing(
                "base_url",
                "add base_url = \"https://…/v1.0\"; provider \"custom\" has no known one",
            );
            None
        }
    }
}

/// Returns the server in the form that advice and listings use.
pub(crate) fn server(base: &Url) -> Option<Server> {
    Some(Server {
        host: base.host_str()?.to_owned(),
        port: base.port_or_known_default()?,
        tls: match base.scheme() {
            "https" => TlsMode::Implicit,
            _ => TlsMode::None,
        },
    })
}

fn check_target(source: Option<&SourceConfig>, target: &str) -> CheckedTarget {
    match source.map(SourceConfig::folders) {
        // Folder names on Exchange are case-insensitive beyond ASCII.
        Some([folder]) if folder.to_lowercase() == target.to_lowercase() => Err((
            format!("moves mail to \"{target}\", the folder it is read from"),
            "name another folder, or use \"keep\"",
        )),
        _ => Ok(()),
    }
}

/// Returns the permission that a token needs: opening another user's mailbox requires a separate permission.
pub fn need(login: &MailLogin) -> Need {
    match is_shared(login) {
        true => Need::GraphShared,
        false => Need::Graph,
    }
}

/// Returns whether the mailbox is another's than that of the user who signs in.
pub(crate) fn is_shared(login: &MailLogin) -> bool {
    let account = match &login.credential {
        Credential::Account { account, .. } => account.login.as_deref(),
        Credential::Password(_) | Credential::Unavailable(_) => None,
    };
    account.is_some_and(|account| !account.eq_ignore_ascii_case(&login.user))
}

/// Returns the identity that no two mailboxes may share: one folder of one user.
pub fn identity(server: &Server, login: &MailLogin, folder: &str) -> Identity {
    Identity {
        key: vec![
            PROTOCOL.name.to_owned(),
            server.host.clone(),
            login.user.to_lowercase(),
            folder.to_lowercase(),
        ],
        what: format!("folder {folder} of {} at Graph is read", login.user),
        help: "read each folder by one mailbox only, or its mail is decided twice",
    }
}
