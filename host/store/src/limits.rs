//! How much a store keeps, whatever implements it.

use postroom_core::{KEPT_GENERATION_BYTES, KEPT_GENERATIONS};

/// The limits on what is kept, each with a default.
#[derive(Debug, Clone)]
pub struct StoreLimits {
    /// The number of generations of each tenant's rules that are kept.
    pub generations: u64,
    /// The bytes of each tenant's rules that are kept in addition to the live ones.
    pub generation_bytes: u64,
    /// The most mails that a shadow decides.
    pub shadow_mails: u64,
    /// The number of a shadow's differences that are kept for display; further ones are only counted.
    pub shadow_differences: u64,
    /// The size of all these differences together.
    pub shadow_difference_bytes: u64,
    /// The number of ended shadows that are kept.
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
