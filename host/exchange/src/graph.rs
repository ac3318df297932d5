//! Microsoft Graph over HTTPS for one mailbox: tokens, at most four requests at a time, throttling, bounded responses.

use std::sync::atomic::{AtomicBool, Ordering};
mod gate;
mod limits;
mod upload;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use postroom_auth::{AccessToken, Login, retry_after};
use postroom_core::Clock;
use postroom_core::harmless::harmless_chars;
use postroom_net::{HttpClient, Proxies, Step, Trace, TraceRedactor, Unreachable};
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_TYPE, DATE, HeaderMap, RETRY_AFTER, TRANSFER_ENCODING,
};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url, Version};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::SemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use crate::ExchangeError;
use gate::MailboxGate;
pub use limits::GraphLimits;
pub use upload::{UploadRange, Uploaded};

/// The number of concurrent requests from one application that Exchange serves on one mailbox (learn.microsoft.com, "Outlook
/// service limits").
pub const CONCURRENT_REQUESTS: usize = 4;
/// The longest JSON response that is read. A page of 100 mails takes about 100 KiB.
const JSON_BYTES_MAX: usize = 4 * 1024 * 1024;
/// How much of an error response is read.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// The longest error text that is shown, in characters.
const TEXT_CHARS: usize = 300;
/// The longest pause requested by the server that is waited for within the request, so that one throttled request among many does
/// not end the session.
const PAUSE_IN_PLACE_MAX: Duration = Duration::from_secs(10);
/// How often one request is repeated after such a pause.
const REPEATS_MAX: u32 = 3;
/// The longest `Retry-After` that is honoured.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// The pause after a 429 without `Retry-After`.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(30);
/// The time limit for a mail is extended by its size at this rate.
const BYTES_PER_SEC_MIN: u64 = 16 * 1024;
/// Requests ids that stay the same when a mail is moved within the mailbox.
const IMMUTABLE_IDS: &str = "IdType=\"ImmutableId\"";

/// Talks to Graph on behalf of one mailbox.
pub struct GraphClient {
    http: HttpClient,
    base: Url,
    login: Login,
    limits: GraphLimits,
    clock: Clock,
    gate: Arc<MailboxGate>,
    /// The last new token was refused as well: the cause lies elsewhere, and other mailboxes keep their token.
    token_distrusted: AtomicBool,
    trace: Mutex<Option<Trace>>,
}

/// One request.
pub struct Request<'r> {
    pub step: Step,
    pub method: Method,
    pub url: Url,
    /// Additional values of `Prefer`.
    pub prefer: &'r [&'r str],
    pub body: Option<Payload<'r>>,
}

/// The body of a request.
pub enum Payload<'r> {
    Json(&'r Value),
    /// A mail as MIME in base64.
    Mime(String),
    /// Nothing, for a `POST` that takes no parameters.
    Empty,
}

/// A response with status 2xx whose body has not been read yet. It counts as a request until it is dropped.
pub struct Answer<'c> {
    step: Step,
    response: Response,
    limits: GraphLimits,
    _permit: SemaphorePermit<'c>,
}

/// Why there is no response with status 2xx.
#[derive(Debug)]
pub enum Failure {
    /// The server refused this request, possibly because of the object that it names.
    Refused(Refusal),
    Failed(ExchangeError),
}

/// The server's refusal of one request.
#[derive(Debug)]
pub struct Refusal {
    pub status: StatusCode,
    /// The error code, such as `ErrorItemNotFound`.
    pub code: String,
    text: String,
}

/// A body that was read.
pub enum Body {
    Whole(Vec<u8>),
    /// The reader stopped before the end: the part read so far, and the size stated by the server, if any.
    Cut(Vec<u8>, Option<u64>),
    /// There was no room for more. This many bytes were read.
    NoRoom(u64),
}

