//! Sign-in on the pages: the authorization code and the device code, by a small HTTP client and by a browser.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use postroom_stand::{
    Behaviour, DELEGATED_CLIENT_ID, DELEGATED_CLIENT_SECRET, GOOGLE_CLIENT_ID,
    GOOGLE_CLIENT_SECRET, GOOGLE_SCOPE, Lifetimes, PASSWORD, PUBLIC_CLIENT_ID, Stand,
    UNKNOWN_TENANT, USER_SCOPES,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use url::Url;

use crate::{TOKEN, aadsts, ask, renew, text, xoauth2};

const USER: &str = "jo@acme.example";
const REDIRECT: &str = "http://localhost:7777/done";
const VERIFIER: &str = "a-verifier-of-at-least-forty-three-characters";
const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

#[test]
fn a_code_buys_tokens_at_every_shape_of_paths() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let offline = ("access_type", "offline");
    let graph = format!("openid {USER_SCOPES} https://graph.microsoft.com/Mail.Send");
    let v1 = "offline_access https://outlook.office365.com/IMAP.AccessAsUser.All";
    let cases = [
        (
            authority.authorize_url("acme"),
            TOKEN,
            PUBLIC_CLIENT_ID,
            None,
            graph.as_str(),
            ("prompt", "select_account"),
        ),
        (
            authority.authorize_url("common"),
            "/common/oauth2/v2.0/token",
            PUBLIC_CLIENT_ID,
            None,
            USER_SCOPES,
            ("login_hint", USER),
        ),
        (
            authority.v1_authorize_url("acme"),
            "/acme/oauth2/token",
            DELEGATED_CLIENT_ID,
            Some(DELEGATED_CLIENT_SECRET),
            v1,
            ("prompt", "login"),
        ),
        (
            authority.google_authorize_url(),
            "/google/token",
            GOOGLE_CLIENT_ID,
            Some(GOOGLE_CLIENT_SECRET),
            GOOGLE_SCOPE,
            offline,
        ),
        (
            format!("{}/auth", authority.issuer()),
            "/token",
            PUBLIC_CLIENT_ID,
            None,
            USER_SCOPES,
            ("prompt", "consent"),
        ),
    ];
    for (authorize, token_path, client, secret, scope, extra) in cases {
        let url = page(&authorize, client, scope, &[extra])?;
        let answer = redirect(&stand, &url)?;
        assert_eq!(answer["state"], "a state", "{url}");
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("client_id", client),
            ("code", &answer["code"]),
            ("redirect_uri", REDIRECT),
            ("code_verifier", VERIFIER),
        ];
        fields.extend(secret.map(|secret| ("client_secret", secret)));
        let (status, body) = ask(&stand, token_path, &fields)?;
        assert_eq!(status, 200, "{url}: {body}");
        assert_eq!(
            xoauth2(&stand, USER, &text(&body, "access_token")?)?,
            "OK",
            "{url}"
        );
        if scope.contains("openid") {
            let token = text(&body, "id_token")?;
            let claims = token.split('.').nth(1).context("no JWT")?;
            let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims)?)?;
            assert_eq!(claims["preferred_username"], USER);
        }
        let mut again = vec![
            ("grant_type", "refresh_token"),
            ("client_id", client),
            (
                "refresh_token",
                body["refresh_token"].as_str().context("no refresh token")?,
            ),
        ];
        again.extend(secret.map(|secret| ("client_secret", secret)));
        let (status, renewed) = ask(&stand, token_path, &again)?;
        assert_eq!(status, 200, "{url}: {renewed}");
        // Google's refresh token remains valid and is not returned again.
        assert_eq!(
            renewed["refresh_token"].is_null(),
            client == GOOGLE_CLIENT_ID
        );
        let secrets = authority.secrets()?;
        for secret in [&answer["code"], VERIFIER, PASSWORD] {
            assert!(secrets.iter().any(|known| known == secret), "{url}");
        }
    }
    let asked = authority.authorize_requests()?;
    assert_eq!(asked.len(), 5);
    assert_eq!(asked[0].form["prompt"], "select_account");
    Ok(())
}

