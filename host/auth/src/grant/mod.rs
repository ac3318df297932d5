//! The grants, one file each, and the handling of their responses.

pub(crate) mod authorization_code;
mod client;
pub(crate) mod client_credentials;
pub(crate) mod device_code;
pub(crate) mod discovery;
pub(crate) mod password;
pub(crate) mod refresh;
pub(crate) mod service_account;

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use oauth2::basic::BasicTokenType;
use oauth2::{ErrorResponse, RefreshToken, RequestTokenError, Scope, TokenResponse};
use postroom_core::harmless::harmless_chars;
use postroom_net::TraceRedactor;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::advice::{self, PASSING};
use crate::exchange::{Exchange, ExchangeError};
use crate::{AccessToken, Account, AuthError, Profile, Provider, Secret, ServerRefusal};

/// A token request: the client, the endpoint and the scopes.
pub(crate) struct TokenRequest<'a> {
    pub exchange: &'a Exchange<'a>,
    pub profile: &'a Profile,
    pub account: &'a Account,
    /// The token URL, as configured or discovered.
    pub token_url: &'a Url,
    /// One resource's scopes.
    pub scopes: &'a [String],
}

/// The result of a grant.
pub(crate) struct Granted {
    /// Fails for a response with a valid refresh token but an invalid access token. The refresh token replaced the one that
    /// was sent, so it must be kept.
    pub token: Result<AccessToken, AuthError>,
    /// The lifetime that the server states, if any.
    pub lifetime: Option<Duration>,
    /// `None` if the response has none; a refresh token that was sent then stays valid.
    pub refresh_token: Option<Secret>,
    pub refresh_lifetime: Option<Duration>,
    /// The user who signed in, from the identity token's `preferred_username`, `upn`, `email` or `sub`.
    pub identity: Option<String>,
}

/// A token response (RFC 6749 section 5.1), parsed field by field: an invalid field counts as absent, so that the refresh
/// token is not lost with it. Microsoft's v1 endpoint writes `expires_in` as a string.
#[derive(Debug, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>")]
pub(crate) struct TokenAnswer {
    /// Empty if absent.
    access_token: oauth2::AccessToken,
    token_type: BasicTokenType,
    expires_in: Option<u64>,
    refresh_token: Option<RefreshToken>,
    refresh_expires_in: Option<u64>,
    #[serde(skip_serializing)]
    id_token: Option<Secret>,
}

impl From<Map<String, Value>> for TokenAnswer {
    fn from(mut answer: Map<String, Value>) -> Self {
        let token_type = text(&mut answer, "token_type").unwrap_or_default();
        Self {
            access_token: oauth2::AccessToken::new(
                text(&mut answer, "access_token").unwrap_or_default(),
            ),
            token_type: if token_type.eq_ignore_ascii_case("bearer") {
                BasicTokenType::Bearer
            } else {
                BasicTokenType::Extension(token_type)
            },
            expires_in: answer.get("expires_in").and_then(seconds),
            refresh_token: text(&mut answer, "refresh_token")
                .filter(|token| !token.is_empty())
                .map(RefreshToken::new),
            // The name used by Microsoft and Google, and Keycloak's.
            refresh_expires_in: ["refresh_token_expires_in", "refresh_expires_in"]
                .iter()
                .find_map(|name| answer.get(*name).and_then(seconds)),
            id_token: text(&mut answer, "id_token").map(Secret::new),
        }
    }
}

impl TokenResponse for TokenAnswer {
    type TokenType = BasicTokenType;

    fn access_token(&self) -> &oauth2::AccessToken {
        &self.access_token
    }

    fn token_type(&self) -> &BasicTokenType {
        &self.token_type
    }

    fn expires_in(&self) -> Option<Duration> {
        self.expires_in.map(Duration::from_secs)
    }

    fn refresh_token(&self) -> Option<&RefreshToken> {
        self.refresh_token.as_ref()
    }

    fn scopes(&self) -> Option<&Vec<Scope>> {
        None
    }
}

