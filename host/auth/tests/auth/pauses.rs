//! Tokens that cannot be obtained: which accounts retry and when, and what is logged.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use postroom_auth::expiry::State;
use postroom_auth::vault::Cause;
use postroom_auth::{
    Account, AccountUse, AuthError, ClientCredential, Grant, Need, Resource, RetryPolicy, Secret,
    SendSecret, Tokens,
};
use postroom_stand::AuthorityFailure;

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn who_waited_shares_the_failure_and_a_pause_costs_no_request() {
    let room = Room::new();
    room.fail(2, AuthorityFailure::status(503, "busy"));
    let tokens = room.tokens(room.app_only()).with_retries(long_pauses());
    for got in join_all((0..20).map(|_| mail_token(&tokens))).await {
        assert!(got.unwrap_err().is_transient());
    }
    assert!(mail_token(&tokens).await.unwrap_err().is_transient());
    assert_eq!(room.requests().len(), 1);

    // Without pauses each later caller sends a request, and the recovery is logged.
    let tokens = room.tokens(room.app_only()).with_retries(no_pauses());
    let recovered = tokens.recovered(&app_account());
    mail_token(&tokens).await.unwrap_err();
    // A failure that may be temporary is stored once.
    let noted = || room.record(&app_account()).unwrap().failure;
    let failure = noted().unwrap();
    assert!(matches!(failure.cause, Cause::Transient(_)));
    room.fail(1, AuthorityFailure::status(503, "still"));
    mail_token(&tokens).await.unwrap_err();
    assert_eq!(noted(), Some(failure));
    assert!(!recovered.has_changed().unwrap());
    mail_token(&tokens).await.unwrap();
    assert!(recovered.has_changed().unwrap());
    assert_eq!(noted(), None);
    assert_eq!(room.requests().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_left_alone_as_long_as_it_asks() {
    let room = Room::new();
    room.fail(1, AuthorityFailure::retry_after(429, 30));
    let tokens = room.tokens(room.app_only());
    mail_token(&tokens).await.unwrap_err();
    let again = mail_token(&tokens).await.unwrap_err();
    let left = again.retry_after().unwrap();
    assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(31));
    assert_eq!(room.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_that_an_admin_ends_are_remembered_and_end() {
    let room = Room::new();
    let mut wrong = room.app_only();
    wrong.client = ClientCredential::Secret {
        secret: Secret::new("9f0c1d2e-the-id-and-not-the-value"),
        previous: None,
        send: SendSecret::Body,
        expires: None,
    };
    let tokens = room.tokens(wrong);
    for _ in 0..3 {
        let error = mail_token(&tokens).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().codes, [7_000_215]);
    }
    assert_eq!(room.requests().len(), 1);
    assert_eq!(
        tokens.statuses(Timestamp::now()).unwrap()[0].state,
        State::Failed
    );
    // An explicit request ignores the pause.
    tokens.sign_in_directly(&app_account()).await.unwrap_err();
    assert_eq!(room.requests().len(), 2);

    // With the right secret a restart sends a request at once and succeeds; so does a login while the service runs.
    let fixed = room.tokens(room.app_only());
    let status = fixed.sign_in_directly(&app_account()).await.unwrap();
    assert_eq!(status.state, State::Ok);
    assert_eq!(
        mail_token(&tokens).await.unwrap(),
        mail_token(&fixed).await.unwrap()
    );
    assert!(room.record(&app_account()).unwrap().failure.is_none());
    assert_eq!(room.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_sees_a_loop_is_left_alone() {
    for failure in [
        AuthorityFailure::microsoft(400, "invalid_grant", 50196),
        AuthorityFailure::html(),
        AuthorityFailure::empty(),
        AuthorityFailure::Large { bytes: 5_000_000 },
    ] {
        let room = Room::new();
        let tokens = room.signed_in(room.delegated()).await;
        tokens
            .reject(&room.account(), &mail_token(&tokens).await.unwrap())
            .await;
        room.fail(9, failure.clone());
        for _ in 0..20 {
            mail_token(&tokens).await.unwrap_err();
        }
        assert_eq!(room.refreshes().len(), 1, "{failure:?}");
        let status = tokens.statuses(Timestamp::now()).unwrap().remove(0);
        assert_eq!(status.state, State::Failed, "{failure:?}");
        // Nothing is lost.
        let record = room.record(&room.account()).unwrap();
        assert_eq!(
            record.refresh_token.unwrap().expose(),
            room.newest_refresh_token()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_are_refused_one_after_the_other_are_not_asked_for_on_and_on() {
    let room = Room::new();
    let tokens = room
        .tokens(room.app_only())
        .with_retries(RetryPolicy::default());
    let mut seen = HashSet::new();
    for _ in 0..10 {
        let token = mail_token(&tokens).await.unwrap();
        tokens.reject(&app_account(), &token).await;
        seen.insert(token.expose().to_owned());
    }
    // A revoked token is replaced at once, and once more.
    assert_eq!((room.requests().len(), seen.len()), (3, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_resources_that_fail_do_not_end_each_others_pauses() {
    let room = Room::new();
    let needs = [Need::Imap, Need::Graph];
    let account = room.account();
    room.sign_in(&room.tokens_for(room.delegated(), &needs))
        .await
        .unwrap();
    let tokens = room
        .tokens_for(room.delegated(), &needs)
        .with_retries(long_pauses());
    let mail = mail_token(&tokens).await.unwrap();
    tokens.reject(&account, &mail).await;
    room.fail(9, AuthorityFailure::html());
    for _ in 0..3 {
        for resource in [Resource::Mail, Resource::Graph] {
            let failed = tokens.access_token(&account, resource).await;
            assert!(matches!(failed, Err(AuthError::Nonsense { .. })));
        }
    }
    assert_eq!(room.refreshes().len(), 2);
}

#[tokio::test]
async fn a_command_that_tells_its_outcome_is_told_of_no_failure_twice() {
    for (quiet, expected) in [(false, 1), (true, 0)] {
        let said = Said::default();
        let _set = tracing::subscriber::set_default(said.clone());
        let room = Room::new();
        let mut tokens = room.tokens(room.app_only()).with_retries(no_pauses());
        if quiet {
            tokens = tokens.quiet();
        }
        room.fail(
            1,
            AuthorityFailure::microsoft(400, "invalid_client", 7_000_215),
        );
        mail_token(&tokens).await.unwrap_err();
        assert_eq!(said.errors.load(Ordering::Relaxed), expected);
        assert_eq!(said.warnings.load(Ordering::Relaxed), 0);
    }
}

/// Returns the tokens of a new process with ten accounts of one password profile.
fn ten_accounts(room: &Room) -> Tokens {
    let mut profile = room.app_only();
    profile.grant = Grant::Password {
        username: room.user(),
        password: Secret::new("none"),
    };
    let used = (0..10).map(|number| AccountUse {
        account: tenth(number),
        needs: vec![Need::Imap],
    });
    let http = http(room.stand.ca_pem());
    Tokens::new(http, vec![profile], used.collect(), room.vault())
}

fn tenth(number: u32) -> Account {
    Account {
        profile: PROFILE.into(),
        login: Some(format!("{number}@tenth.example")),
    }
}

#[tokio::test]
async fn a_refused_application_is_asked_for_and_told_of_once_for_all_its_accounts() {
    let said = Said::default();
    let _set = tracing::subscriber::set_default(said.clone());
    for (code, word) in [(7_000_215, "invalid_client"), (50_196, "invalid_grant")] {
        let room = Room::new();
        room.fail(99, AuthorityFailure::microsoft(400, word, code));
        let told = said.errors.load(Ordering::Relaxed);
        let all = async |tokens: &Tokens| {
            let accounts: Vec<Account> = (0..10).map(tenth).collect();
            let asked = accounts
                .iter()
                .map(|account| tokens.access_token(account, Resource::Mail));
            for got in join_all(asked).await {
                assert_eq!(got.unwrap_err().refusal().unwrap().codes, [code]);
            }
        };
        let tokens = ten_accounts(&room);
        all(&tokens).await;
        all(&tokens).await;
        assert_eq!(room.requests().len(), 1);
        assert_eq!(said.errors.load(Ordering::Relaxed), told + 1);
        // Each of them is shown as failed, and the next process remembers that.
        let failed = tokens.statuses(Timestamp::now()).unwrap();
        assert!(failed.iter().all(|status| status.state == State::Failed));
        for _restart in 0..3 {
            all(&ten_accounts(&room)).await;
        }
        assert_eq!(room.requests().len(), 1);
        // An explicit request ignores the pause.
        let on_purpose = ten_accounts(&room);
        on_purpose.sign_in_directly(&tenth(3)).await.unwrap_err();
        assert_eq!(room.requests().len(), 2);
    }
}
