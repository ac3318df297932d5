//! Freshness over time, without waiting: a look at each moment, on a real store.

use postroom_store::sqlite::SqliteStore;
use postroom_store::{Filter, Store, Upkeep};
use tempfile::TempDir;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

/// A client with two mailboxes, whose objectives are 10 minutes and the default of 30.
const CONFIG: &str = r#"
data_dir = "data"
[tenants.acme]
[mailboxes.support]
tenant = "acme"
protocol = "spool"
path = "support"
fresh = "10m"
[mailboxes.alarms]
tenant = "acme"
protocol = "spool"
path = "alarms"
[mailboxes.silent]
tenant = "acme"
protocol = "spool"
path = "silent"
fresh = "off"
[sinks.psa]
kind = "webhook"
url = "http://127.0.0.1:1/"
secret = { file = "secret" }
"#;

/// A service on one data folder, and the time since the first one started.
struct Room {
    dir: TempDir,
    store: Arc<SqliteStore>,
    freshness: Freshness,
    start: Instant,
}

fn config(dir: &TempDir, text: &str) -> Config {
    let file = dir.path().join("postroom.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(
        dir.path().join("secret"),
        "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
    )
    .unwrap();
    Config::load(&file).unwrap()
}

fn watch(config: &Config, store: &Arc<SqliteStore>, now: Instant) -> Freshness {
    let freshness = Freshness::new(config, store.clone(), watch::Sender::new(()));
    freshness.state().watched.clear();
    freshness.configure(config, now);
    freshness
}

impl Room {
    fn new() -> Self {
        let (dir, start) = (tempfile::tempdir().unwrap(), Instant::now());
        let store = Arc::new(SqliteStore::open(&dir.path().join("data")).unwrap());
        let freshness = watch(&config(&dir, CONFIG), &store, start);
        Self {
            dir,
            store,
            freshness,
            start,
        }
    }

    /// Ends the process and starts the next one.
    async fn restarted(self, minutes: u32) -> Self {
        self.store.close().await;
        drop((self.freshness, self.store));
        let store = Arc::new(SqliteStore::open(&self.dir.path().join("data")).unwrap());
        let config = Config::load(&self.dir.path().join("postroom.toml")).unwrap();
        let freshness = watch(&config, &store, self.start + MINUTE * minutes);
        Self {
            store,
            freshness,
            ..self
        }
    }

    /// Looks at a time, and returns the time until the next look.
    async fn look(&self, minutes: u32) -> Duration {
        let now = self.start + MINUTE * minutes;
        self.freshness.look(now).await.unwrap()
    }

    fn checked(&self, mailbox: &str, minutes: u32) {
        let now = self.start + MINUTE * minutes;
        self.freshness.checked_at(mailbox, now);
    }

    /// Returns the alerts with their states, numbers of changes and titles.
    fn alerts(&self) -> Vec<(String, String, u64, String)> {
        let items = self.store.listings().items(&Filter::default()).unwrap();
        let items = items.map(Result::unwrap);
        items
            .map(|it| {
                let title = it.title.unwrap_or_default();
                (it.alert_key.unwrap(), it.state, it.count.unwrap(), title)
            })
            .collect()
    }

    fn states(&self) -> Vec<(String, u64)> {
        let alerts = self.alerts().into_iter();
        alerts.map(|(_, state, count, _)| (state, count)).collect()
    }

    /// Returns the number of deliveries, each with a key of its own.
    fn deliveries(&self) -> usize {
        let rows = self.store.listings().outbox(&Filter::default()).unwrap();
        let keys: std::collections::BTreeSet<_> = rows
            .map(Result::unwrap)
            .inspect(|row| assert_eq!((row.target.as_str(), row.decision), ("psa", None)))
            .map(|row| row.idempotency_key)
            .collect();
        keys.len()
    }
}

