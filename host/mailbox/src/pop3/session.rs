//! One POP3 session: sends commands and reads their replies to the end, each under a deadline.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postroom_net::{
    ProbeReporter, Step, Stream, TlsMode, Trace, TraceRedactor, dial, handshake,
    handshake_after_starttls, is_loopback, server_name, within,
};
use tokio::time::{Instant, timeout_at};

use super::reply::{Code, Reply, shown};
use super::tap::Tap;
use super::wire::{Body, Reading, Wire, WireError};
use super::{Pop3Settings, Pop3Timeouts};
use crate::SourceError;

/// An open session.
pub(super) struct Session {
    wire: Wire,
    timeouts: Pop3Timeouts,
    /// In upper case, with their parameters.
    capabilities: Vec<String>,
    /// Whether the server refused TOP.
    pub has_no_top: bool,
    /// Set while a command is in progress: a session left in that state is out of step and must be discarded.
    pub busy: bool,
    /// Redacted from everything that the server sends.
    secrets: TraceRedactor,
    trace: Option<Trace>,
}

/// The result of requesting a mail.
pub(super) enum Given {
    Whole(Body),
    /// The server sent more than is allowed. The session is out of step.
    Overrun(Body),
    Refused(Reply),
}

/// The most capabilities that are kept.
const CAPABILITIES: usize = 256;
/// How much is quoted of a line that is not a reply.
const QUOTED_BYTES: usize = 80;
/// A command's deadline is extended by the time that its data takes at this rate.
const BYTES_PER_SEC_MIN: u64 = 16 * 1024;

