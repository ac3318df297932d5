//! Work without a caller: renewals ahead of time, requests whose callers are gone, sign-ins by other processes.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use postroom_auth::vault::{Vault, VaultKey};
use postroom_auth::{
    Account, AccountUse, AuthError, ClientCredential, Endpoints, Grant, Need, Profile, Provider,
    Resource, Tokens,
};
use postroom_stand::{
    AuthorityFailure, Endpoint, Only, Options, PUBLIC_CLIENT_ID, Stand, wait_for,
};
use tokio_util::sync::CancellationToken;

use crate::kit::*;

const LONG: Duration = Duration::from_secs(20);

/// Waits for a condition without blocking the runtime.
async fn until(condition: impl FnMut() -> bool + Send + 'static) {
    let held = tokio::task::spawn_blocking(move || wait_for(LONG, condition));
    assert!(held.await.unwrap(), "it did not come about in {LONG:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_caller_loses_no_refresh_token() {
    let room = Room::new();
    let account = room.account();
    let tokens = Arc::new(room.signed_in(room.delegated()).await);
    let old = mail_token(&tokens).await.unwrap();
    tokens.reject(&account, &old).await;
    room.fail(1, AuthorityFailure::Delay { millis: 400 });
    let caller = tokio::spawn({
        let tokens = tokens.clone();
        async move { mail_token(&tokens).await.map(drop) }
    });
    // The vault records the start just before the request is sent.
    let vault = room.vault();
    let of = account.clone();
    until(move || vault.read(&of).unwrap().unwrap().refreshing_since.is_some()).await;
    caller.abort();
    assert!(caller.await.unwrap_err().is_cancelled());

    // Stopping waits for running requests.
    let stop = CancellationToken::new();
    stop.cancel();
    tokens.keep(stop).await;
    let record = room.record(&account).unwrap();
    assert!(record.refreshing_since.is_none());
    assert_eq!(
        record.refresh_token.unwrap().expose(),
        room.newest_refresh_token()
    );
    assert_ne!(record.access[0].token, old);
    assert_eq!(room.refreshes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_refresh_token_does_not_hold_up_the_end() {
    let room = Room::new();
    let tokens = Arc::new(room.tokens(room.app_only()));
    room.fail(1, AuthorityFailure::Hang);
    let caller = tokio::spawn({
        let tokens = tokens.clone();
        async move { mail_token(&tokens).await.map(drop) }
    });
    // The request is on its way; it would take half a minute to time out.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!caller.is_finished());
    let stop = CancellationToken::new();
    stop.cancel();
    let ended = tokio::time::timeout(LONG, tokens.keep(stop)).await;
    assert!(
        ended.is_ok(),
        "the end waits for a request that loses nothing"
    );
    let told = caller.await.unwrap();
    assert!(told.is_err_and(|error| error.is_transient()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_notices_a_sign_in_by_another_process() {
    let room = Room::new();
    let tokens = Arc::new(room.tokens(room.delegated()));
    mail_token(&tokens).await.unwrap_err();
    let mut recovered = tokens.recovered(&room.account());
    let stop = CancellationToken::new();
    let keeper = tokio::spawn({
        let (tokens, stop) = (tokens.clone(), stop.clone());
        async move { tokens.keep(stop).await }
    });
    let login = room.signed_in(room.delegated()).await;
    tokio::time::timeout(LONG, recovered.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        mail_token(&tokens).await.unwrap(),
        mail_token(&login).await.unwrap()
    );
    stop.cancel();
    tokio::time::timeout(LONG, keeper).await.unwrap().unwrap();
    assert_eq!(room.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_out_by_another_process_ends_the_tokens_here() {
    let room = Room::new();
    let tokens = Arc::new(room.signed_in(room.delegated()).await);
    let stop = CancellationToken::new();
    let keeper = tokio::spawn({
        let (tokens, stop) = (tokens.clone(), stop.clone());
        async move { tokens.keep(stop).await }
    });
    mail_token(&tokens).await.unwrap();
    let other = room.tokens(room.delegated());
    assert!(other.sign_out(&room.account()).await.unwrap());
    let ended = async {
        while mail_token(&tokens).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, ended).await.unwrap();
    let error = mail_token(&tokens).await.unwrap_err();
    assert!(matches!(error, AuthError::SignedOut { .. }), "{error}");
    // A token that another process received replaces the one here.
    let login = room.signed_in(room.delegated()).await;
    let newer = mail_token(&login).await.unwrap();
    let followed = async {
        while mail_token(&tokens).await.ok().as_ref() != Some(&newer) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(LONG, followed).await.unwrap();
    stop.cancel();
    tokio::time::timeout(LONG, keeper).await.unwrap().unwrap();
    assert_eq!(room.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keeper_renews_ahead_of_the_end_and_tries_again_after_trouble() {
    // A separate stand, since lifetimes are the same for all users of a stand.
    let options = Options {
        token_lifetime_secs: 6,
        ..Options::default()
    };
    let stand = tokio::task::spawn_blocking(|| Stand::start_with(options).unwrap())
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let key = VaultKey::random().unwrap();
    let names: Vec<String> = (0..20).map(|number| format!("profile-{number}")).collect();
    let profiles = names.iter().map(|name| Profile {
        name: name.clone(),
        ..app_only(name, endpoints(&stand, &format!("{name}.example")))
    });
    let accounts = names.iter().map(|name| AccountUse {
        account: Account {
            profile: name.clone(),
            login: None,
        },
        needs: vec![Need::Imap],
    });
    let vault = Vault::open(dir.path(), key).unwrap();
    let tokens = Tokens::new(
        http(stand.ca_pem()),
        profiles.collect(),
        accounts.collect(),
        vault,
    )
    .with_retries(no_pauses());
    let tokens = Arc::new(tokens);
    for used in &tokens.accounts()[..19] {
        tokens
            .access_token(&used.account, Resource::Mail)
            .await
            .unwrap();
    }
    let only = Only {
        tenant: Some("profile-3.example"),
        ..Only::default()
    };
    stand
        .authority()
        .fail_only(Endpoint::Token, 2, only, AuthorityFailure::status(503, ""))
        .unwrap();
    let stop = CancellationToken::new();
    let keeper = tokio::spawn({
        let (tokens, stop) = (tokens.clone(), stop.clone());
        async move { tokens.keep(stop).await }
    });
    let stand = Arc::new(stand);
    let times = |stand: &Stand, tenant: &str| -> Vec<u64> {
        let requests = stand.authority().token_requests().unwrap();
        requests
            .iter()
            .filter(|it| it.tenant == tenant && it.status == Some(200))
            .map(|it| it.time_ms)
            .collect()
    };
    let (seen, all) = (stand.clone(), names.clone());
    until(move || {
        all[..19]
            .iter()
            .all(|name| times(&seen, &format!("{name}.example")).len() >= 2)
    })
    .await;
    stop.cancel();
    tokio::time::timeout(LONG, keeper).await.unwrap().unwrap();
    let mut ages = Vec::new();
    for name in names[..19].iter().filter(|name| *name != "profile-3") {
        let times = times(&stand, &format!("{name}.example"));
        ages.push(times[1] - times[0]);
    }
    // 70 to 85 per cent of six seconds, with a margin for a busy machine, and not all at once.
    assert!(
        ages.iter().all(|age| (4_150..6_000).contains(age)),
        "{ages:?}"
    );
    let (first, last) = (ages.iter().min().unwrap(), ages.iter().max().unwrap());
    assert!(last - first > 150, "{ages:?}");
    // No caller requested the last one's token.
    assert!(times(&stand, "profile-19.example").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_news_of_an_account_is_its_own() {
    let room = Room::new();
    let account = |number: u32| Account {
        profile: format!("{PROFILE}-{number}"),
        login: None,
    };
    let profiles = (0..3).map(|number| Profile {
        name: account(number).profile,
        ..room.app_only()
    });
    let used = (0..3).map(|number| AccountUse {
        account: account(number),
        needs: vec![Need::Imap],
    });
    let http = http(room.stand.ca_pem());
    let tokens = Tokens::new(http, profiles.collect(), used.collect(), room.vault())
        .with_retries(no_pauses());
    let news: Vec<_> = (0..3).map(|it| tokens.recovered(&account(it))).collect();
    room.fail(3, AuthorityFailure::status(503, ""));
    for number in 0..3 {
        let failed = tokens.access_token(&account(number), Resource::Mail).await;
        assert!(failed.unwrap_err().is_transient());
    }
    let works = tokens.access_token(&account(1), Resource::Mail).await;
    works.unwrap();
    let told: Vec<bool> = news.iter().map(|it| it.has_changed().unwrap()).collect();
    assert_eq!(told, [false, true, false]);
    // Waiting for an account that does not exist fails.
    assert!(tokens.recovered(&account(9)).changed().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_is_asked_once_for_all_its_accounts() {
    let room = Room::new();
    // A separate stand: discovery requests do not show which test they belong to.
    let start = || Stand::start_with(Options::default()).unwrap();
    let stand = tokio::task::spawn_blocking(start).await.unwrap();
    let authority = stand.authority();
    let mut discovered = room.app_only();
    discovered.provider = Provider::Custom;
    discovered.endpoints = Endpoints::Discovered {
        issuer: authority.issuer().parse().unwrap(),
    };
    discovered.client_id = PUBLIC_CLIENT_ID.into();
    discovered.client = ClientCredential::None;
    let accounts: Vec<AccountUse> = (0..10)
        .map(|number| AccountUse {
            account: Account {
                profile: PROFILE.into(),
                login: Some(format!("{number}@{}", room.tenant)),
            },
            needs: vec![Need::Imap],
        })
        .collect();
    discovered.grant = Grant::AuthorizationCode {
        redirect: None,
        prompt: None,
    };
    let tokens = Tokens::new(
        http(stand.ca_pem()),
        vec![discovered],
        accounts.clone(),
        room.vault(),
    );
    let asked = || authority.discovery_requests().unwrap().len();
    let before = asked();
    authority
        .fail(Endpoint::Discovery, 1, AuthorityFailure::status(503, ""))
        .unwrap();
    let begun = join_all(
        accounts
            .iter()
            .map(|used| tokens.begin_code(&used.account, REDIRECT)),
    )
    .await;
    for (begun, used) in begun.iter().zip(&accounts) {
        let error = begun.as_ref().err().unwrap();
        assert!(error.is_transient());
        assert_eq!(error.account(), Some(&used.account));
    }
    assert_eq!(asked(), before + 1);
    let begun = join_all(
        accounts
            .iter()
            .map(|used| tokens.begin_code(&used.account, REDIRECT)),
    )
    .await;
    assert!(begun.iter().all(Result::is_ok));
    assert_eq!(asked(), before + 2);
}
