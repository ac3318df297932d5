//! Discovery of endpoints: the configured URLs, or those that an issuer publishes (OpenID Connect Discovery 1.0).

use oauth2::{AsyncHttpClient, HttpRequest};
use serde::Deserialize;
use url::{Host, Url};

use super::{nonsense, not_exchanged, unusable};
use crate::exchange::Exchange;
use crate::{Account, AuthError, Endpoints, Profile};

/// The URLs of one profile's authorization server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedEndpoints {
    pub authorize: Option<String>,
    pub token: Url,
    pub device: Option<Url>,
}

/// The part of a discovery document that is used.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    authorization_endpoint: Option<String>,
    token_endpoint: Option<String>,
    device_authorization_endpoint: Option<String>,
}

/// Returns the profile's URLs. Sends a request only if the configuration names an issuer.
pub(crate) async fn resolve(
    exchange: &Exchange<'_>,
    profile: &Profile,
    account: &Account,
) -> Result<ResolvedEndpoints, AuthError> {
    match &profile.endpoints {
        Endpoints::Fixed {
            authorize,
            token,
            device,
        } => Ok(ResolvedEndpoints {
            authorize: authorize.clone(),
            token: token.clone(),
            device: device.clone(),
        }),
        Endpoints::Discovered { issuer } => discover(exchange, account, issuer).await,
    }
}

async fn discover(
    exchange: &Exchange<'_>,
    account: &Account,
    issuer: &Url,
) -> Result<ResolvedEndpoints, AuthError> {
    if !is_safe(issuer) {
        return Err(unusable(
            account,
            format!("the issuer {issuer} is neither https nor on this machine"),
        ));
    }
    let document = format!(
        "{}/.well-known/openid-configuration",
        issuer.as_str().trim_end_matches('/')
    );
    let mut request = HttpRequest::new(Vec::new());
    *request.uri_mut() = document
        .parse()
        .map_err(|_| unusable(account, format!("the issuer {issuer} is no address")))?;
    let answer = exchange
        .call(request)
        .await
        .map_err(|error| not_exchanged(account, error))?;
    if !answer.status().is_success() {
        let reason = format!("HTTP {} at {document}", answer.status());
        return Err(nonsense(account, &reason));
    }
    let published = serde_json::from_slice(answer.body())
        .map_err(|_| nonsense(account, &format!("no discovery document at {document}")))?;
    endpoints(issuer, published)
        .map_err(|reason| nonsense(account, &format!("{document}: {reason}")))
}

fn endpoints(issuer: &Url, published: Document) -> Result<ResolvedEndpoints, String> {
    // Section 4.3: otherwise a document could be passed off as another issuer's.
    if Url::parse(&published.issuer).as_ref() != Ok(issuer) {
        return Err("it is another issuer's".into());
    }
    let checked = |name: &str, url: Option<String>| {
        url.map(|url| match Url::parse(&url) {
            Ok(url) if is_safe(&url) => Ok(url),
            _ => Err(format!("its {name} is neither https nor on this machine")),
        })
        .transpose()
    };
    checked(
        "authorization_endpoint",
        published.authorization_endpoint.clone(),
    )?;
    Ok(ResolvedEndpoints {
        authorize: published.authorization_endpoint,
        token: checked("token_endpoint", published.token_endpoint)?
            .ok_or("it names no token_endpoint")?,
        device: checked(
            "device_authorization_endpoint",
            published.device_authorization_endpoint,
        )?,
    })
}

/// Returns whether a secret may be sent to this URL: over TLS, or without leaving this machine.
fn is_safe(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.has_host(),
        "http" => match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(issuer: &str, change: serde_json::Value) -> Result<ResolvedEndpoints, String> {
        let mut document = json!({
            "issuer": "https://id.example/realms/a",
            "authorization_endpoint": "https://id.example/auth",
            "token_endpoint": "https://id.example/token",
            "device_authorization_endpoint": "https://id.example/device",
        });
        for (name, value) in change.as_object().unwrap() {
            document[name] = value.clone();
        }
        let issuer = issuer.parse().unwrap();
        endpoints(&issuer, serde_json::from_value(document).unwrap())
    }

    #[test]
    fn a_document_counts_for_its_own_issuer_and_safe_addresses_only() {
        const ISSUER: &str = "https://id.example/realms/a";
        let found = read(ISSUER, json!({})).unwrap();
        assert_eq!(found.authorize.as_deref(), Some("https://id.example/auth"));
        assert_eq!(found.token.as_str(), "https://id.example/token");
        assert_eq!(found.device.unwrap().as_str(), "https://id.example/device");
        let bare = read(
            "https://id.example",
            json!({ "issuer": "https://id.example" }),
        );
        assert!(bare.is_ok(), "{bare:?}");
        let least =
            json!({ "authorization_endpoint": null, "device_authorization_endpoint": null });
        let least = read(ISSUER, least).unwrap();
        assert_eq!((least.authorize, least.device), (None, None));
        for (issuer, change, expected) in [
            (
                "https://id.example/realms/b",
                json!({}),
                "it is another issuer's",
            ),
            (
                "https://id.example/realms/a/",
                json!({}),
                "it is another issuer's",
            ),
            (
                ISSUER,
                json!({ "issuer": "id.example" }),
                "it is another issuer's",
            ),
            (
                ISSUER,
                json!({ "token_endpoint": null }),
                "it names no token_endpoint",
            ),
            (
                ISSUER,
                json!({ "token_endpoint": "http://id.example/token" }),
                "its token_endpoint is neither https nor on this machine",
            ),
            (
                ISSUER,
                json!({ "authorization_endpoint": "javascript:alert(1)" }),
                "its authorization_endpoint is neither https nor on this machine",
            ),
            (
                ISSUER,
                json!({ "device_authorization_endpoint": "/device" }),
                "its device_authorization_endpoint is neither https nor on this machine",
            ),
        ] {
            assert_eq!(read(issuer, change).unwrap_err(), expected);
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine() {
        for (url, safe) in [
            ("https://id.example/", true),
            ("http://localhost:8080/", true),
            ("http://127.0.0.1/", true),
            ("http://[::1]/", true),
            ("http://id.example/", false),
            ("http://localhost.example/", false),
            ("ftp://localhost/", false),
            ("data:text/plain,x", false),
        ] {
            assert_eq!(is_safe(&url.parse().unwrap()), safe, "{url}");
        }
    }
}
