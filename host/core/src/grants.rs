//! Which kinds of action a rule may ask for: what a tenant grants, and what is refused by name.

use serde::{Deserialize, Serialize};

use crate::decision::Action;

/// The kinds of action, as configuration and JSON name them.
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
    Custom,
}

impl ActionKind {
    pub const ALL: [Self; 9] = [
        Self::Ticket,
        Self::Note,
        Self::Alert,
        Self::Reply,
        Self::Forward,
        Self::Ignore,
        Self::Quarantine,
        Self::Expect,
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
            Self::Custom => "custom",
        }
    }

    /// Whether it says what becomes of the mail; what does not rides along.
    pub fn is_disposition(self) -> bool {
        match self {
            Self::Ticket | Self::Note | Self::Alert | Self::Ignore | Self::Quarantine => true,
            Self::Reply | Self::Forward | Self::Expect | Self::Custom => false,
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
            Action::Custom { .. } => ActionKind::Custom,
        }
    }
}

/// A set of kinds; all of them where nobody chose.
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

/// Why an action is refused that its tenant was not granted.
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
