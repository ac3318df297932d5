//! The grants without a page: by secret, certificate, password, service account and refresh token, with the refusals of
//! each; and the server failing on command.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use postroom_stand::{
    AuthorityFailure, Behaviour, CERTIFICATE_CLIENT_ID, CLIENT_ID, CLIENT_SECRET,
    DELEGATED_CLIENT_ID, Endpoint, GOOGLE_SCOPE, Lifetimes, MAIL_SCOPE, Only, PUBLIC_CLIENT_ID,
    SECOND_CLIENT_SECRET, SERVICE_ACCOUNT, Stand, UNKNOWN_TENANT, USER_SCOPES, Wire, wait_for,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::{TOKEN, aadsts, ask, renew, text, token, tokens_of, xoauth2};

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const JWT_BEARER: &str = "urn:ietf:params:oauth:grant-type:jwt-bearer";
const USER: &str = "jo@acme.example";

#[test]
fn an_application_proves_itself_by_either_secret_in_body_or_header() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let by_body = |secret: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", CLIENT_ID),
            ("client_secret", secret),
            ("scope", MAIL_SCOPE),
        ];
        ask(&stand, TOKEN, &fields)
    };
    assert_eq!(by_body(CLIENT_SECRET)?.0, 200);
    assert_eq!(by_body(SECOND_CLIENT_SECRET)?.0, 200);
    let basic = STANDARD.encode(format!("{CLIENT_ID}:{CLIENT_SECRET}"));
    let answer = Wire::tls(stand.ports().authority, stand.ca_pem())?.exchange(
        "POST",
        TOKEN,
        &[
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Authorization", &format!("Basic {basic}")),
        ],
        format!("grant_type=client_credentials&scope={MAIL_SCOPE}").as_bytes(),
    )?;
    assert_eq!(answer.status, 200);
    let requests = authority.token_requests()?;
    assert_eq!(
        requests
            .iter()
            .map(|request| request.basic)
            .collect::<Vec<_>>(),
        [false, false, true]
    );
    assert!(requests.iter().all(
        |request| request.access_token.is_some() && request.grant_type == "client_credentials"
    ));

    authority.set_secrets(CLIENT_ID, &["new-secret"])?;
    authority.expire_secrets(CLIENT_ID, &[CLIENT_SECRET])?;
    for (secret, code) in [
        ("new-secret", 0),
        (CLIENT_SECRET, 7000222),
        (SECOND_CLIENT_SECRET, 7000215),
    ] {
        assert_eq!(aadsts(&by_body(secret)?.1), code, "{secret}");
    }
    let secrets = authority.secrets()?;
    for secret in [CLIENT_SECRET, SECOND_CLIENT_SECRET, "new-secret"] {
        assert!(secrets.iter().any(|known| known == secret), "{secret}");
    }
    for request in requests {
        assert!(secrets.contains(&request.access_token.context("no token")?));
    }
    Ok(())
}

