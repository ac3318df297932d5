//! Why a shadow cannot start, and why its candidate cannot be promoted.

use std::io;
use std::path::PathBuf;

use postroom_sandbox::LoadError;
use postroom_store::StoreError;

use crate::replay::CandidateError;

/// Why a shadow cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    #[error("the chain has no such rule")]
    NotInChain,
    #[error(
        "{0} is built in: there is no file that a promoted candidate could replace; help: `postroom replay` shows what the file would do in its place"
    )]
    BuiltIn(String),
    #[error(
        "--rule {}: {rule} has another ending, and the candidate could not take its place; help: name a file that ends as {rule} does, or write the new name into the configuration and see by `postroom replay` what it would do", .file.display()
    )]
    OtherEnding { file: PathBuf, rule: String },
    #[error("--rule {}: {reason}", .file.display())]
    NoCandidate { file: PathBuf, reason: String },
    /// The text includes the location.
    #[error("{0}")]
    NotLoaded(String),
    #[error(
        "{module} is not what {place} is, and a shadow tests one file; help: save that module in its place first, or write what it has into {}", .file.display()
    )]
    OtherModule {
        module: String,
        place: String,
        file: PathBuf,
    },
    #[error(
        "--rule {}: it is already the live version of {rule}, so there is nothing to compare", .file.display()
    )]
    AlreadyLive { file: PathBuf, rule: String },
    #[error(transparent)]
    Refused(#[from] VersionRefused),
    /// The rule's file cannot be read.
    #[error("{rule}: {reason}")]
    NoRule { rule: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a candidate is not written over its rule's file.
#[derive(Debug, thiserror::Error)]
pub enum PromoteError {
    #[error(transparent)]
    Gone(#[from] ShadowGone),
    #[error(transparent)]
    Refused(#[from] VersionRefused),
    #[error("the candidate is no longer stored")]
    NotStored,
    #[error("the stored candidate cannot be read: {0}")]
    Unreadable(LoadError),
    #[error("as its modules are now it does not load in the place of {rule}: {error}")]
    NotLoaded { rule: String, error: LoadError },
    #[error(
        "{0} changed since the shadow began, so it would not be what was compared; help: put that file back, or begin a new shadow"
    )]
    OtherModules(String),
    #[error("it would not go live, for its tenant asks for rules that pass their tests: {0}")]
    TestsFail(String),
    #[error(
        "{rule} changed since the shadow began, and that change would be lost; help: begin a new shadow, or give up the change with `postroom shadow promote {mailbox} --anyway`"
    )]
    NewerSave { rule: String, mailbox: String },
    #[error("it is built in")]
    BuiltIn,
    #[error("{0} leads out of the configuration's folder")]
    Outside(String),
    /// The rule's file cannot be read.
    #[error("{rule}: {reason}")]
    NoRule { rule: String, reason: String },
    #[error(
        "{rule} could not be written: {error}; help: let this user write into its folder, or promote it as one who may"
    )]
    NotWritten { rule: String, error: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the current configuration has no place for a shadow.
#[derive(Debug, thiserror::Error)]
pub enum ShadowGone {
    #[error("its mailbox is no longer configured")]
    Mailbox,
    #[error("its mailbox now belongs to another tenant")]
    Tenant,
    #[error("its mailbox no longer has the rule {0}")]
    Rule(String),
}

/// A version that was rolled back stays refused, whatever its file contains.
#[derive(Debug, thiserror::Error)]
#[error(
    "this very version of {rule} was {reason}, and would stay out; help: change it, or return to it with `postroom rules rollback`"
)]
pub struct VersionRefused {
    pub rule: String,
    pub reason: String,
}
