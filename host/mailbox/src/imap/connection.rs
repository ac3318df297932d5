//! One IMAP connection: sends commands and reads their responses to the end, each with a deadline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use postroom_net::{
    ProbeReporter, Step, Stream, TlsMode, Trace, TraceRedactor, dial, handshake,
    handshake_after_starttls, server_name, within,
};
use tokio::time::{Instant, timeout_at};

use super::read_ahead::ReadAhead;
use super::response::{Code, Done, Response, Status, TAG, Untagged, read, shown};
use super::tap::Tap;
use super::wire::{Piece, Wire, WireError};
use super::{ImapSettings, ImapTimeouts, folders, utf7};
use crate::SourceError;

/// An open connection.
pub(super) struct Connection {
    pub wire: Wire,
    timeouts: ImapTimeouts,
    last_tag: u32,
    capabilities: Vec<String>,
    unused: Vec<String>,
    pub selected: Option<Selected>,
    /// Whether the folder was opened just now, and the result has not been used yet.
    fresh: bool,
    /// The time of the last check for mail that became visible late, by folder.
    pub reconciled: HashMap<String, Instant>,
    /// The true names of folders that mail is moved to, by their names in the configuration.
    pub targets: HashMap<String, String>,
    /// Whether mail may have arrived in the open folder since it was last listed.
    pub news: bool,
    /// The running IDLE.
    pub idle: Option<Idle>,
    /// Whether the server refused IDLE although it advertises it.
    pub idle_refused: bool,
    /// Set while a command is running: a connection left in that state is out of step and must be discarded.
    pub busy: bool,
    /// The secrets to remove from all server texts.
    secrets: TraceRedactor,
    trace: Option<Trace>,
}

/// The open folder.
#[derive(Debug, Clone)]
pub(super) struct Selected {
    pub folder: String,
    pub uid_validity: u32,
    pub uid_next: Option<u32>,
    pub exists: u32,
    /// Whether the server permits reading mails, but not marking, moving or deleting them.
    pub read_only: bool,
}

pub(super) struct Idle {
    pub tag: u32,
    pub since: Instant,
}

/// The most data responses to one command; a server that sends more is broken.
const RESPONSES_MAX: usize = 5_000_000;
/// How much is quoted of a line that is not a response.
const QUOTED_BYTES: usize = 80;
/// The rate at which a command's deadline is extended for its data.
const BYTES_PER_SEC_MIN: u64 = 16 * 1024;

