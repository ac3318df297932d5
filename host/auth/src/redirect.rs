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