#[test]
fn a_code_is_good_once_for_its_verifier_and_for_a_while() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let url = page(
        &authority.authorize_url("acme"),
        PUBLIC_CLIENT_ID,
        USER_SCOPES,
        &[],
    )?;
    let redeem = |code: &str, verifier: &str, redirect: &str| {
        let fields = [
            ("grant_type", "authorization_code"),
            ("client_id", PUBLIC_CLIENT_ID),
            ("code", code),
            ("redirect_uri", redirect),
            ("code_verifier", verifier),
        ];
        Ok::<_, anyhow::Error>(aadsts(&ask(&stand, TOKEN, &fields)?.1))
    };
    let code = &redirect(&stand, &url)?["code"];
    let another = "b".repeat(43);
    assert_eq!(redeem(code, &another, REDIRECT)?, 501481);
    assert_eq!(redeem(code, VERIFIER, "http://localhost:1")?, 500112);
    assert_eq!(redeem(code, VERIFIER, REDIRECT)?, 0);
    assert_eq!(redeem(code, VERIFIER, REDIRECT)?, 54005);
    assert_eq!(redeem("made-up", VERIFIER, REDIRECT)?, 9002313);

    authority.set_lifetimes(Lifetimes {
        code_secs: Some(1),
        ..Lifetimes::default()
    })?;
    let code = &redirect(&stand, &url)?["code"];
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(redeem(code, VERIFIER, REDIRECT)?, 70008);
    Ok(())
}

#[test]
fn the_pages_refuse_in_microsofts_words() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let acme = authority.authorize_url("acme");
    let url = page(&acme, PUBLIC_CLIENT_ID, USER_SCOPES, &[])?;

    let declined = query(&stand.decline_by_http(&url, USER, PASSWORD)?)?;
    assert_eq!(declined["error"], "access_denied");
    assert!(declined["error_description"].starts_with("AADSTS65004"));
    assert_eq!(declined["state"], "a state");
    let silent = page(&acme, PUBLIC_CLIENT_ID, USER_SCOPES, &[("prompt", "none")])?;
    assert_eq!(redirect(&stand, &silent)?["error"], "login_required");
    let scope = page(&acme, PUBLIC_CLIENT_ID, "https://elsewhere.example/x", &[])?;
    assert_eq!(redirect(&stand, &scope)?["error"], "invalid_resource");
    let google = page(
        &authority.google_authorize_url(),
        GOOGLE_CLIENT_ID,
        GOOGLE_SCOPE,
        &[],
    )?;
    let declined = query(&stand.decline_by_http(&google, USER, PASSWORD)?)?;
    assert_eq!(declined["error"], "access_denied");
    assert!(!declined.contains_key("error_description"));

    // Some refusals are shown on the page only.
    let nowhere = authority.authorize_url(UNKNOWN_TENANT);
    let common = authority.authorize_url("common");
    let elsewhere = url
        .replace("7777", "7777%2F..%2Fx")
        .replace("localhost", "example.com");
    let cases = [
        (
            page(&nowhere, PUBLIC_CLIENT_ID, USER_SCOPES, &[])?,
            PASSWORD,
            90002,
        ),
        (
            page(&common, DELEGATED_CLIENT_ID, USER_SCOPES, &[])?,
            PASSWORD,
            50194,
        ),
        (page(&acme, "who", USER_SCOPES, &[])?, PASSWORD, 700016),
        (url.clone(), "wrong", 50126),
        (
            format!(
                "{acme}?{}",
                elsewhere.split_once('?').context("no query")?.1
            ),
            PASSWORD,
            50011,
        ),
    ];
    for (url, password, code) in cases {
        let error = stand
            .sign_in_by_http(&url, USER, password)
            .err()
            .with_context(|| format!("{url} was let through"))?;
        assert!(
            error.to_string().contains(&format!("AADSTS{code}:")),
            "{error}"
        );
    }

    authority.set_behaviour(USER, Behaviour::NoConsent)?;
    let unapproved = query(&stand.decline_by_http(&url, USER, PASSWORD)?)?;
    assert!(unapproved["error_description"].starts_with("AADSTS90094"));
    authority.set_behaviour(USER, Behaviour::Mfa)?;
    assert!(redirect(&stand, &url)?.contains_key("code"));

    authority.register_redirect(DELEGATED_CLIENT_ID, "https://is.acme.example:5555/back")?;
    let registered = page(&acme, DELEGATED_CLIENT_ID, USER_SCOPES, &[])?.replace(
        "http%3A%2F%2Flocalhost%3A7777%2Fdone",
        "https%3A%2F%2Fis.acme.example%3A5555%2Fback",
    );
    assert!(
        stand
            .sign_in_by_http(&registered, USER, PASSWORD)?
            .starts_with("https://is.acme.example:5555/back?code=")
    );
    Ok(())
}

