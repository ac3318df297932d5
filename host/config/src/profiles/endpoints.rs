//! Reads a profile's endpoints: the provider's own, those of the configuration, or discovery.

use postroom_auth::provider::CLOUDS;
use postroom_auth::{Endpoints, Grant, Provider};
use postroom_net::is_loopback;
use url::Url;

use super::super::reader::{Item, Section};
use super::super::values;
use super::directories::{BY_CLIENT, PLACEHOLDER};
use super::{GrantKind, Kind};

/// Microsoft's names that represent many directories.
const SHARED_DIRECTORIES: &[&str] = &["common", "organizations", "consumers"];

/// The provider, Microsoft's directory, and the endpoints; each `None` if a problem leaves it unknown.
type Read = (Option<Provider>, Option<Option<String>>, Option<Endpoints>);

/// A URL as written: the outer `None` means that a problem was reported, the inner one that it was left out.
type Written<T> = Option<Option<T>>;

pub fn read(
    section: &Section,
    kind: Option<Kind>,
    grant_kind: Option<GrantKind>,
    grant: Option<&Grant>,
) -> Read {
    let provider = match kind {
        Some(Kind::Microsoft) => read_cloud(section),
        Some(Kind::Google) => Some(Provider::Google),
        Some(Kind::Custom) => Some(Provider::Custom),
        None => None,
    };
    if kind == Some(Kind::Custom)
        && grant_kind != Some(GrantKind::ServiceAccount)
        && let Some(item) = section.item("discovery")
    {
        return (
            provider,
            Some(None),
            read_discovery(section, &item, grant_kind),
        );
    }
    let token = values::optional(section, "token_url", Item::url);
    let authorize = match grant_kind {
        Some(GrantKind::AuthorizationCode) => Some(values::optional(
            section,
            "authorize_url",
            read_authorize_address,
        )),
        _ => None,
    };
    let device = match grant_kind {
        Some(GrantKind::DeviceCode) => Some(values::optional(section, "device_url", Item::url)),
        _ => None,
    };
    let directory = match kind {
        Some(Kind::Microsoft) => {
            let left_out = matches!(token, Some(None))
                || matches!(authorize, Some(Some(None)))
                || matches!(device, Some(Some(None)));
            read_directory(section, grant_kind, left_out)
        }
        _ => Some(None),
    };
    let key_uri = match (grant, &token) {
        (Some(Grant::ServiceAccount(key)), Some(None)) => {
            let Some(url) = safe_key_uri(section, &key.token_uri) else {
                return (provider, directory, None);
            };
            Some(url)
        }
        _ => None,
    };
    let endpoints = match kind {
        Some(Kind::Custom) => own(section, grant_kind, authorize, token, device, key_uri),
        Some(Kind::Microsoft | Kind::Google) => known(
            provider,
            directory.as_ref(),
            authorize,
            token,
            device,
            key_uri,
        ),
        None => None,
    };
    (provider, directory, endpoints)
}

/// Returns the endpoints of a known provider: each URL as written, or the provider's own by default.
fn known(
    provider: Option<Provider>,
    directory: Option<&Option<String>>,
    authorize: Option<Written<String>>,
    token: Written<Url>,
    device: Option<Written<Url>>,
    key_uri: Option<Url>,
) -> Option<Endpoints> {
    let directory = directory?.as_deref().unwrap_or_default();
    let [authorize_url, token_url, device_url] = provider?.urls(directory)?;
    let authorize = match authorize {
        Some(written) => Some(written?.unwrap_or(authorize_url)),
        None => None,
    };
    let device = match device {
        Some(written) => Some(match written? {
            Some(url) => url,
            None => Url::parse(&device_url).ok()?,
        }),
        None => None,
    };
    let token = match token?.or(key_uri) {
        Some(url) => url,
        None => Url::parse(&token_url).ok()?,
    };
    Some(Endpoints::Fixed {
        authorize,
        token,
        device,
    })
}

/// Returns the endpoints of a custom provider, whose URLs must all be written.
fn own(
    section: &Section,
    grant: Option<GrantKind>,
    authorize: Option<Written<String>>,
    token: Written<Url>,
    device: Option<Written<Url>>,
    key_uri: Option<Url>,
) -> Option<Endpoints> {
    let missing = |key: &str| {
        section.missing(
            key,
            &format!("add {key} = \"https://…\", or discovery = \"https://…\" for all addresses"),
        );
    };
    if let Some(Some(None)) = authorize {
        missing("authorize_url");
    }
    if let Some(Some(None)) = device {
        missing("device_url");
    }
    // A service account's key file contains the URL; without a known grant it may be one.
    let of_key = match grant {
        Some(grant) => grant == GrantKind::ServiceAccount,
        None => section.item("service_account").is_some(),
    };
    if let (Some(None), false) = (&token, of_key) {
        missing("token_url");
    }
    Some(Endpoints::Fixed {
        authorize: match authorize {
            Some(written) => Some(written??),
            None => None,
        },
        token: token?.or(key_uri)?,
        device: match device {
            Some(written) => Some(written??),
            None => None,
        },
    })
}

