//! EWS mailboxes: the URL of Exchange Web Services, sign-in, impersonation, folder and import.

use postroom_auth::provider::CLOUDS;
use postroom_auth::{Need, Provider, Resource};
use postroom_net::TlsMode;

use super::{AFTER_ON_SERVER, Identity, Place, Protocol, SourceConfig, imap, mail_server, spool};
use crate::profiles::Signer;
use crate::reader::{Item, Section};
use crate::servers::{Ports, ServerProtocol, SignIn};
use crate::{Credential, MailLogin, Server};

const INBOX: &str = "INBOX";
const HTTPS: u16 = 443;
/// Microsoft's dates for Exchange Online.
pub(crate) const OFF_BY_DEFAULT: &str = "2026-10-01";
pub(crate) const RETIRED: &str = "2027-04-01";

pub static PROTOCOL: Protocol = Protocol {
    name: "ews",
    keys: &[
        "url",
        "host",
        "login",
        "profile",
        "password",
        "impersonation",
        "folder",
        "import",
    ],
    read,
    after: AFTER_ON_SERVER,
    marks: true,
    moves: true,
    check_target: imap::check_target,
    need: Some(Need::Ews),
    server: Some(&SERVER),
};

pub static SERVER: ServerProtocol = ServerProtocol {
    name: "EWS",
    sign_in: "EWS",
    ports: Ports {
        default: HTTPS,
        implicit: HTTPS,
        start_tls: HTTPS,
        plain: 80,
    },
    starttls: "",
    url_key: Some("url"),
    permission: "EWS.AccessAsUser.All",
    app_permission: "full_access_as_app",
    exchange_switch: "-EwsEnabled $true",
    takes_passwords: false,
};

/// The URL of a server's Exchange Web Services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EwsAddress {
    pub url: String,
    pub server: Server,
}

