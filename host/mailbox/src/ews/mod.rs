//! The Exchange Web Services source: one folder of one mailbox, followed through its sync state.
//!
//! A cursor is Exchange's own sync state, which only Exchange can read. Returned mails are also known by their ids, so that no
//! mail comes twice when the server no longer accepts a sync state.

mod acknowledge;
mod folders;
mod items;
mod refusal;
mod sync;
mod wait;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postroom_auth::Login;
use postroom_core::{Clock, Cursor, Position, counted};
use postroom_exchange::ews::{
    Answer, Element, EwsAccess, EwsLimits, Exchange, Kind, Refusal, messages, nonsense, protocol,
};
use postroom_net::{
    HostDials, ProbeReporter, ProbeStep, Proxies, Step, TlsMode, Trace, dial, handshake,
    server_name, within,
};
use serde::{Deserialize, Serialize};

use crate::source::permit;
use crate::{Acknowledge, Batch, FetchLimits, Import, KnownPositions, Source, SourceError};
use folders::Opened;
use items::Refused;
use refusal::OfFolder;
use sync::Page;
use wait::Listening;

/// The location of a mailbox, and how to talk to its server.
#[derive(Debug, Clone)]
pub struct EwsSettings {
    /// The mailbox's name, for the log.
    pub name: String,
    /// The URL of the service, such as `https://mail.example/EWS/Exchange.asmx`.
    pub url: String,
    /// The host and port of that URL.
    pub host: String,
    pub port: u16,
    pub tls: TlsMode,
    /// The address of the mailbox, whose owner need not be the user who signs in.
    pub address: String,
    /// Whether to act as the mailbox's owner (ExchangeImpersonation).
    pub impersonation: bool,
    /// The folder's path, with `/` between a folder and the one inside it; `INBOX`, in upper or lower case, is the inbox.
    pub folder: String,
    pub import: Import,
    /// The folders that mail is moved to, which a probe looks up.
    pub targets: Vec<String>,
    pub proxies: Proxies,
    pub timeouts: EwsTimeouts,
}

#[derive(Debug, Clone, Copy)]
pub struct EwsTimeouts {
    /// For each of the connection and the TLS handshake.
    pub connect: Duration,
    /// The longest time without a byte from the server while a response is due.
    pub stall: Duration,
    /// For one request, plus the time for its data at 16 KiB/s.
    pub command: Duration,
    /// How long a stream of notifications lasts; the server allows 1 to 30 whole minutes.
    pub stream: Duration,
    /// How long after a refusal notifications are tried again.
    pub retry_stream: Duration,
    /// For unsubscribing at the end.
    pub close: Duration,
}

impl Default for EwsTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            command: Duration::from_secs(10 * 60),
            stream: Duration::from_secs(20 * 60),
            retry_stream: Duration::from_secs(10 * 60),
            close: Duration::from_secs(2),
        }
    }
}

/// Creates a source for one folder of one mailbox. Fails if the settings cannot be sent. The source connects when first used.
pub fn ews(
    settings: EwsSettings,
    login: Login,
    tls: Arc<rustls::ClientConfig>,
) -> Result<EwsSource, SourceError> {
    let timeouts = settings.timeouts;
    let access = EwsAccess {
        url: settings.url.clone(),
        host: settings.host.clone(),
        address: settings.address.clone(),
        impersonation: settings.impersonation,
        proxies: settings.proxies.clone(),
        limits: EwsLimits {
            connect: timeouts.connect,
            stall: timeouts.stall,
            command: timeouts.command,
        },
    };
    let exchange = Exchange::new(&access, login, &tls)?;
    Ok(EwsSource {
        session: Session {
            exchange,
            settings,
            opened: None,
            folders: HashMap::new(),
        },
        tls,
        dials: None,
        known: None,
        page: None,
        refused: None,
        listening: Listening::default(),
    })
}

/// The EWS source. See [`ews`].
pub struct EwsSource {
    session: Session,
    tls: Arc<rustls::ClientConfig>,
    dials: Option<HostDials>,
    known: Option<Arc<dyn KnownPositions>>,
    page: Option<Page>,
    refused: Option<Refused>,
    listening: Listening,
}

/// The state that every operation needs: the server, and the folders by id.
struct Session {
    exchange: Exchange,
    settings: EwsSettings,
    opened: Option<Opened>,
    /// The ids of the folders that mail is moved to, by name.
    folders: HashMap<String, String>,
}

#[async_trait]
impl Source for EwsSource {
    async fn connect(&mut self) -> Result<(), SourceError> {
        let _permit = permit(self.dials.as_ref()).await;
        let outcome = self.session.ready().await.map(drop);
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
        let outcome = self.session.acknowledge_all(acks).await;
        self.judged(outcome)
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let outcome = self.wait_for_news(timeout).await;
        self.judged(outcome)
    }

    /// Changes nothing on the server. The steps are `connect`, `tls` (not to this machine without TLS), `token` (not with a
    /// password), `authenticate`, `select`, `fetch`, and `target` for each folder that mail is moved to.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        self.session.opened = None;
        let mut probe = ProbeReporter::to(report);
        let outcome = self.probe_steps(&mut probe).await;
        if let Err(error) = self.judged(outcome) {
            probe.failed(error);
        }
    }

    fn set_trace(&mut self, trace: Trace) {
        self.session.exchange.trace = Some(trace);
    }

    fn set_dials(&mut self, dials: HostDials) {
        self.dials = Some(dials);
    }

    fn set_clock(&mut self, clock: Clock) {
        self.session.exchange.clock = clock;
    }

    fn set_known(&mut self, known: Arc<dyn KnownPositions>) {
        self.known = Some(known);
    }

    async fn close(&mut self) {
        self.session.opened = None;
        self.page = None;
        if let Some(listener) = self.listening.listener.take() {
            let limit = self.session.settings.timeouts.close;
            let goodbye = listener.unsubscribe(&mut self.session);
            // The server drops a subscription by itself if nobody listens to it for half an hour.
            let _ = tokio::time::timeout(limit, goodbye).await;
        }
    }
}

