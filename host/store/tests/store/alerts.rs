//! Alerts over time: their order, expected mails, holds and storms, over restarts.

use std::sync::Arc;

use jiff::Timestamp;
use postroom_core::alert_state::{FlappingLimit, MaintenanceTime, MaintenanceWindow, StormLimit};
use postroom_core::{
    Action, AlertPolicy, AlertState, Clock, ClockHand, Event, EventKind, Expect, ItemSnapshot,
    Outcome, Receipt,
};
use postroom_store::{
    AlertOutlets, DueAlert, DueKind, Filter, JournalBatch, JournalId, OutboxKind, RoundRobin,
    Store, Verdict,
};
use tempfile::TempDir;

use crate::kit::{NOON_MS, alert, batch, conclusion, mail, open_at, outlets, verdict};

const MINUTE: i64 = 60_000;

/// A store whose clock is set, and the folder that it lies in.
struct Clocked {
    dir: TempDir,
    store: Arc<dyn Store>,
    clock: Clock,
    hand: ClockHand,
    policy: AlertPolicy,
}

impl Clocked {
    fn new() -> Self {
        let noon = Timestamp::from_millisecond(NOON_MS).unwrap();
        let (clock, hand) = Clock::settable(noon);
        let dir = tempfile::tempdir().unwrap();
        Self {
            store: open_at(dir.path(), clock.clone()),
            dir,
            clock,
            hand,
            policy: AlertPolicy::default(),
        }
    }

    async fn restart(&mut self) {
        self.store.close().await;
        self.store = open_at(self.dir.path(), self.clock.clone());
    }

    fn at(&self, minutes: i64) {
        let at = Timestamp::from_millisecond(NOON_MS + minutes * MINUTE).unwrap();
        self.hand.set(at);
    }

    /// Journals a mail now.
    async fn journal(&self, name: &str) -> JournalId {
        let batch = JournalBatch {
            received_ms: self.clock.now_ms(),
            ..batch(vec![mail(name)])
        };
        self.store.journal(batch).await.unwrap()[0].id()
    }

    async fn commit(&self, mut verdict: Verdict) {
        outlets(&mut verdict).alerts = self.policy.clone();
        self.store.commit(vec![verdict]).await.unwrap();
    }

    /// Commits a mail about an alert that was sent at this minute.
    async fn alert(&self, name: &str, key: &str, state: AlertState, sent: i64) {
        let id = self.journal(name).await;
        let mut verdict = alert(id, name, key, state);
        verdict.mail.sent_ms = Some(NOON_MS + sent * MINUTE);
        self.commit(verdict).await;
    }

    /// Commits a mail that expects another one within these minutes, with these actions besides.
    async fn expect(&self, name: &str, key: &str, within: u64, others: Vec<Action>) {
        let id = self.journal(name).await;
        let mut actions = others;
        let outcome = match actions.is_empty() {
            true => Outcome::Ignored,
            false => Outcome::Alert,
        };
        actions.push(Action::Expect(Expect {
            key: key.into(),
            within_secs: within * 60,
        }));
        self.commit(verdict(id, name, outcome, actions)).await;
    }

    async fn due(&self) -> Vec<DueAlert> {
        self.store.due_alerts(100, 0).await.unwrap()
    }

    async fn apply(&self) -> Vec<Option<EventKind>> {
        let mut applied = Vec::new();
        for due in self.due().await {
            let outlets = AlertOutlets {
                policy: self.policy.clone(),
                sinks: vec!["pager".into()],
            };
            applied.push(self.store.apply_due_alert(due, outlets).await.unwrap());
        }
        applied
    }

    fn item(&self, key: &str) -> ItemSnapshot {
        let mut items = self.store.listings().items(&Filter::default()).unwrap();
        items
            .find_map(|it| Some(it.unwrap()).filter(|it| it.alert_key.as_deref() == Some(key)))
            .unwrap()
    }

    /// Delivers everything. Returns the kind and title of each event.
    async fn events(&self) -> Vec<(EventKind, String)> {
        let mut events = Vec::new();
        loop {
            let due = self.store.due_outbox(
                OutboxKind::Sink,
                "pager",
                i64::MAX,
                1000,
                RoundRobin::default(),
            );
            let due = due.await.unwrap();
            if due.is_empty() {
                break;
            }
            for entry in due {
                let event: Event = serde_json::from_str(&entry.payload).unwrap();
                events.push((event.kind, event.item.title.unwrap()));
                self.store
                    .delivered(entry.id, Receipt::default())
                    .await
                    .unwrap();
            }
        }
        events
    }

    async fn kinds(&self) -> Vec<EventKind> {
        let events = self.events().await.into_iter();
        events.map(|(kind, _)| kind).collect()
    }
}

use AlertState::{Firing, Resolved};
use EventKind::{AlertFiring, AlertResolved};

