//! The webhook receiver: accepts any POST, checks its Standard Webhooks signature, records it, and fails on command.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::listener::{Failures, Listener, hang, locked};

/// The receiver's secret, in the form used by a sender's configuration.
pub const WEBHOOK_SECRET: &str = "whsec_c3RhbmQtd2ViaG9vay1zZWNyZXQtMzItYnl0ZXMtbG9uZyE=";

/// The allowed difference between a request's timestamp and now (Standard Webhooks).
const TIMESTAMP_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// The size limit of a head; a larger one is not a webhook.
const MAX_HEAD_BYTES: u64 = 64 * 1024;

/// A request that the receiver accepted.
#[derive(Clone, Debug)]
pub struct WebhookRequest {
    /// Path and query.
    pub path: String,
    /// Headers by name, in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body as sent.
    pub body: Vec<u8>,
    /// The arrival time of its last byte.
    pub received: SystemTime,
    /// Whether the Standard Webhooks signature was valid, or why not.
    pub signature: Result<(), String>,
    /// The status of the response; `None` if there was none.
    pub status: Option<u16>,
}

/// A failure that the receiver can be ordered to produce; the request is always recorded.
#[derive(Clone, Debug)]
pub enum WebhookFailure {
    /// Responds with a status, and a Retry-After in seconds if given.
    Status {
        code: u16,
        retry_after_secs: Option<u64>,
    },
    /// Closes the connection without a response.
    Drop,
    /// Never responds.
    Hang,
}

/// The running receiver.
pub struct Webhook {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    key: Vec<u8>,
    received: Mutex<Vec<WebhookRequest>>,
    failures: Failures<WebhookFailure>,
}

impl WebhookRequest {
    /// Returns a header by name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    }

    /// Returns the body as JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }
}

impl Webhook {
    pub(crate) fn start(runtime: &Handle) -> Result<Self> {
        let encoded = WEBHOOK_SECRET
            .strip_prefix("whsec_")
            .context("not a webhook secret")?;
        let shared = Arc::new(Shared {
            key: STANDARD.decode(encoded)?,
            received: Mutex::new(Vec::new()),
            failures: Failures::new(),
        });
        let listener = Listener::start(runtime, {
            let shared = Arc::clone(&shared);
            move |stream| {
                let shared = Arc::clone(&shared);
                async move {
                    // A broken connection is the client's concern.
                    let _ = converse(stream, &shared).await;
                }
            }
        })?;
        Ok(Self { listener, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns the URL to post to.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/hook", self.port())
    }

    /// Returns every request accepted since the start or the last [`clear`](Self::clear), oldest first.
    pub fn received(&self) -> Vec<WebhookRequest> {
        locked(&self.shared.received).clone()
    }

    /// Orders the next `count` requests to fail, after those ordered before.
    pub fn fail_next(&self, count: usize, failure: WebhookFailure) {
        self.shared.failures.order(count, failure);
    }

    /// Clears the requests and the waiting failures.
    pub fn clear(&self) {
        locked(&self.shared.received).clear();
        self.shared.failures.clear();
    }
}

/// Serves one HTTP/1.1 connection, which stays open as long as the client keeps it.
async fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    while let Some(mut request) = read(&mut stream, shared).await? {
        let failure = shared.failures.take_if(|_| true);
        request.status = match &failure {
            None => Some(204),
            Some(WebhookFailure::Status { code, .. }) => Some(*code),
            Some(WebhookFailure::Drop | WebhookFailure::Hang) => None,
        };
        let answer = request.status;
        locked(&shared.received).push(request);
        let retry_after = match failure {
            Some(WebhookFailure::Drop) => return Ok(()),
            Some(WebhookFailure::Hang) => {
                hang(&mut stream).await;
                return Ok(());
            }
            Some(WebhookFailure::Status {
                retry_after_secs: Some(secs),
                ..
            }) => {
                format!("Retry-After: {secs}\r\n")
            }
            Some(WebhookFailure::Status { .. }) | None => String::new(),
        };
        let code = answer.unwrap_or_default();
        // 204 has no body, and therefore no length (RFC 9110 section 8.6).
        let length = if code == 204 {
            ""
        } else {
            "Content-Length: 0\r\n"
        };
        let head = format!("HTTP/1.1 {code} On command\r\n{retry_after}{length}\r\n");
        stream.write_all(head.as_bytes()).await?;
    }
    Ok(())
}

/// Reads one request; returns `None` if the client is done or does not send HTTP with a Content-Length.
async fn read(
    stream: &mut BufReader<TcpStream>,
    shared: &Shared,
) -> std::io::Result<Option<WebhookRequest>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        let read = (&mut *stream)
            .take(MAX_HEAD_BYTES)
            .read_until(b'\n', &mut head)
            .await?;
        if read == 0 || head.len() as u64 > MAX_HEAD_BYTES {
            return Ok(None);
        }
        if head[start..].trim_ascii().is_empty() && start > 0 {
            break;
        }
    }
    let head = String::from_utf8_lossy(&head);
    let mut lines = head.lines();
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .unwrap_or_default()
        .to_owned();
    let headers: BTreeMap<_, _> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let Some(length) = headers
        .get("content-length")
        .and_then(|length| length.parse().ok())
    else {
        stream
            .write_all(b"HTTP/1.1 411 Length Required\r\nConnection: close\r\n\r\n")
            .await?;
        return Ok(None);
    };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let signature = verify(&shared.key, &headers, &body);
    Ok(Some(WebhookRequest {
        path,
        headers,
        body,
        received: SystemTime::now(),
        signature,
        status: None,
    }))
}

/// Checks a request according to the Standard Webhooks specification: HMAC-SHA256 over `id.timestamp.body`.
fn verify(key: &[u8], headers: &BTreeMap<String, String>, body: &[u8]) -> Result<(), String> {
    let header = |name: &str| {
        headers
            .get(name)
            .ok_or_else(|| format!("{name} is missing"))
    };
    let id = header("webhook-id")?;
    let timestamp = header("webhook-timestamp")?;
    let signatures = header("webhook-signature")?;

    let sent = timestamp
        .parse()
        .map(|secs| UNIX_EPOCH + Duration::from_secs(secs))
        .map_err(|_| format!("webhook-timestamp is not in Unix seconds: {timestamp}"))?;
    let now = SystemTime::now();
    let distance = now
        .duration_since(sent)
        .or_else(|_| sent.duration_since(now));
    if distance.is_ok_and(|distance| distance > TIMESTAMP_TOLERANCE) {
        return Err(format!(
            "webhook-timestamp is too far from now: {timestamp}"
        ));
    }

    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|error| error.to_string())?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body);
    let held = signatures
        .split(' ')
        .filter_map(|signature| signature.strip_prefix("v1,"))
        .filter_map(|encoded| STANDARD.decode(encoded).ok())
        .any(|tag| mac.clone().verify_slice(&tag).is_ok());
    if held {
        Ok(())
    } else {
        Err(format!("no signature holds: {signatures}"))
    }
}
