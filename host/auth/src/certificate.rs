//! A certificate by which an application proves who it is (RFC 7523): the PEM read once, the assertion signed for each request.

use jiff::Timestamp;

use crate::Secret;

/// A certificate with its private key.
pub struct Certificate {
    _key: Secret,
    thumbprint: String,
    not_after: Timestamp,
}

/// Why a PEM file does not serve.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("holds no certificate")]
    NoCertificate,
    #[error("holds no private key")]
    NoKey,
    #[error("holds a private key of another certificate")]
    WrongKey,
    #[error("holds {0}, and only RSA keys serve")]
    NotRsa(&'static str),
    #[error("cannot be read: {0}")]
    Broken(String),
}

impl Certificate {
    /// A PEM text with one certificate (others may follow it) and its unencrypted RSA key, in any order.
    pub fn from_pem(_pem: &Secret) -> Result<Self, CertificateError> {
        todo!()
    }

    /// base64url of the SHA-256 of the certificate's DER (`x5t#S256`).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.thumbprint)
    }
}
