//! The state of alerts over series of mails.

use super::*;
use crate::parse;

const MINUTE: i64 = 60_000;
const NOW: i64 = 1_764_000_000_000;

/// An alert of one key, and what its targets received.
struct Told {
    record: Option<AlertRecord>,
    storm: StormWindow,
    policy: AlertPolicy,
    events: Vec<EventKind>,
}

impl Told {
    fn new(policy: AlertPolicy) -> Self {
        Self {
            record: None,
            storm: StormWindow::default(),
            policy,
            events: Vec::new(),
        }
    }

    /// A mail that was sent and arrives at these minutes.
    fn mail(&mut self, state: AlertState, sent: i64, arrives: i64) -> &AlertRecord {
        let report = AlertReport {
            key: "disk/db1",
            host: Some("db1.acme"),
            state,
            seen_ms: NOW + sent * MINUTE,
            now_ms: NOW + arrives * MINUTE,
            old: false,
            is_delivered: true,
            is_mail: true,
        };
        let step = advance(self.record.take(), &report, &self.policy, &mut self.storm);
        self.events.extend(step.event);
        self.record.insert(step.record)
    }

    fn release(&mut self, at: i64) -> Option<EventKind> {
        let step = release(self.record.clone()?, NOW + at * MINUTE)?;
        self.record = Some(step.record);
        step.event
    }

    fn state(&self) -> AlertState {
        self.record.as_ref().unwrap().state
    }
}

use AlertState::{Firing, Resolved};
use EventKind::{AlertFiring, AlertResolved};

#[test]
fn mails_are_ordered_by_when_they_were_sent() {
    let mut told = Told::new(AlertPolicy::default());
    told.mail(Firing, 0, 0);
    told.mail(Resolved, 20, 21);
    // It was under way for half an hour.
    let record = told.mail(Firing, 10, 40);
    assert_eq!((record.state, record.count), (Resolved, 3));
    let record = told.mail(Firing, -5, 41);
    assert_eq!(
        (record.first_seen_ms, record.last_seen_ms, record.count),
        (NOW - 5 * MINUTE, NOW + 20 * MINUTE, 4)
    );
    assert_eq!(told.events, [AlertFiring, AlertResolved]);
    // A late recovery does not resolve what began after it.
    told.mail(Firing, 50, 50);
    told.mail(Resolved, 45, 55);
    assert_eq!(told.state(), Firing);
    // Of two mails of one second, the one that arrives last counts.
    told.mail(Resolved, 50, 56);
    assert_eq!(told.state(), Resolved);
    assert_eq!(
        told.events,
        [AlertFiring, AlertResolved, AlertFiring, AlertResolved]
    );
}

#[test]
fn what_never_fired_is_resolved_in_silence_unless_asked() {
    let mut told = Told::new(AlertPolicy::default());
    told.mail(Resolved, 0, 0);
    told.mail(Resolved, 1, 1);
    assert_eq!((told.state(), told.events.len()), (Resolved, 0));
    told.mail(Firing, 2, 2);
    told.mail(Firing, 3, 3);
    told.mail(Resolved, 4, 4);
    told.mail(Resolved, 5, 5);
    assert_eq!(told.events, [AlertFiring, AlertFiring, AlertResolved]);
    let mut asked = Told::new(AlertPolicy {
        resolved_without_firing: true,
        ..AlertPolicy::default()
    });
    asked.mail(Resolved, 0, 0);
    assert_eq!(asked.events, [AlertResolved]);
}

#[test]
fn a_flapping_alert_says_so_once_and_its_state_when_it_is_quiet() {
    let mut told = Told::new(AlertPolicy::default());
    for n in 0..20 {
        let state = if n % 2 == 0 { Firing } else { Resolved };
        told.mail(state, n, n);
    }
    // The sixth change is the one that says "flapping".
    assert_eq!(told.events.len(), 6);
    assert_eq!(told.events[5], AlertFiring);
    let hold = told.record.as_ref().unwrap().hold.unwrap();
    assert_eq!(hold.reason, HoldReason::Flapping);
    assert_eq!(hold.until_ms, Some(NOW + 79 * MINUTE));
    assert_eq!(told.release(78), None);
    assert_eq!(told.release(79), Some(AlertResolved));
    assert_eq!(told.record.as_ref().unwrap().hold, None);

    // One that stays firing is said to be so.
    let mut told = Told::new(AlertPolicy::default());
    for n in 0..7 {
        told.mail(if n % 2 == 0 { Firing } else { Resolved }, n, n);
    }
    assert_eq!(told.release(200), Some(AlertFiring));
    // Slow changes are no flapping.
    let mut slow = Told::new(AlertPolicy::default());
    for n in 0..20 {
        let state = if n % 2 == 0 { Firing } else { Resolved };
        slow.mail(state, n * 15, n * 15);
    }
    assert_eq!(slow.events.len(), 20);
}

