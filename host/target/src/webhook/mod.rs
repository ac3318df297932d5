//! The `webhook` target: events as signed JSON, posted to one address.

mod post;
mod probe;
mod target;

pub use post::{SpeaksOf, Webhook, WebhookError, WebhookSettings, client};
pub use target::WebhookTarget;
