//! Replay: recorded mail runs through the rule chains again with a candidate in place, and the new decisions are compared with
//! the recorded ones. The store is only read, so a replay has no effects.
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
pub use run::{ChainKey, Replay};

/// A recorded mail and the result of replaying it.
#[derive(Debug, Clone)]
pub struct Replayed {
    pub mail: RecordedMail,
    pub end: End,
}

impl Replayed {
    /// Returns whether the mail was decided again, with a different result.
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
    /// The recorded decision.
    pub before: Decision,
    /// The candidate's decision.
    pub after: Decision,
    pub unrecorded: Vec<Unrecorded>,
    /// The cost of each rule in the candidate's chain that ran.
    pub spent: Vec<RuleCost>,
}

/// A query by a rule that was not made when the mail was decided. It returned nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unrecorded {
    pub rule: String,
    pub asked: Asked,
    pub key: String,
}

/// The capability that was queried.
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
    /// No rule ever saw it: it was too large, incomplete or given up.
    SetAside,
    /// It is a copy of another mail.
    Copy,
    /// Its bytes are past `keep_raw`.
    Purged,
    /// Its mailbox is no longer configured, or now belongs to another tenant.
    NotConfigured,
    /// The record cannot be read.
    Unreadable,
    /// Postroom itself failed on it.
    Defect,
}

impl Skip {
    pub const ALL: [Self; 6] = [
        Self::SetAside,
        Self::Copy,
        Self::Purged,
        Self::NotConfigured,
        Self::Unreadable,
        Self::Defect,
    ];

    /// Returns the name used in JSON and in the store.
    pub fn name(self) -> &'static str {
        match self {
            Self::SetAside => "set-aside",
            Self::Copy => "copy",
            Self::Purged => "purged",
            Self::NotConfigured => "not-configured",
            Self::Unreadable => "unreadable",
            Self::Defect => "defect",
        }
    }

    /// Describes such mails; the text follows their number.
    pub fn words(self) -> &'static str {
        match self {
            Self::SetAside => "set aside by the line, no rule saw them",
            Self::Copy => "that are copies of other mails",
            Self::Purged => "without bytes, older than keep_raw",
            Self::NotConfigured => "of mailboxes that are not configured",
            Self::Unreadable => "whose record cannot be read",
            Self::Defect => "on which Postroom itself failed",
        }
    }

    /// Returns whether something is wrong, rather than merely gone.
    pub fn is_wrong(self) -> bool {
        matches!(self, Self::Unreadable | Self::Defect)
    }
}
