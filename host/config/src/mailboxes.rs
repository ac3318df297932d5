//! Reads `[mailboxes.*]`: the sources of mail, the rules that decide it, and its handling on the server.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use postroom_core::After;
use postroom_net::Proxies;

use super::profiles::AllProfileFacts;
use super::reader::{Item, Section, quoted};
use super::rules::{self, ChainConfig};
use super::sources::{self, Place, Protocol};
use super::{
    Declared, LineLimits, MailboxConfig, Names, SourceConfig, Tenant, authentication, freshness,
    identity, limits, proxy, switches,
};

const DEFAULT_EVERY: Duration = Duration::from_secs(120);
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(24 * 3600);
/// The allowed size of one protocol log file.
const PROTOCOL_LOG: std::ops::RangeInclusive<u64> = 64 * 1024..=1024 * 1024 * 1024;
/// The configuration that mailboxes are checked against.
pub struct Surroundings<'s> {
    /// The tenants without problems.
    pub tenants: &'s [Tenant],
    /// The files that define the tenants.
    pub tenant_files: &'s HashMap<String, usize>,
    pub limits: &'s LineLimits,
    pub names: &'s Names,
    pub facts: &'s AllProfileFacts,
    /// The list that mailboxes without their own list trust; `None` if it could not be read.
    pub trusted: Option<&'s [String]>,
    /// The proxies of mailboxes without an own one; `None` if they could not be read.
    pub proxies: Option<&'s Proxies>,
    /// The profile that each outgoing signs in with.
    pub outgoing_profiles: &'s HashMap<String, String>,
}

/// The mailboxes without problems, and every chain as far as it could be read.
#[derive(Default)]
pub struct Read<'r> {
    pub mailboxes: Vec<MailboxConfig>,
    pub chains: Vec<ChainConfig>,
    /// Every mailbox that is named, with or without problems.
    pub declared: Vec<Declared<'r>>,
}

/// A property that two mailboxes must not share.
#[derive(PartialEq, Eq, Hash)]
enum Identity {
    Address(String),
    Source(Vec<String>),
    Spool(PathBuf),
}

/// The first mailbox with an identity: its path and place.
type Taken = HashMap<Identity, (String, String)>;

pub fn read<'r>(entries: Vec<(&'r str, Item<'r>)>, around: &Surroundings) -> Read<'r> {
    let mut read = Read::default();
    let mut taken = Taken::new();
    for (name, item) in entries {
        let mut declared = Declared::of(name, item.reader.order);
        let mailbox = read_one(&item, around, &mut read.chains, &mut taken, &mut declared);
        read.mailboxes.extend(mailbox);
        read.declared.push(declared);
    }
    read
}