impl EwsSource {
    async fn probe_steps(
        &mut self,
        probe: &mut ProbeReporter<'_, SourceError>,
    ) -> Result<(), SourceError> {
        // Connects separately first: only a connection of our own can distinguish a missing host from a bad certificate.
        let settings = &self.session.settings;
        let (host, port, limit) = (&settings.host, settings.port, settings.timeouts.connect);
        let proxy = self.session.exchange.proxy();
        let tcp = dial(host, port, proxy, limit, None).await?;
        probe.connected(host, port, proxy, &tcp);
        if settings.tls != TlsMode::None {
            let secured = handshake(server_name(host)?, &self.tls, tcp);
            let (_, version) = within(Step::Tls, limit, secured).await?;
            probe.passed(Step::Tls, || version);
        }
        let session = &mut self.session;
        if let Some(account) = session.exchange.ask_for_token().await? {
            probe.passed(Step::Token, || account);
        }
        let opened = session.open(probe).await?;
        probe.passed(Step::Select, || {
            let folder = &session.settings.folder;
            format!("{folder}, {}", counted(opened.mails, "mail"))
        });
        session.opened = Some(opened);
        let found = session.newest().await?;
        probe.passed(Step::Fetch, || found);
        for target in session.settings.targets.clone() {
            let found = session.target_in_words(&target).await?;
            probe.passed(Step::Target, || found);
        }
        Ok(())
    }

    /// Discards the state that an error leaves in doubt.
    fn judged<T>(&mut self, outcome: Result<T, SourceError>) -> Result<T, SourceError> {
        if let Err(error) = &outcome {
            let in_step = matches!(
                error,
                SourceError::Refused { .. }
                    | SourceError::OverQuota { .. }
                    | SourceError::UnknownCursor { .. }
                    | SourceError::Unusable { .. }
            );
            if !in_step {
                self.session.opened = None;
                self.session.folders.clear();
                self.page = None;
                self.listening.listener = None;
            }
        }
        outcome
    }
}

impl Session {
    /// Returns the opened folder. Without a token, no server is contacted: a mailbox whose account waits for a person would
    /// otherwise connect for weeks.
    async fn ready(&mut self) -> Result<&Opened, SourceError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => {
                self.exchange.ask_for_token().await?;
                let opened = self.open(&mut ProbeReporter::quiet()).await?;
                tracing::debug!(mailbox = self.settings.name, "signed in");
                opened
            }
        };
        Ok(self.opened.insert(opened))
    }

    /// Sends a request that returns no mail.
    async fn call(
        &mut self,
        step: Step,
        operation: &'static str,
        body: String,
    ) -> Result<Answer, SourceError> {
        Ok(self.exchange.call(step, operation, body).await?)
    }

    /// Returns the response message of an operation that has a single one, or its refusal.
    fn outcome<'r, 'x>(
        &self,
        step: Step,
        root: &'r Element<'x>,
    ) -> Result<Result<&'r Element<'x>, Refusal>, SourceError> {
        Ok(self.exchange.outcome(step, root)?)
    }

    /// Returns the response message of an operation that must not be refused. `folder` is the folder it concerns.
    fn only<'r, 'x>(
        &self,
        step: Step,
        root: &'r Element<'x>,
        folder: &str,
    ) -> Result<&'r Element<'x>, SourceError> {
        self.outcome(step, root)?
            .map_err(|refusal| refusal.for_folder(step, folder))
    }

    /// Returns the response messages of an operation on this many items. Fails if the operation is refused for all of them, or
    /// for now.
    fn each<'r, 'x>(
        &self,
        step: Step,
        root: &'r Element<'x>,
        items: usize,
    ) -> Result<Vec<Result<&'r Element<'x>, Refusal>>, SourceError> {
        let messages = match messages(root) {
            Ok(messages) => messages,
            Err(Some(fault)) => return Err(self.exchange.cleaned(fault).for_folder(step, "")),
            Err(None) => return Err(nonsense(step).into()),
        };
        if messages.len() != items {
            let reason = format!("{} answers on {}", messages.len(), counted(items, "mail"));
            return Err(protocol(step, &reason).into());
        }
        let mut judged = Vec::with_capacity(items);
        for message in messages {
            match message.map_err(|refusal| self.exchange.cleaned(refusal)) {
                Err(refusal) if matches!(refusal.kind(), Kind::Busy | Kind::Passing) => {
                    return Err(refusal.for_folder(step, ""));
                }
                message => judged.push(message),
            }
        }
        Ok(judged)
    }
}

fn parsed(step: Step, body: &str) -> Result<Element<'_>, SourceError> {
    Ok(postroom_exchange::ews::parsed(step, body)?)
}

/// The position of a mail: its id, which is valid as long as the mail stays in its folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Place {
    ews_item: String,
}

fn position(id: &str) -> Position {
    let place = serde_json::json!({ "ews_item": id });
    Position::OnServer(place.to_string())
}

/// Returns the id in a position, or `None` if another kind of source wrote it.
fn item_of(position: &Position) -> Option<String> {
    let place: Place = serde_json::from_str(position.on_server()?).ok()?;
    Some(place.ews_item)
}

#[cfg(test)]
mod tests;
