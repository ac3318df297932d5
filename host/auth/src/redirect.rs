//! The loopback listener that the browser is redirected to at the end of a sign-in (RFC 8252 section 7.3).

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue, REFERRER_POLICY};
use hyper::http::uri::Authority;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use url::{Host, Url};

use crate::AuthError;
use crate::sign_in::{AnswerError, Code, CodeSignIn, Expected};

/// The most connections; browsers open connections ahead of time and leave some unused.
const CONNECTIONS_MAX: usize = 32;
/// The time from a connection to the last byte of its response, not counting the exchange of a code.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The time in which a browser has to fetch the last page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest head of a request, in bytes: the code, and cookies that other programs on this machine have set for
/// `localhost`.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// The number of free ports tried, since a free port may be in use for IPv6 only.
const FREE_PORTS_TRIED: usize = 8;
/// The pause after a connection could not be accepted, for example because file handles ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on this machine only, for one sign-in.
pub struct RedirectListener {
    url: String,
    path: String,
    sockets: Sockets,
}

/// The browser that delivered the code and waits for the result of the exchange. Dropping it closes the connection.
pub struct PageReply {
    ending: oneshot::Sender<Ending>,
    connections: JoinSet<Option<Ended>>,
}

/// How the exchange of a code ended.
enum Ending {
    SignedIn,
    Failed,
}

/// The result of a closed connection.
enum Ended {
    Code,
    ServerRefusal(AuthError),
}

/// A code, and the connection of its browser.
struct Brought {
    code: Code,
    ending: oneshot::Sender<Ending>,
}

/// The sockets of `localhost`, which has two addresses; a browser may try either first.
struct Sockets {
    first: TcpListener,
    second: Option<TcpListener>,
}

/// The target of a redirect URL, as far as it can be listened on.
struct Place {
    addresses: &'static [IpAddr],
    /// `None` means any free port.
    port: Option<u16>,
    /// The text before and after the port.
    written: [String; 2],
    path: String,
}

const LOCALHOST: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

impl RedirectListener {
    /// Binds the port of `redirect`, or a free one if it is `None` or names no port. Returns `Ok(None)` if `redirect` is
    /// not on this machine, so that the URL has to be pasted.
    pub async fn bind(redirect: Option<&str>) -> io::Result<Option<Self>> {
        let Some(place) = place(redirect.unwrap_or("http://localhost")) else {
            return Ok(None);
        };
        let (sockets, port) = match place.port {
            Some(port) => (Sockets::bind(place.addresses, port).await?, port),
            None => Sockets::bind_free(place.addresses).await?,
        };
        let [before, after] = &place.written;
        Ok(Some(Self {
            url: format!("{before}:{port}{after}"),
            path: place.path,
            sockets,
        }))
    }

