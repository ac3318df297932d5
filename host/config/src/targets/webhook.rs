//! Webhooks: a URL, and the secret that signs what is posted to it.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use postroom_auth::Secret;
use url::Url;

use super::{SinkConfig, SinkKind};
use crate::problem::Ready;
use crate::reader::Section;

pub static KIND: SinkKind = SinkKind {
    name: "webhook",
    keys: &["url", "secret"],
    read,
};

/// The length of a secret in the Standard Webhooks scheme, in decoded bytes.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// A receiver of signed events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    pub url: Url,
    /// `whsec_` followed by base64, validated.
    pub secret: Ready<Secret>,
}

fn read(section: &Section) -> Option<SinkConfig> {
    let url = section
        .required("url", "add url = \"https://…\"")
        .and_then(|item| item.url());
    let secret = section
        .required("secret", "add secret = { env = \"NAME\" }")
        .and_then(|item| {
            let secret = item.secret()?;
            Some(secret.and_then(|secret| match is_webhook_secret(&secret) {
                true => Ok(secret),
                false => Err(item.unavailable(
                    "holds no Standard Webhooks secret",
                    "make one: echo whsec_$(head -c 32 /dev/urandom | base64)",
                )),
            }))
        });
    Some(SinkConfig::Webhook(WebhookConfig {
        url: url?,
        secret: secret?,
    }))
}

fn is_webhook_secret(secret: &Secret) -> bool {
    let encoded = secret.expose().strip_prefix("whsec_");
    encoded
        .and_then(|encoded| BASE64.decode(encoded).ok())
        .is_some_and(|bytes| SECRET_BYTES.contains(&bytes.len()))
}
