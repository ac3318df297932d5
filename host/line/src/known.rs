//! Lookups by a rule while it decides: tickets and alerts from the store, contacts and assets from the directory, all of the
//! rule's own tenant.

use std::sync::{Arc, OnceLock};

use postroom_core::lookup::{Query, QueryResult};
use postroom_sandbox::{Lookup, LookupError};
use postroom_store::{Facts, StoreError};

use postroom_rules::directory::Directory;

/// One tenant's data and nobody else's: the tenant is not part of any query.
pub struct TenantKnown {
    pub facts: Arc<dyn Facts>,
    pub tenant: String,
    pub directory: Arc<Directory>,
    /// Set when the store could not be read, which is not the rule's fault.
    pub failure: Arc<OnceLock<StoreError>>,
}

impl Lookup for TenantKnown {
    fn ask(&self, question: &Query, most: usize) -> Result<QueryResult, LookupError> {
        let listed = self.directory.answer(question, most).map_err(LookupError)?;
        if let Some(found) = listed {
            return Ok(found);
        }
        self.facts
            .lookup(&self.tenant, question, most)
            .map_err(|error| LookupError(self.failure.get_or_init(|| error).to_string()))
    }
}
