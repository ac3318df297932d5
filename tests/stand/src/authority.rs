//! The authorization server: starts `authority/server.mjs`, and reads and controls it through its control endpoint.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::applications::{self, CERTIFICATE_CLIENT_ID, SERVICE_ACCOUNT};
use crate::dovecot::PASSWORD;
use crate::failure::{AuthorityFailure, Endpoint, Only};
use crate::process::Group;
use crate::wire::Wire;

/// A directory that does not exist; every other one does.
pub const UNKNOWN_TENANT: &str = "nowhere.example";

pub(crate) const INTROSPECTION_CLIENT: &str = "dovecot";
pub(crate) const INTROSPECTION_SECRET: &str = "dovecot-introspection-secret";

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest Node.js the server runs on.
const MIN_NODE_MAJOR: u32 = 20;

/// The lifetime of codes until a test changes it, in seconds, as at Microsoft.
const CODE_LIFETIME_SECS: u64 = 600;
const DEVICE_LIFETIME_SECS: u64 = 900;
const REFRESH_LIFETIME_SECS: u64 = 90 * 86_400;
/// The polling interval of a device; Microsoft's is 5, but tests need not wait that long.
const DEVICE_INTERVAL_SECS: u64 = 1;
/// The validity of the certificate of [`Authority::certificate_pem`].
const CERTIFICATE_DAYS: i64 = 365;

/// A request to the token endpoint, as the server received it.
#[derive(Clone, Debug, Deserialize)]
pub struct TokenRequest {
    /// Unix milliseconds.
    pub time_ms: u64,
    /// The requested path, such as `/acme/oauth2/v2.0/token`.
    pub path: String,
    /// The tenant in the path; empty if the path has none.
    pub tenant: String,
    /// The form's fields.
    pub form: BTreeMap<String, String>,
    /// The form's `grant_type`; empty if it has none.
    pub grant_type: String,
    /// Whether the client authenticated with HTTP Basic.
    pub basic: bool,
    /// The status of the response; `None` if the request was left hanging, or the response was lost.
    pub status: Option<u16>,
    /// The access token issued, if any.
    #[serde(default)]
    pub access_token: Option<String>,
    /// The refresh token issued, if any.
    #[serde(default)]
    pub refresh_token: Option<String>,
}

/// A request to another endpoint.
#[derive(Clone, Debug, Deserialize)]
pub struct EndpointRequest {
    /// Unix milliseconds.
    pub time_ms: u64,
    /// The requested path.
    pub path: String,
    /// The tenant in the path; empty if the path has none.
    pub tenant: String,
    /// The form's fields, or those of an authorize request's query.
    pub form: BTreeMap<String, String>,
}

/// The server's behaviour towards a user. Every address is a user, with [`PASSWORD`], and everything works until a test
/// changes that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    Ok,
    /// The password grant and a renewal are refused (AADSTS50076); the pages admit the user.
    Mfa,
    /// AADSTS50053.
    Locked,
    /// The password has expired (AADSTS50055).
    Expired,
    /// AADSTS50057, also for a renewal.
    Disabled,
    /// The user does not exist (AADSTS50034).
    Unknown,
    /// AADSTS65001 for the password grant and a renewal; the consent page cannot be accepted (AADSTS90094).
    NoConsent,
}

/// Lifetimes of tokens issued from now on, in seconds; `None` leaves one unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lifetimes {
    pub access_secs: Option<u64>,
    pub refresh_secs: Option<u64>,
    pub code_secs: Option<u64>,
    pub device_secs: Option<u64>,
    pub device_interval_secs: Option<u64>,
}

/// The running server.
pub struct Authority {
    ports: AuthorityPorts,
    certificate: OnceLock<Result<String, String>>,
    service_account: OnceLock<Result<String, String>>,
    _process: Group,
}

#[derive(Clone, Copy, Deserialize)]
struct AuthorityPorts {
    https: u16,
    http: u16,
}

impl Behaviour {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Mfa => "mfa",
            Self::Locked => "locked",
            Self::Expired => "expired",
            Self::Disabled => "disabled",
            Self::Unknown => "unknown",
            Self::NoConsent => "no_consent",
        }
    }
}

