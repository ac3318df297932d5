//! The HTTP client of every protocol over HTTP: one decision about TLS, redirects and proxies.

use std::ops::Deref;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use url::Url;

use crate::{ConnectError, Proxies, dial};

/// The time limit of a connection, its proxy and TLS included, unless a protocol sets its own. Together with [`EXPLAIN_LIMIT`] it is
/// shorter than the time limit of a whole token request (30 s), so that a silent proxy is named.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// How long the proxy is asked why it made no connection.
const EXPLAIN_LIMIT: Duration = Duration::from_secs(10);

/// An HTTP client that follows no redirects, since a token or a signed event goes to the configured address only, and that takes
/// the configured proxies only: the library's own reading of the environment is off.
#[derive(Debug, Clone)]
pub struct HttpClient {
    client: Client,
    proxies: Proxies,
}

impl HttpClient {
    /// Creates a client. `adjust` sets what a protocol needs beyond that.
    pub fn new(
        tls: &ClientConfig,
        proxies: &Proxies,
        adjust: impl FnOnce(ClientBuilder) -> ClientBuilder,
    ) -> reqwest::Result<Self> {
        let of_request = proxies.clone();
        let proxy = reqwest::Proxy::custom(move |url| of_request.for_url(url)?.url_with_password());
        let builder = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .redirect(Policy::none())
            // Removes the proxies of the environment as well, so it comes first.
            .no_proxy()
            .proxy(proxy)
            .connect_timeout(CONNECT_LIMIT)
            .user_agent(concat!("postroom/", env!("CARGO_PKG_VERSION")));
        Ok(Self {
            client: adjust(builder).build()?,
            proxies: proxies.clone(),
        })
    }

    pub fn proxies(&self) -> &Proxies {
        &self.proxies
    }

    /// Returns the proxy's error, if a request failed because the proxy made no connection. The library only describes it as
    /// text, so the proxy is asked for the same connection once more.
    pub async fn proxy_error(&self, url: &Url, error: &reqwest::Error) -> Option<ConnectError> {
        let proxy = self.proxies.for_url(url).filter(|_| error.is_connect())?;
        let host = url.host_str()?.trim_matches(['[', ']']);
        let port = url.port_or_known_default()?;
        dial(host, port, Some(proxy), EXPLAIN_LIMIT, None)
            .await
            .err()
    }
}

impl Deref for HttpClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A client with the settings that its maker chose, such as a test.
impl From<Client> for HttpClient {
    fn from(client: Client) -> Self {
        Self {
            client,
            proxies: Proxies::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::{Proxy, ProxyFault, Unreachable};

    /// Returns the proxy's error after a request through a proxy that answers every connection with this.
    async fn explained(scheme: &str, answer: &'static [u8]) -> Option<ConnectError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(answer).await;
            }
        });
        let proxy = Proxy::parse(&format!("{scheme}://us:hunter2@127.0.0.1:{port}")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let http = HttpClient::new(&tls, &Proxies::only(proxy), |it| it).unwrap();
        let url = Url::parse("https://graph.example/v1.0").unwrap();
        let error = http.get(url.clone()).send().await.unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        let explained = http.proxy_error(&url, &error).await;
        serving.abort();
        explained
    }

    #[tokio::test]
    async fn a_failed_request_says_what_the_proxy_answered() {
        const SOCKS_REFUSES: &[u8] = &[5, 0xff];
        for (scheme, answer, expected) in [
            (
                "http",
                &b"HTTP/1.1 407 x\r\n\r\n"[..],
                ProxyFault::CredentialsRefused,
            ),
            ("http", b"HTTP/1.1 403 x\r\n\r\n", ProxyFault::Forbidden),
            (
                "http",
                b"HTTP/1.1 502 x\r\n\r\n",
                ProxyFault::ServerUnreachable,
            ),
            ("socks5", SOCKS_REFUSES, ProxyFault::CredentialsRefused),
        ] {
            match explained(scheme, answer).await {
                Some(ConnectError::Unreachable { why, reason }) => {
                    assert_eq!(why, Unreachable::Proxy(expected), "{reason}");
                    assert!(!reason.contains("hunter2"), "{reason}");
                }
                other => panic!("{scheme} {expected:?}: {other:?}"),
            }
        }
    }
}
