//! Sign-in by a person: the requested page, the redirect, the pasted result, the device's code.

use std::time::{Duration, Instant};

use postroom_auth::expiry::State;
use postroom_auth::{
    AnswerError, AuthError, Code, Endpoints, Grant, Need, Profile, Prompt, RedirectListener,
};
use postroom_stand::{AuthorityFailure, Endpoint, Lifetimes, Only, PASSWORD};

use crate::kit::{self, REDIRECT};
use crate::rig::{Rig, code_grant, delegated, proof, stand, words};

const USER: &str = "ana@contoso.example";
const MAIL: &[Need] = &[Need::Imap, Need::Smtp];

#[tokio::test]
async fn a_sign_in_page_is_asked_as_configured() {
    let server = stand().authority();
    let code = |prompt| Grant::AuthorizationCode {
        redirect: None,
        prompt,
    };
    let v1 = Endpoints::Fixed {
        authorize: Some(
            server.v1_authorize_url("page-v1.example") + "?domain_hint=contoso.example",
        ),
        token: server.v1_token_url("page-v1.example").parse().unwrap(),
        device: None,
    };
    let configured = "https://outlook.office365.com/IMAP.AccessAsUser.All offline_access";
    for (profile, prompt, path) in [
        (
            delegated("page-v2.example", code(None)),
            None,
            "/page-v2.example/oauth2/v2.0/authorize",
        ),
        (
            delegated("page-login.example", code(Some(Prompt::Login))),
            Some("login"),
            "/page-login.example/oauth2/v2.0/authorize",
        ),
        (
            delegated("page-select.example", code(Some(Prompt::SelectAccount))),
            Some("select_account"),
            "/page-select.example/oauth2/v2.0/authorize",
        ),
        (
            Profile {
                endpoints: v1,
                scopes: Some(words(configured).into_iter().map(String::from).collect()),
                ..delegated("page-v1.example", code(Some(Prompt::Login)))
            },
            Some("login"),
            "/page-v1.example/oauth2/authorize",
        ),
    ] {
        let tenant = profile.directory.clone().unwrap();
        let rig = Rig::new(profile, Some(USER), &[Need::Imap]);
        let before = Instant::now();
        let status = rig.sign_in(USER).await;
        assert_eq!(status.state, State::Ok, "{tenant}");
        let pages = server.authorize_requests().unwrap();
        let page = pages.iter().find(|page| page.tenant == tenant).unwrap();
        assert_eq!(page.path, path);
        let field = |name: &str| page.form.get(name).map(String::as_str);
        assert_eq!(field("prompt"), prompt, "{tenant}");
        assert_eq!(field("login_hint"), Some(USER));
        assert_eq!(field("response_type"), Some("code"));
        assert_eq!(field("redirect_uri"), Some(REDIRECT));
        assert_eq!(field("code_challenge_method"), Some("S256"));
        assert_eq!(field("code_challenge").unwrap().len(), 43);
        assert!(field("state").unwrap().len() >= 22);
        assert_eq!(field("access_type"), None);
        let token = rig.requests().remove(0);
        assert_eq!(token.path, path.replace("authorize", "token"));
        assert_eq!(token.form["redirect_uri"], REDIRECT);
        // v1 states its lifetime as a string.
        let left = rig
            .status()
            .access_expires
            .unwrap()
            .duration_since(jiff::Timestamp::now());
        assert!(
            left.as_secs() > 3000,
            "{tenant}: {left} after {:?}",
            before.elapsed()
        );
    }
    let pages = server.authorize_requests().unwrap();
    let v1 = pages
        .iter()
        .find(|page| page.tenant == "page-v1.example")
        .unwrap();
    assert_eq!(
        v1.form["domain_hint"], "contoso.example",
        "the address's own query is kept"
    );
    assert_eq!(v1.form["scope"], configured);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_comes_back_to_the_listener() {
    let rig = Rig::new(
        delegated("listener.example", code_grant()),
        Some(USER),
        MAIL,
    );
    let listener = RedirectListener::bind(None).await.unwrap().unwrap();
    let sign_in = rig
        .tokens
        .begin_code(&rig.account, listener.url())
        .await
        .unwrap();
    let url = sign_in.url.clone();
    let browser = async {
        let redirect = tokio::task::spawn_blocking(move || {
            stand().sign_in_by_http(&url, USER, PASSWORD).unwrap()
        });
        let page = kit::http(stand().ca_pem())
            .get(redirect.await.unwrap())
            .send()
            .await
            .unwrap();
        page.text().await.unwrap()
    };
    let finish = async {
        let (code, reply) = listener.wait(&sign_in).await.unwrap();
        let status = rig.tokens.finish_code(sign_in, code).await.unwrap();
        reply.signed_in().await;
        status
    };
    let (status, page) = tokio::join!(finish, browser);
    assert!(page.contains("You are signed in"), "{page}");
    assert_eq!(status.identity.as_deref(), Some(USER));
}

#[tokio::test]
async fn a_pasted_answer_counts_only_for_its_own_sign_in() {
    let rig = Rig::new(delegated("paste.example", code_grant()), Some(USER), MAIL);
    let begin = || rig.tokens.begin_code(&rig.account, REDIRECT);
    let walk = |url: &str| stand().sign_in_by_http(url, USER, PASSWORD).unwrap();
    let (mine, other) = (begin().await.unwrap(), begin().await.unwrap());
    let redirects = (walk(&mine.url), walk(&other.url));
    assert_eq!(
        mine.answer(&redirects.1).unwrap_err(),
        AnswerError::WrongState
    );
    assert!(rig.requests().is_empty(), "nothing was sent for it");

    // The bare code has no state: PKCE detects another sign-in's.
    let bare = |redirect: &str| {
        let (_, code) = redirect.split_once("code=").unwrap();
        code.split('&').next().unwrap().to_owned()
    };
    let strange = begin().await.unwrap();
    let code = strange.answer(&bare(&redirects.1)).unwrap();
    let error = rig.tokens.finish_code(strange, code).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().codes, [501481]);

    let code: Code = mine.answer(&bare(&redirects.0)).unwrap();
    rig.tokens.finish_code(mine, code).await.unwrap();
    assert_eq!(rig.status().state, State::Ok);

    let declined = begin().await.unwrap();
    let redirect = stand()
        .decline_by_http(&declined.url, USER, PASSWORD)
        .unwrap();
    let Err(AnswerError::Refused(error)) = declined.answer(&redirect) else {
        panic!("a declined consent is a refusal: {redirect}");
    };
    let refusal = error.refusal().unwrap();
    assert_eq!(
        (refusal.error.as_str(), &refusal.codes[..]),
        ("access_denied", &[65004][..])
    );
    assert_eq!(
        rig.status().state,
        State::Ok,
        "what was signed in stays signed in"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_waits_for_the_person() {
    let server = stand().authority();
    let only = |tenant| Only {
        tenant: Some(tenant),
        ..Only::default()
    };
    for (tenant, before) in [
        ("device-plain.example", None),
        (
            "device-slow.example",
            Some(AuthorityFailure::oauth(400, "slow_down")),
        ),
        (
            "device-trouble.example",
            Some(AuthorityFailure::status(503, "<html>busy</html>")),
        ),
    ] {
        let rig = Rig::new(delegated(tenant, Grant::DeviceCode), Some(USER), MAIL);
        let sign_in = rig.tokens.begin_device(&rig.account).await.unwrap();
        assert_eq!(sign_in.verification_url, stand().device_page());
        assert!(
            sign_in
                .message
                .as_ref()
                .unwrap()
                .contains(&sign_in.user_code)
        );
        assert!(sign_in.expires_in > Duration::from_secs(60));
        let slow = before.is_some();
        if let Some(failure) = before {
            server
                .fail_only(Endpoint::Token, 1, only(tenant), failure)
                .unwrap();
        }
        let user_code = sign_in.user_code.clone();
        let begun = Instant::now();
        let person = async {
            // Pending at least once.
            let asked = || {
                rig.requests()
                    .iter()
                    .filter(|r| r.status == Some(400))
                    .count()
            };
            while asked() == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            tokio::task::spawn_blocking(move || {
                stand().approve_device(&user_code, USER, PASSWORD).unwrap();
            })
            .await
            .unwrap();
        };
        let (status, ()) = tokio::join!(rig.tokens.finish_device(sign_in), person);
        let status = status.unwrap();
        assert_eq!(
            (status.state, status.identity.as_deref()),
            (State::Ok, Some(USER)),
            "{tenant}"
        );
        if slow && tenant.contains("slow") {
            assert!(
                begun.elapsed() >= Duration::from_secs(6),
                "5 s more between two questions"
            );
        }
        let requests = rig.requests();
        let last = requests.last().unwrap();
        assert_eq!(
            last.grant_type,
            "urn:ietf:params:oauth:grant-type:device_code"
        );
        assert_eq!(proof(last), ["client_id"]);
        assert!(last.refresh_token.is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_code_that_is_declined_or_late_ends_the_sign_in() {
    let rig = Rig::new(
        delegated("device-no.example", Grant::DeviceCode),
        Some(USER),
        MAIL,
    );
    let sign_in = rig.tokens.begin_device(&rig.account).await.unwrap();
    let user_code = sign_in.user_code.clone();
    tokio::task::spawn_blocking(move || {
        stand().decline_device(&user_code, USER, PASSWORD).unwrap()
    })
    .await
    .unwrap();
    let error = rig.tokens.finish_device(sign_in).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().error, "authorization_declined");

    let server = stand().authority();
    let lifetime = |secs| Lifetimes {
        device_secs: Some(secs),
        ..Lifetimes::default()
    };
    server.set_lifetimes(lifetime(2)).unwrap();
    let late = rig.tokens.begin_device(&rig.account).await;
    server.set_lifetimes(lifetime(900)).unwrap();
    let begun = Instant::now();
    let error = rig.tokens.finish_device(late.unwrap()).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().error, "expired_token");
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(rig.status().state, State::SignedOut);
}

#[tokio::test]
async fn a_sign_in_that_a_profile_cannot_do_says_so() {
    let bare = Endpoints::Fixed {
        authorize: None,
        token: stand().token_url("bare.example").parse().unwrap(),
        device: None,
    };
    for grant in [code_grant(), Grant::DeviceCode, Grant::ClientCredentials] {
        let profile = Profile {
            endpoints: bare.clone(),
            ..delegated("bare.example", grant.clone())
        };
        let rig = Rig::new(profile, Some(USER), MAIL);
        for error in [
            rig.tokens
                .begin_code(&rig.account, REDIRECT)
                .await
                .unwrap_err(),
            rig.tokens.begin_device(&rig.account).await.unwrap_err(),
        ] {
            assert!(matches!(error, AuthError::Unusable { .. }), "{error}");
        }
    }
}
