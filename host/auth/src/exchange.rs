//! One request to a token address, with its time and its answer bounded, and the answer judged before OAuth reads it.

use std::pin::Pin;
use std::time::Duration;

use oauth2::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::header::RETRY_AFTER;

use crate::grant::Denial;

/// Bounds on one token request.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeLimits {
    /// From the connection to the last byte of the answer.
    pub timeout: Duration,
    /// The longest answer read.
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

/// Why an answer never reached the OAuth layer.
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

/// The HTTP client that `oauth2` is given.
pub(crate) struct Exchange<'a> {
    pub http: &'a reqwest::Client,
    pub limits: ExchangeLimits,
}

impl<'c> AsyncHttpClient<'c> for Exchange<'_> {
    type Error = ExchangeError;
    // A named type: with an opaque one the compiler cannot see that the whole grant's future is `Send`.
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, ExchangeError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let limits = self.limits;
            tokio::time::timeout(limits.timeout, send(self.http, limits, request))
                .await
                .unwrap_or_else(|_| {
                    Err(ExchangeError::Transient {
                        reason: format!("no answer within {} s", limits.timeout.as_secs()),
                        retry_after: None,
                    })
                })
        })
    }
}

async fn send(
    http: &reqwest::Client,
    limits: ExchangeLimits,
    request: HttpRequest,
) -> Result<HttpResponse, ExchangeError> {
    let request = reqwest::Request::try_from(request).map_err(unreachable_server)?;
    let mut response = http.execute(request).await.map_err(unreachable_server)?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.trim().parse().ok())
        .map(|secs| Duration::from_secs(secs).min(limits.retry_after_max));
    let mut answer = HttpResponse::new(Vec::new());
    *answer.status_mut() = status;
    *answer.headers_mut() = response.headers().clone();
    while let Some(chunk) = response.chunk().await.map_err(unreachable_server)? {
        if answer.body().len() + chunk.len() > limits.answer_bytes {
            return Err(ExchangeError::Nonsense(format!(
                "HTTP {status} with more than {} bytes",
                limits.answer_bytes
            )));
        }
        answer.body_mut().extend_from_slice(&chunk);
    }
    if status.is_server_error() || status == 429 || status == 408 {
        let said = serde_json::from_slice::<Denial>(answer.body()).ok();
        return Err(ExchangeError::Transient {
            reason: said.map_or_else(
                || format!("HTTP {status}"),
                |d| format!("HTTP {status}: {d}"),
            ),
            retry_after,
        });
    }
    if status.is_redirection() {
        return Err(ExchangeError::Nonsense(format!(
            "HTTP {status}: a redirect, which is not followed because the secret would travel along"
        )));
    }
    Ok(answer)
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
