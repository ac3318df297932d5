//! Clocks that jump: what is due stays due on time, and nothing expires because of an age that only the clock made.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use postroom_config::LineLimits;
use postroom_core::{Action, Clock, ClockHand, Outcome, Ticket};
use postroom_line::bus::Bus;
use postroom_line::clock::Timekeeper;
use postroom_line::deliver::Deliveries;
use postroom_line::retention::{self, Retention};
use postroom_line::target::GuardedTarget;
use postroom_store::sqlite::{SqliteStore, StoreOptions};
use postroom_store::{Journal, JournalId, Outbox, OutboxKind, RoundRobin, Store, Upkeep};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::recorder::Recorder;
use super::{decide, states};

const START: &str = "2026-11-30T12:00:00Z";
/// An hour forward, a day back, to 1970 and to 2100.
const LEAPS: [&str; 4] = [
    "2026-11-30T13:00:00Z",
    "2026-11-29T12:00:00Z",
    "1970-01-01T00:00:00Z",
    "2100-01-01T00:00:00Z",
];
const MINUTE_MS: i64 = 60 * 1000;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A store with one ticket in the outbox, and a clock that can jump.
struct Room {
    dir: TempDir,
    store: Arc<SqliteStore>,
    clock: Clock,
    hand: ClockHand,
    retention: Retention,
    recorder: Recorder,
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn open(dir: &TempDir, clock: &Clock) -> Arc<SqliteStore> {
    let options = StoreOptions {
        clock: clock.clone(),
        ..StoreOptions::default()
    };
    Arc::new(SqliteStore::open_with(dir.path(), &options).unwrap())
}

async fn retention(store: &Arc<SqliteStore>, clock: &Clock) -> Retention {
    let known = retention::known_time(&**store).await;
    Retention {
        store: store.clone(),
        time: Arc::new(Timekeeper::new(clock.clone(), known)),
        keep_raw: 30 * DAY,
        outbox_filled: watch::Sender::default(),
        stop: CancellationToken::new(),
    }
}

impl Room {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (clock, hand) = Clock::settable(time(START));
        let store = open(&dir, &clock);
        let ticket = Action::Ticket(Ticket::default());
        decide(&store, "a", Outcome::Ticket, ticket, clock.now_ms()).await;
        let room = Self {
            retention: retention(&store, &clock).await,
            dir,
            store,
            clock,
            hand,
            recorder: Recorder::default(),
        };
        room.retention.purge(&mut false).await;
        room
    }

    /// Ends the process and starts the next one when the clock shows this time.
    async fn restarted(self, at: &str) -> Self {
        self.store.close().await;
        self.hand.set(time(at));
        let store = open(&self.dir, &self.clock);
        Self {
            retention: retention(&store, &self.clock).await,
            store,
            ..self
        }
    }

    /// Returns the only entry if it is due within this time.
    async fn due_within(&self, ms: i64) -> Option<i64> {
        let until = self.clock.now_ms() + ms;
        let turn = RoundRobin::default();
        let due = self
            .store
            .due_outbox(OutboxKind::Sink, "recorder", until, 1, turn)
            .await
            .unwrap();
        due.first().map(|entry| entry.id)
    }

    /// Refuses the entry until its last attempt.
    async fn refuse_often(&self) {
        let entry = self.due_within(0).await.unwrap();
        for _ in 0..11 {
            let now = self.clock.now_ms();
            self.store.refused(entry, "illegible", now).await.unwrap();
        }
    }

    /// Attempts the entry once more, at a target that refuses it.
    async fn try_once(&self) -> &'static str {
        self.recorder.refuses.store(true, Ordering::Relaxed);
        let target = GuardedTarget::new(Box::new(self.recorder.clone()), 0);
        let id = (OutboxKind::Sink, "recorder".to_owned());
        let limits = LineLimits {
            outbox_age: 3 * DAY,
            ..LineLimits::default()
        };
        let deliveries = Arc::new(Deliveries::new(
            self.store.clone(),
            BTreeMap::from([(id, target)]),
            &limits,
            self.retention.time.clone(),
            Bus::default().publisher(),
            CancellationToken::new(),
        ));
        deliveries.try_once(DAY).await.unwrap();
        states(&self.store)[0].0
    }
}

