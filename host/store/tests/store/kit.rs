//! Mails and verdicts for the tests, built as concisely as possible.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use postroom_core::{
    Action, Address, Alert, AlertPolicy, AlertState, AutomaticLimits, Clock, ContentHash, Cursor,
    Decision, MailFacts, Note, Outcome, OutgoingRoute, Outlets, Position, ReopenPolicy, Reply,
    Routes, Thread, ThreadQuery, Ticket, ticket_numbers,
};
use postroom_store::sqlite::{SqliteControl, SqliteReader, SqliteStore, StoreOptions};
use postroom_store::{
    Conclusion, Control, Filter, JournalBatch, JournalId, Journalled, LedgerRow, Listings, NewMail,
    Store, StoreLimits, Verdict,
};
use tempfile::TempDir;

/// 2025-07-20 in UTC.
pub const NOON_MS: i64 = 1_753_012_800_000;

/// Creates a store in its own folder.
pub fn store() -> (TempDir, Arc<dyn Store>) {
    store_within(StoreLimits::default())
}

/// Creates a store like [`store`], with custom limits.
pub fn store_within(limits: StoreLimits) -> (TempDir, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let store = open_within(dir.path(), limits);
    (dir, store)
}

/// Opens the store of a folder, as the next run does.
pub fn open(dir: &Path) -> Arc<dyn Store> {
    open_within(dir, StoreLimits::default())
}

// Only the next four functions, and the suite's module `sqlite`, name an implementation.

fn open_within(dir: &Path, limits: StoreLimits) -> Arc<dyn Store> {
    let options = StoreOptions {
        limits,
        ..StoreOptions::default()
    };
    Arc::new(SqliteStore::open_with(dir, &options).unwrap())
}

/// Opens the store of a folder with a clock that is set.
pub fn open_at(dir: &Path, clock: Clock) -> Arc<dyn Store> {
    let options = StoreOptions {
        clock,
        ..StoreOptions::default()
    };
    Arc::new(SqliteStore::open_with(dir, &options).unwrap())
}

/// Returns the listings that a command uses, alongside a running service.
pub fn beside(dir: &Path) -> Arc<dyn Listings> {
    Arc::new(SqliteReader::open(dir).unwrap())
}

/// Returns the changes that a command uses, alongside a running service.
pub fn control(dir: &Path, limits: StoreLimits) -> impl Control {
    let options = StoreOptions {
        limits,
        ..StoreOptions::default()
    };
    SqliteControl::new(dir, &options)
}

/// Returns days on which not every mail is accounted for exactly once; none unless the store is wrong.
pub fn imbalance(listings: &dyn Listings) -> Vec<LedgerRow> {
    let mut rows = listings.ledger(&Filter::default()).unwrap();
    rows.retain(|row| !row.balances());
    rows
}

/// Returns a distinct mail for each name.
pub fn mail(name: &str) -> NewMail {
    let bytes = Bytes::from(format!("Message-ID: <{name}@x>\r\n\r\n{name}"));
    NewMail {
        position: Position::OnServer(format!("INBOX/{name}")),
        message_id: format!("{name}@x"),
        content_hash: ContentHash::of(&bytes),
        size: bytes.len() as u64,
        bytes,
        whole: true,
        old: false,
    }
}

pub fn batch(mails: Vec<NewMail>) -> JournalBatch {
    JournalBatch {
        tenant: "acme".into(),
        shared: false,
        mailbox: "support".into(),
        received_ms: NOON_MS,
        mails,
        cursor: Some(Cursor("c".into())),
    }
}

/// Returns the query of a mail with these references and this subject.
pub fn query(references: &[&str], subject: &str, sender: Option<&str>) -> ThreadQuery {
    ThreadQuery {
        references: references.iter().map(|it| (*it).to_owned()).collect(),
        numbers: ticket_numbers(subject),
        sender: sender.map(str::to_owned),
        ..ThreadQuery::default()
    }
}

/// Returns the ticket that a query finds, if tickets take notes forever.
pub fn thread_of(store: &Arc<dyn Store>, tenant: &str, query: &ThreadQuery) -> Option<Thread> {
    let always = ReopenPolicy {
        default_ms: i64::MAX,
        ..ReopenPolicy::default()
    };
    let found = store.listings().thread(tenant, query, &always, NOON_MS);
    found.unwrap().thread
}

pub async fn journal(store: &Arc<dyn Store>, names: &[&str]) -> Vec<Journalled> {
    let mails = names.iter().map(|name| mail(name)).collect();
    store.journal(batch(mails)).await.unwrap()
}

