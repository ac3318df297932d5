//! Failures of the authorization server that tests can order, by endpoint and request.

use serde_json::{Value, json};

/// A failure that the server can be ordered to produce.
#[derive(Clone, Debug)]
pub enum AuthorityFailure {
    /// Responds with a status and a body, and a Retry-After in seconds if given.
    Status {
        code: u16,
        body: String,
        retry_after_secs: Option<u64>,
    },
    /// Never responds.
    Hang,
    /// Processes the request, so that a refresh token is rotated, and drops the connection instead of responding.
    AnswerLost,
    /// Waits, then processes the request as usual.
    Delay { millis: u64 },
    /// Refuses a token request, and quotes all of it.
    Echo,
    /// Returns a token response whose token has this many bytes.
    Large { bytes: usize },
}

/// The endpoint that fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Token,
    Authorize,
    Device,
    Introspection,
    Discovery,
}

/// The requests that a failure applies to; `None` means any.
#[derive(Clone, Copy, Debug, Default)]
pub struct Only<'a> {
    pub client_id: Option<&'a str>,
    /// The tenant in a Microsoft-shaped path.
    pub tenant: Option<&'a str>,
    pub grant_type: Option<&'a str>,
}

impl AuthorityFailure {
    /// Returns a Microsoft-shaped error body, such as `microsoft(400, "invalid_grant", 50173)`.
    pub fn microsoft(code: u16, error: &str, aadsts: u32) -> Self {
        let body = json!({
            "error": error,
            "error_description": format!("AADSTS{aadsts}: Ordered by the test."),
            "error_codes": [aadsts],
            "trace_id": "00000000-0000-4000-8000-000000000001",
            "correlation_id": "00000000-0000-4000-8000-000000000002",
        });
        Self::status(code, &body.to_string())
    }

    /// Returns an error body of the bare standard (RFC 6749 section 5.2), as Google's are.
    pub fn oauth(code: u16, error: &str) -> Self {
        let body = json!({ "error": error, "error_description": "Ordered by the test." });
        Self::status(code, &body.to_string())
    }

    /// Returns a status with a body.
    pub fn status(code: u16, body: &str) -> Self {
        Self::Status {
            code,
            body: body.to_owned(),
            retry_after_secs: None,
        }
    }

    /// Returns a status with Retry-After, such as `retry_after(429, 7)`.
    pub fn retry_after(code: u16, secs: u64) -> Self {
        Self::Status {
            code,
            body: String::new(),
            retry_after_secs: Some(secs),
        }
    }

    /// Returns a page of HTML with status 200, as a proxy or a wrong URL returns it.
    pub fn html() -> Self {
        Self::status(200, "<!DOCTYPE html><title>Log in to the network</title>")
    }

    /// Returns status 200 and nothing else.
    pub fn empty() -> Self {
        Self::status(200, "")
    }

    pub(crate) fn order(self, endpoint: Endpoint, count: usize, only: Only<'_>) -> Value {
        let failure = match self {
            Self::Status {
                code,
                body,
                retry_after_secs,
            } => json!({
                "kind": "status", "status": code, "body": body,
                "retry_after": retry_after_secs.map(|secs| secs.to_string()),
            }),
            Self::Hang => json!({ "kind": "hang" }),
            Self::AnswerLost => json!({ "kind": "answer_lost" }),
            Self::Delay { millis } => json!({ "kind": "delay", "millis": millis }),
            Self::Echo => json!({ "kind": "echo" }),
            Self::Large { bytes } => json!({ "kind": "large", "bytes": bytes }),
        };
        let mut order = json!({
            "endpoint": endpoint.name(), "count": count,
            "client": only.client_id, "tenant": only.tenant, "grant": only.grant_type,
        });
        if let (Value::Object(order), Value::Object(failure)) = (&mut order, failure) {
            order.extend(failure);
        }
        order
    }
}

impl Endpoint {
    fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Authorize => "authorize",
            Self::Device => "device",
            Self::Introspection => "introspection",
            Self::Discovery => "discovery",
        }
    }
}
