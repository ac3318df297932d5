//! Sends one request to an authorization server, with bounds on time and response, and checks the response before the
//! OAuth library reads it.

use std::pin::Pin;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use oauth2::http::StatusCode;
use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use postroom_core::Clock;
use postroom_net::{HttpClient, Trace, TraceRedactor};
use reqwest::header::{AUTHORIZATION, RETRY_AFTER};
use secrecy::zeroize::Zeroizing;
use serde::Deserialize;
use url::form_urlencoded;

use crate::grant::Denial;

/// Bounds on one request to an authorization server.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeLimits {
    /// The time from the connection to the last byte of the response.
    pub timeout: Duration,
    /// The longest response read.
    pub answer_bytes: usize,
    /// The longest `Retry-After` honoured.
    pub retry_after_max: Duration,
}

impl Default for ExchangeLimits {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            answer_bytes: 1024 * 1024,
            retry_after_max: Duration::from_secs(60 * 60),
        }
    }
}

/// Why a response did not reach the OAuth library. The texts never quote the response, which may contain a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExchangeError {
    #[error("{reason}")]
    Transient {
        reason: String,
        retry_after: Option<Duration>,
    },
    #[error("{0}")]
    Nonsense(String),
}

/// The HTTP client passed to `oauth2`. The responses it returns are neither empty nor HTML, and no denial quotes a secret
/// of the request.
pub(crate) struct Exchange<'a> {
    pub http: &'a HttpClient,
    pub limits: ExchangeLimits,
    pub trace: Option<&'a Trace>,
    pub clock: &'a Clock,
}

impl<'c> AsyncHttpClient<'c> for Exchange<'_> {
    type Error = ExchangeError;
    // A named type: with an opaque one the compiler cannot prove that the whole grant's future is `Send`.
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, ExchangeError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let limits = self.limits;
            let asked = (request.method().clone(), request.uri().to_string());
            let outcome =
                tokio::time::timeout(limits.timeout, send(self.http, limits, self.clock, request))
                    .await
                    .unwrap_or_else(|_| {
                        Err(ExchangeError::Transient {
                            reason: format!("no answer within {} s", limits.timeout.as_secs()),
                            retry_after: None,
                        })
                    });
            if let (Some(trace), (method, url)) = (self.trace, asked) {
                let ended = match &outcome {
                    Ok(response) => format!("HTTP {}", response.status()),
                    Err(error) => error.to_string(),
                };
                trace.request(method.as_str(), &url, &ended);
            }
            outcome
        })
    }
}

async fn send(
    http: &HttpClient,
    limits: ExchangeLimits,
    clock: &Clock,
    request: HttpRequest,
) -> Result<HttpResponse, ExchangeError> {
    let sent = sent(&request);
    let request = reqwest::Request::try_from(request).map_err(unreachable_server)?;
    let url = request.url().clone();
    let mut response = match http.execute(request).await {
        Ok(response) => response,
        Err(error) => {
            let of_proxy = http.proxy_error(&url, &error).await;
            return Err(match of_proxy {
                Some(of_proxy) => ExchangeError::Transient {
                    reason: of_proxy.to_string(),
                    retry_after: None,
                },
                None => unreachable_server(error),
            });
        }
    };
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| retry_after(value, clock.now()))
        .map(|wait| wait.min(limits.retry_after_max));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable_server)? {
        if body.len() + chunk.len() > limits.answer_bytes {
            return Err(too_long(status, limits, retry_after));
        }
        body.extend_from_slice(&chunk);
    }
    judged(status, body, retry_after, &sent)
}

/// Returns the secrets of a request: every field except the public ones.
fn sent(request: &HttpRequest) -> TraceRedactor {
    const PUBLIC: [&str; 6] = [
        "grant_type",
        "scope",
        "client_id",
        "client_assertion_type",
        "redirect_uri",
        "username",
    ];
    let mut secrets: Vec<Zeroizing<String>> = form_urlencoded::parse(request.body())
        .filter(|(name, _)| !PUBLIC.contains(&name.as_ref()))
        .map(|(_, value)| value.into_owned().into())
        .collect();
    let header = request.headers().get(AUTHORIZATION);
    if let Some(written) = header
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Basic "))
    {
        secrets.push(written.to_owned().into());
        let decoded = BASE64_STANDARD.decode(written).map(Zeroizing::new).ok();
        if let Some((_, secret)) = decoded
            .as_deref()
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .and_then(|pair| pair.split_once(':'))
        {
            // RFC 6749 section 2.3.1: encoded as in a form.
            let plain = format!("secret={secret}").into_bytes();
            secrets
                .extend(form_urlencoded::parse(&plain).map(|(_, value)| value.into_owned().into()));
        }
    }
    TraceRedactor::new(secrets.iter().map(|secret| secret.as_str()))
}

