//! The ports: what each user of the store may ask of it, whatever implements it.
//!
//! There are two kinds of callers. Tasks of the runtime use async ports, none of which blocks a runtime thread: [`Journal`]
//! (intake), [`Commits`] (the line), [`Outbox`] (deliveries), [`Versions`] (the rule book), [`Configurations`] (the service),
//! [`ServiceAlerts`] (freshness), [`AlertWatch`] (the alert watch), [`Shadows`] and [`Upkeep`]. Dedicated threads use blocking ports: [`Facts`] (deciding), [`LastGood`]
//! (loading), [`Records`] (deciding again) and [`Listings`]
//! (commands). [`Control`] makes changes alongside a running service.

pub mod alert_watch;
pub mod commits;
pub mod configurations;
pub mod control;
pub mod journal;
pub mod listings;
pub mod outbox;
pub mod records;
pub mod service_alerts;
pub mod shadows;
pub mod upkeep;
pub mod versions;

use std::sync::Arc;

pub use alert_watch::AlertWatch;
pub use commits::{Commits, Facts};
pub use configurations::Configurations;
pub use control::Control;
pub use journal::Journal;
pub use listings::Listings;
pub use outbox::Outbox;
pub use records::Records;
pub use service_alerts::ServiceAlerts;
pub use shadows::Shadows;
pub use upkeep::Upkeep;
pub use versions::{LastGood, Versions};

/// The store of a service, held where the service is put together. Every part receives only the port that it needs. Every query
/// made after a write has returned sees that write.
pub trait Store:
    Journal
    + Commits
    + Outbox
    + Versions
    + Configurations
    + Shadows
    + ServiceAlerts
    + AlertWatch
    + Upkeep
{
    /// Returns the port for blocking queries.
    fn listings(&self) -> Arc<dyn Listings>;
}
