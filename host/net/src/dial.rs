//! Opens a TCP connection: directly, by the host's name, or through a proxy.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;

use crate::proxy::dial_through;
use crate::{Proxy, ProxyFault, Step};

/// A connection, in clear text or over TLS.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Why a host cannot be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreachable {
    /// The host's name has no address.
    UnknownHost,
    /// The machine responds, but no server listens at the port.
    Refused,
    Other,
    /// The proxy made no connection.
    Proxy(ProxyFault),
}

impl Unreachable {
    /// Returns the step that failed.
    pub fn step(self) -> Step {
        match self {
            Unreachable::UnknownHost | Unreachable::Refused | Unreachable::Other => Step::Connect,
            Unreachable::Proxy(_) => Step::Proxy,
        }
    }
}

/// Why no secured connection was made. Each protocol converts it into its own error.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("{reason}")]
    Unreachable { why: Unreachable, reason: String },
    #[error("{reason}")]
    Tls {
        reason: String,
        /// The fault that TLS found; `None` if the handshake never began.
        cause: Option<rustls::Error>,
    },
    /// The connection broke during the handshake.
    #[error(transparent)]
    Broken(io::Error),
    #[error("no answer within {secs} s")]
    Timeout { step: Step, secs: u64 },
}

/// Opens a connection to a server within the time limit: through the proxy, which resolves the name, or directly.
/// `send_buffer_bytes` limits how much written but unsent data the kernel holds.
pub async fn dial(
    host: &str,
    port: u16,
    proxy: Option<&Proxy>,
    limit: Duration,
    send_buffer_bytes: Option<u32>,
) -> Result<TcpStream, ConnectError> {
    match proxy {
        Some(proxy) => dial_through(proxy, host, port, limit, send_buffer_bytes).await,
        None => within(Step::Connect, limit, direct(host, port, send_buffer_bytes)).await,
    }
}

/// Resolves a host's name and connects to the first of its addresses that responds.
pub(crate) async fn direct(
    host: &str,
    port: u16,
    send_buffer_bytes: Option<u32>,
) -> Result<TcpStream, ConnectError> {
    let unreachable = |why, reason| ConnectError::Unreachable { why, reason };
    let addresses: Vec<SocketAddr> = lookup_host((host, port))
        .await
        .map_err(|error| unreachable(Unreachable::UnknownHost, format!("{host}: {error}")))?
        .collect();
    let connected = async {
        let tcp = first_to_answer(&addresses, send_buffer_bytes).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    };
    connected.await.map_err(|error: io::Error| {
        let why = match error.kind() {
            io::ErrorKind::ConnectionRefused => Unreachable::Refused,
            _ => Unreachable::Other,
        };
        unreachable(why, format!("{host}:{port}: {error}"))
    })
}

/// Runs a step of a connection with its time limit.
pub async fn within<T>(
    step: Step,
    limit: Duration,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    let secs = limit.as_secs();
    timeout(limit, work)
        .await
        .unwrap_or(Err(ConnectError::Timeout { step, secs }))
}

/// Returns whether a host's name or address is this machine.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

async fn first_to_answer(
    addresses: &[SocketAddr],
    send_buffer_bytes: Option<u32>,
) -> io::Result<TcpStream> {
    let mut failed = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        let connected = async {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(bytes) = send_buffer_bytes {
                socket.set_send_buffer_size(bytes)?;
            }
            socket.connect(*address).await
        };
        match connected.await {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_loopback() {
        for (host, expected) in [
            ("localhost", true),
            ("LocalHost", true),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("::1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.example", false),
            ("", false),
        ] {
            assert_eq!(is_loopback(host), expected, "{host}");
        }
    }
}