#[tokio::test]
async fn a_late_older_mail_is_counted_and_changes_nothing() {
    let it = Clocked::new();
    it.at(10);
    it.alert("good", "disk", Resolved, 0).await;
    it.alert("bad", "disk", Firing, 5).await;
    it.alert("good again", "disk", Resolved, 10).await;
    it.alert("late", "disk", Firing, -20).await;
    let item = it.item("disk");
    assert_eq!((item.state.as_str(), item.count), ("resolved", Some(4)));
    let shown = |minute: i64| {
        let at = Timestamp::from_millisecond(NOON_MS + minute * MINUTE).unwrap();
        format!("{at:.3}")
    };
    assert_eq!(item.first_seen, Some(shown(-20)));
    assert_eq!(item.last_seen, Some(shown(10)));
    assert_eq!(it.kinds().await, [AlertFiring, AlertResolved]);
}

#[tokio::test]
async fn an_expected_mail_that_does_not_come_raises_its_alert_over_restarts() {
    let mut it = Clocked::new();
    it.expect("one", "backup/srv", 60, Vec::new()).await;
    it.at(30);
    it.restart().await;
    // The next mail moves it.
    it.expect("two", "backup/srv", 60, Vec::new()).await;
    it.at(89);
    assert!(it.due().await.is_empty());
    assert_eq!(
        it.store.next_due_alert().await.unwrap(),
        Some(NOON_MS + 90 * MINUTE)
    );
    it.restart().await;
    it.at(90);
    let due = it.due().await;
    assert_eq!(
        (due[0].kind, due[0].mailbox.as_str(), due[0].key.as_str()),
        (DueKind::Expectation, "support", "backup/srv")
    );
    assert_eq!(it.apply().await, [Some(AlertFiring)]);
    assert!(it.due().await.is_empty());
    it.restart().await;
    assert!(it.due().await.is_empty());
    let item = it.item("backup/srv");
    assert_eq!((item.state.as_str(), item.count), ("firing", Some(0)));
    let rows = it.store.listings().expectations().unwrap();
    assert_eq!((rows[0].state, rows[0].within_secs), ("overdue", 3600));

    it.at(300);
    it.expect("three", "backup/srv", 60, Vec::new()).await;
    assert_eq!(it.item("backup/srv").state, "resolved");
    let events = it.events().await;
    assert_eq!(
        events,
        [
            (
                AlertFiring,
                "no mail with key backup/srv within 1h".to_owned()
            ),
            (
                AlertResolved,
                "a mail with key backup/srv came again".to_owned()
            ),
        ]
    );
    let rows = it.store.listings().expectations().unwrap();
    assert_eq!(rows[0].state, "waiting");
}

#[tokio::test]
async fn a_mail_that_reports_the_expected_alert_says_how_it_is() {
    let it = Clocked::new();
    let report = |state| {
        let verdict = alert(JournalId(0), "x", "backup", state);
        verdict.conclusion.decision.actions.clone()
    };
    it.expect("one", "backup", 60, report(Resolved)).await;
    it.at(60);
    assert_eq!(it.apply().await, [Some(AlertFiring)]);
    it.at(61);
    it.expect("two", "backup", 60, report(Firing)).await;
    assert_eq!(it.item("backup").state, "firing");
    // It is firing already: nothing more is sent, and a mail that does not report it does not resolve it.
    it.at(200);
    assert_eq!(it.apply().await, [None]);
    it.expect("three", "backup", 60, Vec::new()).await;
    assert_eq!(it.item("backup").state, "firing");
    it.at(201);
    // A report without a new expectation counts as the mail, too.
    it.alert("four", "backup", Resolved, 201).await;
    it.at(260);
    assert!(it.due().await.is_empty());
    it.at(261);
    assert_eq!(it.due().await.len(), 1);
    assert_eq!(it.kinds().await, [AlertFiring, AlertFiring, AlertResolved]);
}

#[tokio::test]
async fn old_mail_expects_nothing_that_would_be_overdue() {
    let it = Clocked::new();
    for (name, sent) in [("old", -90), ("younger", -30)] {
        let batch = JournalBatch {
            mails: vec![postroom_store::NewMail {
                old: true,
                ..mail(name)
            }],
            ..batch(Vec::new())
        };
        let id = it.store.journal(batch).await.unwrap()[0].id();
        let expect = Action::Expect(Expect {
            key: format!("backup/{name}"),
            within_secs: 3600,
        });
        let mut verdict = verdict(id, name, Outcome::Ignored, vec![expect]);
        verdict.mail.sent_ms = Some(NOON_MS + sent * MINUTE);
        it.commit(verdict).await;
    }
    let rows = it.store.listings().expectations().unwrap();
    let keys: Vec<&str> = rows.iter().map(|row| row.key.as_str()).collect();
    assert_eq!(keys, ["backup/younger"]);
    assert_eq!(
        it.store.next_due_alert().await.unwrap(),
        Some(NOON_MS + 30 * MINUTE)
    );
}

