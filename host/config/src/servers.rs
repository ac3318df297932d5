//! Reads the settings common to mail servers: host, port, TLS, and sign-in.

use postroom_auth::{Account, Provider, Resource, Secret};
use postroom_net::{TlsMode, is_loopback};

use super::problem::Ready;
use super::profiles::{AllProfileFacts, Signer};
use super::reader::{Item, Section};
use super::{Credential, MailLogin, Names, Server};

/// The facts about a protocol with servers, for configuration and advice.
#[derive(Debug)]
pub struct ServerProtocol {
    /// The protocol's name in messages about ports.
    pub name: &'static str,
    /// The providers' term for signing in with it.
    pub sign_in: &'static str,
    pub ports: Ports,
    /// Its name for `openssl s_client -starttls`.
    pub starttls: &'static str,
    /// The key of the whole address, for a protocol that has it in place of host and port.
    pub url_key: Option<&'static str>,
    /// The permission at Microsoft that a user consents to.
    pub permission: &'static str,
    /// The permission at Microsoft for an application.
    pub app_permission: &'static str,
    /// The option of `Set-CASMailbox` that enables it for a mailbox.
    pub exchange_switch: &'static str,
    /// Whether Exchange Online accepts passwords for some mailboxes.
    pub takes_passwords: bool,
}

/// The usual ports of a protocol.
#[derive(Debug)]
pub struct Ports {
    /// The port if the configuration sets neither port nor TLS.
    pub default: u16,
    pub implicit: u16,
    pub start_tls: u16,
    pub plain: u16,
}

const IMPLICIT_PORTS: &[u16] = &[993, 995, 465];
const START_TLS_PORTS: &[u16] = &[143, 110, 587];

/// The sign-in of a section.
pub struct SignIn {
    /// The profile's name, even if the profile has problems.
    pub profile: Option<String>,
    /// The outer `None` means that a problem was reported, the inner one that there is no credential.
    pub way: Option<Option<CredentialKind>>,
}

/// The kind of credential.
#[derive(Clone)]
pub enum CredentialKind {
    /// A profile, by name.
    Profile(String),
    Password(Ready<Secret>),
}

/// The kind of service that is signed in to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SignInService {
    /// A mailbox, which may be opened by another user than its owner.
    Mailbox,
    /// A mailbox at Microsoft Graph is opened: each request names it.
    Graph,
    /// Submission of mail; the user who signs in is the login.
    Submission,
}

/// Reads host, port and TLS. `known_host` returns the provider's host, for a section that signs in with a profile.
pub fn read_server(
    section: &Section,
    ports: &Ports,
    sign_in: &SignIn,
    facts: &AllProfileFacts,
    known_host: fn(Provider) -> Option<&'static str>,
) -> Option<Server> {
    let host = match (section.item("host"), &sign_in.profile) {
        (Some(item), _) => item.host(),
        (None, Some(profile)) => {
            // A profile with problems is already reported; whether its host is missing is unknown.
            let host = known_host(facts.get(profile)?.provider?);
            if host.is_none() {
                section.missing(
                    "host",
                    "add host = \"…\"; provider \"custom\" has no known one",
                );
            }
            host.map(str::to_owned)
        }
        (None, None) => {
            section.missing("host", "add host = \"…\", the server's name");
            None
        }
    };
    let port_item = section.item("port");
    let tls_item = section.item("tls");
    let tls = tls_item.as_ref().map(|item| {
        item.choice(
            &[TlsMode::Implicit, TlsMode::StartTls, TlsMode::None].map(|mode| (mode.name(), mode)),
            &[],
        )
    });
    let port = port_item.as_ref().map(Item::port);
    let (port, tls) = match (port, tls) {
        (Some(port), Some(tls)) => (port?, tls?),
        (None, Some(tls)) => {
            let tls = tls?;
            let port = match tls {
                TlsMode::Implicit => ports.implicit,
                TlsMode::StartTls => ports.start_tls,
                TlsMode::None => ports.plain,
            };
            (port, tls)
        }
        (Some(port), None) => {
            let port = port?;
            let Some(tls) = tls_of(port) else {
                section.missing(
                    "tls",
                    &format!("add tls = \"implicit\" or \"starttls\": port {port} does not tell"),
                );
                return None;
            };
            (port, tls)
        }
        (None, None) => (ports.default, tls_of(ports.default)?),
    };
    let host = host?;
    if let (TlsMode::None, Some(item)) = (tls, &tls_item)
        && !is_loopback(&host)
    {
        item.problem(
            format!("\"none\" would send mail and secrets in clear to {host}"),
            "write \"implicit\" or \"starttls\"; \"none\" is for this machine only (localhost, 127.0.0.1)",
        );
        return None;
    }
    Some(Server { host, port, tls })
}

