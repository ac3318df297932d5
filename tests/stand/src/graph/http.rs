//! The HTTP server of the double: checks the token, responds, and records the request.

use std::convert::Infallible;
use std::sync::Arc;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use url::form_urlencoded;

use super::tokens::{self, Caller};
use super::{CONCURRENT_REQUESTS_MAX, GraphFailure, GraphRequest, Shared, routes, upload};
use crate::listener::locked;

/// The longest request served; Graph accepts 4 MB at once.
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A request as the routes see it.
pub(super) struct Asked {
    pub method: String,
    /// The path after the version; `name('key')` counts as two segments.
    pub segments: Vec<String>,
    pub query: Vec<(String, String)>,
    /// The values of `Prefer`, in lower case.
    pub prefer: Vec<String>,
    pub content_type: String,
    pub body: Bytes,
}

/// A response.
pub(super) struct Answer {
    pub status: u16,
    pub content_type: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Asked {
    pub fn query(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs
            .find(|(held, _)| held == name)
            .map(|(_, value)| value.as_str())
    }

    pub fn wants_immutable_ids(&self) -> bool {
        self.prefer
            .iter()
            .any(|value| value == "idtype=\"immutableid\"")
    }

    /// Returns the mailbox that the path names. The error is the response if it cannot name one.
    fn mailbox(&self, caller: &Caller) -> Result<Option<String>, Answer> {
        let mut segments = self.segments.iter().map(String::as_str);
        match (segments.next(), segments.next(), &caller.user) {
            (Some("me"), _, Some(user)) => Ok(Some(user.clone())),
            (Some("me"), _, None) => Err(Answer::error(
                400,
                "BadRequest",
                "/me request is only valid with delegated authentication flow.",
            )),
            (Some("users"), Some(user), _) => Ok(Some(user.to_lowercase())),
            _ => Ok(None),
        }
    }
}

impl Answer {
    pub fn json(status: u16, body: &Value) -> Self {
        Self {
            status,
            content_type: "application/json;odata.metadata=minimal;odata.streaming=true;IEEE754Compatible=false;charset=utf-8",
            headers: Vec::new(),
            body: body.to_string().into_bytes(),
        }
    }

    pub fn empty(status: u16) -> Self {
        Self {
            status,
            content_type: "",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let mut answer = Self::json(
            status,
            &json!({
                "error": {
                    "code": code,
                    "message": message,
                    "innerError": {
                        "date": "2026-11-30T10:00:00",
                        "request-id": "5e1d1d1c-0000-4000-8000-000000000000",
                        "client-request-id": "5e1d1d1c-0000-4000-8000-000000000000",
                    },
                },
            }),
        );
        answer.content_type = "application/json";
        answer
    }

    fn throttled(code: &str, retry_after_secs: u64) -> Self {
        let mut answer = Self::error(429, code, "Application is over its limit.");
        answer
            .headers
            .push(("retry-after", retry_after_secs.to_string()));
        answer
    }
}

/// Serves one connection as long as the client wants.
pub(super) async fn serve(stream: TlsStream<TcpStream>, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { respond(request, &shared).await }
    });
    // A broken connection is the client's concern.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Responds to a request. An error closes the connection.
async fn respond(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let Ok(body) = Limited::new(body, BODY_BYTES_MAX).collect().await else {
        return Ok(response(Answer::error(413, "RequestTooLarge", "")));
    };
    let path = parts.uri.path();
    let query = parts.uri.query().unwrap_or_default();
    let header = |name: &HeaderName| {
        let value = parts.headers.get(name);
        value
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    let prefer = parts.headers.get_all("prefer").iter();
    let asked = Asked {
        method: parts.method.as_str().to_owned(),
        segments: segments(path),
        query: form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
        prefer: prefer
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(|value| value.trim().to_ascii_lowercase())
            .collect(),
        content_type: header(&CONTENT_TYPE).to_ascii_lowercase(),
        body: body.to_bytes(),
    };
    let token = header(&AUTHORIZATION).strip_prefix("Bearer ");
    let token = token.map(str::to_owned);
    let (mailbox, answer) = match path.strip_prefix("/upload/") {
        Some(session) => {
            let range = parts.headers.get("content-range");
            let range = range
                .and_then(|range| range.to_str().ok())
                .unwrap_or_default();
            let mut state = locked(&shared.state);
            let answer = upload::range(&mut state, &asked, session, range, token.is_some());
            (None, Ok(answer))
        }
        None => answer(&asked, token, shared).await,
    };
    let headers = parts
        .headers
        .iter()
        .filter(|(name, _)| *name != AUTHORIZATION);
    let headers = headers.map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        (name.as_str().to_owned(), value)
    });
    let remembered = GraphRequest {
        method: asked.method.clone(),
        path: format!("/{}", asked.segments.join("/")),
        query: asked.query.clone(),
        headers: headers.collect(),
        mailbox,
        status: answer.as_ref().map_or(0, |answer| answer.status),
    };
    locked(&shared.state).requests.push(remembered);
    match answer {
        Ok(answer) => Ok(response(answer)),
        Err(GraphFailure::Hang) => std::future::pending().await,
        Err(_) => Err(Closed),
    }
}

