//! Servers that do what no honest one does, for clients of any protocol: one player of hostile behaviours over plain sockets, the
//! behaviours that concern HTTP, and certificates that no client may accept.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Result;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// The pause between two bytes of a drip.
const DRIP_PAUSE: Duration = Duration::from_millis(10);
/// The bytes that a flood writes at a time.
const FLOOD_BYTES: usize = 64 * 1024;
/// The most that a flood sends: more than any client may read.
const FLOOD_BYTES_MAX: u64 = 1024 * 1024 * 1024;
/// How often a waiting server looks whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The behaviour of a server, the same for every connection.
#[derive(Debug, Clone)]
pub struct Hostility {
    /// Sent first.
    pub first: Vec<u8>,
    pub then: Then,
    /// Whether something of the client must arrive before the first byte is sent.
    pub listens: bool,
}

/// The behaviour after the first bytes.
#[derive(Debug, Clone)]
pub enum Then {
    /// The connection is closed.
    Close,
    /// The connection stays half-open: nothing follows, and nothing is closed.
    Stall,
    /// These bytes follow again and again, one at a time, with a pause after each.
    Drip(Vec<u8>),
    /// These bytes follow again and again, as fast as the client takes them.
    Flood(Vec<u8>),
}

/// Why no client may accept a certificate for `localhost`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCertificate {
    WrongName,
    Expired,
    SelfSigned,
}

/// A hostile server. It ends when dropped.
pub struct Hostile {
    port: u16,
    counts: Arc<Counts>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Counts {
    is_over: AtomicBool,
    connections: AtomicUsize,
    sent: AtomicU64,
}

impl Hostility {
    /// Sends this once the client has spoken.
    pub fn new(first: impl Into<Vec<u8>>, then: Then) -> Self {
        Self {
            first: first.into(),
            then,
            listens: true,
        }
    }

    /// Plays this to one client. Returns the number of bytes that it took.
    pub fn play(&self, stream: TcpStream) -> u64 {
        let counts = Counts::default();
        // A client that goes away is not the server's concern.
        let _ = self.run(stream, &counts);
        counts.sent.load(Ordering::Relaxed)
    }

