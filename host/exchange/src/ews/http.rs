//! One HTTP exchange with the server: signed in, bounded in time and size, recorded without secrets, and with its status
//! classified.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use postroom_auth::{AccessToken, Login, retry_after};
use postroom_core::Clock;
use postroom_net::trace::{self, Side, Trace};
use postroom_net::{ConnectError, HttpClient, Proxy, Step, TraceRedactor, Unreachable};
use reqwest::header::{
    AUTHORIZATION, CONTENT_TYPE, COOKIE, DATE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER,
    SET_COOKIE,
};
use reqwest::{Response, StatusCode, Url};
use rustls::ClientConfig;
use tokio::time::{Instant, timeout_at};

use super::soap::{envelope, shown};
use super::{EwsAccess, EwsLimits};
use crate::ExchangeError;

/// The slowest useful transfer. The time limit of a response is extended by the time for its data at this rate.
const BYTES_PER_SEC_MIN: u64 = 16 * 1024;
/// How much of an error page is read.
const ERROR_BYTES: usize = 256 * 1024;
/// The longest pause that a server can ask for; a longer one is cut to this.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);
/// The cookie that leads to the server holding a subscription (learn.microsoft.com, "Maintain affinity between a group of
/// subscriptions and the Mailbox server").
const AFFINITY_COOKIE: &str = "X-BackEndOverrideCookie";
/// The operation whose response is mail, which no trace shows.
pub const GET_MIME: &str = "GetItem with MIME";
/// The longest cookie that is sent back to the server.
const COOKIE_BYTES_MAX: usize = 1024;

/// Sends requests to one address as one user.
pub struct Exchange {
    http: HttpClient,
    url: Url,
    host: String,
    login: Login,
    /// The mailbox, as a hint for the server's load balancer.
    anchor: HeaderValue,
    impersonated: Option<String>,
    limits: EwsLimits,
    pub trace: Option<Trace>,
    pub clock: Clock,
    /// The last new token was refused as well: the cause lies elsewhere, and the other mailboxes keep their token.
    token_distrusted: bool,
    secrets: TraceRedactor,
}

/// A request: an operation and its body.
pub struct Request<'r> {
    pub step: Step,
    /// For the trace and for people.
    pub operation: &'static str,
    pub body: String,
    /// Whether the body contains mail, which no trace shows.
    pub has_mail: bool,
    /// The longest response that is read.
    pub answer_bytes: usize,
    pub affinity: Option<&'r Affinity>,
    /// Whether to ask for [`Affinity`].
    pub wants_affinity: bool,
}

/// A cookie that routes further requests to the server that answered an earlier one.
#[derive(Debug, Clone)]
pub struct Affinity(HeaderValue);

/// A response that may contain SOAP.
pub struct Answer {
    pub body: String,
    /// Whether the body is longer than the part that was read.
    pub is_cut: bool,
    pub affinity: Option<Affinity>,
    /// The server's clock.
    pub date: Option<Timestamp>,
}

impl<'r> Request<'r> {
    pub fn new(step: Step, operation: &'static str, body: String, answer_bytes: usize) -> Self {
        Self {
            step,
            operation,
            body,
            has_mail: false,
            answer_bytes,
            affinity: None,
            wants_affinity: false,
        }
    }
}

impl Exchange {
    pub fn new(
        access: &EwsAccess,
        login: Login,
        tls: &Arc<ClientConfig>,
    ) -> Result<Self, ExchangeError> {
        let unusable = |reason: String| ExchangeError::Unusable {
            step: Step::Configuration,
            reason,
        };
        // It follows no redirect, which would send the secret to another server.
        let http = HttpClient::new(tls, &access.proxies, |it| {
            it.connect_timeout(access.limits.connect)
                .pool_max_idle_per_host(2)
        });
        let http = http.map_err(|error| unusable(chain(&error)))?;
        let url =
            Url::parse(&access.url).map_err(|_| unusable(format!("{} is no URL", access.url)))?;
        let anchor = HeaderValue::from_str(&access.address)
            .map_err(|_| unusable(format!("{} is no address", access.address)))?;
        if let Login::Password { user, .. } = &login
            && (user.contains(':') || user.contains(char::is_control))
        {
            // RFC 7617 section 2.
            let reason = "a user with a colon cannot sign in by Basic authentication";
            return Err(unusable(reason.into()));
        }
        Ok(Self {
            http,
            url,
            host: access.host.clone(),
            login,
            anchor,
            impersonated: access.impersonation.then(|| access.address.clone()),
            limits: access.limits,
            trace: None,
            clock: Clock::system(),
            token_distrusted: false,
            secrets: TraceRedactor::default(),
        })
    }

