//! Reads `[profiles.*]`: named OAuth registrations. The keys of a profile depend on its provider and its grant.

mod client;
pub mod directories;
mod endpoints;

use std::collections::HashMap;
use std::sync::Arc;

use postroom_auth::{Grant, Prompt, Provider, ServiceKey};

use super::problem::{Ready, Unavailable};
use super::reader::{Item, Section};
use super::{Names, Profile, values};

pub use endpoints::sound_directory;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Microsoft,
    Google,
    Custom,
}

const KINDS: &[(&str, Kind)] = &[
    ("microsoft", Kind::Microsoft),
    ("google", Kind::Google),
    ("custom", Kind::Custom),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GrantKind {
    AuthorizationCode,
    DeviceCode,
    ClientCredentials,
    Password,
    ServiceAccount,
}

const GRANTS: &[(&str, GrantKind)] = &[
    ("authorization-code", GrantKind::AuthorizationCode),
    ("device-code", GrantKind::DeviceCode),
    ("client-credentials", GrantKind::ClientCredentials),
    ("password", GrantKind::Password),
    ("service-account", GrantKind::ServiceAccount),
];

/// The grants that a provider does not offer for mail, with the reason and the alternative.
const IMPOSSIBLE: &[(Kind, GrantKind, &str, &str)] = &[
    (
        Kind::Google,
        GrantKind::DeviceCode,
        "google's sign-in by a device code does not give access to mail",
        "write \"authorization-code\", or \"service-account\" for the mailboxes of a Workspace domain",
    ),
    (
        Kind::Google,
        GrantKind::ClientCredentials,
        "google has no client-credentials grant for mail",
        "write \"service-account\" for the mailboxes of a Workspace domain, or \"authorization-code\"",
    ),
    (
        Kind::Google,
        GrantKind::Password,
        "google has no password grant",
        "write \"authorization-code\"; or give the mailbox password = { env = \"NAME\" } (an app password) instead of this profile",
    ),
    (
        Kind::Microsoft,
        GrantKind::ServiceAccount,
        "microsoft has no service accounts of google's kind",
        "write \"client-credentials\", by which an application signs in as itself",
    ),
];

/// A key that only some profiles have.
struct Key {
    name: &'static str,
    kinds: &'static [Kind],
    grants: &'static [GrantKind],
}

const ANY_KIND: &[Kind] = &[Kind::Microsoft, Kind::Google, Kind::Custom];
const ANY_GRANT: &[GrantKind] = &[
    GrantKind::AuthorizationCode,
    GrantKind::DeviceCode,
    GrantKind::ClientCredentials,
    GrantKind::Password,
    GrantKind::ServiceAccount,
];
/// The grants of a registered application. A service account has none: its key file identifies it.
const OF_APPLICATIONS: &[GrantKind] = &[
    GrantKind::AuthorizationCode,
    GrantKind::DeviceCode,
    GrantKind::ClientCredentials,
    GrantKind::Password,
];
const CODE: &[GrantKind] = &[GrantKind::AuthorizationCode];
const DEVICE: &[GrantKind] = &[GrantKind::DeviceCode];
const PASSWORD: &[GrantKind] = &[GrantKind::Password];
const SERVICE_ACCOUNT: &[GrantKind] = &[GrantKind::ServiceAccount];

const KEYS: &[Key] = &[
    Key::of("tenant", &[Kind::Microsoft], ANY_GRANT),
    Key::of("cloud", &[Kind::Microsoft], ANY_GRANT),
    Key::of("discovery", &[Kind::Custom], OF_APPLICATIONS),
    Key::of("authorize_url", ANY_KIND, CODE),
    Key::of("redirect_url", ANY_KIND, CODE),
    Key::of("prompt", ANY_KIND, CODE),
    Key::of("device_url", ANY_KIND, DEVICE),
    Key::of("username", ANY_KIND, PASSWORD),
    Key::of("password", ANY_KIND, PASSWORD),
    Key::of("service_account", ANY_KIND, SERVICE_ACCOUNT),
    Key::of("client_id", ANY_KIND, OF_APPLICATIONS),
    Key::of("client_secret", ANY_KIND, OF_APPLICATIONS),
    Key::of("previous_client_secret", ANY_KIND, OF_APPLICATIONS),
    Key::of("secret_expires", ANY_KIND, OF_APPLICATIONS),
    Key::of("client_auth", ANY_KIND, OF_APPLICATIONS),
    Key::of(
        "certificate",
        &[Kind::Microsoft, Kind::Custom],
        OF_APPLICATIONS,
    ),
];

const PROMPTS: &[(&str, Prompt)] = &[
    ("login", Prompt::Login),
    ("consent", Prompt::Consent),
    ("select-account", Prompt::SelectAccount),
    ("none", Prompt::None),
];

/// The facts about a profile that mailboxes and outgoings need, even about a profile with problems.
#[derive(Clone, Default)]
pub struct ProfileFacts {
    /// `None` if the profile does not state it, or states it wrongly.
    pub provider: Option<Provider>,
    /// `None` under the same conditions.
    pub signer: Option<Signer>,
    /// Why nobody can sign in with it, although the file itself is valid.
    pub unavailable: Option<Unavailable>,
    /// The tenants that may use it; `None` for all.
    tenants: Option<Vec<String>>,
}

/// The identity that signs in with a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// The application, as itself.
    Application,
    /// The one user whose password the profile holds.
    Fixed(String),
    /// The user named by the mailbox or outgoing.
    Named,
}

