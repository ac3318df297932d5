//! The Microsoft Graph source: reads a folder of Exchange Online by delta queries, and its mails as MIME.
//!
//! It sends plain HTTP requests without an SDK: it needs only a few URLs, and limits on time, memory and rate that no SDK
//! enforces.

mod acknowledge;
mod delta;
mod fetch;
mod folders;
mod probe;
mod progress;

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use postroom_auth::Login;
use postroom_core::{Clock, Cursor, Position};
use postroom_exchange::graph::{GraphClient, GraphLimits};
use postroom_net::{HostDials, ProbeReporter, ProbeStep, Proxies, Step, Trace};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::source::permit;
use crate::{Acknowledge, Batch, FetchLimits, Import, KnownPositions, Source, SourceError};
use delta::Listed;
use folders::Folder;
use progress::{Next, Progress};

/// The location of a mailbox, and how to talk to its server.
#[derive(Debug, Clone)]
pub struct GraphSettings {
    /// The mailbox's name, for the log.
    pub name: String,
    /// Including the version, such as `https://graph.microsoft.com/v1.0`.
    pub base: Url,
    /// A well-known name such as `inbox`, or the display name, with `/` between the folders of a path.
    pub folder: String,
    pub import: Import,
    /// The folders that mail is moved to, which a probe looks up.
    pub targets: Vec<String>,
    pub proxies: Proxies,
    pub timeouts: GraphTimeouts,
}

#[derive(Debug, Clone, Copy)]
pub struct GraphTimeouts {
    /// For the connection, including its TLS handshake.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub answer: Duration,
    /// The longest time without a byte of the response's body.
    pub stall: Duration,
    /// For one body, plus the time for its data at 16 KiB/s.
    pub body: Duration,
    /// How long a cursor without news is kept before it is renewed, since the server forgets old ones.
    pub refresh: Duration,
}

impl Default for GraphTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(30),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            body: Duration::from_secs(2 * 60),
            refresh: Duration::from_secs(60 * 60),
        }
    }
}

impl GraphTimeouts {
    fn of_requests(self) -> GraphLimits {
        GraphLimits {
            connect: self.connect,
            answer: self.answer,
            stall: self.stall,
            body: self.body,
        }
    }
}

/// Creates a source for one folder of one mailbox. It connects when first used.
pub fn graph(settings: GraphSettings, login: Login, tls: Arc<rustls::ClientConfig>) -> GraphSource {
    GraphSource {
        settings,
        login,
        tls,
        trace: None,
        dials: None,
        clock: Clock::system(),
        known: None,
        client: None,
        folder: None,
        date_secs: None,
        targets: HashMap::new(),
        backlog: None,
        given: Given::default(),
        refreshed: None,
        refused: None,
    }
}

/// The Graph source. See [`graph`].
pub struct GraphSource {
    settings: GraphSettings,
    login: Login,
    tls: Arc<rustls::ClientConfig>,
    trace: Option<Trace>,
    dials: Option<HostDials>,
    clock: Clock,
    known: Option<Arc<dyn KnownPositions>>,
    client: Option<Arc<GraphClient>>,
    /// The configured folder, once it has been found in this session.
    folder: Option<Folder>,
    /// The server's clock at that moment, in seconds since 1970.
    date_secs: Option<i64>,
    /// Folders that mail is moved to, by their names in the configuration.
    targets: HashMap<String, String>,
    backlog: Option<Backlog>,
    given: Given,
    /// When the cursor was last renewed.
    refreshed: Option<Instant>,
    /// A mail that the server lists and does not deliver while it delivers no other, and how often it stopped a fetch.
    refused: Option<(String, u32)>,
}

/// Mails that were listed and not fetched yet.
struct Backlog {
    /// Valid only for a fetch from exactly this cursor.
    cursor: Option<Cursor>,
    progress: Progress,
    waiting: VecDeque<Listed>,
    /// The link to the next page, for when all of this page's mails have been returned.
    next: Option<Next>,
}