#[tokio::test]
async fn a_mailbox_that_is_not_checked_in_time_raises_one_alert_and_resolves_it() {
    let room = Room::new();
    assert_eq!(room.look(0).await, MINUTE * 10);
    room.checked("support", 5);
    room.freshness
        .troubled("support", MailboxState::SignIn, "nobody is signed in");
    assert_eq!(room.look(14).await, MINUTE);
    assert!(room.alerts().is_empty());
    for minutes in [15, 16, 20] {
        room.look(minutes).await;
        let title = "Mailbox support was not checked successfully for 10m (state: sign-in)";
        assert_eq!(
            room.alerts(),
            [(
                "postroom/mailbox/support/fresh".to_owned(),
                "firing".to_owned(),
                1,
                title.to_owned()
            )]
        );
        assert_eq!(room.deliveries(), 1);
    }
    // A check that fails again before it could be recorded resolves nothing.
    room.checked("support", 21);
    room.freshness
        .troubled("support", MailboxState::Unreachable, "reset");
    room.look(21).await;
    assert_eq!(room.states(), [("firing".to_owned(), 1)]);
    room.checked("support", 22);
    assert_eq!(room.look(22).await, MINUTE * 8);
    assert_eq!(room.states(), [("resolved".to_owned(), 2)]);
    assert_eq!(room.deliveries(), 2);
    room.look(23).await;
    assert_eq!(room.deliveries(), 2);
    // It is no mail.
    let ledger = room.store.listings().ledger(&Filter::default()).unwrap();
    assert!(ledger.is_empty());
}

#[tokio::test]
async fn a_restart_neither_repeats_an_alert_nor_resolves_it_before_a_check() {
    let room = Room::new();
    room.look(10).await;
    assert_eq!(room.states(), [("firing".to_owned(), 1)]);
    let room = room.restarted(60).await;
    room.look(60).await;
    room.look(71).await;
    assert_eq!(room.states(), [("firing".to_owned(), 1)]);
    assert_eq!(room.deliveries(), 1);
    room.checked("support", 72);
    room.look(72).await;
    assert_eq!(room.states(), [("resolved".to_owned(), 2)]);
    assert_eq!(room.deliveries(), 2);
}

#[tokio::test]
async fn the_first_check_after_a_restart_resolves_an_alert_of_the_last_run() {
    let room = Room::new();
    room.look(10).await;
    let room = room.restarted(60).await;
    room.checked("support", 61);
    room.look(61).await;
    assert_eq!(room.states(), [("resolved".to_owned(), 2)]);
    assert_eq!(room.deliveries(), 2);
}

#[tokio::test]
async fn a_host_that_was_down_gives_its_mailboxes_the_whole_window() {
    let room = Room::new();
    room.checked("support", 0);
    let room = room.restarted(60).await;
    room.look(69).await;
    room.checked("support", 69);
    room.look(78).await;
    assert!(room.alerts().is_empty());
    room.look(79).await;
    assert_eq!(room.states(), [("firing".to_owned(), 1)]);
}

#[tokio::test]
async fn an_alert_about_a_mailbox_that_is_gone_is_resolved() {
    let room = Room::new();
    room.look(30).await;
    let firing = ("firing".to_owned(), 1);
    assert_eq!(room.states(), [firing.clone(), firing.clone()]);
    // The mailbox with the default stays, and keeps its age.
    let without = CONFIG.replace("fresh = \"10m\"", "fresh = \"off\"");
    let now = room.start + MINUTE * 31;
    room.freshness.configure(&config(&room.dir, &without), now);
    room.look(31).await;
    assert_eq!(room.states(), [firing, ("resolved".to_owned(), 2)]);
    assert_eq!(room.deliveries(), 3);
}

#[tokio::test]
async fn a_store_that_fails_makes_a_change_late_and_loses_none() {
    let room = Room::new();
    room.look(0).await;
    room.store.close().await;
    let now = room.start + MINUTE * 10;
    assert!(room.freshness.look(now).await.is_err());
    assert!(room.alerts().is_empty());
    assert_eq!(room.freshness.state().due(now).len(), 1);
}
