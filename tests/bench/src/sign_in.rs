//! Signing in: the number of token requests for many mailboxes, the spread of refreshes over time, and the cost of the
//! vault.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use postroom_auth::vault::{Access, Record, Vault, VaultKey};
use postroom_auth::{AccessToken, Account, RetryPolicy, Secret};
use postroom_core::backoff::Backoff;
use postroom_stand::{AuthorityFailure, MAIL_SCOPE, OTHER_SCOPE, Stand, TokenRequest};

use crate::figures::{median, percentile, table, time};
use crate::process::Background;
use crate::room::{Room, TRIVIAL_JS, await_sign_ins, sign_ins, tail, target};

/// Reads and writes of the vault.
const VAULT_TURNS: usize = 1000;
/// Profiles that the accounts are spread over.
const PROFILES: usize = 50;
/// The approximate length of a Microsoft token.
const ACCESS_LETTERS: usize = 2000;
const REFRESH_LETTERS: usize = 1500;

/// The time from the moment the last profile sees the outage to the outage's end.
const OUTAGE: Duration = Duration::from_secs(6);
/// More token requests than an outage can cause.
const ALL: usize = 1_000_000;
/// The lifetime of tokens granted after the outage, short enough to wait for their renewals.
const SHORT_LIFETIME: Duration = Duration::from_secs(20);
/// The lifetime of the stand's tokens otherwise.
const LIFETIME_SECS: u64 = 3600;
/// The part of a lifetime after which a token is renewed, in per cent.
const RENEWAL_PERCENT: [f64; 2] = [70.0, 85.0];
/// A renewal this early is not one: the token was requested twice. The margin allows for slow responses.
const TWICE_PERCENT: f64 = 55.0;
/// Refreshes within this time count as simultaneous.
const TOGETHER: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(180);

/// Writes and reads the vault's file of one account repeatedly.
pub fn vault() -> Result<()> {
    let dir = tempfile::tempdir_in(target()?)?;
    let vault = Vault::open(dir.path(), VaultKey::random()?)?;
    let (mut reads, mut writes) = (Vec::new(), Vec::new());
    for turn in 0..VAULT_TURNS {
        let record = record(turn)?;
        let started = Instant::now();
        vault
            .hold(&record.account, Duration::ZERO)?
            .write(&record)?;
        writes.push(started.elapsed());

        let started = Instant::now();
        let kept = vault.read(&record.account)?;
        reads.push(started.elapsed());
        let kept = kept.context("a record that was written is gone")?;
        ensure!(
            kept.access == record.access,
            "the vault holds another record than was written"
        );
    }
    println!("Vault: the record of one account, {VAULT_TURNS} times each");
    let row = |what: &str, taken: &[Duration]| {
        vec![
            what.to_owned(),
            time(median(taken)),
            time(percentile(taken, 0.99)),
            "< 5 ms".to_owned(),
        ]
    };
    table(
        &["", "median", "p99", "goal (median)"],
        &[row("read", &reads), row("write, durable", &writes)],
    );
    println!(
        "  for comparison, one fsync takes {} now",
        time(crate::sync_time()?)
    );
    Ok(())
}

/// Runs the service on `mailboxes` mailboxes that share fifty app-only profiles, and counts token requests at its first and
/// its next start, during an outage of the authorization server and of all sessions, and when the tokens are about to
/// expire.
pub fn run(stand: &Stand, mailboxes: u32) -> Result<()> {
    println!("Signing in: {mailboxes} mailboxes share {PROFILES} app-only profiles");
    let profiles: Vec<String> = (0..PROFILES).map(|n| format!("tenant{n}")).collect();
    let users: Vec<String> = (0..mailboxes)
        .map(|number| format!("sign-in-{number}@acme.example"))
        .collect();
    let rule = TRIVIAL_JS.as_bytes();
    let room = Room::with_profiles(stand, &profiles, &users, "trivial.js", rule)?;
    let service = starts(stand, &room, &profiles, users.len())?;
    let refreshed = outage(stand, &room, users.len())?;
    renewals(stand, &room, &refreshed)?;
    service.stop()?;
    stand.authority().set_token_lifetime(LIFETIME_SECS)?;
    Ok(())
}

