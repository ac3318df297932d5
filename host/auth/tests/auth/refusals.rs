//! Everything that can go wrong in a token request: each case ends in a clear error after one request, and loses
//! nothing.

use std::time::{Duration, Instant};

use postroom_auth::{
    AuthError, Certificate, ClientCredential, Endpoints, ExchangeLimits, Grant, Need, Profile,
    Resource, Secret,
};
use postroom_stand::{
    AuthorityFailure, Behaviour, CERTIFICATE_CLIENT_ID, CLIENT_ID, Endpoint, Only, PASSWORD,
    PUBLIC_CLIENT_ID, UNKNOWN_TENANT,
};

use crate::rig::{Rig, app_only, code_grant, delegated, microsoft, password_grant, secret, stand};

const MAIL: &[Need] = &[Need::Imap, Need::Smtp];

/// Returns the error word and AADSTS number of a refusal.
fn codes(error: &AuthError) -> (&str, u32) {
    let refusal = error
        .refusal()
        .unwrap_or_else(|| panic!("not refused: {error}"));
    assert!(refusal.correlation_id.is_some(), "{refusal}");
    assert!(refusal.description.is_some(), "{refusal}");
    (&refusal.error, refusal.codes[0])
}

#[tokio::test]
async fn what_is_wrong_with_an_application_is_said_by_its_number() {
    let server = stand().authority();
    server.certificate_pem().unwrap();
    let expired = "Ex1~an-expired-secret";
    server.expire_secrets(CLIENT_ID, &[expired]).unwrap();
    let strange = server.new_certificate(30).unwrap();
    let strange = Certificate::from_pem(&Secret::new(strange)).unwrap();
    let at = |tenant: &str, change: fn(Profile) -> Profile| change(app_only(tenant));
    let with = |tenant: &str, client: ClientCredential| Profile {
        client,
        ..app_only(tenant)
    };
    for (profile, expected) in [
        (
            Profile {
                endpoints: microsoft(UNKNOWN_TENANT),
                directory: Some(UNKNOWN_TENANT.into()),
                ..app_only("wrong-tenant")
            },
            ("invalid_request", 90002),
        ),
        // The secret's id instead of its value.
        (
            with(
                "secret-id.example",
                secret("5b2c4c5e-7d0f-4a0b-9a3e-0f6d7c8b9a10"),
            ),
            ("invalid_client", 7000215),
        ),
        (
            with("expired-secret.example", secret(expired)),
            ("invalid_client", 7000222),
        ),
        (
            with("no-secret.example", ClientCredential::None),
            ("invalid_client", 7000218),
        ),
        (
            Profile {
                client_id: PUBLIC_CLIENT_ID.into(),
                grant: password_grant("ana@contoso.example"),
                ..app_only("public-secret.example")
            },
            ("invalid_client", 700025),
        ),
        (
            Profile {
                client_id: CERTIFICATE_CLIENT_ID.into(),
                client: ClientCredential::Certificate(strange.into()),
                ..app_only("strange-certificate.example")
            },
            ("invalid_client", 700027),
        ),
        (
            at("no-app.example", |p| Profile {
                client_id: "00000000-0000-4000-8000-00000000dead".into(),
                ..p
            }),
            ("unauthorized_client", 700016),
        ),
        (at("common", |p| p), ("invalid_request", 50194)),
        (
            at("no-resource.example", |p| Profile {
                scopes: Some(vec!["https://no.example/.default".into()]),
                ..p
            }),
            ("invalid_resource", 500011),
        ),
        (
            at("no-default.example", |p| Profile {
                scopes: Some(vec![
                    "https://outlook.office365.com/IMAP.AccessAsApp".into(),
                ]),
                ..p
            }),
            ("invalid_scope", 70011),
        ),
        (
            Profile {
                scopes: Some(vec![
                    "https://outlook.office.com/SMTP.Send".into(),
                    "https://graph.microsoft.com/Mail.Send".into(),
                ]),
                ..delegated(
                    "two-resources.example",
                    password_grant("ana@contoso.example"),
                )
            },
            ("invalid_request", 28000),
        ),
    ] {
        let name = profile.name.clone();
        let login =
            matches!(profile.grant, Grant::Password { .. }).then_some("ana@contoso.example");
        let error = Rig::new(profile, login, MAIL).failure(1).await;
        assert_eq!(codes(&error), expected, "{name}: {error}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_user_is_said_by_its_number() {
    let server = stand().authority();
    for (user, behaviour, expected) in [
        ("mfa@users.example", Behaviour::Mfa, 50076),
        ("locked@users.example", Behaviour::Locked, 50053),
        ("expired@users.example", Behaviour::Expired, 50055),
        ("disabled@users.example", Behaviour::Disabled, 50057),
        ("unknown@users.example", Behaviour::Unknown, 50034),
        ("no-consent@users.example", Behaviour::NoConsent, 65001),
    ] {
        server.set_behaviour(user, behaviour).unwrap();
        let profile = delegated(
            &format!("{}.example", user.replace('@', ".")),
            password_grant(user),
        );
        let error = Rig::new(profile, Some(user), MAIL).failure(1).await;
        assert_eq!(
            codes(&error),
            ("invalid_grant", expected),
            "{user}: {error}"
        );
    }
    let user = "typo@users.example";
    let grant = Grant::Password {
        username: user.into(),
        password: Secret::new("wrong"),
    };
    let error = Rig::new(delegated("typo.example", grant), Some(user), MAIL)
        .failure(1)
        .await;
    assert_eq!(codes(&error), ("invalid_grant", 50126));
}

/// Orders one failure and returns the outcome of one token request.
async fn ordered(tenant: &str, failure: AuthorityFailure) -> AuthError {
    let only = Only {
        tenant: Some(tenant),
        ..Only::default()
    };
    stand()
        .authority()
        .fail_only(Endpoint::Token, 1, only, failure)
        .unwrap();
    let limits = ExchangeLimits {
        timeout: Duration::from_millis(800),
        ..ExchangeLimits::default()
    };
    let rig = Rig::with(app_only(tenant), None, MAIL, |tokens| {
        tokens.with_limits(limits)
    });
    let error = rig.failure(1).await;
    // The failure does not persist.
    rig.tokens.sign_in_directly(&rig.account).await.unwrap();
    error
}

#[tokio::test]
async fn an_answer_that_is_none_is_named_and_never_quoted() {
    let token = r#"{"access_token":{"hunter2":1},"token_type":"bearer"}"#;
    for (place, (failure, expected)) in [
        (AuthorityFailure::html(), "HTTP 200 OK with an HTML page instead of JSON (is this the right address?)"),
        (AuthorityFailure::status(404, "<html>no such page</html>"), "HTTP 404 Not Found with an HTML page instead of JSON (is this the right address?)"),
        (AuthorityFailure::empty(), "HTTP 200 OK with nothing in it"),
        (AuthorityFailure::status(401, ""), "HTTP 401 Unauthorized with nothing in it"),
        (AuthorityFailure::Large { bytes: 5_000_000 }, "HTTP 200 OK with more than 1048576 bytes"),
        (AuthorityFailure::status(302, "over there"), "HTTP 302 Found: a redirect, which is not followed because the secret would travel along"),
        (
            AuthorityFailure::status(200, token),
            "the token is missing or no printable text",
        ),
        (
            AuthorityFailure::status(400, "hunter2"),
            "an answer that is no JSON of an authorization server, at `.` (line 1 column 1)",
        ),
        (AuthorityFailure::status(200, r#"{"access_token":"hunter2","token_type":"mac"}"#), "the token is not a bearer token"),
        (AuthorityFailure::status(200, r#"{"access_token":"hunter2\u0000","token_type":"bearer"}"#), "the token is missing or no printable text"),
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = format!("nonsense-{place}.example");
        let error = ordered(&tenant, failure).await;
        let expected = format!("profile {tenant}: the token endpoint returned no token response: {expected}");
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, AuthError::Nonsense { .. }));
    }
}

#[tokio::test]
async fn passing_trouble_is_told_from_a_refusal() {
    for (place, (failure, reason, wait)) in [
        (
            AuthorityFailure::retry_after(429, 7),
            "HTTP 429 Too Many Requests",
            Some(7),
        ),
        (
            AuthorityFailure::retry_after(503, 86_400),
            "HTTP 503 Service Unavailable",
            Some(3600),
        ),
        (
            AuthorityFailure::status(503, "<html>"),
            "HTTP 503 Service Unavailable",
            None,
        ),
        (
            AuthorityFailure::oauth(400, "temporarily_unavailable"),
            "HTTP 400 Bad Request: temporarily_unavailable",
            None,
        ),
        (
            AuthorityFailure::microsoft(400, "invalid_grant", 90033),
            "HTTP 400 Bad Request: invalid_grant AADSTS90033",
            None,
        ),
        (AuthorityFailure::Hang, "no answer within 0 s", None),
        (AuthorityFailure::AnswerLost, "", None),
    ]
    .into_iter()
    .enumerate()
    {
        let error = ordered(&format!("passing-{place}.example"), failure).await;
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert_eq!(
            error.retry_after(),
            wait.map(Duration::from_secs),
            "{error}"
        );
    }
    for (place, (failure, expected)) in [
        // A wrong clock, on either side.
        (
            AuthorityFailure::microsoft(401, "invalid_client", 700024),
            ("invalid_client", 700024),
        ),
        (
            AuthorityFailure::microsoft(400, "invalid_grant", 65001),
            ("invalid_grant", 65001),
        ),
        (
            AuthorityFailure::microsoft(400, "interaction_required", 53003),
            ("interaction_required", 53003),
        ),
        // Microsoft's loop detection, whatever its status.
        (
            AuthorityFailure::microsoft(400, "invalid_request", 50196),
            ("invalid_request", 50196),
        ),
        (
            AuthorityFailure::microsoft(429, "invalid_request", 50196),
            ("invalid_request", 50196),
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let error = ordered(&format!("refused-{place}.example"), failure).await;
        assert_eq!(codes(&error), expected);
    }
}

#[tokio::test]
async fn what_a_server_quotes_of_a_request_is_left_out() {
    let key =
        postroom_auth::ServiceKey::from_json(&Secret::new(stand().service_account_json().unwrap()))
            .unwrap();
    let certificate = stand().certificate_pem().unwrap();
    let certificate = Certificate::from_pem(&Secret::new(certificate)).unwrap();
    let basic = ClientCredential::Secret {
        secret: Secret::new("b~s/ic +secret"),
        previous: None,
        send: postroom_auth::SendSecret::Basic,
        expires: None,
    };
    for (tenant, login, change) in [
        (
            "echo-body.example",
            None,
            Profile {
                client: secret("b~dy/ +secret"),
                ..app_only("echo-body.example")
            },
        ),
        (
            "echo-basic.example",
            None,
            Profile {
                client: basic,
                ..app_only("echo-basic.example")
            },
        ),
        (
            "echo-assertion.example",
            None,
            Profile {
                client_id: CERTIFICATE_CLIENT_ID.into(),
                client: ClientCredential::Certificate(certificate.into()),
                ..app_only("echo-assertion.example")
            },
        ),
        (
            "echo-password.example",
            Some("ana@contoso.example"),
            delegated(
                "echo-password.example",
                password_grant("ana@contoso.example"),
            ),
        ),
        (
            "echo-service-account.example",
            Some("ana@contoso.example"),
            Profile {
                client_id: String::new(),
                client: ClientCredential::None,
                grant: Grant::ServiceAccount(key.into()),
                ..app_only("echo-service-account.example")
            },
        ),
    ] {
        let only = Only {
            tenant: Some(tenant),
            ..Only::default()
        };
        stand()
            .authority()
            .fail_only(Endpoint::Token, 1, only, AuthorityFailure::Echo)
            .unwrap();
        let rig = Rig::new(change, login, MAIL);
        let error = rig.failure(1).await;
        let shown = format!("{error} {error:?}");
        assert!(shown.contains("Not understood: "), "{shown}");
        assert!(shown.contains("[redacted]"), "{shown}");
        let request = rig.requests().remove(0);
        for (name, value) in &request.form {
            let public = [
                "grant_type",
                "scope",
                "client_id",
                "client_assertion_type",
                "username",
            ];
            assert!(
                public.contains(&name.as_str()) || !shown.contains(value.as_str()),
                "{name}: {shown}"
            );
        }
        for part in ["+secret", "%2Bsecret", PASSWORD] {
            assert!(!shown.contains(part), "{part}: {shown}");
        }
    }
}

#[tokio::test]
async fn a_rotated_refresh_token_counts_whatever_stands_beside_it() {
    let user = "ana@contoso.example";
    for (place, odd) in [
        r#"{"access_token":"a","refresh_token":"rotated-0","expires_in":3600}"#,
        r#"{"access_token":"a b","token_type":"Bearer","refresh_token":"rotated-1"}"#,
    ]
    .into_iter()
    .enumerate()
    {
        let tenant = format!("rotated-{place}.example");
        let profile = delegated(&tenant, code_grant());
        let rig = Rig::with(profile, Some(user), MAIL, |tokens| {
            tokens.with_retries(crate::kit::no_pauses())
        });
        rig.sign_in(user).await;
        let only = Only {
            tenant: Some(&tenant),
            ..Only::default()
        };
        stand()
            .authority()
            .fail_only(Endpoint::Token, 1, only, AuthorityFailure::status(200, odd))
            .unwrap();
        let ask = || rig.tokens.access_token(&rig.account, Resource::Mail);
        let token = ask().await.unwrap();
        rig.tokens.reject(&rig.account, &token).await;
        let error = ask().await.unwrap_err();
        assert!(matches!(error, AuthError::Nonsense { .. }), "{error}");
        // The server did not record the request, but it was sent.
        let error = ask().await.unwrap_err();
        assert_eq!(error.refusal().unwrap().error, "invalid_grant");
        let sent: Vec<_> = rig
            .requests()
            .into_iter()
            .filter_map(|mut request| request.form.remove("refresh_token"))
            .collect();
        assert_eq!(sent[1..], [format!("rotated-{place}")], "{sent:?}");
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_passing_trouble() {
    let gone = {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        format!(
            "https://localhost:{}/token",
            socket.local_addr().unwrap().port()
        )
    };
    for (url, reason) in [
        (gone.as_str(), "Connection refused"),
        ("https://no-such-host.invalid/token", "dns error"),
    ] {
        let profile = Profile {
            endpoints: Endpoints::Fixed {
                authorize: None,
                token: url.parse().unwrap(),
                device: None,
            },
            ..app_only("gone.example")
        };
        let rig = Rig::new(profile, None, MAIL);
        let begun = Instant::now();
        let error = rig
            .tokens
            .access_token(&rig.account, Resource::Mail)
            .await
            .unwrap_err();
        assert!(error.is_transient(), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_sign_in_that_ends_badly_leaves_the_last_one_good() {
    let user = "ana@contoso.example";
    let rig = Rig::new(
        delegated("good-before.example", code_grant()),
        Some(user),
        MAIL,
    );
    rig.sign_in(user).await;
    let token = rig
        .tokens
        .access_token(&rig.account, Resource::Mail)
        .await
        .unwrap();
    let only = Only {
        tenant: Some("good-before.example"),
        ..Only::default()
    };
    for failure in [
        AuthorityFailure::html(),
        AuthorityFailure::microsoft(400, "invalid_grant", 54005),
    ] {
        let sign_in = rig
            .tokens
            .begin_code(&rig.account, "http://localhost:8400/")
            .await
            .unwrap();
        let redirect = stand()
            .sign_in_by_http(&sign_in.url, user, postroom_stand::PASSWORD)
            .unwrap();
        let code = sign_in.answer(&redirect).unwrap();
        stand()
            .authority()
            .fail_only(Endpoint::Token, 1, only, failure)
            .unwrap();
        rig.tokens.finish_code(sign_in, code).await.unwrap_err();
        let again = rig
            .tokens
            .access_token(&rig.account, Resource::Mail)
            .await
            .unwrap();
        assert_eq!(token, again);
    }
}
