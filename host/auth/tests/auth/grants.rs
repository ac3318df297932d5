//! Every grant against the authorization server: the requests, the responses, and the pages for people.

use std::time::Duration;

use postroom_auth::expiry::State;
use postroom_auth::{
    AuthError, Certificate, ClientCredential, Endpoints, Grant, Need, Profile, Provider, Resource,
    Secret, SendSecret, ServiceKey,
};
use postroom_stand::{
    AuthorityFailure, CERTIFICATE_CLIENT_ID, CLIENT_ID, CLIENT_SECRET, DELEGATED_CLIENT_ID,
    DELEGATED_CLIENT_SECRET, Endpoint, GOOGLE_CLIENT_ID, GOOGLE_CLIENT_SECRET, Only, PASSWORD,
    SECOND_CLIENT_SECRET,
};

use crate::kit::REDIRECT;
use crate::rig::{Rig, app_only, code_grant, delegated, password_grant, proof, secret, stand};

const USER: &str = "ana@contoso.example";
const MAIL: &[Need] = &[Need::Imap, Need::Smtp];

fn pem() -> Secret {
    Secret::new(stand().certificate_pem().unwrap())
}

fn certificate() -> ClientCredential {
    ClientCredential::Certificate(Certificate::from_pem(&pem()).unwrap().into())
}

fn basic(value: &str) -> ClientCredential {
    ClientCredential::Secret {
        secret: Secret::new(value),
        previous: None,
        send: SendSecret::Basic,
        expires: None,
    }
}

#[tokio::test]
async fn an_application_proves_itself_as_configured() {
    let secret_in_body: &[&str] = &["client_id", "client_secret"];
    let assertion: &[&str] = &["client_id", "client_assertion_type", "client_assertion"];
    for (tenant, client_id, client, grant, expected) in [
        (
            "prove-body.example",
            CLIENT_ID,
            secret(CLIENT_SECRET),
            Grant::ClientCredentials,
            secret_in_body,
        ),
        (
            "prove-basic.example",
            CLIENT_ID,
            basic(CLIENT_SECRET),
            Grant::ClientCredentials,
            &["basic"],
        ),
        (
            "prove-cert.example",
            CERTIFICATE_CLIENT_ID,
            certificate(),
            Grant::ClientCredentials,
            assertion,
        ),
        (
            "prove-code-body.example",
            DELEGATED_CLIENT_ID,
            secret(DELEGATED_CLIENT_SECRET),
            code_grant(),
            secret_in_body,
        ),
        (
            "prove-code-basic.example",
            DELEGATED_CLIENT_ID,
            basic(DELEGATED_CLIENT_SECRET),
            code_grant(),
            &["basic"],
        ),
        (
            "prove-code-cert.example",
            CERTIFICATE_CLIENT_ID,
            certificate(),
            code_grant(),
            assertion,
        ),
        (
            "prove-public.example",
            postroom_stand::PUBLIC_CLIENT_ID,
            ClientCredential::None,
            code_grant(),
            &["client_id"],
        ),
    ] {
        let is_user = grant.is_interactive();
        let profile = Profile {
            client_id: client_id.into(),
            client,
            grant,
            ..app_only(tenant)
        };
        let needs = [Need::Imap, Need::Graph];
        let rig = Rig::new(profile, is_user.then_some(USER), &needs);
        if is_user {
            rig.sign_in(USER).await;
        }
        for resource in [Resource::Mail, Resource::Graph] {
            rig.tokens
                .access_token(&rig.account, resource)
                .await
                .unwrap();
        }
        let requests = rig.requests();
        assert_eq!(requests.len(), 2, "{tenant}");
        for request in &requests {
            assert_eq!(proof(request), expected, "{tenant} {}", request.grant_type);
            assert_eq!(request.path, format!("/{tenant}/oauth2/v2.0/token"));
        }
        if let Some(assertion) = requests[0].form.get("client_assertion") {
            assert_ne!(
                assertion, &requests[1].form["client_assertion"],
                "signed again each time"
            );
        }
        if is_user {
            assert!(
                requests
                    .iter()
                    .all(|request| request.form.contains_key("code_verifier")
                        == (request.grant_type == "authorization_code"))
            );
        }
    }
}