    /// Returns the proxy of the requests.
    pub fn proxy(&self) -> Option<&Proxy> {
        self.http.proxies().for_url(&self.url)
    }

    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Obtains a token, and returns the account that signs in with it.
    pub async fn ask_for_token(&self) -> Result<Option<String>, ExchangeError> {
        match &self.login {
            Login::Password { .. } => Ok(None),
            Login::Bearer {
                account,
                resource,
                tokens,
                ..
            } => {
                tokens.access_token(account, *resource).await?;
                Ok(Some(account.to_string()))
            }
        }
    }

    /// Redacts the secrets of this session from a server's text.
    pub fn redacted(&self, text: &str) -> String {
        shown(&self.secrets.redact(text))
    }

    /// Sends a request and reads the response, up to its limit.
    pub async fn send(&mut self, request: &Request<'_>) -> Result<Answer, ExchangeError> {
        let step = request.step;
        let sent = sending_time(&request.body);
        let deadline = Instant::now() + self.limits.command + sent;
        let mut response = self.respond(request, deadline).await?;
        let status = response.status();
        let date = response
            .headers()
            .get(DATE)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| rfc2822::parse(value).ok())
            .map(|date| date.timestamp());
        let affinity = affinity(response.headers());
        let most = match status.is_success() {
            true => request.answer_bytes,
            false => ERROR_BYTES,
        };
        let (body, is_cut) = self.read(&mut response, step, most, deadline).await?;
        self.record_answer(request, status, &body, is_cut);
        let body = match String::from_utf8(body) {
            Ok(body) => body,
            // The cut may be within a character.
            Err(error) if is_cut => {
                let valid = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(valid);
                String::from_utf8(bytes).unwrap_or_default()
            }
            Err(_) => return Err(protocol(step, "an answer that is not UTF-8")),
        };
        // SOAP faults come with status 500, but so do other programs' error pages.
        let is_soap = is_xml(&body);
        if status != StatusCode::OK && !(status == StatusCode::INTERNAL_SERVER_ERROR && is_soap) {
            let now = self.clock.now();
            return Err(refused(step, status, response.headers(), &self.host, now));
        }
        if !is_soap {
            let what = match body.trim_ascii_start().is_empty() {
                true => "an empty answer",
                false => {
                    "something else than SOAP, such as a page for people (is this the address of EWS?)"
                }
            };
            return Err(protocol(step, what));
        }
        Ok(Answer {
            body,
            is_cut,
            affinity,
            date,
        })
    }

    /// Sends a request whose response is a stream, and returns the response once it begins.
    pub async fn open(&mut self, request: &Request<'_>) -> Result<Response, ExchangeError> {
        let deadline = Instant::now() + self.limits.command;
        let mut response = self.respond(request, deadline).await?;
        let status = response.status();
        if status.is_success() {
            if let Some(trace) = &self.trace {
                trace.record(Side::Server, format!("HTTP {status}, streaming").as_bytes());
            }
            return Ok(response);
        }
        let (body, is_cut) = self
            .read(&mut response, request.step, ERROR_BYTES, deadline)
            .await?;
        self.record_answer(request, status, &body, is_cut);
        Err(refused(
            request.step,
            status,
            response.headers(),
            &self.host,
            self.clock.now(),
        ))
    }

    /// Authenticates a request, sends it and returns the head of the response. A refused token is discarded and a new one tried
    /// once.
    async fn respond(
        &mut self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<Response, ExchangeError> {
        let (user, account, resource, tokens) = match &self.login {
            Login::Password { user, password } => {
                let pair = format!("{user}:{}", password.expose());
                self.secrets = TraceRedactor::new([password.expose()]).with_response(&pair);
                let value = format!("Basic {}", BASE64.encode(&pair));
                let user = user.clone();
                let response = self.post(request, &value, deadline).await?;
                return match is_refused(response.status()) {
                    true => Err(self.refused_login(request.step, user, response)),
                    false => Ok(response),
                };
            }
            Login::Bearer {
                user,
                account,
                resource,
                tokens,
            } => (user.clone(), account.clone(), *resource, tokens.clone()),
        };
        let token = tokens.access_token(&account, resource).await?;
        let response = self.post_with(request, &token, deadline).await?;
        if !is_refused(response.status()) {
            self.token_distrusted = false;
            return Ok(response);
        }
        if response.status() != StatusCode::UNAUTHORIZED || self.token_distrusted {
            return Err(self.refused_login(request.step, user, response));
        }
        tokens.reject(&account, &token).await;
        let newer = tokens.access_token(&account, resource).await?;
        let response = self.post_with(request, &newer, deadline).await?;
        self.token_distrusted = is_refused(response.status());
        match self.token_distrusted {
            true => Err(self.refused_login(request.step, user, response)),
            false => Ok(response),
        }
    }

    async fn post_with(
        &mut self,
        request: &Request<'_>,
        token: &AccessToken,
        deadline: Instant,
    ) -> Result<Response, ExchangeError> {
        self.secrets = TraceRedactor::new([token.expose()]);
        let value = format!("Bearer {}", token.expose());
        self.post(request, &value, deadline).await
    }

    async fn post(
        &self,
        request: &Request<'_>,
        authorization: &str,
        deadline: Instant,
    ) -> Result<Response, ExchangeError> {
        let step = request.step;
        let mut value =
            HeaderValue::from_str(authorization).map_err(|_| ExchangeError::Unusable {
                step,
                reason: "the password or token holds a control character".into(),
            })?;
        value.set_sensitive(true);
        let body = envelope(self.impersonated.as_deref(), &request.body);
        self.record_request(request, authorization, &body);
        let mut sending = self
            .http
            .post(self.url.clone())
            .header(AUTHORIZATION, value)
            .header(CONTENT_TYPE, "text/xml; charset=utf-8")
            .header("X-AnchorMailbox", &self.anchor)
            .body(body);
        if request.wants_affinity || request.affinity.is_some() {
            sending = sending.header("X-PreferServerAffinity", "true");
        }
        if let Some(Affinity(cookie)) = request.affinity {
            sending = sending.header(COOKIE, cookie);
        }
        let stall = self.limits.stall + sending_time(&request.body);
        let due = deadline.min(Instant::now() + stall);
        match timeout_at(due, sending.send()).await {
            Err(_) => Err(ExchangeError::Timeout {
                step,
                secs: stall.as_secs(),
            }),
            Ok(Err(error)) => Err(match self.http.proxy_error(&self.url, &error).await {
                Some(of_proxy) => of_proxy.into(),
                None => unreached(step, &error, &self.host),
            }),
            Ok(Ok(response)) => Ok(response),
        }
    }

    async fn read(
        &self,
        response: &mut Response,
        step: Step,
        most: usize,
        deadline: Instant,
    ) -> Result<(Vec<u8>, bool), ExchangeError> {
        let mut body = Vec::new();
        loop {
            // Time is granted for received data only, so that a byte now and then does not hold the mailbox forever.
            let earned = Duration::from_secs(body.len() as u64 / BYTES_PER_SEC_MIN);
            let stalled = Instant::now() + self.limits.stall;
            let chunk = timeout_at(stalled.min(deadline + earned), response.chunk()).await;
            let chunk = chunk.map_err(|_| {
                let limit = match Instant::now() < stalled {
                    true => self.limits.command + earned,
                    false => self.limits.stall,
                };
                ExchangeError::Timeout {
                    step,
                    secs: limit.as_secs(),
                }
            })?;
            let Some(chunk) = chunk.map_err(|error| unreached(step, &error, &self.host))? else {
                return Ok((body, false));
            };
            if body.len() + chunk.len() > most {
                body.extend_from_slice(&chunk[..most - body.len()]);
                return Ok((body, true));
            }
            body.extend_from_slice(&chunk);
        }
    }

    /// Exchange explains in a header why it refuses a token.
    fn refused_login(&self, step: Step, user: String, response: Response) -> ExchangeError {
        let status = response.status();
        if let Some(trace) = &self.trace {
            let note = format!("HTTP {status}");
            trace.record(Side::Server, note.as_bytes());
        }
        let said = ["x-ms-diagnostics", "www-authenticate"]
            .iter()
            .find_map(|name| response.headers().get(*name)?.to_str().ok())
            .map(|text| self.redacted(text))
            .unwrap_or_default();
        tracing::debug!(%step, %status, "the server refused the sign-in");
        ExchangeError::RefusedLogin {
            user,
            code: Some(status.as_u16().to_string()),
            text: format!("HTTP {status} {said}").trim_end().to_owned(),
        }
    }

    fn record_request(&self, request: &Request<'_>, authorization: &str, body: &str) {
        let Some(trace) = &self.trace else { return };
        trace.hide(&self.secrets);
        let (scheme, value) = authorization.split_once(' ').unwrap_or_default();
        let head = format!(
            "POST {} {}, Authorization: {scheme} {}",
            self.url,
            request.operation,
            trace::redacted(value.len())
        );
        trace.record(Side::Client, head.as_bytes());
        match request.has_mail {
            true => {
                let note = format!("{} bytes with mail", body.len());
                trace.record(Side::Client, note.as_bytes());
            }
            false => trace.record(Side::Client, body.as_bytes()),
        }
    }

    /// Records the response without mail.
    fn record_answer(&self, request: &Request<'_>, status: StatusCode, body: &[u8], is_cut: bool) {
        let Some(trace) = &self.trace else { return };
        let more = if is_cut { " and more" } else { "" };
        let head = format!(
            "HTTP {status} {}, {} bytes{more}",
            request.operation,
            body.len()
        );
        trace.record(Side::Server, head.as_bytes());
        if request.operation != GET_MIME {
            let shown = &body[..body.len().min(trace::LINE_CHARS_MAX * 4)];
            trace.record(Side::Server, shown);
        }
    }
}