#[test]
fn a_wrong_place_client_or_scope_is_refused_as_microsoft_does() -> Result<()> {
    let stand = Stand::shared()?;
    let app: &[(&str, &str)] = &[
        ("grant_type", "client_credentials"),
        ("client_id", CLIENT_ID),
        ("client_secret", CLIENT_SECRET),
    ];
    let ropc: &[(&str, &str)] = &[
        ("grant_type", "password"),
        ("client_id", PUBLIC_CLIENT_ID),
        ("username", USER),
        ("password", stand.password()),
    ];
    let outlook = ("scope", USER_SCOPES);
    let both = "https://outlook.office.com/SMTP.Send https://graph.microsoft.com/Mail.Send";
    let cases = [
        (UNKNOWN_TENANT, app, ("scope", MAIL_SCOPE), 90002),
        ("common", app, ("scope", MAIL_SCOPE), 50194),
        ("acme", app, ("scope", USER_SCOPES), 70011),
        (
            "acme",
            app,
            ("scope", "https://elsewhere.example/.default"),
            500011,
        ),
        ("common", ropc, outlook, 9001023),
        ("organizations", ropc, outlook, 0),
        ("acme", ropc, outlook, 0),
        ("acme", ropc, ("scope", both), 28000),
        (
            "acme",
            ropc,
            ("scope", "https://elsewhere.example/Mail"),
            500011,
        ),
        (
            "acme",
            ropc,
            ("scope", "https://outlook.office.com/Fly"),
            70011,
        ),
        ("acme", ropc, ("client_secret", "one"), 700025),
        ("acme", app, ("client_assertion", "one"), 700027),
    ];
    for (tenant, form, extra, code) in cases {
        let path = format!("/{tenant}/oauth2/v2.0/token");
        let fields = [form, &[extra]].concat();
        let (status, body) = ask(stand, &path, &fields)?;
        assert_eq!(aadsts(&body), code, "{tenant} {extra:?}: {body}");
        assert_eq!(status == 200, code == 0, "{tenant} {extra:?}: {body}");
    }
    let no_proof = [
        ("grant_type", "refresh_token"),
        ("client_id", DELEGATED_CLIENT_ID),
        ("refresh_token", "any"),
    ];
    assert_eq!(aadsts(&ask(stand, TOKEN, &no_proof)?.1), 7000218);
    // Every cloud's resources exist.
    for host in [
        "outlook.office.com",
        "outlook.office365.us",
        "outlook-dod.office365.us",
        "partner.outlook.cn",
        "graph.microsoft.us",
        "dod-graph.microsoft.us",
        "microsoftgraph.chinacloudapi.cn",
    ] {
        stand.access_token(&format!("https://{host}/.default"))?;
    }
    Ok(())
}

#[test]
fn a_certificate_must_be_the_registered_one_and_its_assertion_fresh() -> Result<()> {
    let stand = Stand::start()?;
    let pem = stand.certificate_pem()?;
    assert_eq!(pem, stand.certificate_pem()?);
    let stranger = stand.authority().new_certificate(30)?;
    let audience = stand.token_url("acme");
    let ask_with = |assertion: &str| {
        let fields = [
            ("grant_type", "client_credentials"),
            ("client_id", CERTIFICATE_CLIENT_ID),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
            ("scope", MAIL_SCOPE),
        ];
        ask(&stand, TOKEN, &fields)
    };
    let now = unix_now()?;
    let good = json!({
        "iss": CERTIFICATE_CLIENT_ID, "sub": CERTIFICATE_CLIENT_ID, "aud": audience,
        "jti": "1", "nbf": now, "iat": now, "exp": now + 600,
    });
    let first = assertion(&pem, &pem, &good)?;
    let (status, body) = ask_with(&first)?;
    assert_eq!(status, 200, "{body}");
    let token = text(&body, "access_token")?;
    assert_eq!(xoauth2(&stand, "support@acme.example", &token)?, "OK");
    assert_eq!(aadsts(&ask_with(&first)?.1), 700027, "used twice");

    let stale = json!({ "iat": now - 700, "nbf": now - 700, "exp": now - 100 });
    let early = json!({ "iat": now + 600, "nbf": now + 600, "exp": now + 900 });
    let cases: [(&str, &str, &str, Value, u64); 7] = [
        ("another key", &pem, &stranger, json!({}), 700027),
        ("another thumbprint", &stranger, &pem, json!({}), 700027),
        (
            "audience",
            &pem,
            &pem,
            json!({ "aud": stand.token_url("beta") }),
            700027,
        ),
        ("too long", &pem, &pem, json!({ "exp": now + 3600 }), 700027),
        ("subject", &pem, &pem, json!({ "iss": "who" }), 700027),
        ("stale", &pem, &pem, stale, 700024),
        ("early", &pem, &pem, early, 700024),
    ];
    for (index, (what, named, signed, change, code)) in cases.into_iter().enumerate() {
        let claims = changed(
            &changed(&good, &change),
            &json!({ "jti": format!("c{index}") }),
        );
        let (_, body) = ask_with(&assertion(named, signed, &claims)?)?;
        assert_eq!(aadsts(&body), code, "{what}: {body}");
    }

    stand
        .authority()
        .register_certificate(CERTIFICATE_CLIENT_ID, &stranger)?;
    for (pem, jti) in [(&pem, "r1"), (&stranger, "r2")] {
        let claims = changed(&good, &json!({ "jti": jti }));
        let (status, body) = ask_with(&assertion(pem, pem, &claims)?)?;
        assert_eq!(status, 200, "{body}");
    }
    Ok(())
}