impl Connection {
    /// Connects, with TLS as configured, and reads the greeting. Returns whether the server reports that we are already
    /// signed in.
    pub async fn open(
        settings: &ImapSettings,
        tls: &Arc<rustls::ClientConfig>,
        trace: Option<&Trace>,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<(Self, bool), SourceError> {
        let limit = settings.timeouts.connect;
        let (host, port) = (&settings.host, settings.port);
        let proxy = settings.proxies.for_mail(host);
        let tcp = dial(host, port, proxy, limit, None).await?;
        probe.connected(host, port, proxy, &tcp);
        let tcp = ReadAhead::new(tcp);
        let stream: Box<dyn Stream> = match settings.tls {
            TlsMode::Implicit => {
                let securing = handshake(server_name(&settings.host)?, tls, tcp);
                let (stream, version) = within(Step::Tls, limit, securing).await?;
                probe.passed(Step::Tls, || version);
                stream
            }
            TlsMode::StartTls | TlsMode::None => Box::new(tcp),
        };
        let mut connection = Self::over(stream, settings, trace);
        let (signed_in, greeting) = connection.greeting().await?;
        probe.passed(Step::Greeting, || greeting);
        if settings.tls == TlsMode::StartTls {
            if signed_in {
                return Err(SourceError::Tls {
                    reason: "the server signs us in before TLS, so STARTTLS is not possible".into(),
                    cause: None,
                });
            }
            let done = connection.command(Step::Tls, "STARTTLS").await?;
            if done.status != Status::Ok {
                return Err(SourceError::Tls {
                    reason: format!("STARTTLS refused: {}", done.text),
                    cause: None,
                });
            }
            let name = server_name(&settings.host)?;
            let plain = connection.wire.into_stream();
            let securing = handshake_after_starttls(name, tls, plain);
            let (stream, version) = within(Step::Tls, limit, securing).await?;
            probe.passed(Step::Tls, || format!("STARTTLS, {version}"));
            connection = Self::over(stream, settings, trace);
        }
        Ok((connection, signed_in))
    }

    fn over(stream: Box<dyn Stream>, settings: &ImapSettings, trace: Option<&Trace>) -> Self {
        Self {
            wire: Wire::new(stream, trace.cloned().map(Tap::new)),
            timeouts: settings.timeouts,
            last_tag: 0,
            capabilities: Vec::new(),
            unused: settings.unused.clone(),
            selected: None,
            fresh: false,
            reconciled: HashMap::new(),
            targets: HashMap::new(),
            news: true,
            idle: None,
            idle_refused: false,
            busy: false,
            secrets: TraceRedactor::default(),
            trace: trace.cloned(),
        }
    }

    /// Removes these secrets from all server texts from now on.
    pub fn hide(&mut self, secrets: TraceRedactor) {
        if let Some(trace) = &self.trace {
            trace.hide(&secrets);
        }
        // A refused token may be quoted after the next one was sent.
        self.secrets.extend(&secrets);
    }

    /// Returns a server text that may be shown and stored.
    pub fn redacted(&self, text: &str) -> String {
        self.secrets.redact(text)
    }

    /// Returns whether the server reports that we are signed in, and its text.
    async fn greeting(&mut self) -> Result<(bool, String), SourceError> {
        let limit = self.timeouts.connect;
        let secs = limit.min(self.timeouts.stall).as_secs();
        let late = |error| match error {
            // The greeting's time limit is shorter than that of commands.
            SourceError::Timeout { step, .. } => SourceError::Timeout { step, secs },
            error => error,
        };
        let next = self.next(Step::Greeting, Instant::now() + limit).await;
        match next.map_err(late)? {
            Response::Untagged(Untagged::Status(done)) => match done.status {
                Status::Ok | Status::PreAuth => {
                    let words = match done.text.split_once("] ") {
                        Some((code, words)) if code.starts_with('[') => words.to_owned(),
                        _ => done.text,
                    };
                    Ok((done.status == Status::PreAuth, words))
                }
                _ => Err(SourceError::Transient {
                    step: Step::Greeting,
                    reason: done.text,
                }),
            },
            _ => Err(protocol(Step::Greeting, "no greeting")),
        }
    }

    /// Returns whether the server has a capability that may be used; `name` is in upper case.
    pub fn can(&self, name: &str) -> bool {
        self.capabilities.iter().any(|known| known == name)
            && !self.unused.iter().any(|unused| unused == name)
    }

    /// Requests the capabilities, unless the server's last response contained them.
    pub async fn learn_capabilities(&mut self) -> Result<(), SourceError> {
        if self.capabilities.is_empty() {
            self.accepted(Step::Authenticate, "CAPABILITY").await?;
        }
        Ok(())
    }

    /// Forgets the capabilities: they differ before and after the sign-in.
    pub fn forget_capabilities(&mut self) {
        self.capabilities.clear();
    }

    /// Returns the current state of a folder. An open folder is opened again: it may have been deleted and recreated since,
    /// and only SELECT shows that on every server.
    pub async fn look(&mut self, folder: &str) -> Result<Selected, SourceError> {
        if std::mem::take(&mut self.fresh)
            && let Some(selected) = &self.selected
            && selected.folder == folder
        {
            self.news = false;
            return Ok(selected.clone());
        }
        let selected = self.select(folder).await?;
        self.fresh = false;
        self.news = false;
        Ok(selected)
    }

    /// Opens a folder unless it is open: another SELECT would end a running IDLE.
    pub async fn open_folder(&mut self, folder: &str) -> Result<Selected, SourceError> {
        match &self.selected {
            Some(open) if open.folder == folder => Ok(open.clone()),
            _ => self.select(folder).await,
        }
    }

    /// Opens a folder, again if it is open.
    pub async fn select(&mut self, folder: &str) -> Result<Selected, SourceError> {
        self.selected = None;
        self.fresh = true;
        let (mut validity, mut next, mut exists) = (None, None, 0);
        let command = format!("SELECT {}", quoted(&utf7::encode(folder), Step::Select)?);
        let done = self
            .command_with(Step::Select, &command, 0, |untagged| {
                match untagged {
                    Untagged::Status(Done {
                        code: Some(code), ..
                    }) => match code {
                        Code::UidValidity(n) => validity = Some(n),
                        Code::UidNext(n) => next = Some(n),
                        _ => {}
                    },
                    Untagged::Exists(n) => exists = n,
                    _ => {}
                }
                Ok(())
            })
            .await?;
        if done.status != Status::Ok {
            if matches!(done.code, Some(Code::Passing | Code::Limit)) {
                return Err(refusal(Step::Select, done));
            }
            let listed = match self.lists(folder).await {
                // Nothing works, so this folder is not the cause.
                Ok(None) | Err(_) if done.status == Status::Bad => {
                    return Err(SourceError::NotConnected { text: done.text });
                }
                listed => listed?,
            };
            return Err(SourceError::Folder {
                missing: done.code == Some(Code::NonExistent) || listed == Some(false),
                folder: folder.to_owned(),
                text: done.text,
            });
        }
        let selected = Selected {
            read_only: done.code == Some(Code::ReadOnly),
            folder: folder.to_owned(),
            uid_validity: validity.ok_or_else(|| protocol(Step::Select, "no UIDVALIDITY"))?,
            uid_next: next,
            exists,
        };
        self.news = true;
        Ok(self.selected.insert(selected).clone())
    }

    /// Returns whether the server's list of folders contains this one; `None` if it returns no list. Few servers give a
    /// reason for refusing to open a folder.
    async fn lists(&mut self, folder: &str) -> Result<Option<bool>, SourceError> {
        let (listed, done) = folders::list(self, Step::Select, &utf7::encode(folder)).await?;
        let listed = listed.is_some();
        Ok((listed || done.status == Status::Ok).then_some(listed))
    }

    /// Runs a command and returns how it ended; data responses are recorded and dropped.
    pub async fn command(&mut self, step: Step, command: &str) -> Result<Done, SourceError> {
        self.command_with(step, command, 0, |_| Ok(())).await
    }

    /// Like [`Self::command`], but any end other than OK is an error.
    pub async fn accepted(&mut self, step: Step, command: &str) -> Result<(), SourceError> {
        let done = self.command(step, command).await?;
        ended_ok(step, done)
    }

    /// Like [`Self::command`], for commands such as copying, during which a server may be silent: their whole time may pass
    /// without a byte.
    pub async fn patiently(&mut self, step: Step, command: &str) -> Result<Done, SourceError> {
        let stall = std::mem::replace(&mut self.timeouts.stall, self.timeouts.command);
        let done = self.command(step, command).await;
        self.timeouts.stall = stall;
        done
    }

    /// Runs a command whose response may contain `bytes` of literals, and passes each data response to `each`.
    pub async fn command_with(
        &mut self,
        step: Step,
        command: &str,
        bytes: u64,
        mut each: impl FnMut(Untagged) -> Result<(), SourceError>,
    ) -> Result<Done, SourceError> {
        self.end_idle().await?;
        self.busy = true;
        let tag = self.send(command);
        let deadline = self.deadline(bytes);
        self.flush(step, deadline).await?;
        for _ in 0..RESPONSES_MAX {
            match self.next(step, deadline).await? {
                Response::Tagged { tag: ended, done } if ended == tag => {
                    self.busy = false;
                    return Ok(done);
                }
                Response::Untagged(untagged) => each(untagged)?,
                _ => return Err(protocol(step, "a response to another command")),
            }
        }
        Err(protocol(step, "endless responses"))
    }

    /// Puts a tagged command into the send buffer and returns its tag.
    pub fn send(&mut self, command: &str) -> u32 {
        self.last_tag = self.last_tag.wrapping_add(1);
        self.wire.begin();
        self.wire
            .queue(format!("{TAG}{} {command}\r\n", self.last_tag).as_bytes());
        self.last_tag
    }

    /// Returns the deadline of a command whose response contains `bytes` of literals.
    pub fn deadline(&self, bytes: u64) -> Instant {
        Instant::now() + self.timeouts.command + Duration::from_secs(bytes / BYTES_PER_SEC_MIN)
    }

    /// Sends the contents of the send buffer. Cancel-safe.
    pub async fn flush(&mut self, step: Step, deadline: Instant) -> Result<(), SourceError> {
        let stalled = Instant::now() + self.timeouts.stall;
        match timeout_at(deadline.min(stalled), self.wire.flush()).await {
            Ok(flushed) => flushed.map_err(|error| failed(step, &error)),
            Err(_) => Err(self.late(step, deadline)),
        }
    }

    /// Returns the next response. Information about the connection itself is recorded here. Cancel-safe.
    pub async fn next(&mut self, step: Step, deadline: Instant) -> Result<Response, SourceError> {
        loop {
            if let Some(response) = self.buffered(step)? {
                return Ok(response);
            }
            let stalled = Instant::now() + self.timeouts.stall;
            match timeout_at(deadline.min(stalled), self.wire.fill()).await {
                Ok(filled) => filled.map_err(|error| failed(step, &error))?,
                Err(_) => return Err(self.late(step, deadline)),
            }
        }
    }

    /// Returns the next response that has already arrived. Never waits.
    pub fn buffered(&mut self, step: Step) -> Result<Option<Response>, SourceError> {
        let Some(pieces) = self.wire.response().map_err(|error| failed(step, &error))? else {
            return Ok(None);
        };
        let mut response = read(&pieces).ok_or_else(|| {
            let beginning = match pieces.first() {
                Some(Piece::Text(text)) => &text[..text.len().min(QUOTED_BYTES)],
                _ => b"",
            };
            let beginning = self.redacted(&String::from_utf8_lossy(beginning));
            protocol(
                step,
                &format!("not an IMAP response: {}", shown(beginning.as_bytes())),
            )
        })?;
        if let Response::Untagged(Untagged::Status(done)) | Response::Tagged { done, .. } =
            &mut response
            && done.status != Status::Ok
        {
            done.text = self.redacted(&done.text);
            if let Some(Code::Other(name)) = &mut done.code {
                *name = self.secrets.redact(name);
            }
        }
        self.note(step, &response)?;
        Ok(Some(response))
    }

    fn note(&mut self, step: Step, response: &Response) -> Result<(), SourceError> {
        let code = match response {
            Response::Untagged(Untagged::Status(done)) if done.status == Status::Bye => {
                let reason = format!("the server ended the session: {}", done.text);
                return Err(match done.code {
                    Some(Code::Limit) => SourceError::OverLimit {
                        step,
                        text: reason,
                        retry_after: None,
                    },
                    _ => SourceError::Transient { step, reason },
                });
            }
            Response::Untagged(Untagged::Capability(list)) => {
                self.capabilities.clone_from(list);
                return Ok(());
            }
            Response::Untagged(Untagged::Exists(n)) => {
                if let Some(selected) = &mut self.selected {
                    if *n > selected.exists {
                        self.news = true;
                        // Its UID is beyond what SELECT reported.
                        self.fresh = false;
                    }
                    selected.exists = *n;
                }
                return Ok(());
            }
            Response::Untagged(Untagged::Expunge) => {
                if let Some(selected) = &mut self.selected {
                    selected.exists = selected.exists.saturating_sub(1);
                }
                return Ok(());
            }
            Response::Untagged(Untagged::Status(done)) | Response::Tagged { done, .. } => {
                &done.code
            }
            _ => return Ok(()),
        };
        if let Some(Code::Capability(list)) = code {
            self.capabilities.clone_from(list);
        }
        Ok(())
    }

    /// Ends the running IDLE, if any (RFC 2177).
    pub async fn end_idle(&mut self) -> Result<(), SourceError> {
        let Some(idle) = &self.idle else {
            return Ok(());
        };
        let tag = idle.tag;
        self.busy = true;
        self.wire.queue(b"DONE\r\n");
        let deadline = self.deadline(0);
        self.flush(Step::Wait, deadline).await?;
        for _ in 0..RESPONSES_MAX {
            if let Response::Tagged { tag: ended, .. } = self.next(Step::Wait, deadline).await?
                && ended == tag
            {
                self.idle = None;
                self.busy = false;
                return Ok(());
            }
        }
        Err(protocol(Step::Wait, "endless responses"))
    }

    fn late(&self, step: Step, deadline: Instant) -> SourceError {
        let limit = if Instant::now() < deadline {
            self.timeouts.stall
        } else {
            self.timeouts.command
        };
        SourceError::Timeout {
            step,
            secs: limit.as_secs(),
        }
    }
}

/// Returns an error for any end other than OK.
pub(super) fn ended_ok(step: Step, done: Done) -> Result<(), SourceError> {
    match done.status {
        Status::Ok => Ok(()),
        _ => Err(refusal(step, done)),
    }
}

/// Returns a refused command as an error.
pub(super) fn refusal(step: Step, done: Done) -> SourceError {
    let text = done.text;
    match done.code {
        Some(Code::Passing) => SourceError::Transient { step, reason: text },
        Some(Code::Limit) => SourceError::OverLimit {
            step,
            text,
            retry_after: None,
        },
        Some(Code::OverQuota) => SourceError::OverQuota { step, text },
        code => SourceError::Refused {
            step,
            code: code.and_then(Code::into_name),
            text,
        },
    }
}

/// Returns a quoted string (RFC 9051 section 4.3).
pub(super) fn quoted(value: &str, step: Step) -> Result<String, SourceError> {
    if value.contains(['\r', '\n', '\0']) {
        return Err(SourceError::Unusable {
            step,
            reason: "a value with a line break cannot be sent".into(),
        });
    }
    Ok(format!(
        "\"{}\"",
        value.replace('\\', "\\\\").replace('"', "\\\"")
    ))
}

pub(super) fn protocol(step: Step, reason: &str) -> SourceError {
    SourceError::Protocol {
        step,
        reason: reason.to_owned(),
    }
}

pub(super) fn failed(step: Step, error: &WireError) -> SourceError {
    match error {
        WireError::Closed | WireError::Io(_) => transient(step, error),
        WireError::LongLine | WireError::TooLong | WireError::TooMuch => {
            protocol(step, &error.to_string())
        }
    }
}

fn transient(step: Step, error: &dyn std::error::Error) -> SourceError {
    SourceError::Transient {
        step,
        reason: error.to_string(),
    }
}
