//! Webhooks signed with the Standard Webhooks scheme, so that a receiver knows who sent them and when.
//!
//! ```text
//! webhook-id: pr_…                  the same for every try: receivers drop what they know
//! webhook-timestamp: 1614265330     of this try
//! webhook-signature: v1,base64(hmac-sha256(secret, id "." timestamp "." body))
//! ```
//!
//! Meaning of a reply:
//!
//! | status | it speaks of |
//! |---|---|
//! | 200 to 299 | delivered |
//! | none for want of a connection; 3xx, 401, 407, 421, 429 | the receiver |
//! | none in time; any other, such as 403, 404, 500, 503 | the receiver or the item |
//! | 400, 409, 410, 411, 413, 414, 415, 422, 431 | the item, unless the receiver or a proxy before it says so of every item |
//!
//! None of them is final: the caller decides from the results of the other items.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use jiff::Timestamp;
use percent_encoding::percent_decode_str;
use postroom_auth::Secret;
use postroom_core::harmless::harmless;
use postroom_net::{ConnectError, HttpClient, Proxies, Proxy, Step, Trace, TraceRedactor};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode, Url};
use rustls::ClientConfig;
use sha2::Sha256;

/// The prefix of a secret; base64 follows.
const SECRET_PREFIX: &str = "whsec_";
/// The size of a key in bytes: the scheme requires 24 to 64.
const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// How much of a reply is read and shown.
const MAX_ANSWER_BYTES: usize = 2_048;
/// The longest pause that a receiver may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// The settings of one `[sinks.NAME]` with `kind = "webhook"`.
#[derive(Debug, Clone)]
pub struct WebhookSettings {
    pub name: String,
    pub url: Url,
    /// `whsec_` followed by the key in base64.
    pub secret: Secret,
    /// Covers the whole exchange.
    pub timeout: Duration,
}

/// Why an item was not delivered. The receiver may still have accepted it, and recognises a repetition by its id.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    #[error("{}{problem}", Answered(*.status))]
    Failed {
        speaks_of: SpeaksOf,
        status: Option<u16>,
        /// How long the receiver asks not to be contacted.
        retry_after: Option<Duration>,
        problem: String,
    },
    /// The settings cannot work.
    #[error("{problem}")]
    Settings { problem: String },
    /// The receiver cannot be reached: found by a probe, or because of the proxy.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

impl WebhookError {
    /// Returns the step of a probe that failed: connect, TLS or send.
    pub fn failed_step(&self) -> Step {
        match self {
            WebhookError::Connect(ConnectError::Unreachable { why, .. }) => why.step(),
            WebhookError::Connect(ConnectError::Timeout { step, .. }) => *step,
            WebhookError::Connect(ConnectError::Tls { .. } | ConnectError::Broken(_)) => Step::Tls,
            WebhookError::Failed { .. } | WebhookError::Settings { .. } => Step::Send,
        }
    }
}

/// The subject of a failure: the receiver or the item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpeaksOf {
    /// No item would be accepted now.
    Receiver,
    /// One of the two; the reply does not show which.
    Either,
    /// This item, as far as one reply can show.
    Item,
}

/// A sink that posts each item to one address.
pub struct Webhook {
    settings: WebhookSettings,
    key: Key,
    /// Redacts secrets from what the receiver sends.
    secrets: TraceRedactor,
    http: HttpClient,
    trace: Option<Trace>,
}

/// Returns the HTTP client for all webhooks.
pub fn client(tls: &ClientConfig, proxies: &Proxies) -> Result<HttpClient, WebhookError> {
    HttpClient::new(tls, proxies, |it| it)
        .map_err(|e| WebhookError::Settings { problem: chain(&e) })
}

impl Webhook {
    /// Creates the webhook. `http` comes from [`client`].
    pub fn new(settings: WebhookSettings, http: HttpClient) -> Result<Self, WebhookError> {
        let key = Key::parse(&settings.secret)?;
        Ok(Self {
            secrets: secrets(&settings, &key),
            settings,
            key,
            http,
            trace: None,
        })
    }

    /// Returns the sink's name in the configuration.
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Returns the proxy of the requests.
    pub(crate) fn proxy(&self) -> Option<&Proxy> {
        self.http.proxies().for_url(&self.settings.url)
    }

