//! The connection to a submission server: name, TCP and TLS, and above them complete replies in and bytes out.
//!
//! [`crate::smtp::reply`] bounds what the server sends. Every await is cancel-safe: partial input stays in the buffer.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use postroom_net::{
    ConnectError, Proxy, Step, Stream, TraceRedactor, dial, handshake_after_starttls,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::timeout;

use crate::smtp::error::{SendError, SmtpStep, tidy};
use crate::smtp::probe::Reporter;
use crate::smtp::reply::{Replies, Reply, ReplyError};
use crate::smtp::submit::SHUTTING_DOWN;
use crate::smtp::tap::Tap;

/// How much of a mail the kernel holds that the network has not taken yet. A larger buffer would hide a stall, and whether bytes
/// move.
const SEND_BUFFER_BYTES: u32 = 256 * 1024;
/// The number of bytes read at a time.
const READ_BYTES: usize = 4 * 1024;

/// The connection under an SMTP session.
pub(crate) struct Line {
    stream: Box<dyn Stream>,
    local: IpAddr,
    replies: Replies,
    /// Redacted from everything that the server sends.
    secrets: TraceRedactor,
    tap: Option<Tap>,
}

/// The result of a write.
enum Progress {
    Wrote(usize),
    /// The server sent something.
    Heard,
}

/// The result of sending the text of a mail.
pub(crate) enum Written {
    Whole,
    /// The server replied before its end.
    Answered(Reply),
}

impl Line {
    /// Connects within the time limit, and reports the connection to the probe.
    pub async fn dial(
        (host, port): (&str, u16),
        proxy: Option<&Proxy>,
        limit: Duration,
        tap: Option<Tap>,
        probe: &mut Reporter<'_>,
    ) -> Result<Self, SendError> {
        let tcp = dial(host, port, proxy, limit, Some(SEND_BUFFER_BYTES)).await?;
        probe.connected(host, port, proxy, &tcp);
        let local = tcp.local_addr();
        let local = local.map_err(|error| lost(SmtpStep::Connect, &error))?.ip();
        Ok(Self {
            stream: Box::new(tcp),
            local,
            replies: Replies::default(),
            secrets: TraceRedactor::default(),
            tap,
        })
    }

    /// Returns our own address.
    pub fn local(&self) -> IpAddr {
        self.local
    }

    /// Redacts these secrets from everything that the server sends from now on.
    pub fn hide(&mut self, secrets: TraceRedactor) {
        self.secrets = secrets;
    }

    /// Starts TLS on the stream. Also returns its version.
    pub async fn secure(
        self,
        tls: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(Self, String), SendError> {
        let drained = self.replies.is_empty().then_some(self.stream);
        let (stream, version) = handshake_after_starttls(name, tls, drained).await?;
        Ok((Self { stream, ..self }, version))
    }

    /// Writes a command with its line end.
    pub async fn say(&mut self, step: SmtpStep, command: &str) -> Result<(), SendError> {
        self.say_all(step, &[command]).await
    }

    /// Writes several commands at once, each with its line end.
    pub async fn say_all(&mut self, step: SmtpStep, commands: &[&str]) -> Result<(), SendError> {
        self.refuse_unasked(step)?;
        let mut text = String::new();
        for command in commands {
            let begin = text.len();
            text.push_str(command);
            text.push_str("\r\n");
            if let Some(tap) = &mut self.tap {
                tap.sent(&text.as_bytes()[begin..]);
            }
        }
        let said = async {
            self.stream.write_all(text.as_bytes()).await?;
            self.stream.flush().await
        };
        said.await.map_err(|error| lost(step, &error))
    }

    /// Fails if the server has sent something that no command asked for, since it would be taken for the reply to the next one. A
    /// server may always announce that it is shutting down (RFC 5321 section 3.8).
    fn refuse_unasked(&mut self, step: SmtpStep) -> Result<(), SendError> {
        if self.replies.is_empty() {
            return Ok(());
        }
        match self.buffered(step)? {
            Some(reply) if reply.code == SHUTTING_DOWN => Err(SendError::refused(
                step,
                reply.code,
                self.shown(&reply.text()),
            )),
            _ => Err(SendError::Transient {
                step,
                code: None,
                problem: "a reply to a command that was not sent".into(),
            }),
        }
    }

    /// Reads the next reply.
    pub async fn reply(&mut self, step: SmtpStep) -> Result<Reply, SendError> {
        loop {
            if let Some(reply) = self.buffered(step)? {
                return Ok(reply);
            }
            self.fill().await.map_err(|error| lost(step, &error))?;
        }
    }

    /// Writes the text of a mail, each write under the limit `stall`, and reads meanwhile: a server that refuses a mail midway
    /// says why before it hangs up. Sets `whole` before anything that could complete the mail.
    pub async fn write_text<'t>(
        &mut self,
        chunks: impl Iterator<Item = std::borrow::Cow<'t, [u8]>>,
        stall: Duration,
        whole: &mut bool,
    ) -> Result<Written, SendError> {
        let late = || SendError::Timeout {
            step: SmtpStep::Text,
            secs: stall.as_secs(),
        };
        self.refuse_unasked(SmtpStep::Text)?;
        let mut chunks = chunks.peekable();
        while let Some(chunk) = chunks.next() {
            let is_last = chunks.peek().is_none();
            let mut left = &chunk[..];
            while !left.is_empty() {
                let progress = timeout(stall, self.write_some(left)).await;
                match progress.map_err(|_| late())? {
                    Ok(Progress::Wrote(len)) => {
                        left = &left[len..];
                        *whole = is_last && left.is_empty();
                    }
                    Ok(Progress::Heard) => {
                        if let Some(reply) = self.buffered(SmtpStep::Text)? {
                            return Ok(Written::Answered(reply));
                        }
                    }
                    Err(error) => return self.last_words(error, stall).await,
                }
            }
        }
        match timeout(stall, self.stream.flush()).await {
            Ok(Ok(())) => Ok(Written::Whole),
            Ok(Err(error)) => self.last_words(error, stall).await,
            Err(_) => Err(late()),
        }
    }

