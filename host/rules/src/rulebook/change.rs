//! The changes found by a look at the files, compared with the live versions, before any of them goes live.

use std::collections::HashMap;
use std::sync::Arc;

use super::look::Looked;
use super::wiring::Chains;
use super::{Chain, Generation, LiveRule, LoadRefusal, RuleId};
use crate::cases::Tested;

/// The rules that changed, or whose files did.
pub struct Change<'a> {
    serving: &'a Generation,
    looked: &'a Looked,
    chains: &'a Chains,
}

/// The version that runs in place of a rule whose file is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Serves {
    /// The version that was live until now.
    Same,
    /// An earlier live version, from the store.
    Earlier,
    /// None: each mail goes to the next rule.
    Nothing,
}

impl<'a> Change<'a> {
    pub(super) fn new(serving: &'a Generation, looked: &'a Looked, chains: &'a Chains) -> Self {
        Self {
            serving,
            looked,
            chains,
        }
    }

    /// Returns whether there is anything to report. Files may change without news, such as a fault that was already
    /// reported.
    pub fn is_news(&self) -> bool {
        let looked = self.looked;
        !looked.changed.is_empty() || !looked.refused.is_empty() || !looked.passed.is_empty()
    }

    /// Returns the live generation; `None` at the start.
    pub fn generation(&self) -> Option<u64> {
        Some(self.serving.number).filter(|number| *number > 0)
    }

    /// Returns the rules whose files are about to go live.
    pub fn fresh(&self) -> &'a [RuleId] {
        &self.looked.sound
    }

    /// Returns the rules that go back to an earlier version.
    pub fn returned(&self) -> &'a [RuleId] {
        &self.looked.returned
    }

    /// Returns the rules whose files are refused.
    pub fn refused(&self) -> &'a [(RuleId, LoadRefusal)] {
        &self.looked.refused
    }

    /// Returns the rules whose tests passed, including those without tests.
    pub fn passed(&self) -> &'a [(RuleId, Tested)] {
        &self.looked.passed
    }

    pub fn serves(&self, id: &RuleId) -> Serves {
        let of = |rules: Option<&Arc<LiveRule>>| {
            rules.and_then(|rule| rule.rule.is_ok().then(|| rule.hash.clone()))
        };
        match (
            of(self.serving.rules.get(id)),
            of(self.looked.rules.get(id)),
        ) {
            (_, None) => Serves::Nothing,
            (before, after) if before == after => Serves::Same,
            _ => Serves::Earlier,
        }
    }

    /// Returns the mailboxes, each with a tenant, whose chains have a rule that is about to go live.
    pub fn mailboxes(&self) -> Vec<(&'a str, &'a str)> {
        let fresh = |ids: &Vec<RuleId>| ids.iter().any(|id| self.looked.sound.contains(id));
        let of_mailbox = |(mailbox, chains): (&'a String, &'a HashMap<String, Vec<RuleId>>)| {
            let chains = chains.iter().filter(|(_, ids)| fresh(ids));
            chains.map(move |(tenant, _)| (mailbox.as_str(), tenant.as_str()))
        };
        let mut names: Vec<_> = self.chains.iter().flat_map(of_mailbox).collect();
        names.sort_unstable();
        names
    }

    /// Returns a mailbox's live rules for a tenant; `None` at the start. Their failures here do not count.
    pub fn serving_chain(&self, mailbox: &str, tenant: &str) -> Option<Chain> {
        let number = self.generation()?;
        let rules = &self.serving.rules;
        let ids = self.ids(mailbox, tenant);
        Some(chain(ids, number, |id| rules.get(id)))
    }

    /// Returns a mailbox's rules for a tenant as they are about to go live. Their failures here do not count.
    pub fn fresh_chain(&self, mailbox: &str, tenant: &str) -> Chain {
        let rules = &self.looked.rules;
        chain(self.ids(mailbox, tenant), 0, |id| rules.get(id))
    }

    fn ids(&self, mailbox: &str, tenant: &str) -> &'a [RuleId] {
        let chains = self.chains.get(mailbox);
        let ids = chains.and_then(|chains| chains.get(tenant));
        ids.map_or(&[], Vec::as_slice)
    }
}

fn chain<'r>(
    ids: &[RuleId],
    generation: u64,
    rule: impl Fn(&RuleId) -> Option<&'r Arc<LiveRule>>,
) -> Chain {
    let ids = ids.iter();
    Chain {
        generation,
        rules: ids
            .filter_map(|id| rule(id).map(|rule| Arc::new(rule.beside())))
            .collect(),
    }
}
