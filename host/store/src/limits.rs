//! How much a store keeps, whatever implements it.

use postroom_core::{KEPT_GENERATION_BYTES, KEPT_GENERATIONS};

/// The limits of what is kept, each with a default.
#[derive(Debug, Clone)]
pub struct StoreLimits {
    /// Generations of each tenant's rules that are kept.
    pub generations: u64,
    /// Bytes of each tenant's rules that are kept besides those that serve.
    pub generation_bytes: u64,
    /// Mails that a shadow decides at most.
    pub shadow_mails: u64,
    /// Differences of a shadow that are kept to be shown; further ones are counted.
    pub shadow_differences: u64,
    /// All of them together.
    pub shadow_difference_bytes: u64,
    /// Shadows that ended and are kept.
    pub shadows: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            generations: KEPT_GENERATIONS,
            generation_bytes: KEPT_GENERATION_BYTES,
            shadow_mails: 10_000,
            shadow_differences: 500,
            shadow_difference_bytes: 8 * 1024 * 1024,
            shadows: 100,
        }
    }
}