#[test]
fn a_password_meets_what_the_user_meets() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let cases = [
        (Behaviour::Ok, 0),
        (Behaviour::Mfa, 50076),
        (Behaviour::Locked, 50053),
        (Behaviour::Expired, 50055),
        (Behaviour::Disabled, 50057),
        (Behaviour::Unknown, 50034),
        (Behaviour::NoConsent, 65001),
    ];
    let by_password = |user: &str, password: &str| {
        let fields = [
            ("grant_type", "password"),
            ("client_id", PUBLIC_CLIENT_ID),
            ("username", user),
            ("password", password),
            ("scope", USER_SCOPES),
        ];
        ask(&stand, TOKEN, &fields)
    };
    for (behaviour, code) in cases {
        authority.set_behaviour(USER, behaviour)?;
        let (status, body) = by_password(USER, stand.password())?;
        assert_eq!(aadsts(&body), code, "{behaviour:?}: {body}");
        let expected = if code == 0 { 200 } else { 400 };
        assert_eq!(status, expected, "{behaviour:?}");
        if code != 0 {
            assert_eq!(body["error"], "invalid_grant", "{behaviour:?}");
        }
    }
    authority.set_behaviour(USER, Behaviour::Ok)?;
    authority.set_password(USER, "another")?;
    assert_eq!(aadsts(&by_password(USER, stand.password())?.1), 50126);
    let body = by_password(USER, "another")?.1;
    let secrets = authority.secrets()?;
    for secret in [
        "another".to_owned(),
        text(&body, "access_token")?,
        text(&body, "refresh_token")?,
    ] {
        assert!(secrets.contains(&secret));
    }
    Ok(())
}

#[test]
fn a_refresh_token_is_rotated_and_buys_tokens_of_several_resources() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let first = text(&tokens_of(&stand, USER, USER_SCOPES)?, "refresh_token")?;
    let graph = "https://graph.microsoft.com/Mail.Send offline_access";
    let (status, body) = renew(&stand, &first, graph)?;
    assert_eq!(status, 200, "{body}");
    assert!(text(&body, "scope")?.contains("graph.microsoft.com"));
    assert!(!text(&body, "scope")?.contains("outlook"));
    let second = text(&body, "refresh_token")?;
    assert_ne!(first, second);
    let (_, body) = renew(&stand, &second, USER_SCOPES)?;
    let mail = text(&body, "access_token")?;
    let third = text(&body, "refresh_token")?;
    assert_eq!(xoauth2(&stand, USER, &mail)?, "OK");
    let requests = authority.token_requests()?;
    assert_eq!(requests[2].refresh_token.as_ref(), Some(&third));

    // Reuse of a spent token revokes everything issued from it.
    assert_eq!(aadsts(&renew(&stand, &first, USER_SCOPES)?.1), 50173);
    assert_eq!(aadsts(&renew(&stand, &third, USER_SCOPES)?.1), 50173);
    assert_eq!(xoauth2(&stand, USER, &mail)?, "AUTHENTICATIONFAILED");
    assert_eq!(aadsts(&renew(&stand, "made-up", USER_SCOPES)?.1), 9002313);

    let refreshed = |scope: &str| text(&tokens_of(&stand, USER, scope)?, "refresh_token");
    for (behaviour, code) in [
        (Behaviour::Mfa, 50076),
        (Behaviour::Disabled, 50057),
        (Behaviour::NoConsent, 65001),
    ] {
        let refresh = refreshed(USER_SCOPES)?;
        authority.set_behaviour(USER, behaviour)?;
        assert_eq!(aadsts(&renew(&stand, &refresh, USER_SCOPES)?.1), code);
        authority.set_behaviour(USER, Behaviour::Ok)?;
        assert_eq!(renew(&stand, &refresh, USER_SCOPES)?.0, 200);
    }
    let revoked = refreshed(USER_SCOPES)?;
    let of_another = text(
        &tokens_of(&stand, "ann@acme.example", USER_SCOPES)?,
        "refresh_token",
    )?;
    authority.revoke_user(USER)?;
    assert_eq!(aadsts(&renew(&stand, &revoked, USER_SCOPES)?.1), 50173);
    authority.revoke_access_tokens()?;
    assert_eq!(renew(&stand, &of_another, USER_SCOPES)?.0, 200);

    authority.set_lifetimes(Lifetimes {
        refresh_secs: Some(1),
        ..Lifetimes::default()
    })?;
    let short = refreshed(USER_SCOPES)?;
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(aadsts(&renew(&stand, &short, USER_SCOPES)?.1), 700082);
    Ok(())
}

