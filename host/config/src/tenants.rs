//! Reads `[tenants.*]`: the clients, with the settings, grants and limits of their rules.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use postroom_core::{ActionKind, ActionKinds, Clients, Grants};

use super::alerts::{self, AlertsConfig};
use super::limits::{self, TenantLimits};
use super::profiles::sound_directory;
use super::reader::{Item, Section};
use super::rules::ChainConfig;
use super::{DirectoryFile, Duplicates, OnFailure, Tenant, identity, rules};
use crate::suggest::hint;

/// The rules that tenants name outside of chains, with their positions.
#[derive(Default)]
pub struct SettingsKeys<'r> {
    keys: Vec<SettingsKey<'r>>,
    /// The tenants' lists of own rules.
    own_rules: Vec<(&'r str, Item<'r>)>,
}

struct SettingsKey<'r> {
    tenant: &'r str,
    rule: &'r str,
    item: Item<'r>,
}

/// Returns the tenants without problems, and every rule that they name outside of chains.
pub fn read<'r>(
    entries: Vec<(&'r str, Item<'r>)>,
    all_limits: &TenantLimits,
    all_alerts: &AlertsConfig,
    public: Option<&Clients>,
) -> (Vec<Tenant>, SettingsKeys<'r>) {
    let mut keys = SettingsKeys::default();
    let mut domains = HashMap::new();
    let all = (all_limits, all_alerts, public);
    let tenants = entries
        .into_iter()
        .filter_map(|(name, item)| read_one(name, &item, all, &mut keys, &mut domains))
        .collect();
    (tenants, keys)
}

fn read_one<'r>(
    name: &'r str,
    item: &Item<'r>,
    (all_limits, all_alerts, public): (&TenantLimits, &AlertsConfig, Option<&Clients>),
    keys: &mut SettingsKeys<'r>,
    taken: &mut HashMap<String, (&'r str, String)>,
) -> Option<Tenant> {
    let section = item.section("a tenant")?;
    let domains = match section.item("domains") {
        Some(list) => {
            if list.value().is_array() {
                let items = list.list().into_iter().flatten();
                items.for_each(|item| {
                    warn_if_public(&item, public);
                    warn_if_taken(name, &item, taken);
                });
            }
            list.each(|domain| domain.domain())
        }
        None => Some(Vec::new()),
    };
    let address_list = |key| match section.item(key) {
        Some(list) => list.each(|address| address.address()),
        None => Some(Vec::new()),
    };
    let addresses = address_list("addresses");
    let recipients = address_list("recipients");
    let rules = match section.item("rules") {
        Some(item) => {
            let rules = rules::read_own(&item);
            keys.own_rules.push((name, item));
            rules
        }
        None => Some(Vec::new()),
    };
    let threads = identity::read_thread_policy(&section);
    let capabilities = match section.item("grants") {
        Some(item) => item.each(|grant| {
            let known = Grants::CAPABILITIES.map(|it| (it, it));
            grant.choice(&known, &["attribute"])
        }),
        None => Some(Vec::new()),
    };
    let actions = match section.item("actions") {
        Some(item) => {
            let known = ActionKind::ALL.map(|kind| (kind.as_str(), kind));
            item.each(|kind| kind.choice(&known, &[]))
                .map(ActionKinds::from_iter)
        }
        None => Some(ActionKinds::ALL),
    };
    // Used by the mailboxes that sign in to it.
    let directory = match section.item("directory") {
        Some(item) => sound_directory(&item).map(Some),
        None => Some(None),
    };
    let contacts = directory_file(&section, "contacts");
    let assets = directory_file(&section, "assets");
    let limits = limits::read_tenant(&section, all_limits);
    let alerts = alerts::read_tenant(name, &section, all_alerts);
    let duplicates = match section.item("duplicates") {
        Some(item) => item.choice(&Duplicates::ALL, &[]),
        None => Some(Duplicates::One),
    };
    let rule_tests = match section.item("rule_tests") {
        Some(item) => item.flag(),
        None => Some(false),
    };
    let mut settings = Some(BTreeMap::new());
    if let Some(table) = section.section("settings", "a tenant's settings") {
        for (rule, item) in table.entries() {
            // A rule receives an object, never a bare value.
            let value = item.section("a rule's settings").and_then(|_| item.json());
            match (value, &mut settings) {
                (Some(value), Some(settings)) => {
                    settings.insert(rule.to_owned(), value);
                }
                _ => settings = None,
            }
            keys.keys.push(SettingsKey {
                tenant: name,
                rule,
                item,
            });
        }
    }
    let mut on_failure = Some(BTreeMap::new());
    if let Some(table) = section.section("on_failure", "what becomes of mails on which rules fail")
    {
        for (rule, item) in table.entries() {
            match (item.choice(&OnFailure::ALL, &[]), &mut on_failure) {
                (Some(choice), Some(all)) => {
                    all.insert(rule.to_owned(), choice);
                }
                _ => on_failure = None,
            }
            keys.keys.push(SettingsKey {
                tenant: name,
                rule,
                item,
            });
        }
    }
    section.finish();
    directory?;
    Some(Tenant {
        name: name.into(),
        file: item.reader.file.into(),
        domains: domains?,
        addresses: addresses?,
        recipients: recipients?,
        rules: rules?,
        threads: threads?,
        settings: settings?,
        on_failure: on_failure?,
        grants: Grants {
            kv: capabilities.as_ref()?.contains(&"kv"),
            lookup: capabilities?.contains(&"lookup"),
            actions: actions?,
        },
        contacts: contacts?,
        assets: assets?,
        limits: limits.rule,
        test_limits: limits.tests,
        mails_per_minute: limits.mails_per_minute,
        rule_tests: rule_tests?,
        alerts,
        duplicates: duplicates?,
    })
}