#[test]
fn a_device_waits_until_somebody_decides() -> Result<()> {
    let stand = Stand::start()?;
    let authority = stand.authority();
    let begin = || -> Result<Value> {
        let fields = [("client_id", PUBLIC_CLIENT_ID), ("scope", USER_SCOPES)];
        Ok(ask(&stand, "/acme/oauth2/v2.0/devicecode", &fields)?.1)
    };
    let poll = |device: &Value| -> Result<Value> {
        let fields = [
            ("grant_type", DEVICE_GRANT),
            ("client_id", PUBLIC_CLIENT_ID),
            (
                "device_code",
                device["device_code"].as_str().context("no code")?,
            ),
        ];
        Ok(ask(&stand, TOKEN, &fields)?.1)
    };
    let device = begin()?;
    assert_eq!(device["verification_uri"], stand.device_page());
    assert!(text(&device, "message")?.contains(&text(&device, "user_code")?));
    assert_eq!(poll(&device)?["error"], "authorization_pending");
    authority.slow_down(1)?;
    assert_eq!(poll(&device)?["error"], "slow_down");
    stand.approve_device(&text(&device, "user_code")?, USER, PASSWORD)?;
    let tokens = poll(&device)?;
    assert_eq!(
        xoauth2(&stand, USER, &text(&tokens, "access_token")?)?,
        "OK"
    );
    assert_eq!(
        renew(&stand, &text(&tokens, "refresh_token")?, USER_SCOPES)?.0,
        200
    );

    let device = begin()?;
    stand.decline_device(&text(&device, "user_code")?, USER, PASSWORD)?;
    assert_eq!(poll(&device)?["error"], "authorization_declined");
    assert_eq!(
        poll(&json!({ "device_code": "made-up" }))?["error"],
        "bad_verification_code"
    );
    assert!(stand.approve_device("WRONG", USER, PASSWORD).is_err());

    authority.set_lifetimes(Lifetimes {
        device_secs: Some(1),
        ..Lifetimes::default()
    })?;
    let device = begin()?;
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(poll(&device)?["error"], "expired_token");

    let fields = [
        ("client_id", GOOGLE_CLIENT_ID),
        ("client_secret", GOOGLE_CLIENT_SECRET),
        ("scope", GOOGLE_SCOPE),
    ];
    let (_, device) = ask(&stand, "/google/device", &fields)?;
    assert_eq!(device["verification_url"], stand.device_page());
    let fields = [
        ("grant_type", DEVICE_GRANT),
        ("client_id", GOOGLE_CLIENT_ID),
        ("client_secret", GOOGLE_CLIENT_SECRET),
        (
            "device_code",
            device["device_code"].as_str().context("no code")?,
        ),
    ];
    let (status, body) = ask(&stand, "/google/token", &fields)?;
    assert_eq!(
        (status, &body["error"]),
        (428, &json!("authorization_pending"))
    );
    Ok(())
}

#[test]
fn a_browser_signs_in_on_the_pages() -> Result<()> {
    let stand = Stand::start()?;
    let url = page(
        &stand.authority().authorize_url("acme"),
        PUBLIC_CLIENT_ID,
        USER_SCOPES,
        &[("login_hint", USER)],
    )?;
    let browser = stand.browser()?;
    browser.open(&url)?;
    browser.fill("#password", "wrong")?;
    browser.click("#sign-in")?;
    browser.see("AADSTS50126")?;
    browser.fill("#user", USER)?;
    browser.fill("#password", PASSWORD)?;
    browser.click("#sign-in")?;
    browser.see("IMAP.AccessAsUser.All")?;
    browser.click("#accept")?;
    let answer = query(&browser.arrive(REDIRECT)?)?;
    assert_eq!(answer["state"], "a state");
    assert!(answer.contains_key("code"));

    let fields = [("client_id", PUBLIC_CLIENT_ID), ("scope", USER_SCOPES)];
    let (_, device) = ask(&stand, "/acme/oauth2/v2.0/devicecode", &fields)?;
    browser.open(&text(&device, "verification_uri")?)?;
    browser.fill("#user-code", &text(&device, "user_code")?)?;
    browser.click("#next")?;
    browser.see("Is this your device?")?;
    browser.click("#next")?;
    browser.see("You have signed in")?;

    let dir = stand.dir().to_owned();
    drop(browser);
    assert!(!dir.join("browser-0.pgid").exists());
    Ok(())
}

/// Returns the URL of an authorize request, with PKCE (RFC 7636) and a state.
fn page(authorize: &str, client: &str, scope: &str, extra: &[(&str, &str)]) -> Result<String> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    let url = Url::parse_with_params(
        authorize,
        [
            ("response_type", "code"),
            ("client_id", client),
            ("redirect_uri", REDIRECT),
            ("scope", scope),
            ("state", "a state"),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]
        .iter()
        .chain(extra),
    )?;
    Ok(url.into())
}

/// Signs in and returns the parameters of the redirect.
fn redirect(stand: &Stand, url: &str) -> Result<HashMap<String, String>> {
    let address = stand.sign_in_by_http(url, USER, PASSWORD)?;
    assert!(address.starts_with(REDIRECT), "{address}");
    query(&address)
}

fn query(address: &str) -> Result<HashMap<String, String>> {
    Ok(Url::parse(address)?.query_pairs().into_owned().collect())
}
