//! Reads `[profiles.*]`: named OAuth registrations, with what each provider is known by as data.

use std::collections::HashMap;

use url::Url;

use super::reader::{Item, Section};
use super::{Names, Profile};

/// One of Microsoft's clouds. The hosts of the sovereign ones are from their pages; none could be tried here.
#[derive(Debug)]
pub struct Cloud {
    name: &'static str,
    login_host: &'static str,
    mail_host: &'static str,
    smtp_host: &'static str,
}

const CLOUDS: &[Cloud] = &[
    Cloud {
        name: "global",
        login_host: "login.microsoftonline.com",
        mail_host: "outlook.office365.com",
        smtp_host: "smtp.office365.com",
    },
    Cloud {
        name: "gcc-high",
        login_host: "login.microsoftonline.us",
        mail_host: "outlook.office365.us",
        smtp_host: "smtp.office365.us",
    },
    Cloud {
        name: "dod",
        login_host: "login.microsoftonline.us",
        mail_host: "outlook-dod.office365.us",
        smtp_host: "outlook-dod.office365.us",
    },
    Cloud {
        name: "china",
        login_host: "login.partner.microsoftonline.cn",
        mail_host: "partner.outlook.cn",
        smtp_host: "smtp.partner.outlook.cn",
    },
];

/// Names that stand for many directories; an application signs in to one (AADSTS90002).
const SHARED_DIRECTORIES: &[&str] = &["common", "organizations", "consumers"];
const LATER_GRANTS: &[&str] = &[
    "authorization-code",
    "device-code",
    "password",
    "service-account",
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    Microsoft,
    Google,
    Custom,
}

/// What mailboxes and outgoings need of a profile, even of one that has problems.
pub struct Facts {
    /// `None` when the profile does not say, or says it wrongly.
    hosts: Option<Hosts>,
    /// The tenants it may serve; `None` for all.
    tenants: Option<Vec<String>>,
}

/// The servers a provider is known by.
#[derive(Debug, Clone, Copy)]
pub enum Hosts {
    Known {
        imap: &'static str,
        smtp: &'static str,
    },
    /// A custom provider's hosts are not known.
    Own,
}

impl Hosts {
    pub fn imap(self) -> Option<&'static str> {
        match self {
            Hosts::Known { imap, .. } => Some(imap),
            Hosts::Own => None,
        }
    }

    pub fn smtp(self) -> Option<&'static str> {
        match self {
            Hosts::Known { smtp, .. } => Some(smtp),
            Hosts::Own => None,
        }
    }
}

/// By the profile's name.
pub type AllFacts = HashMap<String, Facts>;

impl Facts {
    /// The provider's hosts; `None` when they cannot be told because the profile has problems.
    pub fn hosts(&self) -> Option<Hosts> {
        self.hosts
    }

    pub fn serves(&self, tenant: &str) -> bool {
        let tenants = self.tenants.as_ref();
        tenants.is_none_or(|names| names.iter().any(|name| name == tenant))
    }
}

/// The profiles without problems, and facts about all of them.
pub fn read(entries: Vec<(&str, Item)>, names: &Names) -> (Vec<Profile>, AllFacts) {
    let mut profiles = Vec::new();
    let mut facts = AllFacts::new();
    for (name, item) in entries {
        let Some(section) = item.section("a profile") else {
            continue;
        };
        let (fact, profile) = read_one(name, section, names);
        facts.insert(name.into(), fact);
        profiles.extend(profile);
    }
    (profiles, facts)
}

