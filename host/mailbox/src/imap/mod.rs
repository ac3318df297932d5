//! The IMAP source (RFC 9051, and RFC 3501 servers): folders read by UID, regardless of changes to their flags by others.
//!
//! The client is our own. It needs few commands, and it must guarantee properties that no available library does: memory
//! bounded against a dishonest server, no token in any log, a lost connection never mistaken for an empty folder, bodies
//! without a copy.

mod acknowledge;
mod connection;
mod copy;
mod fetch;
mod folders;
pub mod fuzz;
mod list;
mod login;
mod progress;
mod read_ahead;
mod response;
mod rounds;
mod sample;
mod tap;
mod utf7;
mod wait;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postroom_auth::Login;
use postroom_core::{Clock, Cursor, Import, Position};
use postroom_net::{HostDials, ProbeReporter, ProbeStep, Proxies, Step, TlsMode, Trace};
use serde::{Deserialize, Serialize};

use crate::source::permit;
use crate::{Acknowledge, Batch, FetchLimits, Source, SourceError, bearer};
use connection::Connection;
use copy::Copied;
use rounds::Rounds;

/// The location of a mailbox and the settings of its connection.
#[derive(Debug, Clone)]
pub struct ImapSettings {
    /// The mailbox's name, for the log.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// The folders to read, at least one, as people write them: in UTF-8, with the server's own hierarchy separator. The
    /// server's notifications are for the first one; the others are checked at the interval `every`.
    pub folders: Vec<String>,
    /// The longest time between two checks of the folders after the first.
    pub every: Duration,
    pub import: Import,
    /// The folders that mail is moved to, which a probe checks.
    pub targets: Vec<String>,
    /// Capabilities, in upper case, that are not used even if the server has them.
    pub unused: Vec<String>,
    pub proxies: Proxies,
    pub timeouts: ImapTimeouts,
}

#[derive(Debug, Clone, Copy)]
pub struct ImapTimeouts {
    /// The time limit of the connection, of the TLS handshake and of the greeting, each.
    pub connect: Duration,
    /// The time without a byte from the server while a response is due.
    pub stall: Duration,
    /// The time limit of one command, plus the time for its data at 16 KiB/s.
    pub command: Duration,
    /// The age at which an IDLE is renewed; servers may disconnect after 30 minutes (RFC 2177).
    pub idle: Duration,
    /// The interval between polls if the server has no IDLE.
    pub poll: Duration,
    /// The interval between checks for mail that became visible below what was read.
    pub reconcile: Duration,
    /// The time limit of LOGOUT.
    pub logout: Duration,
}

impl Default for ImapTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            command: Duration::from_secs(10 * 60),
            idle: Duration::from_secs(20 * 60),
            poll: Duration::from_secs(30),
            reconcile: Duration::from_secs(2 * 60),
            logout: Duration::from_secs(2),
        }
    }
}

/// Returns a source for the folders of one mailbox, which share one session. Connects when it is first used.
pub fn imap(settings: ImapSettings, login: Login, tls: Arc<rustls::ClientConfig>) -> ImapSource {
    ImapSource {
        rounds: Rounds::new(&settings.folders),
        settings,
        login,
        tls,
        trace: None,
        dials: None,
        clock: Clock::system(),
        connection: None,
        skips_id: false,
        token_distrusted: false,
        one_by_one: false,
        copied: Copied::default(),
    }
}

/// The IMAP source. See [`imap`].
pub struct ImapSource {
    settings: ImapSettings,
    login: Login,
    tls: Arc<rustls::ClientConfig>,
    trace: Option<Trace>,
    dials: Option<HostDials>,
    clock: Clock,
    connection: Option<Connection>,
    rounds: Rounds,
    /// Whether the next connection does without ID, because the last one was lost at it.
    skips_id: bool,
    token_distrusted: bool,
    /// Whether the server was caught stating wrong sizes: mails are then fetched one by one, so that memory stays bounded.
    one_by_one: bool,
    copied: Copied,
}