fn read_cloud(section: &Section) -> Option<Provider> {
    let cloud = match section.item("cloud") {
        Some(item) => {
            let clouds: Vec<_> = CLOUDS.iter().map(|cloud| (cloud.name, cloud)).collect();
            item.choice(&clouds, &[])
        }
        None => CLOUDS.first(),
    };
    cloud.map(Provider::Microsoft)
}

/// Returns the token URL of a service account's key file, which must meet the same conditions as a written one.
fn safe_key_uri(section: &Section, url: &Url) -> Option<Url> {
    let safe = match url.scheme() {
        "https" => true,
        "http" => url.host_str().is_some_and(is_loopback),
        _ => false,
    };
    if !safe && let Some(item) = section.item("service_account") {
        item.problem(
            format!("names the token address {url}, which is not https"),
            "use the key file as google gave it, or write token_url = \"https://…\"",
        );
    }
    safe.then(|| url.clone())
}

/// Reads Microsoft's directory, which is required if a URL is built from it.
fn read_directory(
    section: &Section,
    grant: Option<GrantKind>,
    needed: bool,
) -> Option<Option<String>> {
    let Some(item) = section.item("tenant") else {
        if needed {
            section.missing(
                "tenant",
                "add tenant = \"…\", the directory's id or one of its domains",
            );
            return None;
        }
        return Some(None);
    };
    let text = item.text()?;
    if SHARED_DIRECTORIES.contains(&text) {
        match grant {
            // AADSTS90002.
            Some(GrantKind::ClientCredentials) => {
                item.problem(
                    format!(
                        "\"{text}\" represents many directories, but an application signs in to one"
                    ),
                    "write the client's directory id or one of its domains",
                );
                return None;
            }
            // AADSTS9001023.
            Some(GrantKind::Password) if text != "organizations" => {
                item.problem(
                    format!("\"{text}\" accepts no passwords from applications"),
                    "write the client's directory id, one of its domains, or \"organizations\"",
                );
                return None;
            }
            _ => return Some(Some(text.into())),
        }
    }
    if text == BY_CLIENT {
        return Some(Some(PLACEHOLDER.into()));
    }
    sound_directory(&item).map(Some)
}

/// Returns a directory's id, or one of its domains.
pub fn sound_directory(item: &Item) -> Option<String> {
    let text = item.text()?;
    let sound = text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.');
    if !sound || SHARED_DIRECTORIES.contains(&text) || text == BY_CLIENT {
        item.problem(
            format!("\"{text}\" is neither a directory id nor a domain"),
            "write it as \"acme.onmicrosoft.com\" or as the id the directory's overview shows",
        );
        return None;
    }
    Some(text.into())
}

/// Returns the issuer, which replaces all URLs (OpenID Connect Discovery 1.0).
fn read_discovery(section: &Section, item: &Item, grant: Option<GrantKind>) -> Option<Endpoints> {
    let replaced: &[&'static str] = match grant {
        Some(GrantKind::AuthorizationCode) => &["authorize_url", "token_url"],
        Some(GrantKind::DeviceCode) => &["device_url", "token_url"],
        _ => &["token_url"],
    };
    section.misplaced(
        replaced,
        "is not needed: discovery finds it",
        "remove it, or remove discovery",
    );
    let issuer = item.url()?;
    if let Some(at) = issuer.path().find("/.well-known/") {
        let mut bare = issuer.clone();
        bare.set_path(&issuer.path()[..at]);
        item.problem(
            "is the address of the issuer's document, not the issuer",
            format!("write \"{}\"", bare.as_str().trim_end_matches('/')),
        );
        return None;
    }
    // Section 2 of the standard.
    if issuer.query().is_some() || issuer.fragment().is_some() {
        item.problem(
            "is not an issuer: it has a query or a fragment",
            "write the issuer as its own document names it, such as \"https://login.example\"",
        );
        return None;
    }
    Some(Endpoints::Discovered { issuer })
}

/// Reads the authorize URL. It is kept as written, since some servers compare it byte by byte.
fn read_authorize_address(item: &Item) -> Option<String> {
    let url = item.url()?;
    without_fragment(item, &url)?;
    Some(item.text()?.to_owned())
}

/// Reads the URL that the browser is sent to after the sign-in. Only the browser goes there, and the code in it is useless
/// without the verifier, which stays here.
pub fn read_redirect_address(item: &Item) -> Option<String> {
    let text = item.text()?;
    let Ok(url) = Url::parse(text) else {
        item.problem(
            "is not a URL",
            "write it as it is registered, such as \"http://localhost:8400/\"",
        );
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") {
        item.problem(
            format!("has the scheme {}", url.scheme()),
            "register and write an http:// or https:// address, such as \"http://localhost\"",
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        item.problem(
            "contains a user or password in clear text",
            "write the URL without them",
        );
        return None;
    }
    without_fragment(item, &url)?;
    Some(text.to_owned())
}

/// Refuses a URL with a fragment (RFC 6749 sections 3.1 and 3.1.2).
fn without_fragment(item: &Item, url: &Url) -> Option<()> {
    if url.fragment().is_some() {
        item.problem(
            "has a fragment (#…), which no address of a sign-in may have",
            "write the URL without it",
        );
        return None;
    }
    Some(())
}
