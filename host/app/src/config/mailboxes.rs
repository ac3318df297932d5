//! Reads `[mailboxes.*]`: where mail comes from, which rules decide it, and what becomes of it on the server.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use postroom_auth::Provider;
use postroom_mailbox::After;

use super::profiles::AllFacts;
use super::reader::{Item, Section};
use super::rules::{self, Chain};
use super::servers::{self, IMAP_PORTS, Target};
use super::{Import, Mailbox, Names, Source, authentication};

const DEFAULT_EVERY: Duration = Duration::from_secs(120);
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
const DEFAULT_FOLDER: &str = "INBOX";
/// The keys that only a server's mailbox has.
const SERVER_KEYS: &[&str] = &[
    "host", "port", "tls", "login", "profile", "password", "folder", "import",
];

/// What mailboxes are checked against.
pub struct Surroundings<'s> {
    pub names: &'s Names,
    pub facts: &'s AllFacts,
    /// What mailboxes without a list of their own trust; `None` when it could not be read.
    pub trusted: Option<&'s [String]>,
    /// The profile each outgoing signs in by.
    pub outgoing_profiles: &'s HashMap<String, String>,
}

/// The mailboxes without problems, and every chain as far as it could be read.
#[derive(Default)]
pub struct Read {
    pub mailboxes: Vec<Mailbox>,
    pub chains: Vec<Chain>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Imap,
    Spool,
}

/// What two mailboxes may not have in common.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Address(String),
    Folder {
        host: String,
        login: String,
        folder: String,
    },
    Path(PathBuf),
}

/// Who has an identity first: the mailbox's path and line.
type Taken = HashMap<Identity, (String, u32)>;

pub fn read(entries: Vec<(&str, Item)>, around: &Surroundings) -> Read {
    let mut read = Read::default();
    let mut taken = Taken::new();
    for (name, item) in entries {
        let mailbox = read_one(name, &item, around, &mut read.chains, &mut taken);
        read.mailboxes.extend(mailbox);
    }
    read
}

fn read_one(
    name: &str,
    item: &Item,
    around: &Surroundings,
    chains: &mut Vec<Chain>,
    taken: &mut Taken,
) -> Option<Mailbox> {
    let section = item.section("a mailbox")?;
    let tenant = section
        .required("tenant", "add tenant = \"…\", the client it belongs to")
        .and_then(|item| item.reference("tenant", "tenants", &around.names.tenants));
    let protocol = section
        .required("protocol", "add protocol = \"imap\" or \"spool\"")
        .and_then(|item| {
            item.choice(
                &[("imap", Protocol::Imap), ("spool", Protocol::Spool)],
                &["pop3", "graph", "ews"],
            )
        });
    let every = match section.item("every") {
        Some(item) => item.duration(EVERY),
        None => Some(DEFAULT_EVERY),
    };
    let (names, rules, sound) = rules::read(section.item("rules"));
    if let Some(tenant) = &tenant {
        chains.push(Chain {
            tenant: tenant.clone(),
            names,
            rules: rules.clone(),
        });
    }
    let outgoing = section
        .item("outgoing")
        .map(|item| read_outgoing(&item, tenant.as_deref(), around));
    let trusted = match authentication::read(&section) {
        Some(None) => around.trusted.map(<[String]>::to_vec),
        own => own.flatten(),
    };
    let deliver_old = section
        .item("deliver_old")
        .map_or(Some(false), |item| item.flag());
    section.later(&["new_tickets"]);
    let address_item = section.item("address");
    let address = address_item.as_ref().map(|item| item.address());
    let source = match protocol {
        Some(Protocol::Imap) => read_imap(
            &section,
            tenant.as_deref(),
            address_item.is_some(),
            address.as_ref().and_then(Option::as_deref),
            around,
        ),
        Some(Protocol::Spool) => read_spool(&section),
        None => {
            for key in SERVER_KEYS.iter().chain(&["path"]) {
                section.item(key);
            }
            None
        }
    };
    let after = read_after(&section, protocol, source.as_ref());
    section.finish();
    let unique = claim(item, address_item, &address, source.as_ref(), taken);
    let (after_done, after_failed) = after?;
    (sound && unique).then_some(())?;
    Some(Mailbox {
        name: name.into(),
        tenant: tenant?,
        address: address.map_or(Some(None), |address| address.map(Some))?,
        source: source?,
        trusted: trusted?,
        every: every?,
        after_done,
        after_failed,
        rules,
        outgoing: outgoing.map_or(Some(None), |outgoing| outgoing.map(Some))?,
        deliver_old: deliver_old?,
    })
}