#[test]
fn a_service_account_acts_as_the_user_it_names() -> Result<()> {
    let stand = Stand::start()?;
    let key: Value = serde_json::from_str(&stand.service_account_json()?)?;
    assert_eq!(key["client_email"], SERVICE_ACCOUNT);
    let pem = text(&key, "private_key")?;
    let now = unix_now()?;
    let good = json!({
        "iss": SERVICE_ACCOUNT, "sub": USER, "scope": GOOGLE_SCOPE,
        "aud": key["token_uri"], "iat": now, "exp": now + 3600,
    });
    let ask_with = |pem: &str, claims: &Value| -> Result<(u16, Value)> {
        let key = EncodingKey::from_rsa_pem(pem.as_bytes())?;
        let signed = jsonwebtoken::encode(&Header::new(Algorithm::RS256), claims, &key)?;
        let fields = [("grant_type", JWT_BEARER), ("assertion", &signed)];
        ask(&stand, "/google/token", &fields)
    };
    let (status, body) = ask_with(&pem, &good)?;
    assert_eq!(status, 200, "{body}");
    assert!(body["refresh_token"].is_null());
    let token = text(&body, "access_token")?;
    assert_eq!(xoauth2(&stand, USER, &token)?, "OK");
    assert_eq!(
        xoauth2(&stand, "ann@acme.example", &token)?,
        "AUTHENTICATIONFAILED"
    );

    let stranger = stand.authority().rsa_key()?;
    assert_eq!(ask_with(&stranger, &good)?.1["error"], "invalid_grant");
    let cases = [
        (json!({ "iss": "who@else.example" }), "invalid_grant"),
        (json!({ "aud": stand.token_url("acme") }), "invalid_grant"),
        (json!({ "exp": now + 7200 }), "invalid_grant"),
        (json!({ "exp": now - 1, "iat": now - 100 }), "invalid_grant"),
        (json!({ "sub": "nobody" }), "invalid_grant"),
        (
            json!({ "scope": "https://elsewhere.example/" }),
            "unauthorized_client",
        ),
    ];
    for (change, error) in cases {
        let (_, body) = ask_with(&pem, &changed(&good, &change))?;
        assert_eq!(body["error"], error, "{change}");
        assert!(body["error_codes"].is_null());
    }
    Ok(())
}