#[test]
fn maintenance_holds_and_delivers_afterwards_what_still_differs() {
    let window = |keys: &[&str], hosts: &[&str]| MaintenanceWindow {
        keys: keys.iter().map(|it| (*it).to_owned()).collect(),
        hosts: hosts.iter().map(|it| (*it).to_owned()).collect(),
        time: MaintenanceTime::Once {
            from_ms: NOW,
            until_ms: NOW + 60 * MINUTE,
        },
    };
    let policy = |window| AlertPolicy {
        maintenance: vec![window],
        ..AlertPolicy::default()
    };
    for (covering, is_held) in [
        (window(&[], &[]), true),
        (window(&["DISK/*"], &["*.acme"]), true),
        (window(&["disk/*"], &["*.bolt"]), false),
        (window(&["backup/*"], &[]), false),
    ] {
        let mut told = Told::new(policy(covering));
        told.mail(Firing, 10, 10);
        assert_eq!(told.events.is_empty(), is_held);
        if is_held {
            assert_eq!(told.release(59), None);
            assert_eq!(told.release(60), Some(AlertFiring));
        }
    }
    // Over before the end: nobody hears of it.
    let mut told = Told::new(policy(window(&[], &[])));
    told.mail(Firing, 10, 10);
    told.mail(Resolved, 20, 20);
    assert_eq!((told.release(60), told.events.len()), (None, 0));
    // What fired before is resolved after the window.
    let mut told = Told::new(policy(window(&[], &[])));
    told.mail(Firing, -10, -10);
    told.mail(Resolved, 20, 20);
    assert_eq!(told.events, [AlertFiring]);
    assert_eq!(told.release(60), Some(AlertResolved));
    // A mail of the window that arrives after it.
    let mut told = Told::new(policy(window(&[], &[])));
    told.mail(Firing, 50, 90);
    assert_eq!(told.release(90), Some(AlertFiring));
}

#[test]
fn a_weekly_window_follows_the_clocks_of_its_zone() {
    let Ok(zone) = jiff::tz::TimeZone::get("Europe/Berlin") else {
        return;
    };
    let clock = |text: &str| text.parse().unwrap();
    let time = MaintenanceTime::Weekly {
        days: vec![jiff::civil::Weekday::Saturday],
        from: clock("22:00"),
        until: clock("04:00"),
        zone,
    };
    let ms = |text: &str| text.parse::<jiff::Timestamp>().unwrap().as_millisecond();
    for (at, end) in [
        ("2026-11-28T20:59:59Z", None),
        ("2026-11-28T21:00:00Z", Some("2026-11-29T03:00:00Z")),
        ("2026-11-29T02:59:59Z", Some("2026-11-29T03:00:00Z")),
        ("2026-11-29T03:00:00Z", None),
        ("2026-11-27T23:00:00Z", None),
        // The night in which the clocks go forward.
        ("2026-03-28T21:30:00Z", Some("2026-03-29T02:00:00Z")),
    ] {
        assert_eq!(time.end_ms(ms(at)), end.map(ms), "{at}");
    }
}

#[test]
fn a_pattern_matches_whole_texts() {
    for (pattern, text, expected) in [
        ("*", "", true),
        ("disk/*", "Disk/db1", true),
        ("*/db1", "disk/db1", true),
        ("d*k/*1", "disk/db1", true),
        ("disk", "disk/db1", false),
        ("a*a", "a", false),
        ("*b*b*", "ab", false),
        ("", "", true),
    ] {
        assert_eq!(matches_pattern(pattern, text), expected, "{pattern} {text}");
    }
    assert!(!matches_pattern(&"*a".repeat(200), &"b".repeat(20_000)));
}

