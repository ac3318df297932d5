//! The stand's private certificate authority, which signs the certificates of all its TLS servers.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// Writes `ca.pem`, `server.pem` and `server.key` (mode 0600) into `dir`; the server certificate is for
/// `localhost` and `127.0.0.1`.
pub(crate) fn write(dir: &Path) -> Result<()> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.distinguished_name
        .push(DnType::CommonName, "Postroom test stand CA");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let server_key = KeyPair::generate()?;
    let mut server = CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()])?;
    server
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers (Python 3.13 among the peers) refuse a certificate without it.
    server.use_authority_key_identifier_extension = true;
    let server_pem = server
        .signed_by(&server_key, &Issuer::new(ca, ca_key))?
        .pem();

    fs::write(dir.join("ca.pem"), ca_pem).context("writing the CA certificate")?;
    fs::write(dir.join("server.pem"), server_pem).context("writing the server certificate")?;
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(dir.join("server.key"))
        .and_then(|mut file| file.write_all(server_key.serialize_pem().as_bytes()))
        .context("writing the server key")
}
