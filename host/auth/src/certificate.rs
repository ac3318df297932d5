//! Certificates by which an application proves its identity (RFC 7523): the PEM is read once, and the assertion is
//! signed for each request.

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
use x509_parser::oid_registry::OID_PKCS1_RSAENCRYPTION;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey;

use crate::Secret;

/// The lifetime of an assertion; Microsoft allows ten minutes.
const ASSERTION_LIFETIME: SignedDuration = SignedDuration::from_mins(10);
/// How far the start of an assertion is set back, for a server whose clock is behind ours.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(2);

/// A certificate with its private key.
pub struct Certificate {
    key: EncodingKey,
    thumbprint: String,
    not_after: Timestamp,
}

/// Why a PEM file is unusable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    #[error("contains no certificate")]
    NoCertificate,
    #[error("contains no private key")]
    NoKey,
    #[error("contains a private key of another certificate")]
    WrongKey,
    #[error("contains {0}; only RSA keys are supported")]
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
    /// Reads a PEM text with one certificate (others may follow) and its unencrypted RSA key, in any order.
    pub fn from_pem(pem: &Secret) -> Result<Self, CertificateError> {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(unencrypted(pem)?)
            .collect::<Result<_, _>>()
            .map_err(|_| broken("one of its PEM sections is not whole"))?;
        if certificates.is_empty() {
            return Err(CertificateError::NoCertificate);
        }
        let key = private_key(pem)?;
        let mut refused = CertificateError::NoCertificate;
        for (place, der) in certificates.iter().enumerate() {
            match Self::matched(&key, der) {
                Ok(certificate) => return Ok(certificate),
                // The error of the first certificate is most likely the one that the admin has to fix.
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

    /// Returns a signed statement, for one URL, that the request comes from the application.
    pub(crate) fn assertion(
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
        // DER writes a leading zero if the first bit is set.
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

impl PartialEq for Certificate {
    /// Two files with the same certificate have the same key: a key of another certificate is refused.
    fn eq(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint
    }
}

impl Eq for Certificate {}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificate({})", self.thumbprint)
    }
}

/// A private RSA key for signing.
pub(crate) struct RsaKey {
    pub signing: EncodingKey,
    /// Big-endian, without leading zeros.
    modulus: Vec<u8>,
}

/// Returns the first private key of a PEM text, after checking that it can sign.
pub(crate) fn private_key(pem: &Secret) -> Result<RsaKey, CertificateError> {
    let der = PrivateKeyDer::pem_slice_iter(unencrypted(pem)?)
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
    // ring's words, such as TooSmall, do not describe the key.
    let pair = pair.map_err(|words| {
        broken(&format!(
            "the private key does not serve ({words}); RSA with 2048 to 4096 bits does"
        ))
    })?;
    let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
    Ok(RsaKey {
        signing: EncodingKey::from_rsa_der(pkcs1),
        modulus: public.n,
    })
}

/// Returns the text; fails if a key in it is encrypted (RFC 7468 section 11, RFC 1421 section 4.6.1.1).
fn unencrypted(pem: &Secret) -> Result<&[u8], CertificateError> {
    let is_encrypted = pem.expose().lines().any(|line| {
        line.contains("ENCRYPTED")
            && (line.starts_with("-----BEGIN") || line.starts_with("Proc-Type"))
    });
    if is_encrypted {
        return Err(broken(
            "the private key is encrypted; `openssl pkey -in FILE -out KEY` removes the password",
        ));
    }
    Ok(pem.expose().as_bytes())
}

/// Returns the RSA key inside a PKCS#8 structure (RFC 5958 section 2).
fn inner_key(pkcs8: &[u8]) -> Result<&[u8], CertificateError> {
    let damaged = || broken("the private key is damaged");
    let (_, wrapping) = parse_der(pkcs8).map_err(|_| damaged())?;
    let parts = wrapping.content.as_sequence().map_err(|_| damaged())?;
    let [_version, algorithm, key, ..] = parts.as_slice() else {
        return Err(damaged());
    };
    let algorithm = algorithm
        .content
        .as_sequence()
        .ok()
        .and_then(|parts| parts.first()?.content.as_oid().ok().cloned())
        .ok_or_else(damaged)?;
    if algorithm != OID_PKCS1_RSAENCRYPTION {
        return Err(CertificateError::NotRsa("another kind of key"));
    }
    key.content.as_slice().map_err(|_| damaged())
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

#[cfg(test)]
pub(crate) mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use jsonwebtoken::{DecodingKey, Validation};
    use serde_json::Value;

    use super::*;

    /// Runs the machine's `openssl` and returns its output.
    pub(crate) fn openssl(arguments: &str, input: &str) -> String {
        let mut child = Command::new("openssl")
            .args(arguments.split_whitespace())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl {arguments}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub(crate) fn rsa_key(bits: u32) -> String {
        openssl(
            &format!("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"),
            "",
        )
    }

    fn certificate_of(key: &str) -> String {
        openssl(
            "req -x509 -new -key /dev/stdin -subj /CN=postroom -days 90",
            key,
        )
    }

    fn read(pem: &str) -> Result<Certificate, CertificateError> {
        Certificate::from_pem(&Secret::new(pem))
    }

    fn fault(pem: &str) -> String {
        read(pem).unwrap_err().to_string()
    }

    #[test]
    fn a_file_serves_in_every_order_and_wrapping() {
        let key = rsa_key(2048);
        let certificate = certificate_of(&key);
        let pkcs1 = openssl("rsa -traditional", &key);
        assert!(pkcs1.contains("BEGIN RSA PRIVATE KEY"), "{pkcs1}");
        let other = certificate_of(&rsa_key(2048));
        let thumbprint = read(&format!("{certificate}{key}")).unwrap().thumbprint;
        let hex = openssl("x509 -noout -fingerprint -sha256", &certificate);
        let bytes: Vec<u8> = hex
            .trim()
            .rsplit('=')
            .next()
            .unwrap()
            .split(':')
            .map(|byte| u8::from_str_radix(byte, 16).unwrap())
            .collect();
        assert_eq!(thumbprint, BASE64_URL_SAFE_NO_PAD.encode(bytes));
        for (name, pem) in [
            ("key first", format!("{key}{certificate}")),
            ("PKCS#1", format!("{certificate}{pkcs1}")),
            ("a chain", format!("{certificate}{other}{key}")),
            (
                "a chain, issuer first",
                format!("{key}{other}{certificate}"),
            ),
            (
                "with attributes, Windows lines",
                format!("Bag Attributes\n  friendlyName: x\n{certificate}{key}")
                    .replace('\n', "\r\n"),
            ),
        ] {
            let certificate = read(&pem).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(certificate.thumbprint(), thumbprint, "{name}");
            let days = certificate
                .not_after()
                .duration_since(Timestamp::now())
                .as_hours()
                / 24;
            assert!((88..=90).contains(&days), "{name}: {days}");
            assert_eq!(
                format!("{certificate:?}"),
                format!("Certificate({thumbprint})")
            );
        }
    }

    #[test]
    fn a_file_that_does_not_serve_says_why() {
        let key = rsa_key(2048);
        let certificate = certificate_of(&key);
        let small = rsa_key(1024);
        let curve = openssl("ecparam -name prime256v1 -genkey -noout", "");
        let curve8 = openssl("pkcs8 -topk8 -nocrypt", &curve);
        let encrypted = openssl("pkcs8 -topk8 -passout pass:x", &key);
        let encrypted1 = openssl("rsa -traditional -aes128 -passout pass:x", &key);
        let cut = &key[..key.len() / 2];
        for (pem, expected) in [
            (String::new(), "contains no certificate"),
            ("no PEM at all".into(), "contains no certificate"),
            (key.clone(), "contains no certificate"),
            (certificate.clone(), "contains no private key"),
            (
                format!("{certificate}{}", rsa_key(2048)),
                "contains a private key of another certificate",
            ),
            (
                format!("{certificate}{curve}"),
                "contains an elliptic curve key; only RSA keys are supported",
            ),
            (
                format!("{}{curve8}", certificate_of(&curve8)),
                "contains another kind of key; only RSA keys are supported",
            ),
            (
                format!("{}{key}", certificate_of(&curve8)),
                "contains an elliptic curve key; only RSA keys are supported",
            ),
            (
                format!("{}{small}", certificate_of(&small)),
                "cannot be read: the private key does not serve (TooSmall); RSA with 2048 to 4096 bits does",
            ),
            (
                format!("{certificate}{encrypted}"),
                "cannot be read: the private key is encrypted; `openssl pkey -in FILE -out KEY` removes the password",
            ),
            (
                format!("{certificate}{encrypted1}"),
                "cannot be read: the private key is encrypted; `openssl pkey -in FILE -out KEY` removes the password",
            ),
            (
                format!("{certificate}{cut}"),
                "cannot be read: one of its PEM sections is not whole",
            ),
            (
                "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n".to_owned() + &key,
                "cannot be read: a certificate in it is damaged",
            ),
            (
                certificate.clone()
                    + "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n",
                "cannot be read: the private key is damaged",
            ),
        ] {
            assert_eq!(fault(&pem), expected);
        }
    }

    #[test]
    fn an_assertion_is_what_microsoft_asks_for() {
        let key = rsa_key(2048);
        let pem = certificate_of(&key);
        let certificate = read(&format!("{pem}{key}")).unwrap();
        let url = Url::parse("https://login.example/contoso/oauth2/v2.0/token").unwrap();
        let assertions = [(); 2].map(|()| {
            certificate
                .assertion("app-1", &url, Timestamp::now())
                .unwrap()
        });
        let public = openssl("x509 -noout -pubkey", &pem);
        let mut validation = Validation::new(Algorithm::PS256);
        validation.set_audience(&[url.as_str()]);
        validation.set_issuer(&["app-1"]);
        validation.set_required_spec_claims(&["exp", "nbf", "aud", "iss", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        let read = assertions.map(|assertion| {
            jsonwebtoken::decode::<Value>(
                assertion.expose(),
                &DecodingKey::from_rsa_pem(public.as_bytes()).unwrap(),
                &validation,
            )
            .unwrap()
        });
        for assertion in &read {
            assert_eq!(
                assertion.header.x5t_s256.as_deref(),
                Some(certificate.thumbprint())
            );
            assert_eq!(assertion.header.typ.as_deref(), Some("JWT"));
            let claim = |name: &str| assertion.claims[name].as_i64().unwrap();
            assert_eq!(assertion.claims["sub"], "app-1");
            assert_eq!(claim("exp") - claim("nbf"), 600);
            assert_eq!(claim("iat"), claim("nbf"));
            assert!(claim("nbf") <= Timestamp::now().as_second() - 120);
        }
        assert_ne!(read[0].claims["jti"], read[1].claims["jti"]);
    }
}
