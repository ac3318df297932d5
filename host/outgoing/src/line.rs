//! The way to a submission server up to where its protocol takes over: name, TCP, STARTTLS, TLS, each failing by a name of its own.
//!
//! lettre would do all of it in one call. Here the steps are apart, so that each is timed and its failure known, all that is
//! said can be recorded, and nothing that was slipped in before the handshake is taken for the server's word after it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use lettre::transport::smtp::client::AsyncTokioStream;
use lettre::transport::smtp::extension::{ClientId, Extension, ServerInfo};
use lettre::transport::smtp::response::Response;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use crate::error::{SendError, Step, Unreachable, tidy};
use crate::tap::Tap;

/// The longest answer that is read before the handshake, in bytes.
const ANSWER_BYTES: usize = 16 * 1024;

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// The byte stream under an SMTP connection.
pub(crate) struct Line {
    stream: Box<dyn Stream>,
    peer: SocketAddr,
    /// Read already, and given before anything else.
    ahead: Bytes,
    tap: Option<Tap>,
}

impl Line {
    /// Resolves the name and connects to the first of its addresses that answers.
    pub(crate) async fn dial(host: &str, port: u16, tap: Option<Tap>) -> Result<Self, SendError> {
        let unreachable = |why, problem| SendError::Unreachable { why, problem };
        let addresses: Vec<SocketAddr> = lookup_host((host, port))
            .await
            .map_err(|error| unreachable(Unreachable::UnknownHost, format!("{host}: {error}")))?
            .collect();
        let connected = async {
            let tcp = TcpStream::connect(addresses.as_slice()).await?;
            tcp.set_nodelay(true)?;
            let peer = tcp.peer_addr()?;
            Ok((tcp, peer))
        };
        let (tcp, peer) = connected.await.map_err(|error: io::Error| {
            let why = match error.kind() {
                io::ErrorKind::ConnectionRefused => Unreachable::Refused,
                _ => Unreachable::Other,
            };
            unreachable(why, format!("{host}:{port}: {error}"))
        })?;
        Ok(Self {
            stream: Box::new(tcp),
            peer,
            ahead: Bytes::new(),
            tap,
        })
    }

