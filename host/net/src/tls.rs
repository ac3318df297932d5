//! TLS: the security modes of a connection, and the handshake.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::{Serialize, Serializer};
use tokio_rustls::TlsConnector;

use crate::{ConnectError, Stream};

/// How a connection is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte (RFC 8314).
    Implicit,
    /// STARTTLS, required: without it nothing is sent.
    StartTls,
    /// No TLS. For servers on the same machine.
    None,
}

impl TlsMode {
    /// Returns the mode's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            TlsMode::Implicit => "implicit",
            TlsMode::StartTls => "starttls",
            TlsMode::None => "none",
        }
    }
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for TlsMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// Returns a host as the name that its certificate must match.
pub fn server_name(host: &str) -> Result<ServerName<'static>, ConnectError> {
    ServerName::try_from(host.to_owned()).map_err(|_| ConnectError::Tls {
        reason: format!("{host} is no name a certificate can have"),
        cause: None,
    })
}

/// Starts TLS on a stream. Also returns the TLS version as text for people.
pub async fn handshake(
    name: ServerName<'static>,
    tls: &Arc<ClientConfig>,
    stream: impl Stream + 'static,
) -> Result<(Box<dyn Stream>, String), ConnectError> {
    let connecting = TlsConnector::from(tls.clone()).connect(name, stream);
    let stream = connecting.await.map_err(|error| {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match cause {
            Some(cause) => ConnectError::Tls {
                reason: cause.to_string(),
                cause: Some(cause.clone()),
            },
            None => ConnectError::Broken(error),
        }
    })?;
    let version = stream.get_ref().1.protocol_version();
    let version = version.and_then(|version| version.as_str());
    let version = version.map_or_else(|| "TLS".into(), version_in_words);
    Ok((Box::new(stream), version))
}

/// Starts TLS on a stream whose server agreed to STARTTLS. `drained` is the stream, if no bytes that the server sent before
/// the handshake are left unread: such bytes could come from an attacker and would be treated as part of the secured
/// session (CVE-2011-0411).
pub async fn handshake_after_starttls(
    name: ServerName<'static>,
    tls: &Arc<ClientConfig>,
    drained: Option<Box<dyn Stream>>,
) -> Result<(Box<dyn Stream>, String), ConnectError> {
    match drained {
        Some(stream) => handshake(name, tls, stream).await,
        None => Err(ConnectError::Tls {
            reason: "data came between STARTTLS and the handshake".into(),
            cause: None,
        }),
    }
}

/// Returns `TLSv1_3` in the usual spelling.
fn version_in_words(name: &str) -> String {
    name.replace("TLSv", "TLS ").replace('_', ".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_reads_as_people_write_it() {
        assert_eq!(version_in_words("TLSv1_3"), "TLS 1.3");
        assert_eq!(version_in_words("TLSv1_2"), "TLS 1.2");
    }

    #[test]
    fn a_name_with_a_space_has_no_certificate() {
        let error = server_name("mail example").expect_err("no name");
        assert_eq!(
            error.to_string(),
            "mail example is no name a certificate can have"
        );
        assert!(server_name("192.0.2.1").is_ok() && server_name("mail.example").is_ok());
    }
}