impl Authority {
    /// Starts the server; the certificate must already be in `dir`.
    pub(crate) fn start(dir: &Path, token_lifetime_secs: u64) -> Result<Self> {
        let script = home().join("server.mjs");
        ensure!(
            home().join("node_modules/oidc-provider").is_dir(),
            "the authorization server's npm packages are missing: run `make setup`"
        );
        let node = node()?;
        let ready = dir.join("authority.ready");
        let config = dir.join("authority.json");
        fs::write(
            &config,
            json!({
                "port": 0,
                "certificate": dir.join("server.pem"),
                "key": dir.join("server.key"),
                "ready": ready,
                "applications": applications::registered(),
                "unknown_tenants": [UNKNOWN_TENANT],
                "password": PASSWORD,
                "introspection_client_id": INTROSPECTION_CLIENT,
                "introspection_client_secret": INTROSPECTION_SECRET,
                "lifetimes": {
                    "access_secs": token_lifetime_secs,
                    "refresh_secs": REFRESH_LIFETIME_SECS,
                    "code_secs": CODE_LIFETIME_SECS,
                    "device_secs": DEVICE_LIFETIME_SECS,
                    "device_interval_secs": DEVICE_INTERVAL_SECS,
                },
            })
            .to_string(),
        )?;
        let log = dir.join("authority.log");
        let args = [script.to_string_lossy(), config.to_string_lossy()];
        let mut process = Group::spawn(
            dir,
            "authority",
            &log,
            &node,
            &[args[0].as_ref(), args[1].as_ref()],
        )?;

        let deadline = Instant::now() + READY_TIMEOUT;
        while !ready.exists() {
            if !process.is_running()? || Instant::now() > deadline {
                let log = fs::read_to_string(&log).unwrap_or_default();
                bail!("the authorization server did not start (is `make setup` done?):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let ports = serde_json::from_str(&fs::read_to_string(&ready)?)?;
        Ok(Self {
            ports,
            certificate: OnceLock::new(),
            service_account: OnceLock::new(),
            _process: process,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.https
    }

    pub(crate) fn introspection_port(&self) -> u16 {
        self.ports.http
    }

    /// Returns the issuer, for OpenID Connect Discovery 1.0: the document is at its `/.well-known/openid-configuration`,
    /// and its endpoints respond according to the standard, without AADSTS.
    pub fn issuer(&self) -> String {
        format!("https://localhost:{}", self.ports.https)
    }

    /// Returns the v2.0 token endpoint of a tenant.
    pub fn token_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/token", self.issuer())
    }

    /// Returns the v2.0 authorize endpoint of a tenant.
    pub fn authorize_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/authorize", self.issuer())
    }

    /// Returns the v2.0 device endpoint of a tenant.
    pub fn device_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/v2.0/devicecode", self.issuer())
    }

    /// Returns the v1 token endpoint of a tenant.
    pub fn v1_token_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/token", self.issuer())
    }

    /// Returns the v1 authorize endpoint of a tenant.
    pub fn v1_authorize_url(&self, tenant: &str) -> String {
        format!("{}/{tenant}/oauth2/authorize", self.issuer())
    }

    /// Returns the Google-shaped authorize endpoint.
    pub fn google_authorize_url(&self) -> String {
        format!("{}/o/oauth2/v2/auth", self.issuer())
    }

    /// Returns the Google-shaped token endpoint.
    pub fn google_token_url(&self) -> String {
        format!("{}/google/token", self.issuer())
    }

    /// Returns the Google-shaped device endpoint.
    pub fn google_device_url(&self) -> String {
        format!("{}/google/device", self.issuer())
    }

    /// Returns every request to a token endpoint since the start or the last [`clear`](Self::clear), oldest first.
    pub fn token_requests(&self) -> Result<Vec<TokenRequest>> {
        self.requests("token")
    }

    /// Returns every request to an authorize endpoint since then.
    pub fn authorize_requests(&self) -> Result<Vec<EndpointRequest>> {
        self.requests("authorize")
    }

    /// Returns every request to a device endpoint since then.
    pub fn device_requests(&self) -> Result<Vec<EndpointRequest>> {
        self.requests("device")
    }

    /// Returns every request for a discovery document since then.
    pub fn discovery_requests(&self) -> Result<Vec<EndpointRequest>> {
        self.requests("discovery")
    }

    /// Returns every secret the server issued or received since its start: access, refresh and identity tokens, codes,
    /// device codes, client secrets, assertions, private keys, passwords, PKCE verifiers.
    pub fn secrets(&self) -> Result<Vec<String>> {
        let mut secrets: BTreeSet<String> =
            serde_json::from_value(self.control("GET", "secrets", &Value::Null)?)?;
        secrets.remove("");
        Ok(secrets.into_iter().collect())
    }

    /// Orders the next `count` token requests to fail, after those ordered before.
    pub fn fail_next(&self, count: usize, failure: AuthorityFailure) -> Result<()> {
        self.fail(Endpoint::Token, count, failure)
    }

    /// Orders Dovecot's next `count` introspections to fail: the login then gets a temporary failure.
    pub fn fail_introspection(&self, count: usize, failure: AuthorityFailure) -> Result<()> {
        self.fail(Endpoint::Introspection, count, failure)
    }

    /// Orders the next `count` requests to an endpoint to fail.
    pub fn fail(&self, endpoint: Endpoint, count: usize, failure: AuthorityFailure) -> Result<()> {
        self.fail_only(endpoint, count, Only::default(), failure)
    }

    /// Orders requests of one client, tenant or grant to fail; others are served meanwhile.
    pub fn fail_only(
        &self,
        endpoint: Endpoint,
        count: usize,
        only: Only<'_>,
        failure: AuthorityFailure,
    ) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.order("fail", &failure.order(endpoint, count, only))
    }

