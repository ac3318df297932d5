//! Tokens against the stand's authorization server: shared, rotated, stored before use, and requested no more often
//! than needed.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use base64::Engine;
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use postroom_auth::expiry::State;
use postroom_auth::vault::{Access, Record, VaultError};
use postroom_auth::{AccessToken, Account, AuthError, Need, RefreshStep, Resource, Tokens};
use postroom_stand::{AuthorityFailure, Behaviour};

use crate::kit::*;

#[tokio::test(flavor = "multi_thread")]
async fn many_mailboxes_share_one_request_also_after_a_restart() {
    let room = Room::new();
    for _restart in 0..2 {
        let tokens = room.tokens(room.app_only());
        let all = join_all((0..20).map(|_| mail_token(&tokens))).await;
        let first = all[0].as_ref().unwrap();
        assert!(all.iter().all(|token| token.as_ref().unwrap() == first));
        let issued = room.requests()[0].access_token.clone().unwrap();
        assert_eq!(first.expose(), issued);
    }
    let requests = room.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(
        requests[0].form["scope"],
        "https://outlook.office365.com/.default"
    );
    let record = room.record(&app_account()).unwrap();
    assert!(record.refresh_token.is_none() && record.refreshing_since.is_none());
    assert_eq!(record.grant, "client-credentials");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_is_rotated_in_the_vault_and_buys_tokens_of_several_resources() {
    let room = Room::new();
    let tokens = room.tokens_for(room.delegated(), &[Need::Imap, Need::Smtp, Need::Graph]);
    let status = room.sign_in(&tokens).await.unwrap();
    assert_eq!(status.state, State::Ok);
    assert_eq!(status.identity, Some(room.user()));
    let account = room.account();
    let first = room.record(&account).unwrap().refresh_token.unwrap();
    assert_eq!(first.expose(), room.newest_refresh_token());

    // The mail token came with the code; the one for Graph costs a refresh.
    let mail = mail_token(&tokens).await.unwrap();
    assert_eq!(room.requests().len(), 1);
    let graph = tokens
        .access_token(&account, Resource::Graph)
        .await
        .unwrap();
    assert_ne!(mail, graph);
    assert_eq!(room.refreshes(), [first.expose()]);
    let scope = room.requests()[1].form["scope"].clone();
    assert!(scope.contains("graph.microsoft.com") && !scope.contains("outlook"));
    let record = room.record(&account).unwrap();
    let second = record.refresh_token.unwrap();
    assert_ne!(second.expose(), first.expose());
    assert_eq!(second.expose(), room.newest_refresh_token());
    assert_eq!(record.access.len(), 2);
    assert_eq!(record.identity, Some(room.user()));

    // A new process needs no request for either.
    let again = room.tokens_for(room.delegated(), &[Need::Imap, Need::Smtp, Need::Graph]);
    assert_eq!(mail_token(&again).await.unwrap(), mail);
    let kept = again.access_token(&account, Resource::Graph).await;
    assert_eq!(kept.unwrap(), graph);
    assert_eq!(room.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_never_send_one_refresh_token_twice() {
    let room = Room::new();
    let one = room.signed_in(room.delegated()).await;
    let two = room.tokens(room.delegated());
    let account = room.account();
    let work = async |tokens: &Tokens| {
        for _ in 0..8 {
            let token = mail_token(tokens).await.unwrap();
            tokens.reject(&account, &token).await;
        }
    };
    futures::join!(work(&one), work(&two), work(&one), work(&two));
    let sent = room.refreshes();
    let distinct: HashSet<_> = sent.iter().collect();
    assert_eq!(sent.len(), distinct.len());
    // Each rejected token costs at most one request, however many callers rejected it.
    assert!((8..32).contains(&sent.len()), "{} refreshes", sent.len());
    assert!(room.requests().iter().all(|it| it.status == Some(200)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_is_replaced_and_an_older_one_is_not() {
    let room = Room::new();
    let tokens = room.tokens(room.app_only());
    let account = app_account();
    let first = mail_token(&tokens).await.unwrap();
    tokens.reject(&account, &first).await;
    let second = mail_token(&tokens).await.unwrap();
    assert_ne!(first, second);
    tokens.reject(&account, &first).await;
    assert_eq!(mail_token(&tokens).await.unwrap(), second);
    assert_eq!(room.requests().len(), 2);
    // Nor does it return from the vault if there is no newer one.
    tokens.reject(&account, &second).await;
    room.fail(1, AuthorityFailure::status(503, ""));
    assert!(mail_token(&tokens).await.unwrap_err().is_transient());
}

/// Returns a record whose access token is due for renewal, and valid for ten more minutes.
fn due_record(room: &Room, account: &Account, grant: &str) -> Record {
    let now = Timestamp::now();
    let scopes = match account.login {
        None => vec!["https://outlook.office365.com/.default".to_owned()],
        Some(_) => room
            .tokens(room.delegated())
            .profile(PROFILE)
            .unwrap()
            .scopes_for(Resource::Mail, &[Need::Imap, Need::Smtp]),
    };
    Record {
        registration: Some(room.app_only().registration()),
        access: vec![Access {
            scopes,
            token: AccessToken::new("due-and-good"),
            expires: now + SignedDuration::from_mins(10),
        }],
        last_refresh: Some(now - SignedDuration::from_mins(60)),
        ..Record::new(account.clone(), grant)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_ahead_of_its_end_and_used_on_when_that_fails() {
    let room = Room::new();
    let account = app_account();
    let record = due_record(&room, &account, "client-credentials");
    let write = |record: &Record| {
        let vault = room.vault();
        let held = vault.hold(&account, Duration::ZERO).unwrap();
        held.write(record).unwrap();
    };
    write(&record);
    room.fail(1, AuthorityFailure::status(503, "busy"));
    let tokens = room.tokens(room.app_only()).with_retries(long_pauses());
    for _ in 0..3 {
        assert_eq!(mail_token(&tokens).await.unwrap().expose(), "due-and-good");
    }
    assert_eq!(room.requests().len(), 1);
    let tokens = room.tokens(room.app_only());
    assert_ne!(mail_token(&tokens).await.unwrap().expose(), "due-and-good");

    // A token received with another grant is not used, nor is one stored with a wrong clock.
    let mut far = record.clone();
    far.access[0].expires = Timestamp::now() + SignedDuration::from_hours(24 * 365);
    far.last_refresh = Some(Timestamp::now() + SignedDuration::from_hours(24 * 364));
    let other = due_record(&room, &account, "password");
    for record in [far, other] {
        write(&record);
        let tokens = room.tokens(room.app_only());
        assert_ne!(mail_token(&tokens).await.unwrap().expose(), "due-and-good");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_ends_in_one_more_request_and_a_clear_state() {
    let room = Room::new();
    let account = room.account();
    let tokens = room
        .signed_in(room.delegated())
        .await
        .with_retries(no_pauses());
    let recovered = tokens.recovered(&account);
    tokens
        .reject(&account, &mail_token(&tokens).await.unwrap())
        .await;
    room.fail(1, AuthorityFailure::AnswerLost);
    assert!(mail_token(&tokens).await.unwrap_err().is_transient());
    assert!(room.record(&account).unwrap().refreshing_since.is_some());

    for _ in 0..5 {
        let error = mail_token(&tokens).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().error, "invalid_grant");
    }
    assert_eq!(room.refreshes().len(), 2);
    let failure = room.record(&account).unwrap().failure.unwrap();
    assert!(failure.answer_lost);
    let status = tokens.statuses(Timestamp::now()).unwrap().remove(0);
    assert_eq!(status.state, State::Failed);
    assert!(status.advice.contains("auth login"), "{}", status.advice);
    // A restart uses tokens that have not expired, without a request.
    let restarted = room.tokens(room.delegated());
    let good = mail_token(&restarted).await.unwrap();
    restarted.reject(&account, &good).await;
    mail_token(&restarted).await.unwrap_err();
    assert_eq!(room.refreshes().len(), 2);

    // A sign-in by another process ends the pause for all.
    let login = room.signed_in(room.delegated()).await;
    assert_eq!(
        login.statuses(Timestamp::now()).unwrap()[0].state,
        State::Ok
    );
    assert!(!recovered.has_changed().unwrap());
    assert_eq!(
        mail_token(&tokens).await.unwrap(),
        mail_token(&login).await.unwrap()
    );
    assert!(recovered.has_changed().unwrap());
    mail_token(&restarted).await.unwrap();
    assert_eq!(room.refreshes().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_does_no_harm_where_the_old_token_goes_on() {
    let room = Room::new();
    let account = room.account();
    let tokens = room
        .signed_in(room.delegated())
        .await
        .with_retries(no_pauses());
    tokens
        .reject(&account, &mail_token(&tokens).await.unwrap())
        .await;
    // The request never arrived: nothing was rotated.
    room.fail(1, AuthorityFailure::status(503, ""));
    mail_token(&tokens).await.unwrap_err();
    mail_token(&tokens).await.unwrap();
    let record = room.record(&account).unwrap();
    assert!(record.refreshing_since.is_none() && record.failure.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_sign_in_is_asked_for_once_and_others_go_on() {
    let room = Room::new();
    let tokens = room
        .signed_in(room.delegated())
        .await
        .with_retries(no_pauses());
    let good = mail_token(&tokens).await.unwrap();
    room.stand.authority().revoke_user(&room.user()).unwrap();
    tokens.reject(&room.account(), &good).await;
    for _ in 0..3 {
        let error = mail_token(&tokens).await.unwrap_err();
        assert_eq!(error.refusal().unwrap().error, "invalid_grant");
    }
    assert_eq!(room.refreshes().len(), 1);
    assert!(
        !room
            .record(&room.account())
            .unwrap()
            .failure
            .unwrap()
            .answer_lost
    );
    room.sign_in(&tokens).await.unwrap();
    mail_token(&tokens).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_is_not_used_and_not_forgotten() {
    static BLOCKED: Mutex<Option<std::path::PathBuf>> = Mutex::new(None);
    let room = Room::new();
    let account = room.account();
    let tokens = room.signed_in(room.delegated()).await;
    *BLOCKED.lock().unwrap() = Some(sealed_file(&room).with_extension("half-written"));
    // After the response has arrived the vault cannot be written: a folder has the file's name.
    let tokens = tokens.with_retries(no_pauses()).on_step(|step| {
        if step == RefreshStep::Received {
            fs::create_dir_all(BLOCKED.lock().unwrap().as_ref().unwrap()).unwrap();
        }
    });
    let old = mail_token(&tokens).await.unwrap();
    tokens.reject(&account, &old).await;
    for _ in 0..3 {
        let error = mail_token(&tokens).await.unwrap_err();
        assert!(matches!(error, AuthError::Vault { .. }), "{error}");
    }
    assert_eq!(room.refreshes().len(), 1);
    assert_ne!(
        room.record(&account)
            .unwrap()
            .refresh_token
            .unwrap()
            .expose(),
        room.newest_refresh_token()
    );
    fs::remove_dir(BLOCKED.lock().unwrap().as_ref().unwrap()).unwrap();
    let token = mail_token(&tokens).await.unwrap();
    assert_eq!(
        token.expose(),
        room.requests()
            .last()
            .unwrap()
            .access_token
            .as_ref()
            .unwrap()
    );
    let record = room.record(&account).unwrap();
    assert_eq!(
        record.refresh_token.unwrap().expose(),
        room.newest_refresh_token()
    );
    assert_eq!(room.refreshes().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_in_and_out_and_what_does_not_fit() {
    let room = Room::new();
    let account = room.account();
    let tokens = room.tokens(room.delegated());
    assert!(matches!(
        mail_token(&tokens).await.unwrap_err(),
        AuthError::SignedOut { .. }
    ));
    assert_eq!(
        tokens.statuses(Timestamp::now()).unwrap()[0].state,
        State::SignedOut
    );
    assert!(!tokens.sign_out(&account).await.unwrap());
    room.sign_in(&tokens).await.unwrap();
    mail_token(&tokens).await.unwrap();
    assert!(tokens.sign_out(&account).await.unwrap());
    assert!(matches!(
        mail_token(&tokens).await.unwrap_err(),
        AuthError::SignedOut { .. }
    ));
    assert!(room.record(&account).is_none());
    assert_eq!(room.requests().len(), 1);

    let unusable =
        |error: AuthError| assert!(matches!(error, AuthError::Unusable { .. }), "{error}");
    unusable(tokens.sign_in_directly(&account).await.unwrap_err());
    unusable(tokens.begin_device(&account).await.err().unwrap());
    let app = room.tokens(room.app_only());
    unusable(
        app.begin_code(&app_account(), REDIRECT)
            .await
            .err()
            .unwrap(),
    );
    let nobody = Account {
        profile: PROFILE.into(),
        login: Some("nobody".into()),
    };
    unusable(app.access_token(&nobody, Resource::Mail).await.unwrap_err());
    let unknown = Account {
        profile: "other".into(),
        login: None,
    };
    assert!(matches!(
        app.access_token(&unknown, Resource::Mail)
            .await
            .unwrap_err(),
        AuthError::UnknownProfile { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_under_another_key_costs_a_token_or_a_sign_in_and_is_kept() {
    let mut room = Room::new();
    mail_token(&room.tokens(room.app_only())).await.unwrap();
    room.signed_in(room.delegated()).await;
    let old_key = std::mem::replace(
        &mut room.key,
        postroom_auth::vault::VaultKey::random().unwrap(),
    );

    let app = room.tokens(room.app_only());
    assert_eq!(
        app.statuses(Timestamp::now()).unwrap()[0].state,
        State::Failed
    );
    mail_token(&app).await.unwrap();
    assert_eq!(app.statuses(Timestamp::now()).unwrap()[0].state, State::Ok);

    let tokens = room.tokens(room.delegated()).with_retries(no_pauses());
    let requests = room.requests().len();
    assert!(matches!(
        mail_token(&tokens).await.unwrap_err(),
        AuthError::Vault {
            source: VaultError::OtherKey { .. },
            ..
        }
    ));
    assert_eq!(room.requests().len(), requests);
    room.sign_in(&tokens).await.unwrap();
    mail_token(&tokens).await.unwrap();
    let aside: Vec<_> = fs::read_dir(room.data_dir().join("vault"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "set-aside"))
        .collect();
    assert_eq!(aside.len(), 2);
    // With the old key and the old files the old tokens work again.
    for path in aside {
        fs::rename(&path, path.with_extension("sealed")).unwrap();
    }
    room.key = old_key;
    mail_token(&room.tokens(room.delegated())).await.unwrap();
    mail_token(&room.tokens(room.app_only())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lifetime_of_next_to_nothing_is_not_believed() {
    for expires_in in [0, 1, 4] {
        let room = Room::new();
        let body = format!(
            r#"{{"access_token":"short","token_type":"Bearer","expires_in":{expires_in}}}"#
        );
        room.fail(1, AuthorityFailure::status(200, &body));
        mail_token(&room.tokens(room.app_only())).await.unwrap();
        let expires = room.record(&app_account()).unwrap().access[0].expires;
        let left = expires.duration_since(Timestamp::now());
        assert!(left > SignedDuration::from_mins(4), "{expires_in}: {left}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sign_in_serves_no_other_registration() {
    let room = Room::new();
    let account = room.account();
    room.signed_in(room.delegated()).await;
    let mut moved = room.delegated();
    moved.client_id = "another-application".into();
    let tokens = room.tokens(moved);
    let status = tokens.statuses(Timestamp::now()).unwrap().remove(0);
    assert_eq!(status.state, State::SignedOut);
    assert!(status.advice.contains("changed"), "{}", status.advice);
    let error = mail_token(&tokens).await.unwrap_err();
    assert!(matches!(error, AuthError::SignedOut { .. }), "{error}");
    let mut elsewhere = room.delegated();
    elsewhere.endpoints = endpoints(room.stand, &format!("other-{}", room.tenant));
    mail_token(&room.tokens(elsewhere)).await.unwrap_err();
    assert_eq!(room.requests().len(), 1);
    // With the old registration the sign-in works as before.
    assert!(room.record(&account).unwrap().refresh_token.is_some());
    mail_token(&room.tokens(room.delegated())).await.unwrap();
    assert_eq!(room.requests().len(), 1);

    // A grant that needs no person requests a token from the new registration.
    let first = mail_token(&room.tokens(room.app_only())).await.unwrap();
    let mut renamed = room.app_only();
    renamed.directory = Some("renamed.example".into());
    let tokens = room.tokens(renamed);
    assert_eq!(
        tokens.statuses(Timestamp::now()).unwrap()[0].access_expires,
        None
    );
    assert_ne!(mail_token(&tokens).await.unwrap(), first);
    assert_eq!(room.requests().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_is_stored_at_the_end() {
    static BLOCKED: Mutex<Option<std::path::PathBuf>> = Mutex::new(None);
    let room = Room::new();
    let account = room.account();
    let tokens = room.signed_in(room.delegated()).await;
    *BLOCKED.lock().unwrap() = Some(sealed_file(&room).with_extension("half-written"));
    let tokens = tokens.with_retries(long_pauses()).on_step(|step| {
        if step == RefreshStep::Received {
            fs::create_dir_all(BLOCKED.lock().unwrap().as_ref().unwrap()).unwrap();
        }
    });
    let old = mail_token(&tokens).await.unwrap();
    tokens.reject(&account, &old).await;
    mail_token(&tokens).await.unwrap_err();
    let kept = || room.record(&account).unwrap().refresh_token.unwrap();
    assert_ne!(kept().expose(), room.newest_refresh_token());
    // The vault becomes writable during the shutdown.
    let free = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        fs::remove_dir(BLOCKED.lock().unwrap().as_ref().unwrap()).unwrap();
    };
    futures::join!(tokens.finish(), free);
    assert_eq!(kept().expose(), room.newest_refresh_token());
}

/// Returns the vault's file of the room's only account.
fn sealed_file(room: &Room) -> std::path::PathBuf {
    fs::read_dir(room.data_dir().join("vault"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|it| it == "sealed"))
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_anywhere_in_clear() {
    let room = Room::new();
    let app = room.tokens(room.app_only());
    mail_token(&app).await.unwrap();
    let tokens = room.signed_in(room.delegated()).await;
    tokens
        .reject(&room.account(), &mail_token(&tokens).await.unwrap())
        .await;
    mail_token(&tokens).await.unwrap();
    room.stand
        .authority()
        .set_behaviour(&room.user(), Behaviour::Disabled)
        .unwrap();
    tokens
        .reject(&room.account(), &mail_token(&tokens).await.unwrap())
        .await;
    mail_token(&tokens).await.unwrap_err();
    room.stand
        .authority()
        .set_behaviour(&room.user(), Behaviour::Ok)
        .unwrap();

    let secrets = room.stand.authority().secrets().unwrap();
    assert!(secrets.contains(&room.newest_refresh_token()));
    let mut seen = 0;
    let mut search = |path: &Path| {
        let bytes = fs::read(path).unwrap();
        seen += bytes.len();
        for secret in &secrets {
            let coded = base64::prelude::BASE64_STANDARD.encode(secret);
            for shape in [secret.as_bytes(), coded.trim_end_matches('=').as_bytes()] {
                let found = shape.len() > 7 && bytes.windows(shape.len()).any(|it| it == shape);
                assert!(!found, "{secret} in {}", path.display());
            }
        }
    };
    let mut folders = vec![room.data_dir()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                search(&path)
            }
        }
    }
    assert!(seen > 500, "only {seen} bytes were searched");
    let shown = format!("{tokens:?} {app:?} {:?}", room.record(&room.account()));
    assert!(
        secrets
            .iter()
            .all(|secret| !shown.contains(secret.as_str()))
    );
}
