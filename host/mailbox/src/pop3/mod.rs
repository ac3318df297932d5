//! The POP3 source (RFC 1939): one session per check, mail identified by its unique ids, deletions made durable by QUIT.
//!
//! The client is our own, like the IMAP one: memory is bounded against a lying server, no token appears in any log, and a lost
//! connection is never mistaken for an empty mailbox or a deleted mail.

mod delete;
mod fetch;
pub mod fuzz;
mod list;
mod login;
mod progress;
mod reply;
mod sample;
mod session;
mod tap;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postroom_auth::Login;
use postroom_core::{Clock, Cursor};
use postroom_net::{HostDials, ProbeReporter, ProbeStep, Proxies, Step, TlsMode, Trace};
use tokio::time::{Instant, sleep_until, timeout};

use crate::source::permit;
use crate::{Acknowledge, Batch, FetchLimits, Import, KnownPositions, Source, SourceError, bearer};
use fetch::Backlog;
use list::Listed;
use session::Session;

/// The location of a mailbox, and how to talk to its server.
#[derive(Debug, Clone)]
pub struct Pop3Settings {
    /// The mailbox's name, for the log.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    pub import: Import,
    /// The time between two checks, each of which is a session.
    pub every: Duration,
    pub proxies: Proxies,
    pub timeouts: Pop3Timeouts,
}

#[derive(Debug, Clone, Copy)]
pub struct Pop3Timeouts {
    /// For each of the connection, the TLS handshake and the greeting.
    pub connect: Duration,
    /// The longest time without a byte from the server while a reply is due.
    pub stall: Duration,
    /// For one command, plus the time for its data at 16 KiB/s. The server may take all of it to carry out deletions.
    pub command: Duration,
    /// For ending a session that deleted nothing.
    pub quit: Duration,
}

impl Default for Pop3Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            command: Duration::from_secs(10 * 60),
            quit: Duration::from_secs(2),
        }
    }
}

/// Creates a source for one mailbox. It connects when first used.
pub fn pop3(settings: Pop3Settings, login: Login, tls: Arc<rustls::ClientConfig>) -> Pop3Source {
    Pop3Source {
        mailbox: format!("{}@{}", login.user(), settings.host),
        settings,
        login,
        tls,
        trace: None,
        dials: None,
        clock: Clock::system(),
        journal: None,
        session: None,
        listing: None,
        backlog: None,
        check_at: Instant::now(),
        given: BTreeMap::new(),
        known: HashSet::new(),
        deleted: HashSet::new(),
        tries: HashMap::new(),
        forgets: true,
        sizes_lie: false,
        token_distrusted: false,
    }
}

/// The POP3 source. See [`pop3`].
pub struct Pop3Source {
    settings: Pop3Settings,
    /// The mailbox's identity in cursors and positions.
    mailbox: String,
    login: Login,
    tls: Arc<rustls::ClientConfig>,
    trace: Option<Trace>,
    dials: Option<HostDials>,
    clock: Clock,
    /// Looks up the mails that the journal knows.
    journal: Option<Arc<dyn KnownPositions>>,
    session: Option<Session>,
    /// The mails of the open session.
    listing: Option<Vec<Listed>>,
    /// Mail from that listing that has not been read yet.
    backlog: Option<Backlog>,
    /// When the mailbox is to be listed again.
    check_at: Instant,
    /// The keys of mail in batches that may not be in the journal yet, by batch number.
    given: BTreeMap<u64, Vec<Arc<str>>>,
    /// The keys that the journal knows: those in the last listing, and those of batches journalled since.
    known: HashSet<Arc<str>>,
    /// Keys whose deletion the server has confirmed since the last listing.
    deleted: HashSet<Arc<str>>,
    /// The number of failed attempts per mail.
    tries: HashMap<Arc<str>, u32>,
    /// Whether the journal may hold positions of mail that is gone.
    forgets: bool,
    /// Whether the server was caught stating wrong sizes: mails are then fetched one at a time, so that memory stays bounded.
    sizes_lie: bool,
    token_distrusted: bool,
}

#[async_trait]
impl Source for Pop3Source {
    async fn connect(&mut self) -> Result<(), SourceError> {
        self.check_at = Instant::now();
        let outcome = self.ready().await.map(|_| ());
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
        let outcome = self.delete_all(acks).await;
        self.judged(outcome)
    }

    fn acknowledges_last(&self) -> bool {
        true
    }

    /// Ends the session and sleeps, because POP3 has no notifications.
    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let end = Instant::now() + timeout;
        self.close().await;
        sleep_until(end.min(self.check_at)).await;
        Ok(())
    }

    /// Changes nothing on the server. The steps are `connect`, `tls` (not to this machine without TLS), `greeting`, `token` (not
    /// with a password), `authenticate`, `list` and `fetch`.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        self.session = None;
        let mut probe = ProbeReporter::to(report);
        let outcome = self.probe_steps(&mut probe).await;
        if let Err(error) = self.judged(outcome) {
            probe.failed(error);
        }
        self.close().await;
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

    fn set_known(&mut self, known: Arc<dyn KnownPositions>) {
        self.journal = Some(known);
    }

    async fn close(&mut self) {
        let session = self.session.take();
        self.left_session();
        if let Some(mut session) = session.filter(|open| !open.busy) {
            // Nothing was deleted, so the reply does not matter.
            let _ = timeout(self.settings.timeouts.quit, session.quit(Step::Close)).await;
        }
    }
}

impl Pop3Source {
    async fn probe_steps(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<(), SourceError> {
        let session = self.ready_reporting(probe).await?;
        let count = list::count(session).await?;
        if count > 0 {
            list::has_unique_ids(session, count).await?;
        }
        probe.passed(Step::List, || postroom_core::counted(count, "mail"));
        let found = sample::newest(session, count).await?;
        probe.passed(Step::Fetch, || found);
        Ok(())
    }

    /// Returns the session, signed in; opens one if none is in step. Without a token, no server is contacted: a mailbox whose
    /// account waits for a person would otherwise connect for weeks.
    async fn ready(&mut self) -> Result<&mut Session, SourceError> {
        if self.session.as_ref().is_none_or(|open| open.busy) {
            bearer::ask_for_token(&self.login).await?;
        }
        self.ready_reporting(&mut ProbeReporter::quiet()).await
    }

    async fn ready_reporting(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<&mut Session, SourceError> {
        let usable = self.session.take().filter(|open| !open.busy);
        let session = match usable {
            Some(session) => session,
            None => {
                self.left_session();
                let _permit = permit(self.dials.as_ref()).await;
                let mut session =
                    Session::open(&self.settings, &self.tls, self.trace.as_ref(), probe).await?;
                let distrusted = &mut self.token_distrusted;
                login::sign_in(&mut session, &self.settings, &self.login, distrusted, probe)
                    .await?;
                tracing::debug!(mailbox = self.settings.name, "signed in");
                session
            }
        };
        Ok(self.session.insert(session))
    }

    /// Forgets the listing, whose numbers are valid only in its session. If mail of it is still unread, the mailbox is listed
    /// again at once.
    fn left_session(&mut self) {
        self.listing = None;
        if let Some(backlog) = self.backlog.take()
            && !backlog.is_empty()
        {
            self.check_at = Instant::now();
        }
    }

    /// Discards the session after an error that leaves it in doubt.
    fn judged<T>(&mut self, outcome: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error) = &outcome {
            let in_step = matches!(
                error,
                SourceError::Refused { .. }
                    | SourceError::NoUniqueIds { .. }
                    | SourceError::Unusable { .. }
            );
            if !in_step {
                self.session = None;
                self.left_session();
            }
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