#[tokio::test]
async fn while_a_secret_is_rotated_the_previous_one_serves_on() {
    let both = |first: &str, previous: &str| ClientCredential::Secret {
        secret: Secret::new(first),
        previous: Some(Secret::new(previous)),
        send: SendSecret::Body,
        expires: None,
    };
    for (tenant, client, sent) in [
        (
            "rotate-1.example",
            both(SECOND_CLIENT_SECRET, CLIENT_SECRET),
            &[SECOND_CLIENT_SECRET][..],
        ),
        (
            "rotate-2.example",
            both("not-yet-known", CLIENT_SECRET),
            &["not-yet-known", CLIENT_SECRET],
        ),
    ] {
        let profile = Profile {
            client,
            ..app_only(tenant)
        };
        let rig = Rig::new(profile, None, MAIL);
        rig.tokens
            .access_token(&rig.account, Resource::Mail)
            .await
            .unwrap();
        let requests = rig.requests();
        let secrets: Vec<_> = requests
            .iter()
            .map(|request| &request.form["client_secret"])
            .collect();
        assert_eq!(secrets, sent, "{tenant}");
    }
    // Both secrets are wrong: the first one's refusal counts, and there is no third try.
    let profile = Profile {
        client: both("wrong", "wrong too"),
        ..app_only("rotate-3.example")
    };
    let error = Rig::new(profile, None, MAIL).failure(2).await;
    assert_eq!(error.refusal().unwrap().codes, [7000215]);
    // A refusal that is not about the secret does not lead to a try with another.
    let profile = Profile {
        client: both(CLIENT_SECRET, SECOND_CLIENT_SECRET),
        scopes: Some(vec!["https://unknown.example/.default".into()]),
        ..app_only("rotate-4.example")
    };
    let error = Rig::new(profile, None, MAIL).failure(1).await;
    assert_eq!(error.refusal().unwrap().codes, [500011]);
    // The first secret is refused; with the previous one the server fails temporarily.
    let profile = Profile {
        client: both("wrong", CLIENT_SECRET),
        ..app_only("rotate-5.example")
    };
    stand()
        .authority()
        .fail_only(
            Endpoint::Token,
            1,
            Only {
                tenant: Some("rotate-5.example"),
                ..Only::default()
            },
            AuthorityFailure::microsoft(401, "invalid_client", 7000222),
        )
        .unwrap();
    stand()
        .authority()
        .fail_only(
            Endpoint::Token,
            1,
            Only {
                tenant: Some("rotate-5.example"),
                ..Only::default()
            },
            AuthorityFailure::retry_after(503, 9),
        )
        .unwrap();
    let error = Rig::new(profile, None, MAIL).failure(2).await;
    assert_eq!(error.retry_after(), Some(Duration::from_secs(9)));
}

#[tokio::test]
async fn a_password_serves_public_and_confidential_applications() {
    let profile = delegated("password.example", password_grant(USER));
    let rig = Rig::new(profile, Some(USER), &[Need::Imap, Need::Smtp, Need::Graph]);
    for resource in [Resource::Mail, Resource::Graph] {
        rig.tokens
            .access_token(&rig.account, resource)
            .await
            .unwrap();
    }
    let requests = rig.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.grant_type, "password");
        assert_eq!(request.form["username"], USER);
        assert_eq!(request.form["password"], PASSWORD);
        assert_eq!(proof(request), ["client_id"]);
    }
}

#[tokio::test]
async fn googles_service_account_acts_for_each_user() {
    let key = ServiceKey::from_json(&Secret::new(stand().service_account_json().unwrap())).unwrap();
    let profile = Profile {
        provider: Provider::Google,
        directory: None,
        endpoints: Endpoints::Fixed {
            authorize: None,
            token: key.token_uri.clone(),
            device: None,
        },
        client_id: String::new(),
        client: ClientCredential::None,
        grant: Grant::ServiceAccount(key.into()),
        ..app_only("service-account")
    };
    for user in ["ana@workspace.example", "bob@workspace.example"] {
        let rig = Rig::new(profile.clone(), Some(user), MAIL);
        let token = rig
            .tokens
            .access_token(&rig.account, Resource::Mail)
            .await
            .unwrap();
        let requests = stand().authority().token_requests().unwrap();
        let request = requests
            .iter()
            .find(|request| request.access_token.as_deref() == Some(token.expose()))
            .unwrap();
        let mut fields: Vec<_> = request.form.keys().collect();
        fields.sort();
        assert_eq!(fields, ["assertion", "grant_type"]);
        assert_eq!(
            request.grant_type,
            "urn:ietf:params:oauth:grant-type:jwt-bearer"
        );
        assert!(!request.basic);
    }
    let rig = Rig::new(profile.clone(), Some("nobody"), MAIL);
    let error = rig.tokens.sign_in_directly(&rig.account).await.unwrap_err();
    assert_eq!(error.refusal().unwrap().error, "invalid_grant");
    let rig = Rig::new(profile, None, MAIL);
    let error = rig.tokens.sign_in_directly(&rig.account).await.unwrap_err();
    assert!(matches!(error, AuthError::Unusable { .. }), "{error}");
}