fn read_one(name: &str, section: Section, names: &Names) -> (Facts, Option<Profile>) {
    let provider = section
        .required("provider", "add provider = \"microsoft\" or \"custom\"")
        .and_then(|item| {
            item.choice(
                &[
                    ("microsoft", Provider::Microsoft),
                    ("google", Provider::Google),
                    ("custom", Provider::Custom),
                ],
                &[],
            )
        });
    let grant = section
        .required("grant", "add grant = \"client-credentials\"")
        .and_then(|item| item.choice(&[("client-credentials", ())], LATER_GRANTS));
    let client_id = section
        .required(
            "client_id",
            "add client_id = \"…\", the application's id as its registration shows it",
        )
        .and_then(|item| item.text());
    let client_secret = section
        .required("client_secret", "add client_secret = { env = \"NAME\" }")
        .and_then(|item| item.secret());
    let secret_expires = section.item("secret_expires").map(|item| item.date());
    let tenants = section
        .item("tenants")
        .map(|item| item.each(|tenant| tenant.reference("tenant", "tenants", &names.tenants)));
    section.later(&[
        "certificate",
        "authorize_url",
        "device_url",
        "redirect_url",
        "discovery",
        "username",
        "password",
    ]);
    let (hosts, endpoint) = match provider {
        Some(Provider::Microsoft) => microsoft(&section),
        Some(Provider::Google) => (google(&section, grant.is_some()), None),
        Some(Provider::Custom) => (Some(Hosts::Own), custom(&section)),
        None => {
            // Which of these belong here is told by the provider alone.
            for key in ["tenant", "cloud", "token_url", "scopes"] {
                section.item(key);
            }
            (None, None)
        }
    };
    section.finish();
    let facts = Facts {
        hosts,
        // Unreadable names were told of already: nobody is refused because of them.
        tenants: tenants.clone().flatten(),
    };
    let profile = (|| {
        grant?;
        let (token_url, scopes) = endpoint?;
        Some(Profile {
            name: name.into(),
            provider: postroom_auth::Provider::Custom,
            directory: None,
            endpoints: postroom_auth::Endpoints::Fixed {
                authorize: None,
                token: token_url,
                device: None,
            },
            client_id: client_id?.into(),
            client: postroom_auth::ClientCredential::Secret {
                secret: client_secret?,
                previous: None,
                send: postroom_auth::SendSecret::Body,
                expires: secret_expires.map_or(Some(None), |date| date.map(Some))?,
            },
            grant: postroom_auth::Grant::ClientCredentials,
            scopes: Some(scopes),
            tenants: tenants.map_or(Some(None), |names| names.map(Some))?,
        })
    })();
    (facts, profile)
}

/// Microsoft's v2 endpoint, and the scope that stands for every role the application was granted.
fn microsoft(section: &Section) -> (Option<Hosts>, Option<(Url, Vec<String>)>) {
    section.misplaced(
        &["token_url", "scopes"],
        "is given by the provider",
        "remove it, or set provider = \"custom\"",
    );
    let cloud = match section.item("cloud") {
        Some(item) => {
            let clouds: Vec<_> = CLOUDS.iter().map(|cloud| (cloud.name, cloud)).collect();
            item.choice(&clouds, &[])
        }
        None => CLOUDS.first(),
    };
    let tenant = section
        .required(
            "tenant",
            "add tenant = \"…\", the directory's id or one of its domains",
        )
        .and_then(|item| {
            let text = item.text()?;
            if SHARED_DIRECTORIES.contains(&text) {
                item.problem(
                    format!("\"{text}\" stands for many directories, and an application signs in to one"),
                    "write the client's directory id or one of its domains",
                );
                return None;
            }
            let sound = text
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
            if !sound {
                item.problem(
                    format!("\"{text}\" is neither a directory id nor a domain"),
                    "write it as \"acme.onmicrosoft.com\" or as the id the directory's overview shows",
                );
            }
            sound.then_some(text)
        });
    let Some(cloud) = cloud else {
        return (None, None);
    };
    let hosts = Hosts::Known {
        imap: cloud.mail_host,
        smtp: cloud.smtp_host,
    };
    let endpoint = tenant.and_then(|tenant| {
        let url = format!("https://{}/{tenant}/oauth2/v2.0/token", cloud.login_host);
        let scope = format!("https://{}/.default", cloud.mail_host);
        Some((Url::parse(&url).ok()?, vec![scope]))
    });
    (Some(hosts), endpoint)
}

/// Google lets no application sign in by itself: its grants come later, and that is said once.
fn google(section: &Section, grant_is_known: bool) -> Option<Hosts> {
    for key in ["tenant", "cloud", "token_url", "scopes"] {
        section.item(key);
    }
    if grant_is_known {
        section.problem(
            "google has no client-credentials grant, and its other grants are not yet supported by this version",
            "give the mailbox a password = { env = \"NAME\" } (an app password) instead of this profile",
        );
    }
    Some(Hosts::Known {
        imap: "imap.gmail.com",
        smtp: "smtp.gmail.com",
    })
}

fn custom(section: &Section) -> Option<(Url, Vec<String>)> {
    section.misplaced(
        &["tenant", "cloud"],
        "is a key of provider \"microsoft\"",
        "remove it: token_url says it all",
    );
    let token_url = section
        .required("token_url", "add token_url = \"https://…\"")
        .and_then(|item| item.url());
    let scopes = match section.item("scopes") {
        Some(item) => item.each(|scope| {
            let text = scope.text()?;
            // RFC 6749 section 3.3: scopes travel as one list divided by spaces.
            if text.contains(char::is_whitespace) {
                scope.problem(
                    format!("\"{text}\" holds a space"),
                    "write each scope as a string of its own",
                );
                return None;
            }
            Some(text.to_owned())
        }),
        None => Some(Vec::new()),
    };
    Some((token_url?, scopes?))
}
