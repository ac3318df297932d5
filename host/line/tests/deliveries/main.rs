//! A new kind of target needs only one file that implements `Target`, and one arm where targets are made: order, circuit breaker
//! and receipts come with the deliveries.

// clippy.toml allows it in test functions; the helper functions between them belong to tests too.
#![allow(clippy::unwrap_used)]

mod leaps;
mod recorder;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use postroom_config::LineLimits;
use postroom_core::{
    Action, Clock, ContentHash, Decision, EventKind, MailFacts, Note, Outcome, Outlets, Position,
    Routes, Ticket,
};
use postroom_line::bus::{Bus, Heard};
use postroom_line::clock::Timekeeper;
use postroom_line::deliver::{Deliveries, TargetId, Targets};
use postroom_line::event::LineEvent;
use postroom_line::target::GuardedTarget;
use postroom_store::sqlite::SqliteStore;
use postroom_store::{
    Commits, Conclusion, Filter, Journal, JournalBatch, NewMail, OutboxKind, Store, Verdict,
};
use recorder::Recorder;
use tokio_util::sync::CancellationToken;

const NOON_MS: i64 = 1_753_012_800_000;
const LONG: Duration = Duration::from_secs(60 * 60);

/// Journals a mail and commits the decision on it.
async fn decide(
    store: &SqliteStore,
    name: &str,
    outcome: Outcome,
    action: Action,
    received_ms: i64,
) {
    let bytes = Bytes::from(format!("Message-ID: <{name}@x>\r\n\r\n{name}"));
    let mail = NewMail {
        position: Position::OnServer(name.into()),
        message_id: format!("{name}@x"),
        content_hash: ContentHash::of(&bytes),
        size: bytes.len() as u64,
        bytes,
        whole: true,
        old: false,
    };
    let batch = JournalBatch {
        tenant: "acme".into(),
        shared: false,
        mailbox: "support".into(),
        received_ms,
        mails: vec![mail],
        cursor: None,
    };
    let journal = store.journal(batch).await.unwrap()[0].id();
    let decision = Decision {
        outcome,
        actions: vec![action],
        refused: Vec::new(),
        rule: "r".into(),
        rule_hash: "h".into(),
        generation: 1,
        thread: None,
        classified: None,
        rules: Vec::new(),
        troubles: Vec::new(),
        repairs: Vec::new(),
        log: Vec::new(),
        elapsed_us: 1,
        decided_at: None,
        called_from: Vec::new(),
        provenance: Default::default(),
    };
    let conclusion = Conclusion {
        decision,
        kv_writes: Vec::new(),
        kv_reads: Vec::new(),
        lookups: Vec::new(),
        reply: None,
    };
    let to = || vec!["recorder".to_owned()];
    let verdict = Verdict {
        journal,
        conclusion: Arc::new(conclusion),
        mail: MailFacts::of(format!("{name}@x"), None, |_| false, &Default::default()),
        outlets: Arc::new(Outlets {
            routes: Routes {
                ticket: to(),
                note: to(),
                alert: to(),
            },
            ..Outlets::default()
        }),
    };
    store.commit(vec![verdict]).await.unwrap();
}

fn states(store: &SqliteStore) -> Vec<(&'static str, u32, Option<String>)> {
    let rows = store.listings().outbox(&Filter::default()).unwrap();
    let rows = rows.map(Result::unwrap);
    rows.map(|row| (row.state, row.attempts, row.error.or(row.receipt)))
        .collect()
}

/// Returns the recorder as the only target.
fn targets(id: &TargetId, recorder: &Recorder, limits: &LineLimits) -> Targets {
    let target = Arc::new(GuardedTarget::new(Box::new(recorder.clone()), 0));
    Targets::new(BTreeMap::from([(id.clone(), target)]), Vec::new(), limits)
}

#[tokio::test]
async fn a_target_of_a_new_kind_is_held_retried_and_told_what_it_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(dir.path()).unwrap());
    decide(
        &store,
        "a",
        Outcome::Ticket,
        Action::Ticket(Ticket::default()),
        NOON_MS,
    )
    .await;
    let note = Note {
        ticket: Some("T-1".into()),
        ..Note::default()
    };
    decide(&store, "b", Outcome::Note, Action::Note(note), NOON_MS).await;

    let recorder = Recorder::default();
    let id = (OutboxKind::Sink, "recorder".to_owned());
    let bus = Bus::default();
    let mut events = bus.reader();
    let deliveries = Arc::new(Deliveries::new(
        store.clone(),
        targets(&id, &recorder, &LineLimits::default()),
        Arc::new(Timekeeper::new(Clock::system(), None)),
        bus.publisher(),
        CancellationToken::new(),
    ));

    // While the target is down, nothing counts against an entry.
    recorder.is_down.store(true, Ordering::Relaxed);
    deliveries.clone().try_once(LONG).await.unwrap();
    let down = Some("out of paper".to_owned());
    assert_eq!(states(&store), [("waiting", 0, down), ("waiting", 0, None)]);
    assert!(deliveries.target(&id).unwrap().held_for().is_some());

    recorder.is_down.store(false, Ordering::Relaxed);
    deliveries.target(&id).unwrap().probe_now();
    deliveries.clone().try_once(LONG).await.unwrap();
    let written = || Some("written".to_owned());
    assert_eq!(
        states(&store),
        [("delivered", 1, written()), ("delivered", 1, written())]
    );
    assert!(recorder.closed.load(Ordering::Relaxed));
    // An outage is not an event of the entries that wait for its end.
    let mut delivered = Vec::new();
    while let Some(heard) = events.try_next() {
        match heard {
            Heard::Event(LineEvent::Delivered(it)) => delivered.push(it.receipt.status.clone()),
            _ => panic!("only deliveries"),
        }
    }
    assert_eq!(delivered, ["written", "written"]);

    // The note follows its ticket, with the target's own reference for the ticket.
    let told = recorder.told.lock().unwrap();
    let kinds: Vec<EventKind> = told.iter().map(|it| it.1).collect();
    assert_eq!(kinds, [EventKind::TicketCreated, EventKind::NoteCreated]);
    assert_ne!(told[0].0, told[1].0);
    let references: Vec<_> = told
        .iter()
        .map(|it| it.2.as_ref().map(|it| it.id.as_str()))
        .collect();
    assert_eq!(references, [None, Some("R-T-1")]);
}
