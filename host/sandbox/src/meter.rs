//! Counts an instance's memory and refuses growth over its limit.

use wasmtime::ResourceLimiter;

/// The entries of all tables of an instance. An entry costs 8 bytes and does not count as memory.
const TABLE_ENTRIES: usize = 100_000;
/// Instances of core modules, each of which copies its data. A component that contains all of Python has 67.
const INSTANCES: usize = 256;

/// Sums over all memories of a store.
#[derive(Debug)]
pub(crate) struct Meter {
    limit: usize,
    used: usize,
    table_entries: usize,
    /// Whether a growth was refused: a failure that follows is about memory.
    pub(crate) refused: bool,
}

impl Meter {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            table_entries: 0,
            refused: false,
        }
    }

    /// Returns the bytes in use; memories never shrink, so this is also the peak.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Meter {
    fn instances(&self) -> usize {
        INSTANCES
    }

    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.used.saturating_add(desired.saturating_sub(current));
        if total > self.limit {
            self.refused = true;
            return Ok(false);
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self
            .table_entries
            .saturating_add(desired.saturating_sub(current));
        if total > TABLE_ENTRIES {
            self.refused = true;
            return Ok(false);
        }
        self.table_entries = total;
        Ok(true)
    }
}