fn read(section: &Section, place: &Place) -> Option<SourceConfig> {
    let around = place.around;
    section.misplaced(
        spool::PROTOCOL.keys,
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    section.misplaced(
        &["port", "tls"],
        "is no key of EWS mailboxes",
        "write the port in the url, such as url = \"https://mail.example:8443/EWS/Exchange.asmx\"",
    );
    let sign_in = mail_server::read_sign_in(
        section,
        place,
        "add address = \"support@acme.example\", the address of the mailbox that is read",
        "add password = { env = \"NAME\" } for an Exchange server of your own, or profile = \"NAME\"",
    );
    let facts = sign_in.profile.as_ref().and_then(|it| around.facts.get(it));
    let address = read_address(section, &sign_in, facts.and_then(|it| it.provider));
    let is_application = facts.is_some_and(|it| it.signer == Some(Signer::Application));
    let impersonation = read_impersonation(section, is_application);
    if facts.is_some_and(|it| it.provider == Some(Provider::Google))
        && let Some(item) = section.item("profile")
    {
        item.problem(
            "is a Google profile, and Gmail has no EWS",
            "use protocol = \"imap\" for Gmail",
        );
        return None;
    }
    let is_online = address
        .as_ref()
        .is_some_and(|address| is_exchange_online(&address.server.host));
    if is_online
        && sign_in.profile.is_none()
        && let Some(item) = section.item("password")
    {
        item.problem(
            "is a password, and Exchange Online takes none for EWS",
            "sign in by OAuth: profile = \"NAME\"",
        );
        return None;
    }
    let login = mail_server::read_login(section, place, sign_in.way);
    mail_server::refuse_folders(section);
    let folder = mail_server::read_folder(section, INBOX);
    let import = mail_server::read_import(section);
    if is_online {
        warn_of_retirement(section, place, sign_in.profile.as_deref());
    }
    Some(SourceConfig::Ews {
        address: address?,
        login: for_ews(login?),
        mailbox: place.address?.to_owned(),
        impersonation: impersonation?,
        folder: folder?,
        import: import?,
    })
}

/// Makes the account request a token for EWS instead of IMAP.
pub(crate) fn for_ews(mut login: MailLogin) -> MailLogin {
    if let Credential::Account { resource, .. } = &mut login.credential {
        *resource = Resource::Ews;
    }
    login
}

/// Returns `url`, the usual URL on `host`, or that of the profile's provider.
pub(crate) fn read_address(
    section: &Section,
    sign_in: &SignIn,
    provider: Option<Provider>,
) -> Option<EwsAddress> {
    let host = match (section.item("url"), section.item("host")) {
        (Some(_), Some(item)) => {
            item.problem(
                "stands beside url; which of the two is meant?",
                "keep one of url and host",
            );
            return None;
        }
        (Some(item), None) => return read_url(&item),
        (None, Some(item)) => item.host()?,
        (None, None) => match provider {
            Some(Provider::Microsoft(cloud)) => cloud.mail_host.to_owned(),
            // A profile with problems is already reported; whether its URL is missing is unknown.
            None if sign_in.profile.is_some() => return None,
            _ => {
                section.missing(
                    "url",
                    "add url = \"https://mail.acme.example/EWS/Exchange.asmx\", or host = \"mail.acme.example\" where that is its path",
                );
                return None;
            }
        },
    };
    Some(EwsAddress {
        url: format!("https://{host}/EWS/Exchange.asmx"),
        server: Server {
            host,
            port: HTTPS,
            tls: TlsMode::Implicit,
        },
    })
}

fn read_url(item: &Item) -> Option<EwsAddress> {
    let url = item.url()?;
    let host = url.host_str()?.to_owned();
    if url.query().is_some() || url.fragment().is_some() || matches!(url.path(), "" | "/") {
        item.problem(
            "is not the address of Exchange Web Services",
            format!("mostly it is \"https://{host}/EWS/Exchange.asmx\""),
        );
        return None;
    }
    let tls = match url.scheme() {
        "https" => TlsMode::Implicit,
        _ => TlsMode::None,
    };
    Some(EwsAddress {
        server: Server {
            host,
            port: url.port_or_known_default().unwrap_or(HTTPS),
            tls,
        },
        url: url.to_string(),
    })
}

/// Reads whether the user who signs in acts as the mailbox's owner. An application always does.
pub(crate) fn read_impersonation(section: &Section, is_application: bool) -> Option<bool> {
    let Some(item) = section.item("impersonation") else {
        return Some(is_application);
    };
    let wanted = item.flag()?;
    if is_application && !wanted {
        item.problem(
            "is false, and an application has no mailbox of its own",
            "remove it: a profile with grant = \"client-credentials\" always impersonates the mailbox",
        );
        return None;
    }
    Some(wanted)
}

pub(crate) fn is_exchange_online(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "outlook.office.com" || CLOUDS.iter().any(|cloud| cloud.mail_host == host)
}

/// Warns that EWS ends, and shows what to write instead.
fn warn_of_retirement(section: &Section, place: &Place, profile: Option<&str>) {
    let Some(item) = section.item("protocol") else {
        return;
    };
    let mut lines = vec![
        format!("[{}]", section.path),
        format!("tenant = \"{}\"", place.tenant.unwrap_or("NAME")),
        "protocol = \"graph\"".into(),
    ];
    lines.extend(place.address.map(|it| format!("address = \"{it}\"")));
    lines.extend(profile.map(|it| format!("profile = \"{it}\"")));
    for key in ["login", "folder", "import"] {
        let text = section.item(key).and_then(|item| item.text());
        lines.extend(text.map(|text| format!("{key} = \"{text}\"")));
    }
    item.warning(
        format!(
            "\"ews\" is off by default at Exchange Online since {OFF_BY_DEFAULT}, and ends there on {RETIRED}"
        ),
        format!(
            "read the mailbox by Microsoft Graph, with the permission Mail.ReadWrite; the other keys stay:\n{}",
            lines.join("\n")
        ),
    );
}

/// Returns the identity that no two mailboxes may share: one folder of one mailbox.
pub fn identity(address: &EwsAddress, mailbox: &str, folder: &str) -> Identity {
    let unique = match folder.eq_ignore_ascii_case(INBOX) {
        true => INBOX,
        false => folder,
    };
    let host = &address.server.host;
    Identity {
        key: vec![
            "ews".into(),
            host.clone(),
            mailbox.to_lowercase(),
            unique.to_owned(),
        ],
        what: format!("folder {folder} of {mailbox} on {host} is read"),
        help: "read each folder by one mailbox only, or its mail is decided twice",
    }
}