impl GraphClient {
    pub fn new(
        base: Url,
        login: Login,
        tls: &Arc<rustls::ClientConfig>,
        proxies: &Proxies,
        limits: GraphLimits,
        clock: Clock,
    ) -> Result<Self, ExchangeError> {
        // It follows no redirect: a token must not be sent to another address.
        let http = HttpClient::new(tls, proxies, |it| it.connect_timeout(limits.connect));
        let http = http.map_err(|error| ExchangeError::Unusable {
            step: Step::Connect,
            reason: chain(&error),
        })?;
        let gate = MailboxGate::of(&base, login.user());
        Ok(Self {
            http,
            gate,
            base,
            login,
            limits,
            clock,
            token_distrusted: AtomicBool::new(false),
            trace: Mutex::new(None),
        })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    pub fn login(&self) -> &Login {
        &self.login
    }

    pub fn set_trace(&self, trace: Trace) {
        *self.trace.lock().unwrap_or_else(PoisonError::into_inner) = Some(trace);
    }

    /// Returns the URL of something in the mailbox: under `/me` if the account opens its own mailbox, otherwise under
    /// `/users/ADDRESS`.
    pub fn url<'s>(&self, path: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty();
            match self.own_mailbox() {
                true => segments.push("me"),
                false => segments.push("users").push(self.login.user()),
            };
            segments.extend(path);
        }
        url
    }

    fn own_mailbox(&self) -> bool {
        let Login::Bearer { user, account, .. } = &self.login else {
            return false;
        };
        let login = account.login.as_deref();
        login.is_some_and(|login| login.eq_ignore_ascii_case(user))
    }

    /// Returns a link from a response as a URL if it leads to the same server.
    pub fn followed(&self, step: Step, link: &str) -> Result<Url, ExchangeError> {
        let broken = |reason: String| ExchangeError::Protocol { step, reason };
        let url = Url::parse(link).map_err(|_| broken("a link that is no address".into()))?;
        let of = |url: &Url| (url.scheme().to_owned(), url.port_or_known_default());
        let is_same = of(&url) == of(&self.base) && url.host_str() == self.base.host_str();
        let is_plain = url.username().is_empty() && url.password().is_none();
        if !is_same || !is_plain {
            let host = shown(url.host_str().unwrap_or("no host"));
            return Err(broken(format!(
                "a link to {host}, which is not followed: the token would travel there"
            )));
        }
        Ok(url)
    }

    /// Ensures that there is a token, without a request to Graph.
    pub async fn ask_for_token(&self) -> Result<String, ExchangeError> {
        let (_, account) = self.token().await?;
        Ok(account)
    }

    async fn token(&self) -> Result<(AccessToken, String), ExchangeError> {
        match &self.login {
            Login::Bearer {
                account,
                resource,
                tokens,
                ..
            } => {
                let token = tokens.access_token(account, *resource).await?;
                Ok((token, account.to_string()))
            }
            Login::Password { .. } => Err(ExchangeError::Unusable {
                step: Step::Token,
                reason: "Graph takes no passwords: the mailbox needs a profile".into(),
            }),
        }
    }

    /// Sends a request. Replaces a refused token once, and waits if the server asks for a short pause.
    pub async fn send(&self, request: Request<'_>) -> Result<Answer<'_>, Failure> {
        let mut repeats = 0;
        let mut token_replaced = false;
        loop {
            let permit = self.permit(request.step).await?;
            let (token, _) = self.token().await?;
            let response = self.exchange(&request, &token).await?;
            let status = response.status();
            if status.is_success() {
                self.token_distrusted.store(false, Ordering::Relaxed);
                return Ok(Answer {
                    step: request.step,
                    response,
                    limits: self.limits,
                    _permit: permit,
                });
            }
            if status == StatusCode::UNAUTHORIZED
                && !token_replaced
                && !self.token_distrusted.load(Ordering::Relaxed)
            {
                token_replaced = true;
                self.reject(&token).await;
                continue;
            }
            let asked = asked_pause(response.headers(), self.clock.now());
            let refusal = refusal(response, self.limits, &token).await;
            drop(permit);
            let pause = match (status, asked) {
                (StatusCode::TOO_MANY_REQUESTS, asked) => asked.unwrap_or(RETRY_AFTER_DEFAULT),
                (StatusCode::SERVICE_UNAVAILABLE, Some(asked)) => asked,
                // The server behind a gateway may have carried out anything but a query.
                (StatusCode::GATEWAY_TIMEOUT, Some(asked)) if request.method.is_safe() => asked,
                _ => {
                    if status == StatusCode::UNAUTHORIZED {
                        self.token_distrusted.store(true, Ordering::Relaxed);
                    }
                    return Err(self.judged(request.step, refusal));
                }
            };
            self.pause_all(pause);
            repeats += 1;
            if repeats > REPEATS_MAX || pause > PAUSE_IN_PLACE_MAX {
                return Err(over_limit(request.step, &refusal.text, pause).into());
            }
        }
    }

    /// Waits until another request may start on the mailbox, and for the pause that the server asked for.
    async fn permit(&self, step: Step) -> Result<SemaphorePermit<'_>, ExchangeError> {
        loop {
            let wait = self.pause_left();
            if wait > PAUSE_IN_PLACE_MAX {
                let text = "the pause that it asked for is not over";
                return Err(over_limit(step, text, wait));
            }
            tokio::time::sleep(wait).await;
            let permit = self.gate.permits.acquire().await;
            let permit = permit.map_err(|_| ExchangeError::Transient {
                step,
                reason: "the session has ended".into(),
            })?;
            // Another request may have been throttled in the meantime.
            if self.pause_left().is_zero() {
                return Ok(permit);
            }
        }
    }

    fn pause_left(&self) -> Duration {
        let not_before = *self
            .gate
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        not_before.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }

    fn pause_all(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut not_before = self
            .gate
            .not_before
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *not_before = Some(not_before.map_or(until, |held| held.max(until)));
    }

    async fn reject(&self, token: &AccessToken) {
        if let Login::Bearer {
            account, tokens, ..
        } = &self.login
        {
            tokens.reject(account, token).await;
        }
    }

    async fn exchange(
        &self,
        request: &Request<'_>,
        token: &AccessToken,
    ) -> Result<Response, ExchangeError> {
        let mut prefer = vec![IMMUTABLE_IDS];
        prefer.extend(request.prefer);
        let mut building = self
            .http
            .request(request.method.clone(), request.url.clone())
            .bearer_auth(token.expose())
            .header("Prefer", prefer.join(", "));
        let mut size = 0;
        building = match &request.body {
            Some(Payload::Json(body)) => building.json(body),
            Some(Payload::Mime(body)) => {
                size = body.len();
                building
                    .header(CONTENT_TYPE, "text/plain")
                    .body(body.clone())
            }
            Some(Payload::Empty) => building.header(CONTENT_LENGTH, "0"),
            None => building,
        };
        let outcome = self
            .answered(request.step, &request.url, building, size)
            .await;
        self.record(request.method.as_str(), &request.url, &outcome);
        outcome
    }

    /// Sends a request with a body of this size, and returns the head of the response.
    async fn answered(
        &self,
        step: Step,
        url: &Url,
        building: RequestBuilder,
        size: usize,
    ) -> Result<Response, ExchangeError> {
        let data = Duration::from_secs(size as u64 / BYTES_PER_SEC_MIN);
        let limit = self.limits.answer.saturating_add(data);
        match timeout(limit, building.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(match self.http.proxy_error(url, &error).await {
                Some(of_proxy) => of_proxy.into(),
                None => unreached(step, error),
            }),
            Err(_) => Err(ExchangeError::Timeout {
                step,
                secs: limit.as_secs(),
            }),
        }
    }

    fn record(&self, method: &str, url: &Url, outcome: &Result<Response, ExchangeError>) {
        let trace = self.trace.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trace) = trace.as_ref() {
            let ended = match outcome {
                Ok(response) => format!("HTTP {}", response.status()),
                Err(error) => error.to_string(),
            };
            trace.request(method, url.as_str(), &ended);
        }
    }

    /// Turns a refusal into the mailbox's error, unless the requested item may be at fault.
    fn judged(&self, step: Step, refusal: Refusal) -> Failure {
        let text = refusal.to_string();
        let user = self.login.user().to_owned();
        Failure::Failed(match refusal.status {
            StatusCode::UNAUTHORIZED => ExchangeError::RefusedLogin {
                user,
                code: Some(refusal.code),
                text,
            },
            status if status.is_redirection() => ExchangeError::Protocol {
                step,
                reason: format!("HTTP {status}: a redirect, which is not followed"),
            },
            StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
                ExchangeError::Lost { step, reason: text }
            }
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::REQUEST_TIMEOUT => {
                ExchangeError::Transient { step, reason: text }
            }
            _ => return Failure::Refused(refusal),
        })
    }

    /// Returns the error for a refusal that is not caused by a single mail.
    pub fn failed(&self, step: Step, failure: Failure) -> ExchangeError {
        let refusal = match failure {
            Failure::Failed(error) => return error,
            Failure::Refused(refusal) => refusal,
        };
        let text = refusal.to_string();
        match refusal.status {
            StatusCode::FORBIDDEN => ExchangeError::AccessDenied {
                user: self.login.user().to_owned(),
                code: refusal.code,
                text,
            },
            StatusCode::INSUFFICIENT_STORAGE => ExchangeError::OverQuota { step, text },
            status if status.is_server_error() => ExchangeError::Transient { step, reason: text },
            _ if refusal.code == "ErrorQuotaExceeded" => ExchangeError::OverQuota { step, text },
            _ => ExchangeError::Refused {
                step,
                code: Some(refusal.code),
                text,
            },
        }
    }
}

