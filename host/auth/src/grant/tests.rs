//! How the grants handle responses; the requests they send are checked by the stand's server.

use postroom_core::Clock;
use serde_json::{Value, json};

use super::*;

fn account() -> Account {
    Account {
        profile: "acme".into(),
        login: Some("ana@acme.example".into()),
    }
}

fn read(answer: Value) -> Result<Granted, String> {
    let answer: TokenAnswer = serde_json::from_value(answer).map_err(|error| error.to_string())?;
    granted(&account(), &answer).map_err(|error| error.to_string())
}

fn id_token(claims: Value) -> String {
    let claims = BASE64_URL_SAFE_NO_PAD.encode(claims.to_string());
    format!("e30.{claims}.c2ln")
}

#[test]
fn lifetimes_are_numbers_or_texts_and_never_lose_the_token() {
    for (written, secs) in [
        (json!(3599), Some(3599)),
        (json!("3599"), Some(3599)),
        (json!(" 60 "), Some(60)),
        (json!(3599.5), Some(3599)),
        (json!(-1), None),
        (json!("soon"), None),
        (json!(null), None),
        (json!([1]), None),
        (json!(1e300), Some(u64::MAX)),
    ] {
        for name in ["refresh_token_expires_in", "refresh_expires_in"] {
            let mut answer =
                json!({ "access_token": "a", "token_type": "bearer", "refresh_token": "r" });
            answer["expires_in"] = written.clone();
            answer[name] = written.clone();
            let granted = read(answer).unwrap();
            let expected = secs.map(Duration::from_secs);
            assert_eq!(granted.lifetime, expected, "{written}");
            assert_eq!(granted.refresh_lifetime, expected, "{name} {written}");
            assert_eq!(granted.refresh_token.unwrap().expose(), "r");
        }
    }
    let keycloak = json!({ "access_token": "a", "token_type": "Bearer", "refresh_expires_in": 0, "refresh_token": "" });
    let granted = read(keycloak).unwrap();
    assert_eq!(granted.refresh_lifetime, None);
    assert!(granted.refresh_token.is_none());
}

#[test]
fn an_odd_answer_to_a_refresh_keeps_its_refresh_token() {
    let read = |answer: Value| {
        let answer: TokenAnswer = serde_json::from_value(answer).unwrap();
        refreshed(&account(), &answer)
    };
    for odd in [
        json!({ "access_token": "a" }),
        json!({ "access_token": "a", "token_type": 7 }),
        json!({ "access_token": "a", "token_type": "mac" }),
        json!({ "access_token": ["a"], "token_type": "bearer" }),
        json!({ "access_token": "a b", "token_type": "bearer" }),
        json!({ "token_type": "bearer", "id_token": {}, "expires_in": [] }),
    ] {
        let mut rotated = odd.clone();
        rotated["refresh_token"] = json!("r2");
        rotated["refresh_expires_in"] = json!(60);
        rotated["refresh_token_expires_in"] = json!(60);
        let granted = read(rotated).unwrap();
        assert!(
            matches!(granted.token, Err(AuthError::Nonsense { .. })),
            "{odd}"
        );
        assert_eq!(granted.refresh_token.unwrap().expose(), "r2", "{odd}");
        assert_eq!(granted.refresh_lifetime, Some(Duration::from_secs(60)));
        assert!(
            matches!(read(odd.clone()), Err(AuthError::Nonsense { .. })),
            "{odd}"
        );
    }
}

#[test]
fn only_its_error_word_makes_a_denial() {
    let nothing: &[u32] = &[];
    for (field, value, codes) in [
        (
            "error_codes",
            json!([70008, "50173", "x", -1, null]),
            &[70008, 50173][..],
        ),
        ("error_codes", json!("70008"), &[70008]),
        ("error_codes", json!(70008), &[70008]),
        ("error_codes", json!({ "a": 1 }), nothing),
        ("error_description", json!(["no"]), nothing),
        ("correlation_id", json!(7), nothing),
    ] {
        let mut denial = json!({ "error": "invalid_grant" });
        denial[field] = value.clone();
        let read: Denial = serde_json::from_value(denial).unwrap();
        assert_eq!(read.error, "invalid_grant", "{value}");
        assert_eq!(read.error_codes, codes, "{value}");
        assert_eq!((read.error_description, read.correlation_id), (None, None));
    }
    for none in [json!({}), json!({ "error": 7 }), json!([]), json!("no")] {
        assert!(
            serde_json::from_value::<Denial>(none.clone()).is_err(),
            "{none}"
        );
    }
}