#[async_trait]
impl Source for ImapSource {
    async fn connect(&mut self) -> Result<(), SourceError> {
        let outcome = self.open_one().await;
        self.judged(outcome)
    }

    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let outcome = self.fetch_batch(cursor, limits).await;
        self.judged(outcome)
    }

    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        let outcome = self.acknowledge_all(acks).await;
        self.judged(outcome)
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let outcome = self.wait_for_news(timeout).await;
        self.judged(outcome)
    }

    /// Changes nothing on the server. The steps are `connect`, `tls` (not for clear text to this machine), `greeting`,
    /// `token` (not with a password), `authenticate`, `select` and `fetch` for each folder that is read, and `target` for
    /// each folder that mail is moved to.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        self.connection = None;
        let mut probe = ProbeReporter::to(report);
        let outcome = self.probe_steps(&mut probe).await;
        if let Err(error) = self.judged(outcome) {
            probe.failed(error);
        }
        self.close().await;
    }

    fn trouble(&self) -> Option<String> {
        self.rounds.trouble()
    }

    fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    fn set_dials(&mut self, dials: HostDials) {
        self.dials = Some(dials);
    }

    fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    async fn close(&mut self) {
        if let Some(mut connection) = self.connection.take()
            && !connection.busy
        {
            let goodbye = async {
                connection.end_idle().await?;
                connection.command(Step::Close, "LOGOUT").await
            };
            // The server's response to LOGOUT begins with BYE, which reads as an error and is of no interest.
            let _ = tokio::time::timeout(self.settings.timeouts.logout, goodbye).await;
        }
    }
}

impl ImapSource {
    async fn probe_steps(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<(), SourceError> {
        let (folders, targets) = (self.settings.folders.clone(), self.settings.targets.clone());
        let connection = self.ready_reporting(probe).await?;
        for folder in &folders {
            let selected = connection.select(folder).await?;
            probe.passed(Step::Select, || selected.to_string());
            let found = sample::newest(connection).await?;
            probe.passed(Step::Fetch, || match folders.len() {
                1 => found,
                _ => format!("{folder}: {found}"),
            });
        }
        for target in &targets {
            let found = copy::target_in_words(connection, &folders, target).await?;
            probe.passed(Step::Target, || found);
        }
        Ok(())
    }

    /// Opens the first folder that can be opened. Fails with the first folder's error if none can.
    async fn open_one(&mut self) -> Result<(), SourceError> {
        let folders = self.settings.folders.clone();
        let connection = self.ready().await?;
        let mut failure = None;
        for folder in &folders {
            match connection.open_folder(folder).await {
                Ok(_) => return Ok(()),
                Err(error @ SourceError::Folder { .. }) => failure = failure.or(Some(error)),
                Err(error) => return Err(error),
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Returns a connection that is signed in, and opens one if none can be used. Asks for the token first: a mailbox whose
    /// account waits for a person would otherwise connect for weeks.
    async fn ready(&mut self) -> Result<&mut Connection, SourceError> {
        if self.connection.as_ref().is_none_or(|open| open.busy) {
            bearer::ask_for_token(&self.login).await?;
        }
        self.ready_reporting(&mut ProbeReporter::quiet()).await
    }

    async fn ready_reporting(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<&mut Connection, SourceError> {
        let usable = self.connection.take().filter(|open| !open.busy);
        let connection = match usable {
            Some(connection) => connection,
            None => {
                let _permit = permit(self.dials.as_ref()).await;
                let (mut connection, signed_in) =
                    Connection::open(&self.settings, &self.tls, self.trace.as_ref(), probe).await?;
                if !signed_in {
                    let distrusted = &mut self.token_distrusted;
                    login::sign_in(&mut connection, &self.login, distrusted, probe).await?;
                }
                if !std::mem::take(&mut self.skips_id) {
                    let identified = login::identify(&mut connection).await;
                    self.skips_id = identified.is_err();
                    identified?;
                }
                tracing::debug!(mailbox = self.settings.name, "signed in");
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Discards the connection after an error that leaves it in doubt.
    fn judged<T>(&mut self, outcome: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error) = &outcome {
            let in_step = matches!(
                error,
                SourceError::Refused { .. }
                    | SourceError::OverQuota { .. }
                    | SourceError::Folder { .. }
                    | SourceError::UnknownCursor { .. }
                    | SourceError::Unusable { .. }
            );
            if !in_step {
                self.connection = None;
                self.rounds.forget_backlogs();
            }
        }
        outcome
    }
}

/// A place in a folder: the position of a mail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Place {
    folder: String,
    uid_validity: u32,
    uid: u32,
}

impl Place {
    fn read(text: &str) -> Result<Self, SourceError> {
        serde_json::from_str(text).map_err(|_| SourceError::UnknownCursor {
            text: text.chars().take(200).collect(),
        })
    }

    fn at(position: &Position) -> Result<Self, SourceError> {
        Self::read(position.on_server().unwrap_or_default())
    }

    /// Returns whether a text that is not a place was written by another kind of source.
    fn is_foreign(text: &str) -> bool {
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_ok_and(
            |fields| {
                !["uid_validity", "folders"]
                    .iter()
                    .any(|key| fields.contains_key(*key))
            },
        )
    }

    fn write(&self) -> String {
        serde_json::json!({
            "folder": self.folder,
            "uid_validity": self.uid_validity,
            "uid": self.uid,
        })
        .to_string()
    }

    fn position(&self) -> Position {
        Position::OnServer(self.write())
    }
}

#[cfg(test)]
mod tests;
