//! Replay: recorded mail walks the rule chains again with a candidate in place, and what is decided now is compared with what was
//! recorded. The store is read only, so nothing follows from it.
//!
//! ```text
//! store ─reader thread→ batches ─→ parse, walk, compare (a thread a core) ─→ in order, mail by mail ─→ report
//! ```

mod answers;
mod candidate;
mod compare;
mod decider;
mod rehearsal;
mod report;
mod run;

use postroom_core::{Address, Decision};
use postroom_store::RecordedMail;
use serde::{Deserialize, Serialize};

use postroom_rules::chain_run::RuleCost;

pub use candidate::{Candidate, CandidateError, prepare, replaced};
pub use compare::{Comparison, compare, mismatch};
pub use decider::{MailboxUnderTest, ReplayDecider};
pub use rehearsal::{Rehearsal, Rehearsed};
pub use report::{Report, RuleReport};
pub use run::Replay;

/// A recorded mail and what became of it now.
#[derive(Debug, Clone)]
pub struct Replayed {
    pub mail: RecordedMail,
    pub end: End,
}

impl Replayed {
    /// Whether it was decided again, and not the same.
    pub fn differs(&self) -> bool {
        matches!(&self.end, End::Decided(compared) if compared.verdict != Comparison::Same)
    }
}

#[derive(Debug, Clone)]
pub enum End {
    Decided(Box<Compared>),
    Skipped(Skip),
}

/// Both decisions about one mail.
#[derive(Debug, Clone)]
pub struct Compared {
    pub from: Option<Address>,
    pub subject: String,
    pub verdict: Comparison,
    /// As it was recorded.
    pub before: Decision,
    /// As the candidate decides.
    pub after: Decision,
    pub unrecorded: Vec<Unrecorded>,
    /// The cost of each rule of the candidate's chain that ran.
    pub spent: Vec<RuleCost>,
}

/// A question of a rule that was not asked when the mail was decided; it was answered as empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    pub rule: String,
    pub asked: Asked,
    pub key: String,
}

/// A capability that is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asked {
    Kv,
    Lookup,
}

impl Asked {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kv => "kv",
            Self::Lookup => "lookup",
        }
    }
}

/// Why a mail was not decided again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Skip {
    /// No rule ever saw it: it was too large, not whole, or given up.
    SetAside,
    /// Its bytes are older than `keep_raw`.
    Purged,
    /// Its mailbox is no longer configured, or now belongs to another tenant.
    NotConfigured,
    /// The record cannot be read.
    Unreadable,
    /// Postroom itself failed on it.
    Defect,
}

impl Skip {
    pub const ALL: [Self; 5] = [
        Self::SetAside,
        Self::Purged,
        Self::NotConfigured,
        Self::Unreadable,
        Self::Defect,
    ];

    /// As it stands in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetAside => "set-aside",
            Self::Purged => "purged",
            Self::NotConfigured => "not-configured",
            Self::Unreadable => "unreadable",
            Self::Defect => "defect",
        }
    }

    /// Describes such mails, after their number.
    pub fn words(self) -> &'static str {
        match self {
            Self::SetAside => "set aside by the line, no rule saw them",
            Self::Purged => "without bytes, older than keep_raw",
            Self::NotConfigured => "of mailboxes that are not configured",
            Self::Unreadable => "whose record cannot be read",
            Self::Defect => "on which Postroom itself failed",
        }
    }

    /// Whether something is wrong, and not only gone.
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Unreadable | Self::Defect)
    }
}