/// Returns the time granted for sending a request.
fn sending_time(body: &str) -> Duration {
    Duration::from_secs(body.len() as u64 / BYTES_PER_SEC_MIN)
}

/// Returns whether a status refuses the sign-in.
fn is_refused(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn is_xml(body: &str) -> bool {
    let text = body.trim_start_matches('\u{feff}').trim_ascii_start();
    let is_html = |start: &str| {
        text.get(..start.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(start))
    };
    text.starts_with('<') && !is_html("<!doctype html") && !is_html("<html")
}

fn affinity(headers: &HeaderMap) -> Option<Affinity> {
    headers.get_all(SET_COOKIE).iter().find_map(|cookie| {
        let cookie = cookie.to_str().ok()?.split(';').next()?.trim();
        let (name, _) = cookie.split_once('=')?;
        let fits = name == AFFINITY_COOKIE && cookie.len() <= COOKIE_BYTES_MAX;
        Some(Affinity(
            HeaderValue::from_str(cookie).ok().filter(|_| fits)?,
        ))
    })
}

/// Classifies a status that is neither success nor about the sign-in.
fn refused(
    step: Step,
    status: StatusCode,
    headers: &HeaderMap,
    host: &str,
    now: Timestamp,
) -> ExchangeError {
    let header = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            ExchangeError::OverLimit {
                step,
                text: format!("HTTP {status}"),
                retry_after: header(RETRY_AFTER)
                    .and_then(|value| retry_after(value, now))
                    .map(|pause| pause.min(RETRY_AFTER_MAX)),
            }
        }
        StatusCode::REQUEST_TIMEOUT => ExchangeError::Transient {
            step,
            reason: format!("HTTP {status}"),
        },
        StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => ExchangeError::Lost {
            step,
            reason: format!("HTTP {status}: a gateway had no answer"),
        },
        status if status.is_server_error() => ExchangeError::Transient {
            step,
            reason: format!("HTTP {status} without a SOAP fault"),
        },
        status if status.is_redirection() => {
            let to = header(LOCATION).map_or_else(String::new, |to| format!(" to {}", shown(to)));
            protocol(
                step,
                &format!(
                    "HTTP {status}{to}: redirects are not followed, because the secret would travel along (is this the address of EWS at {host}?)"
                ),
            )
        }
        status => ExchangeError::Refused {
            step,
            code: Some(status.as_u16().to_string()),
            text: format!("HTTP {status}"),
        },
    }
}

