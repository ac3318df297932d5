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
    memory.adopt(&record("one"));
    assert_eq!(memory.track(&scopes).fresh(), Some(AccessToken::new("one")));
    assert!(memory.reject(&AccessToken::new("another"), Duration::ZERO));
    assert!(memory.track(&scopes).fresh().is_some());
    assert!(memory.reject(&AccessToken::new("one"), Duration::ZERO));
    memory.adopt(&record("one"));
    assert!(memory.track(&scopes).good().is_none());
    memory.adopt(&record("two"));
    assert_eq!(memory.track(&scopes).good(), Some(AccessToken::new("two")));
    memory.forget_tokens();
    assert!(memory.track(&scopes).good().is_none());
    memory.adopt(&record("one"));
    assert!(memory.track(&scopes).good().is_some());
}