    /// Responds `slow_down` to the next `count` polls for a device's token.
    pub fn slow_down(&self, count: usize) -> Result<()> {
        let only = Only {
            grant_type: Some("urn:ietf:params:oauth:grant-type:device_code"),
            ..Only::default()
        };
        let failure = AuthorityFailure::oauth(400, "slow_down");
        self.fail_only(Endpoint::Token, count, only, failure)
    }

    /// Sets the lifetime of access tokens granted from now on.
    pub fn set_token_lifetime(&self, secs: u64) -> Result<()> {
        self.set_lifetimes(Lifetimes {
            access_secs: Some(secs),
            ..Lifetimes::default()
        })
    }

    /// Sets the lifetimes of tokens issued from now on.
    pub fn set_lifetimes(&self, lifetimes: Lifetimes) -> Result<()> {
        let changed: BTreeMap<&str, u64> = [
            ("access_secs", lifetimes.access_secs),
            ("refresh_secs", lifetimes.refresh_secs),
            ("code_secs", lifetimes.code_secs),
            ("device_secs", lifetimes.device_secs),
            ("device_interval_secs", lifetimes.device_interval_secs),
        ]
        .into_iter()
        .filter_map(|(name, secs)| Some((name, secs?)))
        .collect();
        self.order("lifetimes", &json!(changed))
    }

    /// Revokes every token, code and sign-in so far, whatever its lifetime.
    pub fn revoke_tokens(&self) -> Result<()> {
        self.order("revoke", &json!({}))
    }

    /// Revokes every access token so far; refresh tokens remain valid.
    pub fn revoke_access_tokens(&self) -> Result<()> {
        self.order(
            "revoke",
            &json!({ "only": ["AccessToken", "ClientCredentials"] }),
        )
    }

    /// Revokes everything granted to a user: the refresh token then gets `invalid_grant` (AADSTS50173).
    pub fn revoke_user(&self, user: &str) -> Result<()> {
        self.order("revoke", &json!({ "user": user }))
    }

    /// Changes a user's password, for the pages and the password grant; tokens remain valid.
    pub fn set_password(&self, user: &str, password: &str) -> Result<()> {
        self.order("user", &json!({ "user": user, "password": password }))
    }

    /// Sets the behaviour towards a user from now on.
    pub fn set_behaviour(&self, user: &str, behaviour: Behaviour) -> Result<()> {
        self.order(
            "user",
            &json!({ "user": user, "behaviour": behaviour.name() }),
        )
    }

    /// Gives a user a shared mailbox, so that XOAUTH2 with the user's token and `user=` the shared address opens it. A user
    /// has at most three.
    pub fn share(&self, user: &str, mailbox: &str) -> Result<()> {
        self.order("share", &json!({ "user": user, "shared": mailbox }))
    }

    /// Sets the secrets of an application that are valid from now on.
    pub fn set_secrets(&self, client_id: &str, secrets: &[&str]) -> Result<()> {
        self.order(
            "application",
            &json!({ "client_id": client_id, "secrets": secrets }),
        )
    }

