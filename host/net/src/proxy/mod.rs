//! Proxies: which connection takes which one, and the errors of a connection through one.

mod direct;
mod tunnel;

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

pub use direct::HostPattern;
pub(crate) use tunnel::dial_through;

use crate::is_loopback;

/// The port of an HTTP proxy whose URL has none.
const HTTP_PORT: u16 = 80;
/// The port of a SOCKS proxy whose URL has none (RFC 1928).
const SOCKS_PORT: u16 = 1080;

/// A proxy server. Its password is never shown.
#[derive(Clone)]
pub struct Proxy {
    scheme: ProxyScheme,
    host: String,
    port: u16,
    credentials: Option<Credentials>,
}

/// The protocol that a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyScheme {
    /// HTTP CONNECT (RFC 9110 section 9.3.6).
    Http,
    /// SOCKS 5 (RFC 1928). The proxy resolves names.
    Socks5,
}

/// Why a connection through a proxy was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyFault {
    /// The proxy's own name has no address.
    UnknownHost,
    /// No connection to the proxy can be made.
    Unreachable,
    /// The proxy accepted the connection, and did not reply in time.
    Timeout,
    CredentialsRequired,
    CredentialsRefused,
    /// The proxy's rules do not allow the connection.
    Forbidden,
    /// The proxy could not reach the server.
    ServerUnreachable,
    /// The reply is not that of such a proxy.
    NotAProxy,
}

/// Why a text is not the URL of a proxy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidProxy {
    #[error("is not the URL of a proxy")]
    NotAUrl,
    #[error("has the scheme {0}, which is no kind of proxy that Postroom knows")]
    Scheme(String),
}

/// The proxy of each connection. By default there is no proxy.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Proxies(Arc<ProxyRules>);

/// The contents of [`Proxies`].
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ProxyRules {
    /// For https URLs.
    pub https: Option<Proxy>,
    /// For http URLs.
    pub http: Option<Proxy>,
    /// For IMAP, POP3 and SMTP.
    pub mail: Option<Proxy>,
    /// The hosts that are contacted directly.
    pub direct: Vec<HostPattern>,
    /// Whether servers on this machine are contacted through the proxy, too.
    pub loopback: bool,
}

#[derive(Clone)]
struct Credentials {
    user: String,
    password: SecretString,
}

impl Proxy {
    /// Parses `http://HOST:PORT` or `socks5://HOST:PORT`, with `USER:PASSWORD@` or without.
    pub fn parse(text: &str) -> Result<Self, InvalidProxy> {
        // `proxy.example:3128` would be a URL with the scheme `proxy.example`.
        let text = Some(text).filter(|text| text.contains("://"));
        let url = text.and_then(|text| Url::parse(text).ok());
        let url = url.ok_or(InvalidProxy::NotAUrl)?;
        let (scheme, default_port) = match url.scheme() {
            "http" => (ProxyScheme::Http, HTTP_PORT),
            "socks5" | "socks5h" => (ProxyScheme::Socks5, SOCKS_PORT),
            other => return Err(InvalidProxy::Scheme(other.to_owned())),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        let host = host.filter(|_| is_bare).ok_or(InvalidProxy::NotAUrl)?;
        let credentials = (!url.username().is_empty()).then(|| Credentials {
            user: decoded(url.username()),
            password: decoded(url.password().unwrap_or_default()).into(),
        });
        Ok(Self {
            scheme,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(default_port),
            credentials,
        })
    }

    /// Returns the same proxy, signed in to by user and password.
    pub fn with_credentials(self, user: String, password: SecretString) -> Self {
        let credentials = Some(Credentials { user, password });
        Self {
            credentials,
            ..self
        }
    }

    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Returns the URL for the HTTP library. It contains the password.
    pub(crate) fn url_with_password(&self) -> Option<Url> {
        // The library would resolve the server's name itself for socks5.
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5h",
        };
        let mut url = Url::parse(&format!("{scheme}://{}", self.address())).ok()?;
        if let Some(Credentials { user, password }) = &self.credentials {
            url.set_username(user).ok()?;
            url.set_password(Some(password.expose_secret())).ok()?;
        }
        Some(url)
    }

    fn address(&self) -> String {
        authority(&self.host, self.port)
    }
}

/// The URL without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.scheme {
            ProxyScheme::Http => "http",
            ProxyScheme::Socks5 => "socks5",
        };
        write!(f, "{scheme}://{}", self.address())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl PartialEq for Proxy {
    fn eq(&self, other: &Self) -> bool {
        let parts = |it: &Self| (it.scheme, it.host.clone(), it.port);
        parts(self) == parts(other) && self.credentials == other.credentials
    }
}

impl Eq for Proxy {}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && self.password.expose_secret() == other.password.expose_secret()
    }
}

impl Proxies {
    pub fn new(rules: ProxyRules) -> Self {
        Self(Arc::new(rules))
    }

    /// Every connection takes this proxy, whatever the server.
    pub fn only(proxy: Proxy) -> Self {
        Self::new(ProxyRules {
            https: Some(proxy.clone()),
            http: Some(proxy.clone()),
            mail: Some(proxy),
            direct: Vec::new(),
            loopback: true,
        })
    }

    /// Returns the proxy for a request to this URL; `None` for a direct connection.
    pub fn for_url(&self, url: &Url) -> Option<&Proxy> {
        let proxy = match url.scheme() {
            "https" => self.0.https.as_ref(),
            _ => self.0.http.as_ref(),
        };
        proxy.filter(|_| self.takes(url.host_str().unwrap_or_default()))
    }

    /// Returns the proxy for a connection to a mail server; `None` for a direct connection.
    pub fn for_mail(&self, host: &str) -> Option<&Proxy> {
        self.0.mail.as_ref().filter(|_| self.takes(host))
    }

    fn takes(&self, host: &str) -> bool {
        let host = host.trim_matches(['[', ']']);
        (self.0.loopback || !is_loopback(host)) && !self.0.direct.iter().any(|it| it.matches(host))
    }
}

impl fmt::Debug for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self.0 == ProxyRules::default() {
            true => f.write_str("Direct"),
            false => self.0.fmt(f),
        }
    }
}

/// Returns host and port as one text, an IPv6 address in brackets.
fn authority(host: &str, port: u16) -> String {
    match host.contains(':') {
        true => format!("[{host}]:{port}"),
        false => format!("{host}:{port}"),
    }
}

fn decoded(text: &str) -> String {
    percent_encoding::percent_decode_str(text)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests;