/// Reads `profile` or `password`; both together are refused.
pub fn read_sign_in(section: &Section, names: &Names) -> SignIn {
    let profile_item = section.item("profile");
    let password_item = section.item("password");
    let profile = profile_item
        .as_ref()
        .map(|item| item.reference("profile", "profiles", &names.profiles));
    let password = password_item.as_ref().map(Item::secret);
    let way = match (&profile, password) {
        (Some(_), Some(_)) => {
            if let Some(item) = &password_item {
                item.problem(
                    "cannot be combined with profile",
                    "keep one of profile and password",
                );
            }
            None
        }
        (Some(profile), None) => {
            profile_item
                .as_ref()
                .zip(profile.clone())
                .and_then(|(item, profile)| {
                    let profile = names.directories.resolve(section, item, profile)?;
                    Some(Some(CredentialKind::Profile(profile)))
                })
        }
        (None, Some(password)) => password.map(CredentialKind::Password).map(Some),
        (None, None) => Some(None),
    };
    SignIn {
        profile: profile.flatten(),
        way,
    }
}

/// Reads the credential and the login. `address` is the mailbox's, or the sender's; `login` may name another user.
pub fn read_login(
    section: &Section,
    way: CredentialKind,
    target: SignInService,
    address: Option<&str>,
    facts: &AllProfileFacts,
) -> Option<MailLogin> {
    let login_item = section.item("login");
    let login = match &login_item {
        Some(item) => Some(item.text()?),
        None => None,
    };
    let named = || Some(login.or(address)?.to_owned());
    let profile = match way {
        CredentialKind::Profile(profile) => profile,
        CredentialKind::Password(password) => {
            return Some(MailLogin {
                user: named()?,
                credential: password.map_or_else(Credential::Unavailable, Credential::Password),
            });
        }
    };
    // A profile with problems is already reported.
    let facts = facts.get(&profile)?;
    let (provider, signer) = (facts.provider?, facts.signer.as_ref()?);
    // At Microsoft a shared mailbox is opened under its own address with the token of a user who has access
    // (learn.microsoft.com, "Authenticate an IMAP, POP or SMTP connection using OAuth").
    let by_address = match target {
        SignInService::Mailbox => matches!(provider, Provider::Microsoft(_)),
        SignInService::Graph => true,
        SignInService::Submission => false,
    };
    let (user, account_login) = match signer {
        Signer::Application => (named()?, None),
        Signer::Fixed(username) => {
            if by_address
                && let (Some(item), Some(login)) = (&login_item, login)
                && !login.eq_ignore_ascii_case(username)
            {
                item.problem(
                    format!("profile \"{profile}\" signs in as {username}, and as nobody else"),
                    format!("remove login, or change profiles.{profile}.username"),
                );
                return None;
            }
            let user = if by_address {
                address?.to_owned()
            } else {
                named()?
            };
            (user, Some(username.clone()))
        }
        Signer::Named => {
            let login = named()?;
            let user = if by_address {
                address?.to_owned()
            } else {
                login.clone()
            };
            (user, Some(login))
        }
    };
    let credential = match &facts.unavailable {
        Some(unavailable) => Credential::Unavailable(unavailable.clone()),
        None => Credential::Account {
            account: Account {
                profile,
                login: account_login.map(canonical),
            },
            resource: match target {
                SignInService::Mailbox | SignInService::Submission => Resource::Mail,
                SignInService::Graph => Resource::Graph,
            },
        },
    };
    Some(MailLogin { user, credential })
}

/// Returns the login in the form that identifies its account, so that each user has one account, however the address is
/// spelled.
fn canonical(login: String) -> String {
    if login.contains('@') {
        login.to_lowercase()
    } else {
        login
    }
}

fn tls_of(port: u16) -> Option<TlsMode> {
    if IMPLICIT_PORTS.contains(&port) {
        Some(TlsMode::Implicit)
    } else if START_TLS_PORTS.contains(&port) {
        Some(TlsMode::StartTls)
    } else {
        None
    }
}
