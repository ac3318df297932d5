//! Tests of when tokens are due, and of what a pause lets through.

use super::*;
use crate::{Account, Secret};

#[test]
fn tokens_are_due_after_70_to_85_per_cent_of_their_life_and_not_together() {
    let received = Timestamp::from_second(1_790_000_000).unwrap();
    for lifetime in [1, 300, 3_600, 172_800] {
        let expires = received + SignedDuration::from_secs(lifetime);
        let mut shares: Vec<i64> = (0..200)
            .map(|_| {
                let age = due(received, expires).duration_since(received);
                (age.as_millis() * 100 / (i128::from(lifetime) * 1_000)) as i64
            })
            .collect();
        shares.sort();
        shares.dedup();
        assert!(*shares.first().unwrap() >= 70 && *shares.last().unwrap() < 85);
        assert!(shares.len() > 8, "{shares:?}");
    }
}

#[test]
fn a_pause_ends_by_the_clock_or_by_a_changed_file() {
    let account = Account {
        profile: "contoso".into(),
        login: None,
    };
    let error = AuthError::SignedOut {
        account: account.clone(),
    };
    let (before, other) = (Stamp(Some((1, 2, 3))), Stamp(Some((1, 2, 4))));
    let ends = Ends {
        stamp: before,
        recoveries: None,
    };
    let hour = Duration::from_secs(3600);
    let asked = Instant::now();
    let mut track = Track::default();
    assert!(track.paused(asked, before, 0).is_none());

    for pause in [None, Some(hour)] {
        track.pause(error.clone(), pause, ends);
        let later = Instant::now() + hour / 2;
        assert_eq!(track.paused(later, before, 0), Some(error.clone()));
        assert!(track.paused(later, other, 0).is_none());
    }
    // If the application was refused, its recovery ends the pause as well.
    let of_client = Ends {
        recoveries: Some(4),
        ..ends
    };
    track.pause(error.clone(), None, of_client);
    assert!(track.paused(asked, before, 4).is_some());
    assert!(track.paused(asked, before, 5).is_none());
    // Over at once: only callers that were already waiting share it.
    track.pause(error.clone(), Some(Duration::ZERO), ends);
    assert_eq!(track.paused(asked, before, 0), Some(error));
    assert!(track.paused(Instant::now() + hour, before, 0).is_none());
    assert!(track.end_pause());
    assert!(!track.end_pause());

    // The rest of a server's requested wait shrinks.
    let busy = AuthError::Transient {
        account,
        reason: "busy".into(),
        retry_after: Some(hour),
    };
    track.pause(busy, Some(hour / 2), ends);
    let left = track
        .paused(asked, before, 0)
        .unwrap()
        .retry_after()
        .unwrap();
    assert!(left <= hour / 2 && left > hour / 3);
}

#[test]
fn what_is_rejected_is_not_taken_over_again() {
    let now = Timestamp::now();
    let scopes = vec!["mail".to_owned()];
    let account = Account {
        profile: "contoso".into(),
        login: None,
    };
    let record = |token: &str| Record {
        access: vec![crate::vault::Access {
            scopes: scopes.clone(),
            token: AccessToken::new(token),
            expires: now + SignedDuration::from_hours(1),
        }],
        refresh_token: Some(Secret::new("r")),
        last_refresh: Some(now),
        ..Record::new(account.clone(), "client-credentials")
    };
    let mut memory = Memory::default();
    memory.adopt(&record("one"), now);
    assert_eq!(
        memory.track(&scopes).fresh(now),
        Some(AccessToken::new("one"))
    );
    assert!(memory.reject(&AccessToken::new("another"), Duration::ZERO));
    assert!(memory.track(&scopes).fresh(now).is_some());
    assert!(memory.reject(&AccessToken::new("one"), Duration::ZERO));
    memory.adopt(&record("one"), now);
    assert!(memory.track(&scopes).good(now).is_none());
    memory.adopt(&record("two"), now);
    assert_eq!(
        memory.track(&scopes).good(now),
        Some(AccessToken::new("two"))
    );
    memory.forget_tokens();
    assert!(memory.track(&scopes).good(now).is_none());
    memory.adopt(&record("one"), now);
    assert!(memory.track(&scopes).good(now).is_some());
}

/// A memory that took over a token of an hour at `received`, as a clock showed it.
fn with_token_of_an_hour(received: Timestamp) -> (Memory, Vec<String>) {
    let scopes = vec!["mail".to_owned()];
    let account = Account {
        profile: "contoso".into(),
        login: None,
    };
    let record = Record {
        access: vec![crate::vault::Access {
            scopes: scopes.clone(),
            token: AccessToken::new("one"),
            expires: received + SignedDuration::from_hours(1),
        }],
        last_refresh: Some(received),
        ..Record::new(account, "client-credentials")
    };
    let mut memory = Memory::default();
    memory.adopt(&record, received);
    memory.track(&scopes).is_used = true;
    (memory, scopes)
}

#[test]
fn a_clock_that_is_set_back_prolongs_no_token() {
    let received: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    for back in ["2026-11-29T12:00:00Z", "1970-01-01T00:00:00Z"] {
        let now: Timestamp = back.parse().unwrap();
        let (mut memory, scopes) = with_token_of_an_hour(received);
        let track = memory.track(&scopes);
        assert!(track.good(now).is_some(), "it was good a moment ago");
        let Next::At(renewed) = track.next(now) else {
            panic!("it is renewed some time");
        };
        assert!(
            renewed <= Instant::now() + Duration::from_secs(60 * 60),
            "set back to {back}, it is renewed as if nothing happened"
        );
        // As long after as its life was, by a clock that does not leap.
        track.age(Duration::from_secs(61 * 60));
        assert!(track.fresh(now).is_none() && track.good(now).is_none());
        assert!(matches!(track.next(now), Next::Now));
    }
}

#[test]
fn a_clock_that_is_put_forward_costs_one_renewal() {
    let received: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    for forward in ["2026-11-30T13:00:00Z", "2100-01-01T00:00:00Z"] {
        let now: Timestamp = forward.parse().unwrap();
        let (mut memory, scopes) = with_token_of_an_hour(received);
        assert!(matches!(memory.track(&scopes).next(now), Next::Now));
        let (mut renewed, scopes) = with_token_of_an_hour(now);
        let track = renewed.track(&scopes);
        assert!(track.fresh(now).is_some());
        assert!(matches!(track.next(now), Next::At(at) if at > Instant::now()));
    }
}

#[test]
fn a_token_that_was_received_in_the_future_is_not_believed() {
    let received: Timestamp = "2026-11-30T12:00:00Z".parse().unwrap();
    let now = received - SignedDuration::from_hours(24);
    let (_, scopes) = with_token_of_an_hour(received);
    let mut memory = Memory::default();
    let record = Record {
        access: vec![crate::vault::Access {
            scopes: scopes.clone(),
            token: AccessToken::new("one"),
            expires: received + SignedDuration::from_hours(1),
        }],
        last_refresh: Some(received),
        ..Record::new(
            Account {
                profile: "contoso".into(),
                login: None,
            },
            "client-credentials",
        )
    };
    memory.adopt(&record, now);
    assert!(
        memory.track(&scopes).good(now).is_none(),
        "its life would be a day longer than it is"
    );
}

impl Track {
    /// Lets time pass for the clock that never leaps.
    fn age(&mut self, by: Duration) {
        let kept = self.kept.as_mut().unwrap();
        for moment in [&mut kept.due, &mut kept.expires] {
            moment.steady -= by;
        }
    }
}
