//! The client credentials grant (RFC 6749 section 4.4): a service signs in as itself, its secret in the request body.

use oauth2::{AuthType, ClientId, ClientSecret, Scope, TokenUrl};

use super::{Granted, OauthClient, failed, granted};
use crate::exchange::Exchange;
use crate::{AuthError, Profile};

/// Asks for a new access token.
pub(crate) async fn request(
    exchange: &Exchange<'_>,
    profile: &Profile,
) -> Result<Granted, AuthError> {
    let answer = OauthClient::new(ClientId::new(profile.client_id.clone()))
        .set_client_secret(ClientSecret::new(profile.credential.expose().to_owned()))
        .set_auth_type(AuthType::RequestBody)
        .set_token_uri(TokenUrl::from_url(profile.token_url.clone()))
        .exchange_client_credentials()
        .add_scopes(profile.scopes.iter().cloned().map(Scope::new))
        .request_async(exchange)
        .await
        .map_err(|error| failed(&profile.name, error))?;
    granted(&profile.name, &answer)
}