    fn run(&self, mut stream: TcpStream, counts: &Counts) -> io::Result<()> {
        stream.set_nonblocking(false)?;
        if self.listens {
            wait_for_bytes(&mut stream, counts)?;
        }
        let mut send = |bytes: &[u8]| {
            stream.write_all(bytes)?;
            counts.sent.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            Ok::<_, io::Error>(())
        };
        send(&self.first)?;
        match &self.then {
            Then::Close => {
                // Closing with unread bytes would take what was sent away from the client.
                stream.shutdown(Shutdown::Write)?;
                drain(&mut stream, counts)
            }
            Then::Stall => drain(&mut stream, counts),
            Then::Drip(bytes) => {
                for byte in bytes.iter().cycle() {
                    if counts.is_over.load(Ordering::Relaxed) {
                        break;
                    }
                    send(&[*byte])?;
                    std::thread::sleep(DRIP_PAUSE);
                }
                Ok(())
            }
            Then::Flood(bytes) => {
                let block = bytes.repeat(FLOOD_BYTES.div_ceil(bytes.len()));
                stream.set_write_timeout(Some(LOOK_EVERY))?;
                while !counts.is_over.load(Ordering::Relaxed)
                    && counts.sent.load(Ordering::Relaxed) < FLOOD_BYTES_MAX
                {
                    match stream.write(&block) {
                        Ok(sent) => counts.sent.fetch_add(sent as u64, Ordering::Relaxed),
                        Err(error) if is_pause(&error) => continue,
                        Err(error) => return Err(error),
                    };
                }
                Ok(())
            }
        }
    }
}

/// Returns what a hostile server can answer to an HTTP request, by name. `status` is the status of answers whose head is well-formed,
/// such as `200 OK`.
pub fn http_hostilities(status: &str) -> Vec<(&'static str, Hostility)> {
    let head =
        |fields: &str| format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\n{fields}");
    let closes = |text: String| Hostility::new(text, Then::Close);
    let floods = |text: String, with: &str| Hostility::new(text, Then::Flood(with.into()));
    let drips = |text: String, with: &str| Hostility::new(text, Then::Drip(with.into()));
    vec![
        ("silence", Hostility::new("", Then::Stall)),
        ("an end without an answer", closes(String::new())),
        ("half a head", Hostility::new(head("X: y"), Then::Stall)),
        ("a head byte by byte", drips(head("X: "), "a")),
        ("endless header lines", floods(head(""), "X: y\r\n")),
        ("an endless header line", floods(head("X: "), "a")),
        (
            "endless interim answers",
            floods(String::new(), "HTTP/1.1 100 Continue\r\n\r\n"),
        ),
        (
            "half a body",
            Hostility::new(head("Content-Length: 100\r\n\r\n{"), Then::Stall),
        ),
        (
            "a body byte by byte",
            drips(head("Content-Length: 1000000\r\n\r\n"), " "),
        ),
        (
            "a length that is too long",
            closes(head("Content-Length: 100\r\n\r\n{}")),
        ),
        (
            "a length that is too short",
            closes(head("Content-Length: 1\r\n\r\n{\"value\":[]}")),
        ),
        (
            "two lengths",
            closes(head("Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}")),
        ),
        (
            "a length beyond all numbers",
            closes(head("Content-Length: 99999999999999999999999\r\n\r\n{}")),
        ),
        (
            "2 GiB announced and sent",
            floods(head("Content-Length: 2147483648\r\n\r\n"), " "),
        ),
        ("a body without end", floods(head("\r\n"), " ")),
        (
            "invalid chunks",
            closes(head(
                "Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            )),
        ),
        (
            "a chunk of 2^64 bytes",
            floods(
                head("Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF0\r\n"),
                " ",
            ),
        ),
        (
            "a chunk extension without end",
            floods(head("Transfer-Encoding: chunked\r\n\r\n1;x="), "a"),
        ),
        (
            "chunks cut off",
            closes(head("Transfer-Encoding: chunked\r\n\r\n5\r\n{")),
        ),
        (
            "a compressed body",
            closes(head(
                "Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n\u{1f}x",
            )),
        ),
        (
            "another protocol",
            Hostility::new("* OK IMAP4rev1 ready\r\n", Then::Stall),
        ),
        (
            "binary data",
            Hostility::new((0..=255).collect::<Vec<u8>>(), Then::Close),
        ),
    ]
}

impl Hostile {
    /// Starts a server in clear text.
    pub fn start(hostility: Hostility) -> Result<Self> {
        Self::serving(move |stream, counts| hostility.run(stream, counts))
    }

    /// Starts a server with a certificate that no client may accept. Also returns the authority's certificate, which the client
    /// trusts unless the certificate is self-signed.
    pub fn start_tls(certificate: BadCertificate) -> Result<(Self, String)> {
        let (config, authority) = server_config(certificate)?;
        let server = Self::serving(move |stream, counts| {
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            let connection = ServerConnection::new(config.clone()).map_err(io::Error::other)?;
            let mut stream = StreamOwned::new(connection, stream);
            // A client that accepts the certificate is counted.
            stream.read_exact(&mut [0])?;
            counts.sent.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        Ok((server, authority))
    }

    fn serving(
        play: impl Fn(TcpStream, &Counts) -> io::Result<()> + Send + Sync + 'static,
    ) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        let port = listener.local_addr()?.port();
        let counts = Arc::new(Counts::default());
        let serving = counts.clone();
        let play = Arc::new(play);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.is_over.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                serving.connections.fetch_add(1, Ordering::SeqCst);
                let (serving, play) = (serving.clone(), play.clone());
                std::thread::spawn(move || play(stream, &serving));
            }
        });
        Ok(Self {
            port,
            counts,
            accepting: Some(accepting),
        })
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn connections(&self) -> usize {
        self.counts.connections.load(Ordering::SeqCst)
    }

    /// Returns the number of bytes that clients took; for a bad certificate, the number of clients that accepted it.
    pub fn sent(&self) -> u64 {
        self.counts.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.counts.is_over.store(true, Ordering::SeqCst);
        // Wakes the thread.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// Waits until the client has sent something.
fn wait_for_bytes(stream: &mut TcpStream, counts: &Counts) -> io::Result<()> {
    read_some(stream, counts).map(drop)
}

/// Reads until the client goes away.
fn drain(stream: &mut TcpStream, counts: &Counts) -> io::Result<()> {
    while read_some(stream, counts)? > 0 {}
    Ok(())
}

/// Reads some bytes. Returns 0 when the client or the server is over.
fn read_some(stream: &mut TcpStream, counts: &Counts) -> io::Result<usize> {
    stream.set_read_timeout(Some(LOOK_EVERY))?;
    let mut space = [0; 16 * 1024];
    while !counts.is_over.load(Ordering::Relaxed) {
        match stream.read(&mut space) {
            Err(error) if is_pause(&error) => {}
            read => return read,
        }
    }
    Ok(0)
}

fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn server_config(certificate: BadCertificate) -> Result<(Arc<ServerConfig>, String)> {
    let name = match certificate {
        BadCertificate::WrongName => "elsewhere.example",
        BadCertificate::Expired | BadCertificate::SelfSigned => "localhost",
    };
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    if certificate == BadCertificate::Expired {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 2, 1);
    }
    let key = KeyPair::generate()?;
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(DnType::CommonName, "Postroom hostile CA");
    let authority = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);
    let signed = match certificate {
        BadCertificate::SelfSigned => params.self_signed(&key)?,
        BadCertificate::WrongName | BadCertificate::Expired => params.signed_by(&key, &issuer)?,
    };
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![signed.der().clone()], key)?;
    Ok((Arc::new(config), authority))
}
