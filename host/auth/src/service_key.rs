//! A Google service account's key file (JSON, as the Google Cloud console gives it).

use url::Url;

use crate::Secret;

/// What a key file holds that a token request needs.
pub struct ServiceKey {
    pub client_email: String,
    pub token_uri: Url,
    _private_key: Secret,
}

/// Why a key file does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServiceKeyError {
    #[error("is no JSON key file of a service account: {0}")]
    Shape(String),
    #[error("holds a private key that cannot be read")]
    Key,
}

impl ServiceKey {
    pub fn from_json(_json: &Secret) -> Result<Self, ServiceKeyError> {
        todo!()
    }
}

impl std::fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ServiceKey({})", self.client_email)
    }
}