/// Returns the requested mailbox, and the response or the failure that leaves the request without one.
async fn answer(
    asked: &Asked,
    token: Option<String>,
    shared: &Arc<Shared>,
) -> (Option<String>, Result<Answer, GraphFailure>) {
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        let answer = Answer::error(401, "InvalidAuthenticationToken", "Access token is empty.");
        return (None, Ok(answer));
    };
    let port = shared.introspection_port;
    let caller = tokio::task::spawn_blocking(move || tokens::caller(port, &token)).await;
    let caller = match caller {
        Ok(Ok(Some(caller))) => caller,
        Ok(Ok(None)) => {
            let text = "Access token validation failure. Invalid audience.";
            let answer = Answer::error(401, "InvalidAuthenticationToken", text);
            return (None, Ok(answer));
        }
        Ok(Err(_)) | Err(_) => return (None, Ok(Answer::error(503, "ServiceUnavailable", ""))),
    };
    let mailbox = match asked.mailbox(&caller) {
        Ok(mailbox) => mailbox,
        Err(answer) => return (None, Ok(answer)),
    };
    let failure = shared
        .failures
        .take_fitting(|it| {
            let last = asked.segments.last().map(String::as_str);
            (it.mailbox.is_none() || it.mailbox == mailbox)
                && (it.segment.is_none() || it.segment == last)
        })
        .map(|it| it.failure);
    let mut is_lost = false;
    match failure {
        Some(GraphFailure::Throttled { retry_after_secs }) => {
            let answer = Answer::throttled("ApplicationThrottled", retry_after_secs);
            return (mailbox, Ok(answer));
        }
        Some(GraphFailure::Status { status, code }) => {
            return (mailbox, Ok(Answer::error(status, code, "On command.")));
        }
        Some(GraphFailure::AnswerLost) => is_lost = true,
        Some(failure) => return (mailbox, Err(failure)),
        None => {}
    }
    let Some(address) = mailbox.clone() else {
        return (mailbox, Ok(routes::no_segment(asked)));
    };
    let key = (caller.client_id.clone(), address.clone());
    let under_way = {
        let mut state = locked(&shared.state);
        let now = state.under_way.entry(key.clone()).or_default();
        *now += 1;
        let now = *now;
        let most = state.most_under_way.entry(address.clone()).or_default();
        *most = now.max(*most);
        now
    };
    let _under_way = UnderWay { shared, key };
    // Long enough for other requests to arrive.
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let answer = match under_way > CONCURRENT_REQUESTS_MAX {
        true => Answer::throttled("MailboxConcurrency", 1),
        false => routes::answer(&mut locked(&shared.state), asked, &caller, &address),
    };
    match is_lost {
        true => (mailbox, Err(GraphFailure::AnswerLost)),
        false => (mailbox, Ok(answer)),
    }
}

/// Counts a request as under way until it is dropped: a client that is killed drops the request within.
struct UnderWay<'s> {
    shared: &'s Shared,
    key: (String, String),
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(now) = locked(&self.shared.state).under_way.get_mut(&self.key) {
            *now -= 1;
        }
    }
}

/// Closes the connection without a response.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on command")
    }
}

impl std::error::Error for Closed {}

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

fn response(answer: Answer) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !answer.content_type.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    }
    headers.insert("request-id", HeaderValue::from_static("5e1d1d1c"));
    if let Ok(date) = HeaderValue::from_str(
        &jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&jiff::Timestamp::now())
            .unwrap_or_default(),
    ) {
        headers.insert("date", date);
    }
    response
}

/// Returns the decoded path after `/v1.0`; OData also writes a key as `name('key')`.
fn segments(path: &str) -> Vec<String> {
    let mut segments = Vec::new();
    let Some(path) = path.strip_prefix("/v1.0/") else {
        return segments;
    };
    for part in path.split('/') {
        let part = decoded(part);
        match part
            .strip_suffix("')")
            .and_then(|part| part.split_once("('"))
        {
            Some((name, key)) => segments.extend([name.to_owned(), key.to_owned()]),
            None => segments.push(part.trim_end_matches("()").to_owned()),
        }
    }
    segments
}

fn decoded(part: &str) -> String {
    // In a path, unlike in a form, these stand for themselves.
    let part = part
        .replace('+', "%2B")
        .replace('=', "%3D")
        .replace('&', "%26");
    let mut pairs = form_urlencoded::parse(part.as_bytes());
    pairs
        .next()
        .map_or_else(String::new, |(name, _)| name.into_owned())
}
