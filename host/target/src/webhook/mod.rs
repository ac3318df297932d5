//! The target of kind `webhook`: events as signed JSON, posted to one address.

mod post;
mod target;

pub use post::{Receipt, SinkError, SpeaksOf, Webhook, WebhookSettings, client};
pub use target::WebhookTarget;