/// Warns of a domain where anybody can have an address: nobody is attributed by it.
fn warn_if_public(item: &Item, public: Option<&Clients>) {
    let domain = item.value().as_str().map(str::to_lowercase);
    if let (Some(domain), Some(public)) = (domain, public)
        && public.is_public(&domain)
    {
        item.warning(
            format!(
                "{domain} is a public mail domain: no sender belongs to a client because of it"
            ),
            "list the addresses of the client's people there in addresses = [\"…\"]",
        );
    }
}

/// Warns of a domain that another tenant has, too: only one of them can be a sender's client.
fn warn_if_taken<'r>(
    tenant: &'r str,
    item: &Item<'r>,
    taken: &mut HashMap<String, (&'r str, String)>,
) {
    let Some(domain) = item.value().as_str().map(str::to_lowercase) else {
        return;
    };
    match taken.get(&domain) {
        Some((other, place)) if *other != tenant => item.warning(
            format!("{domain} is a domain of tenant \"{other}\", too ({place})"),
            "give the domain to the one client whose people write from it",
        ),
        _ => {
            taken.insert(domain, (tenant, item.reader.place(item.at)));
        }
    }
}

/// Returns a file of contacts or assets; an outer `None` if it has a problem.
fn directory_file(tenant: &Section, key: &'static str) -> Option<Option<DirectoryFile>> {
    let Some(item) = tenant.item(key) else {
        return Some(None);
    };
    let name = rules::tidy(item.text()?);
    let extension = Path::new(&name).extension().and_then(|it| it.to_str());
    if !matches!(extension, Some("csv" | "toml")) {
        item.problem(
            format!("\"{name}\" is neither a .csv nor a .toml file"),
            format!("name the file of its {key}, such as \"{key}.csv\""),
        );
        return None;
    }
    let path = rules::file_inside(&item, &name, "file")?;
    Some(Some(DirectoryFile { name, path }))
}

impl SettingsKeys<'_> {
    /// Refuses settings and similar keys for a rule that none of the tenant's mailboxes runs.
    pub fn check(&self, chains: &[ChainConfig]) {
        for (tenant, item) in &self.own_rules {
            let mut own = chains.iter().filter(|it| it.tenant == *tenant);
            if !own.any(|it| it.has_own) {
                item.warning(
                    format!("never run: no mailbox of tenant \"{tenant}\" has \"tenant\" among its rules"),
                    "add \"tenant\" to the rules of the mailbox, where they shall run",
                );
            }
        }
        for key in &self.keys {
            let rules: Vec<&str> = chains
                .iter()
                .filter(|chain| chain.tenant == key.tenant)
                .flat_map(|chain| chain.names.iter().map(String::as_str))
                .collect();
            if rules.contains(&key.rule) {
                continue;
            }
            let cure =
                "name the rule as in the mailbox's rules, in quotes, such as \"rules/acme.js\"";
            let hint = hint(key.rule, rules.iter().copied());
            key.item.problem(
                format!(
                    "no mailbox of tenant \"{}\" has this rule{hint}",
                    key.tenant
                ),
                cure,
            );
        }
    }
}