#[test]
fn an_endpoint_fails_for_whom_it_was_ordered_to_and_as_it_was() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let refresh = text(&tokens_of(&stand, USER, USER_SCOPES)?, "refresh_token")?;
    authority.clear()?;

    // After a lost response the token is rotated nevertheless.
    authority.fail_next(1, AuthorityFailure::AnswerLost)?;
    assert!(renew(&stand, &refresh, USER_SCOPES).is_err());
    let lost = authority.token_requests()?.remove(0);
    assert_eq!(lost.status, None);
    assert!(lost.refresh_token.is_some());
    assert_eq!(aadsts(&renew(&stand, &refresh, USER_SCOPES)?.1), 50173);

    let only = Only {
        tenant: Some("beta"),
        ..Only::default()
    };
    let busy = AuthorityFailure::retry_after(429, 7);
    authority.fail_only(Endpoint::Token, 1, only, busy)?;
    stand.access_token(MAIL_SCOPE)?;
    let raw = |path: &str| {
        Wire::tls(stand.ports().authority, stand.ca_pem())?.exchange("POST", path, &[], b"")
    };
    let answer = raw("/beta/oauth2/v2.0/token")?;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (429, Some("7"))
    );

    authority.fail_next(1, AuthorityFailure::html())?;
    let answer = raw(TOKEN)?;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .is_some_and(|t| t.contains("html"))
    );
    authority.fail_next(1, AuthorityFailure::empty())?;
    assert!(raw(TOKEN)?.body.is_empty());
    let large = AuthorityFailure::Large {
        bytes: 5 * 1024 * 1024,
    };
    authority.fail_next(1, large)?;
    assert!(raw(TOKEN)?.body.len() > 5 * 1024 * 1024);

    authority.fail_next(1, AuthorityFailure::Delay { millis: 300 })?;
    let asked = Instant::now();
    stand.access_token(MAIL_SCOPE)?;
    assert!(asked.elapsed() >= Duration::from_millis(300));

    authority.fail(Endpoint::Device, 1, AuthorityFailure::status(503, "busy"))?;
    assert_eq!(raw("/acme/oauth2/v2.0/devicecode")?.status, 503);
    assert_eq!(authority.device_requests()?.len(), 1);
    authority.fail(Endpoint::Device, 1, AuthorityFailure::Hang)?;
    let mut hanging = Wire::tls(stand.ports().authority, stand.ca_pem())?;
    hanging.send(b"POST /acme/oauth2/v2.0/devicecode HTTP/1.0\r\nContent-Length: 0\r\n\r\n")?;
    assert!(wait_for(Duration::from_secs(5), || {
        authority
            .device_requests()
            .is_ok_and(|requests| requests.len() == 2)
    }));
    Ok(())
}

#[test]
fn a_discovery_document_names_endpoints_that_work() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let document = |path: &str| -> Result<(u16, Value)> {
        let answer =
            Wire::tls(stand.ports().authority, stand.ca_pem())?.exchange("GET", path, &[], b"")?;
        let body = serde_json::from_slice(&answer.body).unwrap_or_default();
        Ok((answer.status, body))
    };
    for (path, issuer) in [
        ("", authority.issuer()),
        ("/acme/v2.0", format!("{}/acme/v2.0", authority.issuer())),
    ] {
        let (status, body) = document(&format!("{path}/.well-known/openid-configuration"))?;
        assert_eq!(status, 200);
        assert_eq!(body["issuer"], issuer);
        let url = text(&body, "token_endpoint")?;
        let token_path = url
            .strip_prefix(&authority.issuer())
            .context("another server")?;
        let form = format!(
            "grant_type=client_credentials&client_id={CLIENT_ID}&client_secret={CLIENT_SECRET}&scope={MAIL_SCOPE}"
        );
        let (status, body) = token(&stand, token_path, &form)?;
        assert_eq!(status, 200, "{body}");
        assert!(body["error_codes"].is_null());
    }
    assert_eq!(authority.token_requests()?.len(), 2);
    assert_eq!(authority.discovery_requests()?.len(), 2);
    // Without Microsoft's numbers, at the standard's paths.
    let (status, body) = token(
        &stand,
        "/token",
        "grant_type=client_credentials&client_id=who",
    )?;
    assert_eq!((status, &body["error"]), (400, &json!("invalid_client")));
    assert!(body["error_codes"].is_null());

    authority.fail(Endpoint::Discovery, 1, AuthorityFailure::status(503, ""))?;
    assert_eq!(document("/.well-known/openid-configuration")?.0, 503);
    assert_eq!(document("/.well-known/openid-configuration")?.0, 200);
    Ok(())
}

fn unix_now() -> Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// Returns `claims` with some of them replaced.
fn changed(claims: &Value, change: &Value) -> Value {
    let mut claims = claims.clone();
    if let (Value::Object(claims), Value::Object(change)) = (&mut claims, change) {
        claims.extend(change.clone());
    }
    claims
}

/// Returns an assertion that names the certificate of one PEM and is signed by the key of another.
fn assertion(named: &str, signed: &str, claims: &Value) -> Result<String> {
    let certificate = CertificateDer::from_pem_slice(named.as_bytes())?;
    let mut header = Header::new(Algorithm::PS256);
    header.x5t_s256 = Some(URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)));
    let start = signed.find("-----BEGIN PRIVATE").context("no key")?;
    let key = EncodingKey::from_rsa_pem(&signed.as_bytes()[start..])?;
    Ok(jsonwebtoken::encode(&header, claims, &key)?)
}
