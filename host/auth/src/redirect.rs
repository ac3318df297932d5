//! The loopback listener that a browser is redirected to at the end of a sign-in (RFC 8252 section 7.3).

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use url::{Host, Url};

use crate::AuthError;
use crate::sign_in::{AnswerError, Code, CodeSignIn, Expected};

/// Browsers open connections ahead and leave some unused.
const CONNECTIONS_MAX: usize = 32;
/// From a connection to the last byte of its answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest head of a request, in bytes: the code, and cookies that other programs on this machine have set for `localhost`.
const REQUEST_BYTES_MAX: usize = 64 * 1024;
/// A free port may be taken for IPv6 only: so many are tried.
const FREE_PORTS_TRIED: usize = 8;
/// The pause after a connection that could not be taken, such as for want of file handles.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on this machine only, for one sign-in.
pub struct RedirectListener {
    url: String,
    path: String,
    sockets: Sockets,
}

/// `localhost` is two addresses, and a browser may try either first.
struct Sockets {
    first: TcpListener,
    second: Option<TcpListener>,
}

/// Where a redirect address points, as far as it can be listened on.
struct Place {
    addresses: &'static [IpAddr],
    /// `None`: any free one.
    port: Option<u16>,
    /// What stands before and after the port.
    written: [String; 2],
    path: String,
}

const LOCALHOST: &[IpAddr] = &[
    IpAddr::V4(Ipv4Addr::LOCALHOST),
    IpAddr::V6(Ipv6Addr::LOCALHOST),
];

impl RedirectListener {
    /// Binds the port of `redirect`, or a free one when it is `None` or names no port; `Ok(None)` when `redirect` is not on this
    /// machine, so that the address has to be pasted.
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

    /// The redirect address to register with the request: as configured, or with the port that was free.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits for the redirect of this sign-in. A request with a wrong state is answered with a page that says so, and the wait goes on.
    /// Dropping the wait closes all its connections.
    pub async fn wait(self, sign_in: &CodeSignIn) -> Result<Code, AuthError> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                Some(ended) = connections.join_next() => {
                    if let Ok(Some(outcome)) = ended {
                        return outcome;
                    }
                }
                stream = self.sockets.accept(), if connections.len() < CONNECTIONS_MAX => match stream {
                    Ok(stream) => {
                        connections.spawn(converse(stream, sign_in.expected.clone(), self.path.clone()));
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

/// `None` for an address that is not on this machine, or needs TLS.
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
    // The parser drops a port 80 that was written.
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

/// Answers the one request of a connection; `Some` when it ended the sign-in, and only after its page was sent.
async fn converse(
    stream: TcpStream,
    expected: Expected,
    path: String,
) -> Option<Result<Code, AuthError>> {
    let outcome = Arc::new(OnceLock::new());
    let service = service_fn(|request: Request<Incoming>| {
        let page = answer(&request, &expected, &path, &outcome);
        std::future::ready(Ok::<_, Infallible>(page))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .max_buf_size(REQUEST_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // How a browser leaves is its own affair: the outcome counts, not the connection's end.
    if let Ok(Err(error)) = tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "a connection to the sign-in's listener broke off");
    }
    Arc::into_inner(outcome).and_then(OnceLock::into_inner)
}

fn answer(
    request: &Request<Incoming>,
    expected: &Expected,
    path: &str,
    outcome: &OnceLock<Result<Code, AuthError>>,
) -> Response<Full<Bytes>> {
    if request.uri().path() != path {
        return page(
            StatusCode::NOT_FOUND,
            "Nothing here",
            "This address waits for the end of a sign-in.",
        );
    }
    if request.method() != Method::GET {
        let mut answer = page(
            StatusCode::METHOD_NOT_ALLOWED,
            "Not this way",
            "This address waits for the end of a sign-in.",
        );
        answer
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET"));
        return answer;
    }
    let query = request.uri().query().unwrap_or_default();
    let (end, status, heading, text) = match expected.answer(&format!("?{query}")) {
        Ok(code) => (
            Some(Ok(code)),
            StatusCode::OK,
            "You are signed in",
            "This window can be closed. Postroom goes on where you started the sign-in.",
        ),
        Err(AnswerError::Refused(error)) => (
            Some(Err(error)),
            StatusCode::OK,
            "The sign-in was refused",
            "This window can be closed. Postroom says why where you started the sign-in.",
        ),
        Err(AnswerError::WrongState) => (
            None,
            StatusCode::BAD_REQUEST,
            "This belongs to another sign-in",
            "Its state is not the one that was sent. Open the newest sign-in address and try again.",
        ),
        Err(AnswerError::NoCode) => (
            None,
            StatusCode::BAD_REQUEST,
            "No code",
            "The sign-in page sent no code along. Open the sign-in address and try again.",
        ),
    };
    if let Some(end) = end {
        // The first one counts.
        let _ = outcome.set(end);
    }
    page(status, heading, text)
}

/// A page of our own words: what came with the request is never echoed.
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
    // The address holds the code.
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
            },
            verifier: Secret::new("v"),
        }
    }

    fn port(listener: &RedirectListener) -> u16 {
        Url::parse(listener.url()).unwrap().port().unwrap()
    }

    /// Says it as a browser does, and answers all that comes back until the connection ends.
    async fn say(address: &str, port: u16, text: &str) -> String {
        let mut stream = TcpStream::connect(format!("{address}:{port}"))
            .await
            .unwrap();
        // The listener may hang up on what is too long before all of it is sent.
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
            // A connection opened ahead, and one that never says more.
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
        let (code, ()) = tokio::join!(listener.wait(&sign_in), browser);
        assert_eq!(code.unwrap().0.expose(), "c1");
        let gone = TcpStream::connect(("127.0.0.1", port)).await;
        assert!(gone.is_err(), "the listener ends with the sign-in");
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
        let error = outcome.unwrap_err();
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