    /// Sets the secrets of an application that have expired (AADSTS7000222).
    pub fn expire_secrets(&self, client_id: &str, secrets: &[&str]) -> Result<()> {
        self.order(
            "application",
            &json!({ "client_id": client_id, "expired": secrets }),
        )
    }

    /// Registers a redirect URL with an application; `http://localhost` with any port and path is always valid.
    pub fn register_redirect(&self, client_id: &str, redirect: &str) -> Result<()> {
        self.order(
            "application",
            &json!({ "client_id": client_id, "redirect": redirect }),
        )
    }

    /// Registers a certificate with an application; certificates registered before remain valid.
    pub fn register_certificate(&self, client_id: &str, pem: &str) -> Result<()> {
        self.order(
            "application",
            &json!({ "client_id": client_id, "certificate": pem }),
        )
    }

    /// Returns a new RSA key, PKCS#8 PEM. Generating one takes a while.
    pub fn rsa_key(&self) -> Result<String> {
        Ok(serde_json::from_value(self.control(
            "POST",
            "rsa-key",
            &json!({}),
        )?)?)
    }

    /// Returns a new certificate with its key, in one PEM, that expires `days` from now and is not registered anywhere yet.
    pub fn new_certificate(&self, days: i64) -> Result<String> {
        let key = self.rsa_key()?;
        Ok(applications::certify(&key, days)? + &key)
    }

    /// Returns the certificate registered with [`CERTIFICATE_CLIENT_ID`] and its key, in one PEM; created on first use.
    pub fn certificate_pem(&self) -> Result<String> {
        once(&self.certificate, || {
            let pem = self.new_certificate(CERTIFICATE_DAYS)?;
            self.register_certificate(CERTIFICATE_CLIENT_ID, &pem)?;
            Ok(pem)
        })
    }

    /// Returns the key file of [`SERVICE_ACCOUNT`], JSON; created on first use.
    pub fn service_account_json(&self) -> Result<String> {
        once(&self.service_account, || {
            let key = self.rsa_key()?;
            self.order(
                "service-account",
                &json!({ "client_email": SERVICE_ACCOUNT, "key": key }),
            )?;
            Ok(applications::service_account_json(
                &key,
                &self.google_token_url(),
            ))
        })
    }

    /// Clears the recorded requests and the waiting failures. Users, applications and secrets stay.
    pub fn clear(&self) -> Result<()> {
        self.order("clear", &Value::Null)
    }

    fn requests<T: serde::de::DeserializeOwned>(&self, endpoint: &str) -> Result<Vec<T>> {
        let mut requests = self.control("GET", "requests", &Value::Null)?;
        Ok(serde_json::from_value(requests[endpoint].take())?)
    }

    fn order(&self, name: &str, body: &Value) -> Result<()> {
        self.control("POST", name, body).map(drop)
    }

    fn control(&self, method: &str, name: &str, body: &Value) -> Result<Value> {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let (status, answer) = Wire::plain(self.ports.http)?.http(
            method,
            &format!("/control/{name}"),
            "application/json",
            body.as_bytes(),
        )?;
        ensure!(
            status == 200,
            "control endpoint {name} answered {status}: {}",
            String::from_utf8_lossy(&answer)
        );
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn once(
    cell: &OnceLock<Result<String, String>>,
    make: impl FnOnce() -> Result<String>,
) -> Result<String> {
    cell.get_or_init(|| make().map_err(|error| format!("{error:#}")))
        .clone()
        .map_err(|error| anyhow!(error))
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("authority")
}

/// Returns the Node.js to use: the one that the set-up fetched because the machine's own was missing or too old, otherwise
/// the machine's.
pub fn node() -> Result<PathBuf> {
    let fetched = home().join(".node/bin/node");
    let node = if fetched.exists() {
        fetched
    } else {
        PathBuf::from("node")
    };
    let version = Command::new(&node)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .context("Node.js is missing: run `make setup`")?;
    let major: Option<u32> = version
        .trim()
        .trim_start_matches('v')
        .split('.')
        .next()
        .and_then(|major| major.parse().ok());
    ensure!(
        major.is_some_and(|major| major >= MIN_NODE_MAJOR),
        "Node.js {MIN_NODE_MAJOR} or newer is needed, found {}: run `make setup`",
        version.trim()
    );
    Ok(node)
}
