//! Tests of the stand itself: the properties that the end-to-end tests rely on hold on the real servers.

mod ews;
mod grants;
mod graph;
mod mailboxes;
mod servers;
mod sign_in;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use postroom_stand::{PUBLIC_CLIENT_ID, Stand, Wire};
use serde_json::Value;
use url::form_urlencoded;

/// The path of a tenant's token endpoint.
pub(crate) const TOKEN: &str = "/acme/oauth2/v2.0/token";

/// Requests a token; returns the status and the JSON of the response.
pub(crate) fn token(stand: &Stand, path: &str, form: &str) -> Result<(u16, Value)> {
    let (status, body) = Wire::tls(stand.ports().authority, stand.ca_pem())?.http(
        "POST",
        path,
        "application/x-www-form-urlencoded",
        form.as_bytes(),
    )?;
    Ok((status, serde_json::from_slice(&body)?))
}

/// Does the same with fields, which it encodes.
pub(crate) fn ask(stand: &Stand, path: &str, fields: &[(&str, &str)]) -> Result<(u16, Value)> {
    let form = form_urlencoded::Serializer::new(String::new())
        .extend_pairs(fields)
        .finish();
    token(stand, path, &form)
}

/// Returns a user's tokens by the password grant.
pub(crate) fn tokens_of(stand: &Stand, user: &str, scope: &str) -> Result<Value> {
    let fields = [
        ("grant_type", "password"),
        ("client_id", PUBLIC_CLIENT_ID),
        ("username", user),
        ("password", stand.password()),
        ("scope", scope),
    ];
    let (status, body) = ask(stand, TOKEN, &fields)?;
    ensure!(status == 200, "{body}");
    Ok(body)
}

/// Requests a new access token with a public client's refresh token.
pub(crate) fn renew(stand: &Stand, refresh_token: &str, scope: &str) -> Result<(u16, Value)> {
    let fields = [
        ("grant_type", "refresh_token"),
        ("client_id", PUBLIC_CLIENT_ID),
        ("refresh_token", refresh_token),
        ("scope", scope),
    ];
    ask(stand, TOKEN, &fields)
}

/// Returns a string of a response.
pub(crate) fn text(body: &Value, name: &str) -> Result<String> {
    let value = body[name]
        .as_str()
        .with_context(|| format!("no {name} in {body}"))?;
    Ok(value.to_owned())
}

/// Returns the first AADSTS number of an error body; 0 when it has none.
pub(crate) fn aadsts(body: &Value) -> u64 {
    body["error_codes"][0].as_u64().unwrap_or_default()
}

pub(crate) fn xoauth2(stand: &Stand, user: &str, token: &str) -> Result<String> {
    let response = format!("user={user}\x01auth=Bearer {token}\x01\x01");
    authenticate(stand, "XOAUTH2", &response, "")
}

pub(crate) fn oauthbearer(stand: &Stand, user: &str, token: &str) -> Result<String> {
    let response =
        format!("n,a={user},\x01host=localhost\x01port=993\x01auth=Bearer {token}\x01\x01");
    authenticate(stand, "OAUTHBEARER", &response, "AQ==")
}

/// Logs in over IMAPS and returns `OK`, or the code of the refusal.
fn authenticate(
    stand: &Stand,
    mechanism: &str,
    response: &str,
    after_error: &str,
) -> Result<String> {
    let mut imap = Wire::tls(stand.ports().imaps, stand.ca_pem())?;
    imap.line()?;
    imap.send(
        format!(
            "a AUTHENTICATE {mechanism} {}\r\n",
            STANDARD.encode(response)
        )
        .as_bytes(),
    )?;
    loop {
        let line = imap.line()?;
        if line.starts_with('+') {
            imap.send(format!("{after_error}\r\n").as_bytes())?;
        } else if line.starts_with("a OK") {
            return Ok("OK".into());
        } else if let Some(refusal) = line.strip_prefix("a NO [") {
            return Ok(refusal.split(']').next().unwrap_or_default().to_owned());
        } else if line.starts_with("a ") {
            bail!("neither OK nor a coded refusal: {line}");
        }
    }
}
