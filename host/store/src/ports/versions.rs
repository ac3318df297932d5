//! Versions of rules, contacts and assets: those that are live, those that were live before, and those that must not go live
//! again.

use std::collections::BTreeSet;
use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use postroom_core::{Alert, ContentHash};
use serde::{Serialize, Serializer};

use super::journal::DecisionId;
use crate::StoreError;

/// The versions that go live, and the rollback of failing rules.
#[async_trait]
pub trait Versions: Send + Sync {
    /// Saves the set of rules that goes live: these rules and, for the tenants in `unchanged`, the rules of the newest
    /// generation. Returns its number: the last number plus one, or the last number itself if the set is the same, as after a
    /// restart.
    async fn save_generation(
        &self,
        rules: Vec<RuleRecord>,
        unchanged: BTreeSet<String>,
        cause: GenerationCause,
    ) -> Result<u64, StoreError>;

    /// Returns the newest generation's number; 0 before the first.
    async fn newest_generation(&self) -> Result<u64, StoreError>;

    /// Returns the generation; see [`LastGood::good_before`].
    async fn good_before(
        &self,
        tenant: &str,
        name: &str,
        hash: &ContentHash,
    ) -> Result<Option<u64>, StoreError>;

    /// Refuses a version that failed on too many mails, and raises its alert, in one transaction.
    async fn send_back(&self, rule: SentBack) -> Result<(), StoreError>;

    /// Raises the alert of a version that fails but is not refused.
    async fn report_rule(
        &self,
        tenant: &str,
        decision: DecisionId,
        alert: Alert,
        sinks: Vec<String>,
    ) -> Result<(), StoreError>;

    /// Forgets the refused versions of a rule whose file changed, and resolves its alert.
    async fn forgive(
        &self,
        tenant: &str,
        name: &str,
        alert_key: &str,
        sinks: Vec<String>,
    ) -> Result<(), StoreError>;

    /// Returns the stored failure windows, by tenant and rule name.
    async fn strikes(&self) -> Result<Vec<StrikeRecord>, StoreError>;

    /// Stores these failure windows and forgets all others.
    async fn save_strikes(&self, all: Vec<StrikeRecord>) -> Result<(), StoreError>;

    /// Stores the content of a file, replacing the stored content of this file or of another of the same kind.
    async fn keep_file(&self, file: FileId, bytes: Bytes) -> Result<(), StoreError>;

    /// Deletes all files except these, which are the configured ones.
    async fn forget_files_but(&self, files: Vec<FileId>) -> Result<(), StoreError>;
}

/// The versions that were last live, for the threads that load rules, contacts and assets. Blocking: a task of the runtime never
/// calls it.
pub trait LastGood: Send + Sync {
    /// Returns every refused version, by tenant and name.
    fn refused_rules(&self) -> Result<Vec<RefusedRule>, StoreError>;

    /// Returns the version of a rule that was live last and has not been refused since.
    fn last_good(&self, tenant: &str, name: &str) -> Result<Option<RuleRecord>, StoreError>;

    /// Returns the generation that introduced the version that [`LastGood::last_good`] would return if this one were refused too.
    fn good_before(
        &self,
        tenant: &str,
        name: &str,
        hash: &ContentHash,
    ) -> Result<Option<u64>, StoreError>;

    /// Returns the stored content of a file.
    fn kept_file(&self, file: &FileId) -> Result<Option<Vec<u8>>, StoreError>;

    /// Returns the hash of the stored content of a file.
    fn kept_file_hash(&self, file: &FileId) -> Result<Option<ContentHash>, StoreError>;
}

/// One rule of a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleRecord {
    pub tenant: String,
    /// The rule's name in the configuration.
    pub name: String,
    /// The hash of `bytes`, which are stored once for each hash.
    pub hash: ContentHash,
    pub bytes: Bytes,
    /// Opaque here, like the grants.
    pub settings_json: String,
    pub grants_json: String,
}

/// A set of rules that went live together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    pub number: u64,
    /// RFC 3339 in UTC.
    pub saved: String,
    pub cause: GenerationCause,
    /// Hash over every rule's name, files, settings and grants; `None` for generations stored before it was recorded.
    pub hash: Option<ContentHash>,
    /// The differences from the previous generation.
    pub changes: Vec<RuleChange>,
}

/// The reason for a generation. Stored, listed and printed in one form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationCause {
    /// Saved files or a changed configuration.
    Saved,
    /// A version that failed too often was rolled back automatically.
    SentBack,
    /// A person rolled rules back to those of an earlier generation.
    RolledBack { to: u64 },
}

/// The change of one rule with a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleChange {
    pub tenant: String,
    pub name: String,
    /// `None` if the rule was new.
    pub before: Option<ContentHash>,
    /// `None` if the rule was removed. The same as before if only settings or grants changed.
    pub after: Option<ContentHash>,
}

/// A refused version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRule {
    pub tenant: String,
    pub name: String,
    pub hash: ContentHash,
    /// For people.
    pub reason: String,
}

/// A rule that failed on too many mails.
#[derive(Debug, Clone)]
pub struct SentBack {
    pub tenant: String,
    pub name: String,
    pub hash: ContentHash,
    pub reason: String,
    /// The last mail it failed on.
    pub decision: DecisionId,
    /// The alert that informs people.
    pub alert: Alert,
    /// The sinks that receive this tenant's alerts.
    pub sinks: Vec<String>,
}

/// The results of one version of a rule on its last mails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StrikeRecord {
    pub tenant: String,
    pub name: String,
    pub hash: ContentHash,
    /// The rule's results, newest last.
    pub last: Vec<Mark>,
}

/// The key by which senders are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SenderKey(pub u64);

/// A rule's result on one mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Held,
    /// It failed on a mail of this sender.
    Failed(SenderKey),
}

/// Identifies a file by tenant, kind and name in the configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    pub tenant: String,
    /// `contacts` or `assets`; a tenant has one of each.
    pub kind: &'static str,
    pub name: String,
}

const SAVED: &str = "saved";
const SENT_BACK: &str = "sent back";
const ROLLED_BACK_TO: &str = "rolled back to ";

impl GenerationCause {
    /// Parses what [`Display`](fmt::Display) wrote. Returns `None` for anything else.
    pub fn from_stored(text: &str) -> Option<Self> {
        match text {
            SAVED => Some(Self::Saved),
            SENT_BACK => Some(Self::SentBack),
            _ => {
                let to = text.strip_prefix(ROLLED_BACK_TO)?.parse().ok()?;
                Some(Self::RolledBack { to })
            }
        }
    }
}

impl fmt::Display for GenerationCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Saved => f.write_str(SAVED),
            Self::SentBack => f.write_str(SENT_BACK),
            Self::RolledBack { to } => write!(f, "{ROLLED_BACK_TO}{to}"),
        }
    }
}

impl Serialize for GenerationCause {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_read_as_it_was_written() {
        for (cause, text) in [
            (GenerationCause::Saved, "saved"),
            (GenerationCause::SentBack, "sent back"),
            (GenerationCause::RolledBack { to: 12 }, "rolled back to 12"),
        ] {
            assert_eq!(cause.to_string(), text);
            assert_eq!(GenerationCause::from_stored(text), Some(cause));
            assert_eq!(serde_json::to_value(cause).unwrap(), text);
        }
        for unknown in ["", "Saved", "rolled back to ", "rolled back to -1"] {
            assert_eq!(GenerationCause::from_stored(unknown), None, "{unknown:?}");
        }
    }
}
