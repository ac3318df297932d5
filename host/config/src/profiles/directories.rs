//! The Microsoft directories that a profile with `tenant = "by-client"` signs in to: one registered application serves every
//! client.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use postroom_auth::{Endpoints, Profile};
use url::Url;

use super::endpoints::sound_directory;
use crate::reader::{Item, Part, Section};

/// The value that stands for the directory of the client whose mailbox or outgoing signs in.
pub const BY_CLIENT: &str = "by-client";
/// The placeholder for the directory in the addresses of such a profile.
pub const PLACEHOLDER: &str = "{tenant}";
/// The placeholder as it appears in a parsed URL.
const ENCODED: &str = "%7Btenant%7D";

/// The profiles that sign in to a client's directory, and the directory of each mailbox and outgoing that uses one.
#[derive(Default)]
pub struct Directories {
    by_client: BTreeSet<String>,
    of_mailboxes: HashMap<String, String>,
    of_outgoing: HashMap<String, String>,
    /// The directories with which each profile is used.
    used: BTreeMap<String, BTreeSet<String>>,
}

/// The entries of a table, by name.
type Entries<'e, 'r> = &'e [(&'r str, Item<'r>)];

impl Directories {
    /// Collects the directories. Reads only the keys that matter here; their problems are reported where they are read.
    pub fn of(profiles: Entries, tenants: Entries, mailboxes: Entries, outgoing: Entries) -> Self {
        let by_client = profiles
            .iter()
            .filter(|(_, item)| item.peek("tenant") == Some(BY_CLIENT));
        let mut directories = Self {
            by_client: by_client.map(|(name, _)| (*name).to_owned()).collect(),
            ..Self::default()
        };
        if directories.by_client.is_empty() {
            return directories;
        }
        let of_tenants: HashMap<&str, &str> = tenants
            .iter()
            .filter_map(|(name, item)| Some((*name, item.peek("directory")?)))
            .collect();
        // An outgoing uses the directory of its mailboxes' client, unless they have several directories.
        let mut of_users: HashMap<&str, BTreeSet<&str>> = HashMap::new();
        for (name, item) in mailboxes {
            let of_tenant = || of_tenants.get(item.peek("tenant")?).copied();
            let Some(directory) = item.peek("directory").or_else(of_tenant) else {
                continue;
            };
            if let Some(outgoing) = item.peek("outgoing") {
                of_users.entry(outgoing).or_default().insert(directory);
            }
            let directory = directory.to_owned();
            directories.use_by(item, &directory);
            directories.of_mailboxes.insert((*name).into(), directory);
        }
        for (name, item) in outgoing {
            let only = |users: &BTreeSet<&str>| match users.len() {
                1 => users.first().map(|it| (*it).to_owned()),
                _ => None,
            };
            let of_users = || only(of_users.get(*name)?);
            let own = item.peek("directory").map(str::to_owned);
            if let Some(directory) = own.or_else(of_users) {
                directories.use_by(item, &directory);
                directories.of_outgoing.insert((*name).into(), directory);
            }
        }
        directories
    }

    fn use_by(&mut self, item: &Item, directory: &str) {
        let profile = item.peek("profile");
        if let Some(profile) = profile.filter(|name| self.by_client.contains(*name)) {
            let used = self.used.entry(profile.to_owned()).or_default();
            used.insert(directory.to_owned());
        }
    }

    /// Returns the profile with which a mailbox or an outgoing signs in: for a `by-client` profile, the one for its client's
    /// directory. Reports a missing directory, and one that has no effect.
    pub fn resolve(&self, section: &Section, item: &Item, profile: String) -> Option<String> {
        let directory_item = section.item("directory");
        if !self.by_client.contains(&profile) {
            if let Some(item) = directory_item {
                item.problem(
                    format!("has no meaning: profile \"{profile}\" has a tenant of its own"),
                    format!("remove it, or write profiles.{profile}.tenant = \"{BY_CLIENT}\""),
                );
                return None;
            }
            return Some(profile);
        }
        if let Some(item) = &directory_item {
            sound_directory(item)?;
        }
        let directory = match section.part {
            Part::Mailbox(name) => self.of_mailboxes.get(name),
            Part::Outgoing(name) => self.of_outgoing.get(name),
            _ => None,
        };
        let Some(directory) = directory else {
            let help = match section.part {
                Part::Outgoing(_) => "add directory = \"acme.onmicrosoft.com\" to the outgoing",
                _ => "add directory = \"acme.onmicrosoft.com\" to the client, [tenants.NAME]",
            };
            item.problem(
                format!("signs in to the Microsoft directory of the client by profile \"{profile}\", and none is given"),
                help,
            );
            return None;
        };
        Some(in_directory(&profile, directory))
    }

    /// Returns the directories with which a profile is used.
    pub fn used_with(&self, profile: &str) -> impl Iterator<Item = &str> {
        self.used
            .get(profile)
            .into_iter()
            .flatten()
            .map(String::as_str)
    }
}

/// Returns the name of a profile in one directory. No profile name in the configuration contains a slash.
pub fn in_directory(profile: &str, directory: &str) -> String {
    format!("{profile}/{directory}")
}

/// Refuses written addresses that lead every client to one directory, and placeholders that nothing fills.
pub fn check_addresses(section: &Section) {
    let by_client = section.peek("tenant") == Some(BY_CLIENT);
    for key in ["authorize_url", "token_url", "device_url"] {
        let Some(text) = section.peek(key) else {
            continue;
        };
        let Some(item) = section
            .item(key)
            .filter(|_| text.contains(PLACEHOLDER) != by_client)
        else {
            continue;
        };
        match by_client {
            true => item.problem(
                format!(
                    "does not contain {PLACEHOLDER}: every client would sign in to one directory"
                ),
                format!("write {PLACEHOLDER} in place of the directory, or remove the key"),
            ),
            false => item.problem(
                format!("contains {PLACEHOLDER}, which only tenant = \"{BY_CLIENT}\" replaces"),
                format!("write the directory, or set tenant = \"{BY_CLIENT}\""),
            ),
        }
    }
}

/// Returns a `by-client` profile as the profile of one directory.
pub fn for_directory(profile: &Profile, directory: &str) -> Option<Profile> {
    let fill = |url: &Url| Url::parse(&url.as_str().replace(ENCODED, directory)).ok();
    let endpoints = match &profile.endpoints {
        Endpoints::Fixed {
            authorize,
            token,
            device,
        } => Endpoints::Fixed {
            authorize: authorize
                .as_ref()
                .map(|url| url.replace(PLACEHOLDER, directory)),
            token: fill(token)?,
            device: match device {
                Some(device) => Some(fill(device)?),
                None => None,
            },
        },
        discovered => discovered.clone(),
    };
    Some(Profile {
        name: in_directory(&profile.name, directory),
        directory: Some(directory.to_owned()),
        endpoints,
        ..profile.clone()
    })
}
