//! The watch over time, without waiting: a look at each moment, on a real store.

use bytes::Bytes;
use jiff::Timestamp;
use postroom_core::{
    Action, ClockHand, ContentHash, Decision, Expect, MailFacts, Outcome, Outlets, Position,
};
use postroom_store::sqlite::{SqliteStore, StoreOptions};
use postroom_store::{
    Commits, Conclusion, Filter, Journal, JournalBatch, NewMail, OutboxKind, Store, Upkeep, Verdict,
};
use tempfile::TempDir;

use super::*;

const CONFIG: &str = r#"
data_dir = "data"
[tenants.acme]
[mailboxes.support]
tenant = "acme"
protocol = "spool"
path = "support"
[sinks.psa]
kind = "webhook"
url = "http://127.0.0.1:1/"
secret = { file = "secret" }
"#;
const MINUTES: i64 = 60;

struct Room {
    dir: TempDir,
    store: Arc<SqliteStore>,
    clock: Clock,
    hand: ClockHand,
    time: Timekeeper,
    watch: AlertWatch,
}

impl Room {
    /// A service that expects a mail within the hour.
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::settable("2026-11-30T12:00:00Z".parse::<Timestamp>().unwrap());
        let store = open(&dir, &clock);
        expect(&store, &clock).await;
        Self::on(dir, store, clock, hand)
    }

    fn on(dir: TempDir, store: Arc<SqliteStore>, clock: Clock, hand: ClockHand) -> Self {
        let file = dir.path().join("postroom.toml");
        std::fs::write(&file, CONFIG).unwrap();
        let secret = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";
        std::fs::write(dir.path().join("secret"), secret).unwrap();
        let config = Config::load(&file).unwrap();
        let bell = watch::Sender::new(());
        Self {
            time: Timekeeper::new(clock.clone(), Some(clock.now_ms())),
            watch: AlertWatch::new(&config, store.clone(), clock.clone(), bell),
            dir,
            store,
            clock,
            hand,
        }
    }

    async fn restarted(self) -> Self {
        self.store.close().await;
        drop((self.watch, self.store));
        let store = open(&self.dir, &self.clock);
        Self::on(self.dir, store, self.clock, self.hand)
    }

    async fn look(&self) -> Duration {
        self.watch.look(&self.time).await.unwrap()
    }

    /// Returns the states of the alerts, and the number of deliveries that wait.
    async fn told(&self) -> (Vec<String>, usize) {
        let items = self.store.listings().items(&Filter::default()).unwrap();
        let states = items.map(|it| it.unwrap().state).collect();
        let due = self.store.listings().outbox(&Filter::default()).unwrap();
        (
            states,
            due.filter(|it| it.as_ref().unwrap().kind == OutboxKind::Sink)
                .count(),
        )
    }
}

fn open(dir: &TempDir, clock: &Clock) -> Arc<SqliteStore> {
    let options = StoreOptions {
        clock: clock.clone(),
        ..StoreOptions::default()
    };
    Arc::new(SqliteStore::open_with(&dir.path().join("data"), &options).unwrap())
}

async fn expect(store: &Arc<SqliteStore>, clock: &Clock) {
    let bytes = Bytes::from_static(b"Message-ID: <a@x>\r\n\r\na");
    let mail = NewMail {
        position: Position::OnServer("INBOX/1".into()),
        message_id: "a@x".into(),
        content_hash: ContentHash::of(&bytes),
        size: bytes.len() as u64,
        bytes,
        whole: true,
        old: false,
    };
    let journalled = store.journal(JournalBatch {
        tenant: "acme".into(),
        shared: false,
        mailbox: "support".into(),
        received_ms: clock.now_ms(),
        mails: vec![mail],
        cursor: None,
    });
    let expect = Action::Expect(Expect {
        key: "backup".into(),
        within_secs: 3600,
    });
    let verdict = Verdict {
        journal: journalled.await.unwrap()[0].id(),
        conclusion: Arc::new(Conclusion::of(Decision {
            outcome: Outcome::Ignored,
            actions: vec![expect],
            refused: Vec::new(),
            rule: "r".into(),
            rule_hash: "h".into(),
            generation: 1,
            thread: None,
            classified: None,
            rules: Vec::new(),
            provenance: Default::default(),
            troubles: Vec::new(),
            repairs: Vec::new(),
            log: Vec::new(),
            elapsed_us: 1,
            decided_at: None,
            called_from: Vec::new(),
        })),
        mail: MailFacts::default(),
        outlets: Arc::new(Outlets::default()),
    };
    store.commit(vec![verdict]).await.unwrap();
}

#[tokio::test]
async fn a_mail_is_missing_only_once_its_mailbox_was_checked_after_the_time() {
    let room = Room::new().await;
    room.watch.checked("support");
    assert_eq!(room.look().await, LOOK_MAX);
    room.hand.leap(61 * MINUTES);
    // The service was down, or its mailbox is: the mail may be on the server.
    room.look().await;
    assert_eq!(room.told().await, (vec![], 0));
    room.watch.checked("other");
    room.look().await;
    assert_eq!(room.told().await, (vec![], 0));
    let room = room.restarted().await;
    room.look().await;
    assert_eq!(room.told().await, (vec![], 0));
    room.watch.checked("support");
    room.look().await;
    assert_eq!(room.told().await, (vec!["firing".to_owned()], 1));
    let room = room.restarted().await;
    room.watch.checked("support");
    room.look().await;
    assert_eq!(room.told().await, (vec!["firing".to_owned()], 1));
}

#[tokio::test]
async fn nothing_is_missing_while_the_clock_is_in_doubt() {
    let room = Room::new().await;
    room.hand.leap(400 * 24 * 60 * MINUTES);
    room.watch.checked("support");
    room.look().await;
    assert_eq!(room.told().await, (vec![], 0));
}