fn read_one(
    item: &Item,
    around: &Surroundings,
    chains: &mut Vec<ChainConfig>,
    taken: &mut Taken,
    declared: &mut Declared,
) -> Option<MailboxConfig> {
    let name = declared.name;
    let section = item.section("a mailbox")?;
    let owner = identity::read_owner(&section, &around.names.tenants);
    let tenant = owner.tenant.clone();
    declared.tenant.clone_from(&tenant);
    let files = around.tenant_files;
    declared.tenant_file = tenant.as_ref().and_then(|it| files.get(it).copied());
    declared.profiles = profiles(&section, around);
    let names = sources::PROTOCOLS.iter().map(|protocol| protocol.name);
    let protocol = section
        .required("protocol", &format!("add protocol = {}", quoted(names)))
        .and_then(|item| {
            let known = sources::PROTOCOLS.map(|protocol| (protocol.name, protocol));
            item.choice(&known, sources::LATER)
        });
    let every = match section.item("every") {
        Some(item) => item.duration(EVERY),
        None => Some(DEFAULT_EVERY),
    };
    let fresh = section
        .item("fresh")
        .map(|item| freshness::read_of_mailbox(&item, every));
    let own = rules::read(section.item("rules"));
    let (of_tenants, shared) = identity::chains(&owner, &own, around.tenants);
    let rules = of_tenants.first().map(|it| it.rules.clone());
    chains.extend(of_tenants);
    let sound = own.is_sound && owner.is_sound;
    let outgoing = section
        .item("outgoing")
        .map(|item| read_outgoing(&item, tenant.as_deref(), around));
    declared.outgoing = outgoing.clone().flatten();
    let trusted = match authentication::read(&section) {
        Some(None) => around.trusted.map(<[String]>::to_vec),
        own => own.flatten(),
    };
    let deliver_old = section
        .item("deliver_old")
        .map_or(Some(false), |item| item.flag());
    let protocol_log = section
        .item("protocol_log")
        .map(|item| read_protocol_log(&item, protocol));
    let proxies = match protocol.filter(|it| it.server.is_none()) {
        Some(protocol) => {
            section.misplaced(
                &["proxy"],
                &format!("has no meaning for a {} mailbox", protocol.name),
                "remove it: no server is contacted",
            );
            Some(Proxies::default())
        }
        None => proxy::read_own(&section, around.proxies),
    };
    let policy = switches::read_policy(&section);
    let session = switches::read_session(&section, protocol);
    let size = limits::read_mailbox(&section, around.limits);
    let address_item = section.item("address");
    let address = address_item.as_ref().map(|item| item.address());
    let aliases_item = section.item("aliases");
    let aliases = match &aliases_item {
        Some(item) => item.each(|alias| alias.address()),
        None => Some(Vec::new()),
    };
    let source = match protocol {
        Some(protocol) => {
            let place = Place {
                tenant: tenant.as_deref(),
                has_address: address_item.is_some(),
                address: address.as_ref().and_then(Option::as_deref),
                around,
            };
            (protocol.read)(&section, &place)
        }
        None => {
            for key in sources::PROTOCOLS.iter().flat_map(|it| it.keys) {
                section.item(key);
            }
            None
        }
    };
    let after = read_after(&section, protocol, source.as_ref());
    section.finish();
    let mut addresses = Vec::new();
    if let (Some(item), Some(Some(address))) = (&address_item, &address) {
        addresses.push((item, address));
    }
    if let (Some(item), Some(aliases)) = (&aliases_item, &aliases) {
        addresses.extend(aliases.iter().map(|alias| (item, alias)));
    }
    declared.addresses = addresses.iter().map(|(_, it)| (*it).clone()).collect();
    let unique = claim(item, &addresses, source.as_ref(), taken);
    let (after_done, after_failed) = after?;
    (sound && unique).then_some(())?;
    Some(MailboxConfig {
        name: name.into(),
        tenant: tenant?,
        shared,
        address: address.map_or(Some(None), |address| address.map(Some))?,
        aliases: aliases?,
        source: source?,
        trusted: trusted?,
        proxies: proxies?,
        every: every?,
        fresh: fresh.map_or(Some(None), |fresh| fresh.map(Some))?,
        after_done,
        after_failed,
        rules: rules?,
        outgoing: outgoing.map_or(Some(None), |outgoing| outgoing.map(Some))?,
        deliver_old: deliver_old?,
        protocol_log_bytes: protocol_log.map_or(Some(None), |bytes| bytes.map(Some))?,
        policy: policy?,
        size,
        session: session?,
    })
}

/// Returns the profiles with which a mailbox and its outgoing sign in, as far as they can be determined.
fn profiles(section: &Section, around: &Surroundings) -> Vec<String> {
    let own = section.peek("profile").map(str::to_owned);
    let outgoing = section
        .peek("outgoing")
        .and_then(|name| around.outgoing_profiles.get(name).cloned());
    own.into_iter().chain(outgoing).collect()
}

/// Reads the size of a protocol log. A source without a server has none.
fn read_protocol_log(item: &Item, protocol: Option<&Protocol>) -> Option<u64> {
    if let Some(protocol) = protocol.filter(|it| it.server.is_none()) {
        item.problem(
            format!("has no meaning for a {} mailbox", protocol.name),
            "remove it: no server is talked to",
        );
        return None;
    }
    item.size(PROTOCOL_LOG)
}

fn read_outgoing(item: &Item, tenant: Option<&str>, around: &Surroundings) -> Option<String> {
    let name = item.reference("outgoing", "outgoing", &around.names.outgoing)?;
    if let (Some(profile), Some(tenant)) = (around.outgoing_profiles.get(&name), tenant) {
        refuse_foreign(item, profile, tenant, around);
    }
    Some(name)
}

/// Refuses a profile that this tenant may not use.
pub fn refuse_foreign(item: &Item, profile: &str, tenant: &str, around: &Surroundings) {
    let facts = around.facts.get(profile);
    if facts.is_some_and(|facts| !facts.serves(tenant)) {
        item.problem(
            format!("profile \"{profile}\" does not serve tenant \"{tenant}\""),
            format!("name another, or add \"{tenant}\" to profiles.{profile}.tenants"),
        );
    }
}