impl Session {
    /// Connects, with TLS as configured, and reads the greeting.
    pub async fn open(
        settings: &Pop3Settings,
        tls: &Arc<rustls::ClientConfig>,
        trace: Option<&Trace>,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<Self, SourceError> {
        if settings.tls == TlsMode::None && !is_loopback(&settings.host) {
            return Err(SourceError::Unusable {
                step: Step::Connect,
                reason: format!(
                    "without TLS, secrets would be sent in clear to {}",
                    settings.host
                ),
            });
        }
        let limit = settings.timeouts.connect;
        let (host, port) = (&settings.host, settings.port);
        let proxy = settings.proxies.for_mail(host);
        let tcp = dial(host, port, proxy, limit, None).await?;
        probe.connected(host, port, proxy, &tcp);
        let stream: Box<dyn Stream> = match settings.tls {
            TlsMode::Implicit => {
                let securing = handshake(server_name(&settings.host)?, tls, tcp);
                let (stream, version) = within(Step::Tls, limit, securing).await?;
                probe.passed(Step::Tls, || version);
                stream
            }
            TlsMode::StartTls | TlsMode::None => Box::new(tcp),
        };
        let mut session = Self::over(stream, settings, trace);
        let greeting = session.greeting().await?;
        probe.passed(Step::Greeting, || greeting);
        if settings.tls == TlsMode::StartTls {
            let reply = session.command(Step::Tls, "STLS").await?;
            if !reply.is_ok {
                return Err(SourceError::Tls {
                    reason: format!("STLS refused: {}", reply.text),
                    cause: None,
                });
            }
            let name = server_name(&settings.host)?;
            let securing = handshake_after_starttls(name, tls, session.wire.into_stream());
            let (stream, version) = within(Step::Tls, limit, securing).await?;
            probe.passed(Step::Tls, || format!("STLS, {version}"));
            session = Self::over(stream, settings, trace);
        }
        Ok(session)
    }

    fn over(stream: Box<dyn Stream>, settings: &Pop3Settings, trace: Option<&Trace>) -> Self {
        Self {
            wire: Wire::new(stream, trace.cloned().map(Tap::new)),
            timeouts: settings.timeouts,
            capabilities: Vec::new(),
            has_no_top: false,
            busy: false,
            secrets: TraceRedactor::default(),
            trace: trace.cloned(),
        }
    }

    /// Redacts these secrets from everything that the server sends from now on.
    pub fn hide(&mut self, secrets: TraceRedactor) {
        if let Some(trace) = &self.trace {
            trace.hide(&secrets);
        }
        self.secrets.extend(&secrets);
    }

    /// Returns a text from the server in a form that may be shown and stored.
    pub fn redacted(&self, text: &str) -> String {
        self.secrets.redact(text)
    }

    async fn greeting(&mut self) -> Result<String, SourceError> {
        let limit = self.timeouts.connect.min(self.timeouts.stall);
        let line = self.next(Step::Greeting, Instant::now() + limit).await;
        let line = line.map_err(|error| match error {
            // Its own limit is shorter than that of commands.
            SourceError::Timeout { step, .. } => SourceError::Timeout {
                step,
                secs: limit.as_secs(),
            },
            error => error,
        })?;
        let reply = self.reply(Step::Greeting, &line)?;
        if !reply.is_ok && reply.code.is_none() {
            // For example, because of too many connections.
            return Err(SourceError::Transient {
                step: Step::Greeting,
                reason: reply.text,
            });
        }
        Ok(reply.accepted(Step::Greeting)?.text)
    }

    /// Requests the capabilities (RFC 2449). A server without CAPA has none.
    pub async fn learn_capabilities(&mut self) -> Result<(), SourceError> {
        let mut capabilities = Vec::new();
        self.lines(Step::Authenticate, "CAPA", |line| {
            if capabilities.len() < CAPABILITIES {
                capabilities.push(String::from_utf8_lossy(line).trim().to_ascii_uppercase());
            }
            Ok(())
        })
        .await?;
        self.capabilities = capabilities;
        Ok(())
    }

    /// Returns whether the server offers a SASL mechanism; `name` is in upper case.
    pub fn offers(&self, name: &str) -> bool {
        self.capabilities.iter().any(|line| {
            let mut words = line.split_ascii_whitespace();
            words.next() == Some("SASL") && words.any(|word| word == name)
        })
    }

    /// Runs a command with a one-line reply.
    pub async fn command(&mut self, step: Step, command: &str) -> Result<Reply, SourceError> {
        let deadline = self.send(step, command).await?;
        self.end(step, deadline).await
    }

    /// Runs a command whose reply consists of lines up to a single dot, and passes each to `each`. Returns the status line; if it
    /// is an error, no lines followed.
    pub async fn lines(
        &mut self,
        step: Step,
        command: &str,
        mut each: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<Reply, SourceError> {
        let deadline = self.send(step, command).await?;
        let reply = self.end(step, deadline).await?;
        if !reply.is_ok {
            return Ok(reply);
        }
        self.busy = true;
        loop {
            let line = self.next(step, deadline).await?;
            match line.strip_prefix(b".") {
                Some(b"") => break,
                Some(stuffed) => each(stuffed)?,
                None => each(&line)?,
            }
        }
        self.busy = false;
        Ok(reply)
    }

    /// Runs a command whose reply is a mail of about `stated` bytes.
    pub async fn mail(
        &mut self,
        command: &str,
        stated: u64,
        mut body: Body,
    ) -> Result<Given, SourceError> {
        const STEP: Step = Step::Fetch;
        let deadline = self.send(STEP, command).await? + at_lowest_rate(stated);
        let reply = self.end(STEP, deadline).await?;
        if !reply.is_ok {
            return Ok(Given::Refused(reply));
        }
        self.busy = true;
        loop {
            match self.wire.body(&mut body) {
                Reading::More => self.fill(STEP, deadline).await?,
                Reading::Overrun => return Ok(Given::Overrun(body)),
                Reading::Ended => break,
            }
        }
        self.busy = false;
        Ok(Given::Whole(body))
    }

    /// Ends the session. Deletions take effect once the server has confirmed it. The server may be silent while it carries them
    /// out.
    pub async fn quit(&mut self, step: Step) -> Result<(), SourceError> {
        self.timeouts.stall = self.timeouts.command;
        self.command(step, "QUIT").await?.accepted(step)?;
        Ok(())
    }

    /// Sends a command, and returns the deadline for the end of its reply.
    pub async fn send(&mut self, step: Step, command: &str) -> Result<Instant, SourceError> {
        self.busy = true;
        self.wire.begin().map_err(|error| failed(step, &error))?;
        self.say(step, command, Instant::now() + self.timeouts.command)
            .await
    }

    /// Sends a line of an exchange in progress.
    pub async fn say(
        &mut self,
        step: Step,
        line: &str,
        deadline: Instant,
    ) -> Result<Instant, SourceError> {
        if line.contains(['\r', '\n', '\0']) {
            return Err(SourceError::Unusable {
                step,
                reason: "a value with a line break cannot be sent".into(),
            });
        }
        self.wire.queue(format!("{line}\r\n").as_bytes());
        let stalled = Instant::now() + self.timeouts.stall;
        match timeout_at(deadline.min(stalled), self.wire.flush()).await {
            Ok(flushed) => flushed.map_err(|error| failed(step, &error))?,
            Err(_) => return Err(self.late(step, deadline)),
        }
        Ok(deadline)
    }

    /// Returns the next line. Cancel-safe.
    pub async fn next(&mut self, step: Step, deadline: Instant) -> Result<Bytes, SourceError> {
        loop {
            if let Some(line) = self.wire.line().map_err(|error| failed(step, &error))? {
                return Ok(line);
            }
            self.fill(step, deadline).await?;
        }
    }

    /// Parses a line as the end of a command.
    pub fn reply(&mut self, step: Step, line: &[u8]) -> Result<Reply, SourceError> {
        let Some(mut reply) = Reply::read(line) else {
            let beginning = &line[..line.len().min(QUOTED_BYTES)];
            let beginning = self.redacted(&String::from_utf8_lossy(beginning));
            let beginning = shown(beginning.as_bytes());
            return Err(protocol(step, &format!("not a POP3 reply: {beginning}")));
        };
        self.busy = false;
        reply.text = self.redacted(&reply.text);
        if let Some(Code::Other(name)) = &mut reply.code {
            *name = self.secrets.redact(name);
        }
        Ok(reply)
    }

    async fn end(&mut self, step: Step, deadline: Instant) -> Result<Reply, SourceError> {
        let line = self.next(step, deadline).await?;
        self.reply(step, &line)
    }

    async fn fill(&mut self, step: Step, deadline: Instant) -> Result<(), SourceError> {
        let stalled = Instant::now() + self.timeouts.stall;
        match timeout_at(deadline.min(stalled), self.wire.fill()).await {
            Ok(filled) => filled.map_err(|error| failed(step, &error)),
            Err(_) => Err(self.late(step, deadline)),
        }
    }

    fn late(&self, step: Step, deadline: Instant) -> SourceError {
        let limit = match Instant::now() < deadline {
            true => self.timeouts.stall,
            false => self.timeouts.command,
        };
        SourceError::Timeout {
            step,
            secs: limit.as_secs(),
        }
    }
}

/// Returns the time that this many bytes may take.
fn at_lowest_rate(bytes: u64) -> Duration {
    Duration::from_secs(bytes / BYTES_PER_SEC_MIN)
}

pub(super) fn protocol(step: Step, reason: &str) -> SourceError {
    SourceError::Protocol {
        step,
        reason: reason.to_owned(),
    }
}

fn failed(step: Step, error: &WireError) -> SourceError {
    match error {
        WireError::Closed | WireError::Io(_) => SourceError::Transient {
            step,
            reason: error.to_string(),
        },
        WireError::LongLine | WireError::TooLong | WireError::OutOfStep => {
            protocol(step, &error.to_string())
        }
    }
}