/// The facts by profile name.
pub type AllProfileFacts = HashMap<String, ProfileFacts>;

impl ProfileFacts {
    pub fn serves(&self, tenant: &str) -> bool {
        let tenants = self.tenants.as_ref();
        tenants.is_none_or(|names| names.iter().any(|name| name == tenant))
    }
}

impl Key {
    const fn of(name: &'static str, kinds: &'static [Kind], grants: &'static [GrantKind]) -> Self {
        Self {
            name,
            kinds,
            grants,
        }
    }

    /// Refuses the key, once, if the provider or the grant does not have it.
    fn place(&self, section: &Section, kind: Option<Kind>, grant: Option<GrantKind>) {
        let refuse = |message: String, cure: &str| section.misplaced(&[self.name], &message, cure);
        match (kind, grant) {
            (Some(kind), _) if !self.kinds.contains(&kind) => match self.kinds {
                [only] => {
                    let only = word(KINDS, *only);
                    refuse(
                        format!("is a key of provider \"{only}\""),
                        &format!("remove it, or set provider = \"{only}\""),
                    );
                }
                _ => refuse(
                    format!("has no meaning for provider \"{}\"", word(KINDS, kind)),
                    "use client_secret instead",
                ),
            },
            (_, Some(grant)) if !self.grants.contains(&grant) => match self.grants {
                [only] => {
                    let only = word(GRANTS, *only);
                    refuse(
                        format!("is a key of grant \"{only}\""),
                        &format!("remove it, or set grant = \"{only}\""),
                    );
                }
                _ => refuse(
                    format!("has no meaning for grant \"{}\"", word(GRANTS, grant)),
                    "remove it: the key file contains everything",
                ),
            },
            // Known, and read later if needed.
            _ => {
                section.item(self.name);
            }
        }
    }
}

/// Returns the profiles that can be used, and facts about all of them.
pub fn read(entries: Vec<(&str, Item)>, names: &Names) -> (Vec<Profile>, AllProfileFacts) {
    let mut profiles = Vec::new();
    let mut facts = AllProfileFacts::new();
    for (name, item) in entries {
        let Some(section) = item.section("a profile") else {
            continue;
        };
        let (fact, profile) = read_one(name, section, names);
        for directory in names.directories.used_with(name) {
            facts.insert(directories::in_directory(name, directory), fact.clone());
            let profile = profile.as_ref();
            profiles.extend(profile.and_then(|it| directories::for_directory(it, directory)));
        }
        facts.insert(name.into(), fact);
        let is_of_one = |it: &Profile| it.directory.as_deref() != Some(directories::PLACEHOLDER);
        profiles.extend(profile.filter(is_of_one));
    }
    (profiles, facts)
}

fn read_one(name: &str, section: Section, names: &Names) -> (ProfileFacts, Option<Profile>) {
    let kind = section
        .required(
            "provider",
            "add provider = \"microsoft\", \"google\" or \"custom\"",
        )
        .and_then(|item| item.choice(KINDS, &[]));
    let grant_kind = section
        .required(
            "grant",
            "add grant = \"client-credentials\", or another one",
        )
        .and_then(|item| possible_grant(&item, kind));
    for key in KEYS {
        key.place(&section, kind, grant_kind);
    }
    let tenants = values::optional(&section, "tenants", |item| {
        item.each(|tenant| tenant.reference("tenant", "tenants", &names.tenants))
    });
    let scopes = values::optional(&section, "scopes", read_scopes);
    let client_id = read_client_id(&section, grant_kind);
    let client = client::read(&section, kind, grant_kind);
    let grant = grant_kind.and_then(|kind| read_grant(&section, kind));
    let (provider, directory, endpoints) =
        endpoints::read(&section, kind, grant_kind, ready(&grant));
    let signer = signer(&section, grant_kind, grant.is_some());
    warn_of_lost_sign_ins(&section, kind, grant_kind, &scopes);
    directories::check_addresses(&section);
    section.finish();

    let facts = ProfileFacts {
        provider,
        signer,
        unavailable: unavailable(&client).or_else(|| unavailable(&grant)),
        // Unreadable names were already reported, so no use is refused because of them.
        tenants: tenants.clone().flatten(),
    };
    let profile = (|| {
        Some(Profile {
            name: name.into(),
            provider: provider?,
            directory: directory?,
            endpoints: endpoints?,
            client_id: client_id?,
            client: client?.ok()?,
            grant: grant?.ok()?,
            scopes: scopes?,
            tenants: tenants?,
        })
    })();
    (facts, profile)
}

