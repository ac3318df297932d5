//! The ports: what each user of the store may ask of it, whatever implements it.
//!
//! Two kinds of callers ask. Tasks of the runtime use async ports, none of which blocks a runtime thread: [`Journal`] (intake),
//! [`Commits`] (the line), [`Outbox`] (deliveries), [`Versions`] (the rule book), [`Shadows`] and [`Upkeep`]. Threads of their own use
//! blocking ports: [`Facts`] (deciding), [`LastGood`] (loading), [`Records`] (deciding again) and [`Listings`] (commands).
//! [`Control`] changes things beside a running service.

pub mod commits;
pub mod control;
pub mod journal;
pub mod listings;
pub mod outbox;
pub mod records;
pub mod shadows;
pub mod upkeep;
pub mod versions;

use std::sync::Arc;

pub use commits::{Commits, Facts};
pub use control::Control;
pub use journal::Journal;
pub use listings::Listings;
pub use outbox::Outbox;
pub use records::Records;
pub use shadows::Shadows;
pub use upkeep::Upkeep;
pub use versions::{LastGood, Versions};

/// The store of a service, held where the service is put together. Every part is given only the port that it needs. What a write
/// returned is seen by every question asked after it.
pub trait Store: Journal + Commits + Outbox + Versions + Shadows + Upkeep {
    /// Returns the blocking questions.
    fn listings(&self) -> Arc<dyn Listings>;
}
