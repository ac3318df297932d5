//! Disables the parts of a configuration that have problems, so that a mistake for one client affects no other.

use std::collections::BTreeSet;

use super::accounts::Places;
use super::reader::{Part, join};
use super::{Config, Declared, Problem, Sink};

/// A mailbox that cannot run because of problems in its own part of the configuration, or a file that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misconfigured {
    /// `None` for a file.
    pub mailbox: Option<String>,
    /// `None` for a file, and for a mailbox without a valid tenant.
    pub tenant: Option<String>,
    /// The addresses at which its mail arrives, as far as they could be read.
    pub addresses: Vec<String>,
    /// Never empty.
    pub problems: Vec<Problem>,
}

/// Removes every mailbox that has a problem, or that needs a part with a problem. Returns `None` if no mailbox is left.
pub fn disable(
    mut config: Config,
    declared: &[Declared],
    problems: Vec<(Part, Problem)>,
) -> Option<Config> {
    let unread: Vec<Problem> = problems
        .iter()
        .filter(|(part, _)| *part == Part::Unread)
        .map(|(_, problem)| problem.clone())
        .collect();
    let mut disabled = BTreeSet::new();
    for mailbox in declared {
        let mut why: Vec<Problem> = problems
            .iter()
            .filter(|(part, _)| mailbox.needs(part))
            .map(|(_, problem)| problem.clone())
            .collect();
        if why.is_empty() && !mailbox.lacks_a_part(&config) {
            continue;
        }
        // Without a problem of its own, it needs something from a file that could not be read.
        if why.is_empty() {
            why.clone_from(&unread);
        }
        disabled.insert(mailbox.name);
        config.misconfigured.push(Misconfigured {
            mailbox: Some(mailbox.name.to_owned()),
            tenant: mailbox.tenant.clone(),
            addresses: mailbox.addresses.clone(),
            problems: why,
        });
    }
    // A problem that disables no mailbox is reported all the same.
    let is_reported = |problem: &Problem| {
        let mut all = config.misconfigured.iter();
        all.any(|it| it.problems.contains(problem))
    };
    let others: Vec<Problem> = problems
        .iter()
        .filter(|(part, problem)| *part == Part::Unread || !is_reported(problem))
        .map(|(_, problem)| problem.clone())
        .collect();
    config
        .mailboxes
        .retain(|mailbox| !disabled.contains(mailbox.name.as_str()));
    config
        .tenants
        .retain(|tenant| !has_problem(&problems, Part::Tenant(&tenant.name)));
    // The mail of a client that is gone fits no client.
    let tenants: BTreeSet<&str> = config.tenants.iter().map(|it| it.name.as_str()).collect();
    for shared in config
        .mailboxes
        .iter_mut()
        .filter_map(|it| it.shared.as_mut())
    {
        shared
            .chains
            .retain(|tenant, _| tenants.contains(tenant.as_str()));
    }
    config
        .profiles
        .retain(|profile| !has_problem(&problems, Part::Profile(&profile.name)));
    config
        .outgoing
        .retain(|outgoing| !has_problem(&problems, Part::Outgoing(&outgoing.name)));
    if !others.is_empty() {
        config.misconfigured.push(Misconfigured {
            mailbox: None,
            tenant: None,
            addresses: Vec::new(),
            problems: others,
        });
    }
    // A configuration without mailboxes serves `postroom send`; one whose mailboxes are all disabled serves nobody.
    let only_sends = disabled.is_empty() && !config.outgoing.is_empty();
    (!config.mailboxes.is_empty() || only_sends).then_some(config)
}

/// Refuses a sink in an included file that takes items of clients in other files: it would miss them while a problem disables its
/// file.
pub fn confine(sinks: Vec<Sink>, places: &Places, tenants: &Places) -> Vec<Sink> {
    let is_confined = |sink: &Sink| {
        let Some((reader, at)) = places.get(&sink.name).filter(|(it, _)| it.order > 0) else {
            return true;
        };
        let is_own = |tenant: &String| {
            let place = tenants.get(tenant);
            place.is_none_or(|(it, _)| it.order == reader.order)
        };
        let all_own = sink
            .tenants
            .as_ref()
            .is_some_and(|it| it.iter().all(is_own));
        if !all_own {
            reader.problem(
                reader.part(),
                at,
                &join("sinks", &sink.name),
                "takes items of clients in other files",
                "narrow it by tenants = [\"…\"] to the clients of this file, or move it to the main file",
            );
        }
        all_own
    };
    sinks.into_iter().filter(is_confined).collect()
}

fn has_problem(problems: &[(Part, Problem)], part: Part) -> bool {
    problems.iter().any(|(it, _)| *it == part)
}

impl<'r> Declared<'r> {
    /// Creates the entry of a mailbox that has not been read yet.
    pub fn of(name: &'r str, file: usize) -> Self {
        Self {
            name,
            file,
            tenant: None,
            addresses: Vec::new(),
            tenant_file: None,
            outgoing: None,
            profiles: Vec::new(),
        }
    }

    /// Returns whether the mailbox, its tenant or its outgoing is missing.
    fn lacks_a_part(&self, config: &Config) -> bool {
        let outgoing = self.outgoing.as_deref();
        let tenant = self.tenant.as_deref();
        config.mailbox(self.name).is_none()
            || tenant.is_none_or(|name| config.tenant(name).is_none())
            || outgoing.is_some_and(|name| config.outgoing(name).is_none())
    }

    fn needs(&self, part: &Part) -> bool {
        let is = |name: &Option<String>, other: &str| name.as_deref() == Some(other);
        match part {
            Part::Whole | Part::Unread => false,
            Part::File(order) => self.file == *order || self.tenant_file == Some(*order),
            Part::Mailbox(name) => self.name == *name,
            Part::Tenant(name) => is(&self.tenant, name),
            Part::Outgoing(name) => is(&self.outgoing, name),
            Part::Profile(name) => self.profiles.iter().any(|it| it == name),
        }
    }
}