/// A denial (RFC 6749 section 5.2) with Microsoft's additions. Only its error word is required: a field of an unexpected
/// type counts as absent, since the word alone decides whether a token is sent again.
#[derive(Debug, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub(crate) struct Denial {
    error: String,
    error_description: Option<String>,
    error_codes: Vec<u32>,
    correlation_id: Option<String>,
}

impl TryFrom<Map<String, Value>> for Denial {
    type Error = &'static str;

    fn try_from(mut denial: Map<String, Value>) -> Result<Self, Self::Error> {
        Ok(Self {
            error: text(&mut denial, "error").ok_or("no error word")?,
            error_description: text(&mut denial, "error_description"),
            error_codes: denial.get("error_codes").map(numbers).unwrap_or_default(),
            correlation_id: text(&mut denial, "correlation_id"),
        })
    }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortened(&self.error))?;
        for code in &self.error_codes {
            write!(f, " AADSTS{code}")?;
        }
        Ok(())
    }
}

impl ErrorResponse for Denial {}

impl Denial {
    /// Removes secrets of the request that the server quotes. A word that decides the handling stays unchanged.
    pub(crate) fn clean(&mut self, sent: &TraceRedactor) {
        const OF_THE_PROTOCOL: [&str; 4] = [
            "authorization_pending",
            "slow_down",
            "server_error",
            "temporarily_unavailable",
        ];
        if !OF_THE_PROTOCOL.contains(&self.error.as_str()) && !advice::is_known(&self.error) {
            self.error = sent.redact(&self.error);
        }
        for text in [&mut self.error_description, &mut self.correlation_id] {
            *text = text.as_deref().map(|text| sent.redact(text));
        }
    }

    /// Returns whether the standard or Microsoft's documentation calls this error temporary.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self.error.as_str(),
            "temporarily_unavailable" | "server_error"
        ) || self.error_codes.iter().any(|code| PASSING.contains(code))
    }

    /// Returns whether Microsoft considers us a client in a loop; further requests would prolong that.
    pub(crate) fn is_loop(&self) -> bool {
        self.error_codes.contains(&50196)
    }

    /// Returns whether the server considers the client secret wrong or expired.
    fn doubts_secret(&self) -> bool {
        const WRONG_OR_EXPIRED: [u32; 2] = [7000215, 7000222];
        self.error == "invalid_client"
            || self
                .error_codes
                .iter()
                .any(|code| WRONG_OR_EXPIRED.contains(code))
    }
}

/// A request through the library that failed.
type Failure = RequestTokenError<ExchangeError, Denial>;

impl TokenRequest<'_> {
    fn scopes(&self) -> impl Iterator<Item = Scope> {
        self.scopes.iter().cloned().map(Scope::new)
    }
}

/// Extracts the tokens from a response that is useless without an access token.
pub(crate) fn granted(account: &Account, answer: &TokenAnswer) -> Result<Granted, AuthError> {
    let token = bearer(account, answer)?;
    Ok(received(answer, Ok(token)))
}

/// Like [`granted`], for the response to a refresh token: a new refresh token counts even if the access token is invalid,
/// since the old one may be used up.
pub(crate) fn refreshed(account: &Account, answer: &TokenAnswer) -> Result<Granted, AuthError> {
    match bearer(account, answer) {
        Err(error) if answer.refresh_token.is_none() => Err(error),
        token => Ok(received(answer, token)),
    }
}

fn bearer(account: &Account, answer: &TokenAnswer) -> Result<AccessToken, AuthError> {
    let token = answer.access_token.secret();
    // A token is sent in SASL and HTTP headers: RFC 6750 section 2.1 allows only visible characters.
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(nonsense(
            account,
            "the token is missing or no printable text",
        ));
    }
    if answer.token_type != BasicTokenType::Bearer {
        return Err(nonsense(account, "the token is not a bearer token"));
    }
    Ok(AccessToken::new(token.as_str()))
}