fn read_imap(
    section: &Section,
    tenant: Option<&str>,
    has_address: bool,
    address: Option<&str>,
    around: &Surroundings,
) -> Option<Source> {
    section.misplaced(
        &["path"],
        "is a key of spool mailboxes",
        "remove it, or set protocol = \"spool\"",
    );
    if !has_address {
        section.missing(
            "address",
            "add address = \"support@acme.example\", by which its mail arrives",
        );
    }
    let sign_in = servers::read_sign_in(section, around.names);
    if let (Some(Some(_)) | None, Some(profile), Some(tenant)) =
        (&sign_in.way, &sign_in.profile, tenant)
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
        &IMAP_PORTS,
        &sign_in,
        around.facts,
        Provider::imap_host,
    );
    let login = match sign_in.way {
        Some(Some(way)) => {
            servers::read_login(section, way, Target::Mailbox, address, around.facts)
        }
        // Known, but without meaning until there is a way to sign in.
        _ => {
            section.item("login");
            None
        }
    };
    let folder = match section.item("folder") {
        Some(item) => item.text().and_then(|text| sound_folder(&item, text)),
        None => Some(DEFAULT_FOLDER.into()),
    };
    let import = match section.item("import") {
        Some(item) => read_import(&item),
        None => Some(Import::New),
    };
    Some(Source::Imap {
        server: server?,
        login: login?,
        folder: folder?,
        import: import?,
    })
}

fn read_spool(section: &Section) -> Option<Source> {
    section.misplaced(
        SERVER_KEYS,
        "has no meaning for a spool mailbox",
        "remove it, or set protocol = \"imap\"",
    );
    let path = section
        .required("path", "add path = \"spool\", the folder of the mails")?
        .path()?;
    Some(Source::Spool { path })
}

fn read_outgoing(item: &Item, tenant: Option<&str>, around: &Surroundings) -> Option<String> {
    let name = item.reference("outgoing", "outgoing", &around.names.outgoing)?;
    if let (Some(profile), Some(tenant)) = (around.outgoing_profiles.get(&name), tenant) {
        refuse_foreign(item, profile, tenant, around);
    }
    Some(name)
}