/// Distinguishes a server that cannot be reached from one whose TLS or connection failed.
fn unreached(step: Step, error: &reqwest::Error, host: &str) -> ExchangeError {
    let mut cause = error.source();
    while let Some(inner) = cause {
        let io = inner.downcast_ref::<io::Error>();
        let tls = inner.downcast_ref::<rustls::Error>().or_else(|| {
            io.and_then(io::Error::get_ref)
                .and_then(|inner| inner.downcast_ref())
        });
        if let Some(tls) = tls {
            return ConnectError::Tls {
                reason: tls.to_string(),
                cause: Some(tls.clone()),
            }
            .into();
        }
        if let Some(io) = io.filter(|_| error.is_connect()) {
            let why = match io.kind() {
                io::ErrorKind::ConnectionRefused => Unreachable::Refused,
                _ => Unreachable::Other,
            };
            let reason = format!("{host}: {io}");
            return ConnectError::Unreachable { why, reason }.into();
        }
        cause = inner.source();
    }
    let reason = chain(error);
    match error.is_connect() {
        true => ExchangeError::Unreachable {
            why: Unreachable::Other,
            reason,
        },
        false => ExchangeError::Lost { step, reason },
    }
}

/// Formats an error with its causes, without the address.
fn chain(error: &reqwest::Error) -> String {
    let mut text = match error.is_timeout() {
        true => "no answer in time".to_owned(),
        false => "the exchange failed".to_owned(),
    };
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    shown(&text)
}

pub fn protocol(step: Step, reason: &str) -> ExchangeError {
    ExchangeError::Protocol {
        step,
        reason: reason.to_owned(),
    }
}
