//! The HTTP client of every protocol over HTTP: one decision about TLS, redirects and proxies.

use std::ops::Deref;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder};
use rustls::ClientConfig;
use url::Url;

use crate::{ConnectError, Proxies, dial};

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