/// Returns a grant that the provider has.
fn possible_grant(item: &Item, kind: Option<Kind>) -> Option<GrantKind> {
    let grant = item.choice(GRANTS, &[])?;
    let impossible = IMPOSSIBLE
        .iter()
        .find(|(without, lacking, ..)| kind == Some(*without) && grant == *lacking);
    match impossible {
        Some((_, _, message, cure)) => {
            item.problem(*message, *cure);
            None
        }
        None => Some(grant),
    }
}

/// Reads the client id, which is empty for a service account.
fn read_client_id(section: &Section, grant: Option<GrantKind>) -> Option<String> {
    if grant == Some(GrantKind::ServiceAccount) {
        return Some(String::new());
    }
    match section.item("client_id") {
        Some(item) => item.text().map(str::to_owned),
        None => {
            // Without a known grant it may be a service account.
            if grant.is_some() || section.item("service_account").is_none() {
                section.missing(
                    "client_id",
                    "add client_id = \"…\", the application's id as its registration shows it",
                );
            }
            None
        }
    }
}

fn read_grant(section: &Section, kind: GrantKind) -> Option<Ready<Grant>> {
    let grant = match kind {
        GrantKind::AuthorizationCode => {
            let redirect =
                values::optional(section, "redirect_url", endpoints::read_redirect_address);
            let prompt = values::optional(section, "prompt", |item| item.choice(PROMPTS, &[]));
            Grant::AuthorizationCode {
                redirect: redirect?,
                prompt: prompt?,
            }
        }
        GrantKind::DeviceCode => Grant::DeviceCode,
        GrantKind::ClientCredentials => Grant::ClientCredentials,
        GrantKind::Password => {
            let username = section
                .required(
                    "username",
                    "add username = \"…\", mostly the mailbox's address",
                )
                .and_then(|item| item.text().map(str::to_owned));
            let password = section
                .required("password", "add password = { env = \"NAME\" }")
                .and_then(|item| item.secret());
            let username = username?;
            return Some(password?.map(|password| Grant::Password { username, password }));
        }
        GrantKind::ServiceAccount => {
            let item = section.required(
                "service_account",
                "add service_account = { file = \"key.json\" }, the key file of the google cloud console",
            )?;
            let document = item.document()?;
            let key = document.and_then(|document| {
                ServiceKey::from_json(&document).map_err(|error| {
                    item.unavailable(
                        error.to_string(),
                        "make a JSON key for the service account in the google cloud console, and name that file",
                    )
                })
            });
            return Some(key.map(|key| Grant::ServiceAccount(Arc::new(key))));
        }
    };
    Some(Ok(grant))
}

fn ready<T>(read: &Option<Ready<T>>) -> Option<&T> {
    read.as_ref()?.as_ref().ok()
}

fn unavailable<T>(read: &Option<Ready<T>>) -> Option<Unavailable> {
    read.as_ref()?.as_ref().err().cloned()
}

/// Returns the identity that signs in. `has_grant` is true if the keys of the grant are valid, whether or not its secrets
/// are available.
fn signer(section: &Section, kind: Option<GrantKind>, has_grant: bool) -> Option<Signer> {
    match kind? {
        GrantKind::ClientCredentials => Some(Signer::Application),
        GrantKind::Password if !has_grant => None,
        GrantKind::Password => {
            let username = section.item("username")?.text()?;
            Some(Signer::Fixed(username.to_owned()))
        }
        GrantKind::AuthorizationCode | GrantKind::DeviceCode | GrantKind::ServiceAccount => {
            Some(Signer::Named)
        }
    }
}

fn read_scopes(item: &Item) -> Option<Vec<String>> {
    item.each(|scope| {
        let text = scope.text()?;
        // RFC 6749 section 3.3: scopes are sent as one list separated by spaces.
        if text.contains(char::is_whitespace) {
            scope.problem(
                format!("\"{text}\" holds a space"),
                "write each scope as a string of its own",
            );
            return None;
        }
        Some(text.to_owned())
    })
}

/// Warns about a missing `offline_access`. Microsoft returns a refresh token only if it is requested: without one each
/// sign-in ends with its first token.
fn warn_of_lost_sign_ins(
    section: &Section,
    kind: Option<Kind>,
    grant: Option<GrantKind>,
    scopes: &Option<Option<Vec<String>>>,
) {
    let interactive = matches!(
        grant,
        Some(GrantKind::AuthorizationCode | GrantKind::DeviceCode)
    );
    if let (true, Some(Kind::Microsoft), Some(Some(scopes)), Some(item)) =
        (interactive, kind, scopes, section.item("scopes"))
        && !scopes.iter().any(|scope| scope == "offline_access")
    {
        item.warning(
            "lacks offline_access, so everybody has to sign in again when the first token expires, after about an hour",
            "add \"offline_access\"",
        );
    }
}

fn word<T: PartialEq + Copy>(words: &[(&'static str, T)], value: T) -> &'static str {
    words
        .iter()
        .find(|(_, known)| *known == value)
        .map_or("", |(word, _)| word)
}