    /// Returns the redirect URL to register with the request: as configured, or with the port that was free.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the redirect of this sign-in. A request with a wrong state gets an error page, and the wait continues.
    /// Dropping the future closes all its connections.
    pub async fn wait(self, sign_in: &CodeSignIn) -> Result<(Code, PageReply), AuthError> {
        let mut connections = JoinSet::new();
        let (bring, mut brought) = mpsc::channel(1);
        loop {
            tokio::select! {
                Some(Brought { code, ending }) = brought.recv() => {
                    return Ok((code, PageReply { ending, connections }));
                }
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(Ended::ServerRefusal(error))) = ended {
                        return Err(error);
                    }
                }
                stream = self.sockets.accept(), if connections.len() < CONNECTIONS_MAX => match stream {
                    Ok(stream) => {
                        let (expected, path) = (sign_in.expected.clone(), self.path.clone());
                        connections.spawn(converse(stream, expected, path, bring.clone()));
                    }
                    Err(error) => {
                        tracing::debug!(%error, "the sign-in's listener could not take a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

impl PageReply {
    /// Tells the browser that the code was exchanged; returns once the page is sent.
    pub async fn signed_in(self) {
        self.send(Ending::SignedIn).await;
    }

    /// Tells the browser that the exchange failed; returns once the page is sent.
    pub async fn failed(self) {
        self.send(Ending::Failed).await;
    }

    async fn send(mut self, ending: Ending) {
        // If the browser is gone, it needs no page.
        if self.ending.send(ending).is_err() {
            return;
        }
        let sent = async {
            while let Some(ended) = self.connections.join_next().await {
                if let Ok(Some(Ended::Code)) = ended {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(PAGE_TIMEOUT, sent).await;
    }
}

impl Sockets {
    async fn bind(addresses: &[IpAddr], port: u16) -> io::Result<Self> {
        let named = |error: io::Error| {
            io::Error::new(
                error.kind(),
                format!("port {port} of the redirect address cannot be listened on: {error}"),
            )
        };
        let first = listen(addresses.first(), port).await.map_err(named)?;
        let second = match addresses.get(1) {
            None => None,
            Some(address) => match listen(Some(address), port).await {
                Ok(socket) => Some(socket),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(named(error)),
                // A machine without IPv6.
                Err(_) => None,
            },
        };
        Ok(Self { first, second })
    }

    async fn bind_free(addresses: &[IpAddr]) -> io::Result<(Self, u16)> {
        let mut taken = None;
        for _ in 0..FREE_PORTS_TRIED {
            let probe = listen(addresses.first(), 0).await?;
            let port = probe.local_addr()?.port();
            drop(probe);
            match Self::bind(addresses, port).await {
                Ok(sockets) => return Ok((sockets, port)),
                Err(error) => taken = Some(error),
            }
        }
        Err(taken.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
    }

    async fn accept(&self) -> io::Result<TcpStream> {
        let taken = match &self.second {
            None => self.first.accept().await,
            Some(second) => tokio::select! {
                taken = self.first.accept() => taken,
                taken = second.accept() => taken,
            },
        };
        taken.map(|(stream, _)| stream)
    }
}

async fn listen(address: Option<&IpAddr>, port: u16) -> io::Result<TcpListener> {
    let address = *address.unwrap_or(&LOCALHOST[0]);
    TcpListener::bind(SocketAddr::new(address, port)).await
}

/// Parses a redirect URL; returns `None` if it is not on this machine, or needs TLS.
fn place(redirect: &str) -> Option<Place> {
    const SCHEME: &str = "http://";
    let url = Url::parse(redirect)
        .ok()
        .filter(|url| url.scheme() == "http")?;
    let addresses = match url.host()? {
        Host::Domain("localhost") => LOCALHOST,
        Host::Ipv4(Ipv4Addr::LOCALHOST) => &LOCALHOST[..1],
        Host::Ipv6(Ipv6Addr::LOCALHOST) => &LOCALHOST[1..],
        _ => return None,
    };
    let rest = redirect.get(SCHEME.len()..)?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, after) = rest.split_at(end);
    // The parser drops an explicit port 80.
    let port = url
        .port()
        .or_else(|| authority.ends_with(":80").then_some(80));
    let host = match port {
        Some(port) => authority.strip_suffix(&format!(":{port}"))?,
        None => authority,
    };
    Some(Place {
        addresses,
        port,
        written: [format!("{}{host}", &redirect[..SCHEME.len()]), after.into()],
        path: url.path().to_owned(),
    })
}

/// Serves the single request of a connection. A refusal ends the sign-in after its page is sent, a code before.
async fn converse(
    stream: TcpStream,
    expected: Expected,
    path: String,
    bring: mpsc::Sender<Brought>,
) -> Option<Ended> {
    let outcome = OnceLock::new();
    let service = service_fn(|request: Request<Incoming>| {
        let answered = answer(&request, &expected, &path);
        let (bring, outcome) = (&bring, &outcome);
        async move {
            Ok::<_, Infallible>(match answered {
                Answer::Page(page) => page,
                Answer::Refused(error) => {
                    // The first outcome counts.
                    let _ = outcome.set(Ended::ServerRefusal(error));
                    page(
                        StatusCode::OK,
                        "The sign-in was refused",
                        "This window can be closed. Postroom says why where you started the sign-in.",
                    )
                }
                Answer::Code(code) => {
                    let _ = outcome.set(Ended::Code);
                    exchanged(code, bring).await
                }
            })
        }
    });
    let ended = {
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                .keep_alive(false)
                .max_buf_size(REQUEST_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service)
        );
        match tokio::time::timeout(CONNECTION_TIMEOUT, connection.as_mut()).await {
            // The exchange has its own timeout, and then drops the reply.
            Err(_) if matches!(outcome.get(), Some(Ended::Code)) => connection.await,
            Err(_) => Ok(()),
            Ok(ended) => ended,
        }
    };
    // The way the browser disconnects does not matter: the code counts, not the end of the connection.
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection to the sign-in's listener broke off");
    }
    outcome.into_inner()
}

/// Passes on the code, and waits for the result of its exchange.
async fn exchanged(code: Code, bring: &mpsc::Sender<Brought>) -> Response<Full<Bytes>> {
    let (ending, ended) = oneshot::channel();
    // A second code that arrives during the exchange of the first gets an error page.
    let _ = bring.try_send(Brought { code, ending });
    match ended.await {
        Ok(Ending::SignedIn) => page(
            StatusCode::OK,
            "You are signed in",
            "This window can be closed. Postroom continues where you started the sign-in.",
        ),
        Ok(Ending::Failed) | Err(_) => page(
            StatusCode::OK,
            "The sign-in failed",
            "You are not signed in. This window can be closed. Postroom says why where you started the sign-in.",
        ),
    }
}

/// The handling of a request.
enum Answer {
    Page(Response<Full<Bytes>>),
    Refused(AuthError),
    Code(Code),
}

fn answer(request: &Request<Incoming>, expected: &Expected, path: &str) -> Answer {
    const WAITS: &str = "This address waits for the end of a sign-in.";
    // Otherwise a page elsewhere could reach us through its own name that resolves to this machine.
    if !is_for_this_machine(request) {
        return Answer::Page(page(StatusCode::BAD_REQUEST, "Not this way", WAITS));
    }
    if request.uri().path() != path {
        return Answer::Page(page(StatusCode::NOT_FOUND, "Nothing here", WAITS));
    }
    if request.method() != Method::GET {
        let mut answer = page(StatusCode::METHOD_NOT_ALLOWED, "Not this way", WAITS);
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return Answer::Page(answer);
    }
    let (heading, text) = match expected.redirected(request.uri().query().unwrap_or_default()) {
        Ok(code) => return Answer::Code(code),
        Err(AnswerError::Refused(error)) => return Answer::Refused(error),
        Err(AnswerError::WrongState | AnswerError::WrongIssuer) => (
            "This belongs to another sign-in",
            "Its state is not the one that was sent, or another server sent it. Open the newest sign-in address and try again.",
        ),
        Err(AnswerError::NoCode) => (
            "No code",
            "The sign-in page sent no code along. Open the sign-in address and try again.",
        ),
    };
    Answer::Page(page(StatusCode::BAD_REQUEST, heading, text))
}

/// Returns whether the request's `Host` is a name of this machine. Ports are ignored: they may be forwarded.
fn is_for_this_machine(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return false;
    };
    let named: Option<Authority> = host.to_str().ok().and_then(|host| host.parse().ok());
    named.is_some_and(|named| {
        ["localhost", "127.0.0.1", "[::1]"]
            .iter()
            .any(|name| named.host().eq_ignore_ascii_case(name))
    })
}

/// Returns a page with our own text: content of the request is never echoed.
fn page(status: StatusCode, heading: &str, text: &str) -> Response<Full<Bytes>> {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{heading} - Postroom</title></head>\
         <body><h1>{heading}</h1><p>{text}</p></body></html>\n"
    );
    let mut answer = Response::new(Full::from(html));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // The URL contains the code.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::{Account, Secret};

    fn sign_in() -> CodeSignIn {
        let account = Account {
            profile: "acme".into(),
            login: None,
        };
        CodeSignIn {
            account: account.clone(),
            url: String::new(),
            redirect: String::new(),
            expected: Expected {
                account,
                state: Secret::new("s1"),
                issuer: None,
            },
            verifier: Secret::new("v"),
        }
    }

    fn port(listener: &RedirectListener) -> u16 {
        Url::parse(listener.url()).unwrap().port().unwrap()
    }

    /// Sends the text as a browser does, and returns the whole response until the connection ends.
    async fn say(address: &str, port: u16, text: &str) -> String {
        let mut stream = TcpStream::connect(format!("{address}:{port}"))
            .await
            .unwrap();
        // The listener may close a connection with too much data before all of it is sent.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn get(target: &str) -> String {
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
    }

    #[tokio::test]
    async fn only_the_redirect_of_this_sign_in_ends_it() {
        let listener = RedirectListener::bind(Some("http://localhost/cb?a=b"))
            .await
            .unwrap()
            .unwrap();
        let port = port(&listener);
        assert_eq!(listener.url(), format!("http://localhost:{port}/cb?a=b"));
        let sign_in = sign_in();
        let browser = async {
            // A connection opened ahead of time, which never sends anything.
            let _idle = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let mut slow = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            slow.write_all(b"GET /cb").await.unwrap();
            let long = get(&format!("/cb?code={}", "x".repeat(2 * REQUEST_BYTES_MAX)));
            for (request, expected) in [
                (get("/favicon.ico"), "404"),
                (get("/?code=evil&state=s1"), "404"),
                (get("/cb?code=evil&state=<script>"), "400"),
                (get("/cb?code=evil"), "400"),
                (get("/cb?state=s1"), "400"),
                (get("/cb"), "400"),
                // Anybody can send a refusal; only the server knows the state.
                (get("/cb?error=access_denied&error_description=evil"), "400"),
                (get("/cb?error=access_denied&state=evil"), "400"),
                (
                    get("/cb?code=evil&state=s1").replace("localhost", "evil.example"),
                    "400",
                ),
                (
                    get("/cb?code=evil&state=s1").replace("Host: localhost\r\n", ""),
                    "400",
                ),
                (
                    get("/cb?error=access_denied&state=s1").replace("localhost", "evil.example"),
                    "400",
                ),
                (get("/cb?code=evil&state=s1").replace("GET", "POST"), "405"),
                (get("/cb?code=evil&state=s1").replace("GET", "HEAD"), "405"),
                ("\u{16}\u{3}nonsense\r\n\r\n".into(), "400"),
                (long, "4"),
            ] {
                let answer = say("127.0.0.1", port, &request).await;
                let status = format!("HTTP/1.1 {expected}");
                assert!(answer.starts_with(&status), "{request}: {answer}");
                assert!(
                    !answer.contains("evil") && !answer.contains("script"),
                    "{answer}"
                );
            }
            let address = if listener_has_ipv6().await {
                "[::1]"
            } else {
                "127.0.0.1"
            };
            let answer = say(address, port, &get("/cb?a=b&code=c1&state=s1")).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(answer.contains("You are signed in"), "{answer}");
            assert!(
                answer.contains("no-store") && !answer.contains("c1"),
                "{answer}"
            );
        };
        let exchange = async {
            let (code, reply) = listener.wait(&sign_in).await.unwrap();
            let gone = TcpStream::connect(("127.0.0.1", port)).await;
            assert!(gone.is_err(), "the listener ends with the sign-in");
            reply.signed_in().await;
            code
        };
        let (code, ()) = tokio::join!(exchange, browser);
        assert_eq!(code.0.expose(), "c1");
    }

    #[tokio::test]
    async fn a_browser_is_told_how_the_exchange_ended() {
        for (ending, expected) in [
            (Some(Ending::SignedIn), "You are signed in"),
            (Some(Ending::Failed), "You are not signed in"),
            (None, ""),
        ] {
            let listener = RedirectListener::bind(None).await.unwrap().unwrap();
            let port = port(&listener);
            let (sign_in, request) = (sign_in(), get("/?code=c1&state=s1"));
            let browser = tokio::spawn(async move { say("127.0.0.1", port, &request).await });
            let (_, reply) = listener.wait(&sign_in).await.unwrap();
            assert!(!browser.is_finished(), "nothing is known yet");
            match ending {
                Some(Ending::SignedIn) => reply.signed_in().await,
                Some(Ending::Failed) => reply.failed().await,
                None => drop(reply),
            }
            let page = browser.await.unwrap();
            assert!(page.contains(expected), "{page}");
            assert_eq!(page.is_empty(), expected.is_empty(), "{page}");
        }
    }

    async fn listener_has_ipv6() -> bool {
        TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok()
    }

    #[tokio::test]
    async fn a_refusal_ends_the_sign_in_too() {
        let listener = RedirectListener::bind(None).await.unwrap().unwrap();
        let port = port(&listener);
        assert_eq!(listener.url(), format!("http://localhost:{port}"));
        let sign_in = sign_in();
        let target = "/?error=access_denied&error_description=AADSTS65004%3A+no&state=s1";
        let request = get(target);
        let (outcome, answer) =
            tokio::join!(listener.wait(&sign_in), say("127.0.0.1", port, &request));
        let error = outcome.err().unwrap();
        assert_eq!(error.refusal().unwrap().codes, [65004]);
        assert!(answer.contains("The sign-in was refused"), "{answer}");
        assert!(!answer.contains("AADSTS"), "{answer}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = taken.local_addr().unwrap().port();
        let error = RedirectListener::bind(Some(&format!("http://localhost:{port}/")))
            .await
            .err()
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(
            error.to_string().contains(&format!("port {port} ")),
            "{error}"
        );
    }

    #[test]
    fn only_plain_addresses_of_this_machine_are_listened_on() {
        for (redirect, expected) in [
            (
                "http://localhost",
                Some((None, "http://localhost", "", "/")),
            ),
            (
                "http://localhost:8400/cb",
                Some((Some(8400), "http://localhost", "/cb", "/cb")),
            ),
            (
                "http://localhost:80/",
                Some((Some(80), "http://localhost", "/", "/")),
            ),
            (
                "http://127.0.0.1:1?x",
                Some((Some(1), "http://127.0.0.1", "?x", "/")),
            ),
            (
                "http://[::1]/cb",
                Some((None, "http://[::1]", "/cb", "/cb")),
            ),
            ("https://localhost:8400/cb", None),
            ("http://example.com/cb", None),
            ("http://127.0.0.1.example.com/cb", None),
            ("http://10.0.0.1/cb", None),
            ("urn:ietf:wg:oauth:2.0:oob", None),
            ("nonsense", None),
        ] {
            let place = place(redirect).map(|place| (place.port, place.written, place.path));
            let expected = expected.map(|(port, before, after, path)| {
                (port, [before.to_owned(), after.to_owned()], path.to_owned())
            });
            assert_eq!(place, expected, "{redirect}");
        }
    }
}