/// Refuses a profile that does not serve this tenant.
fn refuse_foreign(item: &Item, profile: &str, tenant: &str, around: &Surroundings) {
    let facts = around.facts.get(profile);
    if facts.is_some_and(|facts| !facts.serves(tenant)) {
        item.problem(
            format!("profile \"{profile}\" does not serve tenant \"{tenant}\""),
            format!("name another, or add \"{tenant}\" to profiles.{profile}.tenants"),
        );
    }
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

/// What becomes of a mail on its server: once decided, and once quarantined.
fn read_after(
    section: &Section,
    protocol: Option<Protocol>,
    source: Option<&Source>,
) -> Option<(After, After)> {
    let (mut done, mut failed) = match protocol {
        Some(Protocol::Spool) => (
            Some(After::Move("done".into())),
            Some(After::Move("failed".into())),
        ),
        // A person who looks into the mailbox finds what failed unread.
        _ => (Some(After::Seen), Some(After::Keep)),
    };
    if let Some(after) = section.section("after", "after") {
        if let Some(item) = after.item("done") {
            done = read_one_after(&item, protocol, source);
        }
        if let Some(item) = after.item("failed") {
            failed = read_one_after(&item, protocol, source);
        }
        after.finish();
    }
    Some((done?, failed?))
}

fn read_one_after(
    item: &Item,
    protocol: Option<Protocol>,
    source: Option<&Source>,
) -> Option<After> {
    let text = item.text()?;
    let is_spool = protocol == Some(Protocol::Spool);
    match text {
        "keep" => return Some(After::Keep),
        "delete" => return Some(After::Delete),
        "seen" if is_spool => {
            item.problem(
                "\"seen\" has no meaning for a folder of files",
                "use \"keep\", \"delete\" or \"move:FOLDER\"",
            );
            return None;
        }
        "seen" => return Some(After::Seen),
        _ => {}
    }
    let Some(target) = text.strip_prefix("move:") else {
        item.problem(
            format!("\"{text}\" is not known"),
            if is_spool {
                "use \"keep\", \"delete\" or \"move:FOLDER\""
            } else {
                "use \"keep\", \"seen\", \"delete\" or \"move:FOLDER\""
            },
        );
        return None;
    };
    if target.trim().is_empty() {
        item.problem("names no folder", "write it as \"move:Processed\"");
        return None;
    }
    if let Some(Source::Imap { folder, .. }) = source
        && (folder == target || (is_inbox(folder) && is_inbox(target)))
    {
        item.problem(
            format!("moves mail to \"{target}\", the folder it is read from"),
            "name another folder, or use \"keep\"",
        );
        return None;
    }
    if is_spool && (target.starts_with('.') || target.contains(['/', '\\'])) {
        item.problem(
            format!("\"{target}\" is not a folder within the spool"),
            "name a folder directly below the spool's path, such as \"move:done\"",
        );
        return None;
    }
    let target = sound_folder(item, target)?;
    Some(After::Move(target))
}

/// INBOX is one folder in any case (RFC 9051 section 5.1).
fn is_inbox(folder: &str) -> bool {
    folder.eq_ignore_ascii_case(DEFAULT_FOLDER)
}

/// A folder's name without what no server takes (RFC 9051 section 5.1).
fn sound_folder(item: &Item, text: &str) -> Option<String> {
    if text.contains(char::is_control) {
        item.problem(
            "holds a control character",
            "write the folder's name as the mail program shows it",
        );
        return None;
    }
    Some(text.to_owned())
}

/// Refuses a mailbox that another one is already. False when it was refused.
fn claim(
    mailbox: &Item,
    address_item: Option<Item>,
    address: &Option<Option<String>>,
    source: Option<&Source>,
    taken: &mut Taken,
) -> bool {
    let mut identities = Vec::new();
    if let (Some(item), Some(Some(address))) = (&address_item, address) {
        let identity = Identity::Address(address.to_lowercase());
        identities.push((
            item,
            identity,
            format!("{address} is the address"),
            "give each mailbox an address of its own, or remove one of the two",
        ));
    }
    match source {
        Some(Source::Imap {
            server,
            login,
            folder,
            ..
        }) => {
            let identity = Identity::Folder {
                host: server.host.clone(),
                login: login.user.to_lowercase(),
                folder: match is_inbox(folder) {
                    true => DEFAULT_FOLDER.into(),
                    false => folder.clone(),
                },
            };
            identities.push((
                mailbox,
                identity,
                format!(
                    "folder {folder} of {} on {} is read",
                    login.user, server.host
                ),
                "read each folder by one mailbox only, or its mail is decided twice",
            ));
        }
        Some(Source::Spool { path }) => identities.push((
            mailbox,
            Identity::Path(path.components().collect()),
            format!("the folder {} is read", path.display()),
            "give each spool mailbox a folder of its own",
        )),
        None => {}
    }
    let mut unique = true;
    for (item, identity, what, cure) in identities {
        if let Some((other, line)) = taken.get(&identity) {
            // One word is enough: who shares the address mostly shares the folder.
            if unique {
                let what = match identity {
                    Identity::Address(_) => format!("{what} of {other}, too (line {line})"),
                    _ => format!("{what} by {other}, too (line {line})"),
                };
                item.problem(what, cure);
            }
            unique = false;
        } else {
            let line = mailbox.reader.line(item.at);
            taken.insert(identity, (mailbox.path.clone(), line));
        }
    }
    unique
}
