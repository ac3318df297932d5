//! Which of a tenant's records an action changes and a query reads; used for speculative batches.

use crate::decision::Action;
use crate::lookup::Query;

/// Kinds of records that decisions change and later decisions may read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Touches {
    pub tickets: bool,
    pub alerts: bool,
}

impl Touches {
    pub const NOTHING: Self = Self {
        tickets: false,
        alerts: false,
    };
    pub const TICKETS: Self = Self {
        tickets: true,
        ..Self::NOTHING
    };
    pub const ALERTS: Self = Self {
        alerts: true,
        ..Self::NOTHING
    };

    pub fn and(self, other: Self) -> Self {
        Self {
            tickets: self.tickets || other.tickets,
            alerts: self.alerts || other.alerts,
        }
    }

    pub fn is_nothing(self) -> bool {
        self == Self::NOTHING
    }

    /// Returns whether both name the same kind of record.
    pub fn overlap(self, other: Self) -> bool {
        self.tickets && other.tickets || self.alerts && other.alerts
    }
}

// Both matches name every variant, so that a new action or query does not compile until it is added here.

impl Action {
    /// Returns which records the commit of this action changes.
    pub fn touches(&self) -> Touches {
        match self {
            Self::Ticket(_) | Self::Note(_) | Self::Update(_) | Self::Close(_) => Touches::TICKETS,
            // A mail that was waited for resolves the alert about it.
            Self::Alert(_) | Self::Expect(_) => Touches::ALERTS,
            Self::Reply(_)
            | Self::Forward { .. }
            | Self::Ignore { .. }
            | Self::Quarantine { .. }
            | Self::Custom { .. } => Touches::NOTHING,
        }
    }
}

impl Query {
    /// Returns which records the result depends on. Contacts and assets come from files, which no decision changes.
    pub fn reads(&self) -> Touches {
        match self {
            Self::Ticket(_) | Self::Tickets(_) => Touches::TICKETS,
            Self::Alert(_) | Self::Alerts(_) => Touches::ALERTS,
            Self::Contact(_) | Self::Contacts(_) | Self::Asset(_) | Self::Assets(_) => {
                Touches::NOTHING
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{Note, Ticket};

    #[test]
    fn what_an_action_changes_overlaps_what_a_question_reads() {
        let alert = Query::Alert("a".into()).reads();
        let ticket = Query::Ticket("T-1".into()).reads();
        let contact = Query::Contact("a@b.example".into()).reads();
        for action in [
            Action::Ticket(Ticket::default()),
            Action::Note(Note::default()),
            Action::Update(Default::default()),
            Action::Close(Default::default()),
        ] {
            let touches = action.touches();
            assert!(touches.overlap(ticket));
            assert!(!touches.overlap(alert) && !touches.overlap(contact));
            assert!(touches.and(Touches::ALERTS).overlap(alert));
        }
        let ignored = Action::Ignore {
            reason: String::new(),
        };
        assert!(ignored.touches().is_nothing());
    }
}
