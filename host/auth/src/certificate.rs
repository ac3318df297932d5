//! A certificate by which an application proves who it is (RFC 7523): the PEM read once, the assertion signed for each request.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::rsa::PublicKeyComponents;
use ring::signature::RsaKeyPair;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use url::Url;
use x509_parser::der_parser::der::parse_der;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::Secret;

/// How long an assertion is good for; Microsoft allows ten minutes.
const ASSERTION_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// An assertion begins so much earlier, for a server whose clock is behind ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(2);

/// A certificate with its private key.
pub struct Certificate {
    key: EncodingKey,
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

/// The claims of an assertion (RFC 7523 section 3).
#[derive(Serialize)]
struct Claims<'a> {
    aud: &'a str,
    iss: &'a str,
    sub: &'a str,
    jti: String,
    nbf: i64,
    iat: i64,
    exp: i64,
}

impl Certificate {
    /// A PEM text with one certificate (others may stand beside it) and its unencrypted RSA key, in any order.
    pub fn from_pem(pem: &Secret) -> Result<Self, CertificateError> {
        let key = private_key(pem)?;
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem.expose().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| broken("a certificate in it is no whole PEM section"))?;
        let mut refused = CertificateError::NoCertificate;
        for (place, der) in certificates.iter().enumerate() {
            match Self::matched(&key, der) {
                Ok(certificate) => return Ok(certificate),
                // What is wrong with the first is most likely what the admin has to mend.
                Err(error) if place == 0 => refused = error,
                Err(_) => {}
            }
        }
        Err(refused)
    }

    /// base64url of the SHA-256 of the certificate's DER (`x5t#S256`).
    pub fn thumbprint(&self) -> &str {
        &self.thumbprint
    }

    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// A signed statement that the request comes from the application, for one address.
    pub(crate) fn assertion(&self, client_id: &str, audience: &Url) -> Result<Secret, String> {
        self.assertion_at(client_id, audience, Timestamp::now())
    }

    fn assertion_at(
        &self,
        client_id: &str,
        audience: &Url,
        now: Timestamp,
    ) -> Result<Secret, String> {
        let begin = now - CLOCK_SKEW;
        let claims = Claims {
            aud: audience.as_str(),
            iss: client_id,
            sub: client_id,
            jti: random_id()?,
            nbf: begin.as_second(),
            iat: begin.as_second(),
            exp: (begin + ASSERTION_LIFETIME).as_second(),
        };
        let mut header = Header::new(Algorithm::PS256);
        header.x5t_s256 = Some(self.thumbprint.clone());
        jsonwebtoken::encode(&header, &claims, &self.key)
            .map(Secret::new)
            .map_err(|error| format!("its certificate cannot sign: {error}"))
    }

    fn matched(key: &RsaKey, der: &CertificateDer<'_>) -> Result<Self, CertificateError> {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| broken("a certificate in it is damaged"))?;
        let modulus = match certificate.public_key().parsed() {
            Ok(PublicKey::RSA(public)) => public.modulus,
            Ok(PublicKey::EC(_)) => return Err(CertificateError::NotRsa("an elliptic curve key")),
            _ => return Err(CertificateError::NotRsa("another kind of key")),
        };
        // DER writes a leading zero where the first bit is set.
        let modulus = modulus.strip_prefix(&[0]).unwrap_or(modulus);
        if modulus != key.modulus {
            return Err(CertificateError::WrongKey);
        }
        let not_after = certificate.validity().not_after.timestamp();
        Ok(Self {
            key: key.signing.clone(),
            thumbprint: BASE64_URL_SAFE_NO_PAD.encode(digest(&SHA256, der)),
            not_after: Timestamp::from_second(not_after)
                .map_err(|_| broken("its end is no date"))?,
        })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.thumbprint)
    }
}

/// A private RSA key that signs.
pub(crate) struct RsaKey {
    pub signing: EncodingKey,
    /// Big-endian, without leading zeros.
    modulus: Vec<u8>,
}

/// The first private key of a PEM text, proved to be able to sign.
pub(crate) fn private_key(pem: &Secret) -> Result<RsaKey, CertificateError> {
    let text = pem.expose();
    if text.contains("ENCRYPTED") {
        return Err(broken(
            "the private key is encrypted; `openssl pkey -in FILE -out KEY` takes the password off",
        ));
    }
    let der = PrivateKeyDer::pem_slice_iter(text.as_bytes())
        .next()
        .ok_or(CertificateError::NoKey)?
        .map_err(|_| broken("the private key is no whole PEM section"))?;
    let (pkcs1, pair) = match &der {
        PrivateKeyDer::Pkcs1(key) => {
            let key = key.secret_pkcs1_der();
            (key, RsaKeyPair::from_der(key))
        }
        PrivateKeyDer::Pkcs8(key) => {
            let key = key.secret_pkcs8_der();
            (inner_key(key)?, RsaKeyPair::from_pkcs8(key))
        }
        _ => return Err(CertificateError::NotRsa("an elliptic curve key")),
    };
    // ring's words, such as TooSmall, say nothing of the key itself.
    let pair = pair.map_err(|error| match error.to_string().as_str() {
        "WrongAlgorithm" => CertificateError::NotRsa("another kind of key"),
        words => broken(&format!(
            "the private key does not serve ({words}); RSA with 2048 to 4096 bits does"
        )),
    })?;
    let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    Ok(RsaKey {
        signing: EncodingKey::from_rsa_der(pkcs1),
        modulus: public.n,
    })
}

/// The key inside a PKCS#8 wrapping (RFC 5958 section 2).
fn inner_key(pkcs8: &[u8]) -> Result<&[u8], CertificateError> {
    parse_der(pkcs8)
        .ok()
        .and_then(|(_, wrapping)| {
            let parts = wrapping.content.as_sequence().ok()?;
            parts.get(2)?.content.as_slice().ok()
        })
        .ok_or_else(|| broken("the private key is damaged"))
}

fn random_id() -> Result<String, String> {
    let mut bytes = [0; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random numbers")?;
    Ok(BASE64_URL_SAFE_NO_PAD.encode(bytes))
}

fn broken(reason: &str) -> CertificateError {
    CertificateError::Broken(reason.to_owned())
}