/// Starts the service twice; the second one keeps running.
fn starts(stand: &Stand, room: &Room, profiles: &[String], mailboxes: usize) -> Result<Background> {
    let (service, taken, requests) = start(stand, room, mailboxes)?;
    let granted = times(&requests, 200);
    ensure!(
        requests.len() == profiles.len() && granted.len() == profiles.len(),
        "{} token requests for {} profiles, of which {} were granted: {:?}",
        requests.len(),
        profiles.len(),
        granted.len(),
        paths(&requests)
    );
    println!(
        "  first start: all signed in within {}, {} token requests (goal: {})",
        time(taken),
        requests.len(),
        profiles.len()
    );
    service.stop()?;
    let (service, taken, requests) = start(stand, room, mailboxes)?;
    ensure!(
        requests.is_empty(),
        "{} token requests though the vault holds tokens for an hour: {:?}",
        requests.len(),
        paths(&requests)
    );
    println!(
        "  next start: all signed in within {}, 0 token requests (goal: 0)",
        time(taken)
    );
    Ok(service)
}

/// Starts the service and waits until all mailboxes have signed in. Returns the time it took, and the token requests
/// meanwhile.
fn start(
    stand: &Stand,
    room: &Room,
    mailboxes: usize,
) -> Result<(Background, Duration, Vec<TokenRequest>)> {
    stand.authority().clear()?;
    let before = sign_ins(stand);
    let started = Instant::now();
    let log = log(room);
    let service = Background::start(&mut room.postroom(&["run"])?, &log)?;
    await_sign_ins(stand, before + mailboxes, &log)?;
    let taken = started.elapsed();
    Ok((service, taken, stand.authority().token_requests()?))
}

/// Revokes all tokens and ends all sessions while the authorization server responds 503, and observes the refreshes after
/// it has recovered. Returns their times by profile, in Unix milliseconds.
fn outage(stand: &Stand, room: &Room, mailboxes: usize) -> Result<BTreeMap<String, u64>> {
    let authority = stand.authority();
    authority.clear()?;
    authority.set_token_lifetime(SHORT_LIFETIME.as_secs())?;
    let ill = AuthorityFailure::Status {
        code: 503,
        body: String::new(),
        retry_after_secs: None,
    };
    authority.fail_next(ALL, ill)?;
    authority.revoke_tokens()?;
    stand.stop_dovecot()?;
    stand.start_dovecot()?;
    let began = Instant::now();
    await_requests(stand, room, |requests| {
        (times(requests, 503).len() == PROFILES).then_some(())
    })?;
    std::thread::sleep(OUTAGE);

    let before = sign_ins(stand);
    let failed = times(&authority.token_requests()?, 503);
    authority.clear()?;
    let (ended, ended_ms) = (Instant::now(), unix_ms()?);
    let refreshed = await_requests(stand, room, |requests| {
        let granted = times(requests, 200);
        (granted.len() == PROFILES).then_some(granted)
    })?;
    let refreshed: BTreeMap<String, u64> = refreshed
        .into_iter()
        .filter_map(|(profile, at)| Some((profile, *at.first()?)))
        .collect();
    await_sign_ins(stand, before + mailboxes, &log(room))?;

    let counts: Vec<usize> = failed.values().map(Vec::len).collect();
    ensure!(
        counts.len() == refreshed.len(),
        "{} of {} profiles met the outage",
        counts.len(),
        refreshed.len()
    );
    println!(
        "  outage: no tokens for {}, all tokens revoked, all sessions ended; {} to {} token requests a profile",
        time(ended.duration_since(began)),
        counts.iter().min().unwrap_or(&0),
        counts.iter().max().unwrap_or(&0),
    );
    let arrivals: Vec<Duration> = refreshed
        .values()
        .map(|at| Duration::from_millis(at.saturating_sub(ended_ms)))
        .collect();
    let windows: Vec<Duration> = counts.iter().map(|&count| window(count)).collect();
    report_spread(&arrivals, &windows)?;
    let shares = refreshed.iter().filter_map(|(profile, &at)| {
        let failures = failed.get(profile)?;
        let pause = Duration::from_millis(at.saturating_sub(*failures.last()?));
        Some(pause.as_secs_f64() / window(failures.len()).as_secs_f64())
    });
    println!(
        "    the longest pause was {:.0} % of its window",
        shares.fold(0.0, f64::max) * 100.0
    );
    println!(
        "    all mailboxes signed in again within {} of its end",
        time(ended.elapsed())
    );
    Ok(refreshed)
}

fn report_spread(arrivals: &[Duration], windows: &[Duration]) -> Result<()> {
    let (first, last) = (percentile(arrivals, 0.0), percentile(arrivals, 1.0));
    println!(
        "    refreshes after its end: first {}, median {}, last {}; at most {} of {} within {}",
        time(first),
        time(median(arrivals)),
        time(last),
        most_within(arrivals, TOGETHER),
        arrivals.len(),
        time(TOGETHER)
    );
    println!(
        "    the jitter windows they were drawn from: {} to {}, median {}",
        time(percentile(windows, 0.0)),
        time(percentile(windows, 1.0)),
        time(median(windows))
    );
    // A slow machine spreads them out, and never brings them together.
    ensure!(
        last.saturating_sub(first) * 4 >= median(windows),
        "the refreshes came together"
    );
    Ok(())
}

