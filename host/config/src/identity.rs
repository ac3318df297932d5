//! Reads `[staff]`, `[attribution]` and `[threading]`: senders and the tickets of their mail; and the tenants of a mailbox.

use std::collections::BTreeMap;
use std::time::Duration;

use postroom_core::attribution::ClientNames;
use postroom_core::effects::person;
use postroom_core::{
    AttributeBy, Clients, ForeignNumbers, OutsiderPolicy, ReopenPolicy, Staff, ThreadPolicy,
    UnverifiedPolicy,
};

use super::Tenant;
use super::reader::{Item, Section};
use super::rules::{ChainConfig, OwnChain};
use super::types::SharedMailbox;

/// How long a closed ticket takes notes.
const DEFAULT_REOPEN: Duration = Duration::from_secs(14 * 24 * 3600);
const MAX_REOPEN: Duration = Duration::from_secs(10 * 366 * 24 * 3600);
/// The most patterns of foreign numbers.
const MOST_PATTERNS: usize = 20;

/// The settings for senders and tickets that all mailboxes share.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct IdentityConfig {
    pub staff: Staff,
    /// Domains of mail services, in addition to the built-in ones.
    pub public_domains: Vec<String>,
    pub reopen: ReopenPolicy,
    pub foreign_numbers: ForeignNumbers,
}

impl IdentityConfig {
    /// Returns the clients by everything that names them.
    pub fn clients(&self, tenants: &[Tenant]) -> Clients {
        let names = tenants.iter().map(|tenant| ClientNames {
            name: &tenant.name,
            domains: &tenant.domains,
            addresses: &tenant.addresses,
            recipients: &tenant.recipients,
        });
        Clients::new(names, self.public_domains.iter().cloned())
    }
}

/// Returns `None` if a part of it has a problem.
pub fn read(root: &Section) -> Option<IdentityConfig> {
    let staff = read_staff(root);
    let public_domains = read_public_domains(root);
    let threading = read_threading(root);
    let (reopen, foreign_numbers) = threading?;
    Some(IdentityConfig {
        staff: staff?,
        public_domains: public_domains?,
        reopen,
        foreign_numbers,
    })
}

fn read_staff(root: &Section) -> Option<Staff> {
    let Some(section) = root.section("staff", "the technicians") else {
        return Some(Staff::default());
    };
    let domains = list(&section, "domains", |item| item.domain());
    let addresses = list(&section, "addresses", |item| item.address());
    section.finish();
    Some(Staff {
        domains: domains?,
        addresses: addresses?.iter().map(|it| person(it)).collect(),
    })
}

fn read_public_domains(root: &Section) -> Option<Vec<String>> {
    let Some(section) = root.section("attribution", "the attribution of senders") else {
        return Some(Vec::new());
    };
    let domains = list(&section, "public_domains", |item| item.domain());
    section.finish();
    domains
}

fn read_threading(root: &Section) -> Option<(ReopenPolicy, ForeignNumbers)> {
    let default = ReopenPolicy {
        default_ms: millis(DEFAULT_REOPEN),
        queues: BTreeMap::new(),
    };
    let Some(section) = root.section("threading", "the search for tickets") else {
        return Some((default, ForeignNumbers::default()));
    };
    let reopen = section.item("reopen").map(|item| read_reopen(&item));
    let patterns = match section.item("patterns") {
        Some(item) => read_patterns(&item),
        None => Some(ForeignNumbers::default()),
    };
    let mut queues = Some(BTreeMap::new());
    if let Some(table) = section.section("queues", "the queues") {
        for (name, item) in table.entries() {
            let reopen = item.section("a queue").and_then(|queue| {
                let reopen = queue.required("reopen", "add reopen = \"14d\"");
                let reopen = reopen.and_then(|item| read_reopen(&item));
                queue.finish();
                reopen
            });
            match (reopen, &mut queues) {
                (Some(reopen), Some(queues)) => {
                    queues.insert(name.to_owned(), reopen);
                }
                _ => queues = None,
            }
        }
    }
    section.finish();
    let policy = ReopenPolicy {
        default_ms: reopen.map_or(Some(default.default_ms), |it| it)?,
        queues: queues?,
    };
    Some((policy, patterns?))
}

fn read_reopen(item: &Item) -> Option<i64> {
    item.duration(Duration::ZERO..=MAX_REOPEN).map(millis)
}