#[tokio::test]
async fn what_was_due_in_five_minutes_still_is_after_a_leap() {
    for leap in LEAPS {
        let room = Room::new().await;
        let entry = room.due_within(0).await.unwrap();
        let due = room.clock.now_ms() + 5 * MINUTE_MS;
        room.store.refused(entry, "illegible", due).await.unwrap();
        room.hand.set(time(leap));
        room.retention.follow_leap().await;
        assert!(
            room.due_within(5 * MINUTE_MS).await.is_some(),
            "{leap}: it waits for more than five minutes"
        );
        assert!(
            room.due_within(4 * MINUTE_MS).await.is_none(),
            "{leap}: all that waits is tried at once"
        );
    }
}

#[tokio::test]
async fn what_was_due_at_once_and_not_tried_yet_still_is_after_a_leap() {
    for leap in LEAPS {
        let room = Room::new().await;
        room.hand.set(time(leap));
        room.retention.follow_leap().await;
        assert!(room.due_within(0).await.is_some(), "{leap}: it waits");
        let acks = room.store.due_acks("support", 9, room.clock.now_ms());
        assert_eq!(acks.await.unwrap().len(), 1, "{leap}");
    }
}

#[tokio::test]
async fn a_leap_and_the_way_back_leave_all_as_it_was() {
    for leap in LEAPS {
        let room = Room::new().await;
        let entry = room.due_within(0).await.unwrap();
        let due = room.clock.now_ms() + 5 * MINUTE_MS;
        room.store.refused(entry, "illegible", due).await.unwrap();
        for to in [leap, START] {
            room.hand.set(time(to));
            room.retention.follow_leap().await;
            room.retention.purge(&mut false).await;
        }
        assert!(room.due_within(5 * MINUTE_MS).await.is_some(), "{leap}");
        assert!(room.due_within(4 * MINUTE_MS).await.is_none(), "{leap}");
    }
}

#[tokio::test]
async fn no_entry_is_given_up_for_an_age_that_a_leap_made() {
    for leap in LEAPS {
        let room = Room::new().await;
        room.refuse_often().await;
        room.hand.set(time(leap));
        room.retention.follow_leap().await;
        assert_eq!(room.try_once().await, "waiting", "{leap}");
    }
}

#[tokio::test]
async fn no_entry_is_given_up_after_a_start_with_a_clock_that_is_far_off() {
    let room = Room::new().await;
    room.refuse_often().await;
    let room = room.restarted("2100-01-01T00:00:00Z").await;
    assert_eq!(room.try_once().await, "waiting");
}

#[tokio::test]
async fn an_entry_is_given_up_for_its_age_while_the_clock_is_right() {
    let room = Room::new().await;
    room.refuse_often().await;
    let mut at = time(START);
    // The service ran all the time, and its clock was confirmed every hour.
    for _ in 0..4 {
        at += DAY;
        room.hand.set(at);
        room.store.confirm_clock(at.as_millisecond()).await.unwrap();
    }
    let room = room.restarted(&at.to_string()).await;
    assert_eq!(room.try_once().await, "dead");
}

#[tokio::test]
async fn no_mail_is_dropped_by_a_clock_that_leapt() {
    for leap in LEAPS {
        let room = Room::new().await;
        let entry = room.due_within(0).await.unwrap();
        room.store.delivered(entry, "ok".into()).await.unwrap();
        let is_kept = |room: &Room| {
            let listings = room.store.listings();
            listings.raw(JournalId(1)).unwrap().is_some()
        };
        assert!(is_kept(&room));
        room.hand.set(time(leap));
        room.retention.follow_leap().await;
        room.retention.purge(&mut false).await;
        assert!(is_kept(&room), "{leap}, while running");
        let room = room.restarted(leap).await;
        room.retention.purge(&mut false).await;
        assert!(is_kept(&room), "{leap}, at the next start");
    }
}