#[test]
fn only_a_printable_bearer_token_is_a_token() {
    for (answer, expected) in [
        (
            json!({ "access_token": "a", "token_type": "mac" }),
            "the token is not a bearer token",
        ),
        (
            json!({ "access_token": "", "token_type": "bearer" }),
            "the token is missing or no printable text",
        ),
        (
            json!({ "access_token": "a\u{1}b", "token_type": "bearer" }),
            "the token is missing or no printable text",
        ),
        (
            json!({ "access_token": "a b", "token_type": "bearer" }),
            "the token is missing or no printable text",
        ),
    ] {
        let error = read(answer).err().unwrap();
        assert!(error.ends_with(expected), "{error}");
    }
    assert_eq!(
        read(json!({ "access_token": "a-._~+/=", "token_type": "BEARER" }))
            .unwrap()
            .token
            .unwrap()
            .expose(),
        "a-._~+/="
    );
}

#[test]
fn the_identity_token_tells_who_signed_in() {
    for (token, expected) in [
        (
            json!(id_token(
                json!({ "sub": "s", "email": "e", "upn": "u", "preferred_username": "p" })
            )),
            Some("p"),
        ),
        (
            json!(id_token(
                json!({ "sub": "s", "email": "e", "upn": "u", "preferred_username": "" })
            )),
            Some("u"),
        ),
        (
            json!(id_token(json!({ "sub": "s", "email": "e" }))),
            Some("e"),
        ),
        (json!(id_token(json!({ "sub": "s\nx" }))), Some("s x")),
        (json!(id_token(json!({ "sub": 7 }))), None),
        (json!("no token"), None),
        (json!("a.!!.b"), None),
        (json!(7), None),
        (json!(null), None),
    ] {
        let answer = json!({ "access_token": "a", "token_type": "bearer", "id_token": token });
        let answer: TokenAnswer = serde_json::from_value(answer).unwrap();
        let shown = format!("{answer:?}");
        assert!(!shown.contains("e30."), "{shown}");
        let granted = granted(&account(), &answer).unwrap();
        assert_eq!(granted.identity.as_deref(), expected, "{token}");
    }
}

#[test]
fn a_refusal_is_shown_bounded_and_on_one_line() {
    let denial: Denial = serde_json::from_value(json!({
        "error": "invalid_grant",
        "error_description": format!("AADSTS50173: {}\r\nTrace", "x".repeat(5000)),
        "error_codes": [50173],
        "correlation_id": "c\u{1b}[31m",
    }))
    .unwrap();
    let AuthError::Refused { refusal, .. } = failed(&account(), Failure::ServerResponse(denial))
    else {
        panic!("not refused");
    };
    assert_eq!(refusal.codes, [50173]);
    assert_eq!(refusal.correlation_id.as_deref(), Some("c [31m"));
    let description = refusal.description.unwrap();
    assert_eq!(description.chars().count(), SHOWN_CHARS);
    assert!(!description.contains(char::is_control));
}

/// The library's callers cannot send one code twice, but a browser's back button can.
#[tokio::test]
async fn a_code_that_was_used_is_refused() {
    use postroom_stand::{PASSWORD, PUBLIC_CLIENT_ID, Stand};
    use rustls::pki_types::pem::PemObject;

    // It blocks during its start, which is not allowed on a runtime's own thread.
    let stand = std::thread::spawn(|| Stand::shared().unwrap());
    let stand = stand.join().unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let root = rustls::pki_types::CertificateDer::from_pem_file(stand.ca_pem()).unwrap();
    roots.add(root).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .build()
        .unwrap();
    let token_url: Url = stand.token_url("acme.example").parse().unwrap();
    let profile = Profile {
        name: "acme".into(),
        provider: Provider::Microsoft(&crate::provider::CLOUDS[0]),
        directory: None,
        endpoints: crate::Endpoints::Fixed {
            authorize: None,
            token: token_url.clone(),
            device: None,
        },
        client_id: PUBLIC_CLIENT_ID.into(),
        client: crate::ClientCredential::None,
        grant: crate::Grant::AuthorizationCode {
            redirect: None,
            prompt: None,
        },
        scopes: None,
        tenants: None,
    };
    let scopes = ["https://outlook.office.com/SMTP.Send".to_owned()];
    let account = account();
    let page = stand.authority().authorize_url("acme.example");
    let redirect = "http://localhost:1";
    let sign_in = authorization_code::begin(&profile, &account, &page, &scopes, redirect).unwrap();
    let redirected = stand
        .sign_in_by_http(&sign_in.url, "ana@acme.example", PASSWORD)
        .unwrap();
    let code = sign_in.answer(&redirected).unwrap();
    let request = TokenRequest {
        exchange: &Exchange {
            http: &http.into(),
            limits: crate::ExchangeLimits::default(),
            trace: None,
            clock: &Clock::system(),
        },
        profile: &profile,
        account: &account,
        token_url: &token_url,
        scopes: &scopes,
    };
    let granted = authorization_code::exchange(&request, &sign_in, &code)
        .await
        .unwrap();
    assert_eq!(granted.identity.as_deref(), Some("ana@acme.example"));
    let again = authorization_code::exchange(&request, &sign_in, &code).await;
    let error = again.err().unwrap();
    let refusal = error.refusal().unwrap();
    assert_eq!(
        (refusal.error.as_str(), &refusal.codes[..]),
        ("invalid_grant", &[54005][..])
    );
}
