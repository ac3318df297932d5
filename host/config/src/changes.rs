//! Compares two configurations part by part, so that a saved one is applied where it differs and nowhere else.

use std::fmt;

use serde::Serialize;

use super::{Config, LineLimits, MailboxConfig};

/// A limit, as a number.
type OneLimit = fn(&LineLimits) -> u64;

/// The limits that a service takes over only when it starts; see `started_with`.
const AT_START: [(&str, OneLimit); 7] = [
    ("limits.in_flight_bytes", |it| it.in_flight_bytes),
    ("limits.loaded_total", |it| it.loaded_total as u64),
    ("limits.generations", |it| it.generations),
    ("limits.generation_bytes", |it| it.generation_bytes),
    ("limits.dials_per_host", |it| it.dials_per_host.into()),
    ("limits.dials_per_second", |it| it.dials_per_second.into()),
    ("limits.fetches_per_tenant", |it| {
        it.fetches_per_tenant.into()
    }),
];

/// The differences between a configuration and the one before it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    pub added: Vec<PartName>,
    pub removed: Vec<PartName>,
    pub changed: Vec<PartName>,
    /// The changed settings that a running service takes over only when it starts again.
    pub at_restart: Vec<&'static str>,
}

/// A named part of a configuration, or a setting for everything.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct PartName {
    pub kind: PartKind,
    pub name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PartKind {
    Setting,
    Profile,
    Tenant,
    Mailbox,
    Outgoing,
    Sink,
}

impl Changes {
    /// Returns the settings that differ in `after`.
    pub(crate) fn of_settings(before: &Config, after: &Config) -> Self {
        let mut changes = Self::default();
        changes.settings(before, after);
        changes
    }

    /// Adds the named parts that differ in `after`.
    pub(crate) fn add_parts(&mut self, before: &Config, after: &Config) {
        let (b, a) = (before, after);
        self.parts(PartKind::Profile, &b.profiles, &a.profiles, |it| &it.name);
        self.parts(PartKind::Tenant, &b.tenants, &a.tenants, |it| &it.name);
        self.parts(PartKind::Mailbox, &b.mailboxes, &a.mailboxes, |it| &it.name);
        self.parts(PartKind::Outgoing, &b.outgoing, &a.outgoing, |it| &it.name);
        self.parts(PartKind::Sink, &b.sinks, &a.sinks, |it| &it.name);
    }

    pub fn is_empty(&self) -> bool {
        !self.is_of_parts() && self.at_restart.is_empty()
    }

    /// Returns whether a part or a setting differs that a running service takes over.
    pub fn is_of_parts(&self) -> bool {
        let lists = [&self.added, &self.removed, &self.changed];
        lists.iter().any(|it| !it.is_empty())
    }

    fn settings(&mut self, before: &Config, after: &Config) {
        let waits = [
            ("data_dir", before.data_dir != after.data_dir),
            ("vault", before.vault_key != after.vault_key),
            ("tls", before.extra_roots != after.extra_roots),
            ("proxy", before.proxies != after.proxies),
        ];
        let waits = waits.iter().filter(|(_, differs)| *differs);
        self.at_restart = waits.map(|(name, _)| *name).collect();
        let (b, a) = (&before.limits, &after.limits);
        let limits = AT_START.iter().filter(|(_, of)| of(b) != of(a));
        self.at_restart.extend(limits.map(|(name, _)| *name));
        let applied = [
            ("keep_raw", before.keep_raw != after.keep_raw),
            (
                "staff, attribution or threading",
                before.identity != after.identity,
            ),
            (
                "limits",
                before.limits != before.limits.started_with(&after.limits),
            ),
        ];
        let applied = applied.iter().filter(|(_, differs)| *differs);
        self.changed.extend(applied.map(|(name, _)| PartName {
            kind: PartKind::Setting,
            name: (*name).to_owned(),
        }));
    }

    fn parts<T: PartialEq>(
        &mut self,
        kind: PartKind,
        before: &[T],
        after: &[T],
        name: impl Fn(&T) -> &String,
    ) {
        let named = |part: &T| PartName {
            kind,
            name: name(part).clone(),
        };
        let old: std::collections::HashMap<&String, &T> =
            before.iter().map(|it| (name(it), it)).collect();
        let new: std::collections::HashSet<&String> = after.iter().map(&name).collect();
        for part in after {
            match old.get(name(part)) {
                None => self.added.push(named(part)),
                Some(was) if *was != part => self.changed.push(named(part)),
                Some(_) => {}
            }
        }
        let gone = before.iter().filter(|it| !new.contains(name(it)));
        self.removed.extend(gone.map(named));
    }
}

impl MailboxConfig {
    /// Returns whether the session of one serves the other as well: what differs concerns only how its mail is decided.
    pub fn has_same_session(&self, other: &Self) -> bool {
        let named = |it: &Self| (it.name.clone(), it.tenant.clone(), it.address.clone());
        let checks = |it: &Self| (it.every, it.session, it.protocol_log_bytes);
        let after = |it: &Self| (it.after_done.clone(), it.after_failed.clone());
        named(self) == named(other)
            && (&self.source, &self.proxies) == (&other.source, &other.proxies)
            && checks(self) == checks(other)
            && after(self) == after(other)
    }
}

impl Config {
    /// Takes over what a running service cannot change, from the configuration that it was started with.
    pub(crate) fn keep_until_restart(&mut self, running: &Config) {
        self.data_dir.clone_from(&running.data_dir);
        self.vault_key.clone_from(&running.vault_key);
        self.installations.clone_from(&running.installations);
        self.extra_roots.clone_from(&running.extra_roots);
        // Those that inherit the proxies go on with them, as tokens and webhooks do.
        let of_mailboxes = self.mailboxes.iter_mut().map(|it| &mut it.proxies);
        let of_outgoing = self.outgoing.iter_mut().map(|it| &mut it.proxies);
        for own in of_mailboxes.chain(of_outgoing) {
            if *own == self.proxies {
                own.clone_from(&running.proxies);
            }
        }
        self.proxies.clone_from(&running.proxies);
        self.limits = running.limits.started_with(&self.limits);
    }
}

impl LineLimits {
    /// Returns `after`, but with those of these limits that a running service cannot change.
    fn started_with(&self, after: &Self) -> Self {
        Self {
            in_flight_bytes: self.in_flight_bytes,
            loaded_total: self.loaded_total,
            generations: self.generations,
            generation_bytes: self.generation_bytes,
            dials_per_host: self.dials_per_host,
            dials_per_second: self.dials_per_second,
            fetches_per_tenant: self.fetches_per_tenant,
            ..after.clone()
        }
    }
}

impl PartKind {
    /// Returns the kind as the user knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Profile => "profile",
            Self::Tenant => "tenant",
            Self::Mailbox => "mailbox",
            Self::Outgoing => "outgoing",
            Self::Sink => "sink",
        }
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            PartKind::Setting => f.write_str(&self.name),
            kind => write!(f, "{} {}", kind.as_str(), self.name),
        }
    }
}
