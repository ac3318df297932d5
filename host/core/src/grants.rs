//! Grants of actions: the kinds that a tenant's rules may request, and the refusal of others by name.

use serde::{Deserialize, Serialize};

use crate::decision::Action;

/// The kinds of action, named as in configuration and JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionKind {
    Ticket,
    Note,
    Alert,
    Reply,
    Forward,
    Ignore,
    Quarantine,
    Expect,
    Update,
    Close,
    Custom,
}

impl ActionKind {
    pub const ALL: [Self; 11] = [
        Self::Ticket,
        Self::Note,
        Self::Alert,
        Self::Reply,
        Self::Forward,
        Self::Ignore,
        Self::Quarantine,
        Self::Expect,
        Self::Update,
        Self::Close,
        Self::Custom,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Note => "note",
            Self::Alert => "alert",
            Self::Reply => "reply",
            Self::Forward => "forward",
            Self::Ignore => "ignore",
            Self::Quarantine => "quarantine",
            Self::Expect => "expect",
            Self::Update => "update",
            Self::Close => "close",
            Self::Custom => "custom",
        }
    }

    /// Returns whether the action is a disposition; all others are side actions.
    pub fn is_disposition(self) -> bool {
        match self {
            Self::Ticket | Self::Note | Self::Alert | Self::Ignore | Self::Quarantine => true,
            Self::Reply
            | Self::Forward
            | Self::Expect
            | Self::Update
            | Self::Close
            | Self::Custom => false,
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl Action {
    pub fn kind(&self) -> ActionKind {
        match self {
            Action::Ticket(_) => ActionKind::Ticket,
            Action::Note(_) => ActionKind::Note,
            Action::Alert(_) => ActionKind::Alert,
            Action::Reply(_) => ActionKind::Reply,
            Action::Forward { .. } => ActionKind::Forward,
            Action::Ignore { .. } => ActionKind::Ignore,
            Action::Quarantine { .. } => ActionKind::Quarantine,
            Action::Expect(_) => ActionKind::Expect,
            Action::Update(_) => ActionKind::Update,
            Action::Close(_) => ActionKind::Close,
            Action::Custom { .. } => ActionKind::Custom,
        }
    }
}

/// A set of kinds; all kinds by default.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ActionKinds(u16);

impl ActionKinds {
    pub const ALL: Self = Self((1 << ActionKind::ALL.len()) - 1);

    pub fn has(self, kind: ActionKind) -> bool {
        self.0 & bit(kind) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = ActionKind> {
        ActionKind::ALL
            .into_iter()
            .filter(move |kind| self.has(*kind))
    }
}

impl Default for ActionKinds {
    fn default() -> Self {
        Self::ALL
    }
}

impl FromIterator<ActionKind> for ActionKinds {
    fn from_iter<I: IntoIterator<Item = ActionKind>>(kinds: I) -> Self {
        Self(kinds.into_iter().fold(0, |set, kind| set | bit(kind)))
    }
}

impl std::fmt::Debug for ActionKinds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::ALL => f.write_str("all"),
            some => f
                .debug_list()
                .entries(some.iter().map(ActionKind::as_str))
                .finish(),
        }
    }
}

/// Returns why an action that its tenant was not granted is refused.
pub fn not_granted(what: &str, tenant: &str) -> String {
    format!("{what} is not granted to tenant {tenant}")
}

fn bit(kind: ActionKind) -> u16 {
    1 << kind as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_into_it() {
        let set: ActionKinds = [ActionKind::Custom, ActionKind::Ticket]
            .into_iter()
            .collect();
        let kinds: Vec<_> = set.iter().map(ActionKind::as_str).collect();
        assert_eq!(kinds, ["ticket", "custom"]);
        assert_eq!(ActionKinds::default().iter().count(), ActionKind::ALL.len());
        for kind in ActionKind::ALL {
            assert_eq!(ActionKind::named(kind.as_str()), Some(kind));
        }
    }
}
