//! Delivers items to the systems of the MSP: one file a kind of sink.

mod webhook;

pub use webhook::{Receipt, SinkError, SpeaksOf, Webhook, WebhookSettings, client};