    /// Returns the reply that a server sent before it ended the connection, otherwise the error of the failed write.
    async fn last_words(
        &mut self,
        error: io::Error,
        limit: Duration,
    ) -> Result<Written, SendError> {
        match timeout(limit, self.reply(SmtpStep::Text)).await {
            Ok(Ok(reply)) => Ok(Written::Answered(reply)),
            Ok(Err(_)) | Err(_) => Err(lost(SmtpStep::Text, &error)),
        }
    }

    /// Writes some bytes unless something is received first. Always reads: what is unread when the server hangs up can be lost
    /// with the connection.
    async fn write_some(&mut self, bytes: &[u8]) -> io::Result<Progress> {
        poll_fn(|context| {
            let mut space = [0; READ_BYTES];
            let mut heard = ReadBuf::new(&mut space);
            if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(context, &mut heard) {
                read?;
                if heard.filled().is_empty() {
                    return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                self.heard(heard.filled());
                return Poll::Ready(Ok(Progress::Heard));
            }
            let len = ready!(Pin::new(&mut self.stream).poll_write(context, bytes))?;
            if len == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if let Some(tap) = &mut self.tap {
                tap.sent(&bytes[..len]);
            }
            Poll::Ready(Ok(Progress::Wrote(len)))
        })
        .await
    }

    async fn fill(&mut self) -> io::Result<()> {
        let mut space = BytesMut::with_capacity(READ_BYTES);
        if self.stream.read_buf(&mut space).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.heard(&space);
        Ok(())
    }

    fn heard(&mut self, bytes: &[u8]) {
        if let Some(tap) = &mut self.tap {
            tap.received(bytes);
        }
        self.replies.input.extend_from_slice(bytes);
    }

    /// Returns the next reply that has already arrived.
    fn buffered(&mut self, step: SmtpStep) -> Result<Option<Reply>, SendError> {
        self.replies.next().map_err(|error| SendError::Transient {
            step,
            code: None,
            problem: match &error {
                ReplyError::Malformed(line) => {
                    let line = self.shown(&String::from_utf8_lossy(line));
                    format!("{error}: {line}")
                }
                ReplyError::LongLine | ReplyError::LongReply => error.to_string(),
            },
        })
    }

    /// Returns a text from the server in a form that may be shown and stored.
    pub fn shown(&self, text: &str) -> String {
        tidy(&self.secrets.redact(text))
    }
}

fn lost(step: SmtpStep, error: &io::Error) -> SendError {
    SendError::Transient {
        step,
        code: None,
        problem: match error.kind() {
            io::ErrorKind::UnexpectedEof => "the server closed the connection".into(),
            _ => error.to_string(),
        },
    }
}

impl From<ConnectError> for SendError {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Unreachable { why, reason } => SendError::Unreachable {
                why,
                problem: reason,
            },
            ConnectError::Tls { reason, cause } => SendError::Tls {
                problem: reason,
                cause,
            },
            ConnectError::Broken(error) => lost(SmtpStep::Tls, &error),
            ConnectError::Timeout { step, secs } => SendError::Timeout {
                step: match step {
                    Step::Connect => SmtpStep::Connect,
                    _ => SmtpStep::Tls,
                },
                secs,
            },
        }
    }
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Line")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}