impl Answer<'_> {
    /// Returns the server's clock, in seconds since 1970.
    pub fn date_secs(&self) -> Option<i64> {
        let date = self.response.headers().get(DATE)?.to_str().ok()?;
        Some(rfc2822::parse(date).ok()?.timestamp().as_second())
    }

    pub async fn json<T: DeserializeOwned>(self) -> Result<T, ExchangeError> {
        let step = self.step;
        let broken = |reason: String| ExchangeError::Protocol { step, reason };
        let kind = content_type(self.response.headers());
        if !kind.starts_with("application/json") {
            return Err(broken(format!(
                "an answer of the type \"{kind}\" instead of JSON"
            )));
        }
        let read = self.read(JSON_BYTES_MAX as u64, |_| true);
        match read.await? {
            Body::Whole(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| broken(format!("JSON that cannot be read: {error}"))),
            Body::Cut(..) | Body::NoRoom(_) => Err(broken(format!(
                "a JSON answer of more than {JSON_BYTES_MAX} bytes"
            ))),
        }
    }

    /// Reads a mail up to a limit. `room` is asked before the mail held in memory grows to this many bytes.
    pub async fn mail(
        self,
        bytes_max: u64,
        room: impl FnMut(u64) -> bool,
    ) -> Result<Body, ExchangeError> {
        let kind = content_type(self.response.headers());
        if kind.starts_with("application/json") || kind.starts_with("text/html") {
            return Err(ExchangeError::Protocol {
                step: self.step,
                reason: format!("an answer of the type \"{kind}\" instead of a mail"),
            });
        }
        let (step, is_framed) = (self.step, self.is_framed());
        match self.read(bytes_max, room).await? {
            // The connection may have ended too early.
            Body::Whole(_) if !is_framed => Err(ExchangeError::Protocol {
                step,
                reason: "a mail without a length, which may be cut off".into(),
            }),
            body => Ok(body),
        }
    }

    /// Returns whether the body's end is marked by more than the end of the connection (RFC 9112 section 6.3).
    fn is_framed(&self) -> bool {
        let headers = self.response.headers();
        self.response.version() > Version::HTTP_11
            || headers.contains_key(CONTENT_LENGTH)
            || headers.contains_key(TRANSFER_ENCODING)
    }

    async fn read(
        mut self,
        bytes_max: u64,
        mut room: impl FnMut(u64) -> bool,
    ) -> Result<Body, ExchangeError> {
        let stated = self.response.content_length();
        let started = Instant::now();
        let mut body: Vec<u8> = Vec::new();
        while let Some(chunk) = self.chunk(started, body.len() as u64).await? {
            let size = body.len().saturating_add(chunk.len()) as u64;
            if size > bytes_max {
                return Ok(Body::Cut(body, stated.filter(|stated| *stated >= size)));
            }
            if !room(size) {
                return Ok(Body::NoRoom(size));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Body::Whole(body))
    }

    /// Returns the next part of the body, within the time limits for a stall and for the whole body.
    async fn chunk(&mut self, started: Instant, read: u64) -> Result<Option<Bytes>, ExchangeError> {
        let data = Duration::from_secs(read / BYTES_PER_SEC_MIN);
        let whole = self.limits.body.saturating_add(data);
        let stall = Instant::now() + self.limits.stall;
        let (end, secs) = match started + whole {
            end if end < stall => (end, whole.as_secs()),
            _ => (stall, self.limits.stall.as_secs()),
        };
        let step = self.step;
        match timeout_at(end, self.response.chunk()).await {
            Ok(chunk) => chunk.map_err(|error| unreached(step, error)),
            Err(_) => Err(ExchangeError::Timeout { step, secs }),
        }
    }
}

