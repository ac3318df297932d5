//! `auth status` and expiry: which accounts are signed in, what expires next, and the exit code; no request is sent.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use postroom_e2e::grants::{Case, Walk};
use postroom_e2e::{Room, both};
use postroom_stand::Stand;
use serde_json::Value;

/// The keys of a row, in order.
const KEYS: [&str; 11] = [
    "profile",
    "login",
    "grant",
    "identity",
    "scopes",
    "access_expires",
    "refresh_expires",
    "secret_expires",
    "last_refresh",
    "state",
    "advice",
];

fn shared() -> &'static Stand {
    Stand::shared().expect("the test stand")
}

/// Writes a configuration whose profiles' secrets expire in this many days, `None` without a date; no request is sent.
fn with_secrets_that_end_in(room: &Room, days: &[Option<i64>]) {
    let mut config = String::from("data_dir = \"data\"\n[tenants.acme]\n");
    for (number, days) in days.iter().enumerate() {
        let expires = match days {
            Some(days) => format!("secret_expires = {}\n", day(*days)),
            None => String::new(),
        };
        let _ = write!(
            config,
            "[profiles.p{number}]\nprovider = \"microsoft\"\ntenant = \"acme.example\"\nclient_id = \"app\"\nclient_secret = {{ env = \"POSTROOM_TEST_CLIENT_SECRET\" }}\n{expires}grant = \"client-credentials\"\n[mailboxes.m{number}]\ntenant = \"acme\"\nprotocol = \"imap\"\naddress = \"m{number}@acme.example\"\nprofile = \"p{number}\"\n"
        );
    }
    room.write("postroom.toml", config);
}

fn day(from_now: i64) -> String {
    let today = Timestamp::now().to_zoned(TimeZone::UTC).date();
    today
        .checked_add(from_now.days())
        .expect("a date")
        .to_string()
}

fn statuses(room: &Room, args: &[&str]) -> (Option<i32>, Vec<Value>) {
    let output = room.postroom(&[&["auth", "status", "--json"], args].concat());
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let rows = text.lines().map(|line| {
        let at = KEYS.map(|key| line.find(&format!("\"{key}\":")));
        assert!(at.is_sorted() && at[0].is_some(), "keys of {line}");
        let row: Value = serde_json::from_str(line).expect("a JSON line");
        assert_eq!(
            row.as_object().map(serde_json::Map::len),
            Some(KEYS.len()),
            "{row:#}"
        );
        row
    });
    (output.status.code(), rows.collect())
}

#[test]
fn the_end_of_a_secret_is_told_60_30_and_7_days_ahead() {
    let room = Room::bare(shared());
    let days = [None, Some(61), Some(60), Some(30), Some(7), Some(0)];
    with_secrets_that_end_in(&room, &days);
    let (code, rows) = statuses(&room, &[]);
    assert_eq!(code, Some(0), "{rows:#?}");
    for (row, days) in rows.iter().zip(days) {
        let near = days.is_some_and(|days| days <= 60);
        assert_eq!(
            row["state"],
            if near { "expiring" } else { "untried" },
            "{row:#}"
        );
        let advice = row["advice"].as_str().unwrap();
        match days {
            Some(days) => assert!(advice.contains(&day(days)), "{days}: {advice}"),
            None => assert!(advice.contains("No token was obtained yet"), "{advice}"),
        }
        if let Some(days @ 1..=60) = days {
            assert!(advice.contains(&format!("{days} days")), "{advice}");
        }
    }
    // The same steps at each check and each start.
    let checked = room.ok(&["check"]);
    for (days, told) in days.iter().flatten().zip([false, true, true, true, true]) {
        let of_secret = checked.lines().any(|line| line.contains(&day(*days)));
        assert_eq!(of_secret, told, "{days} days: {checked}");
    }
}

#[test]
fn what_has_ended_fails_the_command() {
    let room = Room::bare(shared());
    with_secrets_that_end_in(&room, &[Some(90), Some(-1)]);
    let (code, rows) = statuses(&room, &[]);
    assert_eq!(code, Some(1));
    let states: Vec<_> = rows.iter().map(|row| row["state"].clone()).collect();
    assert_eq!(states, ["untried", "failed"]);
    assert!(rows[1]["advice"].as_str().unwrap().contains(&day(-1)));
    // For one profile only.
    let (code, rows) = statuses(&room, &["p0"]);
    assert_eq!((code, rows.len()), (Some(0), 1));
    let unknown = room.postroom(&["auth", "status", "p9"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", both(&unknown));
}

#[test]
fn nobody_signed_in_is_no_failure_and_says_how_to() {
    let case = Case::named("code-public");
    let walk = Walk::new(&case, shared());
    let (code, rows) = statuses(&walk.room, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(rows[0]["state"], "signed-out");
    assert_eq!(rows[0]["login"], walk.room.user.as_str());
    for key in [
        "identity",
        "access_expires",
        "refresh_expires",
        "last_refresh",
    ] {
        assert_eq!(rows[0][key], Value::Null, "{key}");
    }
    let advice = rows[0]["advice"].as_str().unwrap();
    assert!(advice.contains("postroom auth login acme"), "{advice}");
    assert!(walk.requests().is_empty());

    // Signed in while a service runs.
    walk.sign_in();
    let running = walk.room.start();
    running.await_log("rules are live");
    let (code, rows) = statuses(&walk.room, &[]);
    assert_eq!(code, Some(0));
    assert_eq!(rows[0]["state"], "ok", "{rows:#?}");
    assert_eq!(rows[0]["identity"], walk.room.user.as_str());
}

#[test]
fn the_table_fits_80_columns() {
    let room = Room::bare(shared());
    with_secrets_that_end_in(&room, &[None, Some(61), Some(7)]);
    let text = room.ok(&["auth", "status"]);
    let table: Vec<&str> = text.lines().take_while(|line| !line.is_empty()).collect();
    assert!(table.len() > 3, "{text}");
    for line in &table {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    for words in ["PROFILE", "STATE", "client-credentials", "expiring", "p2"] {
        assert!(text.contains(words), "{words} is not in {text}");
    }
    assert!(text.contains(&day(7)), "{text}");
}
