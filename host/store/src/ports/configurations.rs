//! Configurations: those that a service applied, so that a command can compare with one and return to it.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::StoreError;

/// The record of applied configurations, for the service that applies them.
#[async_trait]
pub trait Configurations: Send + Sync {
    /// Records the texts of an applied configuration's files, by name, with what changed as JSON. Returns its number; that of the
    /// newest if the texts are the same. Of earlier ones, as many are kept as generations of rules.
    async fn save_configuration(
        &self,
        files: BTreeMap<String, String>,
        changes_json: String,
    ) -> Result<u64, StoreError>;
}

/// An applied configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppliedConfiguration {
    pub number: u64,
    /// RFC 3339 in UTC.
    pub applied: String,
    /// The changes, as the service described them.
    pub changes_json: String,
}