impl Failure {
    /// Returns whether the requested object does not exist.
    pub fn is_gone(&self) -> bool {
        matches!(self, Failure::Refused(refusal) if refusal.status == StatusCode::NOT_FOUND)
    }
}

impl From<ExchangeError> for Failure {
    fn from(error: ExchangeError) -> Self {
        Failure::Failed(error)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HTTP {}", self.status.as_u16())?;
        for part in [&self.code, &self.text] {
            if !part.is_empty() {
                write!(f, " {part}")?;
            }
        }
        Ok(())
    }
}

/// The body of a refusal (learn.microsoft.com, "Microsoft Graph error responses").
#[derive(Deserialize)]
struct ErrorBody {
    error: ErrorOfBody,
}

#[derive(Deserialize)]
struct ErrorOfBody {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

async fn refusal(mut response: Response, limits: GraphLimits, token: &AccessToken) -> Refusal {
    read_refusal(&mut response, limits, &TraceRedactor::new([token.expose()])).await
}

/// Returns the beginning of a response's body. Failing to read it is not an error of its own.
async fn bounded(response: &mut Response, limits: GraphLimits) -> Vec<u8> {
    let mut body = Vec::new();
    let read = async {
        while let Ok(Some(chunk)) = response.chunk().await {
            if body.len() + chunk.len() > ERROR_BYTES_MAX {
                break;
            }
            body.extend_from_slice(&chunk);
        }
    };
    let _ = timeout(limits.stall, read).await;
    body
}

async fn read_refusal(
    response: &mut Response,
    limits: GraphLimits,
    secrets: &TraceRedactor,
) -> Refusal {
    let status = response.status();
    let body = bounded(response, limits).await;
    let clean = |text: &str| shown(&secrets.redact(text));
    match serde_json::from_slice::<ErrorBody>(&body) {
        Ok(ErrorBody { error }) => Refusal {
            status,
            code: clean(&error.code),
            text: clean(&error.message),
        },
        Err(_) => Refusal {
            status,
            code: String::new(),
            text: String::new(),
        },
    }
}

fn over_limit(step: Step, text: &str, pause: Duration) -> ExchangeError {
    ExchangeError::OverLimit {
        step,
        text: text.to_owned(),
        retry_after: Some(pause),
    }
}

fn asked_pause(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    Some(retry_after(value, now)?.min(RETRY_AFTER_MAX))
}

fn content_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or("none");
    shown(text).to_ascii_lowercase()
}

/// Shortens the server's text and removes control characters.
pub fn shown(text: &str) -> String {
    harmless_chars(text.trim()).take(TEXT_CHARS).collect()
}

fn unreached(step: Step, error: reqwest::Error) -> ExchangeError {
    let error = error.without_url();
    let reason = chain(&error);
    let mut cause = std::error::Error::source(&error);
    while let Some(found) = cause {
        let inner = found.downcast_ref::<std::io::Error>();
        if let Some(io) = inner {
            let of_tls = io
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            if let Some(of_tls) = of_tls {
                return ExchangeError::Tls {
                    reason,
                    cause: Some(of_tls.clone()),
                };
            }
            if error.is_connect() && io.kind() == std::io::ErrorKind::ConnectionRefused {
                let why = Unreachable::Refused;
                return ExchangeError::Unreachable { why, reason };
            }
        }
        cause = found.source();
    }
    match error.is_connect() {
        true => ExchangeError::Unreachable {
            why: Unreachable::Other,
            reason,
        },
        false => ExchangeError::Lost { step, reason },
    }
}

fn chain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(found) = cause {
        text.push_str(": ");
        text.push_str(&found.to_string());
        cause = found.source();
    }
    shown(&text)
}
