//! A source like POP3: the server lists names in no particular order, and a deletion takes effect when the session ends.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use postroom_core::{Cursor, Position, RawMessage};
use postroom_mailbox::{
    Acknowledge, After, Batch, FetchLimits, KnownPositions, Source, SourceError,
};
use postroom_net::trace::Side;
use postroom_net::{ProbeReporter, ProbeStep, Step, Trace};

/// The server.
#[derive(Clone, Default)]
pub struct Drop(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    mails: BTreeMap<String, String>,
    retrieved: usize,
    /// Whether a session was ended while mail was still waiting to be retrieved.
    ended_early: bool,
}

impl Drop {
    pub fn deliver(&self, name: &str) {
        let mail = format!(
            "From: ann@acme.example\r\nMessage-ID: <{name}@acme.example>\r\nSubject: {name}\r\n\r\nhelp\r\n"
        );
        self.0.lock().unwrap().mails.insert(name.into(), mail);
    }

    pub fn names(&self) -> Vec<String> {
        self.0.lock().unwrap().mails.keys().cloned().collect()
    }

    /// Returns how many mails were retrieved, including repetitions.
    pub fn retrieved(&self) -> usize {
        self.0.lock().unwrap().retrieved
    }

    pub fn ended_early(&self) -> bool {
        self.0.lock().unwrap().ended_early
    }

    fn retrieve(&self, name: &str) -> String {
        let mut held = self.0.lock().unwrap();
        held.retrieved += 1;
        held.mails[name].clone()
    }
}

/// The source.
pub struct Maildrop {
    drop: Drop,
    known: Option<Arc<dyn KnownPositions>>,
    trace: Option<Trace>,
    /// Mails returned since the source was created; the journal may not have them yet.
    given: HashSet<String>,
    /// The last batch, until its cursor comes back.
    last: Vec<String>,
    batches: usize,
    /// Removed when the session ends.
    deleted: Vec<String>,
}

impl Maildrop {
    pub fn new(drop: Drop) -> Self {
        Self {
            drop,
            known: None,
            trace: None,
            given: HashSet::new(),
            last: Vec::new(),
            batches: 0,
            deleted: Vec::new(),
        }
    }

    fn list(&self) -> Vec<String> {
        if let Some(trace) = &self.trace {
            trace.record(Side::Client, b"UIDL");
        }
        self.drop.names()
    }

    fn cursor(&self) -> Cursor {
        Cursor(format!("batch {}", self.batches))
    }
}

#[async_trait]
impl Source for Maildrop {
    async fn connect(&mut self) -> Result<(), SourceError> {
        Ok(())
    }

    async fn fetch(
        &mut self,
        cursor: Option<&Cursor>,
        limits: &FetchLimits,
    ) -> Result<Batch, SourceError> {
        let last = std::mem::take(&mut self.last);
        if cursor != Some(&self.cursor()) {
            for name in last {
                self.given.remove(&name);
            }
        }
        let mut names = self.list();
        names.retain(|name| !self.given.contains(name));
        if let Some(known) = &self.known {
            let positions = names.iter().cloned().map(Position::OnServer).collect();
            let known = known.known(positions).await?;
            names.retain(|name| !known.contains(&Position::OnServer(name.clone())));
        }
        if names.is_empty() {
            return Ok(Batch {
                cursor: cursor.cloned(),
                ..Batch::default()
            });
        }
        let more = names.len() > limits.batch_mails;
        names.truncate(limits.batch_mails);
        let messages = names.iter().map(|name| {
            let mail = self.drop.retrieve(name);
            RawMessage {
                position: Position::OnServer(name.clone()),
                size: mail.len() as u64,
                bytes: mail.into(),
                old: false,
            }
        });
        let messages = messages.collect();
        self.given.extend(names.iter().cloned());
        self.last = names;
        self.batches += 1;
        Ok(Batch {
            messages,
            cursor: Some(self.cursor()),
            more,
            remember: true,
            ..Batch::default()
        })
    }

    async fn acknowledge(&mut self, acks: &[Acknowledge]) -> Result<(), SourceError> {
        for ack in acks {
            if let (After::Delete, Some(name)) = (&ack.after, ack.position.on_server()) {
                self.deleted.push(name.to_owned());
            }
        }
        let waits = self.list().iter().any(|name| !self.given.contains(name));
        self.drop.0.lock().unwrap().ended_early |= waits;
        // A deletion takes effect only after the end of the session.
        self.close().await;
        Ok(())
    }

    fn acknowledges_last(&self) -> bool {
        true
    }

    async fn wait(&mut self, timeout: Duration) -> Result<(), SourceError> {
        tokio::time::sleep(timeout).await;
        Ok(())
    }

    async fn probe(&mut self, report: &mut (dyn FnMut(ProbeStep<SourceError>) + Send)) {
        let mut probe = ProbeReporter::to(report);
        probe.passed(Step::Connect, || "maildrop".into());
        let mails = self.list().len();
        probe.passed(Step::List, || format!("{mails} mail"));
    }

    fn set_trace(&mut self, trace: Trace) {
        self.trace = Some(trace);
    }

    fn set_known(&mut self, known: Arc<dyn KnownPositions>) {
        self.known = Some(known);
    }

    async fn close(&mut self) {
        let mut held = self.drop.0.lock().unwrap();
        for name in self.deleted.drain(..) {
            held.mails.remove(&name);
        }
    }
}