#[tokio::test]
async fn a_mail_that_is_missing_during_maintenance_raises_its_alert_afterwards() {
    let mut it = Clocked::new();
    it.policy.maintenance = vec![MaintenanceWindow {
        keys: vec!["backup/*".into()],
        hosts: Vec::new(),
        time: MaintenanceTime::Once {
            from_ms: NOON_MS + 50 * MINUTE,
            until_ms: NOON_MS + 100 * MINUTE,
        },
    }];
    for key in ["backup/a", "backup/b"] {
        it.expect(key, key, 60, Vec::new()).await;
    }
    it.at(60);
    assert_eq!(it.apply().await, [None, None]);
    assert_eq!(
        it.item("backup/a").held.map(|it| it.name()),
        Some("maintenance")
    );
    it.at(70);
    it.expect("late", "backup/b", 60, Vec::new()).await;
    it.at(100);
    // The one that came meanwhile is not mentioned.
    assert_eq!(it.apply().await, [Some(AlertFiring), None]);
    assert_eq!(it.kinds().await, [AlertFiring]);
}

#[tokio::test]
async fn what_is_expected_moves_with_a_clock_that_leaps() {
    let it = Clocked::new();
    it.expect("one", "backup", 26 * 60, Vec::new()).await;
    let hour_ms = 60 * MINUTE;
    it.store.shift_due(NOON_MS, 5 * hour_ms).await.unwrap();
    assert_eq!(
        it.store.next_due_alert().await.unwrap(),
        Some(NOON_MS + 31 * hour_ms)
    );
}

#[tokio::test]
async fn a_flapping_alert_is_released_when_it_is_quiet() {
    let mut it = Clocked::new();
    it.policy.flapping = Some(FlappingLimit {
        changes: 4,
        within_ms: 10 * MINUTE,
    });
    for n in 0..9 {
        it.at(n);
        let state = if n % 2 == 0 { Firing } else { Resolved };
        it.alert(&format!("m{n}"), "link", state, n).await;
    }
    let events = it.events().await;
    assert_eq!(events.len(), 4);
    assert_eq!(
        events[3],
        (AlertFiring, "link is Resolved (flapping)".to_owned())
    );
    assert_eq!(it.item("link").held.map(|it| it.name()), Some("flapping"));
    it.restart().await;
    it.at(17);
    assert!(it.due().await.is_empty());
    it.at(18);
    assert_eq!(it.apply().await, [Some(AlertFiring)]);
    assert_eq!(it.item("link").held, None);
    assert_eq!(it.kinds().await, [AlertFiring]);
}

#[tokio::test]
async fn a_storm_is_one_alert_and_every_alert_is_recorded() {
    let mut it = Clocked::new();
    it.policy.storm = Some(StormLimit {
        alerts: 10,
        within_ms: 5 * MINUTE,
    });
    for n in 0..50 {
        it.alert(&format!("m{n}"), &format!("host/{n}"), Firing, 0)
            .await;
    }
    let events = it.events().await;
    assert_eq!(events.len(), 11, "{events:#?}");
    let summary = "More than 10 alerts began to fire within 300 s: further ones are recorded and not delivered";
    assert!(events.iter().any(|(_, title)| title == summary));
    let items = it.store.listings().items(&Filter::default()).unwrap();
    let firing = items.filter(|it| it.as_ref().unwrap().state == "firing");
    assert_eq!(firing.count(), 51);
    it.restart().await;
    it.at(9);
    assert!(it.due().await.is_empty());
    it.at(10);
    assert_eq!(it.apply().await, [Some(AlertResolved)]);
    assert_eq!(
        it.events().await,
        [(
            AlertResolved,
            "The storm of alerts is over; 40 alerts were recorded and not delivered".to_owned()
        )]
    );
    // An alert that still fires is delivered with its next mail.
    it.alert("again", "host/49", Firing, 10).await;
    assert_eq!(it.kinds().await, [AlertFiring]);
}

#[tokio::test]
async fn a_decision_shows_the_alert_that_is_firing() {
    let it = Clocked::new();
    let id = it.journal("summary").await;
    let mut verdict = alert(id, "summary", "dc01", Resolved);
    let bad = alert(id, "summary", "sql01", Firing);
    let bad = bad.conclusion.decision.actions.clone();
    conclusion(&mut verdict).decision.actions.extend(bad);
    it.commit(verdict).await;
    let mut rows = it.store.listings().decisions(&Filter::default()).unwrap();
    let row = rows.next().unwrap().unwrap();
    assert_eq!(row.alert_key.as_deref(), Some("sql01"));
    assert_eq!(row.alert_state, Some(Firing));
}