    /// The address that answered.
    pub(crate) fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Puts TLS over the stream. Gives its version, too.
    pub(crate) async fn secure(
        self,
        tls: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(Self, String), SendError> {
        let connecting = TlsConnector::from(tls.clone()).connect(name, self.stream);
        let stream = connecting.await.map_err(|error| {
            let about_tls = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match about_tls {
                Some(cause) => SendError::Tls {
                    problem: cause.to_string(),
                    cause: Some(cause.clone()),
                },
                None => lost(Step::Tls, &error),
            }
        })?;
        let version = stream.get_ref().1.protocol_version();
        let version = version.and_then(|version| version.as_str());
        let line = Self {
            stream: Box::new(stream),
            ..self
        };
        Ok((line, version.map_or_else(|| "TLS".into(), version_in_words)))
    }

    /// The server's greeting, as it came.
    pub(crate) async fn greeting(&mut self) -> Result<Bytes, SendError> {
        let (greeting, said) = self.answer(Step::Hello).await?;
        accepted(Step::Hello, &said)?;
        Ok(greeting)
    }

    /// Asks for TLS (RFC 3207), up to the handshake. The greeting is kept for whoever reads the line next: after the
    /// handshake a server gives none.
    pub(crate) async fn start_tls(
        &mut self,
        hello: &ClientId,
        greeting: Bytes,
    ) -> Result<(), SendError> {
        self.say(Step::Tls, &format!("EHLO {hello}\r\n")).await?;
        let (_, said) = self.answer(Step::Tls).await?;
        accepted(Step::Tls, &said)?;
        let offers = ServerInfo::from_response(&said)
            .is_ok_and(|server| server.supports_feature(Extension::StartTls));
        if !offers {
            return Err(SendError::Unsupported {
                step: Step::Tls,
                feature: "STARTTLS",
            });
        }
        self.say(Step::Tls, "STARTTLS\r\n").await?;
        let (_, said) = self.answer(Step::Tls).await?;
        accepted(Step::Tls, &said)?;
        if !self.ahead.is_empty() {
            return Err(SendError::Tls {
                problem: "data came between STARTTLS and the handshake".into(),
                cause: None,
            });
        }
        self.ahead = greeting;
        Ok(())
    }

    async fn say(&mut self, step: Step, command: &str) -> Result<(), SendError> {
        let said = self.write_all(command.as_bytes()).await;
        said.map_err(|error| lost(step, &error))
    }

    /// One answer of the server, as it came and as it reads. What comes after it is left to be read.
    async fn answer(&mut self, step: Step) -> Result<(Bytes, Response), SendError> {
        let mut heard = Vec::new();
        loop {
            if let Some(end) = answer_end(&heard) {
                let rest = heard.split_off(end);
                let text = std::str::from_utf8(&heard).ok();
                let response = text.and_then(|text| text.parse().ok());
                self.ahead = rest.into();
                return match response {
                    Some(response) => Ok((heard.into(), response)),
                    None => Err(no_answer(step, &heard)),
                };
            }
            if heard.len() > ANSWER_BYTES {
                return Err(no_answer(step, &heard));
            }
            match self.read_buf(&mut heard).await {
                Ok(0) => return Err(lost(step, &io::ErrorKind::UnexpectedEof.into())),
                Ok(_) => {}
                Err(error) => return Err(lost(step, &error)),
            }
        }
    }
}

/// `TLSv1_3` as people write it.
fn version_in_words(name: &str) -> String {
    name.replace("TLSv", "TLS ").replace('_', ".")
}

/// Where the first answer (RFC 5321 section 4.2.1) ends, once it is whole.
fn answer_end(heard: &[u8]) -> Option<usize> {
    let mut start = 0;
    loop {
        let end = start + heard[start..].iter().position(|b| *b == b'\n')? + 1;
        let goes_on = matches!(heard[start..end], [a, b, c, b'-', ..] if [a, b, c].iter().all(u8::is_ascii_digit));
        if !goes_on {
            return Some(end);
        }
        start = end;
    }
}

fn accepted(step: Step, said: &Response) -> Result<(), SendError> {
    if said.is_positive() {
        return Ok(());
    }
    Err(SendError::Transient {
        step,
        code: Some(said.code().into()),
        problem: tidy(&said.message().collect::<Vec<_>>().join(" ")),
    })
}

fn no_answer(step: Step, heard: &[u8]) -> SendError {
    SendError::Transient {
        step,
        code: None,
        problem: tidy(&format!(
            "this is no answer of a mail server: {}",
            String::from_utf8_lossy(heard)
        )),
    }
}

fn lost(step: Step, error: &io::Error) -> SendError {
    SendError::Transient {
        step,
        code: None,
        problem: match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
            _ => error.to_string(),
        },
    }
}

impl AsyncTokioStream for Line {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}

impl AsyncRead for Line {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.ahead.has_remaining() {
            let len = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(&self.ahead.split_to(len));
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if let Some(tap) = &mut self.tap {
            tap.received(&buffer.filled()[before..]);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Line {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
        if let (Some(tap), Some(sent)) = (&mut self.tap, bytes.get(..written)) {
            tap.sent(sent);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_last_line() {
        for (heard, end) in [
            ("220 hello\r\n", Some(11)),
            ("220-hello\r\n", None),
            ("220-a\r\n220 b\r\n250 more", Some(14)),
            ("220 hel", None),
            ("SSH-2.0\r\n", Some(9)),
            ("\r\n", Some(2)),
            ("", None),
        ] {
            assert_eq!(answer_end(heard.as_bytes()), end, "{heard:?}");
        }
    }
}