/// Passes on what the OAuth library can read. The headers are dropped: some servers label their JSON as plain text.
fn judged(
    status: StatusCode,
    body: Vec<u8>,
    retry_after: Option<Duration>,
    sent: &TraceRedactor,
) -> Result<HttpResponse, ExchangeError> {
    let text = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body);
    // Parsed as the library does it, which ignores anything after the JSON.
    let denial = (status != StatusCode::OK)
        .then(|| Denial::deserialize(&mut serde_json::Deserializer::from_slice(text)))
        .and_then(Result::ok)
        .map(|mut denial| {
            denial.clean(sent);
            denial
        });
    // A client that the server considers in a loop must be reported, even if the status is only "too many requests".
    let terminal = denial.as_ref().is_some_and(Denial::is_loop);
    if !terminal && (is_busy(status) || denial.as_ref().is_some_and(Denial::is_transient)) {
        return Err(ExchangeError::Transient {
            reason: denial.map_or_else(
                || format!("HTTP {status}"),
                |said| format!("HTTP {status}: {said}"),
            ),
            retry_after,
        });
    }
    if status.is_redirection() {
        return Err(ExchangeError::Nonsense(format!(
            "HTTP {status}: a redirect, which is not followed because the secret would travel along"
        )));
    }
    match text.trim_ascii_start().first() {
        None => Err(ExchangeError::Nonsense(format!(
            "HTTP {status} with nothing in it"
        ))),
        Some(b'<') => Err(ExchangeError::Nonsense(format!(
            "HTTP {status} with an HTML page instead of JSON (is this the right address?)"
        ))),
        Some(_) => {
            let cleaned = denial.and_then(|denial| serde_json::to_vec(&denial).ok());
            let mut answer = HttpResponse::new(cleaned.unwrap_or_else(|| text.to_vec()));
            *answer.status_mut() = status;
            Ok(answer)
        }
    }
}

fn is_busy(status: StatusCode) -> bool {
    status.is_server_error()
        || status == StatusCode::TOO_MANY_REQUESTS
        || status == StatusCode::REQUEST_TIMEOUT
}

fn too_long(
    status: StatusCode,
    limits: ExchangeLimits,
    retry_after: Option<Duration>,
) -> ExchangeError {
    let reason = format!("HTTP {status} with more than {} bytes", limits.answer_bytes);
    if is_busy(status) {
        ExchangeError::Transient {
            reason,
            retry_after,
        }
    } else {
        ExchangeError::Nonsense(reason)
    }
}

