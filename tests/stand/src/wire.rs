//! A blocking, line-based connection to a port of the stand, plain or over TLS, for LMTP, IMAP, SMTP and HTTP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// The time that a server may stay silent before a read fails.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection.
pub struct Wire {
    stream: BufReader<Box<dyn Stream>>,
    /// The host in HTTP's Host header.
    host: String,
}

/// An HTTP answer.
pub struct Answer {
    pub status: u16,
    /// Names in lower case, in the order of arrival.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

impl Wire {
    /// Connects to a loopback port without encryption.
    pub fn plain(port: u16) -> Result<Self> {
        Ok(Self {
            stream: BufReader::new(Box::new(connect(port)?)),
            host: format!("localhost:{port}"),
        })
    }

    /// Connects to a loopback port with TLS, trusting only the CA in `ca_pem`.
    pub fn tls(port: u16, ca_pem: &Path) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca_pem).context("reading the stand's CA")?)?;
        let config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let session = ClientConnection::new(Arc::new(config), ServerName::try_from("localhost")?)?;
        Ok(Self {
            stream: BufReader::new(Box::new(StreamOwned::new(session, connect(port)?))),
            host: format!("localhost:{port}"),
        })
    }

    /// Sends bytes unchanged.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(bytes)?;
        stream.flush()?;
        Ok(())
    }

    /// Returns the next line without its line end. The end of the connection is an error.
    pub fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        if self.stream.read_until(b'\n', &mut line)? == 0 {
            bail!("the server closed the connection");
        }
        Ok(String::from_utf8_lossy(&line)
            .trim_end_matches(['\r', '\n'])
            .to_owned())
    }

    /// Returns exactly `length` bytes.
    pub fn exact(&mut self, length: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// Sends an SMTP or LMTP command and returns the last line of its reply (RFC 5321 section 4.2.1).
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.send(format!("{command}\r\n").as_bytes())?;
        self.reply()
    }

    /// Returns the last line of the next SMTP or LMTP reply.
    pub fn reply(&mut self) -> Result<String> {
        loop {
            let line = self.line()?;
            if line.as_bytes().get(3) != Some(&b'-') {
                return Ok(line);
            }
        }
    }

    /// Sends one HTTP request and returns status and body; the connection cannot be used again.
    pub fn http(
        self,
        method: &str,
        path: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<(u16, Vec<u8>)> {
        let answer = self.exchange(method, path, &[("Content-Type", content_type)], body)?;
        Ok((answer.status, answer.body))
    }

    /// Does the same with any headers, and also returns the response's headers; the connection cannot be used again.
    pub fn exchange(
        mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer> {
        // chromedriver does not support HTTP/1.0.
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n",
            self.host
        );
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        self.send(&[head.as_bytes(), body].concat())?;
        let status_line = self.line()?;
        let status = status_line
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .with_context(|| format!("not an HTTP status line: {status_line}"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let mut answer = Answer {
            status,
            headers,
            body: Vec::new(),
        };
        ensure!(
            answer.header("transfer-encoding").is_none(),
            "a chunked answer, which no server of the stand gives"
        );
        answer.body = match answer.header("content-length") {
            Some(length) => self.exact(length.parse()?)?,
            None => {
                let mut rest = Vec::new();
                self.stream.read_to_end(&mut rest)?;
                rest
            }
        };
        Ok(answer)
    }
}

impl Answer {
    /// Returns the first header of that name, which must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(header, _)| header == name)
            .map(|(_, value)| value.as_str())
    }
}

fn connect(port: u16) -> Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))
        .with_context(|| format!("connecting to port {port}"))?;
    stream.set_read_timeout(Some(READ_TIMEOUT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}
