//! The ways to get a token, one file a grant, and the wire shapes that they share.

pub(crate) mod client_credentials;

use std::fmt;
use std::time::Duration;

use oauth2::basic::{
    BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    Client, ErrorResponse, RefreshToken, RequestTokenError, Scope, StandardRevocableToken,
    TokenResponse,
};
use serde::{Deserialize, Deserializer, Serialize};
use url::Url;

use crate::exchange::{Exchange, ExchangeError};
use crate::{AccessToken, Account, AuthError, Profile, Refusal, Secret};

/// One token request: who asks, where, and for what.
pub(crate) struct TokenRequest<'a> {
    pub exchange: &'a Exchange<'a>,
    pub profile: &'a Profile,
    pub account: &'a Account,
    /// The token address, as configured or discovered.
    pub token_url: &'a Url,
    /// One resource's scopes.
    pub scopes: &'a [String],
}

/// What a grant gave.
pub(crate) struct Granted {
    pub token: AccessToken,
    /// What the server states, `None` when it states nothing.
    pub lifetime: Option<Duration>,
    /// `None` when there is none, or the one that was sent goes on serving.
    pub refresh_token: Option<Secret>,
    pub refresh_lifetime: Option<Duration>,
    /// Who signed in, by the identity token's `preferred_username`, `upn`, `email` or `sub`.
    pub identity: Option<String>,
}

/// The `oauth2` client with our own answer types, which keep what the standard ones drop.
pub(crate) type OauthClient = Client<
    Denial,
    TokenAnswer,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
>;

/// A token answer (RFC 6749 section 5.1). Microsoft's v1 endpoint writes `expires_in` as a string.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TokenAnswer {
    access_token: oauth2::AccessToken,
    #[serde(deserialize_with = "oauth2::helpers::deserialize_untagged_enum_case_insensitive")]
    token_type: BasicTokenType,
    #[serde(default, deserialize_with = "number_or_string")]
    expires_in: Option<u64>,
    refresh_token: Option<RefreshToken>,
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

/// A denial (RFC 6749 section 5.2) with Microsoft's additions.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Denial {
    error: String,
    error_description: Option<String>,
    #[serde(default)]
    error_codes: Vec<u32>,
    correlation_id: Option<String>,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        for code in &self.error_codes {
            write!(f, " AADSTS{code}")?;
        }
        Ok(())
    }
}

impl ErrorResponse for Denial {}

impl Denial {
    /// What the standard and Microsoft's documentation name as passing trouble.
    fn is_transient(&self) -> bool {
        const PASSING: [u32; 4] = [50033, 90006, 90024, 90033];
        matches!(
            self.error.as_str(),
            "temporarily_unavailable" | "server_error" | "slow_down"
        ) || self.error_codes.iter().any(|code| PASSING.contains(code))
    }
}

/// Takes the token out of an answer.
pub(crate) fn granted(account: &Account, answer: &TokenAnswer) -> Result<Granted, AuthError> {
    if answer.token_type != BasicTokenType::Bearer {
        return Err(nonsense(account, "the token is not a bearer token"));
    }
    let token = answer.access_token.secret();
    // A token goes into SASL and HTTP headers: RFC 6750 section 2.1 allows only visible characters.
    if token.is_empty() || !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(nonsense(account, "the token is empty or no printable text"));
    }
    Ok(Granted {
        token: AccessToken::new(token.as_str()),
        lifetime: answer.expires_in(),
        refresh_token: answer
            .refresh_token
            .as_ref()
            .map(|token| Secret::new(token.secret().as_str())),
        refresh_lifetime: None,
        identity: None,
    })
}

/// Folds the library's error into ours. Parts of the answer's body are never shown: it may hold a token.
pub(crate) fn failed(
    account: &Account,
    error: RequestTokenError<ExchangeError, Denial>,
) -> AuthError {
    match error {
        RequestTokenError::ServerResponse(denial) if denial.is_transient() => {
            AuthError::Transient {
                account: account.clone(),
                reason: denial.to_string(),
                retry_after: None,
            }
        }
        RequestTokenError::ServerResponse(denial) => AuthError::Refused {
            account: account.clone(),
            refusal: Refusal {
                error: shortened(denial.error),
                codes: denial.error_codes,
                description: denial.error_description.map(shortened),
                correlation_id: denial.correlation_id.map(shortened),
            },
        },
        RequestTokenError::Request(ExchangeError::Transient {
            reason,
            retry_after,
        }) => AuthError::Transient {
            account: account.clone(),
            reason,
            retry_after,
        },
        RequestTokenError::Request(ExchangeError::Nonsense(reason)) => nonsense(account, &reason),
        RequestTokenError::Parse(error, body) => {
            let beginning = body.trim_ascii_start();
            if beginning.starts_with(b"<") {
                nonsense(account, "an HTML page (is this the token address?)")
            } else {
                // Only the place: serde's own message may quote a value.
                let inner = error.inner();
                let place = format!(
                    "JSON that is no token answer, at `{}` (line {} column {})",
                    error.path(),
                    inner.line(),
                    inner.column()
                );
                nonsense(account, &place)
            }
        }
        RequestTokenError::Other(reason) => nonsense(account, &reason),
    }
}

pub(crate) fn nonsense(account: &Account, reason: &str) -> AuthError {
    AuthError::Nonsense {
        account: account.clone(),
        reason: reason.to_owned(),
    }
}

/// The longest text of a server that is shown, in characters.
const SHOWN_CHARS: usize = 1000;

fn shortened(text: String) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(SHOWN_CHARS)
        .collect()
}

fn number_or_string<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(u64),
        Text(String),
    }
    match Option::<Either>::deserialize(from)? {
        None => Ok(None),
        Some(Either::Number(secs)) => Ok(Some(secs)),
        Some(Either::Text(text)) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(serde::de::Error::custom),
    }
}