/// The mails returned by this source. The journal may not know the last of them yet.
#[derive(Default)]
struct Given {
    ids: HashSet<String>,
    order: VecDeque<String>,
    /// Those of the last batch, until it is known to be journalled.
    last: Vec<String>,
}

/// The number of returned mails that are remembered: more than are ever on their way to the journal.
const GIVEN_MAX: usize = 4096;

#[async_trait]
impl Source for GraphSource {
    async fn connect(&mut self) -> Result<(), SourceError> {
        let _permit = permit(self.dials.as_ref()).await;
        self.open_folder(Step::Select).await.map(|_| ())
    }

    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        self.fetch_batch(cursor, limits).await
    }

    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        self.acknowledge_all(acks).await
    }

    /// Sleeps: Graph sends notifications only to a public HTTPS address, which a mail room does not have.
    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        let is_waiting = |backlog: &Backlog| !backlog.waiting.is_empty();
        if !self.backlog.as_ref().is_some_and(is_waiting) {
            tokio::time::sleep(timeout).await;
        }
        Ok(())
    }

    /// Changes nothing on the server. The steps are `connect`, `tls` (not to this machine without TLS), `token`, `authenticate`,
    /// `select`, `fetch`, and `target` for each folder that mail is moved to.
    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        let mut probe = ProbeReporter::to(report);
        if let Err(error) = self.probe_steps(&mut probe).await {
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
        self.known = Some(known);
    }

    async fn close(&mut self) {
        self.folder = None;
        self.backlog = None;
        self.targets.clear();
    }
}

impl GraphSource {
    /// Returns the client, which is kept for the life of the source because it knows the pause that the server asked for.
    fn client(&mut self) -> Result<Arc<GraphClient>, SourceError> {
        if let Some(client) = &self.client {
            return Ok(client.clone());
        }
        let base = self.settings.base.clone();
        let client = GraphClient::new(
            base,
            self.login.clone(),
            &self.tls,
            &self.settings.proxies,
            self.settings.timeouts.of_requests(),
            self.clock.clone(),
        )?;
        if let Some(trace) = &self.trace {
            client.set_trace(trace.clone());
        }
        Ok(self.client.insert(Arc::new(client)).clone())
    }

    /// Finds the folder that mail is read from, unless it was already found in this session.
    async fn open_folder(&mut self, step: Step) -> Result<(Arc<GraphClient>, Folder), SourceError> {
        let client = self.client()?;
        if let Some(folder) = &self.folder {
            return Ok((client, folder.clone()));
        }
        let (found, date_secs) = folders::find(&client, step, &self.settings.folder).await?;
        let folder = found.ok_or_else(|| SourceError::Folder {
            folder: self.settings.folder.clone(),
            missing: true,
            text: "Graph finds no folder of this name".into(),
        })?;
        self.date_secs = date_secs;
        self.folder = Some(folder.clone());
        Ok((client, folder))
    }
}

impl Given {
    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Records the mails of a new batch. The previous one is journalled by then.
    fn give(&mut self, ids: Vec<String>) {
        for id in &ids {
            if self.ids.insert(id.clone()) {
                self.order.push_back(id.clone());
            }
        }
        while self.order.len() > GIVEN_MAX {
            if let Some(oldest) = self.order.pop_front() {
                self.ids.remove(&oldest);
            }
        }
        self.last = ids;
    }

    /// Forgets the last batch, which was not journalled: its mails are returned again.
    fn take_back(&mut self) {
        for id in self.last.drain(..) {
            self.ids.remove(&id);
            self.order.retain(|held| *held != id);
        }
    }
}

/// The position of a mail: its immutable id, which stays the same when the mail is moved within the mailbox.
#[derive(Serialize, Deserialize)]
struct Place {
    graph_id: String,
}

fn position(id: &str) -> Position {
    let place = serde_json::json!({ "graph_id": id });
    Position::OnServer(place.to_string())
}

fn id_at(position: &Position) -> Option<String> {
    let place: Place = serde_json::from_str(position.on_server()?).ok()?;
    Some(place.graph_id)
}

#[cfg(test)]
mod tests;