    pub(crate) fn settings(&self) -> &WebhookSettings {
        &self.settings
    }

    /// Records requests and replies from now on, without secrets and bodies.
    pub fn set_trace(&mut self, trace: Trace) {
        trace.hide(&self.secrets);
        self.trace = Some(trace);
    }

    /// Posts one item, and returns the HTTP status, 200 to 299. `id` is the same on every attempt for one item; `now` is the time
    /// of this attempt.
    pub async fn post(&self, id: &str, now: Timestamp, body: &str) -> Result<u16, WebhookError> {
        let outcome = self.exchange(id, now, body).await;
        if let Some(trace) = &self.trace {
            let outcome = match &outcome {
                Ok(status) => status.to_string(),
                Err(error) => error.to_string(),
            };
            trace.request("POST", self.settings.url.path(), &outcome);
        }
        outcome
    }

    async fn exchange(&self, id: &str, now: Timestamp, body: &str) -> Result<u16, WebhookError> {
        let timestamp = now.as_second();
        let sent = self
            .http
            .post(self.settings.url.clone())
            .timeout(self.settings.timeout)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", self.key.sign(id, timestamp, body))
            .body(body.to_owned())
            .send()
            .await;
        let answer = match sent {
            Ok(answer) => answer,
            Err(error) => {
                let of_proxy = self.http.proxy_error(&self.settings.url, &error).await;
                return Err(of_proxy.map_or_else(|| unreached(&error), WebhookError::Connect));
            }
        };
        let status = answer.status();
        if status.is_success() {
            return Ok(status.as_u16());
        }
        Err(refusal(answer, now, &self.secrets).await)
    }
}

/// The signing key. Never shown.
struct Key(Vec<u8>);

impl Key {
    fn parse(secret: &Secret) -> Result<Self, WebhookError> {
        let settings = |problem: &str| WebhookError::Settings {
            problem: problem.to_owned(),
        };
        let encoded = secret
            .expose()
            .trim()
            .strip_prefix(SECRET_PREFIX)
            .ok_or_else(|| settings("the webhook secret does not begin with whsec_"))?;
        let key = BASE64
            .decode(encoded)
            .map_err(|_| settings("the webhook secret is not base64 after whsec_"))?;
        if !KEY_BYTES.contains(&key.len()) {
            return Err(settings("the webhook secret is not 24 to 64 bytes long"));
        }
        Ok(Self(key))
    }