/// Waits for each profile's next token and checks the age of the previous one at that time.
fn renewals(stand: &Stand, room: &Room, refreshed: &BTreeMap<String, u64>) -> Result<()> {
    let renewed = await_requests(stand, room, |requests| {
        let second: BTreeMap<String, u64> = times(requests, 200)
            .into_iter()
            .filter_map(|(profile, at)| Some((profile, *at.get(1)?)))
            .collect();
        (second.len() == refreshed.len()).then_some(second)
    })?;
    let ages: Vec<Duration> = renewed
        .iter()
        .filter_map(|(profile, at)| {
            let granted = refreshed.get(profile)?;
            Some(Duration::from_millis(at.saturating_sub(*granted)))
        })
        .collect();
    let percent =
        |share| percentile(&ages, share).as_secs_f64() * 100.0 / SHORT_LIFETIME.as_secs_f64();
    ensure!(
        percent(0.0) >= TWICE_PERCENT,
        "a token was asked for again at {:.1} % of its life",
        percent(0.0)
    );
    let [early, late] = RENEWAL_PERCENT;
    println!(
        "  renewals ahead of the end: at {:.1} % to {:.1} % of a token's life, median {:.1} % (goal: spread over {early} % to {late} %)",
        percent(0.0),
        percent(1.0),
        percent(0.5)
    );
    Ok(())
}

/// Checks the token requests until `found` returns a result.
fn await_requests<T>(
    stand: &Stand,
    room: &Room,
    found: impl Fn(&[TokenRequest]) -> Option<T>,
) -> Result<T> {
    let started = Instant::now();
    loop {
        let requests = stand.authority().token_requests()?;
        if let Some(found) = found(&requests) {
            return Ok(found);
        }
        ensure!(
            started.elapsed() < PATIENCE,
            "the token requests that were waited for did not come; these did: {:?}\n{}",
            paths(&requests),
            tail(&log(room))
        );
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Returns the times at which each profile received that status, in Unix milliseconds.
fn times(requests: &[TokenRequest], status: u16) -> BTreeMap<String, Vec<u64>> {
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in requests.iter().filter(|r| r.status == Some(status)) {
        let of_profile = times.entry(request.tenant.clone()).or_default();
        of_profile.push(request.time_ms);
    }
    times
}

/// Returns requests and responses, without the secrets.
fn paths(requests: &[TokenRequest]) -> Vec<(&str, Option<u16>)> {
    requests
        .iter()
        .map(|request| (request.path.as_str(), request.status))
        .collect()
}

/// Returns the longest pause after this many failures: with full jitter, the pause is random between almost zero and this.
fn window(failures: usize) -> Duration {
    let longest = Backoff {
        spread_percent: 0,
        ..RetryPolicy::default().transient
    };
    longest.delay(u32::try_from(failures).unwrap_or(u32::MAX), 0)
}

/// Returns the largest number of moments within one `span`.
fn most_within(moments: &[Duration], span: Duration) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let from = |&first: &Duration| {
        sorted
            .iter()
            .filter(|&&moment| moment >= first && moment <= first + span)
            .count()
    };
    sorted.iter().map(from).max().unwrap_or(0)
}

/// Returns a record like that of a signed-in user: a refresh token, and access tokens for two resources.
fn record(turn: usize) -> Result<Record> {
    let mut letters = format!("{turn}.");
    while letters.len() < ACCESS_LETTERS {
        letters.push_str("eyJ0eXAiOiJKV1QiLCJub25jZSI6");
    }
    letters.truncate(ACCESS_LETTERS);
    let expires = Timestamp::now() + Duration::from_secs(LIFETIME_SECS);
    let access = |scope: &str| Access {
        scopes: vec![scope.to_owned()],
        token: AccessToken::new(letters.as_str()),
        expires,
    };
    let account = Account {
        profile: format!("tenant{}", turn % PROFILES),
        login: Some("support@acme.example".into()),
    };
    let mut record = Record::new(account, "authorization-code");
    record.refresh_token = letters.get(..REFRESH_LETTERS).map(Secret::new);
    record.access = vec![access(MAIL_SCOPE), access(OTHER_SCOPE)];
    Ok(record)
}

fn unix_ms() -> Result<u64> {
    Ok(Timestamp::now().as_millisecond().try_into()?)
}

fn log(room: &Room) -> PathBuf {
    room.path().join("run.log")
}