/// Reads the acknowledgements of decided and of quarantined mail.
fn read_after(
    section: &Section,
    protocol: Option<&Protocol>,
    source: Option<&SourceConfig>,
) -> Option<(After, After)> {
    let default = protocol.map_or(sources::AFTER_ON_SERVER, |protocol| protocol.after);
    let (done, failed) = default();
    let (mut done, mut failed) = (Some(done), Some(failed));
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
    protocol: Option<&Protocol>,
    source: Option<&SourceConfig>,
) -> Option<After> {
    let text = item.text()?;
    let marks = protocol.is_none_or(|protocol| protocol.marks);
    let moves = protocol.is_none_or(|protocol| protocol.moves);
    let choices = match (marks, moves) {
        (true, true) => "use \"keep\", \"seen\", \"delete\" or \"move:FOLDER\"",
        (true, false) => "use \"keep\", \"seen\" or \"delete\"",
        (false, true) => "use \"keep\", \"delete\" or \"move:FOLDER\"",
        (false, false) => "use \"keep\" or \"delete\"",
    };
    match text {
        "keep" => return Some(After::Keep),
        "delete" => return Some(After::Delete),
        "seen" if !marks => {
            let place = match protocol.and_then(|protocol| protocol.server) {
                Some(server) => server.name,
                None => "a folder of files",
            };
            item.problem(format!("\"seen\" has no meaning for {place}"), choices);
            return None;
        }
        "seen" => return Some(After::Seen),
        _ => {}
    }
    let Some(target) = text.strip_prefix("move:") else {
        item.problem(format!("\"{text}\" is not known"), choices);
        return None;
    };
    if target.trim().is_empty() {
        item.problem("names no folder", "write it as \"move:Processed\"");
        return None;
    }
    if let Some(protocol) = protocol
        && let Err((problem, help)) = (protocol.check_target)(source, target)
    {
        item.problem(problem, help);
        return None;
    }
    let target = sound_folder(item, target)?;
    Some(After::Move(target))
}

/// Returns a folder's name, if it contains nothing that no server accepts (RFC 9051 section 5.1).
pub fn sound_folder(item: &Item, text: &str) -> Option<String> {
    if text.contains(char::is_control) {
        item.problem(
            "holds a control character",
            "write the folder's name as the mail program shows it",
        );
        return None;
    }
    Some(text.to_owned())
}

/// Refuses a spool inside another one, or around it: each would read the other's mail. Returns false if it was refused.
fn refuse_nested(mailbox: &Item, source: Option<&SourceConfig>, taken: &Taken) -> bool {
    let Some(path) = source.and_then(SourceConfig::path) else {
        return true;
    };
    let path: PathBuf = path.components().collect();
    let nested = taken.iter().filter_map(|(identity, by)| match identity {
        Identity::Spool(other) if path == *other => None,
        Identity::Spool(other) => {
            (path.starts_with(other) || other.starts_with(&path)).then_some(by)
        }
        _ => None,
    });
    let Some((name, place)) = nested.min() else {
        return true;
    };
    mailbox.problem(
        format!("its folder and that of {name} lie in each other ({place})"),
        "give each spool mailbox a folder outside of the others",
    );
    false
}

/// Refuses a mailbox with the same identity as an earlier one. Returns false if it was refused.
fn claim<'r>(
    mailbox: &Item<'r>,
    addresses: &[(&Item<'r>, &String)],
    source: Option<&SourceConfig>,
    taken: &mut Taken,
) -> bool {
    let mut identities = Vec::new();
    for (item, address) in addresses {
        let identity = Identity::Address(address.to_lowercase());
        identities.push((
            *item,
            identity,
            format!("{address} is the address"),
            "give each mailbox its own address, or remove one of the two",
        ));
    }
    for identity in source.iter().flat_map(|source| source.identities()) {
        identities.push((
            mailbox,
            Identity::Source(identity.key),
            identity.what,
            identity.help,
        ));
    }
    let mut unique = refuse_nested(mailbox, source, taken);
    for (item, identity, what, cure) in identities {
        if let Some((other, place)) = taken.get(&identity) {
            // One problem is enough: mailboxes that share the address usually share the folder.
            if unique {
                let what = match identity {
                    Identity::Address(_) => format!("{what} of {other}, too ({place})"),
                    _ => format!("{what} by {other}, too ({place})"),
                };
                item.problem(what, cure);
            }
            unique = false;
        } else {
            let place = mailbox.reader.place(item.at);
            taken.insert(identity, (mailbox.path.clone(), place));
        }
    }
    if let Some(path) = source.and_then(SourceConfig::path) {
        let place = mailbox.reader.place(mailbox.at);
        let identity = Identity::Spool(path.components().collect());
        taken
            .entry(identity)
            .or_insert((mailbox.path.clone(), place));
    }
    unique
}