    fn sign(&self, id: &str, timestamp: i64, body: &str) -> String {
        let mut mac =
            <Hmac<Sha256> as Mac>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// The shortest part of an address's path that is treated as a secret: a shorter one is a name, a longer one may be a token that
/// grants access.
const TOKEN_BYTES_MIN: usize = 16;

/// Returns the secrets of a request that a receiver may quote: the key, and the credentials in the address.
fn secrets(settings: &WebhookSettings, key: &Key) -> TraceRedactor {
    let url = &settings.url;
    let secret = settings.secret.expose().trim();
    let user = percent_decode_str(url.username()).decode_utf8_lossy();
    let password = url.password().unwrap_or_default();
    let password = percent_decode_str(password).decode_utf8_lossy();
    // A user without a password is the token.
    let userinfo = match password.as_ref() {
        "" => user.as_ref(),
        password => password,
    };
    let values: Vec<_> = url.query_pairs().map(|(_, value)| value).collect();
    let segments = url.path_segments().into_iter().flatten();
    let texts = [secret, secret.trim_start_matches(SECRET_PREFIX), userinfo]
        .into_iter()
        .chain(url.query())
        .chain(values.iter().map(AsRef::as_ref))
        .chain(segments.filter(|segment| segment.len() >= TOKEN_BYTES_MIN))
        .map(str::as_bytes);
    let secrets = TraceRedactor::new(texts.chain([key.0.as_slice()]));
    match user.is_empty() {
        true => secrets,
        false => secrets.with_response(format!("{user}:{password}")),
    }
}

fn unreached(error: &reqwest::Error) -> WebhookError {
    if error.is_builder() {
        return WebhookError::Settings {
            problem: chain(error),
        };
    }
    WebhookError::Failed {
        speaks_of: match error.is_connect() {
            true => SpeaksOf::Receiver,
            false => SpeaksOf::Either,
        },
        status: None,
        retry_after: None,
        problem: chain(error),
    }
}

async fn refusal(answer: Response, now: Timestamp, secrets: &TraceRedactor) -> WebhookError {
    let status = answer.status();
    let retry_after = retry_after(answer.headers(), now);
    let text = beginning(answer, secrets).await;
    let problem = if status.is_redirection() {
        "the receiver wants another address, and webhooks follow no redirects: correct the url"
            .to_owned()
    } else {
        text
    };
    WebhookError::Failed {
        speaks_of: speaks_of(status),
        status: Some(status.as_u16()),
        retry_after,
        problem,
    }
}

fn speaks_of(status: StatusCode) -> SpeaksOf {
    match status {
        StatusCode::UNAUTHORIZED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::MISDIRECTED_REQUEST
        | StatusCode::TOO_MANY_REQUESTS => SpeaksOf::Receiver,
        status if status.is_redirection() => SpeaksOf::Receiver,
        StatusCode::BAD_REQUEST
        | StatusCode::CONFLICT
        | StatusCode::GONE
        | StatusCode::LENGTH_REQUIRED
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => SpeaksOf::Item,
        _ => SpeaksOf::Either,
    }
}

/// Returns the pause that Retry-After asks for, capped.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let pause = postroom_auth::retry_after(value, now)?;
    Some(pause.min(MAX_RETRY_AFTER))
}

/// Returns the beginning of a reply's text on one line.
async fn beginning(mut answer: Response, secrets: &TraceRedactor) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < MAX_ANSWER_BYTES {
        match answer.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    bytes.truncate(MAX_ANSWER_BYTES);
    let text = secrets.redact(&String::from_utf8_lossy(&bytes));
    harmless(&text).trim().to_owned()
}

/// Formats an error with its causes, without the address, which may hold a secret.
fn chain(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "no answer in time".to_owned()
    } else if error.is_connect() {
        "cannot connect".to_owned()
    } else {
        "the exchange failed".to_owned()
    };
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

struct Answered(Option<u16>);

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(status) => write!(f, "the receiver answered {status}: "),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use postroom_stand::{Hostile, Hostility, Then, http_hostilities};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::task::JoinHandle;

    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: Timestamp = Timestamp::constant(1_614_265_330, 0);

