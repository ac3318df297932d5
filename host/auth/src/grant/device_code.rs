//! The device code grant (RFC 8628): a person types a short code on another device while we poll.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use oauth2::{DeviceAuthorizationResponse, ExtraDeviceAuthorizationFields, Scope};
use serde::{Deserialize, Serialize};
use url::Url;

use super::client::{Ask, Extension, OauthClient, Sender, ask};
use super::{Failure, Granted, TokenAnswer, TokenRequest, granted, shortened, with_identity};
use crate::exchange::Exchange;
use crate::sign_in::DeviceSignIn;
use crate::{Account, AuthError, Profile, Provider, ServerRefusal};

const GRANT_TYPE: &str = "urn:ietf:params:oauth:grant-type:device_code";
/// How much longer the pauses become if the server requests it (RFC 8628 section 3.5).
const SLOWER: Duration = Duration::from_secs(5);
/// Accepted values of the server's polling interval.
const INTERVAL: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(60);
/// The longest wait for the person.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest pause after network failures.
const TROUBLE_MAX: Duration = Duration::from_secs(60);

/// The result of one poll.
enum Step {
    /// The person has not finished yet.
    Pending,
    /// The person has not finished yet, and the server requests longer pauses.
    SlowDown,
    Granted(Granted),
}

#[derive(Debug, Serialize, Deserialize)]
struct Message {
    message: Option<String>,
}

impl ExtraDeviceAuthorizationFields for Message {}

struct Begin<'a>(&'a TokenRequest<'a>);

struct Poll<'a>(&'a TokenRequest<'a>);

/// Requests a code for the person to type. `scopes` are those of all resources that are needed.
pub(crate) async fn begin(
    exchange: &Exchange<'_>,
    profile: &Profile,
    account: &Account,
    device_url: &Url,
    scopes: &[String],
) -> Result<DeviceSignIn, AuthError> {
    let scopes = with_identity(profile, scopes);
    let request = TokenRequest {
        exchange,
        profile,
        account,
        token_url: device_url,
        scopes: &scopes,
    };
    let answer = ask(&request, None, &Begin(&request)).await?;
    Ok(sign_in(account, &answer))
}

fn sign_in(account: &Account, answer: &DeviceAuthorizationResponse<Message>) -> DeviceSignIn {
    DeviceSignIn {
        account: account.clone(),
        verification_url: shortened(answer.verification_uri().as_str()),
        user_code: shortened(answer.user_code().secret()),
        message: answer.extra_fields().message.as_deref().map(shortened),
        expires_in: answer.expires_in().min(LIFETIME_MAX),
        device_code: crate::Secret::new(answer.device_code().secret().as_str()),
        interval: answer.interval().clamp(*INTERVAL.start(), *INTERVAL.end()),
        begun: Instant::now(),
    }
}

/// Polls as often as the server allows, until the person has finished or declined, or the code has expired. Network
/// failures are ignored.
pub(crate) async fn finish(
    request: &TokenRequest<'_>,
    sign_in: DeviceSignIn,
) -> Result<Granted, AuthError> {
    let mut interval = sign_in.interval;
    let mut pause = interval;
    loop {
        let left = sign_in.expires_in.saturating_sub(sign_in.begun.elapsed());
        if left.is_zero() {
            return Err(expired(request.account));
        }
        tokio::time::sleep(pause.min(left)).await;
        match poll(request, &sign_in).await {
            Ok(Step::Granted(granted)) => return Ok(granted),
            Ok(Step::Pending) => pause = interval,
            Ok(Step::SlowDown) => {
                interval = interval.saturating_add(SLOWER);
                pause = interval;
            }
            Err(AuthError::Transient {
                reason,
                retry_after,
                ..
            }) => {
                tracing::debug!(reason, "polling for the device code's result");
                pause = retry_after.unwrap_or_else(|| pause.saturating_mul(2).min(TROUBLE_MAX));
                pause = pause.max(interval);
            }
            Err(error) => return Err(error),
        }
    }
}

async fn poll(request: &TokenRequest<'_>, sign_in: &DeviceSignIn) -> Result<Step, AuthError> {
    let extension = Extension {
        grant_type: GRANT_TYPE,
        fields: vec![("device_code", &sign_in.device_code)],
    };
    let asked = ask(request, Some(extension), &Poll(request)).await;
    let error = match asked {
        Ok(answer) => return granted(request.account, &answer).map(Step::Granted),
        Err(error) => error,
    };
    match error.refusal().map(|refusal| refusal.error.as_str()) {
        Some("authorization_pending") => Ok(Step::Pending),
        Some("slow_down") => Ok(Step::SlowDown),
        _ => Err(error),
    }
}

impl Ask for Begin<'_> {
    type Answer = DeviceAuthorizationResponse<Message>;

    async fn ask(
        &self,
        client: &OauthClient,
        sender: &Sender<'_>,
    ) -> Result<DeviceAuthorizationResponse<Message>, Failure> {
        client
            .exchange_device_code()
            .add_scopes(self.0.scopes())
            .request_async(sender)
            .await
    }
}

impl Ask for Poll<'_> {
    type Answer = TokenAnswer;

    async fn ask(&self, client: &OauthClient, sender: &Sender<'_>) -> Result<TokenAnswer, Failure> {
        let mut request = client.exchange_client_credentials();
        // Only Microsoft accepts a scope here, which selects the first resource; the standard has none in this request.
        if matches!(self.0.profile.provider, Provider::Microsoft(_)) {
            let scopes = with_identity(self.0.profile, self.0.scopes);
            request = request.add_scopes(scopes.into_iter().map(Scope::new));
        }
        request.request_async(sender).await
    }
}

fn expired(account: &Account) -> AuthError {
    AuthError::Refused {
        account: account.clone(),
        refusal: Box::new(ServerRefusal {
            error: "expired_token".into(),
            codes: Vec::new(),
            description: Some("nobody typed the code in time".into()),
            correlation_id: None,
        }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_servers_pauses_and_times_are_bounded() {
        let account = Account {
            profile: "acme".into(),
            login: None,
        };
        for (interval, expires_in, expected) in [
            (json!(5), 900, (5, 900)),
            (json!(0), 0, (1, 0)),
            (json!(u64::MAX), u64::MAX, (60, 24 * 60 * 60)),
        ] {
            let answer = json!({
                "device_code": "d", "user_code": "u", "verification_uri": "https://id.example/device",
                "expires_in": expires_in, "interval": interval,
            });
            let found = sign_in(&account, &serde_json::from_value(answer).unwrap());
            let found = (found.interval.as_secs(), found.expires_in.as_secs());
            assert_eq!(found, expected, "{interval} {expires_in}");
        }
    }
}
