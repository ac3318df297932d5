//! The SMTP sink: accepts any mail, records it in order of arrival, and fails on command. It is the relay behind Dovecot's
//! submission and can also be used directly.

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use anyhow::Result;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

use crate::listener::{Failures, Listener, hang, locked};

/// A mail that the sink accepted.
#[derive(Clone, Debug)]
pub struct SmtpMail {
    /// Envelope sender; empty for the null sender.
    pub from: String,
    /// Envelope recipients.
    pub to: Vec<String>,
    /// The mail as sent, without dot-stuffing, with CRLF line ends.
    pub data: Vec<u8>,
    /// The arrival time of its last line.
    pub received: SystemTime,
    /// Whether the sender received the success reply.
    pub answered: bool,
}

/// A failure that the sink can be ordered to produce.
#[derive(Clone, Debug)]
pub enum SmtpFailure {
    /// Replies with a code such as 451 or 550 at a stage; the mail is not accepted.
    Reply(SmtpStage, u16),
    /// Accepts and records the mail, then closes the connection without a reply.
    DropAfterData,
    /// Accepts and records the mail, then sends nothing more.
    HangAfterData,
}

/// The stage of a transaction at which a failing reply is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmtpStage {
    /// At `MAIL FROM`.
    Mail,
    /// At `RCPT TO`.
    Rcpt,
    /// At the end of the mail's data.
    Data,
}

/// The running sink.
pub struct SmtpSink {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    received: Mutex<Vec<SmtpMail>>,
    failures: Failures<SmtpFailure>,
}

impl SmtpSink {
    pub(crate) fn start(runtime: &Handle) -> Result<Self> {
        let shared = Arc::new(Shared {
            received: Mutex::new(Vec::new()),
            failures: Failures::new(),
        });
        let listener = Listener::start(runtime, {
            let shared = Arc::clone(&shared);
            move |stream| {
                let shared = Arc::clone(&shared);
                async move {
                    // A broken connection is the client's concern.
                    let _ = converse(stream, &shared).await;
                }
            }
        })?;
        Ok(Self { listener, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.listener.port
    }

    /// Returns every mail accepted since the start or the last [`clear`](Self::clear), oldest first.
    pub fn received(&self) -> Vec<SmtpMail> {
        locked(&self.shared.received).clone()
    }

    /// Orders `count` failures; each waits for a transaction that it applies to, in the order given.
    pub fn fail_next(&self, count: usize, failure: SmtpFailure) {
        self.shared.failures.order(count, failure);
    }

    /// Clears the mails and the waiting failures.
    pub fn clear(&self) {
        locked(&self.shared.received).clear();
        self.shared.failures.clear();
    }
}

impl Shared {
    /// Returns the failing reply ordered for this stage, if any.
    fn refusal(&self, at: SmtpStage) -> Option<String> {
        let fits =
            |failure: &SmtpFailure| matches!(failure, SmtpFailure::Reply(stage, _) if *stage == at);
        match self.failures.take_if(fits)? {
            SmtpFailure::Reply(_, code) => {
                Some(format!("{code} {}.3.0 Refused on command\r\n", code / 100))
            }
            SmtpFailure::DropAfterData | SmtpFailure::HangAfterData => None,
        }
    }
}

/// Serves one SMTP session (RFC 5321).
async fn converse(stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    stream.write_all(b"220 localhost ESMTP sink\r\n").await?;
    let mut from = None;
    let mut to = Vec::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        if stream.read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        let verb = text
            .split([' ', ':'])
            .next()
            .unwrap_or_default()
            .to_ascii_uppercase();
        let reply: String = match verb.as_str() {
            "EHLO" => {
                "250-localhost\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n\
                 250-PIPELINING\r\n250 SIZE 0\r\n"
                    .into()
            }
            "HELO" => "250 localhost\r\n".into(),
            "MAIL" => shared.refusal(SmtpStage::Mail).unwrap_or_else(|| {
                from = Some(path(text));
                to.clear();
                "250 2.1.0 Ok\r\n".into()
            }),
            "RCPT" if from.is_some() => shared.refusal(SmtpStage::Rcpt).unwrap_or_else(|| {
                to.push(path(text));
                "250 2.1.5 Ok\r\n".into()
            }),
            "DATA" if !to.is_empty() => {
                stream
                    .write_all(b"354 End data with <CR><LF>.<CR><LF>\r\n")
                    .await?;
                let data = data(&mut stream).await?;
                let mail = SmtpMail {
                    from: from.take().unwrap_or_default(),
                    to: std::mem::take(&mut to),
                    data,
                    received: SystemTime::now(),
                    answered: true,
                };
                match take(shared, mail) {
                    Outcome::Reply(reply) => reply,
                    Outcome::Drop => return Ok(()),
                    Outcome::Hang => {
                        hang(&mut stream).await;
                        return Ok(());
                    }
                }
            }
            "RSET" => {
                from = None;
                to.clear();
                "250 2.0.0 Ok\r\n".into()
            }
            "NOOP" => "250 2.0.0 Ok\r\n".into(),
            "QUIT" => {
                stream.write_all(b"221 2.0.0 Bye\r\n").await?;
                return Ok(());
            }
            "RCPT" | "DATA" => "503 5.5.1 Bad sequence of commands\r\n".into(),
            _ => "500 5.5.2 Unknown command\r\n".into(),
        };
        stream.write_all(reply.as_bytes()).await?;
    }
}

enum Outcome {
    Reply(String),
    Drop,
    Hang,
}

/// Decides on a complete mail, and records it unless it is refused.
fn take(shared: &Shared, mut mail: SmtpMail) -> Outcome {
    if let Some(refusal) = shared.refusal(SmtpStage::Data) {
        return Outcome::Reply(refusal);
    }
    let silence = shared
        .failures
        .take_if(|failure| !matches!(failure, SmtpFailure::Reply(..)));
    mail.answered = silence.is_none();
    let mut received = locked(&shared.received);
    received.push(mail);
    match silence {
        None => Outcome::Reply(format!("250 2.0.0 Ok: taken as {}\r\n", received.len())),
        Some(SmtpFailure::HangAfterData) => Outcome::Hang,
        Some(_) => Outcome::Drop,
    }
}

/// Reads a mail up to the line with the single dot, removing the dot-stuffing (RFC 5321 section 4.5.2).
async fn data(stream: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let start = data.len();
        if stream.read_until(b'\n', &mut data).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        if data[start..] == *b".\r\n" {
            data.truncate(start);
            return Ok(data);
        }
        if data[start] == b'.' {
            data.remove(start);
        }
    }
}

/// Returns the address between the angle brackets of MAIL or RCPT.
fn path(command: &str) -> String {
    command
        .split_once('<')
        .and_then(|(_, rest)| rest.split_once('>'))
        .map(|(address, _)| address.to_owned())
        .unwrap_or_default()
}
