//! Disables the parts of a configuration that have problems, so that one client's fault stops no other client.

use std::collections::BTreeSet;

use super::reader::Part;
use super::{Config, Declared, Misconfigured, Problem};

/// Removes every mailbox that has a problem, or needs a part that has one. Returns `None` where no mailbox is left.
pub fn disable(
    mut config: Config,
    declared: &[Declared],
    problems: Vec<(Part, Problem)>,
) -> Option<Config> {
    let of_files: Vec<Problem> = problems
        .iter()
        .filter(|(part, _)| *part == Part::File)
        .map(|(_, problem)| problem.clone())
        .collect();
    let mut disabled = BTreeSet::new();
    for mailbox in declared {
        let own: Vec<Problem> = problems
            .iter()
            .filter(|(part, _)| mailbox.needs(part))
            .map(|(_, problem)| problem.clone())
            .collect();
        let is_read = config.mailbox(mailbox.name).is_some();
        if is_read && own.is_empty() {
            continue;
        }
        // A mailbox that needs something in a file that cannot be read.
        let problems = if own.is_empty() { of_files.clone() } else { own };
        disabled.insert(mailbox.name);
        config.misconfigured.push(Misconfigured {
            mailbox: Some(mailbox.name.to_owned()),
            tenant: mailbox.tenant.clone(),
            address: mailbox.address.clone(),
            problems,
        });
    }
    config
        .mailboxes
        .retain(|mailbox| !disabled.contains(mailbox.name.as_str()));
    config
        .tenants
        .retain(|tenant| !has_problem(&problems, Part::Tenant(&tenant.name)));
    config
        .profiles
        .retain(|profile| !has_problem(&problems, Part::Profile(&profile.name)));
    config
        .outgoing
        .retain(|outgoing| !has_problem(&problems, Part::Outgoing(&outgoing.name)));
    if !of_files.is_empty() {
        config.misconfigured.push(Misconfigured {
            mailbox: None,
            tenant: None,
            address: None,
            problems: of_files,
        });
    }
    (!config.mailboxes.is_empty()).then_some(config)
}

fn has_problem(problems: &[(Part, Problem)], part: Part) -> bool {
    problems.iter().any(|(it, _)| *it == part)
}

impl<'r> Declared<'r> {
    /// A mailbox of which nothing is read yet.
    pub fn of(name: &'r str) -> Self {
        Self {
            name,
            tenant: None,
            address: None,
            outgoing: None,
            profiles: Vec::new(),
        }
    }

    fn needs(&self, part: &Part) -> bool {
        let is = |name: &Option<String>, other: &str| name.as_deref() == Some(other);
        match part {
            Part::Whole | Part::File => false,
            Part::Mailbox(name) => self.name == *name,
            Part::Tenant(name) => is(&self.tenant, name),
            Part::Outgoing(name) => is(&self.outgoing, name),
            Part::Profile(name) => self.profiles.iter().any(|it| it == name),
        }
    }
}