#[tokio::test]
async fn googles_code_brings_a_refresh_token_that_stays() {
    let server = stand().authority();
    let profile = Profile {
        provider: Provider::Google,
        directory: None,
        endpoints: Endpoints::Fixed {
            authorize: Some(server.google_authorize_url()),
            token: server.google_token_url().parse().unwrap(),
            device: Some(server.google_device_url().parse().unwrap()),
        },
        client_id: GOOGLE_CLIENT_ID.into(),
        client: secret(GOOGLE_CLIENT_SECRET),
        grant: code_grant(),
        ..app_only("google-code")
    };
    let user = "ana@workspace.example";
    let rig = Rig::new(profile, Some(user), MAIL);
    rig.sign_in(user).await;
    let page = server
        .authorize_requests()
        .unwrap()
        .into_iter()
        .find(|p| p.path.starts_with("/o/"))
        .unwrap();
    let field = |name: &str| page.form.get(name).map(String::as_str);
    assert_eq!(field("access_type"), Some("offline"));
    assert_eq!(field("prompt"), Some("consent"));
    assert_eq!(field("scope"), Some("https://mail.google.com/"));
    let first = rig
        .tokens
        .access_token(&rig.account, Resource::Mail)
        .await
        .unwrap();
    let mut refreshed = vec![first];
    for _ in 0..2 {
        rig.tokens
            .reject(&rig.account, &refreshed[refreshed.len() - 1])
            .await;
        let token = rig
            .tokens
            .access_token(&rig.account, Resource::Mail)
            .await
            .unwrap();
        assert!(!refreshed.contains(&token));
        refreshed.push(token);
    }
    let requests: Vec<_> = server
        .token_requests()
        .unwrap()
        .into_iter()
        .filter(|request| {
            request.path == "/google/token" && !request.form.contains_key("assertion")
        })
        .collect();
    let grants: Vec<_> = requests
        .iter()
        .map(|request| request.grant_type.as_str())
        .collect();
    assert_eq!(
        grants,
        ["authorization_code", "refresh_token", "refresh_token"]
    );
    assert!(
        !requests[0].form.contains_key("scope"),
        "Google's exchange names none"
    );
    assert_eq!(
        requests[1].form["refresh_token"],
        requests[2].form["refresh_token"]
    );
}

#[tokio::test]
async fn a_custom_provider_is_discovered_once() {
    let server = stand().authority();
    let discovered = |issuer: String| Profile {
        provider: Provider::Custom,
        directory: None,
        endpoints: Endpoints::Discovered {
            issuer: issuer.parse().unwrap(),
        },
        scopes: Some(vec![
            "openid".into(),
            "https://mail.google.com/".into(),
            "offline_access".into(),
        ]),
        ..delegated("discovered", code_grant())
    };
    let asked = || {
        let requests = server.discovery_requests().unwrap();
        requests
            .iter()
            .filter(|request| request.tenant.is_empty())
            .count()
    };
    let rig = Rig::new(discovered(server.issuer()), Some(USER), MAIL);
    let status = rig.sign_in(USER).await;
    assert_eq!(status.state, State::Ok);
    let token = rig
        .tokens
        .access_token(&rig.account, Resource::Mail)
        .await
        .unwrap();
    rig.tokens.reject(&rig.account, &token).await;
    rig.tokens
        .access_token(&rig.account, Resource::Mail)
        .await
        .unwrap();
    assert_eq!(asked(), 1);

    // An issuer with a path, and failures on the way.
    let tenant = "discovered.example";
    let issuer = format!("{}/{tenant}/v2.0", server.issuer());
    let only = Only {
        tenant: Some(tenant),
        ..Only::default()
    };
    let elsewhere = r#"{"issuer":"https://elsewhere.example","token_endpoint":"https://elsewhere.example/token"}"#;
    let rig = Rig::new(discovered(issuer), Some(USER), MAIL);
    for (failure, expected) in [
        (AuthorityFailure::html(), "HTML page"),
        (AuthorityFailure::empty(), "nothing in it"),
        (
            AuthorityFailure::status(404, "{}"),
            "HTTP 404 Not Found at https://localhost",
        ),
        (AuthorityFailure::status(200, "[]"), "no discovery document"),
        (
            AuthorityFailure::status(200, elsewhere),
            "it is another issuer's",
        ),
        (AuthorityFailure::status(503, ""), "HTTP 503"),
    ] {
        server
            .fail_only(Endpoint::Discovery, 1, only, failure)
            .unwrap();
        let error = rig
            .tokens
            .begin_code(&rig.account, REDIRECT)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let sign_in = rig.tokens.begin_code(&rig.account, REDIRECT).await.unwrap();
    assert!(
        sign_in.url.starts_with(&server.authorize_url(tenant)),
        "{}",
        sign_in.url
    );
}