fn received(answer: &TokenAnswer, token: Result<AccessToken, AuthError>) -> Granted {
    Granted {
        token,
        lifetime: answer.expires_in(),
        refresh_token: answer
            .refresh_token
            .as_ref()
            .map(|token| Secret::new(token.secret().as_str())),
        // Keycloak writes 0 for a refresh token that does not expire.
        refresh_lifetime: answer
            .refresh_expires_in
            .filter(|secs| *secs > 0)
            .map(Duration::from_secs),
        identity: answer.id_token.as_ref().and_then(identity),
    }
}

/// Converts the library's error into ours. Parts of the response body are never included: it may contain a token.
pub(crate) fn failed(account: &Account, error: Failure) -> AuthError {
    match error {
        RequestTokenError::ServerResponse(denial) => AuthError::Refused {
            account: account.clone(),
            refusal: Box::new(ServerRefusal {
                error: shortened(&denial.error),
                codes: denial.error_codes,
                description: denial.error_description.as_deref().map(shortened),
                correlation_id: denial.correlation_id.as_deref().map(shortened),
            }),
        },
        RequestTokenError::Request(error) => not_exchanged(account, error),
        RequestTokenError::Parse(error, _) => {
            // Only the position: serde's own message may quote a value.
            let inner = error.inner();
            let place = format!(
                "an answer that is no JSON of an authorization server, at `{}` (line {} column {})",
                error.path(),
                inner.line(),
                inner.column()
            );
            nonsense(account, &place)
        }
        RequestTokenError::Other(reason) => nonsense(account, &reason),
    }
}

/// Converts the error of the exchange into ours.
pub(crate) fn not_exchanged(account: &Account, error: ExchangeError) -> AuthError {
    match error {
        ExchangeError::Transient {
            reason,
            retry_after,
        } => AuthError::Transient {
            account: account.clone(),
            reason,
            retry_after,
        },
        ExchangeError::Nonsense(reason) => nonsense(account, &reason),
    }
}

pub(crate) fn nonsense(account: &Account, reason: &str) -> AuthError {
    AuthError::Nonsense {
        account: account.clone(),
        reason: reason.to_owned(),
    }
}

pub(crate) fn unusable(account: &Account, reason: impl Into<String>) -> AuthError {
    AuthError::Unusable {
        account: account.clone(),
        reason: reason.into(),
    }
}

/// Returns the scopes with those that request the user's identity. Configured scopes are requested unchanged.
fn with_identity(profile: &Profile, scopes: &[String]) -> Vec<String> {
    let mut asked = scopes.to_vec();
    if matches!(profile.provider, Provider::Microsoft(_)) && profile.scopes.is_none() {
        asked.extend(["openid", "profile"].map(String::from));
    }
    asked
}

/// The most characters of a server's text that are shown.
const SHOWN_CHARS: usize = 1000;

/// Returns a server's text for display: bounded, on one line, without control characters.
pub(crate) fn shortened(text: &str) -> String {
    harmless_chars(text).take(SHOWN_CHARS).collect()
}

/// Returns the user of an identity token. Its signature need not be checked, since the token came directly from the token endpoint over
/// TLS (OpenID Connect Core section 3.1.3.7).
fn identity(token: &Secret) -> Option<String> {
    let claims = token.expose().split('.').nth(1)?.trim_end_matches('=');
    let claims = BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    ["preferred_username", "upn", "email", "sub"]
        .iter()
        .filter_map(|name| claims.get(name)?.as_str())
        .find(|name| !name.is_empty())
        .map(shortened)
}

/// Returns seconds given as a number or a string.
fn seconds(value: &Value) -> Option<u64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        Value::Number(number) => number
            .as_u64()
            .or_else(|| number.as_f64().filter(|n| *n >= 0.0).map(|n| n as u64)),
        _ => None,
    }
}

/// Returns numbers given as numbers or strings of digits, in a list or alone.
fn numbers(value: &Value) -> Vec<u32> {
    match value {
        Value::Array(values) => values.iter().flat_map(number).collect(),
        value => number(value).into_iter().collect(),
    }
}

fn number(value: &Value) -> Option<u32> {
    seconds(value).and_then(|number| number.try_into().ok())
}

/// Removes a string field and returns it.
fn text(fields: &mut Map<String, Value>, name: &str) -> Option<String> {
    match fields.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