/// Parses a Retry-After header: seconds or a date (RFC 9110 section 10.2.3). A date in the past means no wait.
pub fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if let Ok(secs) = value.parse() {
        return Some(Duration::from_secs(secs));
    }
    let until = rfc2822::parse(value).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn unreachable_server(error: reqwest::Error) -> ExchangeError {
    let error = error.without_url();
    let mut reason = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    ExchangeError::Transient {
        reason,
        retry_after: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENT: [&str; 2] = ["hunter2", "invalid_client"];

    fn verdict(status: u16, body: &str) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        match judged(
            status,
            body.into(),
            Some(Duration::from_secs(7)),
            &TraceRedactor::new(SENT),
        ) {
            Ok(answer) => format!("ok {}", String::from_utf8_lossy(answer.body())),
            Err(ExchangeError::Transient {
                reason,
                retry_after,
            }) => {
                assert_eq!(retry_after, Some(Duration::from_secs(7)));
                format!("transient: {reason}")
            }
            Err(ExchangeError::Nonsense(reason)) => format!("nonsense: {reason}"),
        }
    }

    #[test]
    fn answers_are_judged_by_status_and_structure() {
        for (status, body, expected) in [
            (200, "{}", "ok {}"),
            (200, "\u{feff}{}", "ok {}"),
            (
                200,
                r#"{"error":"temporarily_unavailable"}"#,
                r#"ok {"error":"temporarily_unavailable"}"#,
            ),
            (
                400,
                r#"{"error":"invalid_grant"}"#,
                r#"ok {"error":"invalid_grant","error_description":null,"error_codes":[],"correlation_id":null}"#,
            ),
            (
                400,
                r#"{"error":"slow_down"}"#,
                r#"ok {"error":"slow_down","error_description":null,"error_codes":[],"correlation_id":null}"#,
            ),
            (
                400,
                r#"{"error":"temporarily_unavailable"}"#,
                "transient: HTTP 400 Bad Request: temporarily_unavailable",
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_codes":["50087"]}"#,
                "transient: HTTP 400 Bad Request: invalid_grant AADSTS50087",
            ),
            (
                400,
                r#"{"error":"invalid_grant","error_codes":[90033]}"#,
                "transient: HTTP 400 Bad Request: invalid_grant AADSTS90033",
            ),
            (
                429,
                r#"{"error":"invalid_request","error_codes":[50196]}"#,
                r#"ok {"error":"invalid_request","error_description":null,"error_codes":[50196],"correlation_id":null}"#,
            ),
            (
                429,
                r#"{"error":"invalid_request"}"#,
                "transient: HTTP 429 Too Many Requests: invalid_request",
            ),
            // It quotes parts of the request.
            (
                400,
                "\u{feff}{\"error\":\"no hunter2\",\"error_description\":\"bad hunter\\u0032\",\"correlation_id\":\"hunter2\"} more",
                r#"ok {"error":"no [redacted]","error_description":"bad [redacted]","error_codes":[],"correlation_id":"[redacted]"}"#,
            ),
            (
                503,
                r#"{"error":"hunter2"}"#,
                "transient: HTTP 503 Service Unavailable: [redacted]",
            ),
            // A secret that is also an error word.
            (
                400,
                r#"{"error":"invalid_grant","error_description":"invalid_client"}"#,
                r#"ok {"error":"invalid_grant","error_description":"[redacted]","error_codes":[],"correlation_id":null}"#,
            ),
            (
                400,
                r#"{"error":"invalid_client"}"#,
                r#"ok {"error":"invalid_client","error_description":null,"error_codes":[],"correlation_id":null}"#,
            ),
            (408, "", "transient: HTTP 408 Request Timeout"),
            (503, "<html>", "transient: HTTP 503 Service Unavailable"),
            (500, "", "transient: HTTP 500 Internal Server Error"),
            (200, "", "nonsense: HTTP 200 OK with nothing in it"),
            (200, " \r\n", "nonsense: HTTP 200 OK with nothing in it"),
            (
                404,
                "\n <!DOCTYPE html>",
                "nonsense: HTTP 404 Not Found with an HTML page instead of JSON (is this the right address?)",
            ),
            (
                302,
                "",
                "nonsense: HTTP 302 Found: a redirect, which is not followed because the secret would travel along",
            ),
        ] {
            assert_eq!(verdict(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn all_that_a_request_says_is_secret_but_for_its_public_fields() {
        let mut request = HttpRequest::new(
            b"grant_type=password&scope=a+b&client_id=app&username=ana&password=pass%2F1&refresh_token=refresh1&new_field=news1".to_vec(),
        );
        let pair = BASE64_STANDARD.encode("app:seal%2F+1");
        let header = format!("Basic {pair}").parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, header);
        let sent = sent(&request);
        let quoted =
            format!("password a b app ana pass/1 pass%2F1 refresh1 news1 seal/ 1 seal%2F+1 {pair}");
        assert_eq!(
            sent.redact(&quoted),
            format!("password a b app ana{}", " [redacted]".repeat(7))
        );
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now: Timestamp = "2026-11-23T04:00:00Z".parse().unwrap();
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Mon, 23 Nov 2026 04:01:30 GMT", Some(90)),
            ("Mon, 23 Nov 2026 03:00:00 GMT", Some(0)),
            ("soon", None),
            ("-5", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(value, now),
                expected.map(Duration::from_secs),
                "{value}"
            );
        }
    }
}
