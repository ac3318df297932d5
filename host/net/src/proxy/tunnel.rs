//! Opens a connection to a server through a proxy: HTTP CONNECT or SOCKS 5.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use secrecy::ExposeSecret;
use secrecy::zeroize::Zeroizing;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_socks::TargetAddr;
use tokio_socks::tcp::Socks5Stream;

use super::{Credentials, Proxy, ProxyFault, ProxyScheme, authority};
use crate::dial::direct;
use crate::{ConnectError, Unreachable};

/// The longest head of a response to CONNECT.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// A fault, and what the proxy did, as the end of a sentence that names it.
type Failed = (ProxyFault, String);

/// Connects to a server through a proxy within the time limit. The proxy resolves the server's name.
pub(crate) async fn dial_through(
    proxy: &Proxy,
    host: &str,
    port: u16,
    limit: Duration,
    send_buffer_bytes: Option<u32>,
) -> Result<TcpStream, ConnectError> {
    let connected = async {
        let tcp = direct(&proxy.host, proxy.port, send_buffer_bytes).await;
        let tcp = tcp.map_err(unreachable)?;
        match proxy.scheme {
            ProxyScheme::Http => by_connect(tcp, &proxy.credentials, host, port).await,
            ProxyScheme::Socks5 => by_socks(tcp, &proxy.credentials, host, port).await,
        }
    };
    let silent = || {
        let secs = limit.as_secs();
        let text = format!("made no connection to {host}:{port} within {secs} s");
        Err((ProxyFault::Timeout, text))
    };
    let connected = timeout(limit, connected).await;
    connected
        .unwrap_or_else(|_| silent())
        .map_err(|(fault, text)| ConnectError::Unreachable {
            why: Unreachable::Proxy(fault),
            reason: format!("the proxy {proxy} {text}"),
        })
}

fn unreachable(error: ConnectError) -> Failed {
    match error {
        ConnectError::Unreachable {
            why: Unreachable::UnknownHost,
            reason,
        } => (
            ProxyFault::UnknownHost,
            format!("has no known address: {reason}"),
        ),
        error => (ProxyFault::Unreachable, format!("is unreachable: {error}")),
    }
}

async fn by_connect(
    mut tcp: TcpStream,
    credentials: &Option<Credentials>,
    host: &str,
    port: u16,
) -> Result<TcpStream, Failed> {
    let to = authority(host, port);
    let mut request =
        Zeroizing::new(format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n").into_bytes());
    if let Some(Credentials { user, password }) = credentials {
        let pair = Zeroizing::new(format!("{user}:{}", password.expose_secret()));
        let basic = Zeroizing::new(BASE64.encode(pair.as_bytes()));
        request.extend_from_slice(b"Proxy-Authorization: Basic ");
        request.extend_from_slice(basic.as_bytes());
        request.extend_from_slice(b"\r\n");
    }
    request.extend_from_slice(b"\r\n");
    tcp.write_all(&request).await.map_err(broken)?;
    let status = read_status(&mut tcp).await?;
    let said = |fault, what: &str| Err((fault, format!("{what} (HTTP {status})")));
    match status {
        200..=299 => Ok(tcp),
        // tinyproxy answers 401 to a wrong password.
        401 | 407 => Err(refused_credentials(credentials, &format!("HTTP {status}"))),
        403 | 405 => said(
            ProxyFault::Forbidden,
            &format!("does not allow a connection to {to}"),
        ),
        500..=599 => said(ProxyFault::ServerUnreachable, &format!("cannot reach {to}")),
        _ => said(ProxyFault::NotAProxy, "does not accept CONNECT"),
    }
}

/// Reads the head of the response, and not one byte of what follows it.
async fn read_status(tcp: &mut TcpStream) -> Result<u16, Failed> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == HEAD_BYTES_MAX {
            let text = format!("sent a response head of more than {HEAD_BYTES_MAX} bytes");
            return Err((ProxyFault::NotAProxy, text));
        }
        head.push(tcp.read_u8().await.map_err(broken)?);
        // Another protocol's greeting may be followed by silence.
        let begins = head.len().min(b"HTTP/1.".len());
        if head[..begins] != b"HTTP/1."[..begins] {
            return Err((ProxyFault::NotAProxy, "does not speak HTTP".into()));
        }
    }
    let status = head.get(b"HTTP/1.1 ".len()..b"HTTP/1.1 200".len());
    let status = status.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    status.ok_or_else(|| (ProxyFault::NotAProxy, "sent no HTTP status".into()))
}

async fn by_socks(
    tcp: TcpStream,
    credentials: &Option<Credentials>,
    host: &str,
    port: u16,
) -> Result<TcpStream, Failed> {
    let to = match host.parse::<IpAddr>() {
        Ok(ip) => TargetAddr::Ip((ip, port).into()),
        Err(_) => TargetAddr::Domain(host.into(), port),
    };
    let connected = match credentials {
        None => Socks5Stream::connect_with_socket(tcp, to).await,
        Some(Credentials { user, password }) => {
            let password = password.expose_secret();
            Socks5Stream::connect_with_password_and_socket(tcp, to, user, password).await
        }
    };
    let to = authority(host, port);
    connected
        .map(Socks5Stream::into_inner)
        .map_err(|error| socks_fault(error, credentials, &to))
}

fn socks_fault(error: tokio_socks::Error, credentials: &Option<Credentials>, to: &str) -> Failed {
    use tokio_socks::Error;
    let cannot = |what: &str| {
        let text = format!("cannot reach {to} (SOCKS: {what})");
        (ProxyFault::ServerUnreachable, text)
    };
    match error {
        Error::Io(error) => broken(error),
        Error::NoAcceptableAuthMethods => refused_credentials(credentials, "SOCKS"),
        Error::PasswordAuthFailure(_) => (
            ProxyFault::CredentialsRefused,
            "refused the user or the password (SOCKS)".into(),
        ),
        Error::ConnectionNotAllowedByRuleset => (
            ProxyFault::Forbidden,
            format!("does not allow a connection to {to} (SOCKS)"),
        ),
        Error::GeneralSocksServerFailure => cannot("general failure"),
        Error::NetworkUnreachable => cannot("network unreachable"),
        Error::HostUnreachable => cannot("host unreachable"),
        Error::ConnectionRefused => cannot("connection refused"),
        Error::TtlExpired => cannot("TTL expired"),
        Error::CommandNotSupported => cannot("command not supported"),
        Error::AddressTypeNotSupported => cannot("address type not supported"),
        _ => (ProxyFault::NotAProxy, "does not speak SOCKS 5".into()),
    }
}

fn refused_credentials(credentials: &Option<Credentials>, code: &str) -> Failed {
    match credentials {
        None => (
            ProxyFault::CredentialsRequired,
            format!("requires a user and a password ({code})"),
        ),
        Some(_) => (
            ProxyFault::CredentialsRefused,
            format!("refused the user or the password ({code})"),
        ),
    }
}

fn broken(error: io::Error) -> Failed {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => "ended the connection without a reply".to_owned(),
        _ => format!("broke the connection: {error}"),
    };
    (ProxyFault::NotAProxy, text)
}