fn read_patterns(item: &Item) -> Option<ForeignNumbers> {
    let items = item.list()?;
    if items.len() > MOST_PATTERNS {
        item.problem(
            format!("has more than {MOST_PATTERNS} patterns"),
            "join some of them with |",
        );
        return None;
    }
    let mut texts = Some(Vec::new());
    for item in &items {
        let text = item.text();
        if let Some(Err(reason)) = text.map(ForeignNumbers::check) {
            item.problem(
                reason,
                "write a regular expression such as \"INC\\\\d{7}\"; its first group is the number, or all of it",
            );
            texts = None;
        }
        match (text, &mut texts) {
            (Some(text), Some(texts)) => texts.push(text.to_owned()),
            _ => texts = None,
        }
    }
    ForeignNumbers::parse(&texts?).ok()
}

/// Returns the policy of a tenant's tickets.
pub fn read_thread_policy(tenant: &Section) -> Option<ThreadPolicy> {
    let outsiders = match tenant.item("outsiders") {
        Some(item) => {
            let known = [
                ("new-ticket", OutsiderPolicy::NewTicket),
                ("quarantine", OutsiderPolicy::Quarantined),
            ];
            item.choice(&known, &[])
        }
        None => Some(OutsiderPolicy::default()),
    };
    let unverified = match tenant.item("unverified") {
        Some(item) => {
            let known = [
                ("accept", UnverifiedPolicy::Accepted),
                ("new-ticket", UnverifiedPolicy::NewTicket),
                ("quarantine", UnverifiedPolicy::Quarantined),
            ];
            item.choice(&known, &[])
        }
        None => Some(UnverifiedPolicy::default()),
    };
    Some(ThreadPolicy {
        outsiders: outsiders?,
        unverified: unverified?,
    })
}

/// The tenant of a mailbox; for a shared one, the tenant of the mail that fits no client.
pub struct Owner {
    pub tenant: Option<String>,
    pub shared_by: Option<AttributeBy>,
    /// Whether all of it could be read.
    pub is_sound: bool,
}

/// Reads the key `tenant` of a mailbox.
pub fn read_owner(mailbox: &Section, tenants: &[String]) -> Owner {
    let cure = "add tenant = \"…\", the client it belongs to";
    let Some(item) = mailbox.required("tenant", cure) else {
        return Owner::of(None);
    };
    if !item.value().is_table() {
        return Owner::of(item.reference("tenant", "tenants", tenants));
    }
    let Some(section) = item.section("the tenants of a shared mailbox") else {
        return Owner::of(None);
    };
    let by = section
        .required("by", "add by = \"sender\"")
        .and_then(|item| {
            let known = [
                ("sender", AttributeBy::Sender),
                ("recipient", AttributeBy::Recipient),
                ("plus-address", AttributeBy::PlusAddress),
            ];
            let by = item.choice(&known, &[]);
            let has_address = mailbox.peek("address").is_some();
            if by == Some(AttributeBy::PlusAddress) && !has_address {
                item.problem(
                    "needs the mailbox's address",
                    "add address = \"support@…\" to the mailbox",
                );
                return None;
            }
            by
        });
    let otherwise = section
        .required(
            "otherwise",
            "add otherwise = \"…\", the tenant of mail that fits no client",
        )
        .and_then(|item| item.reference("tenant", "tenants", tenants));
    section.finish();
    Owner {
        is_sound: by.is_some() && otherwise.is_some(),
        tenant: otherwise,
        shared_by: by,
    }
}

impl Owner {
    fn of(tenant: Option<String>) -> Self {
        Self {
            is_sound: tenant.is_some(),
            tenant,
            shared_by: None,
        }
    }
}

/// Returns a mailbox's chain for each of its tenants, and the mailbox as shared if it is.
pub fn chains(
    owner: &Owner,
    own: &OwnChain,
    tenants: &[Tenant],
) -> (Vec<ChainConfig>, Option<SharedMailbox>) {
    let rules_of = |name: &str| {
        let tenant = tenants.iter().find(|it| it.name == name);
        tenant.map_or(&[][..], |it| it.rules.as_slice())
    };
    let Some(otherwise) = &owner.tenant else {
        return (Vec::new(), None);
    };
    let mut names = vec![otherwise.as_str()];
    if owner.shared_by.is_some() {
        let others = tenants.iter().map(|it| it.name.as_str());
        names.extend(others.filter(|it| it != otherwise));
    }
    let chains: Vec<ChainConfig> = names
        .into_iter()
        .map(|name| own.of_tenant(name, rules_of(name)))
        .collect();
    let shared = owner.shared_by.map(|by| SharedMailbox {
        by,
        chains: chains
            .iter()
            .map(|chain| (chain.tenant.clone(), chain.rules.clone()))
            .collect(),
    });
    (chains, shared)
}

/// Returns a list that may be absent.
fn list<T: PartialEq>(
    section: &Section,
    key: &'static str,
    read: impl Fn(&Item) -> Option<T>,
) -> Option<Vec<T>> {
    match section.item(key) {
        Some(item) => item.each(read),
        None => Some(Vec::new()),
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
