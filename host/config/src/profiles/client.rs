//! Reads how a registered application proves its identity: by a secret, by a certificate, or not at all.

use std::sync::Arc;

use postroom_auth::{Certificate, CertificateError, ClientCredential, Secret, SendSecret};

use super::super::problem::Ready;
use super::super::reader::{Item, Section};
use super::super::values;
use super::{GrantKind, Kind};

/// The keys that depend on `client_secret`.
const SECRET_KEYS: &[&str] = &["previous_client_secret", "secret_expires", "client_auth"];

pub fn read(
    section: &Section,
    kind: Option<Kind>,
    grant: Option<GrantKind>,
) -> Option<Ready<ClientCredential>> {
    if grant == Some(GrantKind::ServiceAccount) {
        return Some(Ok(ClientCredential::None));
    }
    let certificate = match kind {
        Some(Kind::Google) => None,
        _ => section.item("certificate"),
    };
    match (section.item("client_secret"), certificate) {
        (Some(secret), None) => read_secret(section, &secret, kind),
        (None, Some(certificate)) => {
            section.misplaced(
                SECRET_KEYS,
                "applies to a client_secret, but a certificate is used",
                "remove it: the expiry is read from the certificate, which is replaced in its file",
            );
            read_certificate(&certificate)
        }
        (Some(_), Some(certificate)) => {
            for key in SECRET_KEYS {
                section.item(key);
            }
            certificate.problem(
                "cannot be combined with client_secret",
                "keep one of client_secret and certificate",
            );
            None
        }
        (None, None) => {
            section.misplaced(
                SECRET_KEYS,
                "applies to a client_secret, but there is none",
                "add client_secret = { env = \"NAME\" }, or remove it",
            );
            if grant == Some(GrantKind::ClientCredentials) {
                section.missing(
                    "client_secret",
                    "add client_secret = { env = \"NAME\" }, or certificate = { file = \"app.pem\" }",
                );
                return None;
            }
            Some(Ok(ClientCredential::None))
        }
    }
}

fn read_secret(
    section: &Section,
    item: &Item,
    kind: Option<Kind>,
) -> Option<Ready<ClientCredential>> {
    let secret = item.secret();
    if let (Some(Kind::Microsoft), Some(Ok(secret))) = (kind, &secret)
        && is_guid(secret)
    {
        item.warning(
            "looks like the secret's id, not its value",
            "use what \"Certificates & secrets\" shows in the column Value; it is shown once, so make a new secret if it is lost",
        );
    }
    let previous = values::optional(section, "previous_client_secret", Item::secret);
    let expires = values::optional(section, "secret_expires", Item::date);
    let send = match section.item("client_auth") {
        Some(item) => item.choice(
            &[("body", SendSecret::Body), ("basic", SendSecret::Basic)],
            &[],
        ),
        None => Some(SendSecret::Body),
    };
    let (secret, previous, send, expires) = (secret?, previous?, send?, expires?);
    Some(secret.and_then(|secret| {
        Ok(ClientCredential::Secret {
            secret,
            previous: previous.transpose()?,
            send,
            expires,
        })
    }))
}

fn read_certificate(item: &Item) -> Option<Ready<ClientCredential>> {
    let document = item.document()?;
    Some(document.and_then(|document| certificate_of(item, &document)))
}

fn certificate_of(item: &Item, document: &Secret) -> Ready<ClientCredential> {
    match Certificate::from_pem(document) {
        Ok(certificate) => Ok(ClientCredential::Certificate(Arc::new(certificate))),
        Err(error) => {
            let cure = match &error {
                CertificateError::NoCertificate => {
                    "put the certificate into the same file, above or below its key"
                }
                CertificateError::NoKey => {
                    "put the unencrypted private key into the same file, above or below its certificate"
                }
                CertificateError::WrongKey => {
                    "use the certificate and the key that it was made from"
                }
                CertificateError::NotRsa(_) => {
                    "make a certificate with an RSA key: openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=postroom -keyout app.pem -out app.pem"
                }
                CertificateError::Broken(_) => {
                    "name a PEM file with one certificate and its unencrypted RSA key"
                }
            };
            Err(item.unavailable(error.to_string(), cure))
        }
    }
}

/// Returns whether a secret is a GUID. Microsoft identifies secrets by GUIDs; no value of a secret is one.
fn is_guid(secret: &Secret) -> bool {
    const DASHES: [usize; 4] = [8, 13, 18, 23];
    let text = secret.expose().as_bytes();
    text.len() == 36
        && text.iter().enumerate().all(|(n, byte)| {
            if DASHES.contains(&n) {
                *byte == b'-'
            } else {
                byte.is_ascii_hexdigit()
            }
        })
}