#[test]
fn a_storm_begins_over_its_limit_and_ends_when_it_is_quiet() {
    let limit = StormLimit {
        alerts: 3,
        within_ms: 5 * MINUTE,
    };
    let mut storm = StormWindow::default();
    let mut admit = |minute: i64| storm.admit(limit, NOW + minute * MINUTE);
    let calm = Admission {
        is_held: false,
        begins: false,
        ended: false,
    };
    assert_eq!([admit(0), admit(1), admit(1)], [calm; 3]);
    let held = Admission {
        is_held: true,
        ..calm
    };
    let begins = Admission {
        begins: true,
        ..held
    };
    assert_eq!([admit(2), admit(2)], [begins, held]);
    // The next window is quiet, and still held; the one after it is not.
    assert_eq!(admit(6), held);
    assert_eq!(storm.held, 3);
    let after = storm.admit(limit, NOW + 12 * MINUTE);
    assert_eq!(
        after,
        Admission {
            ended: true,
            ..calm
        }
    );
    // Without another alert, the watch ends it.
    for _ in 0..4 {
        storm.admit(limit, NOW + 13 * MINUTE);
    }
    assert!(storm.is_on && !storm.end(NOW + 21 * MINUTE));
    assert!(storm.end(NOW + 22 * MINUTE) && !storm.is_on);
}

#[test]
fn a_mail_is_ordered_by_its_date_where_that_is_plausible() {
    let sent = |headers: &str| {
        let mail = format!("{headers}From: a@b.example\r\nSubject: x\r\n\r\nx");
        sent_ms(&parse(&mail.into_bytes().into(), &Default::default(), &[]))
    };
    let ms = |text: &str| Some(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    let received = "Received: from a by b; Mon, 30 Nov 2026 10:00:05 +0100\r\n";
    for (date, with_received, expected) in [
        (
            "Mon, 30 Nov 2026 09:59:00 +0100",
            false,
            "2026-11-30T08:59:00Z",
        ),
        (
            "Mon, 30 Nov 2026 09:59:00 +0100",
            true,
            "2026-11-30T08:59:00Z",
        ),
        // Delayed for days on its way.
        (
            "Wed, 25 Nov 2026 09:59:00 +0100",
            true,
            "2026-11-25T08:59:00Z",
        ),
        // A device whose clock was never set.
        (
            "Sat, 1 Jan 2000 00:00:07 +0000",
            true,
            "2026-11-30T09:00:05Z",
        ),
    ] {
        let received = if with_received { received } else { "" };
        let headers = format!("{received}Date: {date}\r\n");
        assert_eq!(sent(&headers), ms(expected), "{headers}");
    }
    assert_eq!(sent(received), ms("2026-11-30T09:00:05Z"));
    assert_eq!(sent(""), None);

    assert_eq!(seen_ms(None, NOW), NOW);
    let ahead = NOW + FUTURE_SLACK_MS;
    assert_eq!(seen_ms(Some(ahead), NOW), ahead);
    assert_eq!(seen_ms(Some(ahead + 1), NOW), NOW);
    assert_eq!(seen_ms(Some(NOW - 900 * MINUTE), NOW), NOW - 900 * MINUTE);
}

#[test]
fn old_mail_tells_nothing_to_targets_and_nothing_about_today() {
    let old = |told: &mut Told, state, sent| {
        let report = AlertReport {
            key: "disk/db1",
            host: None,
            state,
            seen_ms: NOW + sent * MINUTE,
            now_ms: NOW,
            old: true,
            is_delivered: false,
            is_mail: true,
        };
        let step = advance(told.record.take(), &report, &told.policy, &mut told.storm);
        told.events.extend(step.event);
        told.record = Some(step.record);
    };
    let mut told = Told::new(AlertPolicy::default());
    old(&mut told, Firing, -100);
    old(&mut told, Resolved, -200);
    assert_eq!(told.state(), Firing);
    // The targets do not know that it fired.
    told.mail(Resolved, -150, 1);
    assert_eq!((told.state(), told.events.len()), (Resolved, 0));
    old(&mut told, Firing, 5);
    assert_eq!(
        (told.state(), told.record.as_ref().unwrap().count),
        (Resolved, 4)
    );
}

#[test]
fn an_overdue_mail_is_named_with_its_time() {
    for (within_ms, shown) in [
        (26 * 60 * MINUTE, "26h"),
        (7 * 24 * 60 * MINUTE, "7d"),
        (90 * MINUTE, "90m"),
        (1500, "1s"),
        (900, "900ms"),
    ] {
        let alert = overdue("backup/srv", within_ms);
        let summary = alert.summary.unwrap();
        assert_eq!(
            summary,
            format!("no mail with key backup/srv within {shown}")
        );
    }
}