pub async fn journal_one(store: &Arc<dyn Store>, name: &str) -> JournalId {
    journal(store, &[name]).await[0].id()
}

pub fn address(email: &str) -> Address {
    Address {
        name: None,
        email: email.into(),
    }
}

/// Returns a verdict: Ann writes; sinks `psa` and `chat` take tickets and notes, `pager` takes alerts; `out` sends.
pub fn verdict(journal: JournalId, name: &str, outcome: Outcome, actions: Vec<Action>) -> Verdict {
    Verdict {
        journal,
        conclusion: Arc::new(Conclusion {
            decision: Decision {
                outcome,
                actions,
                refused: Vec::new(),
                rule: "rules/acme.js".into(),
                rule_hash: "ab12".into(),
                generation: 3,
                thread: None,
                classified: None,
                rules: Vec::new(),
                troubles: Vec::new(),
                repairs: vec!["no Date".into()],
                log: Vec::new(),
                elapsed_us: 120,
                decided_at: None,
                called_from: Vec::new(),
                provenance: Default::default(),
            },
            kv_writes: Vec::new(),
            kv_reads: Vec::new(),
            lookups: Vec::new(),
            reply: None,
        }),
        mail: MailFacts {
            message_id: format!("{name}@x"),
            references: Vec::new(),
            from: Some(address("Ann@acme.example")),
            subject: format!("About {name}"),
            participants: vec!["ann@acme.example".into(), "bob@partner.example".into()],
            ..MailFacts::default()
        },
        outlets: Arc::new(Outlets {
            routes: Routes {
                ticket: vec!["psa".into(), "chat".into()],
                note: vec!["psa".into(), "chat".into()],
                alert: vec!["pager".into()],
            },
            deliver_old: false,
            outgoing: Some(OutgoingRoute {
                name: "out".into(),
                from_domain: "acme.example".into(),
                automatic: AutomaticLimits::default(),
            }),
            alerts: AlertPolicy::default(),
        }),
    }
}

/// Returns the conclusion of a verdict, to be changed.
pub fn conclusion(verdict: &mut Verdict) -> &mut Conclusion {
    Arc::make_mut(&mut verdict.conclusion)
}

/// Returns the outlets of a verdict, to be changed.
pub fn outlets(verdict: &mut Verdict) -> &mut Outlets {
    Arc::make_mut(&mut verdict.outlets)
}

pub fn ticket(journal: JournalId, name: &str) -> Verdict {
    let action = Action::Ticket(Ticket {
        title: Some(name.into()),
        body: Some("It burns".into()),
        requester: Some("Ann <ann@acme.example>".into()),
        ..Ticket::default()
    });
    verdict(journal, name, Outcome::Ticket, vec![action])
}

pub fn note(journal: JournalId, name: &str, ticket: &str, authorised: bool) -> Verdict {
    let action = Action::Note(Note {
        ticket: Some(ticket.into()),
        body: Some("Still".into()),
        ..Note::default()
    });
    let mut verdict = verdict(journal, name, Outcome::Note, vec![action]);
    conclusion(&mut verdict).decision.thread = Some(Thread {
        ticket: ticket.into(),
        method: postroom_core::ThreadMethod::MessageId,
        authorised,
    });
    verdict
}

pub fn alert(journal: JournalId, name: &str, key: &str, state: AlertState) -> Verdict {
    let action = Action::Alert(Alert {
        key: key.into(),
        state,
        severity: (state == AlertState::Firing).then(|| "critical".into()),
        host: Some("db1".into()),
        service: None,
        summary: Some(format!("{key} is {state:?}")),
        fields: Default::default(),
    });
    verdict(journal, name, Outcome::Alert, vec![action])
}

pub fn ignored(journal: JournalId, name: &str) -> Verdict {
    let action = Action::Ignore {
        reason: "spam".into(),
    };
    verdict(journal, name, Outcome::Ignored, vec![action])
}

pub fn quarantined(journal: JournalId, name: &str) -> Verdict {
    let action = Action::Quarantine {
        reason: "odd".into(),
    };
    verdict(journal, name, Outcome::Quarantined, vec![action])
}

pub fn reply(text: &str) -> Action {
    Action::Reply(Reply {
        once: false,
        text: text.into(),
        html: None,
    })
}

/// Journals a mail and opens a ticket for it. Returns the ticket's number.
pub async fn open_ticket(store: &Arc<dyn Store>, name: &str) -> String {
    let id = journal_one(store, name).await;
    let mut committed = store.commit(vec![ticket(id, name)]).await.unwrap();
    committed.remove(0).tickets.remove(0)
}