    /// Checks the example from the Standard Webhooks libraries' own tests.
    #[test]
    fn signs_as_the_specification_does() {
        let key = Key::parse(&Secret::new(SECRET)).unwrap();
        assert_eq!(
            key.sign(
                "msg_p5jXN8AQM9LWM0D4loKWxJek",
                1_614_265_330,
                r#"{"test": 2432232314}"#
            ),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_secret_of_another_shape_is_refused_without_being_shown() {
        for secret in [
            "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "whsec_%%%",
            "whsec_YQ==",
        ] {
            let Err(error) = Key::parse(&Secret::new(secret)) else {
                panic!("{secret} was taken");
            };
            assert!(matches!(error, WebhookError::Settings { .. }));
            assert!(!error.to_string().contains(&secret[6..]), "{error}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_capped() {
        let asked = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, value.parse().unwrap());
            retry_after(&headers, NOW)
        };
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            asked("Thu, 25 Feb 2021 15:02:40 GMT"),
            Some(Duration::from_secs(30))
        );
        assert_eq!(asked("Thu, 25 Feb 1999 15:02:40 GMT"), Some(Duration::ZERO));
        assert_eq!(asked("999999999999"), Some(MAX_RETRY_AFTER));
        assert_eq!(asked("soon"), None);
    }

    /// Replies to one request with `answer`, then ends. The handle returns what was received.
    async fn receiver(answer: impl Into<Vec<u8>>) -> (Webhook, JoinHandle<String>) {
        let answer = answer.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"{\"a\":1}") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            stream.write_all(&answer).await.unwrap();
            String::from_utf8(got).unwrap()
        });
        let settings = WebhookSettings {
            name: "psa".into(),
            url: url.parse().unwrap(),
            secret: Secret::new(SECRET),
            timeout: Duration::from_secs(2),
        };
        let hook = Webhook::new(settings, client(&tls(), &Proxies::default()).unwrap()).unwrap();
        (hook, serving)
    }

    fn tls() -> ClientConfig {
        ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth()
    }

    async fn refused(answer: &str) -> WebhookError {
        let (hook, _serving) = receiver(answer).await;
        match hook.post("pr_1", NOW, "{\"a\":1}").await {
            Err(error) => error,
            Ok(status) => panic!("{answer:?} was taken for success: {status}"),
        }
    }

    #[tokio::test]
    async fn an_item_arrives_signed() {
        let (hook, serving) =
            receiver("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
        let status = hook.post("pr_1", NOW, "{\"a\":1}").await.unwrap();
        assert_eq!(status, 204);
        let request = serving.await.unwrap();
        let signature = hook.key.sign("pr_1", NOW.as_second(), "{\"a\":1}");
        for line in [
            "POST /hook HTTP/1.1\r\n".to_owned(),
            "content-type: application/json\r\n".to_owned(),
            "webhook-id: pr_1\r\n".to_owned(),
            "webhook-timestamp: 1614265330\r\n".to_owned(),
            format!("webhook-signature: {signature}\r\n"),
        ] {
            assert!(request.contains(&line), "{line:?} is not in {request}");
        }
    }

    #[tokio::test]
    async fn an_answer_is_told_by_what_it_speaks_of() {
        for (statuses, expected) in [
            (&[401, 407, 421, 429][..], SpeaksOf::Receiver),
            (&[403, 404, 405, 408, 425, 500, 503], SpeaksOf::Either),
            (&[400, 409, 410, 413, 415, 422], SpeaksOf::Item),
        ] {
            for status in statuses {
                let answer = format!(
                    "HTTP/1.1 {status} x\r\nRetry-After: 9\r\nContent-Length: 4\r\n\r\nbusy"
                );
                let error = refused(&answer).await;
                let WebhookError::Failed {
                    speaks_of,
                    status: Some(told),
                    retry_after: Some(pause),
                    problem,
                } = &error
                else {
                    panic!("{status}: {error:?}");
                };
                assert_eq!((*speaks_of, told), (expected, status));
                assert_eq!((pause.as_secs(), problem.as_str()), (9, "busy"));
                assert_eq!(
                    error.to_string(),
                    format!("the receiver answered {status}: busy")
                );
            }
        }
    }

    #[tokio::test]
    async fn a_receiver_that_quotes_the_request_shows_no_secret() {
        const TOKEN: &str = "T0KEN/of+the.address";
        const PASSWORD: &str = "p&ss wörd+1";
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut url =
            Url::parse(&format!("http://127.0.0.1:{port}/hook/B01234567890abcdef")).unwrap();
        url.set_username("ann").unwrap();
        url.set_password(Some(PASSWORD)).unwrap();
        url.query_pairs_mut().append_pair("token", TOKEN);
        let settings = WebhookSettings {
            name: "psa".into(),
            url: url.clone(),
            secret: Secret::new(SECRET),
            timeout: Duration::from_secs(2),
        };
        let hook = Webhook::new(settings, client(&tls(), &Proxies::default()).unwrap()).unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut got = Vec::new();
            while !got.ends_with(b"{\"a\":1}") {
                assert!(stream.read_buf(&mut got).await.unwrap() > 0);
            }
            let got = String::from_utf8(got).unwrap();
            let body = format!("no {SECRET} {TOKEN} {PASSWORD} {got}");
            let answer = format!(
                "HTTP/1.1 400 x\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            got
        });
        let error = hook.post("pr_1", NOW, "{\"a\":1}").await.unwrap_err();
        let quoted = serving.await.unwrap();
        let shown = error.to_string();
        assert!(
            shown.contains("no [redacted] [redacted] [redacted] POST /hook/[redacted]?"),
            "{shown}"
        );
        let basic = quoted
            .split("Basic ")
            .nth(1)
            .or(quoted.split("basic ").nth(1));
        let basic = basic.unwrap().split_whitespace().next().unwrap();
        for secret in [
            &SECRET[6..20],
            "B01234567890",
            basic.trim_end_matches('='),
            url.query().unwrap(),
        ] {
            assert!(
                quoted.contains(secret) || secret == &SECRET[6..20],
                "{secret}"
            );
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }

    #[tokio::test]
    async fn a_redirect_is_not_followed() {
        let error = refused(
            "HTTP/1.1 307 x\r\nLocation: http://127.0.0.1:9/elsewhere\r\nContent-Length: 0\r\n\r\n",
        )
        .await;
        assert!(matches!(
            error,
            WebhookError::Failed {
                speaks_of: SpeaksOf::Receiver,
                status: Some(307),
                ..
            }
        ));
        assert!(error.to_string().contains("redirect"), "{error}");
    }

    /// Returns the outcome of posting to a receiver at this port, with a short time limit.
    async fn posted(port: u16, name: &str) -> Result<u16, WebhookError> {
        let settings = WebhookSettings {
            name: "psa".into(),
            url: format!("http://127.0.0.1:{port}/hook").parse().unwrap(),
            secret: Secret::new(SECRET),
            timeout: Duration::from_millis(300),
        };
        let hook = Webhook::new(settings, client(&tls(), &Proxies::default()).unwrap()).unwrap();
        let patience = Duration::from_secs(60);
        let posted = tokio::time::timeout(patience, hook.post("pr_1", NOW, "{}")).await;
        posted.unwrap_or_else(|_| panic!("{name}: no end"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_hostile_answer_ends() {
        for status in ["200 OK", "400 Bad", "503 Busy"] {
            for (name, hostility) in http_hostilities(status) {
                let name = format!("{status}, {name}");
                let receiver = Hostile::start(hostility).unwrap();
                match posted(receiver.port(), &name).await {
                    // The head says that the event arrived; the body is not read.
                    Ok(200) => assert!(status.starts_with("200"), "{name}"),
                    Ok(other) => panic!("{name}: {other}"),
                    Err(error) => {
                        assert!(
                            matches!(error, WebhookError::Failed { .. }),
                            "{name}: {error:?}"
                        );
                        assert!(error.to_string().len() < MAX_ANSWER_BYTES + 500, "{name}");
                    }
                }
                // What the client did not read is in the buffers of the loopback connection. Interim answers are dropped as they
                // come, and end with the time limit only.
                let sent = receiver.sent();
                let is_bounded = sent < 32 * 1024 * 1024 || name.contains("interim");
                assert!(is_bounded, "{name}: {sent} bytes");
            }
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_redirect_takes_the_event_nowhere() {
        let elsewhere = Hostile::start(Hostility::new("", Then::Close)).unwrap();
        for status in [301, 302, 303, 307, 308] {
            let moved = format!(
                "HTTP/1.1 {status} Moved\r\nLocation: http://127.0.0.1:{}/hook\r\nContent-Length: 0\r\n\r\n",
                elsewhere.port()
            );
            let receiver = Hostile::start(Hostility::new(moved, Then::Close)).unwrap();
            let error = posted(receiver.port(), "a redirect").await.unwrap_err();
            assert!(error.to_string().contains("redirect"), "{error}");
        }
        assert_eq!(elsewhere.connections(), 0);
    }

    #[tokio::test]
    async fn a_long_answer_is_cut_and_a_lost_one_may_pass() {
        let body = "x\n".repeat(100_000);
        let error = refused(&format!(
            "HTTP/1.1 400 x\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
        assert!(error.to_string().len() < MAX_ANSWER_BYTES + 100);
        let error = refused("").await;
        assert!(
            matches!(error, WebhookError::Failed { status: None, .. }),
            "{error:?}"
        );
    }

    #[tokio::test]
    async fn a_silent_receiver_is_left_after_the_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let settings = WebhookSettings {
            name: "psa".into(),
            url: format!("http://{}/", listener.local_addr().unwrap())
                .parse()
                .unwrap(),
            secret: Secret::new(SECRET),
            timeout: Duration::from_millis(100),
        };
        let hook = Webhook::new(settings, client(&tls(), &Proxies::default()).unwrap()).unwrap();
        let error = hook.post("pr_1", NOW, "{}").await.unwrap_err();
        assert!(matches!(error, WebhookError::Failed { status: None, .. }));
        assert!(error.to_string().contains("no answer in time"), "{error}");
    }
}
