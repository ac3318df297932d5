//! The authorization server: starts `authority/server.mjs` and reads and steers it through its control
//! endpoint.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::process::Group;
use crate::wire::Wire;

/// The application registered with the server.
pub const CLIENT_ID: &str = "7c9d1a52-3e0b-4a57-9d55-0c4f1f6b2a10";
/// Its secret.
pub const CLIENT_SECRET: &str = "Xq8Q~stand.client-secret_0123456789";
/// The app-only scope that opens mailboxes.
pub const MAIL_SCOPE: &str = "https://outlook.office365.com/.default";
/// An app-only scope that is granted but opens no mailbox.
pub const OTHER_SCOPE: &str = "https://graph.microsoft.com/.default";

pub(crate) const INTROSPECTION_CLIENT: &str = "dovecot";
pub(crate) const INTROSPECTION_SECRET: &str = "dovecot-introspection-secret";

const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// The oldest Node.js the server runs on.
const MIN_NODE_MAJOR: u32 = 20;

/// A request to the token endpoint, as the server saw it.
#[derive(Clone, Debug, Deserialize)]
pub struct TokenRequest {
    /// Unix milliseconds.
    pub time_ms: u64,
    /// The path asked for, such as `/acme/oauth2/v2.0/token`.
    pub path: String,
    /// The tenant in the path.
    pub tenant: String,
    /// The form's fields.
    pub form: std::collections::BTreeMap<String, String>,
    /// The status answered; `None` while, or because, it was left hanging.
    pub status: Option<u16>,
    /// The access token issued, where one was.
    #[serde(default)]
    pub access_token: Option<String>,
}

/// How the server can be told to fail.
#[derive(Clone, Debug)]
pub enum AuthorityFailure {
    /// Answers a status with a body, and a Retry-After in seconds when given.
    Status {
        code: u16,
        body: String,
        retry_after_secs: Option<u64>,
    },
    /// Never answers.
    Hang,
}

/// The running server.
pub struct Authority {
    ports: AuthorityPorts,
    _process: Group,
}

#[derive(Clone, Copy, Deserialize)]
struct AuthorityPorts {
    https: u16,
    http: u16,
}

impl AuthorityFailure {
    /// A Microsoft-shaped error body, such as `microsoft(400, "invalid_grant", 50173)`.
    pub fn microsoft(code: u16, error: &str, aadsts: u32) -> Self {
        let body = json!({
            "error": error,
            "error_description": format!("AADSTS{aadsts}: Ordered by the test."),
            "error_codes": [aadsts],
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
        });
        Self::Status {
            code,
            body: body.to_string(),
            retry_after_secs: None,
        }
    }
}

impl Authority {
    /// Starts the server; the certificate is expected in `dir` already.
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
                "client_id": CLIENT_ID,
                "client_secret": CLIENT_SECRET,
                "introspection_client_id": INTROSPECTION_CLIENT,
                "introspection_client_secret": INTROSPECTION_SECRET,
                "token_lifetime_secs": token_lifetime_secs,
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
            _process: process,
        })
    }

    pub(crate) fn port(&self) -> u16 {
        self.ports.https
    }

    pub(crate) fn introspection_port(&self) -> u16 {
        self.ports.http
    }

    /// The v2.0 token endpoint of a tenant.
    pub fn token_url(&self, tenant: &str) -> String {
        format!(
            "https://localhost:{}/{tenant}/oauth2/v2.0/token",
            self.ports.https
        )
    }

    /// Every request to a token endpoint since the start or the last [`clear`](Self::clear), oldest first.
    pub fn token_requests(&self) -> Result<Vec<TokenRequest>> {
        Ok(serde_json::from_value(self.control(
            "GET",
            "requests",
            &Value::Null,
        )?)?)
    }

    /// Orders the next `count` token requests to fail, after those ordered before.
    pub fn fail_next(&self, count: usize, failure: AuthorityFailure) -> Result<()> {
        self.fail("token", count, failure)
    }

    /// Orders Dovecot's next `count` introspections to fail: the login then meets a temporary failure.
    pub fn fail_introspection(&self, count: usize, failure: AuthorityFailure) -> Result<()> {
        self.fail("introspection", count, failure)
    }

    /// The lifetime of tokens granted from now on.
    pub fn set_token_lifetime(&self, secs: u64) -> Result<()> {
        self.control("POST", "lifetime", &json!({ "secs": secs }))
            .map(drop)
    }

    /// Makes every token granted so far worthless, whatever its lifetime.
    pub fn revoke_tokens(&self) -> Result<()> {
        self.control("POST", "revoke", &Value::Null).map(drop)
    }

    /// Forgets the recorded requests and the failures still waiting.
    pub fn clear(&self) -> Result<()> {
        self.control("POST", "clear", &Value::Null).map(drop)
    }

    fn fail(&self, endpoint: &str, count: usize, failure: AuthorityFailure) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        let order = match failure {
            AuthorityFailure::Status {
                code,
                body,
                retry_after_secs,
            } => json!({
                "endpoint": endpoint, "count": count, "status": code, "body": body,
                "retry_after_secs": retry_after_secs,
            }),
            AuthorityFailure::Hang => json!({ "endpoint": endpoint, "count": count, "hang": true }),
        };
        self.control("POST", "fail", &order).map(drop)
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
        ensure!(status == 200, "control endpoint {name} answered {status}");
        Ok(serde_json::from_slice(&answer)?)
    }
}

fn home() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("authority")
}

/// The Node.js to use: the one the set-up fetched when the machine's own was missing or too old, else the
/// machine's.
fn node() -> Result<PathBuf> {
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
